//! An agent as the market sees it: an order, a wallet, and a place in life.
//!
//! ```text
//!              ┌──────────── lease won ────────────┐
//!   spawn ─► Ready ◄──────── slot settled ───── Running
//!              │  insolvent, trapped, killed        │ done
//!              ├──────────────► Dying ──────────────┼──► Dead ──┐
//!              │                 (last words)       │           │ topped up after insolvency:
//!              └─ insolvent, owner chose park ─► Parked ─ topped up ─► Ready
//! ```
//!
//! Waiting is not a state: a ready agent that holds no lease waits, and [`Reason`] says why.

use serde::{Deserialize, Serialize};

use crate::landauer::{Carry, Rate};
use crate::pacing::Pacing;
use crate::reason::Reason;
use crate::units::{AgentId, Bytes, Joule, Micros, Price, PrincipalId, Tick};

/// What happens to an agent that cannot pay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnInsolvency {
    /// It dies gracefully. The default: a parasite frees its memory.
    #[default]
    Apoptosis,
    /// It is frozen until somebody tops it up; its rent becomes arrears.
    Park,
}

/// The kind of sandbox an agent runs in, as far as the market must know: how long it may run on when its slot is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellKind {
    /// A WebAssembly module on one core: at worst it is inside a bulk instruction over all its memory.
    #[default]
    Wasm,
    /// A tree of processes, on several cores if it wants: at worst the kernel takes its time to freeze it.
    Process,
}

impl CellKind {
    /// The word for it, in reports and scenarios.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Process => "process",
        }
    }
}

/// An agent's standing order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The most it will pay for a core-second. Zero withdraws it.
    pub limit: Price,
    /// The most slots it wants at once; at least one, and no more than the machine has.
    pub slots: u16,
    /// How many ticks it keeps a slot against equal bids once it has won it.
    pub hold: u32,
}

/// What the market must know to admit an agent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentSpec {
    /// Who owns it.
    pub principal: PrincipalId,
    /// Its first order.
    pub order: Order,
    /// How its bids follow its budget.
    pub pacing: Pacing,
    /// What happens when it cannot pay.
    pub on_insolvency: OnInsolvency,
    /// What it runs in.
    pub cell: CellKind,
    /// Core time set aside, and paid for at par in advance, for its last words; zero if it has none to say.
    pub last_words: Micros,
    /// Memory it holds at birth.
    pub held: Bytes,
    /// What it may erase in a slot: where its cell stops it. Its lease covers the tax on that, as far as its wallet goes. (What a
    /// module may erase is never less than what it holds, since nothing stops it there.)
    pub erasable: Bytes,
    /// How much power its work draws beside ordinary work, in thousandths: the power class used to attribute energy.
    pub power_class: u16,
}

/// What an owner wished while the agent held a lease: carried out when the lease ends, since it is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AfterLease {
    /// Park it.
    Park,
    /// End it.
    End,
}

/// Where an agent ran last: stickiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seat {
    pub(crate) slot: SlotId,
    /// The first and the last tick of its unbroken stay.
    pub(crate) since: Tick,
    pub(crate) last: Tick,
}

/// Where an agent is in life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Life {
    /// In the market; runs when it wins.
    Ready,
    /// Holds a lease.
    Running(Lease),
    /// Has been told that it ends; waits for, or speaks, its last words.
    Dying {
        /// Why.
        reason: Reason,
        /// Since when.
        since: Tick,
        /// The lease of its last words, once granted.
        lease: Option<Lease>,
    },
    /// Frozen until topped up.
    Parked {
        /// Why.
        reason: Reason,
    },
    /// Gone.
    Dead {
        /// Why.
        reason: Reason,
        /// When.
        at: Tick,
    },
}

/// A right to run, paid for in advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// What a core-second costs under it; over slots of different price, the mean.
    pub price: Price,
    /// How many slots it covers.
    pub slots: u16,
    /// What was moved to escrow: the worst case.
    pub reserved: Joule,
    /// The tax on an erased byte under it.
    pub tax: Rate,
    /// How many bytes may be erased under it: the tax on them is reserved. Zero for last words, whose deposit pays what it can.
    pub erasable: Bytes,
    /// What kind of right it is.
    pub kind: LeaseKind,
}

