//! What sponsors offer, and what agents say, as cells of every kind see it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use maxwell_core::bounty::{ClaimFault, SponsorId, Verifier};
use maxwell_core::market::Claim;
use maxwell_core::{AgentId, Joule};

/// The longest line of a log, in bytes.
pub(crate) const LOG_LINE: usize = 256;
/// How many lines an agent may say in a slot.
pub(crate) const LOG_LINES_PER_SLOT: usize = 8;

/// A sponsor's offer, as agents see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Who pays.
    pub sponsor: SponsorId,
    /// For what.
    pub verifier: Verifier,
    /// How much for a unit.
    pub reward: Joule,
    /// Whether the sponsor can pay a whole reward.
    pub funded: bool,
}

/// All offers of a machine; one list, shared by its cells.
#[derive(Debug, Default)]
pub struct Offers(RwLock<Vec<(Offer, AtomicBool)>>);

impl Offers {
    /// Tells agents about a sponsor.
    pub fn add(&self, offer: Offer) {
        let mut offers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        offers.push((offer, AtomicBool::new(offer.funded)));
    }

    /// Tells agents whether a sponsor can still pay. Never waits, unless for [`add`](Self::add).
    pub fn set_funded(&self, sponsor: SponsorId, funded: bool) {
        let offers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, flag)) = offers.iter().find(|(offer, _)| offer.sponsor == sponsor) {
            flag.store(funded, Ordering::Relaxed);
        }
    }

    /// The first `most` offers.
    #[must_use]
    pub fn first(&self, most: usize) -> Vec<Offer> {
        let offers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        offers.iter().take(most).map(shown).collect()
    }

    /// A sponsor's offer.
    pub(crate) fn of(&self, sponsor: SponsorId) -> Option<Offer> {
        let offers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        offers.iter().map(shown).find(|offer| offer.sponsor == sponsor)
    }

    /// The offer for work of a kind: of a sponsor that can pay, if there is one.
    pub(crate) fn for_kind(&self, kind: u32) -> Option<Offer> {
        let offers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let of_kind = || offers.iter().map(shown).filter(|offer| offer.verifier.kind() == kind);
        of_kind().find(|offer| offer.funded).or_else(|| of_kind().next())
    }
}

fn shown((offer, funded): &(Offer, AtomicBool)) -> Offer {
    Offer { funded: funded.load(Ordering::Relaxed), ..*offer }
}

impl Offer {
    /// An agent's claim on it, verified; `work` is `None` where the agent named bytes that it does not have.
    pub(crate) fn claim(&self, agent: AgentId, work: Option<&[u8]>) -> Claim {
        let verdict = work.map_or(Err(ClaimFault::Malformed), |work| self.verifier.verify(work));
        Claim { agent, sponsor: self.sponsor, verdict }
    }
}

/// Bytes as one printable line of at most [`LOG_LINE`] bytes: control characters, escape sequences among them, become `·`.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let cut = text.floor_char_boundary(LOG_LINE);
    text[..cut].trim_end().chars().map(|c| if c.is_control() { '·' } else { c }).collect()
}
