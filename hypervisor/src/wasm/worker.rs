//! Workers: one thread for each slot, pinned to a core, polling agents.
//!
//! ```text
//!   market thread                                worker i
//!   publish plan ──────────────────────────────► run the lease of slot i until it ends or time is up
//!                                                while time is left: take the next standby, run it
//!   collect ◄──────── usages, claims, words ──── done with plan
//! ```
//!
//! A worker looks at the clock after every fuel interval and stops by itself when the slot is over, so that the market
//! thread need not interrupt anybody; [`Plan::revoke`] stops all of them early. It is billed thread CPU time from
//! before the first poll until after the scan for erased bytes: an agent pays for its own metering, and nobody pays
//! for time that the operating system gave to somebody else.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use maxwell_core::agent::LeaseKind;
use maxwell_core::market::{Stop, Usage};
use maxwell_core::{AgentId, Bytes, Micros};

use super::abi::{Exchange, Inbox, Pace, StepEnd, lock};
use super::agent::{Ended, Life};
use super::dirty::{Kernel, Watched};
use crate::{Assignment, Quote, Report, Utterance, clock};

/// An agent's cell.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) id: AgentId,
    pub(super) exchange: Arc<Exchange>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) body: Mutex<Body>,
}

/// The part of a cell that only its runner touches.
pub(super) struct Body {
    /// `None` once it has ended.
    pub(super) life: Option<Life>,
    pub(super) watched: Option<Watched>,
    pub(super) core_ns: u64,
    /// Core time below a microsecond that was not billed yet.
    pub(super) unbilled_ns: u64,
    pub(super) fuel_billed: u64,
    pub(super) last_words: Option<Vec<u8>>,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body")
            .field("alive", &self.life.is_some())
            .field("watched", &self.watched)
            .finish_non_exhaustive()
    }
}

/// A lease and where the cell that holds it is in the plan's list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    pub(super) assignment: Assignment,
    pub(super) cell: usize,
}

/// What the workers do in one tick.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) number: u64,
    pub(super) quote: Quote,
    pub(super) published: Instant,
    /// Slots stop at the first fuel yield after this.
    pub(super) stop_at: Instant,
    /// All cells: one shared list, so that a plan of a hundred leases touches no reference counts that other cores hold.
    cells: Arc<Vec<Arc<Cell>>>,
    pub(super) seats: Vec<Option<Seat>>,
    pub(super) standby: Vec<Seat>,
    next: AtomicUsize,
    revoked: AtomicBool,
    /// When it was revoked, in nanoseconds after publication.
    revoked_ns: AtomicU64,
}

impl Plan {
    pub(super) fn new(
        number: u64,
        quote: Quote,
        stop_at: Instant,
        cells: Arc<Vec<Arc<Cell>>>,
        slots: usize,
        leases: usize,
    ) -> Self {
        Self {
            number,
            quote,
            published: Instant::now(),
            stop_at,
            cells,
            seats: vec![None; slots],
            standby: Vec::with_capacity(leases),
            next: AtomicUsize::new(0),
            revoked: AtomicBool::new(false),
            revoked_ns: AtomicU64::new(0),
        }
    }

    /// Stops every slot at its next fuel yield, and hands out no more standbys.
    pub(super) fn revoke(&self) {
        let after = u64::try_from(self.published.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.revoked_ns.store(after, Ordering::Relaxed);
        self.revoked.store(true, Ordering::Release);
    }

    /// The standbys that nobody has taken, which nobody will take from now on.
    pub(super) fn close(&self) -> &[Seat] {
        let taken = self.next.swap(usize::MAX / 2, Ordering::AcqRel).min(self.standby.len());
        &self.standby[taken..]
    }

    fn take_standby(&self) -> Option<&Seat> {
        // A plan that ran out must not count on for ever.
        if self.next.load(Ordering::Relaxed) >= self.standby.len() {
            return None;
        }
        self.standby.get(self.next.fetch_add(1, Ordering::AcqRel))
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= self.stop_at || self.revoked.load(Ordering::Acquire)
    }
}

/// How quickly decisions take effect, measured where it happens.
#[derive(Clone, Debug, Default)]
pub struct Reaction {
    /// From publication of a plan to the first poll of a slot's agent, in nanoseconds.
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
    /// Core time that this worker has billed to agents, in nanoseconds.
    pub(super) billed_ns: AtomicU64,
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
            billed_ns: AtomicU64::new(0),
        }
    }
}

