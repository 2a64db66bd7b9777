//! WebAssembly cells: the embedded default, which needs no privileges.
//!
//! * [`Wasm::register`] checks and compiles a module once, off the tick; [`Wasm::spawn`] makes an agent of it.
//! * Each agent is a future that owns its store (`agent.rs`); **freezing is not polling, killing is dropping**.
//! * Metering is by fuel, which is deterministic: after some fuel the guest yields and the worker looks at the clock. How
//!   much is adapted to the guest, so that a yield comes every few tens of microseconds. Billing is by thread CPU time around the polls (`worker.rs`), so work that ends in a trap is
//!   billed like any other.
//! * Erased bytes are what the kernel proves (`dirty.rs`); imports are in `abi.rs`; `engine.rs` says what a module must
//!   look like.

mod abi;
mod agent;
mod dirty;
mod engine;
mod worker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use dirty::Method;
pub use engine::{Program, WasmConfig, WasmError};
use maxwell_core::agent::{LeaseKind, SlotId};
use maxwell_core::bounty::{SponsorId, Verifier};
use maxwell_core::market::{Stop, Usage};
use maxwell_core::{AgentId, Bytes, Joule, Micros};
pub use worker::Reaction;

use self::abi::{Commons, Exchange, Host, Inbox, Offer, Pace, SplitMix64, lock};
use self::dirty::Kernel;
use self::worker::{Body, Cell, Desk, Plan, Seat};
use crate::{Assignment, Cells, Quote, Report};

/// A worker thread and what is shared with it.
#[derive(Debug)]
struct Worker {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
    /// The newest plan in which this worker had something to do.
    dispatched: u64,
}

/// The WASM cells of a machine. See the [module documentation](self).
pub struct Wasm {
    config: WasmConfig,
    linker: wasmtime::Linker<Host>,
    kernel: Option<Arc<Kernel>>,
    commons: Arc<Commons>,
    cells: Arc<Vec<Arc<Cell>>>,
    /// What each agent was made from, for its revival.
    programs: Vec<Program>,
    workers: Vec<Worker>,
    plan: Option<Arc<Plan>>,
    plans: u64,
    /// Dead agents go here to be dropped: giving memory back takes longer than a tick has.
    morgue: Option<mpsc::Sender<agent::Life>>,
    reaper: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Wasm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wasm").field("config", &self.config).field("cells", &self.cells.len()).finish_non_exhaustive()
    }
}

impl Wasm {
    /// Sets up the engine and starts the workers.
    ///
    /// # Errors
    ///
    /// [`WasmError::Engine`] or [`WasmError::Thread`].
    pub fn new(config: WasmConfig) -> Result<Self, WasmError> {
        let engine = engine::engine(&config)?;
        let mut linker = wasmtime::Linker::new(&engine);
        abi::define(&mut linker)?;
        let kernel = if config.force_checksum { None } else { Kernel::open().ok().map(Arc::new) };
        let (morgue, dead) = mpsc::channel::<agent::Life>();
        let reaper = std::thread::Builder::new().name("maxwell-reaper".into()).spawn(move || {
            for life in dead {
                drop(life);
            }
        })?;
        let mut wasm = Self {
            linker,
            kernel,
            commons: Arc::new(Commons::default()),
            cells: Arc::new(Vec::new()),
            programs: Vec::new(),
            workers: Vec::new(),
            plan: None,
            plans: 0,
            morgue: Some(morgue),
            reaper: Some(reaper),
            config,
        };
        for slot in 0..usize::from(wasm.config.slots) {
            wasm.start_worker(slot)?;
        }
        Ok(wasm)
    }

    fn start_worker(&mut self, slot: usize) -> Result<(), WasmError> {
        let desk = Arc::new(Desk::new());
        let (shared, kernel) = (Arc::clone(&desk), self.kernel.clone());
        let pin = self.config.pin;
        let thread = std::thread::Builder::new().name(format!("maxwell-slot-{slot}")).spawn(move || {
            if pin {
                pin_to(slot);
            }
            worker::work(slot, &shared, kernel.as_deref());
        })?;
        self.workers.push(Worker { desk, thread: Some(thread), dispatched: 0 });
        Ok(())
    }

