//! From temperature to a reserve price and a supply of slots.
//!
//! ```text
//!   thermometer ─► Guard: can it be believed? ─► Observer ──► T̂ ──┬─► PI on power ─► watts ─► error diffusion ─► slots   (hard loop)
//!   power ─────────────────────────────────────►    ▲             │                      excess demand ┐
//!                                               Identifier        └─► PI on log-price, D on the model ─┴─► reserve      (soft loop)
//!   thermometer, T̂ ─────────────────────────────► trip at T_crit − 5 °C, until 5 °C below that                          (last line)
//! ```
//!
//! **Soft loop.** Log-price control: the price stays positive and reacts in proportion. Proportional and integral terms
//! act on the estimated die temperature; the derivative comes from the model state, never from the sensor, whose 1 °C
//! steps would read as 100 °C/s at a 10 ms tick. Anti-windup is back-calculation; `u` is slew-limited and never
//! negative, so the price never falls below the machine's own electricity. Demand that supply refuses is scarcity that the
//! price has not expressed yet; slots that find no buyer, and power that the die could bear beyond all slots, are plenty
//! that it has not: excess demand drives the integral (Walrasian tâtonnement). Where slots stay unsold, the price skips
//! whatever lies between two bids.
//!
//! **Hard loop.** Some bidders pay any price, and price takes seconds. A PI controller turns the estimated error into watts:
//!
//! ```text
//!   P = P_recent + K_p·(T_set − T̂)        P_recent = power actually drawn, low-passed with T_i
//! ```
//!
//! This is PI in automatic-reset form: the integral is the recent past of what the machine *did*, so it cannot wind up
//! while supply is at a bound or nobody buys. It needs no absolute model of the plant, only the slope `R/τ` of its fast
//! node. Watts divided by the measured power of a busy core are a fractional number of slots, dithered by error diffusion.
//!
//! **Trip.** At `T_crit − 5 °C`, or when the thermometer has been silent or unbelievable for a second, nothing runs,
//! whatever was paid.
//!
//! Gains follow SIMC (Skogestad 2003) on the fast node as it is identified: `K_c = τ/(K(τ_c + θ))`,
//! `T_i = min(τ, 4(τ_c + θ))`. For watts, `K = R`; for log-price, `K` is the temperature that one e-fold of price moves if
//! demand has unit elasticity.

use serde::{Deserialize, Serialize};

use super::guard::{Guard, Trust};
use super::identify::Identifier;
use super::observer::Observer;
use super::plant::PlantModel;
use crate::sensor::Temperature;
use crate::units::{Celsius, Price, Watts};

/// What the controller must know about the machine and its owner's wishes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThermalPolicy {
    /// The temperature that the price holds.
    pub set: Celsius,
    /// The temperature at which the hardware throttles or stops. The trip is 5 °C below.
    pub critical: Celsius,
    /// The best known model of the plant; errors are corrected by the observer.
    pub model: PlantModel,
    /// Power of the idle machine.
    pub idle: Watts,
    /// What a busy core burns, as a price: the reserve of a cool machine.
    pub par: Price,
    /// Cores on sale.
    pub slots: u16,
    /// The largest thermal stress: the reserve is at most `par · grid · exp(max_stress)`.
    pub max_stress: f64,
    /// The largest change of stress in a second.
    pub slew: f64,
    /// Delay of thermometer, tick and actuator together, in seconds.
    pub delay: f64,
}

impl Default for ThermalPolicy {
    fn default() -> Self {
        Self {
            set: Celsius(75.0),
            critical: Celsius(95.0),
            model: PlantModel::default(),
            idle: Watts(10.0),
            par: Price(4_500),
            slots: 1,
            max_stress: 7.0,
            slew: 1.5,
            delay: 0.025,
        }
    }
}

