//! A WebAssembly agent on a slot's thread: polled until its turn is over, and billed.
//!
//! It is billed thread CPU time from before the first poll until after the scan for erased bytes: an agent pays for its own
//! metering, and nobody pays for time that the operating system gave to somebody else.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use maxwell_core::market::{Stop, Usage};
use maxwell_core::{AgentId, Bytes, Micros};

use super::Workshop;
use super::abi::{Exchange, Inbox, Pace, StepEnd};
use super::agent::{Ended, Life};
use super::dirty::Watched;
use super::engine::Program;
use crate::{Cell, Ran, Report, Turn, Utterance, clock, lock, priority};

/// An agent's cell.
pub(super) struct WasmCell {
    id: AgentId,
    /// What the agent was made from, for its revival.
    program: Program,
    workshop: Arc<Workshop>,
    /// Dead agents go here to be dropped: giving memory back takes longer than a tick has.
    morgue: mpsc::Sender<Life>,
    exchange: Arc<Exchange>,
    inbox: Arc<Inbox>,
    body: Mutex<Body>,
}

/// The part of a cell that only its runner touches.
#[derive(Default)]
struct Body {
    /// `None` once it has ended.
    life: Option<Life>,
    watched: Option<Watched>,
    core_ns: u64,
    /// Core time below a microsecond that was not billed yet.
    unbilled_ns: u64,
    fuel_billed: u64,
    last_words: Option<Vec<u8>>,
}

impl std::fmt::Debug for WasmCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WasmCell").field("id", &self.id).field("exchange", &self.exchange).finish_non_exhaustive()
    }
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

impl WasmCell {
    /// A new agent, not yet instantiated: that is done, and paid for, in its first slot.
    pub(super) fn new(
        id: AgentId,
        program: Program,
        workshop: Arc<Workshop>,
        inbox: Arc<Inbox>,
        morgue: mpsc::Sender<Life>,
    ) -> Self {
        let exchange = Arc::new(Exchange::default());
        let cell = Self { id, program, workshop, morgue, exchange, inbox, body: Mutex::new(Body::default()) };
        cell.conceive(&mut lock(&cell.body));
        cell
    }

    fn conceive(&self, body: &mut Body) {
        let exchange = &self.exchange;
        exchange.condemned.store(false, Ordering::Relaxed);
        exchange.fuel.store(0, Ordering::Relaxed);
        let memory = usize::try_from(self.program.initial_memory.0).unwrap_or(usize::MAX);
        exchange.memory_len.store(memory, Ordering::Relaxed);
        body.fuel_billed = 0;
        body.life = Some(self.workshop.conceive(self.id, &self.program, exchange, &self.inbox));
    }

    /// The agent has ended, or its last words are over. Dropping what this returns unwinds whatever it was doing and gives
    /// its memory back.
    fn bury(&self, body: &mut Body) -> Option<Life> {
        if let Some(words) = lock(&self.exchange.slot).last_words.take() {
            body.last_words = Some(words);
        }
        // The memory goes back to the pool with the life; it must not be watched any longer.
        body.watched = None;
        self.exchange.memory_base.store(0, Ordering::Relaxed);
        self.inbox.close();
        body.life.take()
    }

    /// Puts the slot's facts where the agent's imports find them.
    fn prepare(&self, turn: &Turn<'_>, body: &Body, began_ns: u64) {
        let exchange = &self.exchange;
        if turn.is_last_words() {
            exchange.condemned.store(true, Ordering::Relaxed);
        }
        let mut slot = lock(&exchange.slot);
        slot.quote = turn.quote();
        slot.balance = turn.assignment().balance;
        slot.core_before_ns = body.core_ns;
        slot.began_ns = began_ns;
        slot.bid = None;
        slot.claims.clear();
        slot.said.clear();
        slot.unsaid = 0;
        slot.step = None;
    }

