//! The market: one owner of all state, one function from facts to decisions.
//!
//! ```text
//!  TickInput ──► 1 physics   energy delta, temperature
//!                2 settle    usages: charge escrow, refund, tax; claims: pay bounties          (settle.rs)
//!                3 commands  spawn, fund, order, park, kill                                     (admit.rs)
//!                4 solvency  alarms that rang: rent, grace, pacing; death and parking           (solvency.rs)
//!                5 price     thermal controller → reserve and supply
//!                6 clear     winners and spot price; reserve each worst case into escrow        (sale.rs)
//!                7 audit     money and energy conserved; hash chain over the decisions          (digest.rs)
//!          ──► Outcome
//! ```
//!
//! **The cost of a tick follows what changed.** Rent and resting fees accrue lazily and are charged when an agent is
//! touched: when it is settled, funded, ordered, about to be granted a lease, or when its alarm rings. An agent that
//! waits costs nothing until then, and its alarm is set for the moment its money runs out.
//!
//! **No quantum runs unpaid.** A lease exists only after its worst case moved into escrow. The worst case is the slot's
//! length plus what cannot be interrupted at its end, at the price of the lease, plus the tax on every byte that may be erased under
//! it, plus its arrears. An order stands in the book only at a price that its owner's
//! wallet covers, so a bid nobody could pay never sets a price.
//!
//! **How much may be erased** depends on who can stop it. Nothing stops a module at a byte: its lease covers the tax on all that it
//! holds, or it does not run. A process is stopped by its cell: its lease covers the tax on what the cell asks for, or on as much as
//! is left in the wallet beside the core time, and tells the cell how many bytes that is. So a process can use up its wallet to
//! about one quantum, whatever it holds. What goes beyond, because it goes at once (one large unmapping, its end), becomes arrears.

mod admit;
mod digest;
mod io;
mod sale;
mod settle;
mod solvency;

use std::collections::{HashMap, VecDeque};

pub use io::{
    CellAction, Claim, Command, Event, Grant, MarketPolicy, Outcome, PolicyError, Refusal, Stop, TickInput, Usage,
};

use crate::accounts::{Account, Accounts, InsufficientFunds, MoneySupply, Posting, Purpose};
use crate::agent::{Agent, CellKind, Lease, LeaseKind, Life, SlotId};
use crate::book::{Book, OrderKey};
use crate::bounty::Bounty;
use crate::clearing::{Clearing, FULL_QUALITY};
use crate::energy::{Attribution, Metered, Metering};
use crate::ladder::Level;
use crate::landauer::Rate;
use crate::reason::Reason;
use crate::thermal::{Control, Controller, PlantModel};
use crate::units::{AgentId, Bytes, Celsius, Joule, Micros, Price, PrincipalId, Tick, Watts};
use crate::wheel::Wheel;

/// A full count of all accounts happens once in this many ticks; the running totals are checked every tick.
const AUDIT_EVERY: u64 = 100;

/// A tick that cannot be carried out; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TickError {
    /// Time did not move forward.
    #[error("tick {given} does not follow tick {last}", given = given.0, last = last.0)]
    NotAfter {
        /// The tick that was given.
        given: Tick,
        /// The last one carried out.
        last: Tick,
    },
    /// Time moved further than any sleep or suspension explains.
    #[error("tick {given} is more than {most} ticks after tick {last}: the clock cannot be trusted", given = given.0, last = last.0, most = MOST_TICKS_LOST)]
    TooFar {
        /// The tick that was given.
        given: Tick,
        /// The last one carried out.
        last: Tick,
    },
}

/// The most ticks that may be lost at once: eleven days of 10 ms.
pub const MOST_TICKS_LOST: u64 = 100_000_000;

fn quality_of(policy: &MarketPolicy, slot: SlotId) -> u16 {
    policy.quality.get(usize::from(slot.0)).copied().unwrap_or(FULL_QUALITY).min(FULL_QUALITY)
}

/// The market. See the [module documentation](self).
#[derive(Debug)]
pub struct Market {
    policy: MarketPolicy,
    rent_rate: Rate,
    now: Tick,
    /// Ticks carried out: who is broke may wait for money, and none comes in ticks that were lost.
    ticks: u64,
    agents: Vec<Agent>,
    principals: HashMap<PrincipalId, u32>,
    book: Book,
    accounts: Accounts,
    bounties: Vec<Bounty>,
    wheel: Wheel,
    controller: Controller,
    control: Control,
    tax_rate: Rate,
    metering: Metering,
    power_known: bool,
    attribution: Attribution,
    dying: VecDeque<u32>,
    /// All slots, best quality first.
    slots: Vec<SlotId>,
    /// Those that can be sold this tick, in the same order.
    free: Vec<SlotId>,
    /// Their qualities.
    quality: Vec<u16>,
    /// Agents that held a slot last tick.
    seated: Vec<u32>,
    seats: Vec<Option<SlotId>>,
    /// Agents that were granted a lease last tick.
    leased: Vec<u32>,
    spot: Price,
    previous: Tick,
    /// Leases settled this tick: agent, and which usage.
    settled: Vec<(u32, usize)>,
    clearing: Clearing,
    asks: Vec<Price>,
    incumbents: Vec<OrderKey>,
    rung: Vec<u32>,
    chain: [u8; 32],
    scratch: Vec<u8>,
    tripped: bool,
}

