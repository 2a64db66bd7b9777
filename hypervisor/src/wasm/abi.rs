//! What an agent can ask of its host: the imports from `maxwell`. See `docs/agent-abi.md`.
//!
//! Every pointer and length is checked against the agent's own memory; a bad one gets a negative answer, never a trap.
//! Nothing here blocks, and everything takes place in the agent's own slot, so it is the agent that pays for the time.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use maxwell_core::market::Claim;
use maxwell_core::reason::Trap;
use maxwell_core::{AgentId, Joule, Price};
use wasmtime::{Caller, Extern, Linker, ResourceLimiter};

use super::engine::WasmError;
use crate::offers::{LOG_LINES_PER_SLOT, printable};
use crate::{Offers, Quote, clock, lock};

/// The names that may be imported.
pub(super) const IMPORTS: [&str; 9] = ["price", "balance", "bid", "submit", "recv", "send", "log", "now", "random"];

/// Negative answers of imports.
mod answer {
    /// A pointer or length lies outside the agent's memory.
    pub(super) const BAD_POINTER: i32 = -1;
    /// There is nothing: no message, or no sponsor for that kind of work.
    pub(super) const NOTHING: i32 = -2;
    /// No room: the message is too long for the buffer, or the receiver's inbox is full.
    pub(super) const NO_ROOM: i32 = -3;
    /// No such agent, or it is gone.
    pub(super) const UNKNOWN: i32 = -4;
    /// The verifier rejects the claim.
    pub(super) const REJECTED: i32 = -5;
    /// Too many of these in one slot.
    pub(super) const TOO_MANY: i32 = -6;
}

/// Bounds, each for one agent.
const MESSAGE: usize = 4096;
const INBOX_MESSAGES: usize = 32;
const CLAIMS_PER_SLOT: usize = 256;
/// The longest last words that are kept for a revival.
pub(super) const LAST_WORDS: usize = 65_536;

/// Messages waiting, oldest first, each with its sender.
type Messages = VecDeque<(AgentId, Box<[u8]>)>;

/// An agent's inbox; `None` once the agent is gone.
#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<Option<Messages>>);

impl Inbox {
    pub(super) fn open() -> Self {
        Self(Mutex::new(Some(VecDeque::new())))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Messages>> {
        lock(&self.0)
    }

    /// Closes it when the agent is gone; what was in it is lost.
    pub(super) fn close(&self) {
        *self.lock() = None;
    }

    /// Opens it again with a first message.
    pub(super) fn reopen(&self, first: Option<Vec<u8>>) {
        *self.lock() = Some(first.into_iter().map(|words| (AgentId(u64::MAX), words.into_boxed_slice())).collect());
    }
}

/// What all agents of a machine share.
#[derive(Debug)]
pub(super) struct Commons {
    pub(super) offers: Arc<Offers>,
    pub(super) inboxes: RwLock<HashMap<AgentId, Arc<Inbox>>>,
}

impl Commons {
    pub(super) fn new(offers: Arc<Offers>) -> Self {
        Self { offers, inboxes: RwLock::default() }
    }

    pub(super) fn inbox(&self, agent: AgentId) -> Option<Arc<Inbox>> {
        let inboxes = self.inboxes.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        inboxes.get(&agent).cloned()
    }
}

/// What passes between an agent's code and the worker that runs it. Only one of them is active at a time; the locks and
/// atomics are never contended.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// The worker asks for last words: whatever is being computed is given up.
    pub(super) condemned: AtomicBool,
    /// Fuel burned up to the last fuel yield, host call or step boundary.
    pub(super) fuel: AtomicU64,
    /// Fuel between two yields, as the worker wishes it; see [`Pace`].
    pub(super) interval: AtomicU64,
    /// Where linear memory is, and how long; zero before instantiation.
    pub(super) memory_base: AtomicUsize,
    pub(super) memory_len: AtomicUsize,
    pub(super) slot: Mutex<SlotState>,
}

/// How often an agent yields. A unit of fuel takes from a sixth of a nanosecond (arithmetic) to hundreds (page faults), so a
/// fixed interval is either costly or late; the worker adapts it to the time that intervals take.
pub(super) struct Pace;

