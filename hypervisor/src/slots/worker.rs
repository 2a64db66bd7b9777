//! Workers: one thread for each slot, running cells.
//!
//! ```text
//!   market thread                                worker i
//!   publish plan ──────────────────────────────► run the lease of slot i until it ends or time is up
//!                                                while time is left: take the next standby, run it
//!   collect ◄──────── usages, claims, words ──── done with plan
//!                                                the last cell may linger (it is still thawed, and has paid ahead):
//!   publish plan ──────────────────────────────► it won again? go on without a pause; else release it first
//! ```
//!
//! A worker looks at the clock by itself, so that the market thread need not interrupt anybody; `Plan::revoke` stops all
//! of them early.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use maxwell_core::AgentId;

use super::plan::{Place, Plan, Seat};
use super::turn::{Cell, Turn};
use crate::{Report, lock};

/// How quickly decisions take effect, measured where it happens.
#[derive(Clone, Debug, Default)]
pub struct Reaction {
    /// From publication of a plan until a slot's agent ran, in nanoseconds.
    pub start_ns: Vec<u32>,
    /// From the moment that a slot was to stop, or was revoked, until it had stopped, in nanoseconds.
    pub stop_ns: Vec<u32>,
}

/// The most samples kept between two looks.
const SAMPLES: usize = 1 << 16;

/// What a worker and the market thread share.
#[derive(Debug)]
pub(super) struct Desk {
    /// The newest plan.
    pub(super) plan: Mutex<Option<Arc<Plan>>>,
    pub(super) plan_number: AtomicU64,
    /// The newest plan that the worker is done with.
    pub(super) done: AtomicU64,
    pub(super) report: Mutex<Report>,
    pub(super) reaction: Mutex<Reaction>,
    pub(super) quit: AtomicBool,
    /// A cell is thawed on the chance that it goes on.
    pub(super) lingers: AtomicBool,
    /// Core time of this process that agents were billed for, in nanoseconds.
    pub(super) own_ns: AtomicU64,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self {
            plan: Mutex::new(None),
            plan_number: AtomicU64::new(0),
            done: AtomicU64::new(0),
            report: Mutex::new(Report::default()),
            reaction: Mutex::new(Reaction::default()),
            quit: AtomicBool::new(false),
            lingers: AtomicBool::new(false),
            own_ns: AtomicU64::new(0),
        }
    }
}

/// A slot with less time left than this is not worth another agent's start.
const RESALE_LEAST: Duration = Duration::from_micros(150);
/// Between two plans a worker spins for this long before it sleeps: the market thread needs about as long to decide.
const SPIN: Duration = Duration::from_micros(250);
/// A cell that lingers is released when no plan has come this long after its slot: the market is late.
pub(crate) const LINGER: Duration = Duration::from_millis(1);

/// A cell that was left thawed when its slot was over, and until when.
struct Lingering {
    agent: AgentId,
    cell: Arc<dyn Cell>,
    until: Instant,
}

/// The life of a worker, which is bound to `core` if one is given.
pub(super) fn work(slot: usize, core: Option<usize>, desk: &Desk) {
    let mut finished = 0;
    let mut report = Report::default();
    let mut lingering: Option<Lingering> = None;
    while !desk.quit.load(Ordering::Acquire) {
        let Some(plan) = next_plan(desk, finished, &mut lingering) else { continue };
        if let Some(left) = lingering.take()
            && !plan.seats(left.agent)
        {
            left.cell.release();
        }
        desk.lingers.store(false, Ordering::Release);
        let mut runner = Runner { desk, plan: &plan, core, report: &mut report, lingering: None };
        runner.run_all(slot);
        lingering = runner.lingering;
        desk.lingers.store(lingering.is_some(), Ordering::Release);
        finished = plan.number;
        drop(plan);
        desk.done.store(finished, Ordering::Release);
    }
    if let Some(left) = lingering {
        left.cell.release();
    }
}

/// Waits for a plan newer than `finished`: spins a little, then sleeps until woken. Releases who lingers too long.
fn next_plan(desk: &Desk, finished: u64, lingering: &mut Option<Lingering>) -> Option<Arc<Plan>> {
    let from = Instant::now();
    while desk.plan_number.load(Ordering::Acquire) == finished {
        if desk.quit.load(Ordering::Acquire) {
            return None;
        }
        // Whoever lingers needs the core.
        if finished > 0 && lingering.is_none() && from.elapsed() < SPIN {
            std::hint::spin_loop();
            continue;
        }
        let Some(until) = lingering.as_ref().map(|left| left.until) else {
            std::thread::park();
            continue;
        };
        match until.checked_duration_since(Instant::now()) {
            Some(left) if left > Duration::ZERO => std::thread::park_timeout(left),
            _ => {
                if let Some(left) = lingering.take() {
                    left.cell.release();
                }
            }
        }
    }
    lock(&desk.plan).clone()
}

struct Runner<'a> {
    desk: &'a Desk,
    plan: &'a Plan,
    core: Option<usize>,
    report: &'a mut Report,
    lingering: Option<Lingering>,
}

impl Runner<'_> {
    fn run_all(&mut self, slot: usize) {
        match self.plan.places.get(slot) {
            None | Some(Place::Dark) => return,
            Some(Place::Lit(seat)) => {
                self.run(seat, true);
                if seat.assignment.slots > 1 {
                    self.plan.set_over(slot);
                }
            }
            Some(Place::Follows(lead)) => self.plan.wait_over(*lead, &self.desk.quit),
        }
        while Instant::now() + RESALE_LEAST < self.plan.stop_at && !self.plan.is_revoked() {
            let Some(seat) = self.plan.take_standby() else { break };
            // It lost its chance to go on: somebody else has its slot.
            if let Some(left) = self.lingering.take() {
                left.cell.release();
            }
            self.run(seat, false);
        }
    }

    fn run(&mut self, seat: &Seat, from_start: bool) {
        let cell = &self.plan.cells[seat.cell];
        let turn = Turn::new(self.plan, seat, self.core);
        let ran = cell.run(&turn, self.report);
        self.desk.own_ns.fetch_add(ran.own_ns, Ordering::Relaxed);
        let (started, stopped) = turn.times();
        if let Some(took) = started.filter(|_| from_start) {
            self.sample(|reaction| &mut reaction.start_ns, took);
        }
        if let Some(took) = stopped {
            self.sample(|reaction| &mut reaction.stop_ns, took);
        }
        lock(&self.desk.report).append(self.report);
        if ran.lingers {
            let until = self.plan.due() + LINGER;
            self.lingering = Some(Lingering { agent: seat.assignment.grant.agent, cell: Arc::clone(cell), until });
        }
    }

    fn sample(&self, which: impl FnOnce(&mut Reaction) -> &mut Vec<u32>, took: Duration) {
        let mut reaction = lock(&self.desk.reaction);
        let samples = which(&mut reaction);
        if samples.len() < SAMPLES {
            samples.push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
        }
    }
}
