//! Clearing equals a naive sorted oracle, for every rule, over a million random events.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests work with small numbers, and a failure to unwrap is a failure of the test"
)]

mod random;

use std::collections::BTreeMap;

use maxwell_core::Price;
use maxwell_core::book::{Book, OrderKey, PrincipalIndex};
use maxwell_core::clearing::{Clearing, PricingRule, Supply};
use maxwell_core::ladder::Level;
use random::Random;

/// The book as its documentation defines it, with plain vectors: levels are sorted, rings are lists, and nothing is fast.
#[derive(Default)]
struct Naive {
    orders: BTreeMap<u32, NaiveOrder>,
    /// Each level's ring, in order of turns.
    rings: BTreeMap<u16, Vec<Entry>>,
}

#[derive(Clone, Copy)]
struct NaiveOrder {
    principal: u32,
    slots: u16,
    level: Option<u16>,
}

/// A place in a ring: one loose order, or a principal's gathered ones.
struct Entry {
    gathered: bool,
    orders: Vec<u32>,
}

impl Naive {
    fn set(&mut self, key: u32, price: Price) {
        let level = Level::of(price).map(|l| l.0);
        let old = self.orders[&key].level;
        if old == level {
            return;
        }
        if let Some(left) = old {
            let ring = self.rings.get_mut(&left).unwrap();
            ring.iter_mut().for_each(|entry| entry.orders.retain(|order| *order != key));
            ring.retain(|entry| !entry.orders.is_empty());
        }
        if let Some(level) = level {
            self.rings.entry(level).or_default().push(Entry { gathered: false, orders: vec![key] });
        }
        self.orders.get_mut(&key).unwrap().level = level;
    }

    fn served(&mut self, key: u32) {
        let Some(level) = self.orders[&key].level else { return };
        let ring = self.rings.get_mut(&level).unwrap();
        let at = ring.iter().position(|entry| entry.orders.contains(&key)).unwrap();
        let mut entry = ring.remove(at);
        entry.orders.retain(|order| *order != key);
        entry.orders.push(key);
        ring.push(entry);
    }

    /// The first `limit` units of demand at or above the reserve, best first.
    fn ranked(&mut self, limit: usize, reserve: Price) -> Vec<(u32, Price)> {
        let mut out = Vec::new();
        let orders = &self.orders;
        let principal_has_many = |principal: u32| orders.values().filter(|o| o.principal == principal).count() > 1;
        for (level, ring) in self.rings.iter_mut().rev() {
            let price = Level(*level).price();
            if out.len() >= limit || price < reserve {
                break;
            }
            let mut at = 0;
            while at < ring.len() && out.len() < limit {
                let first = ring[at].orders[0];
                let principal = orders[&first].principal;
                if !ring[at].gathered && principal_has_many(principal) {
                    let group = ring.iter().position(|e| e.gathered && orders[&e.orders[0]].principal == principal);
                    if let Some(group) = group {
                        ring[group].orders.push(first);
                        ring.remove(at);
                        // A group before this place does not move it.
                        continue;
                    }
                    ring[at].gathered = true;
                }
                out.push((first, price));
                at += 1;
            }
            // Second units, third units, …
            let expanded: Vec<Vec<u32>> = ring
                .iter()
                .map(|entry| {
                    let units = |key: &u32| std::iter::repeat_n(*key, usize::from(orders[key].slots));
                    entry.orders.iter().flat_map(units).collect()
                })
                .collect();
            let most = expanded.iter().map(Vec::len).max().unwrap_or(0);
            for pass in 1..most {
                let units = expanded.iter().filter_map(|units| units.get(pass)).map(|key| (*key, price));
                out.extend(units);
            }
        }
        out.truncate(limit);
        out
    }
}

/// Payments from the definitions. For VCG: the welfare of the others without the winner, minus with, where the machine
/// itself stands ready to "buy" every slot at the reserve.
fn payments(rule: PricingRule, bids: &[u64], asks: &[u64], quality: &[u64]) -> Vec<u64> {
    let q = (1..=asks.len().min(bids.len())).rev().find(|q| (1..=*q).all(|i| bids[i - 1] >= asks[i - 1])).unwrap_or(0);
    if q == 0 {
        return vec![];
    }
    let reserve = asks[q - 1];
    let next = |i: usize| bids.get(i).copied().unwrap_or(0);
    match rule {
        PricingRule::Uniform => vec![next(q).max(reserve); q],
        PricingRule::Posted => vec![reserve; q],
        PricingRule::Gsp => (0..q).map(|i| quality[i] * next(i + 1).max(reserve) / 1000).collect(),
        PricingRule::Vcg => (0..q)
            .map(|i| {
                let welfare = |skip: Option<usize>, count: usize| -> u128 {
                    let mut others: Vec<u64> =
                        bids.iter().enumerate().filter(|(j, _)| Some(*j) != skip).map(|(_, b)| *b).collect();
                    others.extend(std::iter::repeat_n(reserve, q));
                    others.sort_unstable_by(|a, b| b.cmp(a));
                    others.iter().zip(quality).take(count).map(|(b, a)| u128::from(*b) * u128::from(*a)).sum()
                };
                let with = welfare(None, q) - u128::from(bids[i]) * u128::from(quality[i]);
                u64::try_from((welfare(Some(i), q) - with) / 1000).unwrap()
            })
            .collect(),
    }
}

