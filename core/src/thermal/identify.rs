//! The plant's constants, learnt while the machine works.
//!
//! Given its two time constants, a Foster plant is linear in everything else:
//!
//! ```text
//!  T(t) = T_ambient + R₁·x₁(t) + R₂·x₂(t)        xᵢ = power, low-passed with τᵢ (unit gain, exact)
//! ```
//!
//! So a bank of low-passed powers is kept, five time constants for the die and five for the sink around the given model's;
//! for each of the 25 pairs least squares with exponential forgetting finds `(T_ambient, R₁, R₂)`, and the pair that
//! explains the thermometer best wins. The regressors hold power only, never the noisy temperature, so the estimate is
//! not biased by the thermometer's steps as autoregressive models are (Heuberger, Van den Hof & Wahlberg, *Modelling and
//! Identification with Rational Orthogonal Basis Functions*, 2005).
//!
//! What the data do not say is taken from the model in use: a ridge pulls every estimate towards it. A winner is used
//! only if temperature has moved by some kelvin (steps of 1 °C teach nothing otherwise), if it explains the data clearly better
//! than the model in use, and if it lies within a factor of eight of what the operator gave.

use serde::{Deserialize, Serialize};

use super::plant::{FosterNode, PlantModel};
use crate::units::{Celsius, Watts};

/// Time constants beside the given one.
const FACTORS: [f64; 5] = [1.0 / 3.0, 0.577_350_269_189_625_8, 1.0, 1.732_050_807_568_877_2, 3.0];
const BANK: usize = FACTORS.len();
/// Seconds between regressions.
const SAMPLE: f64 = 0.1;
/// Seconds after which a sample counts for 1/e.
const MEMORY: f64 = 120.0;
/// Seconds between decisions.
const DECIDE: f64 = 2.0;
/// The thermometer must have moved this much, in kelvin (standard deviation): 5 °C peak to peak of a sine.
const EXCITATION: f64 = 1.8;
/// A winner must leave at most this share of the squared error of the model in use.
const IMPROVEMENT: f64 = 0.8;
/// What a model may leave unexplained, in kelvin: the thermometer's steps leave 0.29 K.
const MOST_RESIDUAL: f64 = 1.0;
/// No resistance is believed that differs more than this from the given one.
const BELIEVABLE: f64 = 8.0;
/// How firmly the model in use is believed: standard deviations of ambient in kelvin, and of the resistances relative to
/// themselves.
const PRIOR_AMBIENT: f64 = 8.0;
const PRIOR_RESISTANCE: f64 = 0.7;
/// Variance of the thermometer's steps, times the samples that share one step.
const NOISE: f64 = 1.0;

/// Sums for least squares with three unknowns, relative to the model in use at the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    /// Σ φφᵀ, upper triangle: 00 01 02 11 12 22.
    matrix: [f64; 6],
    /// Σ φy.
    vector: [f64; 3],
}

impl Sums {
    fn add(&mut self, keep: f64, x1: f64, x2: f64, y: f64) {
        let products = [1.0, x1, x2, x1 * x1, x1 * x2, x2 * x2];
        for (sum, product) in self.matrix.iter_mut().zip(products) {
            *sum = *sum * keep + product;
        }
        for (sum, product) in self.vector.iter_mut().zip([y, x1 * y, x2 * y]) {
            *sum = *sum * keep + product;
        }
    }

    /// Σ(y − θφ)², given Σy².
    fn residual(&self, theta: [f64; 3], squares: f64) -> f64 {
        let [a, b, c, d, e, f] = self.matrix;
        let [t, u, v] = theta;
        let quadratic = a * t * t + d * u * u + f * v * v + 2.0 * (b * t * u + c * t * v + e * u * v);
        let linear = self.vector[0] * t + self.vector[1] * u + self.vector[2] * v;
        (squares - 2.0 * linear + quadratic).max(0.0)
    }

