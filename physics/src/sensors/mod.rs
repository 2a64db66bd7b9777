//! Every sensor of energy and temperature that Linux machines have.
//!
//! ```text
//!  Root         where /sys, /dev and /proc are: the machine's, or a tree of files that stands for one
//!    │
//!    ├─ perf, powercap, msr, hwmon, file    find counters ─► dedupe: every joule once ─► Bank: open, read in a row
//!    ├─ msr, thermal_zone, hwmon, file      find thermometers ──────────────────────► Thermometer: the hottest counts
//!    └─ nvml                                asks graphics cards on a thread of its own ─► Cards
//!                                                                     │
//!  survey: all that was looked for  ◄── findings ──  ladder ── climb ─┴─► Instruments: core's Sensor
//!                                                                            └─ scout: looks for more, off the tick
//! ```
//!
//! Three rules hold for every source: what cannot be read is unknown and labelled, never zero; a reader on the tick keeps
//! its descriptors and allocates nothing; and what a file holds is not trusted.

mod bank;
mod choice;
mod dedupe;
pub mod file;
mod finding;
mod hwmon;
mod instruments;
mod ladder;
mod msr;
#[cfg(feature = "nvml")]
pub mod nvml;
mod perf;
mod perf_event;
mod powercap;
mod processor;
mod rapl;
mod root;
mod scout;
mod survey;
mod task_clock;
mod thermal_zone;
mod thermometer;
mod trued_up;

pub use choice::{Choice, Pick, SensorError};
pub use finding::{Finding, Item, Obstacle, State};
pub use instruments::{Change, Instruments};
pub use msr::Throttling;
pub use processor::{Lead, Processor, Vendor};
pub use root::{Kept, ReadError, Register, Root};
pub use survey::{Survey, survey};
pub use task_clock::{TaskClock, TaskClockError};
pub use trued_up::TruedUp;