    /// How erased bytes are counted here.
    #[must_use]
    pub fn method(&self) -> Method {
        if self.kernel.is_some() { Method::PagemapScan } else { Method::Checksum }
    }

    /// Checks and compiles a module, binary or text. Takes milliseconds to seconds: not for the tick thread.
    ///
    /// # Errors
    ///
    /// What is wrong with the module, and what to do about it.
    pub fn register(&self, bytes: &[u8]) -> Result<Program, WasmError> {
        engine::program(&self.config, &self.linker, bytes)
    }

    /// Tells agents about a sponsor.
    pub fn sponsor(&mut self, sponsor: SponsorId, verifier: Verifier, reward: Joule) {
        let mut offers = self.commons.offers.write().unwrap_or_else(PoisonError::into_inner);
        offers.push(Offer { sponsor, verifier, reward, funded: AtomicBool::new(true) });
    }

    /// Tells agents whether a sponsor can still pay.
    pub fn set_funded(&mut self, sponsor: SponsorId, funded: bool) {
        let offers = self.commons.offers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(offer) = offers.iter().find(|offer| offer.sponsor == sponsor) {
            offer.funded.store(funded, Ordering::Relaxed);
        }
    }

    /// Makes the next agent's cell. Its code runs for the first time in its first slot: instantiating is paid for too.
    ///
    /// # Errors
    ///
    /// [`WasmError::Full`].
    pub fn spawn(&mut self, program: &Program) -> Result<AgentId, WasmError> {
        let id = AgentId(self.cells.len() as u64);
        if self.cells.len() >= usize::try_from(self.config.agents).unwrap_or(usize::MAX) {
            return Err(WasmError::Full(self.config.agents));
        }
        let inbox = Arc::new(Inbox::open());
        self.commons.inboxes.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&inbox));
        let exchange = Arc::new(Exchange::default());
        exchange.memory_len.store(usize::try_from(program.initial_memory.0).unwrap_or(usize::MAX), Ordering::Relaxed);
        let body = Body {
            life: Some(self.conceive(id, program, &exchange, &inbox)),
            watched: None,
            core_ns: 0,
            unbilled_ns: 0,
            fuel_billed: 0,
            last_words: None,
        };
        let cell = Cell { id, exchange, inbox, body: Mutex::new(body) };
        // Plans that are still running keep their own list.
        Arc::make_mut(&mut self.cells).push(Arc::new(cell));
        self.programs.push(program.clone());
        Ok(id)
    }

    fn conceive(&self, id: AgentId, program: &Program, exchange: &Arc<Exchange>, inbox: &Arc<Inbox>) -> agent::Life {
        let mut seeder = SplitMix64(self.config.seed ^ id.0.wrapping_mul(0xA076_1D64_78BD_642F));
        let host = Host {
            id,
            exchange: Arc::clone(exchange),
            inbox: Arc::clone(inbox),
            commons: Arc::clone(&self.commons),
            random: SplitMix64(seeder.next()),
            max_memory: usize::try_from(self.config.max_memory.0).unwrap_or(usize::MAX),
            interval: Pace::FIRST,
            refused_memory: false,
        };
        exchange.interval.store(Pace::FIRST, Ordering::Relaxed);
        agent::life(program.clone(), host)
    }

    /// Stops every running slot at its next fuel yield.
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

    /// Core time that agents were billed for, in nanoseconds since the start.
    #[must_use]
    pub fn billed_ns(&self) -> u64 {
        self.workers.iter().map(|worker| worker.desk.billed_ns.load(Ordering::Relaxed)).sum()
    }

    fn is_done(worker: &Worker) -> bool {
        worker.desk.done.load(Ordering::Acquire) >= worker.dispatched
    }
}

