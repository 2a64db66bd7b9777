//! What goes into a tick and what comes out of it. Both are plain data: they can be recorded, replayed and compared.

use serde::{Deserialize, Serialize};

use crate::accounts::Posting;
use crate::agent::{AgentSpec, LeaseKind, Order, SlotId};
use crate::bounty::{ClaimFault, SponsorId, Verifier};
use crate::clearing::PricingRule;
use crate::landauer::LandauerPolicy;
use crate::reason::{Reason, Trap};
use crate::sensor::{Activity, Counter, Reading};
use crate::thermal::{Control, ThermalPolicy};
use crate::units::{AgentId, Bytes, Joule, Micros, Price, Tick, Watts};

/// The rules of a market; fixed for its life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MarketPolicy {
    /// The length of a tick.
    pub tick: Micros,
    /// How winners are charged.
    pub pricing: PricingRule,
    /// Temperature, par, and the number of slots.
    pub thermal: ThermalPolicy,
    /// What a joule of electricity is worth beside par: 1 is par.
    pub grid_factor: f64,
    /// Tax and rent.
    pub landauer: LandauerPolicy,
    /// The fee on a standing order, in millionths of the price it stands at, for every second of slot it asks for.
    pub resting_fee_ppm: u32,
    /// How long an agent may be unable to pay one quantum at par. Time for what it earned in its last slots to arrive, not for people
    /// to top it up: whoever counts on that parks.
    pub grace: Micros,
    /// How long a dying agent may wait for its last words (a tripped machine grants none).
    pub last_words_patience: Micros,
    /// How many losers per slot stand by to take over what is left of it.
    pub standby: u16,
    /// How fast the slowest uninterruptible instruction works (bulk memory operations), in bytes per microsecond. The
    /// worst case of a slot is its length plus one pass over the agent's memory at this speed.
    pub bulk_bytes_per_us: u64,
    /// How long after its slot a process may still run until the kernel has frozen it: part of its worst case.
    pub freeze: Micros,
    /// The shortest slot that is sold. Who cannot cover a whole tick gets as much of it as its wallet covers, but no less than
    /// this: starting and stopping would cost more than it is worth.
    pub least_slot: Micros,
    /// Quality of each slot in thousandths of a full core; missing entries are full.
    pub quality: Vec<u16>,
}

impl Default for MarketPolicy {
    fn default() -> Self {
        Self {
            tick: Micros(10_000),
            pricing: PricingRule::Uniform,
            thermal: ThermalPolicy::default(),
            grid_factor: 1.0,
            landauer: LandauerPolicy::default(),
            resting_fee_ppm: 50,
            grace: Micros(500_000),
            last_words_patience: Micros(2_000_000),
            standby: 4,
            bulk_bytes_per_us: 1_000,
            freeze: Micros(2_000),
            least_slot: Micros(2_000),
            quality: Vec::new(),
        }
    }
}

/// Why a policy cannot be a market's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy's {field} is out of range: {range}")]
pub struct PolicyError {
    /// Which part.
    pub field: &'static str,
    /// What it must be.
    pub range: &'static str,
}

impl MarketPolicy {
    /// Whether every part is in the range that a market can work with. Policies made in code are; one that comes from a
    /// file must be checked.
    ///
    /// # Errors
    ///
    /// The first part that is not.
    pub fn check(&self) -> Result<(), PolicyError> {
        let thermal = &self.thermal;
        let finite = |values: &[f64]| values.iter().all(|value| value.is_finite() && value.abs() <= 1e12);
        let node = |node: &crate::thermal::FosterNode| {
            (0.001..=1000.0).contains(&node.resistance) && (0.01..=10_000.0).contains(&node.tau)
        };
        let checks = [
            ("tick", "1 ms to 1 s", (1_000..=1_000_000).contains(&self.tick.0)),
            ("slots", "1 to 1024", (1..=1_024).contains(&thermal.slots)),
            ("freeze", "at most 1 s", self.freeze.0 <= 1_000_000),
            ("least_slot", "1 us or more", self.least_slot.0 >= 1),
            ("standby", "at most 4096 for each slot", self.standby <= 4_096),
            ("par", "1 mW to 1 MW", (1..=1_000_000_000).contains(&thermal.par.0)),
            (
                "thermal nodes",
                "0.001 to 1000 K/W, 10 ms to 10000 s",
                node(&thermal.model.fast) && node(&thermal.model.slow),
            ),
            (
                "temperatures and powers",
                "finite",
                finite(&[thermal.set.0, thermal.critical.0, thermal.model.ambient.0, thermal.idle.0]),
            ),
            ("max_stress", "0 to 20", (0.0..=20.0).contains(&thermal.max_stress)),
            ("slew", "0.001 to 100", (0.001..=100.0).contains(&thermal.slew)),
            ("delay", "0 to 10 s", (0.0..=10.0).contains(&thermal.delay)),
            ("grid_factor", "0 to 1000", (0.0..=1_000.0).contains(&self.grid_factor)),
            ("inefficiency", "0 to 10^18", (0.0..=1e18).contains(&self.landauer.inefficiency)),
            ("rent", "0 to 10^9 W/GB", (0.0..=1e9).contains(&self.landauer.rent_watts_per_gb)),
            ("quality", "at most 1024 slots", self.quality.len() <= 1_024),
        ];
        match checks.into_iter().find(|(_, _, good)| !good) {
            Some((field, range, _)) => Err(PolicyError { field, range }),
            None => Ok(()),
        }
    }
}

