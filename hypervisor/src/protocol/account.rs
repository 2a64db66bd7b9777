//! What agents outside our address space share with the market thread.
//!
//! ```text
//!   market thread                                    broker thread
//!   each tick:  Board::publish(notice)        ─────► price
//!   each slot:  Account::publish(balance, …)  ─────► balance, status
//!   slot's end: Account::drain(&mut wishes)   ◄───── bid, submit, log; core time of serving them
//!   each tick:  Account::take_claims(&mut …)  ◄───── what was submitted too late for the slot's end
//! ```
//!
//! **The market never waits here.** It only tries the locks; should the broker hold one (for some hundred nanoseconds,
//! or as long as it is descheduled meanwhile) the market comes again in the next tick. Claims are verified outside of
//! the lock.
//!
//! A WebAssembly agent pays for the time of its host calls because they run in its slot. Here they run on the broker's
//! thread, so the broker measures what each agent costs it, and [`Wishes::service_ns`] is to be added to the agent's
//! core time.

use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use maxwell_core::bounty::ClaimFault;
use maxwell_core::market::Claim;
use maxwell_core::reason::Reason;
use maxwell_core::{AgentId, Joule, Price};

use super::connection::Departure;
use super::fault::{Code, Fault};
use crate::offers::{LOG_LINES_PER_SLOT, Offer, Offers, printable};
use crate::{Quote, lock};

/// How many claims an agent may make in a slot. A quarter of what WebAssembly agents may: one thread verifies the claims
/// of all agents, and the slowest, a 64-bit prime, takes it some ten microseconds (docs/agent-protocol.md).
pub const CLAIMS_PER_SLOT: u32 = 64;
/// How many sponsors agents are shown: an answer must stay far below the bound of a session's output.
pub const SPONSORS_MAX: usize = 64;

/// What agents may know about the market in a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// Tick, price and time.
    pub quote: Quote,
    /// The lowest price at which anything is sold, if it is told.
    pub reserve: Option<Price>,
}

/// What all agents see.
#[derive(Debug, Default)]
pub struct Board {
    notice: Mutex<Notice>,
    offers: Arc<Offers>,
    claimants: Mutex<Vec<AgentId>>,
}

impl Board {
    /// A board that shows these offers.
    #[must_use]
    pub fn new(offers: Arc<Offers>) -> Self {
        Self { offers, ..Self::default() }
    }

    /// Shows the tick's price. False if the broker was reading just now: agents see the last tick's for another tick.
    pub fn publish(&self, notice: Notice) -> bool {
        let Some(mut shown) = try_lock(&self.notice) else { return false };
        *shown = notice;
        true
    }

    /// The newest notice.
    #[must_use]
    pub fn notice(&self) -> Notice {
        *lock(&self.notice)
    }

    /// What sponsors offer.
    #[must_use]
    pub fn offers(&self) -> &Offers {
        &self.offers
    }

    /// Notes that an agent's claim was verified. Its slot may be over, and, if it is broke, no other may follow.
    pub(super) fn note_claim(&self, agent: AgentId) {
        let mut claimants = lock(&self.claimants);
        if claimants.last() != Some(&agent) {
            claimants.push(agent);
        }
    }

    /// Adds those whose claims were verified since the last call, for [`Account::take_claims`]; at most as many as there are
    /// claims. False if the broker was at it just now: come again next tick.
    pub fn take_claimants(&self, to: &mut Vec<AgentId>) -> bool {
        let Some(mut claimants) = try_lock(&self.claimants) else { return false };
        to.append(&mut claimants);
        true
    }
}

/// Where an agent is, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its state, as [`maxwell_core::agent::Agent::state`] names it.
    pub state: &'static str,
    /// Why it is there.
    pub reason: Reason,
    /// Its order: the most it will pay for a core-second.
    pub limit: Price,
    /// What it can spend.
    pub balance: Joule,
}

impl Default for Standing {
    fn default() -> Self {
        Self { state: "waiting", reason: Reason::NoOrder, limit: Price::ZERO, balance: Joule::ZERO }
    }
}

/// What became of an agent's connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// It never had one, or not yet.
    #[default]
    None,
    /// It is connected.
    Open,
    /// It is not any more.
    Closed(Departure),
}