impl Lease {
    /// The same lease with one more slot.
    pub(crate) fn with_slot(self, price: Price, reserved: Joule) -> Self {
        let slots = self.slots + 1;
        let total = u128::from(self.price.0) * u128::from(self.slots) + u128::from(price.0);
        let mean = Price(u64::try_from(total / u128::from(slots)).expect("a mean is no more than the largest"));
        Self { price: mean, slots, reserved: self.reserved.saturating_add(reserved), ..self }
    }
}

/// What kind of right a lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LeaseKind {
    /// A slot from the start of the tick.
    Slot(SlotId),
    /// What is left of any slot that ends early, in the order of grants.
    Standby,
    /// The last words of a dying agent, paid from its deposit.
    LastWords(SlotId),
}

/// One core for one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotId(pub u16);

/// What an agent owes: what it used beyond a reservation, and rent that its wallet did not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrears {
    /// For core time.
    pub energy: Joule,
    /// For erased bytes.
    pub tax: Joule,
    /// For memory held and orders that stood.
    pub rent: Joule,
}

impl Arrears {
    /// All of it.
    #[must_use]
    pub const fn total(self) -> Joule {
        self.energy.saturating_add(self.tax).saturating_add(self.rent)
    }
}

/// What an agent has done and paid so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Core time used.
    pub core: Micros,
    /// Fuel burned: deterministic work, as the cell counts it.
    pub fuel: u64,
    /// Bytes erased.
    pub erased: Bytes,
    /// Paid for core time.
    pub paid: Joule,
    /// Paid for holding memory and for resting orders.
    pub rent: Joule,
    /// Paid for erased bytes.
    pub tax: Joule,
    /// Earned from sponsors.
    pub earned: Joule,
    /// Units of verified work.
    pub work_verified: u64,
    /// Claims that paid nothing.
    pub claims_rejected: u64,
    /// Energy attributed to it.
    pub energy: Joule,
    /// Slots it ran in.
    pub slots: u64,
}

/// One agent. Its dense index in the market is its [`AgentId`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// What it was admitted with; `order` and `pacing` follow its later wishes.
    pub spec: AgentSpec,
    /// Where it is in life.
    pub life: Life,
    /// When it was born.
    pub born: Tick,
    /// What it has done and paid.
    pub tally: Tally,
    /// Unpaid debts. Paid before anything else.
    pub arrears: Arrears,
    /// The price its order stands at in the book; zero when it does not stand.
    pub standing: Price,
    /// How many slots its order stands for: what it asks for, as far as its wallet covers them.
    pub slots: u16,
    /// How many slots it could use now, as its cell saw it last.
    pub demand: u16,
    pub(crate) principal: u32,
    pub(crate) touched: Tick,
    pub(crate) spent_since_pacing: Joule,
    pub(crate) paced: Tick,
    pub(crate) pacing_wait: u64,
    /// Since when it cannot pay a quantum at par, in ticks that were carried out.
    pub(crate) broke_since: Option<u64>,
    pub(crate) rent_carry: Carry,
    pub(crate) fee_carry: Carry,
    pub(crate) tax_carry: Carry,
    pub(crate) fee_rate: Rate,
    pub(crate) seat: Option<Seat>,
    pub(crate) after_lease: Option<AfterLease>,
}

impl Agent {
    /// Whether it can ever run again without being revived.
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        !matches!(self.life, Life::Dead { .. })
    }

    /// Its lease, if it holds one.
    #[must_use]
    pub const fn lease(&self) -> Option<Lease> {
        match self.life {
            Life::Running(lease) => Some(lease),
            Life::Dying { lease, .. } => lease,
            _ => None,
        }
    }

    /// The state as a word, for reports. Who only stands by waits.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        match self.life {
            Life::Ready | Life::Running(Lease { kind: LeaseKind::Standby, .. }) => "waiting",
            Life::Running(_) => "running",
            Life::Dying { .. } => "dying",
            Life::Parked { .. } => "parked",
            Life::Dead { .. } => "dead",
        }
    }
}

/// The index of an agent in the market's tables.
#[must_use]
pub(crate) fn index(id: AgentId) -> Option<usize> {
    usize::try_from(id.0).ok()
}