/// A slot with less time left than this is not worth another agent's start.
const RESALE_LEAST: Duration = Duration::from_micros(150);
/// Between two plans a worker spins for this long before it sleeps: the market thread needs about as long to decide.
const SPIN: Duration = Duration::from_micros(250);

/// The life of a worker.
pub(super) fn work(slot: usize, desk: &Desk, kernel: Option<&Kernel>) {
    let mut finished = 0;
    let mut billed_ns = 0;
    while !desk.quit.load(Ordering::Acquire) {
        let Some(plan) = next_plan(desk, finished) else { continue };
        let mut runner = Runner { desk, kernel, plan: &plan, billed_ns: 0 };
        let lit = plan.seats.get(slot).and_then(Option::as_ref);
        if let Some(seat) = lit {
            runner.run(seat, true);
        }
        while lit.is_some() && Instant::now() + RESALE_LEAST < plan.stop_at && !plan.revoked.load(Ordering::Acquire) {
            let Some(seat) = plan.take_standby() else { break };
            runner.run(seat, false);
        }
        billed_ns += runner.billed_ns;
        finished = plan.number;
        drop(plan);
        desk.billed_ns.store(billed_ns, Ordering::Relaxed);
        desk.done.store(finished, Ordering::Release);
    }
}

/// Waits for a plan newer than `finished`: spins a little, then sleeps until woken.
fn next_plan(desk: &Desk, finished: u64) -> Option<Arc<Plan>> {
    let from = Instant::now();
    while desk.plan_number.load(Ordering::Acquire) == finished {
        if desk.quit.load(Ordering::Acquire) {
            return None;
        }
        if finished > 0 && from.elapsed() < SPIN {
            std::hint::spin_loop();
        } else {
            std::thread::park();
        }
    }
    lock(&desk.plan).clone()
}

struct Runner<'a> {
    desk: &'a Desk,
    kernel: Option<&'a Kernel>,
    plan: &'a Plan,
    billed_ns: u64,
}

/// The agent has ended, or its last words are over. Dropping what this returns unwinds whatever it was doing and gives
/// its memory back.
pub(super) fn bury(cell: &Cell, body: &mut Body) -> Option<Life> {
    if let Some(words) = lock(&cell.exchange.slot).last_words.take() {
        body.last_words = Some(words);
    }
    // The memory goes back to the pool with the life; it must not be watched any longer.
    body.watched = None;
    cell.exchange.memory_base.store(0, Ordering::Relaxed);
    cell.inbox.close();
    body.life.take()
}

/// What polling came to.
struct Polled {
    stop: Stop,
    /// Why it failed, in words.
    why: Option<String>,
    /// The life has ended and must not be polled again.
    over: bool,
}

impl Polled {
    fn stopped(stop: Stop) -> Self {
        Self { stop, why: None, over: false }
    }

    fn over(stop: Stop) -> Self {
        Self { stop, why: None, over: true }
    }
}

