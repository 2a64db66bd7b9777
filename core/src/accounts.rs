//! Double-entry accounts of all $JOULE, in integer nanojoules.
//!
//! ```text
//!              mint ──► sponsor ──► wallet ──► escrow ──► grid     (energy, at par, and rent)
//!                └────────────────────┘ ▲         │  └──► cooling  (scarcity premium, tax, resting fees)
//!                                       └─refund──┘
//!                         wallet ──► last words ──► escrow
//! ```
//!
//! A [`Posting`] moves an amount from one account to another; it is refused if the source holds less. Nothing else
//! changes a balance. So `minted − burned = balances + escrow` always, where burned is what reached grid and cooling,
//! balances are wallets and sponsors, and escrow is money reserved for running slots and last words.

use serde::{Deserialize, Serialize};

use crate::prefetch::prefetch;
use crate::units::Joule;

/// An account. Agents and sponsors are named by their dense index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Account {
    /// Where $JOULE comes from. Never runs dry; what left it is the money supply's upper half.
    Mint,
    /// Energy sold at par, and rent. Money that arrives has left circulation.
    Grid,
    /// Scarcity premium, Landauer tax and resting fees. Money that arrives has left circulation.
    Cooling,
    /// A sponsor's remaining bounty budget.
    Sponsor(u16),
    /// An agent's spendable money.
    Wallet(u32),
    /// Money reserved for a slot the agent holds.
    Escrow(u32),
    /// Money put aside at birth for the agent's last words.
    LastWords(u32),
}

/// Why money moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Purpose {
    /// Money entered the market.
    Mint,
    /// Money put aside at birth for last words.
    LastWordsDeposit,
    /// The worst case of a slot, reserved before it runs.
    Reserve,
    /// Core time used, up to par.
    Energy,
    /// Core time used, the part of the price above par.
    Scarcity,
    /// Landauer's tax.
    Tax,
    /// What was reserved and not used.
    Refund,
    /// Rent for memory held.
    Rent,
    /// The fee on a standing order.
    Resting,
    /// A debt: what was used beyond a reservation, or rent that was not paid when it was due.
    Arrears,
    /// A sponsor paid for verified work.
    Bounty,
}

/// One balanced double entry: `amount` leaves `from` and arrives at `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Posting {
    /// The account that is debited.
    pub from: Account,
    /// The account that is credited.
    pub to: Account,
    /// How much.
    pub amount: Joule,
    /// Why.
    pub purpose: Purpose,
}

/// The source of a posting holds less than its amount; nothing was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{account:?} holds {held}, {wanted} were asked of it")]
pub struct InsufficientFunds {
    /// The account that would have gone below zero.
    pub account: Account,
    /// What it holds.
    pub held: Joule,
    /// What was asked.
    pub wanted: Joule,
}

/// The money supply at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneySupply {
    /// All that ever left the mint.
    pub minted: u128,
    /// All that ever reached grid and cooling.
    pub burned: u128,
    /// Wallets and sponsors.
    pub balances: u128,
    /// Reserved for slots and last words.
    pub escrow: u128,
}

impl MoneySupply {
    /// `minted − burned − balances − escrow`: zero, or a bug.
    #[must_use]
    pub fn error(&self) -> i128 {
        let signed = |v: u128| i128::try_from(v).expect("the money supply is far below 2^127 nJ");
        signed(self.minted) - signed(self.burned) - signed(self.balances) - signed(self.escrow)
    }
}

/// The accounts of one agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Purse {
    wallet: Joule,
    escrow: Joule,
    last_words: Joule,
}

/// Every account of a market.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Accounts {
    purses: Vec<Purse>,
    sponsors: Vec<Joule>,
    minted: u128,
    grid: u128,
    cooling: u128,
    /// Running totals of the two classes, checked against the accounts themselves by `audit`.
    balances: u128,
    escrow: u128,
}

impl Accounts {
    /// Opens the accounts of agents up to `index`.
    pub fn open_agent(&mut self, index: u32) {
        if self.purses.len() <= index as usize {
            self.purses.resize(index as usize + 1, Purse::default());
        }
    }

    /// Opens the accounts of sponsors up to `index`.
    pub fn open_sponsor(&mut self, index: u16) {
        if self.sponsors.len() <= usize::from(index) {
            self.sponsors.resize(usize::from(index) + 1, Joule::ZERO);
        }
    }

    /// What an account holds. For the mint, grid and cooling: what ever passed, saturating at [`Joule::MAX`].
    #[must_use]
    pub fn balance(&self, account: Account) -> Joule {
        let total = |v: u128| Joule(u64::try_from(v).unwrap_or(u64::MAX));
        let purse = |index: u32| self.purses.get(index as usize).copied().unwrap_or_default();
        match account {
            Account::Mint => total(self.minted),
            Account::Grid => total(self.grid),
            Account::Cooling => total(self.cooling),
            Account::Sponsor(index) => self.sponsors.get(usize::from(index)).copied().unwrap_or_default(),
            Account::Wallet(index) => purse(index).wallet,
            Account::Escrow(index) => purse(index).escrow,
            Account::LastWords(index) => purse(index).last_words,
        }
    }