/// The controller's answer for one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Thermal stress `u`: the natural logarithm of the scarcity premium.
    pub stress: f64,
    /// The lowest price this tick.
    pub reserve: Price,
    /// How many slots may be lit.
    pub slots: u16,
    /// Everything is frozen until the die has cooled.
    pub tripped: bool,
    /// Estimated die temperature, finer than the sensor's steps.
    pub estimate: Celsius,
    /// The power that keeps the die at its limit.
    pub budget: Watts,
    /// The power that heats the die: as metered, or a cautious guess where the meter is silent.
    pub power: Watts,
}

/// Distance of the trip below the critical temperature, and its hysteresis, in kelvin.
const TRIP_DISTANCE: f64 = 5.0;
/// The soft loop sees at most this much error, in kelvin: far below the set point there is nothing to control.
const ERROR_BAND: f64 = 3.0;
/// The price of uncertainty: the least stress while the thermometer cannot be believed, ln 2.
const DOUBT_STRESS: f64 = std::f64::consts::LN_2;
/// Closed-loop time constants asked of the soft and of the hard loop, in seconds.
const SOFT_LOOP: f64 = 2.0;
const HARD_LOOP: f64 = 0.15;
/// How fast excess demand moves the stress: e-folds of price in a second if every slot is refused, or unsold.
const SCARCITY_GAIN: f64 = 1.2;
/// Excess demand is averaged over this time, in seconds: dithered supply makes bursts, far below the plant's time scale.
const EXCESS_TAU: f64 = 0.2;
/// How far below the next bid the price falls, in e-folds: enough to stay below it for some ticks.
const BELOW_NEXT: f64 = 0.01;
/// The price falls to the next bid only while the die is at most this far above its set point, in kelvin.
const FALL_ROOM: f64 = 0.5;
/// Time constant of what a busy core draws, in seconds.
const CORE_POWER_TAU: f64 = 0.5;
/// Steps outside this range are clock jumps, not control intervals.
const DT_RANGE: (f64, f64) = (0.001, 0.1);

/// The controller's state, as this file's head draws it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Controller {
    policy: ThermalPolicy,
    guard: Guard,
    observer: Observer,
    identifier: Identifier,
    /// The integral of the soft loop.
    integral: f64,
    stress: f64,
    tripped: bool,
    /// Smoothed power of one busy core.
    core_power: f64,
    /// Power of the recent past: the integral of the hard loop.
    recent_power: f64,
    /// What error diffusion owes: the fractional slot not yet lit.
    owed: f64,
    /// Length of the last tick, in seconds.
    tick: f64,
    /// Excess demand at the last reserve as a share of all slots: positive where supply refused it, negative where slots
    /// that could have been lit found no buyer.
    excess: f64,
    /// Slots that the die could bear beyond those that there are, as a share of those.
    headroom: f64,
    /// Slots were left unsold at the last reserve; the best bid below it.
    unsold: Option<Price>,
}

impl Controller {
    /// A controller for a machine that has been idle.
    #[must_use]
    pub fn new(policy: ThermalPolicy) -> Self {
        Self {
            policy,
            guard: Guard::default(),
            observer: Observer::new(policy.model, policy.idle),
            identifier: Identifier::new(policy.model, policy.idle),
            integral: 0.0,
            stress: 0.0,
            tripped: false,
            core_power: Watts::from(policy.par).0,
            recent_power: policy.idle.0 + Watts::from(policy.par).0 * f64::from(policy.slots),
            owed: 0.0,
            tick: 0.01,
            excess: 0.0,
            headroom: 0.0,
            unsold: None,
        }
    }

    /// The policy it was made with.
    #[must_use]
    pub fn policy(&self) -> &ThermalPolicy {
        &self.policy
    }

    /// Tells the controller how the last supply was received: `demand` units were bid at or above the reserve for `lit`
    /// slots, and `next` is the best bid below the reserve.
    pub fn observe_demand(&mut self, demand: usize, lit: u16, next: Option<Price>) {
        let slots = usize::from(self.policy.slots);
        let share = (demand.min(slots) as f64 - f64::from(lit)) / slots.max(1) as f64;
        self.excess += (share - self.excess) * (self.tick / EXCESS_TAU).min(1.0);
        self.unsold = (demand < usize::from(lit)).then_some(next.unwrap_or(Price::ZERO));
    }

