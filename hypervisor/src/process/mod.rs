//! Building blocks of the process cell: any command, in a cgroup of its own, frozen and thawed by the market.
//!
//! ```text
//!   cgroup::Hierarchy ── find cgroup v2 ──► cgroup::Subtree   maxwell/<instance>/   locked; swept when its owner died
//!                                                │    └── cgroup::keeper: a process that ends it if Maxwell is killed
//!                                                ▼
//!   spawn::Program ─ clone3(INTO_CGROUP) ─► cgroup::Cgroup    maxwell/<instance>/<agent>/
//!        │  ▲                                    │
//!        │  └─ sandbox: no-new-privs, seccomp,   └── freezer::Freezer: freeze, thaw, kill, each confirmed
//!        ▼     Landlock, rlimits, own session
//!   child::Child: a pidfd; how it started, how it ended
//! ```
//!
//! Where there is no writable cgroup v2, [`stop`] stops process trees by signals. That is weaker, and says so.

pub mod cgroup;
pub mod child;
pub mod exec;
pub mod freezer;
mod raw;
pub mod sandbox;
pub mod spawn;
pub mod stop;
mod vfork;
