//! Finding the program and executing it, with the answers that `env` and shells give.
//!
//! A name without a slash is looked for in each directory of `PATH`: the child's own `PATH`, as `env` does. A file that may
//! not be executed is remembered and the search goes on; a text without `#!` is given to `/bin/sh` (`execvp(3)`).

use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::c_char;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

/// Where programs are looked for without a `PATH`; the C library's choice (`_CS_PATH`).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";
/// No more directories are searched.
const MOST_CANDIDATES: usize = 1_024;
const SHELL: &std::ffi::CStr = c"/bin/sh";

/// What a child does between `clone` and its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    /// `setsid`.
    Session = 1,
    /// Joining the groups of version 1.
    Groups,
    /// Standard streams and inherited descriptors.
    Descriptors,
    /// Resource limits.
    Limits,
    /// User and groups.
    Identity,
    /// The working directory.
    Directory,
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges,
    /// Landlock.
    Landlock,
    /// Seccomp.
    Seccomp,
    /// `execve`.
    Execute,
}

impl Stage {
    const ALL: [Self; 10] = [
        Self::Session,
        Self::Groups,
        Self::Descriptors,
        Self::Limits,
        Self::Identity,
        Self::Directory,
        Self::NoNewPrivileges,
        Self::Landlock,
        Self::Seccomp,
        Self::Execute,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Session => "cannot begin a session",
            Self::Groups => "cannot join its groups",
            Self::Descriptors => "cannot pass on descriptors",
            Self::Limits => "cannot set resource limits",
            Self::Identity => "cannot become that user",
            Self::Directory => "cannot enter its working directory",
            Self::NoNewPrivileges => "cannot renounce new privileges",
            Self::Landlock => "Landlock refuses (without root it takes no-new-privs)",
            Self::Seccomp => "seccomp refuses (without root it takes no-new-privs)",
            Self::Execute => "",
        }
    }
}

/// Why a program did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    /// What it was.
    pub program: OsString,
    /// What failed.
    pub stage: Stage,
    /// Why.
    pub errno: Errno,
}

impl StartError {
    /// What a child wrote into the pipe.
    pub(super) fn read(words: [u8; 8], program: &OsStr) -> Self {
        let [a, b, c, d, e, f, g, h] = words;
        let stage = u32::from_ne_bytes([a, b, c, d]);
        let stage = Stage::ALL.into_iter().find(|known| *known as u32 == stage).unwrap_or(Stage::Execute);
        let errno = Errno::from_raw_os_error(i32::from_ne_bytes([e, f, g, h]).clamp(1, 4095));
        Self { program: program.to_owned(), stage, errno }
    }

    pub(super) fn words(stage: Stage, errno: Errno) -> [u8; 8] {
        let ([a, b, c, d], [e, f, g, h]) = ((stage as u32).to_ne_bytes(), errno.raw_os_error().to_ne_bytes());
        [a, b, c, d, e, f, g, h]
    }

    /// What `env` would exit with: 127 not found, 126 found but not executed, 125 failed before.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match (self.stage, self.errno) {
            (Stage::Execute, Errno::NOENT) => 127,
            (Stage::Execute, _) => 126,
            _ => 125,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = std::io::Error::from(self.errno).to_string();
        // "No such file or directory (os error 2)": the number says nothing to users of `env`.
        let why = why.split(" (os error").next().unwrap_or_default();
        match self.stage {
            Stage::Execute => write!(f, "'{}': {why}", self.program.display()),
            stage => write!(f, "'{}': {}: {why}", self.program.display(), stage.name()),
        }
    }
}

impl std::error::Error for StartError {}

/// Everything that `execve` takes, made before `clone`.
pub(super) struct Image {
    candidates: Vec<CString>,
    argv: Pointers,
    /// `/bin/sh`, the script, the arguments.
    shell: Pointers,
    environment: Pointers,
}

/// Strings with a list of pointers to them that ends with null.
struct Pointers {
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

// SAFETY: the pointers lead to the strings beside them.
unsafe impl Send for Pointers {}

impl Pointers {
    fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Self { pointers, _strings: strings }
    }
}

