//! Auto-tuning by relay (Åström & Hägglund, *Automatica* 20(5), 1984), as a state machine without a clock.
//!
//! ```text
//!   Rest ─► Heat ─► Swing: full load below centre − ε, none above centre + ε ─► Done
//!     │       │        └────────► Failed: hotter than it may be, no swing, time over
//!     └───────┴───────────────────────────────────┘
//! ```
//!
//! The load is switched so that temperature swings around a centre. From the swing's amplitude `a`, its period `T_u`, the
//! hysteresis `ε` and the amplitude `d` of power follow
//!
//! ```text
//!   K_u = 4d / (π·√(a² − ε²))                         the gain at which the loop would oscillate by itself
//!   K_c = 0.31·K_u,  T_i = 2.2·T_u                    Tyreus & Luyben, for plants dominated by lag
//!   slope = 4a / (T_u·d),  θ = (a − ε)·T_u / (4a)     the plant near the swing as an integrator with a delay
//! ```
//!
//! `slope` is the fast node's `R/τ`, which sets the hard loop's gain, and `θ` is the delay that SIMC needs: thermometer, tick
//! and actuator together.

use crate::sensor::Temperature;
use crate::units::{Celsius, Watts};

/// How a tuning run is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RelayPolicy {
    /// Nothing is tried above this: the run ends, and fails.
    pub abort: Celsius,
    /// All of it takes at most this long, in seconds.
    pub most_seconds: f64,
    /// The swings to be averaged.
    pub swings: u32,
}

impl Default for RelayPolicy {
    fn default() -> Self {
        Self { abort: Celsius(85.0), most_seconds: 60.0, swings: 6 }
    }
}

/// Why a run gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum RelayError {
    /// The thermometer gave nothing for a second.
    #[error("the thermometer fell silent: nothing can be tuned without one (`maxwell doctor` shows what there is)")]
    Silent,
    /// The load hardly warms the die.
    #[error(
        "full load warms the die by only {warmed:.1} K, and {needed:.0} K are needed to see anything between the thermometer's \
         steps: end what else heats the machine, or let it cool first"
    )]
    TooLittle {
        /// How much it did.
        warmed: f64,
        /// How much it takes.
        needed: f64,
    },
    /// Hotter than it may be.
    #[error("the die reached {reached}: the run was ended for its safety. Improve cooling, or give a higher limit")]
    TooHot {
        /// What was reached.
        reached: Celsius,
    },
    /// Time is over, and the die has not swung often enough.
    #[error(
        "only {swings} swings in {seconds:.0} s: this plant is too slow to be tuned in that time; give it more, or fit a trace with \
         `maxwell physics fit`"
    )]
    TooSlow {
        /// Swings seen.
        swings: u32,
        /// How long it took.
        seconds: f64,
    },
}

/// What a run found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// The ultimate gain, in watts per kelvin.
    pub ultimate_gain: f64,
    /// The ultimate period, in seconds.
    pub ultimate_period: f64,
    /// Tyreus and Luyben's gain, in watts per kelvin, and reset time, in seconds.
    pub gain: f64,
    /// See `gain`.
    pub reset_time: f64,
    /// How fast a watt warms the die, in kelvin per second.
    pub slope: f64,
    /// The loop's delay, in seconds.
    pub delay: f64,
    /// Half of the temperature's swing, in kelvin.
    pub amplitude: f64,
    /// The swings averaged.
    pub swings: u32,
}

/// What the load should do now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Relay {
    /// Work on all cores, or on none.
    Load(bool),
    /// The run is over.
    Done(Tuning),
    /// The run is over and found nothing.
    Failed(RelayError),
}

/// Seconds of rest and of full load before the swings.
const REST: f64 = 4.0;
const HEAT: f64 = 8.0;
/// The least that full load must warm the die, in kelvin: steps of 1 °C show nothing below (and with hysteresis on both
/// sides the swing needs room).
const LEAST_RISE: f64 = 8.0;
/// The centre lies this far up between rest and heat; the hysteresis is this share of the way.
const CENTRE: f64 = 0.5;
const HYSTERESIS: f64 = 0.15;
/// Swings before the first that counts.
const WARM_UP: u32 = 1;
/// A thermometer silent for longer than this, in seconds, ends the run.
const SILENT: f64 = 1.0;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Rest,
    Heat { coolest: f64 },
    Swing { centre: f64, hysteresis: f64 },
}

/// A tuning run.
#[derive(Clone, Debug)]
pub struct RelayTuner {
    policy: RelayPolicy,
    phase: Phase,
    elapsed: f64,
    in_phase: f64,
    silent: f64,
    load: bool,
    /// The half swing that is running: its extreme, how long it has lasted, and the power drawn meanwhile.
    extreme: f64,
    half: f64,
    power: (f64, f64),
    halves: u32,
    /// Sums over the half swings that count: durations, extremes and powers, with load and without.
    duration: f64,
    top: (f64, u32),
    bottom: (f64, u32),
    loaded: (f64, f64),
    idle: (f64, f64),
}

