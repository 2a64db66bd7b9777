//! What sponsors offer, as agents of every kind see it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use maxwell_core::bounty::{ClaimFault, SponsorId, Verifier};
use maxwell_core::market::Claim;
use maxwell_core::{AgentId, Joule};

/// A sponsor's offer.
#[derive(Debug)]
struct Offer {
    sponsor: SponsorId,
    verifier: Verifier,
    reward: Joule,
    funded: AtomicBool,
}

/// All offers of a machine; one list, shared by its cells.
#[derive(Debug, Default)]
pub struct Offers(RwLock<Vec<Offer>>);

impl Offers {
    /// Tells agents about a sponsor.
    pub fn add(&self, sponsor: SponsorId, verifier: Verifier, reward: Joule) {
        let mut offers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        offers.push(Offer { sponsor, verifier, reward, funded: AtomicBool::new(true) });
    }

    /// Tells agents whether a sponsor can still pay.
    pub fn set_funded(&self, sponsor: SponsorId, funded: bool) {
        let offers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(offer) = offers.iter().find(|offer| offer.sponsor == sponsor) {
            offer.funded.store(funded, Ordering::Relaxed);
        }
    }

    /// Claims a bounty for work of a kind; `work` is `None` where the agent named bytes that it does not have. The claim for
    /// the market, and the reward that it will pay unless somebody was paid for this unit before. `None` if nobody sponsors
    /// work of that kind.
    pub(crate) fn claim(
        &self,
        agent: AgentId,
        kind: u32,
        work: Option<&[u8]>,
    ) -> Option<(Claim, Result<Joule, ClaimFault>)> {
        let offers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let of_kind = |offer: &&Offer| offer.verifier.kind() == kind;
        let funded = offers.iter().find(|offer| of_kind(offer) && offer.funded.load(Ordering::Relaxed));
        let offer = funded.or_else(|| offers.iter().find(of_kind))?;
        let verdict = work.map_or(Err(ClaimFault::Malformed), |work| offer.verifier.verify(work));
        let claim = Claim { agent, sponsor: offer.sponsor, verdict };
        Some((claim, verdict.map(|_| offer.reward)))
    }
}