impl Pace {
    /// The interval of a new agent, and the least and greatest there are. The greatest bounds how late an agent can be
    /// that turns from the fastest code to the slowest.
    pub(super) const FIRST: u64 = 10_000;
    const LEAST: u64 = 1_000;
    const GREATEST: u64 = 100_000;
    /// An interval that took longer than this is halved.
    const LONG: Duration = Duration::from_micros(60);
    /// One that took less than this is lengthened by a quarter.
    const SHORT: Duration = Duration::from_micros(20);

    /// The next interval after one of `interval` took `took`.
    pub(super) fn next(interval: u64, took: Duration) -> u64 {
        if took > Self::LONG {
            (interval / 2).max(Self::LEAST)
        } else if took < Self::SHORT {
            (interval + interval / 4).min(Self::GREATEST)
        } else {
            interval
        }
    }
}

/// What belongs to the slot that is running.
#[derive(Debug, Default)]
pub(super) struct SlotState {
    pub(super) quote: Quote,
    pub(super) balance: Joule,
    /// Core time of earlier slots, and the thread clock when this one began, in nanoseconds.
    pub(super) core_before_ns: u64,
    pub(super) began_ns: u64,
    pub(super) bid: Option<Price>,
    pub(super) claims: Vec<Claim>,
    pub(super) said: Vec<String>,
    pub(super) unsaid: u32,
    /// Set at the end of a step: what the agent wants next.
    pub(super) step: Option<StepEnd>,
    pub(super) last_words: Option<Vec<u8>>,
}

impl SlotState {
    /// Takes a line for the log; beyond its allowance lines are only counted.
    pub(super) fn say(&mut self, bytes: &[u8]) -> bool {
        if self.said.len() >= LOG_LINES_PER_SLOT {
            self.unsaid = self.unsaid.saturating_add(1);
            return false;
        }
        self.said.push(printable(bytes));
        true
    }
}

/// What an agent wants after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StepEnd {
    /// To go on at once.
    More,
    /// Nothing until the next tick.
    Idle,
    /// Nothing any more: its code failed. It may still have last words.
    Failed(Trap, String),
}

/// The data of an agent's store.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) id: AgentId,
    pub(super) exchange: Arc<Exchange>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) commons: Arc<Commons>,
    pub(super) random: SplitMix64,
    pub(super) max_memory: usize,
    /// The yield interval that the store has now.
    pub(super) interval: u64,
    /// Growth beyond the limit was refused: an `unreachable` soon after is an allocator giving up.
    pub(super) refused_memory: bool,
}

impl ResourceLimiter for Host {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = desired <= self.max_memory;
        if allowed {
            self.exchange.memory_len.store(desired, Ordering::Relaxed);
        } else {
            self.refused_memory = true;
        }
        Ok(allowed)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= 10_000)
    }
}

/// Steele, Lea & Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014). Deterministic by design: agents
/// that need unpredictability must not run under a deterministic hypervisor.
#[derive(Clone, Debug)]
pub(super) struct SplitMix64(pub(super) u64);

impl SplitMix64 {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// The agent's memory and its host data, borrowed apart.
fn memory<'a>(caller: &'a mut Caller<'_, Host>) -> (&'a mut [u8], &'a mut Host) {
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => memory.data_and_store_mut(caller),
        // Checked when the module was registered; only a start function runs before exports exist.
        _ => (&mut [], caller.data_mut()),
    }
}

/// `len` bytes at `at`, if the agent's memory holds them all.
fn range(memory: &mut [u8], at: i32, len: i32) -> Option<&mut [u8]> {
    let at = usize::try_from(at.cast_unsigned()).ok()?;
    let len = usize::try_from(len.cast_unsigned()).ok()?;
    memory.get_mut(at..at.checked_add(len)?)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Defines every import.
pub(super) fn define(linker: &mut Linker<Host>) -> Result<(), WasmError> {
    let define = |linker: &mut Linker<Host>| -> wasmtime::Result<()> {
        linker.func_wrap("maxwell", "price", |caller: Caller<'_, Host>| {
            signed(lock(&caller.data().exchange.slot).quote.spot.0)
        })?;
        linker.func_wrap("maxwell", "balance", |caller: Caller<'_, Host>| {
            signed(lock(&caller.data().exchange.slot).balance.0)
        })?;
        linker.func_wrap("maxwell", "bid", |caller: Caller<'_, Host>, limit: i64| {
            lock(&caller.data().exchange.slot).bid = Some(Price(limit.cast_unsigned()));
        })?;
        linker.func_wrap("maxwell", "submit", submit)?;
        linker.func_wrap("maxwell", "recv", recv)?;
        linker.func_wrap("maxwell", "send", send)?;
        linker.func_wrap("maxwell", "log", log)?;
        linker.func_wrap("maxwell", "now", now)?;
        linker.func_wrap("maxwell", "random", |mut caller: Caller<'_, Host>| {
            caller.data_mut().random.next().cast_signed()
        })?;
        Ok(())
    };
    define(linker).map_err(|error| WasmError::Engine(format!("{error:#}")))
}

