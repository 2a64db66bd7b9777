//! The joules of a run: one meter for all arms.

use std::time::Instant;

use maxwell_core::energy::Metering;
use maxwell_core::sensor::{Activity, Quality, Reading, Sensor};
use maxwell_daemon::scenario::Scenario;
use maxwell_physics::{Instruments, OtherLoad, Root};

use super::RealError;

/// What the machine drew since the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drawn {
    pub(super) joules: f64,
    pub(super) celsius: Option<f64>,
    /// Cores that neither agents nor the scheduler used.
    pub(super) others: f64,
}

pub(super) struct Meter {
    sensor: Instruments,
    metering: Metering,
    reading: Reading,
    others: OtherLoad,
    last: Instant,
    known_ns: u64,
}

impl Meter {
    /// The best sensors that the scenario allows.
    pub(super) fn new(scenario: &Scenario) -> Result<Self, RealError> {
        let sensor = Instruments::open(Root::machine(), scenario.sensors.clone(), scenario.model.clone())?;
        let mut metering = Metering::default();
        metering.choose(sensor.counters());
        let mut it = Self {
            sensor,
            metering,
            reading: Reading::default(),
            others: OtherLoad::default(),
            last: Instant::now(),
            known_ns: 0,
        };
        it.advance(0, 0);
        Ok(it)
    }

    /// Sources and how far to trust them.
    pub(super) fn describe(&self) -> String {
        let modelled = self.sensor.counters().iter().all(|counter| counter.quality == Quality::Modelled);
        let note = if modelled { " (modelled)" } else { "" };
        format!("{}{note}", self.sensor.describe())
    }

    /// The temperature, if a thermometer measures it.
    pub(super) fn measured_celsius(&mut self) -> Option<f64> {
        self.advance(0, 0);
        let shown = self.reading.temperature?;
        (shown.quality != Quality::Modelled).then_some(shown.celsius.0)
    }

    /// Reads everything. `agents_ns` and `own_ns` are the core time of agents and of the scheduler since the last look.
    pub(super) fn advance(&mut self, agents_ns: u64, own_ns: u64) -> Drawn {
        let now = Instant::now();
        let elapsed_us = u64::try_from((now - self.last).as_micros()).unwrap_or(u64::MAX);
        self.last = now;
        self.known_ns += agents_ns;
        let others = self.others.busy_cores(self.known_ns);
        let agents_us = agents_ns / 1_000;
        let activity = Activity {
            elapsed_us,
            agents_us,
            agents_weighted_us: agents_us,
            daemon_us: own_ns / 1_000,
            // Not the experiment's; a sensor that measures sees it all the same.
            others_us: 0,
        };
        if self.sensor.read(&activity, &mut self.reading) {
            self.metering.choose(self.sensor.counters());
        }
        let tick = self.metering.advance(&self.reading.counters, elapsed_us);
        let celsius = self.reading.temperature.map(|shown| shown.celsius.0);
        Drawn { joules: tick.shared.0 as f64 * 1e-9, celsius, others }
    }
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").field("sensor", &self.describe()).finish_non_exhaustive()
    }
}
