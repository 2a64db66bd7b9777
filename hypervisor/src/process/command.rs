//! What a process agent runs, and how.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cgroup::Limits;
use super::sandbox::Sandbox;
use super::spawn::{Identity, Program};

/// A command, and what it may do.
#[derive(Clone, Debug)]
pub struct Command {
    /// The program.
    pub program: Program,
    /// What it may not do.
    pub sandbox: Sandbox,
    /// What it may use at most, where the host can limit it.
    pub limits: Limits,
    /// The most slots that it can use at once.
    pub slots: u16,
    /// How long it has for its last words, by the clock on the wall.
    pub grace: Duration,
    /// Its descendants go on when its first process has ended.
    pub wait_all: bool,
    /// Where its standard streams go.
    pub streams: Streams,
    /// Count its system calls by class. Makes every system call of the machine slower meanwhile.
    pub audit: bool,
}

/// Where standard streams go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Streams {
    /// Where ours go.
    Inherited,
    /// It reads nothing; what it writes goes where ours goes.
    #[default]
    Deaf,
    /// It reads nothing; what it writes is added to a file.
    File(PathBuf),
}

impl Streams {
    /// The descriptors that are not inherited as they are.
    pub(super) fn open(&self) -> std::io::Result<Vec<(RawFd, File)>> {
        let null = || File::open("/dev/null");
        Ok(match self {
            Self::Inherited => Vec::new(),
            Self::Deaf => vec![(0, null()?)],
            Self::File(path) => {
                let file = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(path)
                    .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
                vec![(0, null()?), (1, file.try_clone()?), (2, file)]
            }
        })
    }
}

/// A user by name or number, from the machine's user database.
///
/// # Errors
///
/// There is no such user.
pub fn identity(user: &str) -> std::io::Result<Identity> {
    let passwd = std::fs::read_to_string("/etc/passwd")?;
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    find(user, &passwd, &groups).ok_or_else(|| {
        let text = format!("no user `{}` in /etc/passwd: give a name or a number from there", user.escape_debug());
        std::io::Error::new(std::io::ErrorKind::NotFound, text)
    })
}

/// The formats are those of passwd(5) and group(5).
fn find(user: &str, passwd: &str, groups: &str) -> Option<Identity> {
    let number: Option<u32> = user.parse().ok();
    let (name, uid, gid) = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (name, uid, gid) = (*fields.first()?, fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        (name == user || number == Some(uid)).then_some((name, uid, gid))
    })?;
    let member = |line: &str| -> Option<u32> {
        let fields: Vec<&str> = line.split(':').collect();
        fields.get(3)?.split(',').any(|member| member == name).then(|| fields.get(2)?.parse().ok())?
    };
    Some(Identity { uid, gid, groups: groups.lines().filter_map(member).collect() })
}

/// The temporary directory of a program with this environment.
pub(super) fn temporary(program: &Program) -> &Path {
    let named = program.environment.iter().rev().find(|(name, _)| name == OsStr::new("TMPDIR"));
    named.map_or_else(|| Path::new("/tmp"), |(_, path)| Path::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\nann:x:1000:1001:,,,:/home/ann:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nann:x:1001:\nvideo:x:44:bob,ann\nkvm:x:107:anna\n";

    #[test]
    fn a_user_is_found_by_name_and_number_with_its_groups() {
        let ann = Identity { uid: 1000, gid: 1001, groups: vec![44] };
        assert_eq!(find("ann", PASSWD, GROUP), Some(ann.clone()));
        assert_eq!(find("1000", PASSWD, GROUP), Some(ann));
        assert_eq!(find("nobody", PASSWD, GROUP), None);
        assert_eq!(find("", PASSWD, GROUP), None);
    }
}
