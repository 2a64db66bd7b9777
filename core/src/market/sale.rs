//! The sale: slots for last words first, then the auction; each lease is paid into escrow before it exists.

use super::{Event, Grant, Market, Outcome, TickInput, quality_of};
use crate::accounts::{Account, Purpose};
use crate::agent::{Lease, LeaseKind, Life, Seat, SlotId};
use crate::book::OrderKey;
use crate::clearing::{Award, Supply};
use crate::landauer::Rate;
use crate::prefetch::prefetch_whole;
use crate::units::{AgentId, Bytes, Joule, Price};

/// How often a tick clears anew because a winner turned out not to cover its lease. Each round takes the bid of whoever
/// failed down to what its wallet covers, so one round is almost always enough.
const ROUNDS: usize = 4;
/// How many agents ahead their records are asked for.
pub(super) const AHEAD: usize = 4;
/// Dying agents looked at in one tick.
const DEATHS_PER_TICK: usize = 64;

impl Market {
    pub(super) fn sell(&mut self, input: &TickInput, out: &mut Outcome) {
        self.free.clear();
        self.free.extend(self.slots.iter().filter(|slot| !input.busy.contains(slot)));
        let busy = self.slots.len() - self.free.len();
        let mut lit = usize::from(self.control.slots).saturating_sub(busy).min(self.free.len());

        self.withdraw_leaseholders();
        lit -= self.grant_last_words(lit, out);
        self.auction(lit, out);
        self.grant_winners(out);
        self.grant_standbys(out);
        self.note_frozen(out);
        if self.tripped {
            return;
        }
        let demand = self.clearing.winners.len() + self.clearing.standby.len();
        let supplied = self.control.slots.saturating_sub(u16::try_from(busy).expect("slots are counted in u16"));
        self.controller.observe_demand(demand, supplied, self.book.best_below(self.control.reserve));
    }

    /// Whoever still holds the lease of an earlier tick (its slot overruns) cannot buy another: its order leaves the book
    /// until the lease is settled.
    fn withdraw_leaseholders(&mut self) {
        for at in 0..self.leased.len() {
            let index = self.leased[at];
            let agent = &mut self.agents[index as usize];
            if matches!(agent.life, Life::Running(_)) {
                agent.standing = Price::ZERO;
                agent.fee_rate = Rate::default();
                self.book.cancel(OrderKey(index));
            }
        }
        self.leased.clear();
    }

    /// Dying agents speak before anybody buys, on at most half of the slots; who waited too long goes unheard. Returns
    /// the slots used.
    fn grant_last_words(&mut self, lit: usize, out: &mut Outcome) -> usize {
        let patience = self.policy.last_words_patience.0 / self.policy.tick.0.max(1);
        let mut used = 0;
        for _ in 0..self.dying.len().min(DEATHS_PER_TICK) {
            let Some(index) = self.dying.pop_front() else { break };
            let Life::Dying { since, lease: None, reason } = self.agents[index as usize].life else { continue };
            if used < lit.div_ceil(2) {
                let slot = self.free.remove(0);
                let deposit = self.accounts.balance(Account::LastWords(index));
                let price = self.policy.thermal.par;
                let from = Account::LastWords(index);
                let lease = self.lease(index, price, deposit, LeaseKind::LastWords(slot), from, out);
                self.agents[index as usize].life = Life::Dying { since, reason, lease: Some(lease) };
                let worst_case = self.agents[index as usize].spec.last_words;
                let agent = AgentId(u64::from(index));
                let length = worst_case;
                out.grants.push(Grant { agent, kind: lease.kind, price, length, worst_case, erasable: lease.erasable });
                used += 1;
            } else if self.now.since(since) >= patience {
                self.finish_death(index, out);
            } else {
                self.dying.push_back(index);
            }
        }
        used
    }

