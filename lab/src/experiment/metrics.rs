//! The figures of one run of one arm.

use serde::{Deserialize, Serialize};

use super::plan::Turn;

/// What one run came to. Joules are of the source that the report names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunMetrics {
    /// Verified work, in core-seconds of an undisturbed scientist.
    pub work: f64,
    /// How long it lasted, in seconds.
    pub seconds: f64,
    /// All energy of the machine.
    pub joules: f64,
    /// Energy beyond that of the idle machine.
    pub joules_active: f64,
    /// Energy attributed to leeches.
    pub leech_joules: f64,
    /// Core time of leeches, in seconds.
    pub leech_core_seconds: f64,
    /// Seconds from the first time that a leech ran until the last moment at which leeches drew 1 % of the active power or
    /// more. `None` where they never did.
    pub neutralise_seconds: Option<f64>,
    /// Seconds from the moment at which the last leech had lost its funds (it could not pay one more slot) until leeches
    /// drew less than 1 % for good. `None` where there is no money, or where it never ran out.
    pub neutralise_after_broke_seconds: Option<f64>,
    /// Seconds from the start until the last leech was dead. `None` while one lives.
    pub kill_seconds: Option<f64>,
    /// Joules that leeches used before they were dead, or till the end.
    pub wasted_joules: f64,
    /// 99th percentile of the time from a scientist's wish to run until it ran, in milliseconds.
    pub wake_p99_ms: Option<f64>,
    /// The work of poor but useful agents beside their ideal: an equal share among honest agents of a machine without
    /// leeches. The worst of them.
    pub poor_share: Option<f64>,
    /// Honest agents that were killed.
    pub false_kills: u64,
    /// The highest temperature, in degrees Celsius, where there is a thermometer.
    pub peak_celsius: Option<f64>,
    /// Peak to peak of the spot price over the last half of the run, beside its mean; where there are prices.
    pub price_amplitude: Option<f64>,
    /// The scheduler's own share of core time, where it was measured.
    pub own_core_share: Option<f64>,
    /// The scheduler's own energy, where it was measured.
    pub own_joules: Option<f64>,
    /// The share of all cores that neither agents nor the scheduler used but something else on the host, where it was measured.
    pub other_core_share: Option<f64>,
    /// 99th percentile of the time from the decision to freeze until frozen, in milliseconds, where it was measured.
    pub freeze_p99_ms: Option<f64>,
    /// minted − burned − held, in nanojoules: anything but zero is a bug.
    pub money_error: i64,
    /// meter − attributed − daemon − idle, in nanojoules: anything but zero is a bug.
    pub energy_error: i64,
}

impl RunMetrics {
    /// Verified work for each joule of the machine, idle power included.
    #[must_use]
    pub fn work_per_joule(&self) -> f64 {
        self.work / self.joules
    }

    /// Verified work for each joule beyond idle power.
    #[must_use]
    pub fn work_per_joule_active(&self) -> f64 {
        self.work / self.joules_active
    }

    /// The scheduler's own share of all energy.
    #[must_use]
    pub fn own_energy_share(&self) -> Option<f64> {
        self.own_joules.map(|own| own / self.joules)
    }
}

/// A figure of a run; `None` where the run has none.
pub type Figure = fn(&RunMetrics) -> Option<f64>;

/// Every figure with the name of its column, for tables, raw data and summaries alike.
#[allow(clippy::cast_precision_loss, reason = "counts and errors far below 2^53")]
pub const FIGURES: [(&str, Figure); 23] = [
    ("work", |m| Some(m.work)),
    ("seconds", |m| Some(m.seconds)),
    ("joules", |m| Some(m.joules)),
    ("joules_active", |m| Some(m.joules_active)),
    ("work_per_joule", |m| Some(m.work_per_joule())),
    ("work_per_joule_active", |m| Some(m.work_per_joule_active())),
    ("leech_joules", |m| Some(m.leech_joules)),
    ("leech_core_seconds", |m| Some(m.leech_core_seconds)),
    ("neutralise_seconds", |m| m.neutralise_seconds),
    ("neutralise_after_broke_seconds", |m| m.neutralise_after_broke_seconds),
    ("kill_seconds", |m| m.kill_seconds),
    ("wasted_joules", |m| Some(m.wasted_joules)),
    ("wake_p99_ms", |m| m.wake_p99_ms),
    ("poor_share", |m| m.poor_share),
    ("false_kills", |m| Some(m.false_kills as f64)),
    ("peak_celsius", |m| m.peak_celsius),
    ("price_amplitude", |m| m.price_amplitude),
    ("own_core_share", |m| m.own_core_share),
    ("own_joules", |m| m.own_joules),
    ("other_core_share", |m| m.other_core_share),
    ("freeze_p99_ms", |m| m.freeze_p99_ms),
    ("money_error", |m| Some(m.money_error as f64)),
    ("energy_error", |m| Some(m.energy_error as f64)),
];

/// One moment of a run, for plots. Kept for one run of each arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Since the start.
    pub seconds: f64,
    /// Power of the machine in watts.
    pub watts: f64,
    /// Power attributed to leeches.
    pub leech_watts: f64,
    /// Verified work so far.
    pub work: f64,
    /// Die temperature.
    pub celsius: Option<f64>,
    /// Spot price in watts.
    pub price: Option<f64>,
}

/// A run that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Which.
    #[serde(flatten)]
    pub turn: Turn,
    /// Its figures.
    #[serde(flatten)]
    pub metrics: RunMetrics,
    /// What happened, about once a second or oftener; may be empty.
    #[serde(skip)]
    pub trace: Vec<Sample>,
}
