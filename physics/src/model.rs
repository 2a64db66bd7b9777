//! A machine's power and heat, computed from how busy it is.
//!
//! ```text
//!  activity ─► busy cores ─► PowerModel ─┬─► 32-bit counter, 2⁻¹⁶ J, refreshed every ms
//!                                        └─► two-node Foster plant ─► temperature in 1 °C steps
//! ```
//!
//! Fitted to a machine, the model errs by a few percent of its peak power; on a machine that it was not fitted to, by 20 %
//! or more (docs/model.md). Nothing here may be shown as measured.

use maxwell_core::sensor::{
    Activity, Counter, CounterReading, CounterSpec, Domain, Quality, Reading, Sensor, Source, Temperature,
};
use maxwell_core::thermal::{Plant, PlantModel};
use maxwell_core::units::{Celsius, Watts};

use crate::clock::Clock;
use crate::power::{Cores, Megahertz, PowerModel};
use crate::profile::Profile;
use crate::sensors::Root;

/// The machine to be modelled.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// How it warms.
    pub plant: PlantModel,
    /// What it burns.
    pub power: PowerModel,
    /// How many cores there are.
    pub cores: u16,
    /// The thermometer's step, in kelvin.
    pub resolution: f64,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            plant: PlantModel::default(),
            power: PowerModel::generic(Watts(10.0), Watts(4.5)),
            cores: 1,
            resolution: 1.0,
        }
    }
}

impl From<&Profile> for ModelConfig {
    /// The machine of a profile. A profile without a plant warms like the default one.
    fn from(profile: &Profile) -> Self {
        let plant = profile.plant.unwrap_or_default();
        Self { plant, power: profile.power.clone(), cores: profile.threads, ..Self::default() }
    }
}

/// RAPL counters of 64 W and more show 2⁻¹⁶ J.
const ESU: u32 = 16;
const COUNTS_PER_JOULE: f64 = 65_536.0;
/// The counter starts this far below its wrap, so that every run of some seconds crosses it.
const START: u64 = (1 << 32) - 3 * 65_536;
/// Hardware refreshes the counter about every millisecond; a reader sees it up to that old.
const REFRESH_US: u64 = 1_000;

/// The model as a sensor.
#[derive(Debug)]
pub struct ModelSensor {
    config: ModelConfig,
    plant: Plant,
    /// Energy since the start, in joules.
    energy: f64,
    power: f64,
    jitter: u64,
    shown: u64,
    counter: [Counter; 1],
    /// The cores' clock, where the model follows it.
    clock: Clock,
}

impl ModelSensor {
    /// A machine that has been idle for long.
    #[must_use]
    pub fn new(config: ModelConfig) -> Self {
        let plant = Plant::settled(config.plant, config.power.idle);
        let power = config.power.idle.0;
        let counter = Counter {
            domain: Domain::Machine,
            source: Source::Model,
            quality: Quality::Modelled,
            spec: CounterSpec::rapl(ESU),
            // Ten times all cores at four times their power is a broken counter.
            max_power: Watts(10.0 * (config.power.idle.0 + 4.0 * config.power.core(1.0).0 * f64::from(config.cores))),
            refresh_ms: 1,
        };
        Self {
            config,
            plant,
            energy: 0.0,
            power,
            jitter: 0x9E37_79B9_7F4A_7C15,
            shown: START,
            counter: [counter],
            clock: Clock::default(),
        }
    }

    /// Follows the clock of the cores that this machine shows, if the model knows what to make of it.
    #[must_use]
    pub(crate) fn with_clock(mut self, root: &Root) -> Self {
        if self.config.power.frequency.is_some() {
            self.clock = Clock::open(root);
        }
        self
    }

    /// The true temperature of the model, which a sensor would not show.
    #[must_use]
    pub fn temperature(&self) -> Celsius {
        self.plant.temperature()
    }

    /// The machine warms differently from now on (its fan failed, say); its temperature stays.
    pub fn replace_plant(&mut self, model: PlantModel) {
        self.plant.model = model;
    }

    /// The power at an activity.
    fn power_at(&self, activity: &Activity, clock: Option<Megahertz>) -> f64 {
        if activity.elapsed_us == 0 {
            return self.power;
        }
        let elapsed = activity.elapsed_us as f64;
        let plain = (activity.daemon_us + activity.others_us) as f64;
        let busy = activity.agents_us as f64 + plain;
        let class = if busy > 0.0 { (activity.agents_weighted_us as f64 + plain) / busy } else { 1.0 };
        let cores = (busy / elapsed).min(f64::from(self.config.cores));
        // Work is packed: whole cores, and the rest on one more.
        let full = cores.floor();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "no more than there are cores")]
        let groups = [Cores { count: full as u16, utilisation: 1.0 }, Cores { count: 1, utilisation: cores - full }];
        self.config.power.at(&groups, class, clock).0
    }
}

