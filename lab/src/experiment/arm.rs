//! The arms: the ways to divide a machine that are put side by side.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A way to divide the machine. All arms run the same agents on the same machine, each agent in a group of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// Fair share between the agents' groups: the kernel as it is. The baseline.
    Linux,
    /// Somebody knows the leeches and gave them nice 19.
    Nice,
    /// Somebody knows the leeches and set the weight of their groups as low as it goes.
    Weight,
    /// Fair share; whoever has used its budget of core time is killed. No market, no income.
    Killer,
    /// Fair share at par; verified work earns what it earns under Maxwell; an empty wallet is killed. Maxwell without the
    /// auction: what this arm reaches, the auction cannot claim.
    KillerPaid,
    /// Karma's credits (Vuppalapati et al., OSDI 2023).
    Karma,
    /// The energy auction.
    Maxwell,
    /// The leeches never run.
    Oracle,
}

impl Arm {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 8] = [
        Self::Linux,
        Self::Nice,
        Self::Weight,
        Self::Killer,
        Self::KillerPaid,
        Self::Karma,
        Self::Maxwell,
        Self::Oracle,
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Nice => "nice",
            Self::Weight => "weight",
            Self::Killer => "killer",
            Self::KillerPaid => "killer-paid",
            Self::Karma => "karma",
            Self::Maxwell => "maxwell",
            Self::Oracle => "oracle",
        }
    }

    /// Whether it is told who the leeches are: an upper bound, not a rival.
    #[must_use]
    pub const fn knows_the_leeches(self) -> bool {
        matches!(self, Self::Nice | Self::Weight | Self::Oracle)
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is no {what}; there are {known}")]
pub struct UnknownWord {
    /// What was given.
    pub(super) word: String,
    /// What it should name.
    pub(super) what: &'static str,
    /// What there is.
    pub(super) known: String,
}

impl FromStr for Arm {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|arm| arm.name() == word).ok_or_else(|| UnknownWord {
            word: word.chars().take(40).collect(),
            what: "arm",
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}
