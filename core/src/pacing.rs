//! Pacing: making a budget last.
//!
//! A paced agent states its value and how long its money must last; the market bids `value × λ` for it, with
//! `λ ∈ (0, 1]` adapted so that spending follows `balance / time left`. This is the adaptive pacing of Balseiro & Gur
//! ("Learning in repeated auctions with budgets", *Management Science* 65(9), 2019) with a multiplicative step and λ in
//! fixed point, so that it is deterministic and λ never reaches zero.
//!
//! λ is only looked at when the agent is touched: after a slot it paid for, or when its alarm rings. While an agent
//! waits its alarm comes at doubling intervals, so a market full of waiting paced agents costs little.

use serde::{Deserialize, Serialize};

use crate::units::{Joule, Price, Tick};

/// How the market bids for an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pacing {
    /// Bids the limit, always.
    #[default]
    Fixed,
    /// Scales the limit so that the wallet lasts until `until`.
    Paced {
        /// When the money may run out.
        until: Tick,
        /// The pacing multiplier in units of 2⁻¹⁶.
        lambda: u32,
    },
}

/// λ = 1.
const ONE: u32 = 1 << 16;
/// The smallest λ, 2⁻¹⁰: three orders of magnitude below the stated value.
const LEAST: u32 = 1 << 6;
/// λ moves by 1/64 of itself for each tick's allowance saved or overspent, at most to half or double in one update.
const STEP_SHIFT: u32 = 6;

impl Pacing {
    /// Pacing that starts at the stated value and must last until `until`.
    #[must_use]
    pub const fn until(until: Tick) -> Self {
        Self::Paced { until, lambda: ONE }
    }

    /// What the market bids for an agent whose stated limit is `limit`.
    #[must_use]
    pub fn bid(&self, limit: Price) -> Price {
        match self {
            Self::Fixed => limit,
            Self::Paced { lambda, .. } => {
                Price(u64::try_from((u128::from(limit.0) * u128::from(*lambda)) >> 16).expect("lambda is at most one"))
            }
        }
    }

    /// The agent spent `spent` over the last `ticks` ticks and has `balance` left at `now`: adapt λ.
    pub fn adapt(&mut self, now: Tick, ticks: u64, spent: Joule, balance: Joule) {
        let Self::Paced { until, lambda } = self else { return };
        let left = until.since(now).max(1);
        let allowance = i128::from((balance.0 / left).max(1));
        // How many ticks' allowance was saved (positive) or overspent (negative), in units of 2^-16 ticks.
        let saved = (i128::from(ticks) << 16) - (i128::from(spent.0) << 16) / allowance;
        let old = i128::from(*lambda);
        let change = ((old * saved) >> (16 + STEP_SHIFT)).clamp(-old / 2, old);
        let least_move = if saved > 0 { 1 } else { -1 };
        let new = if change == 0 { old + least_move } else { old + change };
        *lambda = u32::try_from(new).unwrap_or(LEAST);
        *lambda = (*lambda).clamp(LEAST, ONE);
    }

    /// Whether a longer wait would change the bid.
    #[must_use]
    pub const fn may_rise(&self) -> bool {
        match self {
            Self::Fixed => false,
            Self::Paced { lambda, .. } => *lambda < ONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a price that the bid must beat, spends when it wins.
    fn run(budget: u64, ticks: u64, price: impl Fn(u64) -> u64) -> (u64, u64) {
        let mut pacing = Pacing::until(Tick(ticks));
        let mut balance = budget;
        let mut emptied = ticks;
        for tick in 0..ticks {
            let bid = pacing.bid(Price(10_000)).0;
            let spent = if bid >= price(tick) && balance >= price(tick) { price(tick) } else { 0 };
            balance -= spent;
            if balance < price(tick) && emptied == ticks {
                emptied = tick;
            }
            pacing.adapt(Tick(tick + 1), 1, Joule(spent), Joule(balance));
        }
        (budget - balance, emptied)
    }

    #[test]
    fn the_budget_lasts_its_lifetime_and_is_used() {
        // Prices wander between 1,000 and 9,000; the budget buys a third of the ticks.
        let price = |tick: u64| 1_000 + tick * 7_919 % 8_000;
        let (spent, emptied) = run(10_000_000, 6_000, price);
        assert!(emptied > 5_400, "ran dry at {emptied}");
        assert!(spent > 9_000_000, "spent only {spent}");
    }

    #[test]
    fn paced_buys_more_ticks_than_fixed_for_the_same_money() {
        let price = |tick: u64| 1_000 + tick * 7_919 % 8_000;
        let bought = |mut pacing: Pacing| {
            let (mut balance, mut bought) = (6_000_000u64, 0);
            for tick in 0..6_000 {
                let spent = if pacing.bid(Price(10_000)).0 >= price(tick) && balance >= price(tick) {
                    bought += 1;
                    price(tick)
                } else {
                    0
                };
                balance -= spent;
                pacing.adapt(Tick(tick + 1), 1, Joule(spent), Joule(balance));
            }
            bought
        };
        let (fixed, paced) = (bought(Pacing::Fixed), bought(Pacing::until(Tick(6_000))));
        assert!(paced > fixed * 3 / 2, "paced bought {paced}, fixed {fixed}");
    }

    #[test]
    fn a_fixed_bid_is_the_limit() {
        let mut pacing = Pacing::Fixed;
        pacing.adapt(Tick(1), 1, Joule(100), Joule(0));
        assert_eq!(pacing.bid(Price(7)), Price(7));
        assert!(!pacing.may_rise());
    }
}
