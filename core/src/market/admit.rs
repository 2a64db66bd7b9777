//! Admission: commands from outside the tick.

use super::{Command, Event, Market, Outcome, Refusal};
use crate::accounts::{Account, InsufficientFunds, Purpose};
use crate::agent::{AfterLease, Agent, AgentSpec, Life, Order, Tally};
use crate::book::{OrderKey, PrincipalIndex};
use crate::bounty::Bounty;
use crate::landauer::{Carry, Rate};
use crate::reason::Reason;
use crate::units::{AgentId, Joule, Micros, Price};

/// Sponsors of one market.
const MOST_SPONSORS: u16 = 1_024;

impl Market {
    pub(super) fn command(&mut self, command: &Command, out: &mut Outcome) {
        let (agent, done) = match *command {
            Command::Sponsor { verifier, reward, budget } => {
                (None, self.sponsor(Bounty::new(verifier, reward, budget), budget, out))
            }
            Command::Spawn { spec, wallet } => (None, self.spawn(spec, wallet, out)),
            Command::Fund { agent, amount } => (Some(agent), self.fund(agent, amount, out)),
            Command::Order { agent, order } => (Some(agent), self.order(agent, order, out)),
            Command::Park { agent } => (Some(agent), self.park_by_owner(agent, out)),
            Command::Kill { agent } => (Some(agent), self.kill(agent, out)),
        };
        if let Err(why) = done {
            out.events.push(Event::Refused { agent, why });
        }
    }

    fn known(&self, agent: AgentId) -> Result<u32, Refusal> {
        match u32::try_from(agent.0) {
            Ok(index) if (index as usize) < self.agents.len() => Ok(index),
            _ => Err(Refusal::NoSuchAgent),
        }
    }

    fn sponsor(&mut self, bounty: Bounty, budget: Joule, out: &mut Outcome) -> Result<(), Refusal> {
        let index = u16::try_from(self.bounties.len()).ok().filter(|n| *n < MOST_SPONSORS).ok_or(Refusal::Full)?;
        self.accounts.open_sponsor(index);
        self.bounties.push(bounty);
        self.post(Account::Mint, Account::Sponsor(index), budget, Purpose::Mint, out).map_err(|_| Refusal::TooMuchMoney)
    }

    fn spawn(&mut self, spec: AgentSpec, wallet: Joule, out: &mut Outcome) -> Result<(), Refusal> {
        let index = u32::try_from(self.agents.len()).ok().filter(|i| *i < u32::MAX - 1).ok_or(Refusal::Full)?;
        let next = u32::try_from(self.principals.len()).map_err(|_| Refusal::Full)?;
        let principal = *self.principals.entry(spec.principal).or_insert(next);
        self.accounts.open_agent(index);
        self.wheel.reserve(index);
        self.book.register(OrderKey(index), PrincipalIndex(principal), 1);
        let demand = self.most_slots(spec.order);
        self.agents.push(Agent {
            spec,
            life: Life::Ready,
            born: self.now,
            tally: Tally::default(),
            arrears: Joule::ZERO,
            owed_tax: Joule::ZERO,
            owed_rent: Joule::ZERO,
            standing: Price::ZERO,
            slots: 1,
            demand,
            principal,
            touched: self.now,
            spent_since_pacing: Joule::ZERO,
            paced: self.now,
            pacing_wait: 0,
            broke_since: None,
            rent_carry: Carry::default(),
            fee_carry: Carry::default(),
            tax_carry: Carry::default(),
            fee_rate: Rate::default(),
            seat: None,
            after_lease: None,
        });
        let id = AgentId(u64::from(index));
        self.post(Account::Mint, Account::Wallet(index), wallet, Purpose::Mint, out)
            .expect("a new wallet is empty and holds any amount");
        if self.take_deposit(index, out).is_err() {
            self.finish(index, Reason::NoDeposit, out);
            return Err(Refusal::NoDeposit);
        }
        out.events.push(Event::Born { agent: id });
        self.touch(index, out);
        Ok(())
    }

