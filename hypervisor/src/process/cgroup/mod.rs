//! Groups of processes that are frozen, killed, limited and metered as one (cgroup v2).
//!
//! [`Hierarchy`] finds where this machine lets us make groups. One Maxwell is one [`Subtree`] there; an agent is one
//! [`Cgroup`] in it, at a depth that is the same for all, so that a BPF program finds the agent of a task in one step.
//!
//! ```text
//!  <parent>/                 the hierarchy's root, or the delegated group that we run in
//!    maxwell/
//!      4711-1f3a/            a Subtree: locked by its Maxwell; killing this group kills every agent
//!        agent-0/            a Cgroup
//!        agent-1/
//! ```
//!
//! What happens to a subtree whose Maxwell was killed: its [keeper](super::keeper) kills and removes it at once; if the keeper was
//! killed too, the next Maxwell finds the lock free and does it ([`sweep`]).

mod group;
mod hierarchy;
mod limits;
mod lock;
mod remains;
mod remove;
mod subtree;
mod sweep;

use std::path::PathBuf;

pub use group::Cgroup;
pub use hierarchy::{Hierarchy, Layout};
pub use limits::{Controller, Limits, Unavailable};
pub use subtree::Subtree;
pub use sweep::{Leftover, leftovers, sweep};

/// The directory below which all of Maxwell's groups lie.
pub(crate) const HOME: &str = "maxwell";

/// Why there are no groups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup v2.
    #[error(
        "no cgroup v2 is mounted here{}. Boot with systemd.unified_cgroup_hierarchy=1, or, as root: \
         mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified",
        if *.version_1 { ", only version 1, which cannot freeze reliably" } else { "" }
    )]
    NoVersion2 {
        /// Version 1 is.
        version_1: bool,
    },
    /// Mounted read-only.
    #[error(
        "{path}: mounted read-only. In a container, give it a writable cgroup namespace (for instance --cgroupns=private and rw)"
    )]
    ReadOnly {
        /// Where.
        path: PathBuf,
    },
    /// Not ours to write.
    #[error(
        "{path}: no permission to make groups. Run as root, or in a delegated group: \
         systemd-run --user --scope -p Delegate=yes -- maxwell ..."
    )]
    NotDelegated {
        /// The group that we run in.
        path: PathBuf,
    },
    /// A name that is none.
    #[error("`{0}` cannot name a group: use letters, digits, `-`, `_`, and dots inside; at most 64")]
    Name(String),
    /// What the kernel says makes no sense.
    #[error("{path}: unexpected content")]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
    /// A step failed.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Something in the group survived being killed.
    #[error(
        "{path}: {processes} processes still there {seconds} s after they were killed; they may hang in the kernel (state D)"
    )]
    Undead {
        /// Which group.
        path: PathBuf,
        /// How many.
        processes: usize,
        /// How long we waited.
        seconds: u64,
    },
    /// The keeper could not be started.
    #[error("the keeper, which cleans up when Maxwell is killed, could not be started: {0}")]
    Keeper(std::io::Error),
}

/// Wraps an error with what was tried on what.
pub(crate) fn failed(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(rustix::io::Errno) -> CgroupError {
    move |errno| CgroupError::Io { doing, path: path.into(), source: errno.into() }
}