impl RelayTuner {
    /// A run that begins with rest.
    #[must_use]
    pub fn new(policy: RelayPolicy) -> Self {
        Self {
            policy,
            phase: Phase::Rest,
            elapsed: 0.0,
            in_phase: 0.0,
            silent: 0.0,
            load: false,
            extreme: 0.0,
            half: 0.0,
            power: (0.0, 0.0),
            halves: 0,
            duration: 0.0,
            top: (0.0, 0),
            bottom: (0.0, 0),
            loaded: (0.0, 0.0),
            idle: (0.0, 0.0),
        }
    }

    /// Seconds since the run began.
    #[must_use]
    pub fn elapsed(&self) -> f64 {
        self.elapsed
    }

    /// Whole swings that count so far.
    #[must_use]
    pub fn swings(&self) -> u32 {
        self.halves.saturating_sub(2 * WARM_UP) / 2
    }

    /// `dt` seconds passed, drawing `power`; the thermometer shows `sensor`.
    pub fn step(&mut self, dt: f64, sensor: Option<Temperature>, power: Watts) -> Relay {
        self.elapsed += dt;
        self.in_phase += dt;
        let Some(shown) = sensor.filter(|shown| shown.celsius.0.is_finite()) else {
            self.silent += dt;
            let failed = self.silent > SILENT;
            return if failed { Relay::Failed(RelayError::Silent) } else { Relay::Load(false) };
        };
        self.silent = 0.0;
        let t = shown.celsius.0 + shown.resolution / 2.0;
        if t > self.policy.abort.0 {
            return Relay::Failed(RelayError::TooHot { reached: shown.celsius });
        }
        if self.elapsed > self.policy.most_seconds {
            let (swings, seconds) = (self.swings(), self.elapsed);
            return Relay::Failed(RelayError::TooSlow { swings, seconds });
        }
        match self.phase {
            Phase::Rest if self.in_phase >= REST => {
                self.phase = Phase::Heat { coolest: t };
                self.in_phase = 0.0;
                self.load = true;
            }
            Phase::Heat { coolest } if self.in_phase >= HEAT || t > self.policy.abort.0 - 2.0 => {
                let warmed = t - coolest;
                if warmed < LEAST_RISE * shown.resolution {
                    let needed = LEAST_RISE * shown.resolution;
                    return Relay::Failed(RelayError::TooLittle { warmed, needed });
                }
                let hysteresis = (HYSTERESIS * warmed).max(1.5 * shown.resolution);
                self.phase = Phase::Swing { centre: coolest + CENTRE * warmed, hysteresis };
                (self.load, self.extreme, self.half, self.power) = (false, t, 0.0, (0.0, 0.0));
            }
            Phase::Swing { centre, hysteresis } => {
                self.swing(dt, t, power, centre, hysteresis);
                if self.swings() >= self.policy.swings {
                    return Relay::Done(self.evaluate(hysteresis));
                }
            }
            Phase::Rest | Phase::Heat { .. } => {}
        }
        Relay::Load(self.load)
    }

    fn swing(&mut self, dt: f64, t: f64, power: Watts, centre: f64, hysteresis: f64) {
        self.half += dt;
        self.power = (self.power.0 + power.0 * dt, self.power.1 + dt);
        // After the load has gone the die first goes on to its highest, and the other way round.
        self.extreme = if self.load { self.extreme.min(t) } else { self.extreme.max(t) };
        let crossed = if self.load { t > centre + hysteresis } else { t < centre - hysteresis };
        if !crossed {
            return;
        }
        if self.halves >= 2 * WARM_UP {
            self.duration += self.half;
            let (extremes, powers) =
                if self.load { (&mut self.bottom, &mut self.loaded) } else { (&mut self.top, &mut self.idle) };
            *extremes = (extremes.0 + self.extreme, extremes.1 + 1);
            *powers = (powers.0 + self.power.0, powers.1 + self.power.1);
        }
        self.halves += 1;
        self.load = !self.load;
        (self.extreme, self.half, self.power) = (t, 0.0, (0.0, 0.0));
    }

