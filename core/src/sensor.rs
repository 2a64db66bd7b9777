//! What a sensor is, and what a reading says about itself.
//!
//! `core` defines the trait, `physics` implements it. A reading always tells where it comes from and how far to trust
//! it; modelled joules can never be mistaken for measured ones.

use serde::{Deserialize, Serialize};

use crate::units::Celsius;

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
    /// A file that the host provides.
    File,
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
            Self::File => "file",
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

/// A die temperature.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Temperature {
    /// The value.
    pub celsius: Celsius,
    /// The sensor's smallest step, in kelvin.
    pub resolution: f64,
    /// How old the value is.
    pub age_ms: u32,
}

/// A cumulative energy counter, as the hardware shows it: it wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterReading {
    /// The raw count, in the counter's own unit.
    pub raw: u64,
}

/// The constants of an energy counter.
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
    /// A 32-bit RAPL counter whose energy status unit is `2^-esu` J (Intel SDM vol. 3B, MSR 0x606 bits 12:8).
    #[must_use]
    pub const fn rapl(esu: u32) -> Self {
        Self { max: u32::MAX as u64, unit_num: 1_000_000_000, unit_den: 1 << esu }
    }
}

/// One look at the machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The energy counter.
    pub energy: CounterReading,
    /// The die temperature; `None` if the sensor gave nothing.
    pub temperature: Option<Temperature>,
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

/// A source of temperature and energy. Implementations never block for longer than a register read.
pub trait Sensor: Send {
    /// Where readings come from.
    fn source(&self) -> Source;
    /// How far to trust them.
    fn quality(&self) -> Quality;
    /// The constants of the energy counter.
    fn counter(&self) -> CounterSpec;
    /// Looks at the machine now. `activity` is what the caller knows about the time since the last look; hardware
    /// ignores it.
    fn read(&mut self, activity: &Activity) -> Reading;
}