    /// The least squares solution, pulled towards `prior` by `ridge`; `None` if there is none.
    fn solve(&self, prior: [f64; 3], ridge: [f64; 3]) -> Option<[f64; 3]> {
        let [a, b, c, d, e, f] = self.matrix;
        let (a, d, f) = (a + ridge[0], d + ridge[1], f + ridge[2]);
        let rhs: [f64; 3] = std::array::from_fn(|n| self.vector[n] + ridge[n] * prior[n]);
        // Cholesky of a symmetric positive definite 3×3 matrix.
        let l00 = a.sqrt();
        let (l10, l20) = (b / l00, c / l00);
        let l11 = (d - l10 * l10).sqrt();
        let l21 = (e - l20 * l10) / l11;
        let l22 = (f - l20 * l20 - l21 * l21).sqrt();
        let z0 = rhs[0] / l00;
        let z1 = (rhs[1] - l10 * z0) / l11;
        let z2 = (rhs[2] - l20 * z0 - l21 * z1) / l22;
        let v = z2 / l22;
        let u = (z1 - l21 * v) / l11;
        let t = (z0 - l10 * u - l20 * v) / l00;
        [t, u, v].iter().all(|x| x.is_finite()).then_some([t, u, v])
    }
}

/// Learns a plant's constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Identifier {
    given: PlantModel,
    model: PlantModel,
    /// Which pair of the bank it uses.
    pair: usize,
    /// Low-passed powers.
    fast: [f64; BANK],
    slow: [f64; BANK],
    sums: Vec<Sums>,
    squares: f64,
    weight: f64,
    mean: f64,
    /// Sums over the sample that is being taken, of temperature and of the bank's powers, and how many.
    sample: Vec<f64>,
    taken: u32,
    since_sample: f64,
    since_decision: f64,
    dt: f64,
    keep_fast: [f64; BANK],
    keep_slow: [f64; BANK],
    learnt: bool,
}

/// A sample: temperature, then the low-passed powers.
const WIDTH: usize = 1 + 2 * BANK;

impl Identifier {
    pub(super) fn new(given: PlantModel, idle: Watts) -> Self {
        let mut identifier = Self {
            given,
            model: given,
            pair: BANK / 2 * BANK + BANK / 2,
            fast: [idle.0; BANK],
            slow: [idle.0; BANK],
            sums: vec![Sums::default(); BANK * BANK],
            squares: 0.0,
            weight: 0.0,
            mean: 0.0,
            sample: vec![0.0; WIDTH],
            taken: 0,
            since_sample: 0.0,
            since_decision: 0.0,
            dt: 0.0,
            keep_fast: [0.0; BANK],
            keep_slow: [0.0; BANK],
            learnt: false,
        };
        identifier.set_dt(0.01);
        identifier
    }

    /// The model in use.
    pub(super) fn model(&self) -> PlantModel {
        self.model
    }

    /// Whether the model in use was learnt, not given.
    pub(super) fn learnt(&self) -> bool {
        self.learnt
    }

    /// The rises of the model's nodes, in kelvin.
    pub(super) fn rises(&self) -> (f64, f64) {
        let (fast, slow) = (self.fast[self.pair % BANK], self.slow[self.pair / BANK]);
        (self.model.fast.resistance * fast, self.model.slow.resistance * slow)
    }

    fn set_dt(&mut self, dt: f64) {
        if (dt - self.dt).abs() < 1e-12 {
            return;
        }
        self.dt = dt;
        let keep = |tau: f64| libm::exp(-dt / tau);
        self.keep_fast = FACTORS.map(|factor| keep(self.given.fast.tau * factor));
        self.keep_slow = FACTORS.map(|factor| keep(self.given.slow.tau * factor));
    }