impl Runner<'_> {
    fn run(&mut self, seat: &Seat, from_start: bool) {
        let began_ns = clock::thread_cpu_ns();
        let cell = &*self.plan.cells[seat.cell];
        let mut body = lock(&cell.body);
        let last_words = matches!(seat.assignment.grant.kind, LeaseKind::LastWords(_));
        self.prepare(cell, seat, &body, began_ns, last_words);
        if from_start {
            self.sample(|reaction| &mut reaction.start_ns, self.plan.published.elapsed());
        }
        let polled = match body.life.as_mut() {
            None => Polled::stopped(Stop::NotRun),
            Some(life) => self.poll(cell, life),
        };
        if polled.over || last_words {
            drop(bury(cell, &mut body));
        }
        let erased = self.erased(cell, &mut body);
        let usage = self.bill(cell, &mut body, began_ns, erased, polled.stop);
        drop(body);
        self.report(cell, usage, last_words, polled.why);
    }

    /// Puts the slot's facts where the agent's imports find them.
    fn prepare(&self, cell: &Cell, seat: &Seat, body: &Body, began_ns: u64, last_words: bool) {
        let exchange = &cell.exchange;
        if last_words {
            exchange.condemned.store(true, Ordering::Relaxed);
        }
        let mut slot = lock(&exchange.slot);
        slot.quote = self.plan.quote;
        slot.balance = seat.assignment.balance;
        slot.core_before_ns = body.core_ns;
        slot.began_ns = began_ns;
        slot.bid = None;
        slot.claims.clear();
        slot.said.clear();
        slot.unsaid = 0;
        slot.step = None;
    }

    /// Polls until the slot is over or the agent wants nothing more.
    fn poll(&self, cell: &Cell, life: &mut Life) -> Polled {
        let mut context = Context::from_waker(Waker::noop());
        let interval = &cell.exchange.interval;
        let mut began = Instant::now();
        loop {
            match life.as_mut().poll(&mut context) {
                Poll::Ready(Ended::Done | Ended::Condemned) => return Polled::over(Stop::Done),
                Poll::Ready(Ended::Trapped(trap, why)) => {
                    return Polled { stop: Stop::Trapped(trap), why: Some(why), over: true };
                }
                Poll::Pending => {}
            }
            let step = lock(&cell.exchange.slot).step.take();
            match step {
                Some(StepEnd::Idle) => return Polled::stopped(Stop::Idle),
                // It keeps its life for its last words.
                Some(StepEnd::Failed(trap, why)) => {
                    return Polled { stop: Stop::Trapped(trap), why: Some(why), over: false };
                }
                Some(StepEnd::More) | None => {}
            }
            let now = Instant::now();
            interval.store(Pace::next(interval.load(Ordering::Relaxed), now - began), Ordering::Relaxed);
            began = now;
            if self.plan.is_over(now) {
                let due = if self.plan.revoked.load(Ordering::Acquire) {
                    self.plan.published + Duration::from_nanos(self.plan.revoked_ns.load(Ordering::Relaxed))
                } else {
                    self.plan.stop_at
                };
                self.sample(|reaction| &mut reaction.stop_ns, now.saturating_duration_since(due));
                return Polled::stopped(Stop::SlotEnd);
            }
        }
    }

    fn erased(&self, cell: &Cell, body: &mut Body) -> u64 {
        let base = cell.exchange.memory_base.load(Ordering::Relaxed);
        let len = cell.exchange.memory_len.load(Ordering::Relaxed);
        if base == 0 || body.life.is_none() {
            return 0;
        }
        match &mut body.watched {
            Some(watched) => watched.erased(self.kernel, len),
            // SAFETY: base and length are those of the instance's only memory. In the pool a memory never moves, and it
            // stays mapped until the store is dropped; `bury` drops the watch first.
            none => {
                // SAFETY: base and length are those of the instance's only memory. In the pool a memory never moves, and
                // it stays mapped until the store is dropped; `bury` drops the watch first.
                let watched = unsafe { Watched::new(self.kernel, base, len) };
                *none = Some(watched);
                0
            }
        }
    }

    fn bill(&mut self, cell: &Cell, body: &mut Body, began_ns: u64, erased: u64, stop: Stop) -> Usage {
        let exchange = &cell.exchange;
        let burned = exchange.fuel.load(Ordering::Relaxed);
        let fuel = burned.max(body.fuel_billed) - body.fuel_billed;
        body.fuel_billed += fuel;
        let used_ns = clock::thread_cpu_ns().saturating_sub(began_ns);
        self.billed_ns += used_ns;
        body.core_ns += used_ns;
        body.unbilled_ns += used_ns;
        let core = Micros(body.unbilled_ns / 1_000);
        body.unbilled_ns %= 1_000;
        Usage {
            agent: cell.id,
            core,
            fuel,
            erased: Bytes(erased),
            held: Bytes(exchange.memory_len.load(Ordering::Relaxed) as u64),
            bid: lock(&exchange.slot).bid,
            stop,
        }
    }

    fn report(&self, cell: &Cell, usage: Usage, last: bool, failure: Option<String>) {
        let mut slot = lock(&cell.exchange.slot);
        let mut report = lock(&self.desk.report);
        report.usages.push(usage);
        report.claims.append(&mut slot.claims);
        let agent = cell.id;
        report.utterances.extend(slot.said.drain(..).map(|text| Utterance { agent, text, last }));
        if slot.unsaid > 0 {
            let text = format!("(and {} more lines, not shown: an agent may log 8 lines a slot)", slot.unsaid);
            report.utterances.push(Utterance { agent, text, last });
        }
        report.failures.extend(failure.map(|why| (agent, why)));
    }

    fn sample(&self, which: impl FnOnce(&mut Reaction) -> &mut Vec<u32>, took: Duration) {
        let mut reaction = lock(&self.desk.reaction);
        let samples = which(&mut reaction);
        if samples.len() < SAMPLES {
            samples.push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
        }
    }
}
