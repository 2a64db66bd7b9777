//! Slots: one worker thread for each core on sale, running whatever cells the market seats there.
//!
//! A plan (`plan.rs`) says who runs where in a tick; a worker (`worker.rs`) carries it out, hands what is left of a slot to
//! the standbys, and reports. What an agent is made of, only its [`Cell`] knows.

mod plan;
mod turn;
mod worker;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use maxwell_core::AgentId;
use maxwell_core::agent::SlotId;
use maxwell_core::market::Usage;
pub use turn::{Cell, Ran, Turn};
pub(crate) use worker::LINGER;
pub use worker::Reaction;

use self::plan::{Place, Plan};
use self::worker::Desk;
use crate::{Assignment, Cells, Quote, Report, lock};

/// A worker thread and what is shared with it.
#[derive(Debug)]
struct Worker {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
    /// The newest plan in which this worker had something to do.
    dispatched: u64,
}

/// The slots of a machine, and the cells that run on them. See the [module documentation](self).
#[derive(Debug)]
pub struct Slots {
    cells: Arc<Vec<Arc<dyn Cell>>>,
    workers: Vec<Worker>,
    plan: Option<Arc<Plan>>,
    plans: u64,
}

impl Slots {
    /// Starts a worker for each slot, bound to a core of its own if `pin` says so.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started.
    pub fn new(slots: u16, pin: bool) -> std::io::Result<Self> {
        let mut all = Self { cells: Arc::new(Vec::new()), workers: Vec::new(), plan: None, plans: 0 };
        for slot in 0..usize::from(slots) {
            let desk = Arc::new(Desk::new());
            let shared = Arc::clone(&desk);
            let thread = std::thread::Builder::new().name(format!("maxwell-slot-{slot}")).spawn(move || {
                let core = pin.then(|| pin_to(slot)).flatten();
                worker::work(slot, core, &shared);
            })?;
            all.workers.push(Worker { desk, thread: Some(thread), dispatched: 0 });
        }
        Ok(all)
    }

    /// The number that the next cell gets.
    #[must_use]
    pub fn next_id(&self) -> AgentId {
        AgentId(self.cells.len() as u64)
    }

    /// Adds the next agent's cell, which must have been made for [`next_id`](Self::next_id).
    pub fn add(&mut self, cell: Arc<dyn Cell>) -> AgentId {
        let id = self.next_id();
        // Plans that are still running keep their own list.
        Arc::make_mut(&mut self.cells).push(cell);
        id
    }

    /// Stops every running slot as soon as its cell can stop.
    pub fn revoke(&self) {
        if let Some(plan) = &self.plan {
            plan.revoke();
        }
    }

    /// How quickly decisions took effect since the last call.
    pub fn take_reaction(&mut self) -> Reaction {
        let mut all = Reaction::default();
        for worker in &self.workers {
            let taken = std::mem::take(&mut *lock(&worker.desk.reaction));
            all.start_ns.extend(taken.start_ns);
            all.stop_ns.extend(taken.stop_ns);
        }
        all
    }

    /// Core time of this process that agents were billed for, in nanoseconds since the start.
    #[must_use]
    pub fn billed_ns(&self) -> u64 {
        self.workers.iter().map(|worker| worker.desk.own_ns.load(Ordering::Relaxed)).sum()
    }

    fn is_done(worker: &Worker) -> bool {
        worker.desk.done.load(Ordering::Acquire) >= worker.dispatched
    }

    fn cell(&self, agent: AgentId) -> Option<&Arc<dyn Cell>> {
        self.cells.get(usize::try_from(agent.0).ok()?)
    }
}

impl Cells for Slots {
    fn dispatch(&mut self, quote: Quote, ends: Instant, assignments: &[Assignment]) {
        self.plans += 1;
        let mut plan = Plan::new(self.plans, quote, ends, Arc::clone(&self.cells), self.workers.len());
        plan.seat(assignments);
        let plan = Arc::new(plan);
        for (slot, worker) in self.workers.iter_mut().enumerate() {
            // A slot that was not sold stays dark (only who ran out of its own work takes a standby), but must let go of
            // who lingers there. A worker that has not come to its last plan yet has everything to do.
            let lets_go = worker.desk.lingers.load(Ordering::Acquire) && Self::is_done(worker);
            if matches!(plan.places[slot], Place::Dark) && !lets_go {
                continue;
            }
            *lock(&worker.desk.plan) = Some(Arc::clone(&plan));
            worker.dispatched = plan.number;
            worker.desk.plan_number.store(plan.number, Ordering::Release);
            if let Some(thread) = &worker.thread {
                thread.thread().unpark();
            }
        }
        self.plan = Some(plan);
    }

    fn collect(&mut self, patience: Duration, report: &mut Report) {
        let until = Instant::now() + patience;
        while !self.workers.iter().all(Self::is_done) && Instant::now() < until {
            std::thread::sleep(Duration::from_micros(20));
        }
        // Its agents would wait for ever, unpaid. Unwinding from here ends them all.
        let ended = |worker: &Worker| worker.thread.as_ref().is_some_and(JoinHandle::is_finished);
        assert!(!self.workers.iter().any(ended), "a slot's thread has ended: see above why");
        for (slot, worker) in self.workers.iter().enumerate() {
            let done = Self::is_done(worker);
            report.append(&mut lock(&worker.desk.report));
            if !done {
                report.busy.push(SlotId(u16::try_from(slot).expect("slots are counted in u16")));
            }
        }
        if let Some(plan) = self.plan.take() {
            report.usages.extend(plan.close().iter().map(|seat| Usage::not_run(seat.assignment.grant.agent)));
        }
    }

    fn end(&mut self, agent: AgentId) {
        if let Some(cell) = self.cell(agent) {
            cell.end();
        }
    }

    fn respawn(&mut self, agent: AgentId) {
        if let Some(cell) = self.cell(agent) {
            cell.respawn();
        }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.revoke();
        for worker in &self.workers {
            worker.desk.quit.store(true, Ordering::Release);
            if let Some(thread) = &worker.thread {
                thread.thread().unpark();
            }
        }
        for thread in self.workers.iter_mut().filter_map(|worker| worker.thread.take()) {
            // A worker that panicked has already said so on stderr.
            let _ = thread.join();
        }
        if std::thread::panicking() {
            // Others may hold cells, and may not come to drop them.
            self.cells.iter().for_each(|cell| cell.end());
        }
    }
}

/// Binds the calling thread to the `slot`-th core that this process may use, and tells which. Where that is forbidden the thread
/// simply floats.
fn pin_to(slot: usize) -> Option<usize> {
    let allowed = rustix::thread::sched_getaffinity(None).ok()?;
    let cores: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    let core = *cores.get(slot.checked_rem(cores.len())?)?;
    let mut only = rustix::thread::CpuSet::new();
    only.set(core);
    rustix::thread::sched_setaffinity(None, &only).ok().map(|()| core)
}
