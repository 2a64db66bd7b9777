//! Where a sandboxed process may write (Landlock, `landlock(7)`).
//!
//! It may read and execute everything that its user may, and write to its working directory, the temporary directory, the
//! devices that every program uses, the files that are its standard streams, `/proc/self`, and what was named. Never to a
//! cgroup file system: a cell must not hold its own switches. From ABI 6 (Linux 6.12) on it can signal only its own kind.
//!
//! What a kernel does not know is left out; [`Written`] says what was enforced.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use ::landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use serde::Serialize;

use super::{SandboxError, Surroundings};

/// Devices that every program uses.
const DEVICES: [&str; 8] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts"];
/// Shared memory of the C library lies there.
const SHARED_MEMORY: &str = "/dev/shm";
/// Not made writable because a working directory happens to hold them; only if named.
const SYSTEM: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Later versions refuse more (9: connecting to sockets by their path). What an agent may do must not depend on the kernel
/// without anybody deciding so.
const NEWEST: i32 = 8;

/// What is enforced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Written {
    /// The kernel's version of Landlock, as far as we know it.
    pub abi: i32,
    /// Directories and files besides devices that may be written to.
    pub write: Vec<PathBuf>,
    /// Whether signals and abstract sockets to processes outside are refused.
    pub scoped: bool,
}

/// A set of rules that a child takes upon itself.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) fd: OwnedFd,
    /// What it may do to its own `/proc/self`.
    to_itself: u64,
}

/// The kernel's version; none without Landlock.
#[must_use]
pub fn abi() -> Option<i32> {
    const VERSION: u32 = 1;
    let nothing = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the call only answers with its version.
    let answer = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0usize, VERSION) };
    super::super::raw::done(answer).ok().filter(|version| *version > 0)
}

/// Makes the rules; none without Landlock. Notes are what a user should know.
pub(super) fn rules(
    named: &[PathBuf],
    scope: bool,
    around: &Surroundings<'_>,
    notes: &mut Vec<String>,
) -> Result<Option<(Rules, Written)>, SandboxError> {
    let Some(version) = abi() else {
        notes.push("this kernel has no Landlock (5.13 or newer, with `landlock` in lsm=): agents may write where their user may".to_owned());
        return Ok(None);
    };
    let abi = ABI::from(version.min(NEWEST));
    let scoped = scope && !Scope::from_all(abi).is_empty();
    if scope && !scoped {
        notes.push("this kernel cannot refuse signals to processes outside (Landlock ABI 6, Linux 6.12)".to_owned());
    }
    let mut ruleset =
        Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(AccessFs::from_all(abi))?;
    if scoped {
        ruleset = ruleset.scope(Scope::from_all(abi))?;
    }
    let mut open =
        Open { abi, ruleset: Some(ruleset.create()?), written: Written { abi: version, scoped, ..Written::default() } };
    open.beneath(Path::new("/"), AccessFs::from_read(abi))?;
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev | AccessFs::ReadDir;
    for path in DEVICES {
        open.beneath(Path::new(path), device)?;
    }
    // Devices are made by root, and not by agents.
    let write = AccessFs::from_all(abi) & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    open.beneath(Path::new(SHARED_MEMORY), write)?;
    for path in [around.directory, around.temporary] {
        match reachable(path, around.forbidden, &SYSTEM) {
            Some(forbidden) => {
                notes.push(format!("{} is not writable: {} lies there", path.display(), forbidden.display()))
            }
            None => open.writable(path, write)?,
        }
    }
    for path in named {
        fs::metadata(path).map_err(|source| SandboxError::Path { path: path.clone(), source })?;
        if let Some(forbidden) = reachable(path, around.forbidden, &[]) {
            return Err(SandboxError::Forbidden { path: path.clone(), forbidden });
        }
        // Graphics cards are driven by `ioctl`, so a device that was named may be.
        open.writable(path, write | AccessFs::IoctlDev)?;
    }
    for stream in around.streams {
        open.stream(*stream, device)?;
    }
    let fd: Option<OwnedFd> = open.ruleset.take().and_then(Into::into);
    let to_itself = (AccessFs::WriteFile | AccessFs::Truncate) & AccessFs::from_all(abi);
    Ok(fd.map(|fd| (Rules { fd, to_itself: to_itself.bits() }, open.written)))
}