/// How a slot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stop {
    /// The slot was over; there is more to do.
    SlotEnd,
    /// The agent had nothing more to do in this tick.
    Idle,
    /// The agent is done for good.
    Done,
    /// The agent's code failed.
    Trapped(Trap),
    /// The lease was never used: a standby whose turn did not come, or a cell with nothing to run.
    NotRun,
}

/// What an agent used under a lease that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Who.
    pub agent: AgentId,
    /// Core time.
    pub core: Micros,
    /// Fuel.
    pub fuel: u64,
    /// Bytes that the host can prove were overwritten.
    pub erased: Bytes,
    /// Memory it holds now.
    pub held: Bytes,
    /// What it may want to erase in its next slot; its cell stops it there, or earlier if its lease covers less.
    pub erasable: Bytes,
    /// Its new limit, if it called `bid`.
    pub bid: Option<Price>,
    /// How many slots it could use at once, where its cell can tell.
    pub demand: Option<u16>,
    /// How the slot ended.
    pub stop: Stop,
}

impl Usage {
    /// A lease of `agent` that was never used.
    #[must_use]
    pub const fn not_run(agent: AgentId) -> Self {
        Self {
            agent,
            core: Micros::ZERO,
            fuel: 0,
            erased: Bytes::ZERO,
            held: Bytes::ZERO,
            erasable: Bytes::ZERO,
            bid: None,
            demand: None,
            stop: Stop::NotRun,
        }
    }
}

/// A claim for a bounty, checked by the sponsor's verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Who claims.
    pub agent: AgentId,
    /// From whom.
    pub sponsor: SponsorId,
    /// The unit that was verified, or why not.
    pub verdict: Result<u64, ClaimFault>,
}

/// A wish from outside the tick.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// A new sponsor. Its budget is minted.
    Sponsor {
        /// How it checks work.
        verifier: Verifier,
        /// What it pays for a unit.
        reward: Joule,
        /// All it will pay.
        budget: Joule,
    },
    /// A new agent; it gets the next [`AgentId`]. Its wallet is minted.
    Spawn {
        /// Who.
        spec: AgentSpec,
        /// Its first money.
        wallet: Joule,
    },
    /// Money for an agent. Revives it if it is parked, or died of insolvency, and this is enough.
    Fund {
        /// For whom.
        agent: AgentId,
        /// How much, minted.
        amount: Joule,
    },
    /// A new standing order.
    Order {
        /// Whose.
        agent: AgentId,
        /// The order.
        order: Order,
    },
    /// Parks an agent.
    Park {
        /// Which.
        agent: AgentId,
    },
    /// Ends an agent, gracefully.
    Kill {
        /// Which.
        agent: AgentId,
    },
}

/// Everything the market learns in a tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TickInput {
    /// The tick's number: greater than the last one; skipped numbers are ticks that were lost.
    pub tick: Tick,
    /// The machine's energy counters from this tick on, where they have changed: with the first tick, and whenever a
    /// counter is lost or a better one found.
    pub counters: Option<Vec<Counter>>,
    /// The newest reading of the sensors; empty where nothing could be read.
    pub reading: Reading,
    /// How busy the machine was since the last tick.
    pub activity: Activity,
    /// Slots whose last lease has not ended yet: they cannot be sold.
    pub busy: Vec<SlotId>,
    /// Leases that ended.
    pub usages: Vec<Usage>,
    /// Claims made under them.
    pub claims: Vec<Claim>,
    /// Wishes from outside.
    pub commands: Vec<Command>,
}

impl TickInput {
    /// Empties it for the next tick, keeping its memory.
    pub fn reset(&mut self, tick: Tick) {
        self.tick = tick;
        self.counters = None;
        self.reading.clear();
        self.activity = Activity::default();
        self.busy.clear();
        self.usages.clear();
        self.claims.clear();
        self.commands.clear();
    }
}

