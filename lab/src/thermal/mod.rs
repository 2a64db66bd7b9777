//! Thermal control, side by side: Maxwell and Linux's `power_allocator` on the same plants.
//!
//! ```text
//!   Case ──► Load: who wants cores, when        ┌► Auction         (market → reserve, slots → who runs)  ─┐
//!     │                                         ┤                                                         ├► core time
//!     └────► Rig: plant, power, thermometer  ───┴► PowerAllocator  (budget → duty of every core)         ─┘      │
//!                       ▲                                                                                        │
//!                       └────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Both governors are configured for the nominal machine and meet plants that differ threefold from it. Both hold the
//! same temperature with the same thermometer. `power_allocator` is given what Maxwell is not: the exact sustainable power of the
//! nominal plant, and actuators without steps (idle injection, so that both lose work in proportion to the power they save).

mod case;
mod governor;
mod metrics;
mod plot;
mod power_allocator;
mod report;
mod rig;
mod trial;

pub use case::{AGENTS, Case, Load, Thermometer};
pub use governor::{Auction, Governor, Linux};
pub use metrics::Metrics;
pub use plot::PlotError;
pub use power_allocator::PowerAllocator;
pub use report::{Comparison, Goal, Report};
pub use rig::Rig;
pub use trial::{Sample, Trial};