impl Market {
    /// An empty market under `policy`.
    #[must_use]
    pub fn new(policy: MarketPolicy) -> Self {
        let slots = usize::from(policy.thermal.slots);
        let controller = Controller::new(policy.thermal);
        Self {
            rent_rate: policy.landauer.rent_rate(policy.tick.0),
            now: Tick::ZERO,
            ticks: 0,
            agents: Vec::new(),
            principals: HashMap::new(),
            book: Book::new(),
            accounts: Accounts::default(),
            bounties: Vec::new(),
            wheel: Wheel::default(),
            controller,
            control: Control { reserve: policy.thermal.par, ..Control::default() },
            tax_rate: policy.landauer.tax_rate(policy.thermal.model.ambient),
            metering: Metering::default(),
            power_known: true,
            attribution: Attribution::default(),
            dying: VecDeque::new(),
            free: Vec::with_capacity(slots),
            quality: Vec::with_capacity(slots),
            slots: {
                let mut order: Vec<SlotId> = (0..policy.thermal.slots).map(SlotId).collect();
                order.sort_by_key(|slot| std::cmp::Reverse(quality_of(&policy, *slot)));
                order
            },
            spot: policy.thermal.par,
            previous: Tick::ZERO,
            seats: Vec::with_capacity(slots),
            leased: Vec::with_capacity(slots * (1 + usize::from(policy.standby))),
            settled: Vec::new(),
            seated: Vec::with_capacity(slots),
            clearing: Clearing::with_capacity(slots * (1 + usize::from(policy.standby)) + 1),
            asks: Vec::with_capacity(slots),
            incumbents: Vec::with_capacity(slots),
            rung: Vec::new(),
            chain: [0; 32],
            scratch: Vec::new(),
            tripped: false,
            policy,
        }
    }

    /// Carries out one tick: facts in, decisions out. `out` is emptied first; its memory is reused.
    ///
    /// # Errors
    ///
    /// [`TickError`] if the input's tick does not lie after the last one, or lies absurdly far after it. Anything else that is wrong with an
    /// input (a report about an unknown agent, a command that cannot be carried out) is refused by itself, with an
    /// [`Event::Refused`].
    ///
    /// # Panics
    ///
    /// If money or energy were not conserved: a bug in this crate.
    pub fn tick(&mut self, input: &TickInput, out: &mut Outcome) -> Result<(), TickError> {
        if input.tick <= self.now {
            return Err(TickError::NotAfter { given: input.tick, last: self.now });
        }
        let elapsed_ticks = input.tick.since(self.now);
        if elapsed_ticks > MOST_TICKS_LOST {
            return Err(TickError::TooFar { given: input.tick, last: self.now });
        }
        self.previous = std::mem::replace(&mut self.now, input.tick);
        self.ticks += 1;
        out.reset(input.tick);

        let power = self.read_energy(input, out);
        self.settle_all(input, out);
        for command in &input.commands {
            self.command(command, out);
        }
        self.ring_alarms(out);
        self.set_price(input, elapsed_ticks, power, out);
        self.sell(input, out);
        self.audit();
        self.extend_chain(out);
        Ok(())
    }

    /// Reads the meters and splits what they show. Returns the power that heats the die, if it is known.
    fn read_energy(&mut self, input: &TickInput, out: &mut Outcome) -> Option<Watts> {
        if let Some(counters) = &input.counters {
            if self.metering != Metering::default() {
                out.events.push(Event::SensorsChanged);
            }
            self.metering.choose(counters);
        }
        let tick = self.metering.advance(&input.reading.counters, input.activity.elapsed_us);
        if tick.gap {
            out.events.push(Event::EnergyGap);
        }
        let mut split = Attribution::split(&tick, self.policy.thermal.idle, &input.activity);
        for usage in &input.usages {
            if let Some(agent) = self.agents.get_mut(crate::agent::index(usage.agent).unwrap_or(usize::MAX)) {
                let weighted = u128::from(usage.core.0) * u128::from(agent.spec.power_class) / 1_000;
                let share = split.share(u64::try_from(weighted).unwrap_or(u64::MAX));
                agent.tally.energy = agent.tally.energy.saturating_add(share);
            }
        }
        self.attribution.finish(split);
        if self.power_known == tick.stale {
            self.power_known = !tick.stale;
            out.events.push(if tick.stale { Event::PowerUnknown } else { Event::PowerKnown });
        }
        if tick.stale || input.activity.elapsed_us == 0 {
            return None;
        }
        // nJ / µs = mW.
        Some(Watts(tick.die.0 as f64 / input.activity.elapsed_us as f64 / 1_000.0))
    }