    /// Clears the book for `slots` slots, until every winner and standby covers its lease.
    fn auction(&mut self, slots: usize, out: &mut Outcome) {
        self.asks.clear();
        self.asks.resize(slots, self.control.reserve);
        self.quality.clear();
        self.quality.extend(self.free.iter().take(slots).map(|slot| quality_of(&self.policy, *slot)));
        self.incumbents.clear();
        for index in &self.seated {
            let agent = &self.agents[*index as usize];
            if agent.seat.is_some_and(|seat| self.now.since(seat.since) < u64::from(agent.spec.order.hold)) {
                self.incumbents.push(OrderKey(*index));
            }
        }
        let standby = self.slots.len() * usize::from(self.policy.standby.max(1));
        for _ in 0..ROUNDS {
            let supply = Supply { reserve: self.control.reserve, asks: &self.asks, quality: &self.quality, standby };
            self.clearing.clear(self.policy.pricing, &mut self.book, supply, &self.incumbents);
            if self.everyone_covers(out) {
                break;
            }
        }
        self.spot = self.clearing.spot.max(self.control.reserve);
        out.spot = self.spot;
        out.price_setter = self.clearing.price_setter.map(|order| AgentId(u64::from(order.0)));
    }

    /// Charges rent up to now to everybody who is about to be granted a lease, and takes the orders of those whose
    /// wallets fell short down to what they hold.
    fn everyone_covers(&mut self, out: &mut Outcome) -> bool {
        let mut all = true;
        let awards = self.clearing.winners.len() + self.clearing.standby.len();
        for at in 0..awards {
            if at + AHEAD < awards {
                self.expect(self.award(at + AHEAD).order.0);
            }
            let award = self.award(at);
            let index = award.order.0;
            self.accrue(index, out);
            let agent = &self.agents[index as usize];
            let (price, slots) = (agent.standing, agent.slots);
            if price < award.price {
                // It has an award for each slot, and was taken down at an earlier one.
                continue;
            }
            if self.wallet(index) < self.least_cost(index, award.price, slots) {
                all = false;
                self.touch(index, out);
                let agent = &self.agents[index as usize];
                debug_assert!(
                    agent.standing < price || agent.slots < slots,
                    "agent {index} stands for {slots} slots at {price} and cannot cover them at {}",
                    award.price
                );
            }
        }
        all
    }

    /// Asks for an agent's records before they are needed: with many agents, those whose turn comes are never the ones
    /// that are still in the cache.
    pub(super) fn expect(&self, index: u32) {
        prefetch_whole(&self.agents, index as usize);
        self.accounts.expect(index);
        self.wheel.expect(index);
    }

    fn award(&self, at: usize) -> Award {
        let winners = self.clearing.winners.len();
        if at < winners { self.clearing.winners[at] } else { self.clearing.standby[at - winners] }
    }

    /// What must be in the wallet for a lease of so many slots.
    fn least_cost(&self, index: u32, price: Price, slots: u16) -> Joule {
        // Fewer slots before less cover: who wants several covers all of each, and all that it may erase.
        let (time, cover) = match slots {
            0 | 1 => (self.least_case(index), self.least_cover(index)),
            _ => (self.worst_case(index), self.full_cover(index)),
        };
        let cores = Joule(price.cost(time).0.saturating_mul(u64::from(slots)));
        cores.saturating_add(cover).saturating_add(self.agents[index as usize].arrears.total())
    }

    /// What of a lease's worst case is for erased bytes when the wallet has `spare` beside everything else: all that may be
    /// erased, or as much as there is.
    fn cover(&self, index: u32, spare: Joule) -> (Joule, Bytes) {
        let (cover, erasable) = (self.full_cover(index), self.erasable(index));
        if spare >= cover { (cover, erasable) } else { (spare, erasable.min(Bytes(self.tax_rate.affordable(spare)))) }
    }

    fn grant_winners(&mut self, out: &mut Outcome) {
        let equal = self.quality.windows(2).all(|pair| pair[0] == pair[1]);
        let winners = self.clearing.winners.len();
        self.seats.clear();
        self.seats.resize(winners, None);
        // Equal slots: whoever ran on a slot that is free stays on it; cache warmth is energy.
        if equal {
            for (seat, award) in self.seats.iter_mut().zip(&self.clearing.winners) {
                let last = self.agents[award.order.0 as usize].seat.map(|seat| seat.slot);
                if let Some(at) = last.and_then(|slot| self.free.iter().position(|free| *free == slot)) {
                    *seat = Some(self.free.remove(at));
                }
            }
        }
        for at in 0..winners {
            let award = self.clearing.winners[at];
            let slot = self.seats[at].unwrap_or_else(|| self.free.remove(0));
            if self.grant(award, LeaseKind::Slot(slot), out) {
                out.sold += 1;
                self.seat(award, slot, out);
            }
        }
    }

