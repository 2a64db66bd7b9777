//! Scientist versus Leech: fair share, two bold baselines, a market and an oracle, side by side.
//!
//! ```text
//!   Plan ──► turns: ABBA, a seed for each repetition ──► run (virtual here, or on a real host) ──► RunRecord
//!     │                                                                                               │
//!     ├────► Arithmetic: what must come out                                                           ▼
//!     └────► Thresholds: what is wanted, written first ──────────────────────────────────────────► Summary
//! ```
//!
//! The plan, the figures and the report are the same for virtual and for real runs, so that the two can be compared.

mod agreement;
mod arithmetic;
mod arm;
mod leech;
mod metrics;
mod plan;
mod plot;
pub mod real;
mod report;
pub mod stats;
mod suite;
mod summary;
mod world;

pub use agreement::{CompareError, Comparison, QUIET, SLACK, Told, compare, comparison_table};
pub use arithmetic::Arithmetic;
pub use arm::{Arm, UnknownWord};
pub use leech::LeechKind;
pub use metrics::{FIGURES, Figure, RunMetrics, RunRecord, Sample};
pub use plan::{Economy, Machine, Plan, PlanError, Thresholds, Turn};
pub use plot::PlotError;
pub use report::{ReportError, csv, overview, register, write_overview_to};
pub use suite::suite;
pub use summary::{ArmSummary, Host, Intervals, SensorLabel, Summary, Verdict, mean_figure};
pub use world::{run_virtual, simulate};