/// What an agent asked for since it was last drained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The new limit of its standing order: the last one it named.
    pub bid: Option<Price>,
    /// Its claims, verified.
    pub claims: Vec<Claim>,
    /// What it said, each one printable line.
    pub said: Vec<String>,
    /// How many lines beyond its allowance.
    pub unsaid: u32,
    /// Core time that the broker used for it, in nanoseconds.
    pub service_ns: u64,
    claims_tried: u32,
}

impl Wishes {
    fn clear(&mut self) {
        let Self { bid, claims, said, unsaid, service_ns, claims_tried } = self;
        (*bid, *unsaid, *service_ns, *claims_tried) = (None, 0, 0, 0);
        claims.clear();
        said.clear();
    }
}

#[derive(Debug, Default)]
struct State {
    standing: Standing,
    wishes: Wishes,
    link: Link,
}

/// What one agent shares with the market thread.
#[derive(Debug)]
pub struct Account {
    agent: AgentId,
    state: Mutex<State>,
}

impl Account {
    /// An account of which nothing is known yet.
    #[must_use]
    pub fn new(agent: AgentId) -> Self {
        Self { agent, state: Mutex::new(State::default()) }
    }

    /// Whose it is.
    #[must_use]
    pub fn agent(&self) -> AgentId {
        self.agent
    }

    /// Shows the agent where it stands. False if the broker was at it just now: come again next tick.
    pub fn publish(&self, standing: Standing) -> bool {
        let Some(mut state) = try_lock(&self.state) else { return false };
        state.standing = standing;
        true
    }

    /// Takes what the agent asked for, and begins its next allowance. `wishes` is emptied first, and its memory used
    /// again: nothing is allocated. False if the broker was at it just now: come again next tick.
    pub fn drain(&self, wishes: &mut Wishes) -> bool {
        wishes.clear();
        let Some(mut state) = try_lock(&self.state) else { return false };
        std::mem::swap(&mut state.wishes, wishes);
        true
    }

    /// Takes its claims alone, between slots: what was verified after its slot's end is paid whether it ever holds another or not.
    /// False if the broker was at it just now: come again next tick.
    pub fn take_claims(&self, to: &mut Vec<Claim>) -> bool {
        let Some(mut state) = try_lock(&self.state) else { return false };
        to.append(&mut state.wishes.claims);
        true
    }

    /// What became of the agent's connection.
    #[must_use]
    pub fn link(&self) -> Link {
        lock(&self.state).link
    }

    pub(super) fn set_link(&self, link: Link) {
        lock(&self.state).link = link;
    }

    pub(crate) fn standing(&self) -> Standing {
        lock(&self.state).standing
    }

    pub(super) fn bid(&self, limit: Price) {
        lock(&self.state).wishes.bid = Some(limit);
    }

    pub(super) fn charge(&self, ns: u64) {
        let mut state = lock(&self.state);
        state.wishes.service_ns = state.wishes.service_ns.saturating_add(ns);
    }

    /// Takes a line for the log and says how many more there may be; beyond its allowance lines are only counted.
    pub(super) fn say(&self, text: &str) -> Result<usize, Fault> {
        let line = printable(text.as_bytes());
        let wishes = &mut lock(&self.state).wishes;
        if wishes.said.len() >= LOG_LINES_PER_SLOT {
            wishes.unsaid = wishes.unsaid.saturating_add(1);
            let text = format!("{LOG_LINES_PER_SLOT} lines were said in this slot; the line was not taken");
            return Err(Fault::ours(Code::TooMany, "too_many_lines", text));
        }
        wishes.said.push(line);
        Ok(LOG_LINES_PER_SLOT - wishes.said.len())
    }

    /// Verifies a claim and puts it aside for the market; a bad one too, it is counted there.
    pub(super) fn claim(&self, offer: &Offer, unit: u64) -> Result<(), Fault> {
        {
            let wishes = &mut lock(&self.state).wishes;
            if wishes.claims_tried >= CLAIMS_PER_SLOT {
                let text = format!("{CLAIMS_PER_SLOT} claims were made in this slot; submit it again in the next");
                return Err(Fault::ours(Code::TooMany, "too_many_claims", text));
            }
            wishes.claims_tried += 1;
        }
        let claim = offer.claim(self.agent, Some(&unit.to_le_bytes()));
        lock(&self.state).wishes.claims.push(claim);
        match claim.verdict {
            Ok(_) => Ok(()),
            Err(fault) => {
                let reason = if fault == ClaimFault::Wrong { "wrong" } else { "malformed" };
                Err(Fault::ours(Code::Rejected, reason, format!("sponsor {}: {fault}", offer.sponsor.0)))
            }
        }
    }
}

fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maxwell_core::Joule;
    use maxwell_core::bounty::{SponsorId, Verifier};

    const PRIMES: Offer =
        Offer { sponsor: SponsorId(3), verifier: Verifier::Prime { least: 2 }, reward: Joule(5), funded: true };

    #[test]
    fn lines_are_bounded_in_number_and_length_and_are_printable() {
        let (account, mut wishes) = (Account::new(AgentId(1)), Wishes::default());
        assert_eq!(account.say("one\u{1b}[2J\ntwo \n"), Ok(7));
        assert_eq!(account.say(&"ä".repeat(10_000)), Ok(6));
        for left in (0..6).rev() {
            assert_eq!(account.say("more"), Ok(left));
        }
        assert_eq!(account.say("too much").unwrap_err().reason, "too_many_lines");
        assert!(account.drain(&mut wishes));
        assert_eq!((wishes.said[0].as_str(), wishes.said[1].as_str()), ("one·[2J·two", &*"ä".repeat(128)));
        assert_eq!((wishes.said.len(), wishes.unsaid), (8, 1));
        assert!(account.drain(&mut wishes));
        assert_eq!(wishes, Wishes::default(), "everything is taken once");
        assert_eq!(account.say("again"), Ok(7), "a new slot, a new allowance");
    }

    #[test]
    fn claims_are_bounded_in_a_slot_and_bad_ones_count() {
        let (account, mut wishes) = (Account::new(AgentId(1)), Wishes::default());
        for unit in 0..u64::from(CLAIMS_PER_SLOT) {
            let claimed = account.claim(&PRIMES, unit);
            assert_eq!(claimed.is_ok(), maxwell_core::bounty::is_prime(unit), "{unit}");
        }
        assert_eq!(account.claim(&PRIMES, 67).unwrap_err().reason, "too_many_claims");
        assert!(account.drain(&mut wishes));
        assert_eq!(wishes.claims.len(), CLAIMS_PER_SLOT as usize);
        assert_eq!(wishes.claims[7], Claim { agent: AgentId(1), sponsor: SponsorId(3), verdict: Ok(7) });
        assert_eq!(wishes.claims[8].verdict, Err(ClaimFault::Wrong));
        assert_eq!(account.claim(&PRIMES, 67), Ok(()));
    }

    #[test]
    fn a_claim_that_comes_after_the_slot_is_taken_by_itself_and_once() {
        let (account, board, mut claims) = (Account::new(AgentId(1)), Board::default(), Vec::new());
        assert!(account.drain(&mut Wishes::default()), "its slot is over");
        account.claim(&PRIMES, 67).unwrap();
        board.note_claim(AgentId(1));
        let mut claimants = Vec::new();
        {
            let _held = (lock(&account.state), lock(&board.claimants));
            assert!(!account.take_claims(&mut claims) && !board.take_claimants(&mut claimants));
        }
        assert!(board.take_claimants(&mut claimants) && account.take_claims(&mut claims));
        assert_eq!((claimants.as_slice(), claims.len()), (&[AgentId(1)][..], 1));
        account.say("and on").unwrap();
        assert!(board.take_claimants(&mut claimants) && account.take_claims(&mut claims));
        assert_eq!((claimants.len(), claims.len()), (1, 1));
        let mut wishes = Wishes::default();
        assert!(account.drain(&mut wishes));
        assert_eq!((wishes.claims.len(), wishes.said.len()), (0, 1), "the rest waits for its next slot");
        // The allowance is for a slot, however often claims are taken.
        for _ in 0..CLAIMS_PER_SLOT {
            account.claim(&PRIMES, 67).unwrap();
            account.take_claims(&mut claims);
        }
        assert_eq!(account.claim(&PRIMES, 67).unwrap_err().reason, "too_many_claims");
    }

    #[test]
    fn the_market_never_waits_for_the_broker() {
        let (account, board, mut wishes) = (Account::new(AgentId(1)), Board::default(), Wishes::default());
        account.bid(Price(5));
        {
            let _held = (lock(&account.state), lock(&board.notice));
            assert!(!account.drain(&mut wishes) && !account.publish(Standing::default()));
            assert!(!board.publish(Notice::default()));
        }
        assert!(account.drain(&mut wishes));
        assert_eq!(wishes.bid, Some(Price(5)), "nothing was lost");
    }
}
