//! From temperature to a reserve price and a supply of slots.
//!
//! ```text
//!   sensor ─► observer ──► T̂, dT̂/dt ─► PI + model-based D ─► stress u ─► reserve = par · grid · eᵘ      (soft loop)
//!   power  ──►   │                          ▲ excess demand at the last price
//!                └──► sink temperature ─► power budget ─► fractional slots ─► error diffusion ─► slots  (hard loop)
//!   sensor ─────────────────────────────► trip at T_crit − 5 °C, until 5 °C below that                (last line)
//! ```
//!
//! **Soft loop.** Log-price control: the price stays positive and reacts in proportion. Proportional and integral terms
//! act on the estimated die temperature; the derivative comes from the model state, never from the sensor, whose 1 °C
//! steps would read as 100 °C/s at a 10 ms tick. Anti-windup is back-calculation; `u` is slew-limited and never
//! negative, so the price never falls below the machine's own electricity.
//!
//! **Hard loop.** Some bidders pay any price. The fast node settles where the power budget
//! `P = (T_limit − T_ambient − θ_slow)/R_fast` puts it, so selling only that much power keeps the die at `T_limit`
//! whatever is bid. The budget divided by the measured power of a busy core is a fractional number of slots, dithered by
//! error diffusion; what the budget overlooks is learnt from the error that remains. Demand refused here is scarcity that the price has not expressed yet, and slots that find no buyer are
//! plenty that it has not: excess demand drives the integral of the soft loop (Walrasian tâtonnement).
//!
//! **Trip.** At `T_crit − 5 °C`, or when the sensor has been silent for a second, nothing runs, whatever was paid.
//!
//! Gains follow SIMC (Skogestad 2003) on the fast node: `K_c = τ/(K(τ_c + θ))`, `T_i = min(τ, 4(τ_c + θ))`, with the
//! process gain `K` taken as the temperature that one e-fold of price moves if demand has unit elasticity.

use serde::{Deserialize, Serialize};

use super::plant::{Plant, PlantModel};
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

/// How far above the set point the hard loop lets the die go: the room in which the price acts alone.
const SUPPLY_MARGIN: f64 = 0.5;
/// Distance of the trip below the critical temperature, and its hysteresis, in kelvin.
const TRIP_DISTANCE: f64 = 5.0;
/// The proportional term sees at most this much error, in kelvin: far below the set point there is nothing to control.
const ERROR_BAND: f64 = 3.0;
/// A sensor older than this is stale: the price becomes conservative and supply is halved.
const STALE_MS: u32 = 250;
/// A sensor older than this trips the machine.
const SILENT_MS: u32 = 1_000;
/// The price of uncertainty: the least stress while the sensor is stale, ln 2.
const STALE_STRESS: f64 = std::f64::consts::LN_2;
/// Time constant of the observer's correction, in seconds: slow beside the sensor's steps, fast beside the sink.
const OBSERVER_TAU: f64 = 1.5;
/// How fast the hard loop learns what its budget overlooks, in seconds: slower than the fast node.
const OVERLOOKED_TAU: f64 = 3.0;
/// Closed-loop time constant asked of the soft loop, and the delay of sensor and tick, in seconds.
const CLOSED_LOOP: f64 = 0.6;
const DELAY: f64 = 0.025;
/// How fast excess demand moves the stress: e-folds of price in a second if every slot is refused, or unsold.
const SCARCITY_GAIN: f64 = 1.2;
/// Steps outside this range are clock jumps, not control intervals.
const DT_RANGE: (f64, f64) = (0.001, 0.1);

/// The controller's state: observer, soft loop, hard loop and trip, as this file's head draws them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Controller {
    policy: ThermalPolicy,
    observer: Plant,
    /// What the model gets wrong, as a shift of ambient, in kelvin.
    offset: f64,
    integral: f64,
    stress: f64,
    tripped: bool,
    /// Smoothed power of one busy core.
    core_power: f64,
    /// Power that the budget overlooks (background load, a wrong resistance), learnt from the error while supply is
    /// rationed.
    overlooked: f64,
    /// What error diffusion owes: the fractional slot not yet lit.
    owed: f64,
    /// Excess demand at the last reserve as a share of all slots: positive where supply refused it, negative where slots
    /// that could have been lit found no buyer.
    excess: f64,
}

