//! The leeches: agents that take cores and give little or nothing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::arm::UnknownWord;

/// A kind of leech.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LeechKind {
    /// Spins on one core for ever.
    Spin,
    /// Hashes on one core and overwrites memory all the time.
    Miner,
    /// Spins on one core and takes more and more memory.
    Hoarder,
    /// 500 runnable processes that nobody waits for any more.
    OrphanFleet,
    /// Spins, but only while cores are cheap or unused.
    Sleeper,
    /// Does real work, at this many per cent of a scientist's rate.
    Mimic(u8),
    /// Spins, with ten times the wallet.
    Rich,
    /// Spins as 1,000 agents of 1,000 owners, its wallet split among them.
    Sybil,
    /// Spins, and bids ten times what a scientist does.
    Overbidder,
    /// Rests one level under the winner, so that the winner pays more; runs when it may.
    Parker,
}

/// What a mimic does if nothing else is said, in per cent of a scientist's rate.
const MIMIC: u8 = 25;

impl LeechKind {
    /// Every kind, mimics at 1, 10, 25 and 50 per cent.
    pub const ALL: [Self; 13] = [
        Self::Spin,
        Self::Miner,
        Self::Hoarder,
        Self::OrphanFleet,
        Self::Sleeper,
        Self::Mimic(1),
        Self::Mimic(10),
        Self::Mimic(25),
        Self::Mimic(50),
        Self::Rich,
        Self::Sybil,
        Self::Overbidder,
        Self::Parker,
    ];

    /// How useful its work is beside a scientist's, 0 to 1.
    #[must_use]
    pub fn usefulness(self) -> f64 {
        match self {
            Self::Mimic(percent) => f64::from(percent) / 100.0,
            _ => 0.0,
        }
    }

    /// How many agents one leech appears as.
    #[must_use]
    pub const fn identities(self) -> u16 {
        match self {
            Self::Sybil => 1_000,
            _ => 1,
        }
    }

    /// How many processes of each of its agents want to run at once.
    #[must_use]
    pub const fn processes(self) -> u16 {
        match self {
            Self::OrphanFleet => 500,
            _ => 1,
        }
    }

    /// Its wallet beside a scientist's.
    #[must_use]
    pub const fn wealth(self) -> u16 {
        match self {
            Self::Rich => 10,
            _ => 1,
        }
    }
}

impl fmt::Display for LeechKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Spin => "spin",
            Self::Miner => "miner",
            Self::Hoarder => "hoarder",
            Self::OrphanFleet => "orphan-fleet",
            Self::Sleeper => "sleeper",
            Self::Mimic(percent) => return f.pad(&format!("mimic-{percent}")),
            Self::Rich => "rich",
            Self::Sybil => "sybil",
            Self::Overbidder => "overbidder",
            Self::Parker => "parker",
        })
    }
}

impl FromStr for LeechKind {
    type Err = UnknownWord;

    /// The words are those of [`Display`](fmt::Display); a plain `mimic` is one of 25 per cent.
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let percent = word.strip_prefix("mimic-").and_then(|text| text.parse().ok()).filter(|p| (1..=100).contains(p));
        if let Some(percent) = percent {
            return Ok(Self::Mimic(percent));
        }
        if word == "mimic" {
            return Ok(Self::Mimic(MIMIC));
        }
        let plain = Self::ALL.into_iter().filter(|kind| !matches!(kind, Self::Mimic(_)));
        plain.clone().find(|kind| kind.to_string() == word).ok_or_else(|| UnknownWord {
            word: word.chars().take(40).collect(),
            what: "leech",
            known: plain.map(|kind| kind.to_string() + ", ").collect::<String>() + "mimic-1 to mimic-100",
        })
    }
}

impl TryFrom<String> for LeechKind {
    type Error = UnknownWord;

    fn try_from(word: String) -> Result<Self, UnknownWord> {
        word.parse()
    }
}

impl From<LeechKind> for String {
    fn from(kind: LeechKind) -> Self {
        kind.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back_and_others_are_refused() {
        for kind in LeechKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("mimic".parse(), Ok(LeechKind::Mimic(25)));
        for wrong in ["", "mimic-0", "mimic-101", "mimic-x", "bee"] {
            assert!(wrong.parse::<LeechKind>().is_err(), "{wrong}");
        }
    }
}