    /// The plant's constants as they are used now: given, or learnt.
    #[must_use]
    pub fn model(&self) -> PlantModel {
        self.identifier.model()
    }

    /// Whether the plant's constants were learnt from the machine.
    #[must_use]
    pub fn has_learnt(&self) -> bool {
        self.identifier.learnt()
    }

    /// One tick: `dt` seconds passed, drawing `power` on average while `busy` cores worked. `grid` multiplies par.
    ///
    /// `sensor` is the newest reading, whatever its age; `None` counts as silent. Where `power` is unknown, it is taken to be
    /// what that many busy cores have drawn before.
    pub fn step(
        &mut self,
        dt: f64,
        sensor: Option<Temperature>,
        power: Option<Watts>,
        busy: f64,
        grid: f64,
    ) -> Control {
        let dt = if dt.is_finite() { dt.clamp(DT_RANGE.0, DT_RANGE.1) } else { DT_RANGE.0 };
        self.tick = dt;
        let metered = power.filter(|power| power.0.is_finite());
        let power = metered.unwrap_or(Watts(self.policy.idle.0 + self.core_power * busy));
        self.observer.advance(dt, power);
        let trust = self.guard.judge(dt, sensor, &self.observer, self.policy.set);
        if trust == Trust::Anew {
            self.observer.doubt();
        }
        let believed = sensor.filter(|_| trust <= Trust::Anew);
        if let Some(shown) = believed {
            self.observer.correct(dt, shown);
        }
        // A guess at power teaches nothing.
        self.identify(dt, power, believed.filter(|_| metered.is_some()));
        self.learn_core_power(dt, power, busy);
        let estimate = self.observer.temperature().0;
        let hottest = believed.map_or(estimate, |shown| shown.celsius.0.max(estimate));

        self.update_trip(hottest, trust);
        self.fall_to_next_bid(estimate, grid, trust);
        let stress = self.update_stress(dt, estimate, trust);
        let budget = self.budget(dt, estimate, power, trust);
        let slots = self.update_supply(budget, trust);
        Control {
            stress,
            reserve: self.reserve(stress, grid),
            slots,
            tripped: self.tripped,
            estimate: Celsius(estimate),
            budget,
            power,
        }
    }

    fn identify(&mut self, dt: f64, power: Watts, believed: Option<Temperature>) {
        // Only values that are new are compared with the power of now.
        let new = believed.filter(|shown| f64::from(shown.age_ms) * 1e-3 < dt * 1.5);
        let celsius = new.map(|shown| shown.celsius.0 + shown.resolution / 2.0);
        if self.identifier.step(dt, power, celsius) {
            let (fast, slow) = self.identifier.rises();
            self.observer.remodel(self.identifier.model(), fast, slow);
        }
    }

    fn learn_core_power(&mut self, dt: f64, power: Watts, busy: f64) {
        if busy < 0.5 {
            return;
        }
        let par = Watts::from(self.policy.par).0;
        let seen = ((power.0 - self.policy.idle.0) / busy).clamp(par / 4.0, par * 4.0);
        self.core_power += (seen - self.core_power) * (dt / CORE_POWER_TAU).min(1.0);
    }

    fn update_trip(&mut self, hottest: f64, trust: Trust) {
        let trip = self.policy.critical.0 - TRIP_DISTANCE;
        if hottest >= trip || trust == Trust::Silent {
            self.tripped = true;
        } else if hottest <= trip - TRIP_DISTANCE && trust <= Trust::Anew {
            self.tripped = false;
        }
    }