/// A byte that no argument can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a null byte in {0}")]
pub struct Nul(pub &'static str);

impl Image {
    pub(super) fn new(argv: &[OsString], environment: &[(OsString, OsString)]) -> Result<Self, Nul> {
        let text = |what: &OsStr, place| CString::new(what.as_bytes()).map_err(|_| Nul(place));
        let arguments = argv.iter().map(|word| text(word, "an argument")).collect::<Result<Vec<_>, _>>()?;
        let pairs = environment
            .iter()
            .map(|(key, value)| {
                let pair = [key.as_bytes(), b"=", value.as_bytes()].concat();
                CString::new(pair).map_err(|_| Nul("an environment variable"))
            })
            .collect::<Result<_, _>>()?;
        let path = environment.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_bytes());
        let program = arguments.first().ok_or(Nul("an empty command"))?;
        let candidates = candidates(program.as_bytes(), path.unwrap_or(DEFAULT_PATH));
        // The second is replaced by the candidate.
        let mut shell = vec![SHELL.to_owned(), program.clone()];
        shell.extend(arguments.iter().skip(1).cloned());
        Ok(Self {
            candidates,
            argv: Pointers::new(arguments),
            shell: Pointers::new(shell),
            environment: Pointers::new(pairs),
        })
    }

    /// Whether a candidate is there, seen from `directory`. Says early what would else be known only when the child runs.
    pub(super) fn look(&self, directory: &Path) -> Result<(), Errno> {
        let mut why = Errno::NOENT;
        for candidate in &self.candidates {
            let path = directory.join(OsStr::from_bytes(candidate.as_bytes()));
            match openat(CWD, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).and_then(fstat) {
                // Not for us to say whether it may be executed: the child may be somebody else.
                Ok(seen) if FileType::from_raw_mode(seen.st_mode) == FileType::RegularFile => return Ok(()),
                Ok(_) => why = Errno::ACCESS,
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                // We may not look; the child may.
                Err(_) => return Ok(()),
            }
        }
        Err(why)
    }

    /// Executes; returns why it could not. Runs between `clone` and `execve`: allocates nothing.
    pub(super) fn execute(&mut self) -> Errno {
        let mut denied = None;
        for candidate in &self.candidates {
            let mut errno = execve(candidate.as_ptr(), &self.argv, &self.environment);
            if errno == Errno::NOEXEC {
                if let Some(script) = self.shell.pointers.get_mut(1) {
                    *script = candidate.as_ptr();
                }
                errno = execve(SHELL.as_ptr(), &self.shell, &self.environment);
            }
            match errno {
                Errno::ACCESS => denied = Some(errno),
                Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NODEV | Errno::TIMEDOUT => {}
                other => return other,
            }
        }
        denied.unwrap_or(Errno::NOENT)
    }
}

fn execve(path: *const c_char, argv: &Pointers, environment: &Pointers) -> Errno {
    // SAFETY: the strings live as long as the image, and both lists end with null.
    unsafe { libc::execve(path, argv.pointers.as_ptr(), environment.pointers.as_ptr()) };
    super::raw::last_error()
}

/// Paths at which the program may be, in the order of the search.
fn candidates(program: &[u8], path: &[u8]) -> Vec<CString> {
    if program.is_empty() {
        return Vec::new();
    }
    if program.contains(&b'/') {
        return CString::new(program).into_iter().collect();
    }
    path.split(|byte| *byte == b':')
        .take(MOST_CANDIDATES)
        .filter_map(|folder| {
            // An empty entry is the working directory.
            let folder = if folder.is_empty() { &b"."[..] } else { folder };
            CString::new([folder, b"/", program].concat()).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_for_in_every_directory_of_the_path() {
        let found = |program: &str, path: &str| {
            let list = candidates(program.as_bytes(), path.as_bytes());
            list.into_iter().map(|path| path.into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(found("ls", "/bin::/usr/bin"), ["/bin/ls", "./ls", "/usr/bin/ls"]);
        assert_eq!(found("./ls", "/bin"), ["./ls"]);
        assert_eq!(found("", "/bin"), [""; 0]);
        assert_eq!(found("ls", ""), ["./ls"]);
    }

    #[test]
    fn errors_read_and_exit_like_those_of_env() {
        let error = |stage, errno| StartError::read(StartError::words(stage, errno), OsStr::new("prog"));
        let missing = error(Stage::Execute, Errno::NOENT);
        assert_eq!((missing.to_string().as_str(), missing.exit_code()), ("'prog': No such file or directory", 127));
        let denied = error(Stage::Execute, Errno::ACCESS);
        assert_eq!((denied.to_string().as_str(), denied.exit_code()), ("'prog': Permission denied", 126));
        let lost = error(Stage::Directory, Errno::NOENT);
        assert_eq!((lost.stage, lost.exit_code()), (Stage::Directory, 125));
        assert!(lost.to_string().contains("working directory"), "{lost}");
    }

    #[test]
    fn what_a_child_writes_is_not_trusted() {
        let error = StartError::read([0xff; 8], OsStr::new("x"));
        assert_eq!((error.stage, error.errno.raw_os_error()), (Stage::Execute, 1));
    }
}
