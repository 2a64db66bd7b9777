//! Where this machine lets us make groups.
//!
//! Linux mounts cgroups in three ways: v2 alone (*unified*), v2 beside v1 (*hybrid*: v2 has the freezer and ids, v1 has the
//! controllers), v1 alone. And a hierarchy is ours in two ways: we are root and its root is writable, or our own group was
//! delegated to us (systemd's `Delegate=yes`, rootless containers).
//!
//! Sources: `proc_pid_mountinfo(5)`, `cgroups(7)`, systemd.io/CGROUP_DELEGATION.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::{CgroupError, Controller};

/// How cgroups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Version 2 alone.
    Unified,
    /// Version 2 beside version 1.
    Hybrid,
}

/// A file that describes mounts or groups is not longer than this.
const MOST_TEXT: u64 = 4 << 20;

/// Where groups are made.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    layout: Layout,
    /// Where version 2 is mounted.
    mount: PathBuf,
    /// The group below which ours are made.
    parent: PathBuf,
    /// Depth of the parent below the root of the hierarchy.
    level: u32,
    delegated: bool,
    /// Our own groups in version 1.
    version_1: Vec<(Controller, PathBuf)>,
}

impl Hierarchy {
    /// Looks for cgroups on the machine whose files lie under `root` (`/` for this one).
    ///
    /// # Errors
    ///
    /// [`CgroupError`] with what to do.
    pub fn find(root: &Path) -> Result<Self, CgroupError> {
        Self::find_as(root, rustix::process::geteuid().is_root())
    }

    /// As [`Self::find`], but makes groups below `parent`, a group of version 2 that exists.
    ///
    /// # Errors
    ///
    /// [`CgroupError`]; `parent` is not in the hierarchy, or not writable.
    pub fn below(root: &Path, parent: &Path) -> Result<Self, CgroupError> {
        let seen = Seen::look(root)?;
        let read_only = seen.mount.read_only;
        let found = seen.into_hierarchy(root);
        let Ok(inside) = parent.strip_prefix(&found.mount) else {
            let source = std::io::Error::other(format!("not below {}", found.mount.display()));
            return Err(CgroupError::Io { doing: "make groups in", path: parent.to_owned(), source });
        };
        let level = found.level + depth(inside);
        if read_only {
            return Err(CgroupError::ReadOnly { path: found.mount });
        }
        if !writable(parent) {
            return Err(CgroupError::NotDelegated { path: parent.to_owned() });
        }
        Ok(Self { parent: parent.to_owned(), level, delegated: true, ..found })
    }

    /// As [`Self::find`] for a process that is, or is not, root.
    fn find_as(root: &Path, privileged: bool) -> Result<Self, CgroupError> {
        let seen = Seen::look(root)?;
        let read_only = seen.mount.read_only;
        let own = seen.own.clone();
        let found = seen.into_hierarchy(root);
        if read_only {
            return Err(CgroupError::ReadOnly { path: found.mount });
        }
        if privileged && writable(&found.mount) {
            return Ok(found);
        }
        let Some(inside) = own else {
            return Err(CgroupError::NotDelegated { path: found.mount });
        };
        let parent = found.mount.join(&inside);
        // Moving a process takes write access to `cgroup.procs` of a group that holds both its old and its new one.
        if writable(&parent) && writable(&parent.join("cgroup.procs")) {
            let level = found.level + depth(&inside);
            return Ok(Self { parent, level, delegated: true, ..found });
        }
        Err(CgroupError::NotDelegated { path: parent })
    }

    /// How cgroups are mounted.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// Where version 2 is mounted.
    #[must_use]
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The group below which `maxwell/` is made.
    #[must_use]
    pub fn parent(&self) -> &Path {
        &self.parent
    }

    /// Whether the parent is a group that somebody gave us, and not the root of the hierarchy.
    #[must_use]
    pub const fn delegated(&self) -> bool {
        self.delegated
    }

    /// Depth of the parent below the root of the hierarchy, as BPF programs count it; in a cgroup namespace, below the
    /// namespace's root.
    #[must_use]
    pub const fn level(&self) -> u32 {
        self.level
    }

    /// Where all cgroup file systems are mounted: what no agent may ever write to.
    #[must_use]
    pub fn mounts(&self) -> Vec<PathBuf> {
        std::iter::once(self.mount.clone()).chain(self.version_1.iter().map(|(_, path)| path.clone())).collect()
    }

    /// What can be limited in groups made here, as far as can be told without enabling a controller.
    #[must_use]
    pub fn limits(&self) -> Vec<Controller> {
        let lists = |file: &str, wanted: Controller| {
            let text = read(&self.parent.join(file)).unwrap_or_default();
            text.split(u8::is_ascii_whitespace).any(|name| name == wanted.name().as_bytes())
        };
        // Only the root hands out controllers although processes live in it, and in a delegated group we do.
        let hands_out = |wanted| {
            lists("cgroup.subtree_control", wanted) || (!self.delegated && lists("cgroup.controllers", wanted))
        };
        let by_twin = |wanted| self.version_1.iter().any(|(found, own)| *found == wanted && writable(own));
        Controller::ALL.into_iter().filter(|wanted| by_twin(*wanted) || hands_out(*wanted)).collect()
    }

    /// Our own groups in version 1, by controller.
    pub(crate) fn version_1(&self) -> &[(Controller, PathBuf)] {
        &self.version_1
    }
}

