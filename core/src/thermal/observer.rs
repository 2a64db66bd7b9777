//! The state of the plant, estimated from power and a coarse thermometer.
//!
//! Two Foster nodes are driven by measured power; what they get wrong is an `offset`, corrected by what the thermometer
//! shows. A thermometer in steps of 1 °C says most when it changes its mind: held near a step, its average over a tenth
//! of a second is good to a tenth of a kelvin, so the correction is quick and linear, without a dead zone; an error of more
//! than a step is corrected at once. A thermometer
//! that is renewed once a second is compared with what the observer believed when the value was new, not with what it
//! believes now.

use serde::{Deserialize, Serialize};

use super::plant::{FosterNode, Plant, PlantModel};
use crate::sensor::Temperature;
use crate::units::{Celsius, Watts};

/// Time constant of the correction, in seconds: long enough to average the thermometer's steps, short beside the die.
const CORRECTION_TAU: f64 = 0.12;
/// A slow thermometer's single value corrects at most this share of the error: the model may be wrong by as much.
const MOST_OF_ONE_VALUE: f64 = 0.6;
/// How far back beliefs are kept: more than the slowest thermometer's age.
const HISTORY: usize = 256;
/// Plants that differ from the model as far as is plausible.
pub(super) const HYPOTHESES: usize = 3;
const SLUGGISH: f64 = 1.0 / 3.0;
const QUICKNESS: [f64; HYPOTHESES] = [1.0 / 3.0, 1.0, 3.0];
/// Which of them is as quick as believed.
const AS_BELIEVED: usize = 1;

/// Estimates the plant's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Observer {
    plant: Plant,
    /// What the model gets wrong, as a shift of ambient, in kelvin.
    offset: f64,
    /// The model's temperature, without the offset, at the last ticks; the newest at `newest`.
    history: Vec<f64>,
    newest: usize,
    /// When the last value was taken that has been used, in seconds of the observer's own time.
    used: f64,
    now: f64,
    begun: bool,
    /// How far power alone has moved the die, in kelvin, if it is as sluggish as can be: a third of the resistance, and
    /// three times, once and a third of the time constants.
    hypotheses: [f64; HYPOTHESES],
    rises: [(f64, f64); HYPOTHESES],
    /// What the hypotheses are thirds of: the given model, or the learnt one where that warms more. A thermometer that lies
    /// must not teach that lies are true.
    reference: PlantModel,
}

impl Observer {
    pub(super) fn new(model: PlantModel, idle: Watts) -> Self {
        let plant = Plant::settled(model, idle);
        let history = vec![plant.temperature().0; HISTORY];
        let rises = [(plant.fast, plant.slow); HYPOTHESES];
        Self {
            plant,
            offset: 0.0,
            history,
            newest: 0,
            used: f64::NEG_INFINITY,
            now: 0.0,
            begun: false,
            hypotheses: [0.0; HYPOTHESES],
            rises,
            reference: model,
        }
    }

    /// The best estimate of the die temperature.
    pub(super) fn temperature(&self) -> Celsius {
        Celsius(self.plant.temperature().0 + self.offset)
    }

    /// How far power has moved the die since the beginning, on every plausible plant: what a working thermometer must show.
    pub(super) fn hypotheses(&self) -> &[f64; HYPOTHESES] {
        &self.hypotheses
    }

    /// How far power has moved the die since the beginning, by the reference.
    pub(super) fn moved(&self) -> f64 {
        self.hypotheses[AS_BELIEVED] / SLUGGISH
    }

    /// What the reference alone says, whatever was shown.
    pub(super) fn uncorrected(&self) -> Celsius {
        let (fast, slow) = self.rises[AS_BELIEVED];
        Celsius(self.reference.ambient.0 + fast + slow)
    }

    /// The air, as the operator gave it.
    pub(super) fn ambient(&self) -> Celsius {
        self.reference.ambient
    }

    /// How fast the temperature moves at `power`, in kelvin per second.
    pub(super) fn slope(&self, power: Watts) -> f64 {
        let model = &self.plant.model;
        (model.fast.resistance * power.0 - self.plant.fast) / model.fast.tau
            + (model.slow.resistance * power.0 - self.plant.slow) / model.slow.tau
    }

    /// Moves on by `dt` seconds at `power`.
    pub(super) fn advance(&mut self, dt: f64, power: Watts) {
        self.plant.step(power, dt);
        let model = self.reference;
        let slower = |node: FosterNode, factor| FosterNode { tau: node.tau * factor, ..node };
        for ((moved, (fast, slow)), factor) in self.hypotheses.iter_mut().zip(&mut self.rises).zip(QUICKNESS) {
            let before = *fast + *slow;
            *fast = slower(model.fast, factor).step(*fast, power, dt);
            *slow = slower(model.slow, factor).step(*slow, power, dt);
            *moved += SLUGGISH * (*fast + *slow - before);
        }
        self.now += dt;
        self.newest = (self.newest + 1) % HISTORY;
        self.history[self.newest] = self.plant.temperature().0;
    }

    /// Uses a value of the thermometer, once. `dt` is the length of the tick.
    pub(super) fn correct(&mut self, dt: f64, shown: Temperature) {
        let taken = self.now - f64::from(shown.age_ms) * 1e-3;
        // The same value again: its age has only grown.
        if taken <= self.used + dt / 2.0 {
            return;
        }
        let since = if self.begun { taken - self.used } else { f64::INFINITY };
        self.used = taken;
        // A value stands for one whole step of the thermometer; its middle is the best guess.
        let innovation = shown.celsius.0 + shown.resolution / 2.0 - (self.believed(dt, shown.age_ms) + self.offset);
        // The first value is believed at once: nobody knows how long the machine has been at work.
        let gain = if self.begun { (1.0 - libm::exp(-since / CORRECTION_TAU)).min(MOST_OF_ONE_VALUE) } else { 1.0 };
        // Within a step it is averaged; what lies beyond a step is no rounding, and believed at once.
        let step = innovation.clamp(-shown.resolution, shown.resolution);
        self.offset += innovation - step + gain * step;
        self.begun = true;
    }

    /// What the model said that many milliseconds ago.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the history's length")]
    fn believed(&self, dt: f64, age_ms: u32) -> f64 {
        let ticks = (f64::from(age_ms) * 1e-3 / dt).min((HISTORY - 1) as f64) as usize;
        self.history[(self.newest + HISTORY - ticks) % HISTORY]
    }

    /// Replaces the model; the estimate does not jump.
    pub(super) fn remodel(&mut self, model: PlantModel, fast: f64, slow: f64) {
        let before = self.temperature().0;
        let shift = self.plant.temperature().0;
        self.plant = Plant { model, fast, slow };
        let shift = self.plant.temperature().0 - shift;
        self.offset = before - self.plant.temperature().0;
        for belief in &mut self.history {
            *belief += shift;
        }
        let (old, ambient) = (self.reference, self.reference.ambient);
        let warms = |model: &PlantModel| model.fast.resistance + model.slow.resistance;
        if warms(&model) > warms(&old) {
            self.reference = PlantModel { ambient, ..model };
            for (fast, slow) in &mut self.rises {
                *fast *= model.fast.resistance / old.fast.resistance;
                *slow *= model.slow.resistance / old.slow.resistance;
            }
        }
    }

    /// Forgets what it believed: the next value is believed at once.
    pub(super) fn doubt(&mut self) {
        self.begun = false;
    }
}
