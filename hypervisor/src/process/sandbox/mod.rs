//! What a process may not do: on by default, in six parts, each of which can be widened by name.
//!
//! | part | what it refuses | word that turns it off |
//! |---|---|---|
//! | no-new-privs | privileges by set-user-ID programs | `new-privs` |
//! | [`seccomp`] | system calls that no ordinary program makes | `no-seccomp`; `allow=NAME` lifts one |
//! | [`landlock`] | writing outside the working and the temporary directory | `no-landlock`; `write=PATH` adds one |
//! | its scope | signals and abstract sockets to processes outside | `no-scope` |
//! | [`rlimits`] | core files, very many descriptors | `no-rlimits`; `nofile=N`, ... change one |
//! | session | typing into our terminal | `no-session` |
//!
//! It is a fence for programs that misbehave, not a jail for attackers: the kernel, the network and whatever listens on a
//! unix socket (a container engine, systemd) are in reach, and root stays root. For programs that nobody trusts, use
//! another user, or the microVM cell. [`Enforced`] says what really holds on this kernel.

pub mod landlock;
mod prepared;
pub mod rlimits;
pub mod seccomp;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

pub(super) use prepared::Armed;
pub use prepared::{Enforced, Prepared, Surroundings};
pub use rlimits::Rlimits;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// No privileges by executing something. Without it, only root can have seccomp and Landlock.
    pub no_new_privs: bool,
    /// Refuse system calls.
    pub seccomp: bool,
    /// Calls that are not refused, by their names in [`seccomp::names`].
    pub allow: BTreeSet<&'static str>,
    /// Refuse writing.
    pub landlock: bool,
    /// Where it may write besides.
    pub write: Vec<PathBuf>,
    /// Refuse signals and abstract sockets to processes outside.
    pub scope: bool,
    /// Limit resources.
    pub limits: bool,
    /// To what.
    pub rlimits: Rlimits,
    /// A session of its own, without our terminal.
    pub session: bool,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            no_new_privs: true,
            seccomp: true,
            allow: BTreeSet::new(),
            landlock: true,
            write: Vec::new(),
            scope: true,
            limits: true,
            rlimits: Rlimits::default(),
            session: true,
        }
    }
}

impl Sandbox {
    /// Nothing refused.
    #[must_use]
    pub fn off() -> Self {
        Self {
            no_new_privs: false,
            seccomp: false,
            landlock: false,
            scope: false,
            limits: false,
            session: false,
            ..Self::default()
        }
    }
}

/// Why it cannot be as asked.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A word that is none.
    #[error(
        "`{0}` is no sandbox word. Words, with commas between: on, off, new-privs, no-seccomp, allow=CALL, no-landlock, \
         write=PATH, no-scope, no-rlimits, core=BYTES, nofile=N, nproc=N, fsize=BYTES, as=BYTES, no-session"
    )]
    Word(String),
    /// A call that is not refused anyway.
    #[error("`{call}` is not among the calls that are refused: {}", known.join(", "))]
    Call {
        /// Which.
        call: String,
        /// Those that are.
        known: Vec<&'static str>,
    },
    /// No number.
    #[error("`{0}`: give a number, or `unlimited`")]
    Number(String),
    /// A path that cannot be opened.
    #[error("cannot make {path} writable in a sandbox: {source}")]
    Path {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A path that holds the switches of the cell.
    #[error(
        "{path} would let an agent write to {forbidden}, where its own limits are; name a directory beside it, or use no-landlock"
    )]
    Forbidden {
        /// What was asked for.
        path: PathBuf,
        /// What lies in it, or it in.
        forbidden: PathBuf,
    },
    /// Landlock.
    #[error("Landlock: {0}")]
    Landlock(#[from] ::landlock::RulesetError),
    /// Seccomp.
    #[error("seccomp: {0}")]
    Seccomp(String),
}

/// A list of words on the command line: `off`; `write=/srv/data,allow=ptrace`; `no-landlock,nofile=4096`.
impl FromStr for Sandbox {
    type Err = SandboxError;

    fn from_str(text: &str) -> Result<Self, SandboxError> {
        let mut sandbox = Self::default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "on" => sandbox = Self::default(),
                "off" => sandbox = Self::off(),
                "new-privs" => sandbox.no_new_privs = false,
                "no-seccomp" => sandbox.seccomp = false,
                "no-landlock" => (sandbox.landlock, sandbox.scope) = (false, false),
                "no-scope" => sandbox.scope = false,
                "no-rlimits" => sandbox.limits = false,
                "no-session" => sandbox.session = false,
                _ => sandbox.set(word)?,
            }
        }
        Ok(sandbox)
    }
}

impl Sandbox {
    /// A word with a value.
    fn set(&mut self, word: &str) -> Result<(), SandboxError> {
        match word.split_once('=') {
            Some(("write", path)) if path.starts_with('/') => self.write.push(PathBuf::from(path)),
            Some(("allow", call)) => {
                let known = seccomp::names();
                let name = known.iter().find(|name| **name == call).copied();
                self.allow.insert(name.ok_or_else(|| SandboxError::Call { call: call.to_owned(), known })?);
            }
            Some((name, value)) => {
                let number = if value == "unlimited" { Ok(u64::MAX) } else { value.parse() };
                let place = self.rlimits.named(name).ok_or_else(|| SandboxError::Word(word.to_owned()))?;
                *place = Some(number.map_err(|_| SandboxError::Number(word.to_owned()))?);
            }
            None => return Err(SandboxError::Word(word.to_owned())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_widen_one_part_each() {
        let parse = |text: &str| text.parse::<Sandbox>().unwrap();
        assert_eq!(parse(""), Sandbox::default());
        assert_eq!(parse("off"), Sandbox::off());
        assert_eq!(parse("off,on"), Sandbox::default());
        let wide = parse("write=/srv/data, write=/var/cache,allow=ptrace,no-session,nofile=4096,core=unlimited");
        assert_eq!(wide.write, [PathBuf::from("/srv/data"), PathBuf::from("/var/cache")]);
        assert!(wide.allow.contains("ptrace") && !wide.session && wide.seccomp && wide.landlock);
        assert_eq!((wide.rlimits.nofile, wide.rlimits.core), (Some(4096), Some(u64::MAX)));
        assert!(!parse("no-landlock").scope);
        assert!(parse("no-scope").landlock);
    }

    #[test]
    fn a_wrong_word_is_answered_with_the_right_ones() {
        let error = |text: &str| text.parse::<Sandbox>().unwrap_err().to_string();
        assert!(error("none").contains("no-landlock, write=PATH"), "{}", error("none"));
        assert!(error("write=relative").contains("write=relative"));
        assert!(error("allow=open").contains("keyctl"), "{}", error("allow=open"));
        assert!(error("nofile=many").contains("number"));
        assert!(error("colour=red").contains("colour=red"));
    }
}
