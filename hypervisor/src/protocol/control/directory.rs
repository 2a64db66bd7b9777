//! Where control sockets are: one directory for each user, one socket `ID.sock` for each running instance.
//!
//! A socket file outlives a process that is killed. It is stale when connecting is refused; whoever looks removes it.
//! Looking and removing, and binding and listening, happen under a lock on the directory, so that nobody removes a socket
//! that is bound and does not listen yet.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::ControlError;
use crate::protocol::fault::quoted;

/// How long another process may hold the directory's lock: it does so for microseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// The most entries of a directory that are looked at.
const ENTRIES: usize = 4096;

/// A running instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance {
    /// Its name.
    pub id: String,
    /// Its socket.
    pub path: PathBuf,
}

/// A directory of control sockets, of this user alone.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Where the directory belongs: `/run/maxwell` for root, `$XDG_RUNTIME_DIR/maxwell` for others.
    ///
    /// # Errors
    ///
    /// [`ControlError::NoDirectory`].
    pub fn usual() -> Result<PathBuf, ControlError> {
        if rustix::process::geteuid().is_root() {
            return Ok(PathBuf::from("/run/maxwell"));
        }
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        Ok(runtime.ok_or(ControlError::NoDirectory)?.join("maxwell"))
    }

    /// Opens the directory, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// [`ControlError::Unsafe`] if it is not of this user alone, or [`ControlError::Io`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, ControlError> {
        let path = path.into();
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(ControlError::io(path)(error)),
            _ => {}
        }
        let found = fs::symlink_metadata(&path).map_err(ControlError::io(&path))?;
        let ours = found.uid() == rustix::process::geteuid().as_raw();
        if !found.is_dir() || !ours || found.mode() & 0o077 != 0 {
            return Err(ControlError::Unsafe { path });
        }
        Ok(Self(path))
    }

    /// The path of an instance's socket.
    ///
    /// # Errors
    ///
    /// [`ControlError::BadName`].
    pub fn socket(&self, id: &str) -> Result<PathBuf, ControlError> {
        if is_name(id) { Ok(self.0.join(format!("{id}.sock"))) } else { Err(ControlError::BadName { id: quoted(id) }) }
    }

    /// The instances that run, by name. Sockets that dead ones have left are removed.
    ///
    /// # Errors
    ///
    /// [`ControlError::Io`].
    pub fn instances(&self) -> Result<Vec<Instance>, ControlError> {
        let lock = self.lock()?;
        let mut instances = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(ControlError::io(&self.0))?.take(ENTRIES).flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".sock")).filter(|id| is_name(id)) else {
                continue;
            };
            match life(&path) {
                Life::Alive => instances.push(Instance { id: id.to_owned(), path }),
                // Somebody else may have removed it without asking for the lock: that is as good.
                Life::Stale => drop(fs::remove_file(&path)),
                Life::Unknown => {}
            }
        }
        drop(lock);
        instances.sort();
        Ok(instances)
    }

    /// Listens as the instance `id`.
    pub(super) fn listen(&self, id: &str) -> Result<(UnixListener, PathBuf), ControlError> {
        let path = self.socket(id)?;
        let lock = self.lock()?;
        match life(&path) {
            Life::Alive => return Err(ControlError::Running { id: id.to_owned() }),
            Life::Stale => drop(fs::remove_file(&path)),
            Life::Unknown => {}
        }
        let listener = UnixListener::bind(&path).map_err(ControlError::io(&path))?;
        drop(lock);
        Ok((listener, path))
    }

    /// Removes our own socket, unless another has taken its place.
    pub(super) fn leave(&self, path: &Path, listener: UnixListener) {
        let Ok(_lock) = self.lock() else { return };
        drop(listener);
        if life(path) == Life::Stale {
            drop(fs::remove_file(path));
        }
    }

    fn lock(&self) -> Result<File, ControlError> {
        let directory = File::open(&self.0).map_err(ControlError::io(&self.0))?;
        let until = Instant::now() + LOCK_PATIENCE;
        loop {
            match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(directory),
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(ControlError::io(&self.0)(error.into())),
            }
        }
    }
}

fn is_name(id: &str) -> bool {
    (1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Alive,
    Stale,
    /// Not there, not a socket, or not to be known.
    Unknown,
}

/// Whether somebody listens at a socket; never waits.
fn life(path: &Path) -> Life {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (Ok(address), Ok(socket)) =
        (SocketAddrUnix::new(path), socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None))
    else {
        return Life::Unknown;
    };
    match connect(&socket, &address) {
        // AGAIN: its queue of connections is full, so there is one.
        Ok(()) | Err(Errno::AGAIN) => Life::Alive,
        // A file that is no socket refuses as well: connect(2).
        Err(Errno::CONNREFUSED) if is_socket(path) => Life::Stale,
        Err(_) => Life::Unknown,
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}