    fn set_price(&mut self, input: &TickInput, elapsed_ticks: u64, power: Option<Watts>, out: &mut Outcome) {
        let dt = self.policy.tick.0 as f64 * 1e-6 * elapsed_ticks as f64;
        let busy = |us: u64| us as f64 / input.activity.elapsed_us.max(1) as f64;
        let used = [input.activity.agents_us, input.activity.daemon_us, input.activity.others_us];
        let cores = busy(used.into_iter().fold(0, u64::saturating_add));
        self.control = self.controller.step(dt, input.reading.temperature, power, cores, self.policy.grid_factor);
        self.tax_rate = self.policy.landauer.tax_rate(self.control.estimate);
        if self.control.tripped != self.tripped {
            self.tripped = self.control.tripped;
            out.events.push(if self.tripped { Event::Tripped } else { Event::TripCleared });
        }
        out.control = self.control;
        out.power = self.control.power;
    }

    /// Moves money and records it.
    fn post(
        &mut self,
        from: Account,
        to: Account,
        amount: Joule,
        purpose: Purpose,
        out: &mut Outcome,
    ) -> Result<(), InsufficientFunds> {
        if amount == Joule::ZERO {
            return Ok(());
        }
        let posting = Posting { from, to, amount, purpose };
        self.accounts.post(posting)?;
        out.postings.push(posting);
        Ok(())
    }

    /// Moves as much of `amount` as `from` holds; returns what was moved.
    fn post_up_to(&mut self, from: Account, to: Account, amount: Joule, purpose: Purpose, out: &mut Outcome) -> Joule {
        let moved = self.accounts.balance(from).min(amount);
        self.post(from, to, moved, purpose, out).expect("no more than the source holds, into a sink or its own wallet");
        moved
    }

    fn audit(&self) {
        assert_eq!(self.accounts.supply().error(), 0, "money was not conserved at tick {}", self.now.0);
        if self.now.0.is_multiple_of(AUDIT_EVERY) {
            assert_eq!(self.accounts.supply(), self.accounts.audit(), "accounts and totals differ at {}", self.now.0);
        }
        assert_eq!(self.attribution.error(&self.metering), 0, "energy was not conserved at tick {}", self.now.0);
    }

    /// The worst core time of one slot: its length, and what cannot be interrupted at its end.
    fn worst_case(&self, index: u32) -> Micros {
        self.policy.tick.saturating_add(self.overrun(index))
    }

    /// The same of the shortest slot that is sold: without cover for it there is no lease.
    fn least_case(&self, index: u32) -> Micros {
        self.policy.least_slot.min(self.policy.tick).saturating_add(self.overrun(index))
    }

    /// How long an agent may run on when its time is over: one pass of a bulk instruction over its memory, or until the
    /// kernel has frozen it.
    fn overrun(&self, index: u32) -> Micros {
        let spec = &self.agents[index as usize].spec;
        match spec.cell {
            CellKind::Wasm => Micros(spec.held.0 / self.policy.bulk_bytes_per_us.max(1)),
            CellKind::Process => self.policy.freeze,
        }
    }

    /// The most that it may erase under a lease.
    fn erasable(&self, index: u32) -> Bytes {
        let spec = &self.agents[index as usize].spec;
        match spec.cell {
            // Nothing stops a module before it has overwritten all that it holds.
            CellKind::Wasm => spec.held.max(spec.erasable),
            CellKind::Process => spec.erasable,
        }
    }

    /// The tax on that: what its lease covers where its wallet allows.
    fn full_cover(&self, index: u32) -> Joule {
        self.tax_rate.ceiling(self.erasable(index).0)
    }

    /// The part of it without which there is no lease. A cell that stops its agent anywhere needs none.
    fn least_cover(&self, index: u32) -> Joule {
        match self.agents[index as usize].spec.cell {
            CellKind::Wasm => self.full_cover(index),
            CellKind::Process => Joule::ZERO,
        }
    }

    /// What must be covered beside the core time: the least tax, and its arrears.
    fn overhead(&self, index: u32) -> Joule {
        self.least_cover(index).saturating_add(self.agents[index as usize].arrears.total())
    }

    /// What one quantum at par must be covered with: below this for longer than `grace`, an agent is insolvent. Tax that a process
    /// does not owe yet is no part of it.
    fn quantum_at_par(&self, index: u32) -> Joule {
        Self::bid_for(self.policy.thermal.par).cost(self.worst_case(index)).saturating_add(self.overhead(index))
    }