/// Claims a bounty for work of a kind. Answers the reward that the market will pay unless somebody was paid for it
/// before.
fn submit(mut caller: Caller<'_, Host>, kind: i32, at: i32, len: i32) -> i64 {
    let (memory, host) = memory(&mut caller);
    let mut slot = lock(&host.exchange.slot);
    if slot.claims.len() >= CLAIMS_PER_SLOT {
        return i64::from(answer::TOO_MANY);
    }
    let Some(offer) = host.commons.offers.for_kind(kind.cast_unsigned()) else { return i64::from(answer::NOTHING) };
    let work = range(memory, at, len);
    let claim = offer.claim(host.id, work.as_deref());
    slot.claims.push(claim);
    match (claim.verdict, work) {
        (Ok(_), _) => signed(offer.reward.0),
        (Err(_), Some(_)) => i64::from(answer::REJECTED),
        (Err(_), None) => i64::from(answer::BAD_POINTER),
    }
}

/// Takes the oldest message: its bytes to `at`, its sender to `from` unless that is zero. Answers its length.
fn recv(mut caller: Caller<'_, Host>, at: i32, room: i32, from: i32) -> i32 {
    let (memory, host) = memory(&mut caller);
    let mut inbox = host.inbox.lock();
    let Some(messages) = inbox.as_mut() else { return answer::NOTHING };
    let Some((sender, message)) = messages.front() else { return answer::NOTHING };
    let len = i32::try_from(message.len()).expect("messages are at most 64 KiB");
    if range(memory, at, room).is_none() || (from != 0 && range(memory, from, 8).is_none()) {
        return answer::BAD_POINTER;
    }
    let Some(target) = range(memory, at, len).filter(|_| len.cast_unsigned() <= room.cast_unsigned()) else {
        return answer::NO_ROOM;
    };
    target.copy_from_slice(message);
    if from != 0
        && let Some(target) = range(memory, from, 8)
    {
        target.copy_from_slice(&sender.0.to_le_bytes());
    }
    messages.pop_front();
    len
}

/// Puts a message into another agent's inbox.
fn send(mut caller: Caller<'_, Host>, to: i64, at: i32, len: i32) -> i32 {
    let (memory, host) = memory(&mut caller);
    let Some(message) = range(memory, at, len) else { return answer::BAD_POINTER };
    if message.len() > MESSAGE {
        return answer::NO_ROOM;
    }
    let Some(inbox) = host.commons.inbox(AgentId(to.cast_unsigned())) else { return answer::UNKNOWN };
    let mut inbox = inbox.lock();
    match inbox.as_mut() {
        None => answer::UNKNOWN,
        Some(messages) if messages.len() >= INBOX_MESSAGES => answer::NO_ROOM,
        Some(messages) => {
            messages.push_back((host.id, (&*message).into()));
            0
        }
    }
}

/// Says a line to whoever watches.
fn log(mut caller: Caller<'_, Host>, at: i32, len: i32) -> i32 {
    let (memory, host) = memory(&mut caller);
    let Some(line) = range(memory, at, len) else { return answer::BAD_POINTER };
    if lock(&host.exchange.slot).say(line) { 0 } else { answer::TOO_MANY }
}

/// Time in microseconds: clock 0 is the market's, at the start of this tick; clock 1 is the core time that the agent has
/// used.
fn now(caller: Caller<'_, Host>, which: i32) -> i64 {
    let slot = lock(&caller.data().exchange.slot);
    match which {
        0 => signed(slot.quote.now_us),
        1 => signed((slot.core_before_ns + clock::thread_cpu_ns().saturating_sub(slot.began_ns)) / 1_000),
        _ => i64::from(answer::NOTHING),
    }
}
