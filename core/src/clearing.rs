//! Clearing: from the top of the book to winners and prices.
//!
//! `k` slots are on sale. Slot `q` costs the machine `c(q)`, non-decreasing in `q`: the reserve for a flat supply, or a
//! rising curve where each further slot heats the die more. Rank the units of demand by bid, `b(1) ≥ b(2) ≥ …`, and
//! serve the largest `q ≤ k` with `b(q) ≥ c(q)`. What each winner pays is the [`PricingRule`].
//!
//! | rule | winner of slot `i` pays, per core-second | truthful for one slot each |
//! |---|---|---|
//! | [`Uniform`](PricingRule::Uniform) | `max(b(q+1), c(q))`, the highest losing bid of somebody else (Vickrey 1961) | yes |
//! | [`Gsp`](PricingRule::Gsp) | `a(i) · max(b(i+1), c)`, the next bid (Edelman, Ostrovsky, Schwarz 2007) | no |
//! | [`Vcg`](PricingRule::Vcg) | `Σ_{j=i..q} (a(j) − a(j+1)) · max(b(j+1), c)`, the harm done to those below | yes |
//! | [`Posted`](PricingRule::Posted) | the reserve | yes, but who gets a scarce slot is not the price's doing |
//!
//! `a(i)` is the quality of slot `i` in thousandths of a full core, best first; with equal slots `Gsp`, `Vcg` and
//! `Uniform` coincide. Bids count as the price of their ladder level. Payments are rounded down to 1 mW.
//!
//! An order may want several slots. Under `Uniform` its own unserved units never set the price that it pays: whoever wants
//! four of two slots and has no rival pays the reserve. Other rules take each unit for a bidder of its own.

use serde::{Deserialize, Serialize};

use crate::book::{Book, OrderKey, Ranked};
use crate::ladder::Level;
use crate::units::Price;

/// How winners are charged. See the [module documentation](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PricingRule {
    /// Every winner pays the highest losing bid, or the cost of the last slot if that is more.
    #[default]
    Uniform,
    /// Generalised second price for slots of different quality.
    Gsp,
    /// Vickrey–Clarke–Groves for slots of different quality.
    Vcg,
    /// Every winner pays the reserve.
    Posted,
}

/// The quality of a full core: one thousand thousandths.
pub const FULL_QUALITY: u16 = 1000;

/// What is on sale this tick.
#[derive(Clone, Copy, Debug)]
pub struct Supply<'a> {
    /// The lowest price at which anything is sold; at most the first ask.
    pub reserve: Price,
    /// The cost of the first, second, … slot; its length is the number of slots. Non-decreasing.
    pub asks: &'a [Price],
    /// The quality of the first, second, … slot in thousandths, non-increasing; missing entries are full cores.
    pub quality: &'a [u16],
    /// How many losers to name in order, to take over a slot that ends early.
    pub standby: usize,
}

/// A slot sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Award {
    /// Who won.
    pub order: OrderKey,
    /// What they pay per second of this slot.
    pub price: Price,
}

/// The result of clearing; its vectors are reused from tick to tick.
#[derive(Clone, Debug, Default)]
pub struct Clearing {
    /// The slots sold, best first.
    pub winners: Vec<Award>,
    /// The next in line, in order, at the price they would pay for what is left of a slot: the reserve.
    pub standby: Vec<Award>,
    /// The price at the margin: what one more unit of demand would have had to beat. The reserve when nothing sold.
    pub spot: Price,
    /// The losing order whose bid is (at least) the spot price: the price setter. `None` when the reserve set it.
    pub price_setter: Option<OrderKey>,
    /// The lowest bid that won; [`Price::MAX`] when nothing sold.
    pub marginal: Price,
    ranked: Vec<Ranked>,
    held: Vec<OrderKey>,
}

impl Clearing {
    /// Room for `units` winners and standbys, so that clearing will not allocate.
    #[must_use]
    pub fn with_capacity(units: usize) -> Self {
        Self {
            winners: Vec::with_capacity(units),
            standby: Vec::with_capacity(units),
            ranked: Vec::with_capacity(units + 1),
            held: Vec::with_capacity(units),
            ..Self::default()
        }
    }

