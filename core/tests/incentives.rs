//! Incentives: a search for profitable lies.
//!
//! Values and bids are ladder prices, so that rounding does not disturb the search; the payoff of a winner is
//! `quality × value − payment`. Under `Uniform` and `Vcg` with one slot each, nobody gains by misreporting; under `Gsp`
//! somebody does, which shows that the search can find a gain where there is one.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests work with small numbers, and a failure to unwrap is a failure of the test"
)]

mod random;

use maxwell_core::Price;
use maxwell_core::book::{Book, OrderKey, PrincipalIndex};
use maxwell_core::clearing::{Clearing, PricingRule, Supply};
use maxwell_core::ladder::Level;
use random::Random;

/// A ladder price between 1 W and 16 W.
fn draw_price(random: &mut Random) -> u64 {
    Level::of(Price(1_000 + random.below(15_000))).unwrap().price().0
}

/// A market of one book, used again and again: bidder 0 against up to eight others.
struct Auction {
    book: Book,
    clearing: Clearing,
}

impl Auction {
    fn new() -> Self {
        let mut book = Book::new();
        (0..9).for_each(|key| book.register(OrderKey(key), PrincipalIndex(key), 1));
        Self { book, clearing: Clearing::default() }
    }

    /// The payoff of bidder 0, in mW · thousandths.
    fn payoff(
        &mut self,
        rule: PricingRule,
        value: u64,
        bid: u64,
        others: &[u64],
        reserve: u64,
        quality: &[u16],
    ) -> i128 {
        (0..9).for_each(|key| self.book.cancel(OrderKey(key)));
        for (key, price) in (0..).zip(std::iter::once(&bid).chain(others)) {
            self.book.set(OrderKey(key), Price(*price));
        }
        let asks = vec![Price(reserve); quality.len()];
        let supply = Supply { reserve: Price(reserve), asks: &asks, quality, standby: 0 };
        self.clearing.clear(rule, &mut self.book, supply, &[]);
        match self.clearing.winners.iter().position(|award| award.order == OrderKey(0)) {
            Some(at) => {
                i128::from(value) * i128::from(quality[at]) - i128::from(self.clearing.winners[at].price.0) * 1000
            }
            None => 0,
        }
    }
}

/// Searches `deviations` random lies; returns how many gain more than rounding (1 mW), and the largest gain in mW.
fn search(rule: PricingRule, equal_slots: bool, deviations: usize) -> (usize, i128) {
    let mut random = Random(0xC0FFEE);
    let mut auction = Auction::new();
    let (mut gains, mut largest) = (0, 0);
    for _ in 0..deviations / 10 {
        let slots = 1 + random.below(4) as usize;
        let mut quality: Vec<u16> =
            (0..slots).map(|_| if equal_slots { 1000 } else { 200 + random.below(801) as u16 }).collect();
        quality.sort_unstable_by(|a, b| b.cmp(a));
        let others: Vec<u64> = (0..random.below(8)).map(|_| draw_price(&mut random)).collect();
        let reserve = draw_price(&mut random) / 2;
        let value = draw_price(&mut random);
        let honest = auction.payoff(rule, value, value, &others, reserve, &quality);
        assert!(honest >= 0, "a truthful bidder never loses: {honest}");
        for _ in 0..10 {
            let lie = if random.below(3) == 0 && !others.is_empty() {
                // Just above or below a rival: where lies pay, if they pay.
                let rival = Level::of(Price(others[random.below(others.len() as u64) as usize])).unwrap();
                Level(rival.0.saturating_add_signed(random.below(3) as i16 - 1)).price().0
            } else {
                draw_price(&mut random)
            };
            let gain = auction.payoff(rule, value, lie, &others, reserve, &quality) - honest;
            if gain > 1000 {
                gains += 1;
                largest = largest.max(gain / 1000);
            }
        }
    }
    (gains, largest)
}

#[test]
fn no_misreport_pays_under_uniform_pricing() {
    assert_eq!(search(PricingRule::Uniform, true, 200_000), (0, 0));
}

#[test]
fn no_misreport_pays_under_vcg_even_with_unequal_slots() {
    assert_eq!(search(PricingRule::Vcg, false, 200_000), (0, 0));
}

#[test]
fn gsp_rewards_some_lies() {
    let (gains, largest) = search(PricingRule::Gsp, false, 100_000);
    assert!(gains > 100, "only {gains} profitable lies found");
    assert!(largest > 100, "largest gain {largest} mW");
}