/// A slot granted this tick. An agent that won several has one for each, under one lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// To whom.
    pub agent: AgentId,
    /// What kind of right.
    pub kind: LeaseKind,
    /// What a core-second costs.
    pub price: Price,
    /// How long it lasts: a tick, or as much of one as the wallet covers.
    pub length: Micros,
    /// The most core time it covers: its length, and what cannot be interrupted at its end.
    pub worst_case: Micros,
    /// The most erased bytes that it covers, over all its slots. A process's cell stops it there.
    pub erasable: Bytes,
}

/// Something that happened, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// An agent was admitted.
    Born {
        /// Who.
        agent: AgentId,
    },
    /// An agent that held a slot holds none now.
    Frozen {
        /// Who.
        agent: AgentId,
        /// Why.
        reason: Reason,
    },
    /// An agent that held no slot holds one now.
    Thawed {
        /// Who.
        agent: AgentId,
        /// At what price.
        price: Price,
    },
    /// A sponsor paid.
    Paid {
        /// Whom.
        agent: AgentId,
        /// Who.
        sponsor: SponsorId,
        /// How much.
        amount: Joule,
    },
    /// A claim paid nothing.
    ClaimRejected {
        /// Whose.
        agent: AgentId,
        /// From whom.
        sponsor: SponsorId,
        /// Why.
        fault: ClaimFault,
    },
    /// A slot lasted longer than its reservation covers; the rest became arrears.
    Overran {
        /// Who.
        agent: AgentId,
        /// The debt.
        arrears: Joule,
    },
    /// An agent was told that it ends.
    Condemned {
        /// Who.
        agent: AgentId,
        /// Why.
        reason: Reason,
    },
    /// An agent is gone.
    Died {
        /// Who.
        agent: AgentId,
        /// Why.
        reason: Reason,
    },
    /// An agent was frozen until somebody tops it up.
    Parked {
        /// Who.
        agent: AgentId,
        /// Why.
        reason: Reason,
    },
    /// A parked or dead agent is back.
    Revived {
        /// Who.
        agent: AgentId,
    },
    /// Money arrived for an agent.
    Funded {
        /// Whom.
        agent: AgentId,
        /// How much.
        amount: Joule,
    },
    /// A command could not be carried out; nothing changed.
    Refused {
        /// For whom, if for anybody.
        agent: Option<AgentId>,
        /// Why.
        why: Refusal,
    },
    /// Everything froze because of heat or a silent sensor.
    Tripped,
    /// The die has cooled; the market is open again.
    TripCleared,
    /// An energy counter was reset; some energy is unaccounted for.
    EnergyGap,
    /// The energy counters changed: one was lost, or a better one found.
    SensorsChanged,
    /// An energy counter stopped: until it moves again the die's power is a guess, and a cautious one.
    PowerUnknown,
    /// All energy counters move again.
    PowerKnown,
}

/// Why a command or report was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No agent has that number.
    #[error("there is no such agent")]
    NoSuchAgent,
    /// The agent is gone and this cannot bring it back.
    #[error("the agent is dead, and not of insolvency: only an insolvent agent can be revived by topping it up")]
    Dead,
    /// The wallet at birth does not cover the last-words deposit.
    #[error("the wallet does not cover the last-words deposit")]
    NoDeposit,
    /// More money than an account can hold.
    #[error("that is more money than an account can hold")]
    TooMuchMoney,
    /// A report about a lease that does not exist.
    #[error("the agent holds no lease")]
    NoLease,
    /// Too many sponsors or agents.
    #[error("the market is full")]
    Full,
}

/// What a cell must be told, besides grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CellAction {
    /// The agent is gone: free its cell.
    End(AgentId),
    /// The agent was revived after death: make its cell anew, with its last words.
    Respawn(AgentId),
}

/// Everything the market decided in a tick. Reused from tick to tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The tick.
    pub tick: Tick,
    /// The thermal controller's answer.
    pub control: Control,
    /// What winners paid, or would have.
    pub spot: Price,
    /// Who set the price, if a losing bid did.
    pub price_setter: Option<AgentId>,
    /// Slots sold from the start of the tick.
    pub sold: u16,
    /// Power drawn since the last tick.
    pub power: Watts,
    /// Leases granted: slots and last words first, then standbys in order.
    pub grants: Vec<Grant>,
    /// Cells to end or make anew.
    pub actions: Vec<CellAction>,
    /// What happened and why.
    pub events: Vec<Event>,
    /// Every movement of money.
    pub postings: Vec<Posting>,
    /// The hash chain over all decisions up to and including this tick.
    pub chain: [u8; 32],
}

impl Outcome {
    pub(crate) fn reset(&mut self, tick: Tick) {
        self.tick = tick;
        self.grants.clear();
        self.actions.clear();
        self.events.clear();
        self.postings.clear();
        self.price_setter = None;
        self.sold = 0;
    }
}
