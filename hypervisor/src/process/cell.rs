//! A tree of processes as an agent's cell.
//!
//! ```text
//!            turn                          turn over, it may go on            next plan
//!  frozen ─────────► thawed ──────────────────────────────────► lingering ───────────────► thawed   (it won again)
//!     ▲                 │ used up what it bought; idle while      │ next plan without it, or none in time
//!     │                 │ others stand by                         │
//!     └─────────────────┴─────────────────────────────────────────┘
//!                       │ its command ended, or its last words are over
//!                       └──────► killed, counted to the end, gone
//! ```
//!
//! * **Core time** is the group's task-clock, read when a turn ends. Who has used more cores than it had bought not long ago,
//!   or is new, is looked at in between too: no look comes later than the earliest moment at which the rest could be used up
//!   on all cores. What was used beyond is taken off the next turns, so trust that is abused gains nothing.
//! * **Erased bytes** are covered like core time: a turn ends when as much was erased as its reservation holds the tax for
//!   (`exposure.rs`). No look is needed before the agent could erase more than its wallet has money for too.
//! * **Lingering is paid ahead.** Freezing and thawing a tree of processes each tick would cost it some hundred
//!   microseconds a tick, so whoever may win again stays thawed while the market decides. The bill of the turn holds the
//!   longest time that this can last; what is not used of it comes off the next bill.
//! * **A freeze that does not finish is undone and tried again**, with more patience each time; meanwhile the slot is busy
//!   and the agent pays. One that never finishes ends the agent.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use maxwell_core::market::{Stop, Usage};
use maxwell_core::reason::Trap;
use maxwell_core::{AgentId, Bytes, Micros};
use maxwell_ebpf::Calls;
use rustix::process::Signal;

use super::census::Counted;
use super::child::Exit;
use super::command::Command;
use super::demand::Demand;
use super::exposure::Exposure;
use super::idle::{Habits, Watch};
use super::life::Life;
use super::sandbox::Enforced;
use super::workshop::{ProcessError, Workshop};
use crate::protocol::account::{Account, Wishes};
use crate::slots::LINGER;
use crate::{Cell, Ran, Report, Turn, Utterance, lock, priority};

/// The shortest time between two looks at the clock. A look takes some tens of microseconds: the clock of a task that runs on
/// another core is asked of that core.
const LOOK_LEAST: Duration = Duration::from_micros(300);
/// The longest.
const LOOK_MOST: Duration = Duration::from_millis(10);
/// Memory is released no faster than this by a core (docs/benchmarks.md has 1.9 GB/s), so that a look in time
/// sees it; but no more than a look each millisecond, which is what the tax on some megabytes is worth.
const FASTEST_BYTES_PER_NS: u64 = 2;
const ERASING_LOOK: Duration = Duration::from_millis(1);
/// How long the group may take to die when its command has ended, so that what it held is on its last bill.
const END_PATIENCE: Duration = Duration::from_millis(100);
/// Core time of a slot that is paid ahead, for lingering: the guard before the tick's end, and the longest wait after it.
const AHEAD: Duration = Duration::from_micros(1_100);
const _: () = assert!(AHEAD.as_micros() >= LINGER.as_micros() + 100, "what can be used while lingering is paid ahead");

