//! A two-node Foster model: `T = T_ambient + θ₁ + θ₂`, `dθᵢ/dt = (Rᵢ·P − θᵢ)/τᵢ`.
//!
//! One node is the die and its heat spreader (0.3–3.5 s), the other the sink and its airflow (20–100 s); a single time
//! constant is wrong at one end or the other. The step is the exact solution for constant power over the step,
//! `θᵢ ← aᵢθᵢ + Rᵢ(1−aᵢ)P` with `aᵢ = exp(−Δt/τᵢ)`, so it is stable for any step.

use serde::{Deserialize, Serialize};

use crate::units::{Celsius, Watts};

/// One exponential of the thermal step response.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FosterNode {
    /// Thermal resistance in kelvin per watt.
    pub resistance: f64,
    /// Time constant in seconds.
    pub tau: f64,
}

impl FosterNode {
    /// The temperature rise after `dt` seconds at `power`, starting from `rise`.
    #[must_use]
    pub fn step(&self, rise: f64, power: Watts, dt: f64) -> f64 {
        let keep = libm::exp(-dt / self.tau);
        keep * rise + self.resistance * (1.0 - keep) * power.0
    }
}

/// The constants of a plant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlantModel {
    /// The air around the machine.
    pub ambient: Celsius,
    /// Die and heat spreader.
    pub fast: FosterNode,
    /// Sink and airflow.
    pub slow: FosterNode,
}

impl Default for PlantModel {
    /// A 65 W socket that reaches 80 °C at 65 W from 35 °C air: a design choice, not a measurement.
    fn default() -> Self {
        Self {
            ambient: Celsius(35.0),
            fast: FosterNode { resistance: 0.35, tau: 0.8 },
            slow: FosterNode { resistance: 0.34, tau: 40.0 },
        }
    }
}

impl PlantModel {
    /// The power at which the plant settles at `temperature`.
    #[must_use]
    pub fn sustainable(&self, temperature: Celsius) -> Watts {
        Watts((temperature.0 - self.ambient.0) / (self.fast.resistance + self.slow.resistance))
    }
}

/// A plant at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plant {
    /// Its constants.
    pub model: PlantModel,
    /// Rise of the fast node above the slow one, in kelvin.
    pub fast: f64,
    /// Rise of the slow node above ambient, in kelvin.
    pub slow: f64,
}

impl Plant {
    /// A plant in equilibrium at `power`.
    #[must_use]
    pub fn settled(model: PlantModel, power: Watts) -> Self {
        Self { model, fast: model.fast.resistance * power.0, slow: model.slow.resistance * power.0 }
    }

    /// The die temperature.
    #[must_use]
    pub fn temperature(&self) -> Celsius {
        Celsius(self.model.ambient.0 + self.fast + self.slow)
    }

    /// Moves `dt` seconds on at constant `power`.
    pub fn step(&mut self, power: Watts, dt: f64) {
        self.fast = self.model.fast.step(self.fast, power, dt);
        self.slow = self.model.slow.step(self.slow, power, dt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_is_exact_whatever_its_length() {
        let model = PlantModel::default();
        let mut fine = Plant::settled(model, Watts(10.0));
        let mut coarse = fine;
        for _ in 0..1_000 {
            fine.step(Watts(65.0), 0.01);
        }
        coarse.step(Watts(65.0), 10.0);
        assert!((fine.temperature().0 - coarse.temperature().0).abs() < 1e-9);
    }

    #[test]
    fn it_settles_at_the_sum_of_its_resistances() {
        let mut plant = Plant::settled(PlantModel::default(), Watts(0.0));
        plant.step(Watts(65.0), 10_000.0);
        assert!((plant.temperature().0 - 79.85).abs() < 1e-6);
        assert!((plant.model.sustainable(Celsius(79.85)).0 - 65.0).abs() < 1e-9);
    }
}
