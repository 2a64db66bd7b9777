//! Settling: what a lease covered is charged, the rest refunded, and verified work is paid.

use super::sale::AHEAD;
use super::{Event, Market, Outcome, Refusal, Stop, TickInput, Usage};
use crate::accounts::{Account, Purpose};
use crate::agent::{AfterLease, Lease, LeaseKind, Life};
use crate::book::OrderKey;
use crate::bounty::ClaimFault;
use crate::reason::Reason;
use crate::units::{Joule, Tick};

impl Market {
    pub(super) fn settle_all(&mut self, input: &TickInput, out: &mut Outcome) {
        let mut settled = std::mem::take(&mut self.settled);
        settled.clear();
        for (at, usage) in input.usages.iter().enumerate() {
            if let Some(ahead) = input.usages.get(at + AHEAD) {
                self.expect(u32::try_from(ahead.agent.0).unwrap_or(u32::MAX));
            }
            let index = match u32::try_from(usage.agent.0) {
                Ok(index) if (index as usize) < self.agents.len() => index,
                _ => {
                    out.events.push(Event::Refused { agent: Some(usage.agent), why: Refusal::NoSuchAgent });
                    continue;
                }
            };
            match self.agents[index as usize].lease() {
                Some(lease) => {
                    self.settle(index, lease, usage, out);
                    settled.push((index, at));
                }
                None => out.events.push(Event::Refused { agent: Some(usage.agent), why: Refusal::NoLease }),
            }
        }
        for claim in &input.claims {
            self.pay_claim(claim, out);
        }
        // Only now may an agent be judged: what it earned in its last slot counts.
        for (index, at) in &settled {
            let usage = &input.usages[*at];
            if usage.stop == Stop::Idle {
                // Behind those who used what it left: it would come before them at every tick.
                self.book.served(OrderKey(*index));
            }
            self.conclude(*index, usage, out);
        }
        self.settled = settled;
        for claim in &input.claims {
            self.heed_income(claim, out);
        }
    }

    /// Judges who was paid without having held a lease: its claim was on its way when its slot ended.
    fn heed_income(&mut self, claim: &super::Claim, out: &mut Outcome) {
        let Some(agent) = self.agents.get(crate::agent::index(claim.agent).unwrap_or(usize::MAX)) else { return };
        let index = u32::try_from(claim.agent.0).expect("agents are numbered in u32");
        match agent.life {
            _ if claim.verdict.is_err() => {}
            Life::Ready if agent.touched != self.now => {
                self.accrue(index, out);
                self.pay_arrears(index, Account::Wallet(index), out);
                self.touch(index, out);
            }
            Life::Parked { reason: Reason::Insolvent | Reason::RentUnpaid } => self.revive_if_funded(index, out),
            _ => {}
        }
    }

    /// Charges a lease and returns the rest.
    fn settle(&mut self, index: u32, lease: Lease, usage: &Usage, out: &mut Outcome) {
        let (escrow, wallet) = (Account::Escrow(index), Account::Wallet(index));
        if usage.stop != Stop::NotRun {
            // Old debts first; the reservation covered them. Last words owe nothing but themselves.
            if !matches!(lease.kind, LeaseKind::LastWords(_)) {
                self.pay_arrears(index, escrow, out);
            }
            let cost = lease.price.cost(usage.core);
            let electricity = lease.price.min(self.policy.thermal.par).cost(usage.core);
            let grid = self.post_up_to(escrow, Account::Grid, electricity, Purpose::Energy, out);
            let premium = cost.saturating_sub(electricity);
            let cooling = self.post_up_to(escrow, Account::Cooling, premium, Purpose::Scarcity, out);
            let due = self.agents[index as usize].tax_carry.charge(lease.tax, usage.erased.0);
            let tax = self.post_up_to(escrow, Account::Cooling, due, Purpose::Tax, out);

            let paid = grid.saturating_add(cooling);
            let (beyond, untaxed) = (cost.saturating_sub(paid), due.saturating_sub(tax));
            let agent = &mut self.agents[index as usize];
            agent.arrears.energy = agent.arrears.energy.saturating_add(beyond);
            agent.arrears.tax = agent.arrears.tax.saturating_add(untaxed);
            let arrears = beyond.saturating_add(untaxed);
            let tally = &mut agent.tally;
            tally.core = tally.core.saturating_add(usage.core);
            tally.fuel = tally.fuel.saturating_add(usage.fuel);
            tally.erased = tally.erased.saturating_add(usage.erased);
            tally.paid = tally.paid.saturating_add(paid);
            tally.tax = tally.tax.saturating_add(tax);
            tally.slots += u64::from(lease.slots);
            agent.spent_since_pacing = agent.spent_since_pacing.saturating_add(paid).saturating_add(tax);
            if arrears > Joule::ZERO {
                out.events.push(Event::Overran { agent: usage.agent, arrears });
            }
        }
        self.post_up_to(escrow, wallet, lease.reserved, Purpose::Refund, out);
        // Rent up to now was for what it held until now.
        self.accrue(index, out);
        if usage.stop != Stop::NotRun {
            let spec = &mut self.agents[index as usize].spec;
            (spec.held, spec.erasable) = (usage.held, usage.erasable);
            self.book.served(OrderKey(index));
        }
        let agent = &mut self.agents[index as usize];
        if usage.stop == Stop::Idle
            && let Some(seat) = &mut agent.seat
        {
            // Who rests needs no slot kept: whether it wakes is seen at its next turn.
            seat.since = Tick::default();
        }
        match &mut agent.life {
            Life::Running(_) => agent.life = Life::Ready,
            Life::Dying { lease, .. } => *lease = None,
            Life::Ready | Life::Parked { .. } | Life::Dead { .. } => {}
        }
        if matches!(lease.kind, LeaseKind::LastWords(_)) {
            self.finish_death(index, out);
        }
    }