    fn evaluate(&self, hysteresis: f64) -> Tuning {
        let swings = self.swings();
        let mean = |(sum, count): (f64, u32)| sum / f64::from(count.max(1));
        let period = self.duration / f64::from(swings.max(1));
        // An extreme shorter than the hysteresis is the thermometer's rounding.
        let amplitude = ((mean(self.top) - mean(self.bottom)) / 2.0).max(hysteresis * 1.05);
        let watts = |(energy, time): (f64, f64)| energy / time.max(1e-9);
        let drive = ((watts(self.loaded) - watts(self.idle)) / 2.0).max(1e-3);
        let describing = libm::sqrt(amplitude * amplitude - hysteresis * hysteresis);
        let ultimate_gain = 4.0 * drive / (std::f64::consts::PI * describing);
        Tuning {
            ultimate_gain,
            ultimate_period: period,
            gain: 0.31 * ultimate_gain,
            reset_time: 2.2 * period,
            slope: 4.0 * amplitude / (period * drive),
            delay: (amplitude - hysteresis) * period / (4.0 * amplitude),
            amplitude,
            swings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plant::{Plant, PlantModel};
    use super::*;
    use crate::sensor::{Quality, Source};

    struct Rig {
        plant: Plant,
        idle: f64,
        full: f64,
        resolution: f64,
        /// Ticks between a decision and its effect.
        delay: usize,
    }

    impl Rig {
        fn new() -> Self {
            let plant = Plant::settled(PlantModel::default(), Watts(15.0));
            Self { plant, idle: 15.0, full: 95.0, resolution: 1.0, delay: 2 }
        }

        fn tune(&mut self, policy: RelayPolicy) -> (Result<Tuning, RelayError>, f64, f64) {
            let mut tuner = RelayTuner::new(policy);
            let mut loads = std::collections::VecDeque::from(vec![false; self.delay]);
            let mut peak = f64::MIN;
            for _ in 0..100_000 {
                let load = loads.pop_front().unwrap();
                let power = Watts(if load { self.full } else { self.idle });
                self.plant.step(power, 0.01);
                let t = self.plant.temperature().0;
                peak = peak.max(t);
                let shown = Celsius((t / self.resolution).floor() * self.resolution);
                let fresh = Temperature::fresh(shown, Source::Model, Quality::Modelled);
                let sensor = Temperature { resolution: self.resolution, ..fresh };
                match tuner.step(0.01, Some(sensor), power) {
                    Relay::Load(load) => loads.push_back(load),
                    Relay::Done(tuning) => return (Ok(tuning), tuner.elapsed(), peak),
                    Relay::Failed(error) => return (Err(error), tuner.elapsed(), peak),
                }
            }
            panic!("a run is bounded");
        }
    }

    #[test]
    fn the_slope_and_the_gains_of_a_known_plant_are_found_within_a_minute() {
        for tau in [0.4, 0.8, 1.6] {
            let mut rig = Rig::new();
            rig.plant.model.fast.tau = tau;
            let (tuning, seconds, _) = rig.tune(RelayPolicy::default());
            let tuning = tuning.unwrap();
            assert!(seconds <= 60.0, "{seconds}");
            let truth = rig.plant.model.fast.resistance / tau;
            assert!((0.5..=1.6).contains(&(tuning.slope / truth)), "slope {} for {truth} at tau {tau}", tuning.slope);
            assert!(tuning.delay > 0.0 && tuning.delay < 0.25 * tau + 0.1, "{tuning:?}");
            assert!((tuning.gain / tuning.ultimate_gain - 0.31).abs() < 1e-9);
            assert!((tuning.reset_time / tuning.ultimate_period - 2.2).abs() < 1e-9);
        }
    }

    #[test]
    fn a_longer_delay_is_seen() {
        let delay = |ticks| {
            let mut rig = Rig { delay: ticks, resolution: 0.1, ..Rig::new() };
            rig.tune(RelayPolicy::default()).0.unwrap().delay
        };
        assert!(delay(20) > delay(2) + 0.1, "{} {}", delay(20), delay(2));
    }

    #[test]
    fn it_never_goes_beyond_its_limit_and_says_why_it_failed() {
        let mut rig = Rig::new();
        let policy = RelayPolicy { abort: Celsius(60.0), ..RelayPolicy::default() };
        let (result, _, peak) = rig.tune(policy);
        assert!(peak <= 62.0, "{peak}");
        assert!(result.is_ok() || matches!(result, Err(RelayError::TooHot { .. })));
        let mut hot = Rig::new();
        let policy = RelayPolicy { abort: Celsius(40.0), ..RelayPolicy::default() };
        assert!(matches!(hot.tune(policy).0, Err(RelayError::TooHot { .. })));
        let mut weak = Rig { full: 18.0, ..Rig::new() };
        assert!(matches!(weak.tune(RelayPolicy::default()).0, Err(RelayError::TooLittle { .. })));
        let mut slow = Rig::new();
        slow.plant.model.fast.tau = 30.0;
        slow.full = 300.0;
        let slow = slow.tune(RelayPolicy { abort: Celsius(150.0), ..RelayPolicy::default() });
        assert!(matches!(slow.0, Err(RelayError::TooSlow { .. })), "{slow:?}");
        let mut tuner = RelayTuner::new(RelayPolicy::default());
        let end =
            (0..200).map(|_| tuner.step(0.01, None, Watts(1.0))).find(|relay| !matches!(relay, Relay::Load(false)));
        assert_eq!(end, Some(Relay::Failed(RelayError::Silent)));
    }
}
