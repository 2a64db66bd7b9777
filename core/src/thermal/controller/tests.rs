use super::super::plant::Plant;
use super::*;
use crate::sensor::{Quality, Source};

/// A machine whose agents bid fixed limits.
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
    metered: bool,
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
            sensor_age_ms: 1,
            metered: true,
            control: Control::default(),
        }
    }

    fn tick(&mut self) -> Control {
        let shown = Celsius(self.plant.temperature().0.floor());
        let fresh = Temperature::fresh(shown, Source::Model, Quality::Modelled);
        let sensor = Temperature { age_ms: self.sensor_age_ms, ..fresh };
        let power = self.metered.then_some(Watts(self.power));
        let control = self.controller.step(0.01, Some(sensor), power, self.busy, 1.0);
        let demand = self.limits.iter().filter(|limit| **limit >= control.reserve.0).count();
        let next = self.limits.iter().filter(|limit| **limit < control.reserve.0).max();
        let lit = demand.min(usize::from(control.slots));
        self.controller.observe_demand(demand, control.slots, next.map(|limit| Price(*limit)));
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
fn a_load_step_overshoots_by_less_than_half_a_degree() {
    for limits in [SPREAD, RICH] {
        let mut bench = Bench::new(&limits[7..]);
        bench.run(120);
        bench.limits = limits.to_vec();
        let (_, high) = bench.run(300);
        assert!(high <= bench.policy.set.0 + 0.5, "peak {high:.2} with {limits:?}");
        assert!(high >= bench.policy.set.0 - 0.5, "the test must reach the set point, peak {high:.2}");
        assert!(!bench.control.tripped);
    }
}

#[test]
fn temperature_and_price_stand_still_once_settled() {
    for limits in [SPREAD, RICH] {
        let mut bench = Bench::new(&limits);
        bench.run(400);
        let (mut cheap, mut dear) = (u64::MAX, 0);
        for _ in 0..10_000 {
            let price = bench.tick().reserve.0;
            let t = bench.plant.temperature().0;
            assert!((t - bench.policy.set.0).abs() <= 0.5, "{t:.2}");
            (cheap, dear) = (cheap.min(price), dear.max(price));
        }
        assert!(dear as f64 / cheap as f64 <= 1.05, "{cheap}..{dear} with {limits:?}");
    }
}

#[test]
fn power_that_no_slot_explains_is_held_all_the_same() {
    let mut bench = Bench::new(&RICH);
    bench.background = 8.0;
    bench.run(60);
    let (_, high) = bench.run(200);
    assert!(high <= bench.policy.set.0 + 0.5, "{high:.2}");
}

#[test]
fn without_a_meter_the_guess_at_power_still_holds_the_die() {
    let mut bench = Bench::new(&RICH);
    bench.metered = false;
    bench.background = 5.0;
    bench.core_power = 14.0;
    bench.run(60);
    let (_, high) = bench.run(200);
    assert!(high <= bench.policy.set.0 + 2.0, "{high:.2}");
    assert!((bench.control.power.0 - bench.policy.idle.0).rem_euclid(10.0) < 1e-6, "par for every busy core");
}

#[test]
fn the_price_of_a_cool_machine_is_par() {
    let mut bench = Bench::new(&SPREAD[6..]);
    bench.run(200);
    assert_eq!(bench.control.reserve, bench.policy.par);
    assert!(bench.control.slots >= 2, "nobody is refused");
}

#[test]
fn a_minute_of_saturation_ends_within_a_second() {
    let mut bench = Bench::new(&RICH);
    bench.run(500);
    assert!(bench.control.stress > 6.9, "a minute of refused demand saturates the price");
    // Two modest bidders stay. The price falls to them without trying every price between.
    bench.limits = vec![15_000, 13_000];
    bench.run(1);
    assert!(bench.control.reserve.0 <= 13_000 && bench.busy >= 2.0, "{}", bench.control.reserve.0);
}

#[test]
fn prices_between_bids_are_skipped_only_while_the_die_is_cool_and_seen() {
    let mut bench = Bench::new(&RICH);
    bench.run(500);
    bench.limits = vec![15_000];
    bench.sensor_age_ms = 400;
    bench.run(1);
    assert!(bench.control.reserve.0 > 1_000_000, "blind, the price falls by its slew limit only");
}

#[test]
fn the_plant_may_differ_threefold_from_the_model_and_is_learnt() {
    for resistance in [0.5, 1.4, 3.0] {
        for tau in [1.0 / 3.0, 0.7, 3.0] {
            for limits in [SPREAD, RICH] {
                let mut bench = Bench::new(&limits[7..]);
                let nominal = bench.plant.model;
                for (node, given) in
                    [(&mut bench.plant.model.fast, nominal.fast), (&mut bench.plant.model.slow, nominal.slow)]
                {
                    (node.resistance, node.tau) = (given.resistance * resistance, given.tau * tau);
                }
                bench.plant = Plant::settled(bench.plant.model, bench.policy.idle);
                bench.run(30);
                bench.limits = limits.to_vec();
                let (_, high) = bench.run(600);
                let what = format!("resistance x{resistance:.2}, tau x{tau:.2}, {limits:?}");
                assert!(high <= bench.policy.set.0 + 2.0, "{high:.2} at {what}");
                if high >= bench.policy.set.0 {
                    let (low, high) = bench.run(60);
                    assert!(
                        low >= bench.policy.set.0 - 1.0 && high <= bench.policy.set.0 + 1.0,
                        "{low:.2}..{high:.2} at {what}"
                    );
                }
                // With one core the last plant stands at its limit already: it is held, but nothing moves, and a
                // thermometer of whole degrees teaches nothing.
                if resistance > 2.0 {
                    continue;
                }
                let (learnt, truth) = (bench.controller.model(), bench.plant.model);
                let factor = |a: f64, b: f64| (a / b).max(b / a);
                assert!(bench.controller.has_learnt(), "{what}");
                let slope = factor(learnt.fast.resistance / learnt.fast.tau, truth.fast.resistance / truth.fast.tau);
                assert!(slope <= 1.6, "slope wrong by {slope:.2}: {learnt:?} for {truth:?}, {what}");
            }
        }
    }
}

#[test]
fn a_hard_trip_freezes_everything_and_recovers() {
    let mut bench = Bench::new(&RICH);
    bench.run(60);
    // Something else heats the sink, by 30 K in a second.
    let mut tripped = false;
    for _ in 0..100 {
        bench.plant.slow += 0.3;
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
    for _ in 0..90 {
        bench.tick();
    }
    assert!(bench.control.reserve.0 >= bench.policy.par.0 * 19 / 10, "{}", bench.control.reserve.0);
    assert!(bench.control.slots <= 4 && !bench.control.tripped);
    bench.run(1);
    assert!(bench.control.tripped, "a second of doubt");
    bench.sensor_age_ms = 1;
    assert!(!bench.tick().tripped);
}

#[test]
fn a_frozen_thermometer_is_found_out_before_the_die_is_in_danger() {
    // Frozen from the beginning, while it works with one core, and while the price holds the die.
    for (limits, seconds) in [(&RICH[..1], 0), (&RICH[..1], 60), (&RICH[..], 120)] {
        let mut bench = Bench::new(limits);
        bench.run(seconds);
        let shown = Celsius(bench.plant.temperature().0.floor());
        // It shows what it showed, and calls that new; and more power is drawn than Maxwell allows.
        let frozen = Temperature::fresh(shown, Source::Model, Quality::Modelled);
        let found = (0..6_000).find(|_| {
            let control = bench.controller.step(0.01, Some(frozen), Some(Watts(95.0)), 8.0, 1.0);
            bench.plant.step(Watts(95.0), 0.01);
            control.tripped
        });
        let reached = bench.plant.temperature();
        assert!(found.is_some() && reached.0 < bench.policy.critical.0 - 5.0, "{found:?} ticks, {reached}");
    }
}

#[test]
fn a_machine_cooled_far_better_than_believed_is_not_taken_for_a_broken_thermometer() {
    let mut bench = Bench::new(&RICH[..1]);
    bench.plant.model.fast.resistance = 0.02;
    bench.plant.model.slow.resistance = 0.02;
    bench.plant = Plant::settled(bench.plant.model, bench.policy.idle);
    for n in 0..60 {
        bench.limits = if n % 2 == 0 { RICH.to_vec() } else { RICH[..1].to_vec() };
        for _ in 0..300 {
            assert!(!bench.tick().tripped, "after {n} changes of load");
        }
    }
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
    for celsius in [f64::NAN, f64::INFINITY, -1e300, 1e300] {
        for power in [f64::NAN, f64::INFINITY, 0.0] {
            let nonsense = Temperature::fresh(Celsius(celsius), Source::Model, Quality::Modelled);
            let control = bench.controller.step(f64::NAN, Some(nonsense), Some(Watts(power)), 2.0, f64::NAN);
            assert!(control.stress.is_finite() && control.estimate.0.is_finite());
        }
    }
    bench.run(50);
    assert!(bench.control.estimate.0.is_finite() && !bench.control.tripped);
}
