//! The process cell: any command, in a cgroup of its own, frozen and thawed by the market.
//!
//! [`ProcessCell`] is the cell, [`Processes`] makes it; what they are made of:
//!
//! ```text
//!   cgroup::Hierarchy ── find cgroup v2 ──► cgroup::Subtree   maxwell/<instance>/   locked; swept when its owner died
//!                                                │    └── keeper: a process that ends it if Maxwell is killed
//!                                                ▼
//!   spawn::Program ─ clone3(INTO_CGROUP) ─► cgroup::Cgroup    maxwell/<instance>/<agent>/
//!        │  ▲                                    │
//!        │  └─ sandbox: no-new-privs, seccomp,   └── freezer::Freezer: freeze, thaw, kill, each confirmed
//!        ▼     Landlock, rlimits, own session
//!   child::Child: a pidfd; how it started, how it ended
//! ```
//!
//! Where there is no writable cgroup v2, [`stop`] stops process trees by signals. That is weaker, and says so.

mod cell;
mod census;
pub mod cgroup;
pub mod child;
mod command;
mod demand;
pub mod exec;
mod exposure;
pub mod freezer;
mod idle;
pub mod keeper;
mod life;
mod placement;
mod processes;
mod raw;
pub mod sandbox;
pub mod spawn;
pub mod stop;
mod vfork;
mod workshop;

pub use cell::ProcessCell;
pub use command::{Command, Streams, identity};
pub use exposure::ERASABLE;
pub use processes::Processes;
pub use workshop::ProcessError;
