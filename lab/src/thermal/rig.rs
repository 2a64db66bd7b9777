//! The machine under test: a plant, its power, and a thermometer that may be slow or lie.

use maxwell_core::sensor::{Activity, Counter, Reading, Sensor};
use maxwell_core::thermal::PlantModel;
use maxwell_core::units::{Celsius, Watts};
use maxwell_physics::power::{Knot, PowerModel};
use maxwell_physics::{ModelConfig, ModelSensor};

use super::case::{Case, Thermometer, policy};

/// One tick.
pub(super) const TICK_US: u64 = 10_000;

/// A modelled machine.
#[derive(Debug)]
pub struct Rig {
    sensor: ModelSensor,
    thermometer: Thermometer,
    reading: Reading,
    ticks: u64,
    /// The thermometer's last new value, and when.
    held: Option<(f64, u64)>,
    error: f64,
    error_until: u64,
    random: u64,
}

impl Rig {
    /// The machine of a case, idle for long.
    #[must_use]
    pub fn new(case: &Case) -> Self {
        let policy = policy();
        let core = Watts::from(policy.par);
        // Slots are sold whole, and idle injection is linear.
        let curve = vec![Knot { utilisation: 1.0, watts: core }];
        let power = PowerModel { curve, ..PowerModel::generic(policy.idle, core) };
        let config = ModelConfig { plant: case.plant(), power, cores: policy.slots, resolution: 1.0 };
        let random = match case.thermometer {
            Thermometer::Lies { seed, .. } | Thermometer::Jumps { seed } => seed | 1,
            _ => 1,
        };
        Self {
            sensor: ModelSensor::new(config),
            thermometer: case.thermometer,
            reading: Reading::default(),
            ticks: 0,
            held: None,
            error: 0.0,
            error_until: 0,
            random,
        }
    }

    /// Its energy counters.
    #[must_use]
    pub fn counters(&self) -> &[Counter] {
        self.sensor.counters()
    }

    /// The true temperature.
    #[must_use]
    pub fn temperature(&self) -> Celsius {
        self.sensor.temperature()
    }

    /// The plant is another from now on; its temperature stays.
    pub fn replace_plant(&mut self, plant: PlantModel) {
        self.sensor.replace_plant(plant);
    }

    /// One tick in which agents used `core_us`; returns what the sensors show at its end.
    pub fn tick(&mut self, core_us: u64) -> &Reading {
        let activity =
            Activity { elapsed_us: TICK_US, agents_us: core_us, agents_weighted_us: core_us, ..Activity::default() };
        self.sensor.read(&activity, &mut self.reading);
        self.ticks += 1;
        self.distort();
        &self.reading
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }

    /// What the thermometer makes of the truth.
    fn distort(&mut self) {
        let seconds = self.ticks as f64 * TICK_US as f64 * 1e-6;
        let Some(mut temperature) = self.reading.temperature else { return };
        let truth = temperature.celsius.0;
        match self.thermometer {
            Thermometer::Whole => {}
            Thermometer::Slow { refresh_ms } => {
                temperature.refresh_ms = refresh_ms;
                let due = |at: u64| (self.ticks - at) * TICK_US / 1_000 >= u64::from(refresh_ms);
                let (value, at) = match self.held {
                    Some((value, at)) if !due(at) => (value, at),
                    _ => (truth, self.ticks),
                };
                self.held = Some((value, at));
                temperature.celsius = Celsius(value);
                temperature.age_ms = u32::try_from((self.ticks - at) * TICK_US / 1_000).unwrap_or(u32::MAX);
            }
            Thermometer::Frozen { at } => {
                if seconds >= at {
                    let (value, _) = *self.held.get_or_insert((truth, self.ticks));
                    temperature.celsius = Celsius(value);
                }
            }
            Thermometer::Off { at, by } => {
                if seconds >= at {
                    temperature.celsius = Celsius((truth + by).floor());
                }
            }
            Thermometer::Lies { hold, .. } => {
                if self.ticks >= self.error_until {
                    let dice = self.random();
                    self.error = match dice % 4 {
                        0 => -10.0,
                        1 => 10.0,
                        _ => (dice / 4 % 2_001) as f64 / 100.0 - 10.0,
                    };
                    self.error_until = self.ticks + 1 + self.random() % u64::from(hold.max(1));
                }
                temperature.celsius = Celsius((truth + self.error).floor());
            }
            Thermometer::Jumps { .. } => {
                if self.ticks >= self.error_until {
                    let dice = self.random();
                    self.error = [0.0, 0.0, 0.0, -40.0, 1e-9, 127.0, f64::NAN][usize::try_from(dice % 7).unwrap_or(0)];
                    self.error_until = self.ticks + 1 + self.random() % 400;
                }
                if self.error != 0.0 {
                    temperature.celsius = Celsius(self.error);
                }
            }
            Thermometer::Dead { at } => {
                if seconds >= at {
                    self.reading.temperature = None;
                    return;
                }
            }
        }
        self.reading.temperature = Some(temperature);
    }
}
