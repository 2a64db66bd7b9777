//! Cells: the sandboxes that agents run in, and the threads that run them.
//!
//! ```text
//!                      ┌─────────── dispatch(plan) ───────────┐
//!   spawn ─► ready ───►│ running  ⇄  frozen (not polled)      │──► collect(report)
//!                      └──────┬──────────────────┬────────────┘
//!                        last words            ended (done, trapped)
//!                             └──────► dead ◄────┘
//! ```
//!
//! The market decides once a tick; [`Cells`] is what it needs from whatever executes: run these leases until that
//! moment, then say what was used. [`slots`] is what executes: a thread for each slot, running any [`Cell`]. [`wasm`] cells
//! are the embedded kind, needing no privileges; [`process`] cells run any command.

pub mod clock;
mod offers;
mod priority;
pub mod process;
pub mod protocol;
pub mod slots;
pub mod wasm;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use maxwell_core::agent::SlotId;
use maxwell_core::market::{Claim, Grant, Usage};
use maxwell_core::{AgentId, Bytes, Joule, Price, Tick};

pub use offers::{Offer, Offers};
pub use slots::{Cell, Ran, Turn};

/// A lease with what its holder may know about its own account.
#[derive(Clone, Copy, Debug)]
pub struct Assignment {
    /// The lease, or a slot of it.
    pub grant: Grant,
    /// How many slots the whole lease covers.
    pub slots: u16,
    /// What the agent can still spend, the lease already paid.
    pub balance: Joule,
    /// The erased bytes on which that could pay the tax.
    pub spare: Bytes,
}

/// What agents may know about the market in a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quote {
    /// The tick.
    pub tick: Tick,
    /// What a core-second costs now.
    pub spot: Price,
    /// The market's own clock at the start of the tick, in microseconds.
    pub now_us: u64,
}

/// What an agent said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Utterance {
    /// Who.
    pub agent: AgentId,
    /// What; printable, at most one line.
    pub text: String,
    /// Whether these were its last words.
    pub last: bool,
}

/// What happened since the last report.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Leases that ended.
    pub usages: Vec<Usage>,
    /// Claims made under them, verified.
    pub claims: Vec<Claim>,
    /// Slots whose lease has not ended.
    pub busy: Vec<SlotId>,
    /// What agents said.
    pub utterances: Vec<Utterance>,
    /// Why cells failed, in words, for the log.
    pub failures: Vec<(AgentId, String)>,
}

impl Report {
    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.usages.clear();
        self.claims.clear();
        self.busy.clear();
        self.utterances.clear();
        self.failures.clear();
    }

    /// Moves everything out of `other`, except what is busy.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.usages.append(&mut other.usages);
        self.claims.append(&mut other.claims);
        self.utterances.append(&mut other.utterances);
        self.failures.append(&mut other.failures);
    }
}

/// A lock that a panicking holder does not spoil: everything kept under such locks is valid at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What executes agents. The market knows nothing else about cells.
pub trait Cells {
    /// Starts the leases of a tick, in the order granted; all must have stopped by `ends`. Never blocks.
    fn dispatch(&mut self, quote: Quote, ends: Instant, assignments: &[Assignment]);

    /// Adds to `report` what has ended since the last call, waiting at most `patience` for slots whose time is over.
    fn collect(&mut self, patience: Duration, report: &mut Report);

    /// Frees the agent's cell. Never blocks.
    fn end(&mut self, agent: AgentId);

    /// Makes a dead agent's cell anew; it finds its last words as the first message in its inbox.
    fn respawn(&mut self, agent: AgentId);
}