/// An agent that is a tree of processes.
#[derive(Debug)]
pub struct ProcessCell {
    id: AgentId,
    command: Command,
    workshop: Arc<Workshop>,
    account: Arc<Account>,
    body: Mutex<Body>,
    /// It must be ended by whoever has the body now, or by who comes next.
    doomed: AtomicBool,
    /// How its command ended.
    ended: Mutex<Option<Exit>>,
    /// The system calls of its last life, if they were counted.
    calls: Mutex<Option<Calls>>,
    /// What of its sandbox holds, and which of its limits do not.
    noted: (Enforced, Vec<String>),
    /// What its processes are seen to do.
    counted: Mutex<Arc<Counted>>,
    /// For signals from outside, which do not wait for a turn's end.
    pidfd: Mutex<Option<OwnedFd>>,
    /// When it was told to end from outside: its grace began then.
    told: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Body {
    life: Option<Life>,
    demand: Demand,
    exposure: Exposure,
    wishes: Wishes,
    habits: Habits,
    /// When it was billed last, if it was left thawed then.
    lingers: Option<Instant>,
    /// Core time below a microsecond that was not billed yet.
    unbilled_ns: u64,
    /// Why it must be ended, found out when it held no lease.
    broken: Option<(Trap, String)>,
}

/// What a turn may use.
struct Bought {
    /// The clock when it began.
    from_ns: u64,
    /// Core time, on all its slots together.
    core_ns: u64,
    /// Bytes that it may erase: the tax on them is in escrow.
    erasable: u64,
    /// Bytes on which its wallet could pay the tax too, if it erased more before it is stopped.
    spare_bytes: u64,
}

/// What it may use in a turn that began then, with the clock at that.
fn bought(turn: &Turn<'_>, life: &mut Life, began: (Instant, u64)) -> Bought {
    let time = turn.ends().saturating_duration_since(began.0).saturating_mul(u32::from(turn.slots()));
    Bought {
        from_ns: began.1,
        core_ns: life.less_debt(nanos(time)),
        erasable: turn.assignment().grant.erasable.0,
        spare_bytes: turn.assignment().spare.0,
    }
}

/// Why a turn is over.
enum Over {
    /// Its time is up, and the tick's.
    Time,
    /// Its time is up, which was less than a tick.
    Short,
    /// It used all core time that it bought, or erased all that it has covered.
    Used,
    /// It did next to nothing, and others wait.
    Idle,
    /// Its command ended, or its last words are over.
    Ended,
    /// It cannot go on.
    Failed(Trap, String),
}

impl ProcessCell {
    /// Makes the cell, with its command born frozen in it.
    pub(super) fn new(id: AgentId, command: Command, workshop: Arc<Workshop>) -> Result<Self, ProcessError> {
        let account = Arc::new(Account::new(id));
        let mut life = workshop.conceive(id, &command, &account)?;
        let noted = life.noted();
        let (pidfd, counted) = (Mutex::new(life.pidfd()), Mutex::new(life.counted()));
        let body = Body {
            life: Some(life),
            demand: Demand::new(command.slots),
            exposure: Exposure::default(),
            wishes: Wishes::default(),
            habits: Habits::default(),
            lingers: None,
            unbilled_ns: 0,
            broken: None,
        };
        Ok(Self {
            id,
            command,
            workshop,
            account,
            body: Mutex::new(body),
            doomed: AtomicBool::new(false),
            ended: Mutex::new(None),
            calls: Mutex::new(None),
            noted,
            counted,
            pidfd,
            told: Mutex::new(None),
        })
    }

    /// What the agent shares with the market.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// How its command ended, once it has.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        *lock(&self.ended)
    }

    /// The system calls of its life that has ended, by class, if they were counted.
    #[must_use]
    pub fn calls(&self) -> Option<Calls> {
        *lock(&self.calls)
    }

    /// What of its sandbox really holds on this machine.
    #[must_use]
    pub fn enforced(&self) -> &Enforced {
        &self.noted.0
    }

    /// Limits that were asked for and do not hold, in words.
    #[must_use]
    pub fn unavailable(&self) -> &[String] {
        &self.noted.1
    }

    /// The group that holds its processes, for whoever meters them too; none where signals hold them, or once it has ended. Waits
    /// for a turn's end.
    #[must_use]
    pub fn group(&self) -> Option<PathBuf> {
        lock(&self.body).life.as_ref().and_then(|life| life.group().map(Path::to_owned))
    }

    /// Which of its programs erased how much, most first: by samples, for reports and not for bills. Empty where the kernel
    /// does not count.
    #[must_use]
    pub fn erasers(&self) -> Vec<(String, u64)> {
        self.workshop.sample();
        lock(&self.counted).erasers()
    }

    /// Sends a signal to its command, if that still runs. A frozen one takes it when it is thawed.
    pub fn signal(&self, signal: Signal) {
        if matches!(signal, Signal::TERM | Signal::HUP) {
            lock(&self.told).get_or_insert_with(Instant::now);
        }
        if let Some(pidfd) = &*lock(&self.pidfd) {
            // It may be gone, or run as somebody else by now.
            let _ = rustix::process::pidfd_send_signal(pidfd, signal);
        }
    }