    /// The least bid that buys at `price`: bids count as their level of the ladder, so it may be 0.1 % above.
    fn bid_for(price: Price) -> Price {
        Level::at_least(price).map_or(Price::MAX, Level::price)
    }

    fn wallet(&self, index: u32) -> Joule {
        self.accounts.balance(Account::Wallet(index))
    }

    /// How much more an agent can be given: whatever it has put aside may return to its wallet.
    fn room(&self, index: u32) -> Joule {
        let accounts = [Account::Wallet(index), Account::Escrow(index), Account::LastWords(index)];
        let held =
            accounts.into_iter().fold(Joule::ZERO, |sum, account| sum.saturating_add(self.accounts.balance(account)));
        Joule::MAX.saturating_sub(held)
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &MarketPolicy {
        &self.policy
    }

    /// The last tick carried out.
    #[must_use]
    pub fn now(&self) -> Tick {
        self.now
    }

    /// Every agent that was ever admitted, with its name.
    pub fn agents(&self) -> impl Iterator<Item = (AgentId, &Agent)> {
        self.agents.iter().enumerate().map(|(index, agent)| (AgentId(index as u64), agent))
    }

    /// One agent.
    #[must_use]
    pub fn agent(&self, id: AgentId) -> Option<&Agent> {
        self.agents.get(crate::agent::index(id)?)
    }

    /// Why an agent is where it is, now.
    #[must_use]
    pub fn reason(&self, id: AgentId) -> Option<Reason> {
        let agent = self.agent(id)?;
        Some(match agent.life {
            Life::Running(Lease { kind: LeaseKind::Slot(_) | LeaseKind::LastWords(_), .. }) => Reason::Running,
            Life::Ready | Life::Running(_) => self.why_waiting(u32::try_from(id.0).ok()?),
            Life::Dying { reason, .. } | Life::Parked { reason } | Life::Dead { reason, .. } => reason,
        })
    }

    fn why_waiting(&self, index: u32) -> Reason {
        let agent = &self.agents[index as usize];
        let bid = agent.spec.pacing.bid(agent.spec.order.limit);
        let reserve = self.control.reserve;
        if self.tripped {
            Reason::Tripped
        } else if bid == Price::ZERO {
            Reason::NoOrder
        } else if bid < reserve {
            Reason::PricedOut { reserve, bid }
        } else if agent.standing < reserve {
            let needed = self.overhead(index).saturating_add(Self::bid_for(reserve).cost(self.least_case(index)));
            Reason::Illiquid { wallet: self.wallet(index), needed }
        } else if agent.standing >= self.clearing.marginal {
            Reason::OutOfTurn
        } else {
            Reason::Outbid { spot: self.spot, bid: agent.standing }
        }
    }

    /// What an agent can spend now. Rent and fees since it was last touched are not deducted yet.
    #[must_use]
    pub fn balance(&self, id: AgentId) -> Joule {
        u32::try_from(id.0).map_or(Joule::ZERO, |index| self.wallet(index))
    }

    /// A sponsor's remaining budget.
    #[must_use]
    pub fn sponsor_balance(&self, sponsor: crate::bounty::SponsorId) -> Joule {
        self.accounts.balance(Account::Sponsor(sponsor.0))
    }

    /// The sponsors' offers, by index.
    #[must_use]
    pub fn bounties(&self) -> &[Bounty] {
        &self.bounties
    }

    /// All money, counted account by account.
    #[must_use]
    pub fn money(&self) -> MoneySupply {
        self.accounts.audit()
    }

    /// All energy the meter has shown, in nanojoules.
    #[must_use]
    pub fn energy_total(&self) -> u128 {
        self.metering.total()
    }

    /// What each domain showed through each source, counters that are not read any more included.
    pub fn metered(&self) -> impl Iterator<Item = Metered> {
        self.metering.metered()
    }

    /// Who used it.
    #[must_use]
    pub fn attribution(&self) -> Attribution {
        self.attribution
    }

    /// The hash chain over all decisions so far.
    #[must_use]
    pub fn chain(&self) -> [u8; 32] {
        self.chain
    }

    /// The best estimate of the die temperature.
    #[must_use]
    pub fn temperature(&self) -> Celsius {
        self.control.estimate
    }

    /// How the machine warms, as the controller sees it now, and whether it learnt that from the machine.
    #[must_use]
    pub fn plant(&self) -> (PlantModel, bool) {
        (self.controller.model(), self.controller.has_learnt())
    }

    /// Orders standing in the book.
    #[must_use]
    pub fn standing_orders(&self) -> usize {
        self.book.len()
    }

    /// Agents that are alive.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.agents.iter().filter(|agent| !matches!(agent.life, Life::Dead { .. })).count()
    }
}
