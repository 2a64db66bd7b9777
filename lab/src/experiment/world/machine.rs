//! The modelled machine: what it burns, how it warms, and what its sensors show.

use maxwell_core::sensor::{Counter, CounterReading, CounterSpec, Domain, Quality, Reading, Source, Temperature};
use maxwell_core::thermal::{FosterNode, Plant, PlantModel};
use maxwell_core::units::{Celsius, Watts};

use super::TICK;
use super::body::Body;
use crate::experiment::plan::{Machine, Plan};

/// Power of memory that is held, in watts for 10⁹ bytes (Cloud Carbon Footprint's coefficient; the market's rent).
pub(super) const WATTS_PER_GB: f64 = 0.392;
/// Where the die settles when all cores are busy: cool enough that heat rations nobody. The thermal experiments are elsewhere
/// (docs/thermal.md).
pub(super) const FULL: Celsius = Celsius(65.0);

/// The default plant, scaled so that this machine settles at [`FULL`] when all its cores are busy.
pub(super) fn plant(machine: &Machine) -> PlantModel {
    let plant = PlantModel::default();
    let full = machine.idle.0 + machine.core.0 * f64::from(machine.slots);
    let factor = plant.sustainable(FULL).0 / full.max(0.001);
    let node = |node: FosterNode| FosterNode { resistance: node.resistance * factor, tau: node.tau };
    PlantModel { fast: node(plant.fast), slow: node(plant.slow), ..plant }
}

/// Power in one tick.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Power {
    pub(super) watts: f64,
    pub(super) idle: f64,
    pub(super) leeches: f64,
    pub(super) celsius: f64,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Rig {
    machine: Machine,
    plant: Plant,
    joules: f64,
    counters: [Counter; 1],
}

impl Rig {
    pub(super) fn new(plan: &Plan) -> Self {
        let machine = plan.machine;
        let full = machine.idle.0 + 4.0 * machine.core.0 * f64::from(machine.slots);
        let counter = Counter {
            domain: Domain::Machine,
            source: Source::Model,
            quality: Quality::Modelled,
            spec: CounterSpec::NANOJOULES,
            max_power: Watts(10.0 * full + 10_000.0),
            refresh_ms: 1,
        };
        Self { machine, plant: Plant::settled(plant(&machine), machine.idle), joules: 0.0, counters: [counter] }
    }

    pub(super) fn counters(&self) -> &[Counter] {
        &self.counters
    }

    /// One tick in which bodies used what they used.
    pub(super) fn tick(&mut self, bodies: &[Body]) -> Power {
        let mut power = Power { watts: self.machine.idle.0, idle: self.machine.idle.0, ..Power::default() };
        for body in bodies.iter().filter(|body| body.alive || body.used_us > 0) {
            let cores = body.used_us as f64 * 1e-6 / TICK;
            let watts = self.machine.core.0 * body.class * cores + WATTS_PER_GB * body.held as f64 * 1e-9;
            power.watts += watts;
            if !body.honest() {
                power.leeches += watts;
            }
        }
        self.plant.step(Watts(power.watts), TICK);
        self.joules += power.watts * TICK;
        power.celsius = self.plant.temperature().0;
        power
    }

    /// What the sensors show now: a counter of nanojoules, and a thermometer of whole degrees.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "energy is positive and far below 2^64 nJ"
    )]
    pub(super) fn read(&self) -> Reading {
        let shown = Celsius(self.plant.temperature().0.floor());
        Reading {
            counters: vec![CounterReading { raw: Some((self.joules * 1e9) as u64), age_ms: 0 }],
            temperature: Some(Temperature::fresh(shown, Source::Model, Quality::Modelled)),
        }
    }
}
