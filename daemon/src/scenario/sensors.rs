//! `[sensors]`: which sensors are used, and what the machine is taken to be where they say nothing.

use std::path::Path;

use maxwell_core::thermal::{PlantModel, ThermalPolicy};
use maxwell_core::units::{Price, Watts};
use maxwell_physics::power::PowerModel;
use maxwell_physics::profile::Profile;
use maxwell_physics::{Choice, ModelConfig, cpu};

use super::file::{RawMachine, RawSensors};
use super::{ScenarioError, Source};

/// What the machine is taken to be before `[machine]` says otherwise: its profile, or what its family of processors usually
/// burns.
pub(super) struct Assumed {
    power: PowerModel,
    pub(super) plant: PlantModel,
    pub(super) delay: f64,
    threads: u16,
}

impl Assumed {
    pub(super) fn new(source: &Source<'_>, raw: &RawSensors) -> Result<Self, ScenarioError> {
        let default = ThermalPolicy::default();
        let Some(name) = &raw.model else {
            let cpu = cpu::Cpu::parse(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
            let power = cpu.default_power().power;
            return Ok(Self { power, plant: default.model, delay: default.delay, threads: cpu.threads });
        };
        let path = source.path.parent().unwrap_or_else(|| Path::new("")).join(name.get_ref());
        let profile = Profile::load(&path).map_err(|error| source.wrong(name.span(), error.to_string()))?;
        Ok(Self {
            power: profile.power,
            plant: profile.plant.unwrap_or(default.model),
            delay: profile.delay.unwrap_or(default.delay),
            threads: profile.threads,
        })
    }

    /// Power of the idle machine.
    pub(super) fn idle(&self) -> Watts {
        self.power.idle
    }

    /// What one busy core burns.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a core's milliwatts, `as` saturates")]
    pub(super) fn par(&self) -> Price {
        Price((self.power.core(1.0).0 * 1_000.0).round() as u64).max(Price(1))
    }

    /// The machine as the model sees it, with what `[machine]` says about it.
    pub(super) fn model(self, machine: &RawMachine, thermal: &ThermalPolicy) -> ModelConfig {
        let power = match &machine.par {
            Some(_) => PowerModel::generic(thermal.idle, Watts::from(thermal.par)),
            None => PowerModel { idle: thermal.idle, ..self.power },
        };
        // Who says how many slots there are describes the whole machine, unless a model does.
        let cores = if machine.slots.is_some() { thermal.slots } else { thermal.slots.max(self.threads) };
        ModelConfig { plant: thermal.model, power, cores, ..ModelConfig::default() }
    }
}

/// The sensors that are asked for.
pub(super) fn choice(source: &Source<'_>, raw: &RawSensors) -> Result<Choice, ScenarioError> {
    let Some(words) = &raw.r#use else { return Ok(Choice::default()) };
    words.get_ref().parse().map_err(|error: maxwell_physics::SensorError| source.wrong(words.span(), error.to_string()))
}