/// What the files say.
struct Seen {
    mount: Mount,
    /// Our own group of version 2, below the mount; none if it lies outside.
    own: Option<PathBuf>,
    version_1: Vec<(Controller, PathBuf)>,
    any_version_1: bool,
}

impl Seen {
    fn look(root: &Path) -> Result<Self, CgroupError> {
        let text = read(&root.join("proc/self/mountinfo"))?;
        let mut mounts: Vec<Mount> = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            // What is mounted on the same place later covers what was there: a read-only cover counts.
            if let Some(at) = mount_point(line) {
                mounts.retain(|mount| mount.at != at);
            }
            mounts.extend(Mount::parse(line));
        }
        let groups = read(&root.join("proc/self/cgroup"))?;
        let any_version_1 = mounts.iter().any(|mount| mount.version == 1 && !mount.controllers.is_empty());
        let own = |wanted: &[u8]| groups.split(|byte| *byte == b'\n').find_map(|line| own_group(line, wanted));
        let mut version_1 = Vec::new();
        for controller in Controller::ALL {
            let name = controller.name();
            let mounted =
                mounts.iter().find(|m| m.version == 1 && !m.read_only && m.controllers.iter().any(|c| c == name));
            let inside = mounted.and_then(|mount| mount.below(&own(name.as_bytes())?));
            if let (Some(mount), Some(inside)) = (mounted, inside) {
                version_1.push((controller, under(root, &mount.at).join(inside)));
            }
        }
        let best = mounts.into_iter().filter(|mount| mount.version == 2).min_by_key(|mount| mount.read_only);
        let Some(mount) = best else {
            return Err(CgroupError::NoVersion2 { version_1: any_version_1 });
        };
        let own = own(b"").and_then(|path| mount.below(&path));
        Ok(Self { mount, own, version_1, any_version_1 })
    }

    /// With the root of the mount as the parent.
    fn into_hierarchy(self, root: &Path) -> Hierarchy {
        let mount = under(root, &self.mount.at);
        Hierarchy {
            layout: if self.any_version_1 { Layout::Hybrid } else { Layout::Unified },
            parent: mount.clone(),
            level: depth(&self.mount.shows),
            mount,
            delegated: false,
            version_1: self.version_1,
        }
    }
}

/// A mounted hierarchy.
struct Mount {
    version: u8,
    at: PathBuf,
    /// The group that the mount shows as its root.
    shows: PathBuf,
    read_only: bool,
    /// Of version 1.
    controllers: Vec<String>,
}

impl Mount {
    /// A line of mountinfo: `36 35 98:0 /shows /at rw,noatime master:1 - cgroup2 cgroup2 rw,nsdelegate`.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ').skip(3);
        let (shows, at, options) = (fields.next()?, fields.next()?, fields.next()?);
        let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
        let (kind, _source, of_super) = (rest.next()?, rest.next()?, rest.next()?);
        let version = match kind {
            b"cgroup2" => 2,
            b"cgroup" => 1,
            _ => return None,
        };
        let of_super = String::from_utf8_lossy(of_super).into_owned();
        let read_only = options.split(|byte| *byte == b',').chain(of_super.as_bytes().split(|byte| *byte == b','));
        Some(Self {
            version,
            at: unescape(at),
            shows: unescape(shows),
            read_only: read_only.into_iter().any(|option| option == b"ro"),
            controllers: if version == 1 {
                of_super.split(',').filter(|c| Controller::named(c).is_some()).map(str::to_owned).collect()
            } else {
                Vec::new()
            },
        })
    }

    /// A group's path below this mount; none if the mount does not show it.
    fn below(&self, group: &Path) -> Option<PathBuf> {
        let inside = group.strip_prefix(&self.shows).ok()?;
        inside.components().all(|part| matches!(part, Component::Normal(_))).then(|| inside.to_owned())
    }
}

/// Where a line of mountinfo, of any file system, is mounted.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    line.split(|byte| *byte == b' ').nth(4).map(unescape)
}

/// The group in a line of `/proc/self/cgroup`, `4:memory,cpu:/some/group`, if the line is about this controller; about
/// version 2 if the name is empty.
fn own_group(line: &[u8], wanted: &[u8]) -> Option<PathBuf> {
    let mut fields = line.splitn(3, |byte| *byte == b':');
    let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let ours = if wanted.is_empty() {
        number == b"0" && controllers.is_empty()
    } else {
        controllers.split(|byte| *byte == b',').any(|name| name == wanted)
    };
    ours.then(|| PathBuf::from(OsString::from_vec(path.to_owned())))
}

/// Mountinfo writes blanks and backslashes as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut at = 0;
    while let Some(byte) = field.get(at) {
        let digits = field.get(at + 1..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) if *byte == b'\\' => {
                bytes.push(code);
                at += 4;
            }
            _ => {
                bytes.push(*byte);
                at += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn under(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn depth(path: &Path) -> u32 {
    path.components().filter(|part| matches!(part, Component::Normal(_))).count().try_into().unwrap_or(u32::MAX)
}

fn writable(path: &Path) -> bool {
    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

fn read(path: &Path) -> Result<Vec<u8>, CgroupError> {
    let mut text = Vec::new();
    let from = File::open(path).and_then(|file| file.take(MOST_TEXT).read_to_end(&mut text));
    from.map_err(|source| CgroupError::Io { doing: "read", path: path.to_owned(), source })?;
    Ok(text)
}

#[cfg(test)]
mod tests;