    /// `dt` seconds passed at `power`; the thermometer shows `celsius` (the middle of its step), if it can be believed and was
    /// renewed. Returns whether the model in use has changed.
    pub(super) fn step(&mut self, dt: f64, power: Watts, celsius: Option<f64>) -> bool {
        self.set_dt(dt);
        let low_pass = |state: &mut f64, keep: f64| *state = keep * *state + (1.0 - keep) * power.0;
        self.fast.iter_mut().zip(self.keep_fast).for_each(|(state, keep)| low_pass(state, keep));
        self.slow.iter_mut().zip(self.keep_slow).for_each(|(state, keep)| low_pass(state, keep));
        self.since_sample += dt;
        self.since_decision += dt;
        if let Some(celsius) = celsius {
            let values = [celsius].into_iter().chain(self.fast).chain(self.slow);
            self.sample.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            self.taken += 1;
        }
        if self.since_sample >= SAMPLE && self.taken > 0 {
            self.regress();
        }
        if self.since_decision < DECIDE {
            return false;
        }
        self.since_decision = 0.0;
        self.decide()
    }

    /// Adds the sample's averages to the sums: averages of regressors belong to averages of temperature.
    fn regress(&mut self) {
        let count = f64::from(self.taken);
        let keep = libm::exp(-self.since_sample / MEMORY);
        let y = self.sample[0] / count;
        let x = |at: usize| self.sample[at] / count;
        for slow in 0..BANK {
            for fast in 0..BANK {
                self.sums[slow * BANK + fast].add(keep, x(1 + fast), x(1 + BANK + slow), y);
            }
        }
        self.squares = self.squares * keep + y * y;
        self.mean = self.mean * keep + y;
        self.weight = self.weight * keep + 1.0;
        self.sample.iter_mut().for_each(|sum| *sum = 0.0);
        self.taken = 0;
        self.since_sample = 0.0;
    }

    fn decide(&mut self) -> bool {
        let mean = self.mean / self.weight.max(1.0);
        let variance = self.squares / self.weight.max(1.0) - mean * mean;
        if self.weight < 50.0 || variance < EXCITATION * EXCITATION {
            return false;
        }
        let model = self.model;
        let prior = [model.ambient.0, model.fast.resistance, model.slow.resistance];
        let deviations = [PRIOR_AMBIENT, PRIOR_RESISTANCE * prior[1], PRIOR_RESISTANCE * prior[2]];
        let ridge = deviations.map(|deviation| NOISE / (deviation * deviation));
        let cost = |sums: &Sums, theta: [f64; 3]| {
            let pull: f64 = (0..3).map(|n| ridge[n] * (theta[n] - prior[n]) * (theta[n] - prior[n])).sum();
            sums.residual(theta, self.squares) + pull
        };
        // The model in use may move its ambient for free: the observer's offset does so all the time.
        let Some(shifted) = self.sums[self.pair].solve(prior, [1e-9, 1e12, 1e12]) else { return false };
        let in_use = self.sums[self.pair].residual(shifted, self.squares);
        let best = (0..BANK * BANK)
            .filter_map(|at| {
                let theta = self.sums[at].solve(prior, ridge)?;
                let far = |now: f64, given: f64| !(given / BELIEVABLE..=given * BELIEVABLE).contains(&now);
                let absurd = far(theta[1], self.given.fast.resistance) || far(theta[2], self.given.slow.resistance);
                (!absurd).then(|| (at, theta, cost(&self.sums[at], theta)))
            })
            .min_by(|a, b| a.2.total_cmp(&b.2));
        let Some((at, theta, cost)) = best else { return false };
        let residual = libm::sqrt(self.sums[at].residual(theta, self.squares) / self.weight);
        if residual > MOST_RESIDUAL || cost > IMPROVEMENT * in_use {
            return false;
        }
        let (fast, slow) = (FACTORS[at % BANK], FACTORS[at / BANK]);
        self.pair = at;
        self.model = PlantModel {
            ambient: Celsius(theta[0]),
            fast: FosterNode { resistance: theta[1], tau: self.given.fast.tau * fast },
            slow: FosterNode { resistance: theta[2], tau: self.given.slow.tau * slow },
        };
        self.learnt = true;
        true
    }
}