/// Which of the forbidden directories could be written to through `path`: those that lie in it, or that it lies in.
fn reachable(path: &Path, forbidden: &[PathBuf], system: &[&str]) -> Option<PathBuf> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let all = forbidden.iter().map(PathBuf::as_path).chain(system.iter().map(Path::new));
    let real = |one: &Path| fs::canonicalize(one).unwrap_or_else(|_| one.to_owned());
    all.map(real).find(|one| one.starts_with(&path) || path.starts_with(one))
}

/// Rules that are being made.
struct Open {
    abi: ABI,
    /// Taken while a rule is added.
    ruleset: Option<RulesetCreated>,
    written: Written,
}

impl Open {
    /// Allows `access` to what lies beneath a path; one that is not there needs no rule.
    fn beneath(&mut self, path: &Path, access: BitFlags<AccessFs>) -> Result<bool, RulesetError> {
        let (Ok(fd), Ok(seen)) = (PathFd::new(path), fs::metadata(path)) else { return Ok(false) };
        self.rule(fd, access, seen.is_dir())?;
        Ok(true)
    }

    fn writable(&mut self, path: &Path, access: BitFlags<AccessFs>) -> Result<(), RulesetError> {
        if self.beneath(path, access)? && !self.written.write.iter().any(|known| known == path) {
            self.written.write.push(path.to_owned());
        }
        Ok(())
    }

    /// A stream's own file may be opened again: `/dev/stdout`.
    fn stream(&mut self, fd: BorrowedFd<'_>, access: BitFlags<AccessFs>) -> Result<(), RulesetError> {
        let Ok(copy) = fd.try_clone_to_owned() else { return Ok(()) };
        let file = File::from(copy);
        let Ok(kind) = file.metadata().map(|seen| seen.file_type()) else { return Ok(()) };
        if kind.is_file() || kind.is_char_device() {
            self.rule(file, access, false)?;
        }
        Ok(())
    }

    fn rule(&mut self, fd: impl AsFd, access: BitFlags<AccessFs>, folder: bool) -> Result<(), RulesetError> {
        let known = if folder { AccessFs::from_all(self.abi) } else { AccessFs::from_file(self.abi) };
        if let Some(ruleset) = self.ruleset.take() {
            self.ruleset = Some(ruleset.add_rule(PathBeneath::new(fd, access & known))?);
        }
        Ok(())
    }
}

/// Takes the rules upon this thread, which must have renounced new privileges or be root. Runs between `clone` and `execve`.
pub(super) fn restrict(rules: RawFd, to_itself: u64) -> Result<(), Errno> {
    // Only the child knows which process it is. Its own children get no such rule; few programs write there at all.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(itself) = openat(CWD, c"/proc/self", flags, Mode::empty()) {
        /// `struct landlock_path_beneath_attr`.
        #[repr(C, packed)]
        struct Beneath {
            access: u64,
            parent: i32,
        }
        let beneath = Beneath { access: to_itself, parent: itself.as_raw_fd() };
        const PATH_BENEATH: u32 = 1;
        // SAFETY: the structure is the kernel's and lives during the call. If it is refused, there is a right less.
        unsafe { libc::syscall(libc::SYS_landlock_add_rule, rules, PATH_BENEATH, &raw const beneath, 0u32) };
    }
    // SAFETY: takes rights away from this thread, the only one of a child.
    super::super::raw::done(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules, 0u32) }).map(drop)
}

impl Rules {
    pub(super) const fn to_itself(&self) -> u64 {
        self.to_itself
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_holds_a_cgroup_tree_or_lies_in_one_is_told() {
        let tree = tempfile::tempdir().unwrap();
        let groups = tree.path().join("sys/fs/cgroup");
        std::fs::create_dir_all(groups.join("a")).unwrap();
        let forbidden = [groups.clone()];
        let told = |path: &Path| reachable(path, &forbidden, &[]).is_some();
        assert!(told(tree.path()) && told(&groups) && told(&groups.join("a")) && told(&tree.path().join("sys/fs")));
        std::fs::create_dir(tree.path().join("sys/other")).unwrap();
        assert!(!told(&tree.path().join("sys/other")));
        // By another name.
        std::os::unix::fs::symlink(&groups, tree.path().join("link")).unwrap();
        assert!(told(&tree.path().join("link")));
    }
}