    /// A price between two bids sells what the higher of them sells. With slots unsold and the die no hotter than it may be, the price
    /// falls at once to just below the next bid: however long scarcity has lasted, its end takes no time.
    fn fall_to_next_bid(&mut self, estimate: f64, grid: f64, trust: Trust) {
        let Some(next) = self.unsold.take() else { return };
        if trust > Trust::Anew || estimate > self.policy.set.0 + FALL_ROOM {
            return;
        }
        let par = self.policy.par.0 as f64 * grid;
        let ratio = next.0 as f64 / par;
        let floor = if ratio > 1.0 { (libm::log(ratio) - BELOW_NEXT).max(0.0) } else { 0.0 };
        if floor.is_finite() && floor < self.stress {
            self.integral -= self.stress - floor;
            self.stress = floor;
        }
    }

    fn update_stress(&mut self, dt: f64, estimate: f64, trust: Trust) -> f64 {
        let fast = self.identifier.model().fast;
        let full_power = Watts::from(self.policy.par).0 * f64::from(self.policy.slots.max(1));
        let process_gain = fast.resistance * full_power;
        let delay = self.policy.delay;
        let kp = fast.tau / (process_gain * (SOFT_LOOP + delay));
        let ti = fast.tau.min(4.0 * (SOFT_LOOP + delay));
        let kd = kp * delay * 4.0;

        let error = (estimate - self.policy.set.0).clamp(-ERROR_BAND, ERROR_BAND);
        // Far from the set point a slope is just the machine warming up.
        let slope = if error > -ERROR_BAND { self.observer.slope(Watts(self.recent_power)) } else { 0.0 };

        self.integral += dt * (kp / ti * error + SCARCITY_GAIN * (self.excess - self.headroom));
        let floor = if trust > Trust::Anew { DOUBT_STRESS.min(self.policy.max_stress) } else { 0.0 };
        let wanted = kp * error + kd * slope + self.integral;
        let step = self.policy.slew * dt;
        let stress = wanted.clamp(floor, self.policy.max_stress).clamp(self.stress - step, self.stress + step);
        let stress = stress.clamp(0.0, self.policy.max_stress);
        // Back-calculation: the integral forgets what could not be acted on, within its own time constant.
        self.integral += (stress - wanted) * (dt / ti).min(1.0);
        self.stress = stress;
        stress
    }

    /// The power that brings the die to its set point, by PI in automatic-reset form.
    fn budget(&mut self, dt: f64, estimate: f64, power: Watts, trust: Trust) -> Watts {
        let fast = self.identifier.model().fast;
        let closed = HARD_LOOP + self.policy.delay;
        let kp = fast.tau / (fast.resistance * closed);
        let ti = fast.tau.min(4.0 * closed);
        self.recent_power += (power.0 - self.recent_power) * (dt / ti).min(1.0);
        let correction = kp * (self.policy.set.0 - estimate);
        // Who cannot see does not go faster.
        let correction = if trust > Trust::Anew { correction.min(0.0) } else { correction };
        Watts((self.recent_power + correction).max(0.0))
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=slots")]
    fn update_supply(&mut self, budget: Watts, trust: Trust) -> u16 {
        if self.tripped {
            self.owed = 0.0;
            return 0;
        }
        let most = f64::from(self.policy.slots);
        let wanted = (budget.0 - self.policy.idle.0) / self.core_power;
        self.headroom = (wanted / most - 1.0).clamp(0.0, 1.0);
        let mut supply = wanted.clamp(0.0, most);
        if trust > Trust::Anew {
            supply = supply.min((most / 2.0).max(1.0));
        }
        self.owed = (self.owed + supply).min(most + 1.0);
        let lit = libm::floor(self.owed).min(most);
        self.owed = (self.owed - lit).min(1.0);
        lit as u16
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
    fn reserve(&self, stress: f64, grid: f64) -> Price {
        let grid = if grid.is_finite() { grid.max(0.0) } else { 1.0 };
        Price((self.policy.par.0 as f64 * grid * libm::exp(stress)) as u64).max(Price(1))
    }
}

#[cfg(test)]
mod tests;