    /// Moves money.
    ///
    /// # Errors
    ///
    /// [`InsufficientFunds`] if the source holds less than the amount, or the destination could not hold it; nothing is
    /// moved then.
    pub fn post(&mut self, posting: Posting) -> Result<(), InsufficientFunds> {
        let Posting { from, to, amount, .. } = posting;
        let held = self.balance(from);
        let enough = from == Account::Mint || held >= amount;
        let fits = match to {
            Account::Mint => false,
            Account::Grid | Account::Cooling => true,
            _ => self.balance(to).0.checked_add(amount.0).is_some(),
        };
        if !enough || !fits || matches!(from, Account::Grid | Account::Cooling) {
            return Err(InsufficientFunds { account: from, held, wanted: amount });
        }
        match from {
            Account::Mint => self.minted += u128::from(amount.0),
            _ => *self.holding(from) = Joule(held.0 - amount.0),
        }
        match to {
            Account::Grid => self.grid += u128::from(amount.0),
            Account::Cooling => self.cooling += u128::from(amount.0),
            _ => {
                let holding = self.holding(to);
                holding.0 += amount.0;
            }
        }
        if let Some(class) = self.class(from) {
            *class -= u128::from(amount.0);
        }
        if let Some(class) = self.class(to) {
            *class += u128::from(amount.0);
        }
        Ok(())
    }

    /// Asks for an agent's accounts before they are needed.
    pub(crate) fn expect(&self, index: u32) {
        prefetch(&self.purses, index as usize);
    }

    /// The money supply from the running totals. O(1).
    #[must_use]
    pub fn supply(&self) -> MoneySupply {
        MoneySupply {
            minted: self.minted,
            burned: self.grid + self.cooling,
            balances: self.balances,
            escrow: self.escrow,
        }
    }

    /// The money supply counted account by account. O(accounts).
    #[must_use]
    pub fn audit(&self) -> MoneySupply {
        let sum = |amounts: &mut dyn Iterator<Item = Joule>| amounts.map(|j| u128::from(j.0)).sum::<u128>();
        MoneySupply {
            minted: self.minted,
            burned: self.grid + self.cooling,
            balances: sum(&mut self.purses.iter().map(|p| p.wallet)) + sum(&mut self.sponsors.iter().copied()),
            escrow: sum(&mut self.purses.iter().flat_map(|p| [p.escrow, p.last_words])),
        }
    }

    fn holding(&mut self, account: Account) -> &mut Joule {
        match account {
            Account::Sponsor(index) => &mut self.sponsors[usize::from(index)],
            Account::Wallet(index) => &mut self.purses[index as usize].wallet,
            Account::Escrow(index) => &mut self.purses[index as usize].escrow,
            Account::LastWords(index) => &mut self.purses[index as usize].last_words,
            Account::Mint | Account::Grid | Account::Cooling => unreachable!("kept as totals, never as a holding"),
        }
    }

    fn class(&mut self, account: Account) -> Option<&mut u128> {
        match account {
            Account::Mint | Account::Grid | Account::Cooling => None,
            Account::Sponsor(_) | Account::Wallet(_) => Some(&mut self.balances),
            Account::Escrow(_) | Account::LastWords(_) => Some(&mut self.escrow),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posting(from: Account, to: Account, amount: u64) -> Posting {
        Posting { from, to, amount: Joule(amount), purpose: Purpose::Reserve }
    }

    fn accounts() -> Accounts {
        let mut accounts = Accounts::default();
        accounts.open_agent(1);
        accounts.open_sponsor(0);
        accounts
    }

    #[test]
    fn money_moves_and_is_conserved() {
        let mut accounts = accounts();
        accounts.post(posting(Account::Mint, Account::Wallet(0), 100)).unwrap();
        accounts.post(posting(Account::Wallet(0), Account::Escrow(0), 60)).unwrap();
        accounts.post(posting(Account::Escrow(0), Account::Grid, 25)).unwrap();
        accounts.post(posting(Account::Escrow(0), Account::Wallet(0), 35)).unwrap();
        assert_eq!(accounts.balance(Account::Wallet(0)), Joule(75));
        let supply = accounts.audit();
        assert_eq!(supply, accounts.supply());
        assert_eq!((supply.minted, supply.burned, supply.balances, supply.escrow), (100, 25, 75, 0));
        assert_eq!(supply.error(), 0);
    }

    #[test]
    fn an_overdraft_is_refused_and_moves_nothing() {
        let mut accounts = accounts();
        accounts.post(posting(Account::Mint, Account::Wallet(0), 10)).unwrap();
        let refused = accounts.post(posting(Account::Wallet(0), Account::Wallet(1), 11)).unwrap_err();
        assert_eq!(refused, InsufficientFunds { account: Account::Wallet(0), held: Joule(10), wanted: Joule(11) });
        assert_eq!(accounts.balance(Account::Wallet(0)), Joule(10));
    }

    #[test]
    fn burned_money_never_comes_back_and_nothing_overflows() {
        let mut accounts = accounts();
        accounts.post(posting(Account::Mint, Account::Wallet(0), u64::MAX)).unwrap();
        assert!(accounts.post(posting(Account::Mint, Account::Wallet(0), 1)).is_err());
        accounts.post(posting(Account::Wallet(0), Account::Grid, 5)).unwrap();
        assert!(accounts.post(posting(Account::Grid, Account::Wallet(0), 5)).is_err());
        assert!(accounts.post(posting(Account::Wallet(0), Account::Mint, 5)).is_err());
        assert_eq!(accounts.audit().error(), 0);
    }
}