impl Controller {
    /// A controller for a machine that has been idle.
    #[must_use]
    pub fn new(policy: ThermalPolicy) -> Self {
        Self {
            policy,
            observer: Plant::settled(policy.model, policy.idle),
            offset: 0.0,
            integral: 0.0,
            stress: 0.0,
            tripped: false,
            core_power: Watts::from(policy.par).0,
            overlooked: 0.0,
            owed: 0.0,
            excess: 0.0,
        }
    }

    /// The policy it was made with.
    #[must_use]
    pub fn policy(&self) -> &ThermalPolicy {
        &self.policy
    }

    /// Tells the controller how the last supply was received: `demand` units were bid at or above the reserve for `lit`
    /// slots.
    pub fn observe_demand(&mut self, demand: usize, lit: u16) {
        let slots = usize::from(self.policy.slots);
        let share = (demand.min(slots) as f64 - f64::from(lit)) / slots.max(1) as f64;
        // A dithered supply makes bursts; a fifth of a second of smoothing is far below the plant's time scale.
        self.excess += (share - self.excess) * 0.05;
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
        let power = power.unwrap_or(Watts(self.policy.idle.0 + self.core_power * busy));
        let age_ms = sensor.map_or(u32::MAX, |t| t.age_ms);
        self.observe(dt, sensor, power);
        self.learn_core_power(dt, power, busy);
        let estimate = self.observer.temperature().0 + self.offset;
        let hottest = sensor.map_or(estimate, |t| t.celsius.0.max(estimate));

        self.update_trip(hottest, age_ms);
        let stress = self.update_stress(dt, estimate, power, age_ms);
        let budget = self.budget();
        let slots = self.update_supply(dt, estimate, budget, age_ms);
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

    fn observe(&mut self, dt: f64, sensor: Option<Temperature>, power: Watts) {
        self.observer.step(power, dt);
        let Some(reading) = sensor.filter(|t| t.age_ms <= STALE_MS && t.celsius.0.is_finite()) else { return };
        // A reading stands for one whole step of the sensor; its middle is the best guess, and inside it nothing is known.
        let dead = reading.resolution / 2.0;
        let innovation = reading.celsius.0 + dead - (self.observer.temperature().0 + self.offset);
        let beyond = if innovation > dead {
            innovation - dead
        } else if innovation < -dead {
            innovation + dead
        } else {
            0.0
        };
        self.offset += beyond * dt / OBSERVER_TAU;
    }

    fn learn_core_power(&mut self, dt: f64, power: Watts, busy: f64) {
        if busy < 0.5 {
            return;
        }
        let par = Watts::from(self.policy.par).0;
        let seen = ((power.0 - self.policy.idle.0) / busy).clamp(par / 4.0, par * 4.0);
        self.core_power += (seen - self.core_power) * (dt / 0.5).min(1.0);
    }

    fn update_trip(&mut self, hottest: f64, age_ms: u32) {
        let trip = self.policy.critical.0 - TRIP_DISTANCE;
        if hottest >= trip || age_ms > SILENT_MS {
            self.tripped = true;
        } else if hottest <= trip - TRIP_DISTANCE && age_ms <= STALE_MS {
            self.tripped = false;
        }
    }

    fn update_stress(&mut self, dt: f64, estimate: f64, power: Watts, age_ms: u32) -> f64 {
        let model = &self.observer.model;
        let full_power = Watts::from(self.policy.par).0 * f64::from(self.policy.slots.max(1));
        let process_gain = model.fast.resistance * full_power;
        let kp = model.fast.tau / (process_gain * (CLOSED_LOOP + DELAY));
        let ti = model.fast.tau.min(4.0 * (CLOSED_LOOP + DELAY));
        let kd = kp * DELAY * 4.0;

        let error = (estimate - self.policy.set.0).clamp(-ERROR_BAND, ERROR_BAND);
        let slope = (model.fast.resistance * power.0 - self.observer.fast) / model.fast.tau
            + (model.slow.resistance * power.0 - self.observer.slow) / model.slow.tau;
        // Far from the set point a slope is just the machine warming up.
        let slope = if error > -ERROR_BAND { slope } else { 0.0 };

        self.integral += dt * (kp / ti * error + SCARCITY_GAIN * self.excess);
        let floor = if age_ms > STALE_MS { STALE_STRESS.min(self.policy.max_stress) } else { 0.0 };
        let wanted = kp * error + kd * slope + self.integral;
        let step = self.policy.slew * dt;
        let stress = wanted.clamp(floor, self.policy.max_stress).clamp(self.stress - step, self.stress + step);
        let stress = stress.clamp(0.0, self.policy.max_stress);
        // Back-calculation: the integral forgets what could not be acted on, within its own time constant.
        self.integral += (stress - wanted) * (dt / ti).min(1.0);
        self.stress = stress;
        stress
    }

    fn budget(&self) -> Watts {
        let model = &self.observer.model;
        let room = self.policy.set.0 + SUPPLY_MARGIN - model.ambient.0 - self.offset - self.observer.slow;
        Watts((room / model.fast.resistance).max(0.0))
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=slots")]
    fn update_supply(&mut self, dt: f64, estimate: f64, budget: Watts, age_ms: u32) -> u16 {
        if self.tripped {
            self.owed = 0.0;
            return 0;
        }
        let most = f64::from(self.policy.slots);
        let wanted = (budget.0 - self.overlooked - self.policy.idle.0) / self.core_power;
        let mut supply = wanted.clamp(0.0, most);
        // Integral action, only while the hard loop is what limits: conditional integration against windup.
        let over = estimate - (self.policy.set.0 + SUPPLY_MARGIN);
        if wanted < most && over > -SUPPLY_MARGIN {
            let gain = dt / (self.observer.model.fast.resistance * OVERLOOKED_TAU);
            self.overlooked = (self.overlooked + gain * over).clamp(-budget.0 / 2.0, budget.0 / 2.0);
        } else {
            self.overlooked -= self.overlooked * dt / OVERLOOKED_TAU;
        }
        if age_ms > STALE_MS {
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
mod tests {
    use super::*;
    use crate::sensor::{Quality, Source};

    /// A machine whose agents bid fixed limits; returns (time, temperature, stress) at every tick.
    struct Bench {
        policy: ThermalPolicy,
        plant: Plant,
        controller: Controller,
        power: f64,
        busy: f64,
        limits: Vec<u64>,
        core_power: f64,
        /// Power that no slot explains, in watts.
        background: f64,
        sensor_age_ms: u32,
        control: Control,
    }

    impl Bench {
        fn new(limits: &[u64]) -> Self {
            let policy = ThermalPolicy { slots: 8, idle: Watts(15.0), par: Price(10_000), ..ThermalPolicy::default() };
            Self {
                policy,
                plant: Plant::settled(policy.model, policy.idle),
                controller: Controller::new(policy),
                power: policy.idle.0,
                busy: 0.0,
                limits: limits.to_vec(),
                core_power: 10.0,
                background: 0.0,
                sensor_age_ms: 10,
                control: Control::default(),
            }
        }

        fn tick(&mut self) -> Control {
            let shown = Celsius(self.plant.temperature().0.floor());
            let fresh = Temperature::fresh(shown, Source::Model, Quality::Modelled);
            let sensor = Temperature { age_ms: self.sensor_age_ms, ..fresh };
            let control = self.controller.step(0.01, Some(sensor), Some(Watts(self.power)), self.busy, 1.0);
            let demand = self.limits.iter().filter(|limit| **limit >= control.reserve.0).count();
            let lit = demand.min(usize::from(control.slots));
            self.controller.observe_demand(demand, control.slots);
            self.busy = lit as f64;
            self.power = self.policy.idle.0 + self.background + self.core_power * self.busy;
            self.plant.step(Watts(self.power), 0.01);
            self.control = control;
            control
        }

        /// Runs for `seconds`; returns the extreme temperatures of that time.
        fn run(&mut self, seconds: u32) -> (f64, f64) {
            let (mut low, mut high) = (f64::MAX, f64::MIN);
            for _ in 0..seconds * 100 {
                self.tick();
                let t = self.plant.temperature().0;
                low = low.min(t);
                high = high.max(t);
            }
            (low, high)
        }
    }

    const SPREAD: [u64; 8] = [12_000, 14_000, 17_000, 20_000, 24_000, 29_000, 35_000, 42_000];
    const RICH: [u64; 8] = [u64::MAX; 8];

    #[test]
    fn a_load_step_overshoots_by_less_than_two_degrees() {
        for limits in [SPREAD, RICH] {
            let mut bench = Bench::new(&limits[7..]);
            bench.run(120);
            bench.limits = limits.to_vec();
            let (_, high) = bench.run(300);
            assert!(high <= bench.policy.set.0 + 2.0, "peak {high:.2} with {limits:?}");
            assert!(high >= bench.policy.set.0 - 1.0, "the test must reach the set point, peak {high:.2}");
            assert!(!bench.control.tripped);
        }
    }

    #[test]
    fn there_is_no_limit_cycle_once_settled() {
        for limits in [SPREAD, RICH] {
            let mut bench = Bench::new(&limits);
            bench.run(400);
            let (low, high) = bench.run(100);
            assert!(high - low <= 1.0, "{low:.2}..{high:.2} with {limits:?}");
            assert!(low >= bench.policy.set.0 - 1.0 && high <= bench.policy.set.0 + 1.0, "{low:.2}..{high:.2}");
        }
    }

    #[test]
    fn power_that_no_slot_explains_is_learnt_and_held() {
        let mut bench = Bench::new(&RICH);
        bench.background = 8.0;
        bench.run(60);
        let (_, high) = bench.run(200);
        assert!(high <= bench.policy.set.0 + 1.0, "{high:.2}");
    }

    #[test]
    fn the_price_of_a_cool_machine_is_par() {
        let mut bench = Bench::new(&SPREAD[6..]);
        bench.run(200);
        assert_eq!(bench.control.reserve, bench.policy.par);
        assert!(bench.control.slots >= 2, "nobody is refused");
    }

    #[test]
    fn it_recovers_from_a_minute_of_saturation_without_windup() {
        let mut bench = Bench::new(&RICH);
        bench.run(500);
        assert!(bench.control.stress > 6.9, "a minute of refused demand saturates the price");
        bench.limits = vec![u64::MAX; 1];
        // The price may only fall as fast as its slew limit, and must do so at once.
        let before = bench.control.stress;
        bench.run(2);
        assert!(bench.control.stress <= before - 0.8, "stress {} two seconds later", bench.control.stress);
        bench.run(20);
        assert!(bench.control.stress < 0.01, "stress {} after twenty", bench.control.stress);
    }

    #[test]
    fn the_plant_may_differ_threefold_from_the_model() {
        for scale in [1.0_f64 / 3.0, 0.5, 1.5, 3.0] {
            for tau in [1.0 / 3.0, 3.0] {
                for limits in [SPREAD, RICH] {
                    let mut bench = Bench::new(&limits);
                    bench.plant.model.fast.resistance *= scale.min(2.0);
                    bench.plant.model.slow.tau *= tau;
                    bench.plant.model.fast.tau *= tau;
                    bench.run(600);
                    let (low, high) = bench.run(120);
                    assert!(
                        high <= bench.policy.set.0 + 2.0 && high - low <= 2.0,
                        "{low:.2}..{high:.2} at resistance x{scale:.2}, tau x{tau:.2}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_hard_trip_freezes_everything_and_recovers() {
        let mut bench = Bench::new(&RICH);
        bench.run(60);
        // A fan fails: resistance trebles at once.
        bench.plant.slow = 60.0;
        let mut tripped = false;
        for _ in 0..100 {
            let control = bench.tick();
            tripped |= control.tripped;
            assert!(!control.tripped || control.slots == 0, "nothing runs while tripped");
        }
        assert!(tripped);
        bench.run(200);
        assert!(!bench.control.tripped, "recovers once cool, at {:.1}", bench.plant.temperature().0);
        assert!(bench.run(30).1 <= bench.policy.set.0 + 2.0);
    }

    #[test]
    fn a_silent_sensor_first_costs_then_stops() {
        let mut bench = Bench::new(&RICH[..2]);
        bench.run(10);
        assert_eq!(bench.control.slots, 8);
        bench.sensor_age_ms = 300;
        bench.run(3);
        assert!(bench.control.reserve.0 >= bench.policy.par.0 * 19 / 10);
        assert!(bench.control.slots <= 4 && !bench.control.tripped);
        bench.sensor_age_ms = 1_001;
        assert!(bench.tick().tripped);
        bench.sensor_age_ms = 10;
        assert!(!bench.tick().tripped);
    }

    #[test]
    fn a_stale_sensor_under_a_small_stress_limit_is_no_contradiction() {
        let policy = ThermalPolicy { max_stress: 0.1, ..ThermalPolicy::default() };
        let control = Controller::new(policy).step(0.01, None, Some(Watts(10.0)), 0.0, 1.0);
        assert!(control.stress <= 0.1);
    }

    #[test]
    fn nonsense_inputs_do_not_poison_the_state() {
        let mut bench = Bench::new(&SPREAD);
        let nonsense = Temperature::fresh(Celsius(f64::NAN), Source::Model, Quality::Modelled);
        let control = bench.controller.step(f64::NAN, Some(nonsense), Some(Watts(50.0)), 2.0, f64::NAN);
        assert!(control.stress.is_finite() && control.estimate.0.is_finite());
        bench.run(50);
        assert!(bench.control.estimate.0.is_finite());
    }
}
