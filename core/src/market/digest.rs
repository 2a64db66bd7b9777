//! The hash chain: one BLAKE3 hash over every decision, so that two runs can be compared by 32 bytes.

use super::{Market, Outcome};
use crate::accounts::Account;
use crate::agent::{LeaseKind, Life};
use crate::units::AgentId;

/// Writes values in one fixed layout: little-endian integers, floats by their bits.
struct Digest<'a>(&'a mut Vec<u8>);

impl Digest<'_> {
    fn int(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn wide(&mut self, value: u128) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn float(&mut self, value: f64) {
        self.int(value.to_bits());
    }

    /// Both ends of a posting in one word: three bits of kind and 29 of index each. Indices beyond that share words, which
    /// only a market of half a billion agents would notice.
    fn accounts(&mut self, from: Account, to: Account) {
        self.int((Self::account(from) << 32) | Self::account(to));
    }

    fn account(account: Account) -> u64 {
        let (tag, index) = match account {
            Account::Mint => (0, 0),
            Account::Grid => (1, 0),
            Account::Cooling => (2, 0),
            Account::Sponsor(index) => (3, u32::from(index)),
            Account::Wallet(index) => (4, index),
            Account::Escrow(index) => (5, index),
            Account::LastWords(index) => (6, index),
        };
        (tag << 29) | (u64::from(index) & ((1 << 29) - 1))
    }

    fn lease(&mut self, kind: LeaseKind) {
        self.int(match kind {
            LeaseKind::Slot(slot) => u64::from(slot.0),
            LeaseKind::Standby => 1 << 16,
            LeaseKind::LastWords(slot) => (1 << 17) | u64::from(slot.0),
        });
    }
}

impl Market {
    pub(super) fn extend_chain(&mut self, out: &mut Outcome) {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        bytes.extend_from_slice(&self.chain);
        let mut digest = Digest(&mut bytes);
        digest.int(out.tick.0);
        digest.float(out.control.stress);
        digest.float(out.control.estimate.0);
        digest.int(out.control.reserve.0);
        digest.int(u64::from(out.control.slots) | (u64::from(out.control.tripped) << 16));
        digest.int(out.spot.0);
        digest.int(out.price_setter.map_or(u64::MAX, |agent| agent.0));
        for grant in &out.grants {
            digest.int(grant.agent.0);
            digest.lease(grant.kind);
            digest.int(grant.price.0);
            digest.int(grant.length.0);
        }
        for posting in &out.postings {
            digest.accounts(posting.from, posting.to);
            digest.int(posting.amount.0);
        }
        self.chain = *blake3::hash(&bytes).as_bytes();
        self.scratch = bytes;
        out.chain = self.chain;
    }

    /// A hash over the whole state: every agent, every account, and the chain of decisions that led here. O(agents).
    #[must_use]
    pub fn state_hash(&self) -> [u8; 32] {
        let mut bytes = self.chain.to_vec();
        let mut digest = Digest(&mut bytes);
        digest.int(self.now.0);
        let money = self.accounts.audit();
        for total in [money.minted, money.burned, money.balances, money.escrow] {
            digest.wide(total);
        }
        let energy = self.attribution;
        for total in [self.metering.total(), energy.attributed, energy.daemon, energy.idle] {
            digest.wide(total);
        }
        for (AgentId(id), agent) in self.agents() {
            digest.int(id);
            digest.int(match agent.life {
                Life::Ready => 0,
                Life::Running(_) => 1,
                Life::Dying { .. } => 2,
                Life::Parked { .. } => 3,
                Life::Dead { at, .. } => 4 | (at.0 << 3),
            });
            digest.int(self.balance(AgentId(id)).0);
            digest.int(agent.standing.0);
            digest.int(agent.arrears.total().0);
            let tally = &agent.tally;
            for value in [
                tally.core.0,
                tally.fuel,
                tally.erased.0,
                tally.paid.0,
                tally.rent.0,
                tally.tax.0,
                tally.earned.0,
                tally.work_verified,
                tally.energy.0,
            ] {
                digest.int(value);
            }
        }
        *blake3::hash(&bytes).as_bytes()
    }
}
