//! Learning a machine's power and heat from traces of a meter.
//!
//! ```text
//!  CSV files ─► Trace ─┬─► power.rs    which terms, what knots, how many watts ─► PowerModel, held-out error
//!                      └─► thermal.rs  ambient, R₁, τ₁, R₂, τ₂                 ─► PlantModel, or why not
//! ```
//!
//! Errors are reported on rows that the fit has not seen. Rows next to each other in time resemble each other, so they are
//! never held out one by one from the middle of their neighbours: a trace is cut into contiguous blocks, and a block is
//! predicted by a model that was chosen *and* fitted without it (nested cross-validation).
//!
//! ```
//! use std::path::Path;
//! use maxwell_physics::fit::{Options, Trace, fit};
//! let mut csv = String::from("seconds,core0,core1,watts\n");
//! for n in 0..40 {
//!     let (a, b) = (f64::from(n % 4) / 3.0, f64::from(n % 5) / 4.0);
//!     csv += &format!("{n},{a},{b},{}\n", 5.0 + 3.0 * (a + b));
//! }
//! let trace = Trace::read(Path::new("trace.csv"), csv.as_bytes())?;
//! let fitted = fit(&[trace], &Options::default())?;
//! assert!((fitted.power.model.idle.0 - 5.0).abs() < 0.01);
//! assert!(fitted.power.ours.held_out.0 < 0.05);
//! assert!(fitted.thermal.is_err(), "there is no temperature in this trace");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod baseline;
mod least_squares;
pub mod power;
pub mod thermal;
pub mod trace;

use maxwell_core::units::Watts;

pub use self::power::{PowerFit, Score};
pub use self::thermal::{Refusal, ThermalFit};
pub use self::trace::{Load, Row, Trace, TraceError};

/// What the traces do not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// The machine's hardware threads.
    pub threads: Option<u16>,
    /// The socket's TDP, for comparison with formulas that need one. Otherwise they get the TDP that suits them best.
    pub tdp: Option<Watts>,
    /// Whether power may follow the clock. Only for profiles whose user will know the clock.
    pub clock: bool,
}

/// Why traces cannot be fitted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FitError {
    /// Nobody said how many hardware threads there are.
    #[error(
        "the traces do not say how many hardware threads the machine has: give --threads, or a column for each core"
    )]
    Threads,
    /// The traces are of different machines.
    #[error("{a} has {a_threads} hardware threads and {b} has {b_threads}: fit machines one by one, or give --threads")]
    Machines {
        /// One trace.
        a: String,
        /// Its threads.
        a_threads: u16,
        /// Another.
        b: String,
        /// Its threads.
        b_threads: u16,
    },
    /// A row has more busy cores than there are.
    #[error("{path}: a row has {given} cores, but the machine has {threads} hardware threads: correct --threads")]
    Cores {
        /// Which trace.
        path: String,
        /// Cores in the row.
        given: usize,
        /// The machine's.
        threads: u16,
    },
    /// Too few rows.
    #[error("{rows} rows are too few to fit and to check the fit: record at least {least}, at different loads")]
    Rows {
        /// How many there are.
        rows: usize,
        /// How many it takes.
        least: usize,
    },
    /// The load never changed.
    #[error("the machine's utilisation stays between {least:.2} and {most:.2}: record it idle, busy and in between")]
    Load {
        /// Lowest utilisation.
        least: f64,
        /// Highest.
        most: f64,
    },
    /// No power at all.
    #[error("every row has 0 W: the meter did not work")]
    NoPower,
}

/// What the traces taught.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// The machine's hardware threads.
    pub threads: u16,
    /// What it burns.
    pub power: PowerFit,
    /// How it warms, or why the traces do not show it.
    pub thermal: Result<ThermalFit, Refusal>,
}

/// Fits a machine's power and, where there are temperatures, its heat. All traces are of one machine.
///
/// # Errors
///
/// Why the traces cannot be fitted, and what to do.
pub fn fit(traces: &[Trace], options: &Options) -> Result<Fitted, FitError> {
    let threads = threads(traces, options)?;
    for trace in traces {
        let given = trace.rows.iter().map(|row| match &row.load {
            Load::Each(each) => each.len(),
            Load::Full(active) | Load::Spread { active, .. } => usize::from(*active),
            Load::Even(_) => 0,
        });
        let given = given.max().unwrap_or(0);
        if given > usize::from(threads) {
            return Err(FitError::Cores { path: trace.path.display().to_string(), given, threads });
        }
    }
    Ok(Fitted { threads, power: power::fit(traces, threads, options)?, thermal: thermal::fit(traces) })
}

/// How many hardware threads the machine has.
fn threads(traces: &[Trace], options: &Options) -> Result<u16, FitError> {
    if let Some(threads) = options.threads {
        return Ok(threads);
    }
    let mut known = traces.iter().filter_map(|trace| Some((trace, trace.threads?)));
    let (first, threads) = known.next().ok_or(FitError::Threads)?;
    match known.find(|other| other.1 != threads) {
        None => Ok(threads),
        Some((other, others)) => Err(FitError::Machines {
            a: first.path.display().to_string(),
            a_threads: threads,
            b: other.path.display().to_string(),
            b_threads: others,
        }),
    }
}

#[cfg(test)]
mod tests;
