//! Solvency: rent and fees, the death ladder, parking and revival.
//!
//! An agent is looked at ("touched") when something happens to it, and otherwise when its alarm rings. The alarm stands
//! at the earliest of: the moment its money no longer covers a quantum at par; the end of its grace; the next time its
//! pacing may raise its bid.

use super::{CellAction, Event, Market, Outcome};
use crate::accounts::{Account, Purpose};
use crate::agent::{Arrears, Life, OnInsolvency};
use crate::book::OrderKey;
use crate::landauer::{self, Rate};
use crate::reason::Reason;
use crate::units::{AgentId, Joule, Micros, Price, Tick};

/// While a paced agent waits, its bid is looked at after this many ticks, then after twice as many, and so on.
const PACING_WAIT: (u64, u64) = (8, 64);

impl Market {
    pub(super) fn ring_alarms(&mut self, out: &mut Outcome) {
        let mut rung = std::mem::take(&mut self.rung);
        rung.clear();
        self.wheel.advance(self.now, &mut rung);
        for index in &rung {
            match self.agents[*index as usize].life {
                Life::Ready => {
                    self.accrue(*index, out);
                    self.touch(*index, out);
                }
                // A leaseholder is touched when it is settled; a dying agent whose patience ends is ended by the sale.
                Life::Running(_) | Life::Dying { .. } | Life::Parked { .. } | Life::Dead { .. } => {}
            }
        }
        self.rung = rung;
    }

    /// Charges rent and resting fees since the agent was last touched. What the wallet does not hold becomes arrears.
    pub(super) fn accrue(&mut self, index: u32, out: &mut Outcome) {
        let now = self.now;
        let agent = &mut self.agents[index as usize];
        let ticks = now.since(agent.touched);
        agent.touched = now;
        if ticks == 0 || !agent.is_alive() {
            return;
        }
        let rent = landauer::rent(&mut agent.rent_carry, self.rent_rate, agent.spec.held, ticks);
        let fee = agent.fee_carry.charge(agent.fee_rate, ticks);
        let wallet = Account::Wallet(index);
        let paid_rent = self.post_up_to(wallet, Account::Grid, rent, Purpose::Rent, out);
        let paid_fee = self.post_up_to(wallet, Account::Cooling, fee, Purpose::Resting, out);
        let paid = paid_rent.saturating_add(paid_fee);
        let agent = &mut self.agents[index as usize];
        agent.tally.rent = agent.tally.rent.saturating_add(paid);
        agent.spent_since_pacing = agent.spent_since_pacing.saturating_add(paid);
        let unpaid = rent.saturating_add(fee).saturating_sub(paid);
        agent.arrears.rent = agent.arrears.rent.saturating_add(unpaid);
    }

    /// Adapts a paced agent's multiplier to what it spent.
    pub(super) fn pace(&mut self, index: u32) {
        let balance = self.wallet(index);
        let now = self.now;
        let agent = &mut self.agents[index as usize];
        let ticks = now.since(agent.paced);
        if ticks == 0 {
            return;
        }
        let spent = std::mem::take(&mut agent.spent_since_pacing);
        agent.paced = now;
        agent.pacing_wait = if spent > Joule::ZERO {
            PACING_WAIT.0
        } else {
            (agent.pacing_wait * 2).clamp(PACING_WAIT.0, PACING_WAIT.1)
        };
        agent.spec.pacing.adapt(now, ticks, spent, balance);
    }

