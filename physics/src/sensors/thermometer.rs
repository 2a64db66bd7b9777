//! The thermometers of one source, open and read at once: the hottest counts.
//!
//! A value that stands still is a temperature that does not change; a value that cannot be read is old. So unlike a
//! counter's, a thermometer's age is the time since it was last read, not since it last moved.

use maxwell_core::sensor::{Quality, Source, Temperature};
use maxwell_core::units::Celsius;

use super::bank::SLOWEST_MS;
use super::file::HostTemperature;
use super::root::{Kept, ReadError, Register};

/// No die that computes is colder or hotter, in °C: a value beyond is a broken sensor's.
const COLDEST: f64 = -40.0;
const HOTTEST: f64 = 150.0;
/// So many reads in a row must fail before a source is given up.
const READS: u32 = 3;

/// One thermometer.
#[derive(Debug)]
pub(crate) enum Eye {
    /// A file of thousandths of a degree.
    Thousandths(Kept),
    /// A register that shows degrees below the temperature at which the processor slows down
    /// (drivers/thermal/intel/intel_tcc.c).
    Below { register: Register, tj_max: u8 },
    /// The host's file.
    Host(HostTemperature),
}

impl Eye {
    pub(crate) fn celsius(&mut self, now_us: u64) -> Result<Celsius, ReadError> {
        let degrees = match self {
            Self::Thousandths(kept) => kept.signed()? as f64 * 1e-3,
            Self::Below { register, tj_max } => {
                let word = register.read()?;
                if word >> 31 & 1 == 0 {
                    return Err(ReadError::Impossible);
                }
                f64::from(*tj_max) - (word >> 16 & 0x7F) as f64
            }
            Self::Host(host) => host.celsius(now_us)?,
        };
        if (COLDEST..=HOTTEST).contains(&degrees) { Ok(Celsius(degrees)) } else { Err(ReadError::Impossible) }
    }
}

/// The thermometers of one source.
#[derive(Debug)]
pub(crate) struct Thermometer {
    pub(crate) source: Source,
    /// Which rung of the ladder.
    pub(crate) kind: &'static str,
    quality: Quality,
    refresh_ms: u32,
    eyes: Vec<Eye>,
    last: Option<(Celsius, u64)>,
    unreadable: u32,
    error: ReadError,
}

impl Thermometer {
    pub(crate) fn new(source: Source, kind: &'static str, quality: Quality, refresh_ms: u32, eyes: Vec<Eye>) -> Self {
        Self { source, kind, quality, refresh_ms, eyes, last: None, unreadable: 0, error: ReadError::Missing }
    }

    /// The hottest now. If any of them cannot be read, that one might be the hottest: the last value is shown, and ages.
    /// Allocates nothing.
    pub(crate) fn read(&mut self, now_us: u64) -> Option<Temperature> {
        let mut hottest = Celsius(f64::NEG_INFINITY);
        let mut failed = None;
        for eye in &mut self.eyes {
            match eye.celsius(now_us) {
                Ok(celsius) if celsius > hottest => hottest = celsius,
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            None if !self.eyes.is_empty() => (self.last, self.unreadable) = (Some((hottest, now_us)), 0),
            failed => {
                self.unreadable = self.unreadable.saturating_add(1);
                self.error = failed.unwrap_or(ReadError::Missing);
            }
        }
        let (celsius, at_us) = self.last?;
        let age_us = now_us.saturating_sub(at_us).max(self.host_age_us(now_us));
        Some(Temperature {
            age_ms: u32::try_from(age_us / 1_000).unwrap_or(u32::MAX),
            refresh_ms: self.refresh_ms,
            ..Temperature::fresh(celsius, self.source, self.quality)
        })
    }

    /// What it showed last.
    pub(crate) fn last(&self) -> Option<Celsius> {
        self.last.map(|(celsius, _)| celsius)
    }

    /// Whether a host that writes a file still does: it is waited for, three renewals long. Sleeps: not for the tick.
    pub(crate) fn is_written(&mut self) -> bool {
        let patience_ms = 3 * self.refresh_ms.min(SLOWEST_MS);
        self.eyes.iter_mut().all(|eye| match eye {
            Eye::Host(host) => host.is_written(patience_ms),
            Eye::Thousandths(_) | Eye::Below { .. } => true,
        })
    }

    fn host_age_us(&self, now_us: u64) -> u64 {
        let age = |eye: &Eye| if let Eye::Host(host) = eye { host.age_us(now_us) } else { 0 };
        self.eyes.iter().map(age).max().unwrap_or(0)
    }

    /// Why this source is to be given up.
    pub(crate) fn failure(&self, now_us: u64) -> Option<ReadError> {
        if self.unreadable >= READS {
            return Some(self.error);
        }
        // A host that does not write any more has taken its thermometer away.
        let silent = self.host_age_us(now_us) > 1_000_000 + u64::from(self.refresh_ms) * 1_000;
        silent.then_some(ReadError::Gone)
    }
}