fn fuzz(seed: u64, events: usize, orders: u32, principals: u64, price_span: u64) {
    let mut random = Random(seed);
    let mut book = Book::new();
    let mut naive = Naive::default();
    for key in 0..orders {
        let principal = u32::try_from(random.below(principals)).unwrap();
        let slots = if random.below(8) == 0 { 3 } else { 1 };
        book.register(OrderKey(key), PrincipalIndex(principal), slots);
        naive.orders.insert(key, NaiveOrder { principal, slots, level: None });
    }
    let mut clearing = Clearing::default();
    let mut batch = Vec::new();
    let mut compared = 0;
    for event in 0..events {
        let key = u32::try_from(random.below(u64::from(orders))).unwrap();
        match random.below(10) {
            0 => {
                book.cancel(OrderKey(key));
                naive.set(key, Price(0));
            }
            1 => {
                book.served(OrderKey(key));
                naive.served(key);
            }
            2 => {
                // The prefetching path is the same as one by one.
                batch.clear();
                batch.extend((0..40).map(|_| {
                    let key = u32::try_from(random.below(u64::from(orders))).unwrap();
                    (OrderKey(key), Price(random.below(price_span)))
                }));
                book.set_all(&batch);
                batch.iter().for_each(|(key, price)| naive.set(key.0, *price));
            }
            _ => {
                let price = Price(random.below(price_span));
                book.set(OrderKey(key), price);
                naive.set(key, price);
            }
        }
        if event % 5 != 0 {
            continue;
        }
        let slots = random.index(9);
        let reserve = random.below(price_span / 2 + 1);
        let rule = [PricingRule::Uniform, PricingRule::Gsp, PricingRule::Vcg, PricingRule::Posted][random.index(4)];
        let rising = matches!(rule, PricingRule::Uniform | PricingRule::Posted) && random.below(2) == 0;
        let asks: Vec<u64> =
            (0..slots as u64).map(|i| if rising { reserve + i * price_span / 20 } else { reserve }).collect();
        let mut quality: Vec<u64> = (0..slots).map(|_| 200 + random.below(801)).collect();
        quality.sort_unstable_by(|a, b| b.cmp(a));

        let prices: Vec<Price> = asks.iter().copied().map(Price).collect();
        let qualities: Vec<u16> = quality.iter().map(|q| u16::try_from(*q).unwrap()).collect();
        let supply = Supply { reserve: Price(reserve), asks: &prices, quality: &qualities, standby: 3 };
        clearing.clear(rule, &mut book, supply, &[]);

        let ranked = naive.ranked(slots + 3, Price(reserve));
        let bids: Vec<u64> = ranked.iter().map(|(_, price)| price.0).collect();
        let mut expected: Vec<(u32, u64)> =
            ranked.iter().map(|(key, _)| *key).zip(payments(rule, &bids, &asks, &quality)).collect();
        if rule == PricingRule::Uniform {
            // Nobody bids against itself: a winner pays the best losing unit of anybody else.
            let sold = expected.len();
            for (key, price) in &mut expected {
                let rival = ranked[sold..].iter().find(|(other, _)| other != key).map_or(0, |(_, bid)| bid.0);
                *price = rival.max(asks[sold - 1]);
            }
        }
        let winners: Vec<(u32, u64)> = clearing.winners.iter().map(|a| (a.order.0, a.price.0)).collect();
        assert_eq!(winners, expected, "event {event}, {rule:?}, {slots} slots at {asks:?}, quality {quality:?}");
        let standby: Vec<u32> = clearing.standby.iter().map(|a| a.order.0).collect();
        let expected: Vec<u32> = ranked.iter().skip(winners.len()).take(3).map(|(key, _)| *key).collect();
        assert_eq!(standby, expected, "standbys at event {event}");
        compared += 1;
        if event % 50_000 == 0 {
            book.check();
        }
    }
    book.check();
    assert!(compared >= events / 5);
}

#[test]
fn clearing_equals_the_oracle_with_many_ties() {
    fuzz(11, 400_000, 60, 7, 40);
}

#[test]
fn clearing_equals_the_oracle_with_few_ties() {
    fuzz(12, 400_000, 60, 60, 1 << 40);
}

#[test]
fn clearing_equals_the_oracle_when_one_principal_owns_nearly_everything() {
    fuzz(13, 300_000, 80, 2, 12);
}