    /// Clears `book`. `incumbents` are orders that hold a slot and have not yet held it for their minimum: at the price
    /// where slots run out, they go before others *of the same price*, never before a better bid.
    ///
    /// O(slots + standby), independent of the number of orders.
    pub fn clear(&mut self, rule: PricingRule, book: &mut Book, supply: Supply<'_>, incumbents: &[OrderKey]) {
        self.winners.clear();
        self.standby.clear();
        self.price_setter = None;
        self.marginal = Price::MAX;
        let slots = supply.asks.len();
        let reserve = supply.reserve;
        self.spot = supply.asks.first().copied().unwrap_or(reserve);
        let Some(floor) = Level::at_least(reserve) else { return };
        book.rank(slots + supply.standby.max(1), floor, &mut self.ranked);

        let sold = self.ranked.iter().zip(supply.asks).take_while(|(unit, ask)| unit.level.price() >= **ask).count();
        if sold < self.ranked.len() && sold > 0 {
            self.favour_incumbents(book, sold, incumbents);
        }
        self.marginal = match sold {
            0 => Price::MAX,
            sold => self.ranked[sold - 1].level.price(),
        };
        self.price(rule, book, sold, supply);

        let beyond = self.ranked.iter().skip(sold).take(supply.standby);
        self.standby.extend(beyond.map(|unit| Award { order: unit.order, price: reserve }));
    }

    /// Reorders the level on which slots run out, so that incumbents inside their minimum hold keep theirs.
    fn favour_incumbents(&mut self, book: &Book, sold: usize, incumbents: &[OrderKey]) {
        let cut = self.ranked[sold - 1].level;
        if self.ranked[sold].level != cut {
            return;
        }
        let first = self.ranked.iter().position(|unit| unit.level == cut).expect("the cut level is ranked");
        self.held.clear();
        self.held.extend(incumbents.iter().filter(|order| book.level(**order) == Some(cut)));
        // Whoever must make room goes last-ranked first; incumbents already inside the winning part stay.
        for at in 0..self.held.len() {
            let order = self.held[at];
            if self.ranked[first..sold].iter().any(|unit| unit.order == order) {
                continue;
            }
            let Some(out) = self.ranked[first..sold].iter().rposition(|unit| !self.held.contains(&unit.order)) else {
                return;
            };
            let out = first + out;
            match self.ranked[sold..].iter().position(|unit| unit.order == order) {
                // Shift the others back by one, so that the displaced order is the first loser.
                Some(inside) => self.ranked[out..=sold + inside].rotate_right(1),
                None => {
                    let last = self.ranked.len() - 1;
                    self.ranked[out..=last].rotate_right(1);
                    self.ranked[out] = Ranked { order, level: cut };
                }
            }
        }
    }

    fn price(&mut self, rule: PricingRule, book: &Book, sold: usize, supply: Supply<'_>) {
        if sold == 0 {
            // Nothing sold: the first unit of demand, if any, would have had to meet the first slot's cost.
            return;
        }
        let quality = |slot: usize| u64::from(supply.quality.get(slot).copied().unwrap_or(FULL_QUALITY));
        let last_ask = supply.asks[sold - 1];
        let ask = |slot: usize| supply.asks[slot.min(sold - 1)];
        let bid = |unit: usize| self.ranked.get(unit).map_or(Price::ZERO, |unit| unit.level.price());
        let losing = bid(sold);
        self.spot = losing.max(last_ask);
        if losing >= last_ask && losing > Price::ZERO {
            self.price_setter = Some(self.ranked[sold].order);
        }
        if rule == PricingRule::Uniform
            && let Some(setter) = self.price_setter
            && book.slots(setter) > 1
        {
            return self.price_around(setter, sold, last_ask);
        }
        let per_quality = |milli: u128| {
            Price(
                u64::try_from(milli / u128::from(FULL_QUALITY))
                    .expect("quality is at most one, so this is at most a bid"),
            )
        };
        let units = self.ranked.iter().take(sold).map(|unit| unit.order);
        match rule {
            PricingRule::Uniform => {
                let spot = self.spot;
                self.winners.extend(units.map(|order| Award { order, price: spot }));
            }
            PricingRule::Posted => {
                self.spot = last_ask;
                self.price_setter = None;
                self.winners.extend(units.map(|order| Award { order, price: last_ask }));
            }
            PricingRule::Gsp => self.winners.extend(units.enumerate().map(|(slot, order)| {
                let next = bid(slot + 1).max(ask(slot));
                Award { order, price: per_quality(u128::from(quality(slot)) * u128::from(next.0)) }
            })),
            PricingRule::Vcg => {
                self.winners.extend(units.map(|order| Award { order, price: Price::ZERO }));
                let mut suffix: u128 = 0;
                for slot in (0..sold).rev() {
                    let below = if slot + 1 < sold { quality(slot + 1) } else { 0 };
                    let next = bid(slot + 1).max(ask(slot));
                    suffix += u128::from(quality(slot).saturating_sub(below)) * u128::from(next.0);
                    self.winners[slot].price = per_quality(suffix);
                }
            }
        }
    }
}

