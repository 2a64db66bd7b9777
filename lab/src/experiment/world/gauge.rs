//! Reads the figures of a run as it goes.

use super::body::{Body, Role};
use super::machine::Power;
use super::{TICK, Told};
use crate::experiment::metrics::{RunMetrics, RunRecord, Sample};
use crate::experiment::plan::{Plan, Turn};
use crate::experiment::stats::{Dice, percentile};

/// Power is compared over windows of this many ticks: 100 ms.
const WINDOW: u64 = 10;
/// The share of the active power below which leeches count as neutralised.
const NEUTRAL: f64 = 0.01;
/// Ticks between samples that are kept, of the first repetition.
const KEEP: u64 = 25;

#[derive(Debug)]
pub(super) struct Gauge {
    turn: Turn,
    seconds: f64,
    /// What each poor agent would do alone among honest agents, by an equal share.
    poor_ideal: f64,
    metrics: RunMetrics,
    /// Energy in the window: active, leeches'.
    window: (f64, f64),
    /// When leeches first ran, and the end of the last window in which they counted.
    leeches_ran: Option<f64>,
    leeches_counted: Option<f64>,
    /// The last moment at which a leech could pay, where paying matters.
    solvent_until: Option<f64>,
    waits: Vec<f64>,
    dice: Dice,
    /// Lowest, highest, sum and count of the price.
    price: (f64, f64, f64, f64),
    trace: Vec<Sample>,
    work: f64,
}

impl Gauge {
    pub(super) fn new(plan: &Plan, turn: Turn) -> Self {
        let honest = f64::from(plan.scientists + plan.poor) + 0.1 * f64::from(plan.bursty);
        let share = (f64::from(plan.machine.slots) / honest).min(1.0);
        Self {
            turn,
            seconds: plan.seconds,
            poor_ideal: share * plan.seconds,
            metrics: RunMetrics { seconds: plan.seconds, ..RunMetrics::default() },
            window: (0.0, 0.0),
            leeches_ran: None,
            leeches_counted: None,
            solvent_until: None,
            waits: Vec::new(),
            dice: Dice::new(turn.seed ^ 0x7761_6974),
            price: (f64::INFINITY, 0.0, 0.0, 0.0),
            trace: Vec::new(),
            work: 0.0,
        }
    }

    pub(super) fn tick(&mut self, tick: u64, bodies: &mut [Body], told: &Told, power: &Power) {
        let now = tick as f64 * TICK;
        let metrics = &mut self.metrics;
        metrics.joules += power.watts * TICK;
        metrics.joules_active += (power.watts - power.idle) * TICK;
        metrics.leech_joules += power.leeches * TICK;
        metrics.peak_celsius = Some(metrics.peak_celsius.unwrap_or(f64::MIN).max(power.celsius));
        for body in bodies.iter_mut() {
            self.work += f64::from(body.new_units) * super::body::UNIT_US * 1e-6;
            match body.role {
                Role::Leech => metrics.leech_core_seconds += body.used_us as f64 * 1e-6,
                Role::Scientist | Role::Bursty => {
                    // A wake-up falls anywhere in the tick before; what the arm cannot see at once waits for the next.
                    if let Some((ticks, slept)) = body.waited(tick) {
                        let dice = self.dice.unit();
                        let within = if slept { dice * TICK * 1e3 } else { 0.0 };
                        let wait = told.wait_ms.map_or(ticks as f64 * TICK * 1e3 + within, |most| most * dice);
                        self.waits.push(wait);
                    }
                }
                Role::Poor => {}
            }
        }
        if metrics.leech_core_seconds > 0.0 {
            self.leeches_ran.get_or_insert(now);
        }
        if told.solvent_leeches == Some(true) {
            self.solvent_until = Some(now);
        }
        self.window.0 += power.watts - power.idle;
        self.window.1 += power.leeches;
        if tick.is_multiple_of(WINDOW) {
            if self.window.1 >= NEUTRAL * self.window.0 && self.leeches_ran.is_some() {
                self.leeches_counted = Some(now);
            }
            self.window = (0.0, 0.0);
        }
        let any_leech = bodies.iter().any(|body| !body.honest() && body.alive);
        if any_leech {
            metrics.wasted_joules = metrics.leech_joules;
        } else if metrics.kill_seconds.is_none() && bodies.iter().any(|body| !body.honest()) {
            metrics.kill_seconds = Some(now);
        }
        if let Some(price) = told.price
            && now >= self.seconds / 2.0
        {
            let (low, high, sum, count) = self.price;
            self.price = (low.min(price), high.max(price), sum + price, count + 1.0);
        }
        if self.turn.run == 0 && tick.is_multiple_of(KEEP) {
            let celsius = Some(power.celsius);
            let sample = Sample {
                seconds: now,
                watts: power.watts,
                leech_watts: power.leeches,
                work: self.work,
                celsius,
                price: told.price,
            };
            self.trace.push(sample);
        }
    }

    pub(super) fn finish(mut self, bodies: &[Body]) -> RunRecord {
        let ideal = self.poor_ideal;
        let poor = bodies.iter().filter(|body| body.role == Role::Poor).map(|body| body.work() / ideal);
        let metrics = &mut self.metrics;
        metrics.work = bodies.iter().map(Body::work).sum();
        metrics.poor_share = poor.min_by(f64::total_cmp);
        metrics.false_kills = bodies.iter().filter(|body| body.honest() && !body.alive).count() as u64;
        metrics.wake_p99_ms = percentile(&mut self.waits, 0.99);
        metrics.neutralise_seconds = self.leeches_counted.zip(self.leeches_ran).map(|(last, first)| last - first);
        // Broke, and has been for a while: it says nothing about who is solvent at the end.
        metrics.neutralise_after_broke_seconds = self
            .solvent_until
            .filter(|until| *until < self.seconds)
            .map(|until| (self.leeches_counted.unwrap_or(0.0) - until).max(0.0));
        let (low, high, sum, count) = self.price;
        metrics.price_amplitude = (count > 0.0).then(|| (high - low) / (sum / count));
        RunRecord { turn: self.turn, metrics: self.metrics, trace: self.trace }
    }
}
