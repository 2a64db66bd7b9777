//! A sandbox made ready for one child, and what of it holds on this kernel.

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::BpfProgram;
use serde::Serialize;

use super::landlock::{self, Rules, Written};
use super::{Sandbox, SandboxError, seccomp};
use crate::process::exec::Stage;

/// Where a program runs.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Its working directory.
    pub directory: &'a Path,
    /// Its temporary directory.
    pub temporary: &'a Path,
    /// What it must never write to: where cgroups are mounted.
    pub forbidden: &'a [PathBuf],
    /// Its standard streams.
    pub streams: &'a [BorrowedFd<'a>],
}

/// What holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Enforced {
    /// No privileges by executing something.
    pub no_new_privs: bool,
    /// How many system calls are refused; none without seccomp.
    pub seccomp: Option<usize>,
    /// Where it may write; none without Landlock.
    pub landlock: Option<Written>,
    /// Resource limits that are set.
    pub rlimits: Vec<String>,
    /// A session of its own.
    pub session: bool,
    /// What a user should know.
    pub notes: Vec<String>,
}

/// A sandbox made ready. One child each: its rules grow by the child's own `/proc/self`.
#[derive(Debug)]
pub struct Prepared {
    no_new_privs: bool,
    session: bool,
    limits: Vec<(Resource, Rlimit)>,
    rules: Option<Rules>,
    filter: Option<BpfProgram>,
    enforced: Enforced,
}

impl Sandbox {
    /// Makes it ready for one child.
    ///
    /// # Errors
    ///
    /// [`SandboxError`]: a path that was named is not there, or would open the cgroups.
    pub fn prepare(&self, around: &Surroundings<'_>) -> Result<Prepared, SandboxError> {
        let mut notes = Vec::new();
        let limits = if self.limits { self.rlimits.resolve() } else { Vec::new() };
        let (rules, written) = match self.landlock.then(|| landlock::rules(&self.write, self.scope, around, &mut notes))
        {
            Some(made) => made?.unzip(),
            None => (None, None),
        };
        let (filter, refused) = match self.seccomp.then(|| seccomp::filter(&self.allow)) {
            Some(made) => Some(made?).unzip(),
            None => (None, None),
        };
        let show = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |value| value.to_string());
        let enforced = Enforced {
            no_new_privs: self.no_new_privs,
            seccomp: refused,
            landlock: written,
            rlimits: limits.iter().map(|(name, _, limit)| format!("{name}={}", show(limit.maximum))).collect(),
            session: self.session,
            notes,
        };
        let limits = limits.into_iter().map(|(_, resource, limit)| (resource, limit)).collect();
        Ok(Prepared { no_new_privs: self.no_new_privs, session: self.session, limits, rules, filter, enforced })
    }
}

impl Prepared {
    /// What holds.
    #[must_use]
    pub const fn enforced(&self) -> &Enforced {
        &self.enforced
    }

    /// What a child takes with it. `rules` is the number under which it has the rules' descriptor.
    pub(in crate::process) fn arm(&self, rules: Option<RawFd>) -> Armed {
        Armed {
            no_new_privs: self.no_new_privs,
            session: self.session,
            limits: self.limits.clone(),
            rules: rules.zip(self.rules.as_ref().map(Rules::to_itself)),
            filter: self.filter.clone(),
        }
    }

    /// The descriptor that it takes to be confined.
    pub(in crate::process) fn descriptor(&self) -> Option<&OwnedFd> {
        self.rules.as_ref().map(|rules| &rules.fd)
    }
}

/// A sandbox that a child takes upon itself. Allocates nothing then.
pub(in crate::process) struct Armed {
    no_new_privs: bool,
    session: bool,
    limits: Vec<(Resource, Rlimit)>,
    rules: Option<(RawFd, u64)>,
    filter: Option<BpfProgram>,
}

impl Armed {
    pub(in crate::process) const fn session(&self) -> bool {
        self.session
    }

    pub(in crate::process) fn limit(&self) -> Result<(), Errno> {
        self.limits.iter().try_for_each(|(resource, limit)| setrlimit(*resource, *limit))
    }

    /// The last steps, in the only order that works: seccomp could refuse what the others need.
    pub(in crate::process) fn confine(&self) -> Result<(), (Stage, Errno)> {
        if self.no_new_privs {
            rustix::thread::set_no_new_privs(true).map_err(|errno| (Stage::NoNewPrivileges, errno))?;
        }
        if let Some((rules, to_itself)) = self.rules {
            landlock::restrict(rules, to_itself).map_err(|errno| (Stage::Landlock, errno))?;
        }
        if let Some(filter) = &self.filter {
            seccomp::install(filter).map_err(|errno| (Stage::Seccomp, errno))?;
        }
        Ok(())
    }
}

/// One line: `no-new-privs; seccomp refuses 60 calls; writes only to /srv, /tmp (Landlock 7); ...`.
impl fmt::Display for Enforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.no_new_privs {
            parts.push("no-new-privs".to_owned());
        }
        parts.extend(self.seccomp.map(|calls| format!("seccomp refuses {calls} calls")));
        if let Some(written) = &self.landlock {
            let paths: Vec<_> = written.write.iter().map(|path| path.display().to_string()).collect();
            parts.push(format!("writes only to {} (Landlock {})", paths.join(", "), written.abi));
            if written.scoped {
                parts.push("signals only its own".to_owned());
            }
        }
        if !self.rlimits.is_empty() {
            parts.push(self.rlimits.join(" "));
        }
        if self.session {
            parts.push("own session".to_owned());
        }
        if parts.is_empty() {
            parts.push("no sandbox".to_owned());
        }
        parts.extend(self.notes.iter().cloned());
        f.write_str(&parts.join("; "))
    }
}