    /// Acts on how the slot ended, and brings the order in line with the wallet.
    fn conclude(&mut self, index: u32, usage: &Usage, out: &mut Outcome) {
        if !matches!(self.agents[index as usize].life, Life::Ready) {
            return;
        }
        if let Some(limit) = usage.bid {
            self.agents[index as usize].spec.order.limit = limit;
        }
        if let Some(demand) = usage.demand {
            let most = self.most_slots(self.agents[index as usize].spec.order);
            self.agents[index as usize].demand = demand.clamp(1, most);
        }
        match self.agents[index as usize].after_lease.take() {
            Some(AfterLease::Park) => return self.park(index, Reason::ParkedByOwner, out),
            Some(AfterLease::End) => return self.condemn(index, Reason::Killed, out),
            None => {}
        }
        match usage.stop {
            Stop::Done => self.finish(index, Reason::Finished, out),
            Stop::Trapped(trap) => self.condemn(index, Reason::Trapped(trap), out),
            Stop::NotRun => self.touch(index, out),
            Stop::SlotEnd | Stop::Idle => {
                self.pace(index);
                self.touch(index, out);
            }
        }
    }

    fn pay_claim(&mut self, claim: &super::Claim, out: &mut Outcome) {
        let verdict = self.judge(claim, out);
        let Some(agent) = self.agents.get_mut(crate::agent::index(claim.agent).unwrap_or(usize::MAX)) else {
            return;
        };
        match verdict {
            Ok(amount) => {
                agent.tally.work_verified += 1;
                agent.tally.earned = agent.tally.earned.saturating_add(amount);
                out.events.push(Event::Paid { agent: claim.agent, sponsor: claim.sponsor, amount });
            }
            Err(fault) => {
                agent.tally.claims_rejected += 1;
                out.events.push(Event::ClaimRejected { agent: claim.agent, sponsor: claim.sponsor, fault });
            }
        }
    }

    fn judge(&mut self, claim: &super::Claim, out: &mut Outcome) -> Result<Joule, ClaimFault> {
        let unit = claim.verdict?;
        let index = u32::try_from(claim.agent.0).map_err(|_| ClaimFault::Unfunded)?;
        let alive = self.agents.get(index as usize).is_some_and(super::Agent::is_alive);
        let sponsor = Account::Sponsor(claim.sponsor.0);
        let held = self.accounts.balance(sponsor);
        let room = self.room(index);
        let bounty = self.bounties.get_mut(usize::from(claim.sponsor.0)).ok_or(ClaimFault::Unfunded)?;
        let reward = bounty.reward;
        if held < reward || !alive || room < reward {
            return Err(ClaimFault::Unfunded);
        }
        bounty.take(unit, claim.agent)?;
        self.post(sponsor, Account::Wallet(index), reward, Purpose::Bounty, out).map_err(|_| ClaimFault::Unfunded)?;
        Ok(reward)
    }
}