    /// Notes where a winner sits, and since when.
    fn seat(&mut self, award: Award, slot: SlotId, out: &mut Outcome) {
        let agent = &mut self.agents[award.order.0 as usize];
        let since = match agent.seat {
            Some(seat) if seat.last == self.previous || seat.last == self.now => seat.since,
            _ => {
                out.events.push(Event::Thawed { agent: AgentId(u64::from(award.order.0)), price: award.price });
                self.now
            }
        };
        agent.seat = Some(Seat { slot, since, last: self.now });
    }

    fn grant_standbys(&mut self, out: &mut Outcome) {
        if self.clearing.winners.is_empty() || self.policy.standby == 0 {
            return;
        }
        for at in 0..self.clearing.standby.len() {
            self.grant(self.clearing.standby[at], LeaseKind::Standby, out);
        }
    }

    /// Reserves the worst case and makes the lease, or adds a slot to the lease that the agent won in this sale. `false` if
    /// the wallet does not cover it after all.
    fn grant(&mut self, award: Award, kind: LeaseKind, out: &mut Outcome) -> bool {
        let index = award.order.0;
        let overrun = self.overrun(index);
        let (lease, worst_case) = match self.agents[index as usize].life {
            Life::Ready => {
                let wallet = self.wallet(index);
                if wallet < self.least_cost(index, award.price, 1) {
                    return false;
                }
                let lasts = award.price.lasts(wallet.saturating_sub(self.overhead(index)));
                let worst_case = self.worst_case(index).min(lasts);
                let cores = award.price.cost(worst_case).saturating_add(self.agents[index as usize].arrears.total());
                let (cover, erasable) = self.cover(index, wallet.saturating_sub(cores));
                self.leased.push(index);
                let reserved = cores.saturating_add(cover);
                let lease = self.lease(index, award.price, reserved, kind, Account::Wallet(index), out);
                (Lease { erasable, ..lease }, worst_case)
            }
            // Leaseholders of earlier ticks have left the book: this lease was made a moment ago.
            Life::Running(lease) if matches!((lease.kind, kind), (LeaseKind::Slot(_), LeaseKind::Slot(_))) => {
                let worst_case = self.worst_case(index);
                let more = award.price.cost(worst_case);
                if self.post(Account::Wallet(index), Account::Escrow(index), more, Purpose::Reserve, out).is_err() {
                    return false;
                }
                (lease.with_slot(award.price, more), worst_case)
            }
            _ => return false,
        };
        self.agents[index as usize].life = Life::Running(lease);
        let (agent, price, erasable) = (AgentId(u64::from(index)), award.price, lease.erasable);
        let length = worst_case.saturating_sub(overrun);
        out.grants.push(Grant { agent, kind, price, length, worst_case, erasable });
        true
    }

    fn lease(
        &mut self,
        index: u32,
        price: Price,
        reserved: Joule,
        kind: LeaseKind,
        from: Account,
        out: &mut Outcome,
    ) -> Lease {
        self.post(from, Account::Escrow(index), reserved, Purpose::Reserve, out)
            .expect("the source was just seen to hold it, and escrow is empty between leases");
        Lease { price, slots: 1, reserved, tax: self.tax_rate, erasable: Bytes::ZERO, kind }
    }

    /// Notes who lost a slot, and remembers who holds one.
    fn note_frozen(&mut self, out: &mut Outcome) {
        let mut seated = std::mem::take(&mut self.seated);
        for index in seated.drain(..) {
            let agent = &self.agents[index as usize];
            let stays = agent.seat.is_some_and(|seat| seat.last == self.now);
            if !stays && matches!(agent.life, Life::Ready | Life::Running(_)) {
                let reason = self.why_waiting(index);
                out.events.push(Event::Frozen { agent: AgentId(u64::from(index)), reason });
            }
        }
        // Who holds several slots sits on the last of them.
        seated.extend(out.grants.iter().filter_map(|grant| {
            let index = u32::try_from(grant.agent.0).expect("agents are numbered in u32");
            let sits = |slot| self.agents[index as usize].seat.is_some_and(|seat| seat.slot == slot);
            matches!(grant.kind, LeaseKind::Slot(slot) if sits(slot)).then_some(index)
        }));
        self.seated = seated;
    }
}