    /// Judges a ready agent by its wallet: insolvency, the price its order stands at, and its next alarm. Rent must have
    /// been accrued.
    pub(super) fn touch(&mut self, index: u32, out: &mut Outcome) {
        if !matches!(self.agents[index as usize].life, Life::Ready) {
            return;
        }
        let agent = &self.agents[index as usize];
        if agent.spec.pacing.may_rise() && self.now.since(agent.paced) >= agent.pacing_wait {
            self.pace(index);
        }
        let wallet = self.wallet(index);
        let quantum = self.quantum_at_par(index);
        let ticks = self.ticks;
        let grace = self.policy.grace.0 / self.policy.tick.0.max(1);
        let agent = &mut self.agents[index as usize];
        if wallet < quantum {
            let since = *agent.broke_since.get_or_insert(ticks);
            let rent_unpaid = wallet == Joule::ZERO && agent.arrears.total() > Joule::ZERO;
            if rent_unpaid || ticks - since >= grace {
                let reason = if rent_unpaid { Reason::RentUnpaid } else { Reason::Insolvent };
                return match agent.spec.on_insolvency {
                    OnInsolvency::Apoptosis => self.condemn(index, reason, out),
                    OnInsolvency::Park => self.park(index, reason, out),
                };
            }
        } else {
            agent.broke_since = None;
        }
        self.stand(index, wallet);
        self.set_alarm(index, wallet, quantum, grace);
    }

    /// Puts the order where wish and wallet allow.
    fn stand(&mut self, index: u32, wallet: Joule) {
        let (worst, least) = (self.worst_case(index), self.least_case(index));
        let covered = wallet.saturating_sub(self.overhead(index));
        let ample = covered.saturating_sub(self.full_cover(index).saturating_sub(self.least_cover(index)));
        let agent = &mut self.agents[index as usize];
        let bid = agent.spec.pacing.bid(agent.spec.order.limit);
        // Fewer slots before less to erase, that before a shorter slot, and that before a lower price.
        let covers = ample.0.checked_div(bid.cost(worst).0).unwrap_or(0);
        let slots = u16::try_from(covers).unwrap_or(u16::MAX).clamp(1, agent.demand);
        let price = bid.min(Price::affordable(covered, least));
        if price != agent.standing || slots != agent.slots {
            agent.standing = price;
            agent.slots = slots;
            let per_tick = u128::from(price.0)
                * u128::from(slots)
                * u128::from(self.policy.tick.0)
                * u128::from(self.policy.resting_fee_ppm);
            agent.fee_rate = Rate::ratio(per_tick, 1_000_000);
            self.book.set_slots(OrderKey(index), slots);
            self.book.set(OrderKey(index), price);
        }
    }

    fn set_alarm(&mut self, index: u32, wallet: Joule, quantum: Joule, grace: u64) {
        let agent = &self.agents[index as usize];
        // An upper bound on what a tick of waiting costs: never late, at worst early.
        let drain = self.rent_rate.ceiling(agent.spec.held.0).saturating_add(agent.fee_rate.ceiling(1)).0;
        let broke = match agent.broke_since {
            // The rent may run out before grace does.
            Some(since) => {
                let dry = self.now.after(wallet.0 / drain + 1);
                self.now.after(grace - (self.ticks - since)).min(dry)
            }
            None => self.now.after((wallet.0 - quantum.0) / drain + 1),
        };
        let paced = if agent.spec.pacing.may_rise() { agent.paced.after(agent.pacing_wait.max(1)) } else { Tick::MAX };
        self.wheel.set(index, broke.min(paced));
    }

    /// Tells an agent that it ends. With last words to say it waits for its slot; without, it is gone.
    pub(super) fn condemn(&mut self, index: u32, reason: Reason, out: &mut Outcome) {
        self.leave_market(index);
        let now = self.now;
        let agent = &mut self.agents[index as usize];
        out.events.push(Event::Condemned { agent: AgentId(u64::from(index)), reason });
        agent.life = Life::Dying { reason, since: now, lease: None };
        if agent.spec.last_words > Micros::ZERO {
            self.dying.push_back(index);
        } else {
            self.finish_death(index, out);
        }
    }

    /// An agent that ends by its own wish: nothing to say any more.
    pub(super) fn finish(&mut self, index: u32, reason: Reason, out: &mut Outcome) {
        self.leave_market(index);
        self.agents[index as usize].life = Life::Dying { reason, since: self.now, lease: None };
        self.finish_death(index, out);
    }