    /// Whether it stands still, and hears no signal, until its next turn.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        // Whoever has the lock runs it.
        self.body.try_lock().is_ok_and(|body| body.life.as_ref().is_none_or(Life::is_frozen))
    }

    /// Runs until the turn is over.
    ///
    /// A look costs the agent a preemption and us some ten microseconds, so there is one only where something could go wrong
    /// before the next: it could use more cores than it bought, erase more than its money covers, or keep a core from
    /// somebody who would use it. Most turns of most agents need none.
    fn turn(&self, turn: &Turn<'_>, life: &mut Life, bought: &Bought, mut idle: Watch) -> Over {
        if bought.core_ns == 0 {
            return Over::Used;
        }
        // Who bought several goes where the kernel sends it.
        let core = turn.core().filter(|_| turn.slots() == 1 && priority::is_prompt());
        if let Err(error) = life.thaw(core) {
            return Over::Failed(Trap::Other, error.to_string());
        }
        turn.note_started();
        let cores = self.workshop.cores();
        let watched = life.is_watched_closely() && u64::from(turn.slots()) < cores;
        let (mut used_ns, mut stands, mut erased) = (0, false, 0);
        loop {
            let now = Instant::now();
            if turn.is_over(now) {
                turn.note_stopped(now);
                return if turn.is_short() && !turn.is_revoked() { Over::Short } else { Over::Time };
            }
            let mut next = LOOK_MOST;
            if watched && !stands {
                next = next.min(Duration::from_nanos((bought.core_ns - used_ns) / cores));
            }
            let room = bought.erasable.saturating_sub(erased).saturating_add(bought.spare_bytes);
            next = next.min(Duration::from_nanos(room / (FASTEST_BYTES_PER_NS * cores)).max(ERASING_LOOK));
            if turn.is_contended() {
                next = next.min(idle.window());
            }
            let left = turn.ends().saturating_duration_since(now);
            // The end is a look too.
            let wait = if next + LOOK_LEAST > left { left } else { next.max(LOOK_LEAST) };
            match life.wait(wait) {
                Ok(false) => {}
                Ok(true) => return Over::Ended,
                Err((trap, why)) => return Over::Failed(trap, why),
            }
            if wait == left {
                continue;
            }
            erased = life.erased();
            // Who has nothing covered, because nothing is left in its wallet, runs until it erases something.
            if erased > bought.erasable {
                return Over::Used;
            }
            if watched || turn.is_contended() {
                let before_ns = used_ns;
                used_ns = life.clock_ns().saturating_sub(bought.from_ns);
                stands = used_ns == before_ns;
                if used_ns >= bought.core_ns {
                    return Over::Used;
                }
                if idle.is_idle(used_ns) && turn.is_contended() && !life.wants_core() {
                    return Over::Idle;
                }
            }
        }
    }

    /// Tells it that it ends, and gives it what it has paid for to save what it can.
    fn last_words(&self, turn: &Turn<'_>, life: &mut Life) {
        let grace = self.command.grace;
        self.workshop.announce(&self.account, grace);
        if life.terminate().is_err() {
            return;
        }
        turn.note_started();
        let began = lock(&self.told).unwrap_or_else(Instant::now);
        let paid = nanos(Duration::from_micros(turn.assignment().grant.worst_case.0));
        let limit_ns = life.clock_ns().saturating_add(paid);
        while began.elapsed() < grace && !life.is_empty() && !turn.is_revoked() {
            let left_ns = limit_ns.saturating_sub(life.clock_ns());
            if left_ns == 0 {
                return;
            }
            let rest = Duration::from_nanos(left_ns / self.workshop.cores()).clamp(LOOK_LEAST, LOOK_MOST);
            life.wait_empty(rest.min(grace.saturating_sub(began.elapsed())));
        }
    }

    /// Ends a life that is to end, unless a slot's thread is at it: then that thread ends it when it is done. The market
    /// thread does not wait for a freeze that takes its time.
    fn end_if_doomed(&self) {
        let mut body = match self.body.try_lock() {
            Ok(body) => body,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if self.doomed.swap(false, Ordering::SeqCst)
            && let Some(mut life) = body.life.take()
        {
            life.kill();
            self.workshop.part(self.id);
            self.workshop.bury(life);
        }
    }

    /// Kills what is left of it, and remembers how its command ended.
    fn finish(&self, life: &mut Life) {
        life.finish(END_PATIENCE);
        *lock(&self.calls) = life.calls();
        let exit = life.start_failure().map(Exit::Code).or_else(|| life.exit());
        if let Some(exit) = exit {
            lock(&self.ended).get_or_insert(exit);
        }
        self.workshop.part(self.id);
    }

    /// What a turn came to, for the market. Leaves the life frozen, lingering, or over.
    fn conclude(&self, over: Over, turn: &Turn<'_>, life: &mut Life, report: &mut Report) -> (Stop, bool) {
        let stop = match over {
            Over::Time if !turn.is_revoked() => return (Stop::SlotEnd, true),
            Over::Time | Over::Short | Over::Used => Stop::SlotEnd,
            Over::Idle => Stop::Idle,
            Over::Ended => {
                self.finish(life);
                return (Stop::Done, false);
            }
            Over::Failed(trap, why) => {
                report.failures.push((self.id, why));
                self.finish(life);
                return (Stop::Trapped(trap), false);
            }
        };
        match life.freeze() {
            Ok(()) => (stop, false),
            Err(error) => self.conclude(Over::Failed(Trap::Unfreezable, error.to_string()), turn, life, report),
        }
    }

    /// Reports what was used, wanted and said.
    fn report(&self, body: &mut Body, mut usage: Usage, core_ns: u64, last: bool, to: &mut Report) {
        // The broker may be at it just now; then it is for the next turn.
        self.account.drain(&mut body.wishes);
        let wishes = &mut body.wishes;
        body.unbilled_ns += core_ns + wishes.service_ns;
        usage.core = Micros(body.unbilled_ns / 1_000);
        body.unbilled_ns %= 1_000;
        usage.bid = wishes.bid.take();
        to.usages.push(usage);
        to.claims.append(&mut wishes.claims);
        let agent = self.id;
        to.utterances.extend(wishes.said.drain(..).map(|text| Utterance { agent, text, last }));
        if wishes.unsaid > 0 {
            let text = format!("(and {} more lines, not shown: an agent may log 8 lines a slot)", wishes.unsaid);
            to.utterances.push(Utterance { agent, text, last });
        }
    }
}