impl Clearing {
    /// Uniform prices where the highest losing unit may belong to a winner, who does not bid against itself: it pays what
    /// the highest losing unit of anybody else bids.
    fn price_around(&mut self, setter: OrderKey, sold: usize, ask: Price) {
        let (winning, losing) = self.ranked.split_at(sold);
        let wins = winning.iter().filter(|unit| unit.order == setter).count();
        let other = losing.iter().find(|unit| unit.order != setter && unit.level.price() >= ask);
        let its_price = other.map_or(ask, |unit| unit.level.price());
        let others_price = self.spot;
        if wins == sold {
            self.spot = its_price;
            self.price_setter = other.map(|unit| unit.order);
        }
        let price = |order| if order == setter { its_price } else { others_price };
        self.winners.extend(winning.iter().map(|unit| Award { order: unit.order, price: price(unit.order) }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::PrincipalIndex;

    #[test]
    fn an_order_for_several_slots_does_not_bid_against_itself() {
        let mut book = book(&[900, 700]);
        book.set_slots(OrderKey(0), 4);
        let mut clearing = Clearing::default();
        let mut clear = |book: &mut Book, slots: usize| {
            let asks = vec![Price(100); slots];
            let supply = Supply { reserve: Price(100), asks: &asks, quality: &[], standby: 4 };
            clearing.clear(PricingRule::Uniform, book, supply, &[]);
            let prices: Vec<(u32, u64)> = clearing.winners.iter().map(|a| (a.order.0, a.price.0)).collect();
            (prices, clearing.spot.0, clearing.price_setter.map(|order| order.0))
        };
        // Both slots are its own, and its rival would have had to pay 700.
        assert_eq!(clear(&mut book, 2), (vec![(0, 700), (0, 700)], 700, Some(1)));
        assert_eq!(clear(&mut book, 5), (vec![(0, 100), (0, 100), (0, 100), (0, 100), (1, 100)], 100, None));
        book.cancel(OrderKey(1));
        assert_eq!(clear(&mut book, 2), (vec![(0, 100), (0, 100)], 100, None));
        // A rival at the same price takes turns with it. Each pays what the other would have given for its slot.
        book.set(OrderKey(1), Price(900));
        assert_eq!(clear(&mut book, 2), (vec![(0, 100), (1, 900)], 900, Some(0)));
    }

    fn book(prices: &[u64]) -> Book {
        let mut book = Book::new();
        for (key, price) in (0..).zip(prices) {
            book.register(OrderKey(key), PrincipalIndex(key), 1);
            book.set(OrderKey(key), Price(*price));
        }
        book
    }

    fn clear(rule: PricingRule, prices: &[u64], asks: &[u64], quality: &[u16]) -> (Vec<(u32, u64)>, u64) {
        let asks: Vec<Price> = asks.iter().copied().map(Price).collect();
        let mut clearing = Clearing::default();
        let supply = Supply { reserve: asks[0], asks: &asks, quality, standby: 0 };
        clearing.clear(rule, &mut book(prices), supply, &[]);
        (clearing.winners.iter().map(|a| (a.order.0, a.price.0)).collect(), clearing.spot.0)
    }

    #[test]
    fn winners_pay_the_highest_losing_bid() {
        assert_eq!(clear(PricingRule::Uniform, &[900, 700, 800], &[100, 100], &[]), (vec![(0, 700), (2, 700)], 700));
    }

    #[test]
    fn without_losers_winners_pay_the_reserve() {
        assert_eq!(clear(PricingRule::Uniform, &[900], &[100, 100], &[]), (vec![(0, 100)], 100));
        assert_eq!(
            clear(PricingRule::Uniform, &[99], &[100, 100], &[]),
            (vec![], 100),
            "below the reserve nobody wins"
        );
    }

    #[test]
    fn a_rising_cost_curve_stops_the_sale_where_bids_meet_it() {
        // The third slot costs more than the third bid.
        assert_eq!(
            clear(PricingRule::Uniform, &[900, 800, 300], &[100, 200, 400], &[]),
            (vec![(0, 300), (1, 300)], 300)
        );
    }

    #[test]
    fn gsp_and_vcg_differ_exactly_when_slots_do() {
        let bids = &[900, 700, 500];
        assert_eq!(clear(PricingRule::Gsp, bids, &[100, 100], &[1000, 500]).0, [(0, 700), (1, 250)]);
        // VCG: the winner of slot 0 pays (1 − 0.5) · 700 + 0.5 · 500.
        assert_eq!(clear(PricingRule::Vcg, bids, &[100, 100], &[1000, 500]).0, [(0, 600), (1, 250)]);
        let flat = &[1000, 1000];
        assert_eq!(
            clear(PricingRule::Vcg, bids, &[100, 100], flat),
            clear(PricingRule::Uniform, bids, &[100, 100], flat)
        );
    }

    #[test]
    fn posted_charges_the_reserve_whatever_is_bid() {
        assert_eq!(clear(PricingRule::Posted, &[900, 800, 700], &[100, 100], &[]), (vec![(0, 100), (1, 100)], 100));
    }

    #[test]
    fn an_incumbent_keeps_its_slot_against_an_equal_bid_but_not_against_a_better_one() {
        let mut clearing = Clearing::default();
        let asks = [Price(100), Price(100)];
        let supply = Supply { reserve: asks[0], asks: &asks, quality: &[], standby: 4 };
        let mut equal = book(&[500, 500, 500, 500]);
        clearing.clear(PricingRule::Uniform, &mut equal, supply, &[OrderKey(3)]);
        let winners: Vec<u32> = clearing.winners.iter().map(|a| a.order.0).collect();
        let standby: Vec<u32> = clearing.standby.iter().map(|a| a.order.0).collect();
        assert_eq!((winners, standby), (vec![0, 3], vec![1, 2]));
        let mut better = book(&[600, 600, 500, 500]);
        clearing.clear(PricingRule::Uniform, &mut better, supply, &[OrderKey(3)]);
        let winners: Vec<u32> = clearing.winners.iter().map(|a| a.order.0).collect();
        assert_eq!(winners, [0, 1]);
    }

    #[test]
    fn an_incumbent_far_back_in_a_long_queue_still_keeps_its_slot() {
        let mut clearing = Clearing::default();
        let asks = [Price(100), Price(100)];
        let mut many = book(&[500; 100]);
        let supply = Supply { reserve: asks[0], asks: &asks, quality: &[], standby: 2 };
        clearing.clear(PricingRule::Uniform, &mut many, supply, &[OrderKey(77)]);
        let winners: Vec<u32> = clearing.winners.iter().map(|a| a.order.0).collect();
        let standby: Vec<u32> = clearing.standby.iter().map(|a| a.order.0).collect();
        assert_eq!((winners, standby), (vec![0, 77], vec![1, 2]));
    }

    #[test]
    fn standbys_pay_the_reserve_for_what_is_left() {
        let mut clearing = Clearing::default();
        let asks = [Price(100)];
        let supply = Supply { reserve: asks[0], asks: &asks, quality: &[], standby: 2 };
        clearing.clear(PricingRule::Uniform, &mut book(&[900, 800, 50, 700]), supply, &[]);
        assert_eq!(clearing.spot, Price(800));
        assert_eq!(
            clearing.standby,
            [Award { order: OrderKey(1), price: Price(100) }, Award { order: OrderKey(3), price: Price(100) }]
        );
    }
}
