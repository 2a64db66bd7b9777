//! What a sensor is, and what a reading says about itself.
//!
//! ```text
//!  Counter   the constants of an energy counter: domain, source, quality, unit, where it wraps
//!    └─ CounterReading   what it shows now, and how old that is        ┐
//!  Temperature           a value with its own source, quality and age  ┴─► Reading, one a tick
//! ```
//!
//! `core` defines the trait, `physics` implements it. A machine has as many counters as it has sockets, memories and
//! accelerators; their domains never overlap, so their sum is the machine's energy. Counters are told to the market when
//! they are chosen, and again when they change; a [`Reading`] then holds one raw count for each, so that a recording keeps
//! what the hardware showed and not what somebody made of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::{Celsius, Watts};

/// Where a reading comes from, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The `power` PMU of perf_event.
    Perf,
    /// `/sys/class/powercap`.
    Powercap,
    /// Model-specific registers.
    Msr,
    /// `/sys/class/hwmon`.
    Hwmon,
    /// `/sys/class/thermal`: temperatures only.
    #[serde(rename = "thermal-zone")]
    ThermalZone,
    /// A file that the host provides.
    File,
    /// NVIDIA's management library.
    Nvml,
    /// A model of power and heat, driven by utilisation.
    Model,
}

/// How a reading was obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// Read from hardware.
    Measured,
    /// Read from hardware that is known to add noise (SGX filtering, for instance).
    Filtered,
    /// Computed from a model.
    Modelled,
}

impl Source {
    /// The word used in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Perf => "perf",
            Self::Powercap => "powercap",
            Self::Msr => "msr",
            Self::Hwmon => "hwmon",
            Self::ThermalZone => "thermal-zone",
            Self::File => "file",
            Self::Nvml => "nvml",
            Self::Model => "model",
        }
    }
}

impl Quality {
    /// The word used in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Filtered => "filtered",
            Self::Modelled => "modelled",
        }
    }
}

/// What a counter counts the energy of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// The whole system on its board (RAPL's psys): packages, memory and the rest of it.
    Platform,
    /// One processor socket, or one die of it.
    Package(u16),
    /// The memory of one socket.
    Dram(u16),
    /// One accelerator.
    Gpu(u16),
    /// The machine, as a file or a model gives it.
    Machine,
}

impl Domain {
    /// Whether this energy heats the die whose temperature is held. Memory and accelerators have heat sinks of their own.
    #[must_use]
    pub const fn heats_die(self) -> bool {
        matches!(self, Self::Platform | Self::Package(_) | Self::Machine)
    }

    /// Whether core time is what this energy is spent on. An accelerator's energy is not blamed on whoever uses a core.
    #[must_use]
    pub const fn follows_core_time(self) -> bool {
        !matches!(self, Self::Gpu(_))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform => f.write_str("platform"),
            Self::Package(n) => write!(f, "package-{n}"),
            Self::Dram(n) => write!(f, "dram-{n}"),
            Self::Gpu(n) => write!(f, "gpu-{n}"),
            Self::Machine => f.write_str("machine"),
        }
    }
}

/// How a cumulative count is turned into nanojoules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterSpec {
    /// The count wraps to zero after this value.
    pub max: u64,
    /// One count is `unit_num / unit_den` nanojoules.
    pub unit_num: u64,
    /// See `unit_num`.
    pub unit_den: u64,
}

impl CounterSpec {
    /// A counter of nanojoules that never wraps in practice: five megawatt-hours.
    pub const NANOJOULES: Self = Self { max: u64::MAX, unit_num: 1, unit_den: 1 };

    /// A 32-bit RAPL counter whose energy status unit is `2^-esu` J (Intel SDM vol. 3B, MSR 0x606 bits 12:8).
    #[must_use]
    pub const fn rapl(esu: u32) -> Self {
        Self { max: u32::MAX as u64, unit_num: 1_000_000_000, unit_den: 1 << esu }
    }

    /// A counter of microjoules that wraps after `max` (powercap's `energy_uj` and `max_energy_range_uj`).
    #[must_use]
    pub const fn microjoules(max: u64) -> Self {
        Self { max, unit_num: 1_000, unit_den: 1 }
    }
}

/// An energy counter: everything about it that does not change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counter {
    /// What it counts.
    pub domain: Domain,
    /// Where it is read.
    pub source: Source,
    /// How far to trust it.
    pub quality: Quality,
    /// Its unit and its wrap.
    pub spec: CounterSpec,
    /// More power than its domain can draw: whatever moves faster was reset.
    pub max_power: Watts,
    /// How often the source renews the count, in milliseconds.
    pub refresh_ms: u32,
}

/// What an energy counter shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterReading {
    /// The raw count, in the counter's own unit; `None` if it could not be read.
    pub raw: Option<u64>,
    /// How long ago the count last moved, in milliseconds.
    pub age_ms: u32,
}

/// A die temperature.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Temperature {
    /// The value.
    pub celsius: Celsius,
    /// The sensor's smallest step, in kelvin.
    pub resolution: f64,
    /// How old the value is.
    pub age_ms: u32,
    /// How often the source renews it, in milliseconds.
    pub refresh_ms: u32,
    /// Where it is read.
    pub source: Source,
    /// How far to trust it.
    pub quality: Quality,
}

impl Temperature {
    /// A value of `source` that is new, of a thermometer that shows whole degrees at every look.
    #[must_use]
    pub const fn fresh(celsius: Celsius, source: Source, quality: Quality) -> Self {
        Self { celsius, resolution: 1.0, age_ms: 0, refresh_ms: 1, source, quality }
    }
}

/// One look at the machine. Reused from tick to tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// What each energy counter shows, in the order in which the counters were told.
    pub counters: Vec<CounterReading>,
    /// The die temperature; `None` if no thermometer gave anything.
    pub temperature: Option<Temperature>,
}

impl Reading {
    /// Empties it for the next look, keeping its memory.
    pub fn clear(&mut self) {
        self.counters.clear();
        self.temperature = None;
    }
}

/// What drives a model, and what attribution divides by: how busy the machine was since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Activity {
    /// Time since the last look, in microseconds.
    pub elapsed_us: u64,
    /// Core time of agents, weighted by their power class, in microseconds.
    pub agents_weighted_us: u64,
    /// Core time of agents in microseconds.
    pub agents_us: u64,
    /// Core time of the daemon itself in microseconds.
    pub daemon_us: u64,
    /// Core time of everything else on the machine in microseconds.
    pub others_us: u64,
}

/// A source of temperature and energy. Implementations never block for longer than some register reads, and allocate
/// nothing while they read.
pub trait Sensor: Send {
    /// The energy counters that a reading holds, in order.
    fn counters(&self) -> &[Counter];

    /// Looks at the machine now and fills `reading`. `activity` is what the caller knows about the time since the last
    /// look; hardware ignores it. Returns whether [`counters`](Self::counters) changed with this look: a counter was lost, or a better one
    /// found.
    fn read(&mut self, activity: &Activity, reading: &mut Reading) -> bool;
}