impl Cell for ProcessCell {
    fn run(&self, turn: &Turn<'_>, report: &mut Report) -> Ran {
        priority::watch();
        let mut body = lock(&self.body);
        let mut usage = Usage::not_run(self.id);
        let broken = body.broken.take();
        let Some(mut life) = body.life.take() else {
            if let Some((trap, why)) = broken {
                usage.stop = Stop::Trapped(trap);
                report.failures.push((self.id, why));
            }
            report.usages.push(usage);
            return Ran::default();
        };
        let wanted = turn.is_last_words() || broken.is_some() || !turn.is_contended();
        if !wanted && life.is_frozen() && body.habits.rests() {
            usage.stop = Stop::Idle;
            usage.held = life.held();
            usage.erasable = body.exposure.observe(0);
            body.life = Some(life);
            self.report(&mut body, usage, 0, false, report);
            drop(body);
            self.end_if_doomed();
            return Ran::default();
        }
        // Who lingered goes on where it was billed last.
        let began = match body.lingers.take() {
            Some(since) if !life.is_frozen() => (since, life.last_clock_ns()),
            _ => (Instant::now(), life.clock_ns()),
        };
        let bought = bought(turn, &mut life, began);
        let over = match broken {
            Some((trap, why)) => Over::Failed(trap, why),
            None if turn.is_last_words() => {
                self.last_words(turn, &mut life);
                Over::Ended
            }
            None => self.turn(turn, &mut life, &bought, body.habits.watch()),
        };
        let (passed, stopped) = (began.0.elapsed(), matches!(over, Over::Used));
        let (stop, lingers) = self.conclude(over, turn, &mut life, report);
        let ahead = if lingers { AHEAD.saturating_mul(u32::from(turn.slots())) } else { Duration::ZERO };
        body.lingers = lingers.then(Instant::now);
        let used_ns = life.clock_ns().saturating_sub(began.1);
        let core_ns = life.bill(ahead);
        let busy = used_ns as f64 / nanos(passed).max(1) as f64;
        life.settle(bought.core_ns, used_ns, stopped);
        body.habits.observe(busy, stop == Stop::Idle);
        usage.stop = stop;
        usage.erased = Bytes(life.take_erased());
        usage.erasable = body.exposure.observe(usage.erased.0);
        usage.demand = Some(body.demand.observe(turn.slots(), busy));
        if !matches!(stop, Stop::Done | Stop::Trapped(_)) {
            usage.held = life.held();
            body.life = Some(life);
        } else {
            self.workshop.bury(life);
        }
        self.report(&mut body, usage, core_ns, turn.is_last_words(), report);
        drop(body);
        self.end_if_doomed();
        Ran { own_ns: 0, lingers }
    }

    fn release(&self) {
        let mut body = lock(&self.body);
        if let Some(life) = &mut body.life
            && let Err(error) = life.freeze()
        {
            // Nobody runs unpaid.
            life.kill();
            body.broken = Some((Trap::Unfreezable, error.to_string()));
        }
        drop(body);
        self.end_if_doomed();
    }

    fn end(&self) {
        self.doomed.store(true, Ordering::SeqCst);
        self.end_if_doomed();
    }

    fn respawn(&self) {
        self.end_if_doomed();
        let mut body = lock(&self.body);
        body.demand = Demand::new(self.command.slots);
        body.exposure = Exposure::default();
        body.habits = Habits::default();
        match self.workshop.conceive(self.id, &self.command, &self.account) {
            Ok(mut life) => {
                *lock(&self.pidfd) = life.pidfd();
                *lock(&self.counted) = life.counted();
                body.life = Some(life);
            }
            // It is told in its first turn, which has no life to run.
            Err(error) => body.broken = Some((Trap::Start, error.to_string())),
        }
        *lock(&self.ended) = None;
        *lock(&self.told) = None;
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