    /// A dying agent is gone: its deposit returns to its wallet, its cell is freed.
    pub(super) fn finish_death(&mut self, index: u32, out: &mut Outcome) {
        let Life::Dying { reason, .. } = self.agents[index as usize].life else { return };
        self.accrue(index, out);
        let deposit = self.accounts.balance(Account::LastWords(index));
        self.post_up_to(Account::LastWords(index), Account::Wallet(index), deposit, Purpose::Refund, out);
        self.pay_arrears(index, Account::Wallet(index), out);
        let now = self.now;
        let agent = &mut self.agents[index as usize];
        agent.life = Life::Dead { reason, at: now };
        agent.fee_rate = Rate::default();
        let id = AgentId(u64::from(index));
        out.events.push(Event::Died { agent: id, reason });
        out.actions.push(CellAction::End(id));
    }

    pub(super) fn park(&mut self, index: u32, reason: Reason, out: &mut Outcome) {
        self.leave_market(index);
        self.agents[index as usize].life = Life::Parked { reason };
        out.events.push(Event::Parked { agent: AgentId(u64::from(index)), reason });
    }

    /// Whether a funded agent has enough to live: its arrears and two quanta at par.
    pub(super) fn revive_if_funded(&mut self, index: u32, out: &mut Outcome) {
        self.accrue(index, out);
        self.pay_arrears(index, Account::Wallet(index), out);
        let enough = self.quantum_at_par(index).saturating_add(self.policy.thermal.par.cost(self.policy.tick));
        let id = AgentId(u64::from(index));
        match self.agents[index as usize].life {
            Life::Parked { .. } if self.wallet(index) >= enough => {}
            Life::Dead { reason: Reason::Insolvent | Reason::RentUnpaid, .. }
                if self.wallet(index) >= enough.saturating_add(self.deposit(index)) =>
            {
                self.take_deposit(index, out).expect("the wallet holds the deposit and more");
                out.actions.push(CellAction::Respawn(id));
            }
            _ => return,
        }
        let now = self.now;
        let agent = &mut self.agents[index as usize];
        agent.life = Life::Ready;
        agent.broke_since = None;
        agent.touched = now;
        agent.paced = now;
        out.events.push(Event::Revived { agent: id });
        self.touch(index, out);
    }

    /// Pays debts from an agent's wallet or escrow, as far as it goes: each for what it is.
    pub(super) fn pay_arrears(&mut self, index: u32, from: Account, out: &mut Outcome) {
        let owed = self.agents[index as usize].arrears;
        if owed.total() == Joule::ZERO {
            return;
        }
        let energy = self.post_up_to(from, Account::Grid, owed.energy, Purpose::Arrears, out);
        let rent = self.post_up_to(from, Account::Grid, owed.rent, Purpose::Arrears, out);
        let tax = self.post_up_to(from, Account::Cooling, owed.tax, Purpose::Arrears, out);
        let agent = &mut self.agents[index as usize];
        agent.arrears = Arrears {
            energy: owed.energy.saturating_sub(energy),
            tax: owed.tax.saturating_sub(tax),
            rent: owed.rent.saturating_sub(rent),
        };
        let tally = &mut agent.tally;
        tally.paid = tally.paid.saturating_add(energy);
        tally.rent = tally.rent.saturating_add(rent);
        tally.tax = tally.tax.saturating_add(tax);
        let all = energy.saturating_add(rent).saturating_add(tax);
        agent.spent_since_pacing = agent.spent_since_pacing.saturating_add(all);
    }

    /// Takes the agent's order off the book and clears its alarm.
    fn leave_market(&mut self, index: u32) {
        self.book.cancel(OrderKey(index));
        self.wheel.cancel(index);
        let agent = &mut self.agents[index as usize];
        agent.standing = Price::ZERO;
        agent.fee_rate = Rate::default();
        agent.seat = None;
    }
}