    /// Polls until the slot is over or the agent wants nothing more. The clock is looked at after every fuel interval.
    fn poll(&self, turn: &Turn<'_>, life: &mut Life) -> Polled {
        let mut context = Context::from_waker(Waker::noop());
        let interval = &self.exchange.interval;
        let mut began = Instant::now();
        loop {
            match life.as_mut().poll(&mut context) {
                Poll::Ready(Ended::Done | Ended::Condemned) => return Polled::over(Stop::Done),
                Poll::Ready(Ended::Trapped(trap, why)) => {
                    return Polled { stop: Stop::Trapped(trap), why: Some(why), over: true };
                }
                Poll::Pending => {}
            }
            let step = lock(&self.exchange.slot).step.take();
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
            if turn.is_over(now) {
                turn.note_stopped(now);
                return Polled::stopped(Stop::SlotEnd);
            }
        }
    }

    fn erased(&self, body: &mut Body) -> u64 {
        let base = self.exchange.memory_base.load(Ordering::Relaxed);
        let len = self.exchange.memory_len.load(Ordering::Relaxed);
        if base == 0 || body.life.is_none() {
            return 0;
        }
        let kernel = self.workshop.kernel.as_ref();
        match &mut body.watched {
            Some(watched) => watched.erased(kernel, len),
            none => {
                // SAFETY: base and length are those of the instance's only memory. In the pool a memory never moves, and
                // it stays mapped until the store is dropped; `bury` drops the watch first.
                let watched = unsafe { Watched::new(kernel, base, len) };
                *none = Some(watched);
                0
            }
        }
    }

    fn bill(&self, body: &mut Body, used_ns: u64, erased: u64, stop: Stop) -> Usage {
        let burned = self.exchange.fuel.load(Ordering::Relaxed);
        let fuel = burned.max(body.fuel_billed) - body.fuel_billed;
        body.fuel_billed += fuel;
        body.core_ns += used_ns;
        body.unbilled_ns += used_ns;
        let core = Micros(body.unbilled_ns / 1_000);
        body.unbilled_ns %= 1_000;
        Usage {
            agent: self.id,
            core,
            fuel,
            erased: Bytes(erased),
            held: Bytes(self.exchange.memory_len.load(Ordering::Relaxed) as u64),
            erasable: Bytes::ZERO,
            bid: lock(&self.exchange.slot).bid,
            demand: None,
            stop,
        }
    }

    fn tell(&self, last: bool, failure: Option<String>, report: &mut Report) {
        let mut slot = lock(&self.exchange.slot);
        report.claims.append(&mut slot.claims);
        let agent = self.id;
        report.utterances.extend(slot.said.drain(..).map(|text| Utterance { agent, text, last }));
        if slot.unsaid > 0 {
            let text = format!("(and {} more lines, not shown: an agent may log 8 lines a slot)", slot.unsaid);
            report.utterances.push(Utterance { agent, text, last });
        }
        report.failures.extend(failure.map(|why| (agent, why)));
    }
}

impl Cell for WasmCell {
    fn run(&self, turn: &Turn<'_>, report: &mut Report) -> Ran {
        priority::work();
        let began_ns = clock::thread_cpu_ns();
        let mut body = lock(&self.body);
        self.prepare(turn, &body, began_ns);
        turn.note_started();
        let polled = match body.life.as_mut() {
            None => Polled::stopped(Stop::NotRun),
            Some(life) => self.poll(turn, life),
        };
        if polled.over || turn.is_last_words() {
            drop(self.bury(&mut body));
        }
        let erased = self.erased(&mut body);
        let own_ns = clock::thread_cpu_ns().saturating_sub(began_ns);
        report.usages.push(self.bill(&mut body, own_ns, erased, polled.stop));
        drop(body);
        self.tell(turn.is_last_words(), polled.why, report);
        Ran { own_ns, lingers: false }
    }

    fn end(&self) {
        if let Some(life) = self.bury(&mut lock(&self.body)) {
            // If the reaper is gone the life comes back in the error and is dropped here.
            let _ = self.morgue.send(life);
        }
    }

    fn respawn(&self) {
        let mut body = lock(&self.body);
        drop(self.bury(&mut body));
        self.inbox.reopen(body.last_words.take());
        self.conceive(&mut body);
    }
}