impl Cells for Wasm {
    fn dispatch(&mut self, quote: Quote, ends: Instant, assignments: &[Assignment]) {
        self.plans += 1;
        let cells = Arc::clone(&self.cells);
        let mut plan = Plan::new(self.plans, quote, ends, cells, self.workers.len(), assignments.len());
        for assignment in assignments {
            let cell = usize::try_from(assignment.grant.agent.0).unwrap_or(usize::MAX);
            if cell >= self.cells.len() {
                continue;
            }
            let seat = Seat { assignment: *assignment, cell };
            match assignment.grant.kind {
                LeaseKind::Slot(SlotId(slot)) | LeaseKind::LastWords(SlotId(slot)) => {
                    if let Some(place) = plan.seats.get_mut(usize::from(slot)) {
                        *place = Some(seat);
                    }
                }
                LeaseKind::Standby => plan.standby.push(seat),
            }
        }
        let plan = Arc::new(plan);
        for (slot, worker) in self.workers.iter_mut().enumerate() {
            // A slot that was not sold stays dark: only who ran out of its own work takes a standby.
            if plan.seats[slot].is_none() {
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
        for (slot, worker) in self.workers.iter().enumerate() {
            let done = Self::is_done(worker);
            let mut theirs = lock(&worker.desk.report);
            report.usages.append(&mut theirs.usages);
            report.claims.append(&mut theirs.claims);
            report.utterances.append(&mut theirs.utterances);
            report.failures.append(&mut theirs.failures);
            if !done {
                report.busy.push(SlotId(u16::try_from(slot).expect("slots are counted in u16")));
            }
        }
        if let Some(plan) = self.plan.take() {
            report.usages.extend(plan.close().iter().map(|seat| Usage {
                agent: seat.assignment.grant.agent,
                core: Micros::ZERO,
                fuel: 0,
                erased: Bytes::ZERO,
                held: Bytes::ZERO,
                bid: None,
                stop: Stop::NotRun,
            }));
        }
    }

    fn end(&mut self, agent: AgentId) {
        if let Some(cell) = usize::try_from(agent.0).ok().and_then(|index| self.cells.get(index))
            && let Some(life) = worker::bury(cell, &mut lock(&cell.body))
            && let Some(morgue) = &self.morgue
        {
            // If the reaper is gone the life comes back in the error and is dropped here.
            let _ = morgue.send(life);
        }
    }

    fn respawn(&mut self, agent: AgentId) {
        let index = usize::try_from(agent.0).unwrap_or(usize::MAX);
        let (Some(cell), Some(program)) = (self.cells.get(index), self.programs.get(index)) else { return };
        let mut body = lock(&cell.body);
        drop(worker::bury(cell, &mut body));
        cell.inbox.reopen(body.last_words.take());
        let exchange = &cell.exchange;
        exchange.condemned.store(false, Ordering::Relaxed);
        exchange.fuel.store(0, Ordering::Relaxed);
        exchange.memory_len.store(usize::try_from(program.initial_memory.0).unwrap_or(usize::MAX), Ordering::Relaxed);
        body.fuel_billed = 0;
        body.life = Some(self.conceive(agent, program, exchange, &cell.inbox));
    }
}

impl Drop for Wasm {
    fn drop(&mut self) {
        self.revoke();
        for worker in &self.workers {
            worker.desk.quit.store(true, Ordering::Release);
            if let Some(thread) = &worker.thread {
                thread.thread().unpark();
            }
        }
        self.morgue = None;
        let threads = self.workers.iter_mut().filter_map(|worker| worker.thread.take()).chain(self.reaper.take());
        for thread in threads {
            // A worker that panicked has already said so on stderr.
            let _ = thread.join();
        }
    }
}

/// Binds the calling thread to the `slot`-th core that this process may use. Where that is forbidden the thread simply
/// floats.
fn pin_to(slot: usize) {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else { return };
    let cores: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    if cores.is_empty() {
        return;
    }
    let mut only = rustix::thread::CpuSet::new();
    only.set(cores[slot % cores.len()]);
    let _ = rustix::thread::sched_setaffinity(None, &only);
}
