//! One governor on one case.

use maxwell_core::thermal::PlantModel;
use maxwell_core::units::Price;

use super::case::Case;
use super::governor::Governor;
use super::metrics::{Gauge, Metrics};
use super::rig::{Rig, TICK_US};

/// One moment of a trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Virtual time.
    pub seconds: f64,
    /// The true temperature.
    pub celsius: f64,
    /// Cores at work.
    pub busy: f64,
    /// Agents that want one.
    pub active: u16,
    /// What a core-second costs.
    pub price: Option<Price>,
    /// Everything is frozen.
    pub tripped: bool,
}

/// A finished trial.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Which governor.
    pub governor: &'static str,
    /// Its figures.
    pub metrics: Metrics,
    /// What happened, every tenth of a second.
    pub trace: Vec<Sample>,
}

/// Ticks between samples that are kept.
const KEEP: u64 = 10;

impl Trial {
    /// Runs a case from beginning to end.
    pub fn run(case: &Case, rig: &mut Rig, governor: &mut dyn Governor) -> Self {
        let mut gauge = Gauge::default();
        let mut trace = Vec::new();
        let mut core_us = 0;
        let mut fan = case.fan_fails;
        for n in 1u64.. {
            let seconds = n as f64 * TICK_US as f64 * 1e-6;
            if seconds > case.seconds {
                break;
            }
            if fan.is_some_and(|at| seconds >= at) {
                rig.replace_plant(case.plant_without_fan());
                fan = None;
            }
            let active = case.load.active(seconds);
            let reading = rig.tick(core_us);
            core_us = governor.tick(reading, active);
            let sample = Sample {
                seconds,
                celsius: rig.temperature().0,
                busy: core_us as f64 / TICK_US as f64,
                active,
                price: governor.price(),
                tripped: governor.tripped(),
            };
            gauge.tick(case, &sample);
            if n.is_multiple_of(KEEP) {
                trace.push(sample);
            }
        }
        let slope = |plant: PlantModel| plant.fast.resistance / plant.fast.tau;
        let slope_learnt = governor.learnt().map(|plant| slope(plant) / slope(case.plant()));
        Self { governor: governor.name(), metrics: Metrics { slope_learnt, ..gauge.finish(case) }, trace }
    }
}
