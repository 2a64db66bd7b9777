//! What watchers are told while a machine runs. Notices travel by channel: a slow terminal never holds up a tick.

use maxwell_core::market::Event;
use maxwell_core::reason::Reason;
use maxwell_core::units::{Celsius, Joule, Price, Tick, Watts};
use maxwell_hypervisor::Utterance;

/// Something a watcher may want to show.
#[derive(Clone, Debug)]
pub enum Notice {
    /// The state of everything, some times a second.
    Snapshot(Box<Snapshot>),
    /// Something happened in the market.
    Happened {
        /// When.
        tick: Tick,
        /// What and why.
        event: Event,
    },
    /// An agent said something.
    Said {
        /// When.
        tick: Tick,
        /// Who and what.
        utterance: Utterance,
    },
    /// Where energy and temperature are read: told at the beginning, and whenever it changes.
    Sensors {
        /// When.
        tick: Tick,
        /// In words.
        words: String,
    },
    /// An agent's code failed, in words.
    Failed {
        /// When.
        tick: Tick,
        /// The agent.
        agent: maxwell_core::AgentId,
        /// How.
        why: String,
    },
}

/// The state of everything at one tick.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The tick.
    pub tick: Tick,
    /// Seconds since the start.
    pub seconds: f64,
    /// Die temperature.
    pub temperature: Celsius,
    /// What the controller holds it at.
    pub set: Celsius,
    /// Power drawn.
    pub power: Watts,
    /// The lowest price.
    pub reserve: Price,
    /// What winners pay.
    pub spot: Price,
    /// What a slot's electricity costs.
    pub par: Price,
    /// Slots that may be lit, and slots there are.
    pub lit: u16,
    /// Slots of the machine.
    pub slots: u16,
    /// Everything is frozen by heat.
    pub tripped: bool,
    /// One row for each agent, or, in a crowd, for each group of agents.
    pub rows: Vec<Row>,
}

/// An agent or a group of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// How many agents it stands for.
    pub count: usize,
    /// How many of them hold a slot, wait, are parked, are dead.
    pub running: usize,
    /// Waiting.
    pub waiting: usize,
    /// Parked.
    pub parked: usize,
    /// Dead or dying.
    pub gone: usize,
    /// Why it is where it is; for a group, why its first agent is.
    pub reason: Reason,
    /// Money, escrow included.
    pub wallet: Joule,
    /// The limit of its order; for a group, the first agent's.
    pub limit: Price,
    /// Core time so far, in microseconds.
    pub core_us: u64,
    /// Paid for core time, rent and tax.
    pub spent: Joule,
    /// Earned from sponsors.
    pub earned: Joule,
    /// Units of verified work.
    pub work: u64,
}