    fn fund(&mut self, agent: AgentId, amount: Joule, out: &mut Outcome) -> Result<(), Refusal> {
        let index = self.known(agent)?;
        if let Life::Dead { reason, .. } = self.agents[index as usize].life
            && !matches!(reason, Reason::Insolvent | Reason::RentUnpaid)
        {
            return Err(Refusal::Dead);
        }
        if amount > self.room(index) {
            return Err(Refusal::TooMuchMoney);
        }
        self.post(Account::Mint, Account::Wallet(index), amount, Purpose::Mint, out)
            .map_err(|_| Refusal::TooMuchMoney)?;
        out.events.push(Event::Funded { agent, amount });
        match self.agents[index as usize].life {
            Life::Parked { .. } | Life::Dead { .. } => self.revive_if_funded(index, out),
            Life::Ready => {
                self.accrue(index, out);
                self.pay_arrears(index, out);
                self.touch(index, out);
            }
            // Settling touches a leaseholder; last words, once announced, are said.
            Life::Running(_) | Life::Dying { .. } => {}
        }
        Ok(())
    }

    fn order(&mut self, agent: AgentId, order: Order, out: &mut Outcome) -> Result<(), Refusal> {
        let index = self.known(agent)?;
        let most = self.most_slots(order);
        let record = &mut self.agents[index as usize];
        if !record.is_alive() {
            return Err(Refusal::Dead);
        }
        record.spec.order = order;
        record.demand = most;
        if matches!(self.agents[index as usize].life, Life::Ready) {
            self.accrue(index, out);
            self.touch(index, out);
        }
        Ok(())
    }

    /// The most slots that an order can mean here.
    pub(super) fn most_slots(&self, order: Order) -> u16 {
        order.slots.clamp(1, self.policy.thermal.slots)
    }

    fn park_by_owner(&mut self, agent: AgentId, out: &mut Outcome) -> Result<(), Refusal> {
        let index = self.known(agent)?;
        match self.agents[index as usize].life {
            Life::Ready => {
                self.accrue(index, out);
                self.park(index, Reason::ParkedByOwner, out);
                Ok(())
            }
            Life::Running(_) => {
                self.agents[index as usize].after_lease = Some(AfterLease::Park);
                Ok(())
            }
            Life::Parked { .. } => Ok(()),
            Life::Dying { .. } | Life::Dead { .. } => Err(Refusal::Dead),
        }
    }

    fn kill(&mut self, agent: AgentId, out: &mut Outcome) -> Result<(), Refusal> {
        let index = self.known(agent)?;
        match self.agents[index as usize].life {
            Life::Ready | Life::Parked { .. } => {
                self.accrue(index, out);
                self.condemn(index, Reason::Killed, out);
                Ok(())
            }
            Life::Running(_) => {
                self.agents[index as usize].after_lease = Some(AfterLease::End);
                Ok(())
            }
            Life::Dying { .. } | Life::Dead { .. } => Err(Refusal::Dead),
        }
    }

    /// What must be put aside for last words: their core time at par, with the tax on all the agent holds.
    pub(super) fn deposit(&self, index: u32) -> Joule {
        let agent = &self.agents[index as usize];
        if agent.spec.last_words == Micros::ZERO {
            return Joule::ZERO;
        }
        self.policy
            .thermal
            .par
            .cost(agent.spec.last_words.saturating_add(self.overrun(index)))
            .saturating_add(self.tax_rate.ceiling(agent.spec.held.0))
    }

    pub(super) fn take_deposit(&mut self, index: u32, out: &mut Outcome) -> Result<(), InsufficientFunds> {
        let deposit = self.deposit(index);
        self.post(Account::Wallet(index), Account::LastWords(index), deposit, Purpose::LastWordsDeposit, out)
    }
}
