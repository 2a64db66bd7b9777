//! The experiment in virtual time: modelled agents on a modelled machine, under the same market that runs machines.
//!
//! ```text
//!            ┌─ bodies: who wants cores now? ◄──────────────────────────────────────┐
//!  tick ─────┤                                                                      │
//!            ├─ scheduler: an arm gives core time, bodies use it, verified work is paid
//!            ├─ machine: power of cores and memory, plant, thermometer              │
//!            └─ gauge: joules, leeches' share, waits, prices ───────────────────────┘
//! ```
//!
//! A tick is 10 ms, as in the market. One run is one thread; runs are independent, and results do not depend on how many
//! threads there are.

mod auction;
mod body;
mod fair;
mod gauge;
mod karma;
mod machine;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use auction::Auction;
use body::Body;
use fair::Fair;
use gauge::Gauge;
use karma::Karma;
use machine::Rig;
use maxwell_core::sensor::Reading;

use super::arm::Arm;
use super::metrics::RunRecord;
use super::plan::{Plan, PlanError, Turn};

/// One tick in microseconds.
const TICK_US: u64 = 10_000;
/// The same in seconds.
const TICK: f64 = 0.01;

/// What an arm says about its tick beside what it did to the bodies.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// The spot price in watts.
    price: Option<f64>,
    /// Leeches can still pay for a slot, where slots cost something.
    solvent_leeches: Option<bool>,
    /// How long who wakes now waits, in milliseconds, where the arm is finer than a tick.
    wait_ms: Option<f64>,
}

/// An arm: gives core time to bodies, and kills some.
trait Scheduler {
    fn tick(&mut self, tick: u64, bodies: &mut [Body], reading: &Reading) -> Told;

    /// Errors of conservation so far, in nanojoules: of money, and of energy.
    fn errors(&self) -> (i64, i64) {
        (0, 0)
    }
}

/// Runs one turn of a plan in virtual time. The same turn gives the same record, bit for bit.
#[must_use]
pub fn simulate(plan: &Plan, turn: Turn) -> RunRecord {
    let mut bodies = body::population(plan, turn);
    if turn.arm == Arm::Oracle {
        bodies.retain(Body::honest);
    }
    let mut rig = Rig::new(plan);
    let mut scheduler: Box<dyn Scheduler> = match turn.arm {
        Arm::Linux | Arm::Nice | Arm::Weight | Arm::Killer | Arm::KillerPaid | Arm::Oracle => {
            Box::new(Fair::new(plan, turn.arm, &bodies))
        }
        Arm::Karma => Box::new(Karma::new(plan, bodies.len())),
        Arm::Maxwell => Box::new(Auction::new(plan, &bodies, rig.counters())),
    };
    let mut gauge = Gauge::new(plan, turn);
    let mut reading = rig.read();
    for tick in 1..=ticks(plan) {
        let honest: u32 = bodies.iter().filter(|body| body.honest()).map(|body| u32::from(body.wanted)).sum();
        let crowded = honest >= u32::from(plan.machine.slots);
        for body in &mut bodies {
            body.wake(tick, crowded);
        }
        let told = scheduler.tick(tick, &mut bodies, &reading);
        let power = rig.tick(&bodies);
        reading = rig.read();
        gauge.tick(tick, &mut bodies, &told, &power);
    }
    let (money_error, energy_error) = scheduler.errors();
    let mut record = gauge.finish(&bodies);
    (record.metrics.money_error, record.metrics.energy_error) = (money_error, energy_error);
    record
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a checked plan lasts at most a day")]
fn ticks(plan: &Plan) -> u64 {
    (plan.seconds / TICK).round() as u64
}

/// Runs all turns of a plan on `threads` threads; records come in the order of the turns. `progress` is called after each.
///
/// # Errors
///
/// [`PlanError`] if the plan cannot be carried out.
pub fn run_virtual(
    plan: &Plan,
    threads: usize,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Vec<RunRecord>, PlanError> {
    plan.check()?;
    let turns = plan.turns();
    let records: Mutex<Vec<Option<RunRecord>>> = Mutex::new(vec![None; turns.len()]);
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, 256) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(turn) = turns.get(at) else { break };
                    let record = simulate(plan, *turn);
                    records.lock().expect("no thread panics while it holds this")[at] = Some(record);
                    progress(done.fetch_add(1, Ordering::Relaxed) + 1);
                }
            });
        }
    });
    let records = records.into_inner().expect("no thread panics while it holds this");
    Ok(records.into_iter().map(|record| record.expect("every turn was taken")).collect())
}