impl Sensor for ModelSensor {
    fn counters(&self) -> &[Counter] {
        &self.counter
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "energy is positive and far below 2^63 counts"
    )]
    fn read(&mut self, activity: &Activity, reading: &mut Reading) -> bool {
        let seconds = activity.elapsed_us as f64 * 1e-6;
        let clock = self.clock.read();
        self.power = self.power_at(activity, clock);
        self.energy += self.power * seconds;
        self.plant.step(Watts(self.power), seconds);

        // xorshift64: when the hardware refreshed last.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let stale = (self.jitter % REFRESH_US) as f64 * 1e-6;
        let counts = ((self.energy - self.power * stale).max(0.0) * COUNTS_PER_JOULE) as u64;
        // A counter never goes back.
        self.shown = self.shown.max(START + counts);

        let step = self.config.resolution;
        let shown = Celsius((self.plant.temperature().0 / step).floor() * step);
        reading.clear();
        reading.counters.push(CounterReading { raw: Some(self.shown & u64::from(u32::MAX)), age_ms: 0 });
        reading.temperature =
            Some(Temperature { resolution: step, ..Temperature::fresh(shown, Source::Model, Quality::Modelled) });
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::Frequency;
    use maxwell_core::energy::Meter;

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
    fn busy(cores: f64) -> Activity {
        let us = (cores * 10_000.0) as u64;
        Activity { elapsed_us: 10_000, agents_us: us, agents_weighted_us: us, ..Activity::default() }
    }

    fn sensor(cores: u16) -> ModelSensor {
        ModelSensor::new(ModelConfig { cores, ..ModelConfig::default() })
    }

    #[test]
    fn energy_through_the_counter_is_the_power_over_time_across_wraps() {
        let mut sensor = sensor(2);
        let mut meter = Meter::new(sensor.counters()[0]);
        let mut reading = Reading::default();
        sensor.read(&Activity::default(), &mut reading);
        meter.advance(reading.counters[0], 0);
        for _ in 0..10_000 {
            sensor.read(&busy(2.0), &mut reading);
            assert!(!meter.advance(reading.counters[0], 10_000).gap);
        }
        // 19 W for 100 s crosses the wrap, which comes after 3 J.
        let joules = meter.total() as f64 * 1e-9;
        assert!((joules - 1_900.0).abs() < 0.05, "{joules}");
    }

    #[test]
    fn power_follows_the_knots_and_the_power_class() {
        let sensor = sensor(4);
        let at = |activity| sensor.power_at(&activity, None);
        assert!((at(busy(0.0)) - 10.0).abs() < 1e-9);
        assert!((at(busy(1.0)) - 14.5).abs() < 1e-9);
        assert!((at(busy(0.5)) - (10.0 + 4.5 * 0.716)).abs() < 1e-9);
        assert!((at(busy(3.1)) - (10.0 + 4.5 * 3.227)).abs() < 1e-6);
        assert!((at(busy(9.0)) - 28.0).abs() < 1e-9, "no more cores than there are");
        let hot = Activity { agents_weighted_us: 18_000, ..busy(1.0) };
        assert!((at(hot) - (10.0 + 4.5 * 1.8)).abs() < 1e-9);
        let others = Activity { others_us: 10_000, ..busy(1.0) };
        assert!((at(others) - 19.0).abs() < 1e-9, "other processes heat the machine too");
    }

    #[test]
    fn it_warms_towards_the_plants_equilibrium_in_whole_degrees() {
        let mut sensor = sensor(8);
        let mut last = Celsius(0.0);
        let mut reading = Reading::default();
        for _ in 0..60_000 {
            sensor.read(&busy(8.0), &mut reading);
            let temperature = reading.temperature.unwrap();
            assert!((temperature.celsius.0 - temperature.celsius.0.round()).abs() < 1e-9);
            assert!(temperature.celsius.0 >= last.0);
            last = temperature.celsius;
        }
        // 46 W × 0.69 K/W above 35 °C.
        assert!((sensor.temperature().0 - (35.0 + 46.0 * 0.69)).abs() < 0.01, "{}", sensor.temperature());
    }

    #[test]
    fn it_follows_the_clock_where_its_profile_knows_how() {
        let folder = tempfile::tempdir().unwrap();
        let cpufreq = folder.path().join("sys/devices/system/cpu/cpu0/cpufreq");
        std::fs::create_dir_all(&cpufreq).unwrap();
        let file = cpufreq.join("scaling_cur_freq");
        std::fs::write(&file, "1500000\n").unwrap();
        let frequency = Some(Frequency { reference: Megahertz(3_000.0), gamma: 2.0 });
        let power = PowerModel { frequency, ..PowerModel::generic(Watts(10.0), Watts(4.0)) };
        let root = Root::tree(folder.path());
        let mut sensor = ModelSensor::new(ModelConfig { power, ..ModelConfig::default() }).with_clock(&root);
        let mut reading = Reading::default();
        sensor.read(&busy(1.0), &mut reading);
        assert!((sensor.power - 11.0).abs() < 1e-9, "half the clock, a quarter of the power: {}", sensor.power);
        std::fs::write(&file, "3000000\n").unwrap();
        sensor.read(&busy(1.0), &mut reading);
        assert!((sensor.power - 14.0).abs() < 1e-9, "{}", sensor.power);
    }

    #[test]
    fn it_says_what_it_is() {
        let mut sensor = sensor(1);
        let mut reading = Reading::default();
        sensor.read(&busy(1.0), &mut reading);
        let (counter, temperature) = (sensor.counters()[0], reading.temperature.unwrap());
        assert_eq!((counter.source, counter.quality), (Source::Model, Quality::Modelled));
        assert_eq!((temperature.source, temperature.quality), (Source::Model, Quality::Modelled));
    }
}
