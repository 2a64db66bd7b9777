//! The order book against the usual alternatives, in one run; prints Markdown tables.
//!
//! All structures hold the same standing orders and take the same stream of uniformly random updates (any order, a new
//! price between 1 W and 16 W). Ours keeps principals (ten orders each) and their turns; the others keep prices only.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeMap, BinaryHeap};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use maxwell_core::Price;
use maxwell_core::book::{Book, OrderKey, PrincipalIndex};
use maxwell_core::clearing::{Clearing, PricingRule, Supply};

/// Counts allocations.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes unchanged to the system allocator; the counter is not memory that anybody is given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn update(&mut self, orders: u32) -> (OrderKey, Price) {
        let order = (self.next() % u64::from(orders)) as u32;
        (OrderKey(order), Price(1_000 + self.next() % 15_000))
    }
}

/// A structure that holds standing orders.
trait Contender {
    fn name(&self) -> &'static str;
    fn update(&mut self, updates: &[(OrderKey, Price)]);
    /// Calls `after` after each update.
    fn update_observed(&mut self, updates: &[(OrderKey, Price)], after: &mut dyn FnMut());
    /// Finds the best `slots` orders and the next price.
    fn clear(&mut self, slots: usize) -> u64;
}

struct Ours {
    book: Book,
    clearing: Clearing,
    asks: Vec<Price>,
}

impl Contender for Ours {
    fn name(&self) -> &'static str {
        "**Maxwell: ladder, turns by principal**"
    }

    fn update(&mut self, updates: &[(OrderKey, Price)]) {
        self.book.set_all(updates);
    }

    fn update_observed(&mut self, updates: &[(OrderKey, Price)], after: &mut dyn FnMut()) {
        self.book.set_all_observed(updates, after);
    }

    fn clear(&mut self, slots: usize) -> u64 {
        let supply = Supply { reserve: Price(1), asks: &self.asks[..slots], quality: &[], standby: 0 };
        self.clearing.clear(PricingRule::Uniform, &mut self.book, supply, &[]);
        self.clearing.spot.0
    }
}

/// Bids in an array, for structures that do their work at the tick.
struct Bids(Vec<u64>);

impl Bids {
    fn update(&mut self, updates: &[(OrderKey, Price)], mut after: impl FnMut()) {
        for (key, price) in updates {
            self.0[key.0 as usize] = price.0;
            after();
        }
    }

    /// All of them into `to`, with their keys.
    fn copy(&self, to: &mut Vec<(u64, u32)>) {
        to.clear();
        to.extend(self.0.iter().zip(0..).map(|(bid, key)| (*bid, key)));
    }
}

/// The reference design: bids in an array, a heap built from all of them in every tick.
struct Heap {
    bids: Bids,
    heap: Vec<(u64, u32)>,
}

impl Contender for Heap {
    fn name(&self) -> &'static str {
        "`BinaryHeap` rebuilt each tick"
    }

    fn update(&mut self, updates: &[(OrderKey, Price)]) {
        self.bids.update(updates, || ());
    }

    fn update_observed(&mut self, updates: &[(OrderKey, Price)], after: &mut dyn FnMut()) {
        self.bids.update(updates, after);
    }

    fn clear(&mut self, slots: usize) -> u64 {
        let mut heap = std::mem::take(&mut self.heap);
        self.bids.copy(&mut heap);
        let mut heap = BinaryHeap::from(heap);
        for _ in 0..slots {
            black_box(heap.pop());
        }
        let price = heap.peek().map_or(0, |top| top.0);
        self.heap = heap.into_vec();
        price
    }
}

struct Tree {
    bids: Vec<u64>,
    tree: BTreeMap<(std::cmp::Reverse<u64>, u32), ()>,
}

impl Tree {
    fn set(&mut self, key: OrderKey, price: Price) {
        let old = std::mem::replace(&mut self.bids[key.0 as usize], price.0);
        self.tree.remove(&(std::cmp::Reverse(old), key.0));
        self.tree.insert((std::cmp::Reverse(price.0), key.0), ());
    }
}

impl Contender for Tree {
    fn name(&self) -> &'static str {
        "`BTreeMap`"
    }

    fn update(&mut self, updates: &[(OrderKey, Price)]) {
        updates.iter().for_each(|(key, price)| self.set(*key, *price));
    }

    fn update_observed(&mut self, updates: &[(OrderKey, Price)], after: &mut dyn FnMut()) {
        for (key, price) in updates {
            self.set(*key, *price);
            after();
        }
    }

    fn clear(&mut self, slots: usize) -> u64 {
        let mut best = self.tree.keys();
        for _ in 0..slots {
            black_box(best.next());
        }
        best.next().map_or(0, |(price, _)| price.0)
    }
}

struct Sort {
    bids: Bids,
    sorted: Vec<(u64, u32)>,
}

impl Contender for Sort {
    fn name(&self) -> &'static str {
        "full sort each tick"
    }

    fn update(&mut self, updates: &[(OrderKey, Price)]) {
        self.bids.update(updates, || ());
    }

    fn update_observed(&mut self, updates: &[(OrderKey, Price)], after: &mut dyn FnMut()) {
        self.bids.update(updates, after);
    }

    fn clear(&mut self, slots: usize) -> u64 {
        self.bids.copy(&mut self.sorted);
        self.sorted.sort_unstable_by(|a, b| b.cmp(a));
        self.sorted.get(slots).map_or(0, |(price, _)| *price)
    }
}

/// The processor's time-stamp counter: a read costs about ten nanoseconds, several times less than the system's clock.
fn stamp() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }
}

/// Nanoseconds in one unit of `stamp`.
fn stamp_ns() -> f64 {
    let (wall, from) = (Instant::now(), stamp());
    while wall.elapsed().as_millis() < 50 {}
    wall.elapsed().as_nanos() as f64 / (stamp() - from) as f64
}

struct Measured {
    mean: f64,
    p50: f64,
    p99: f64,
    clears: [f64; 3],
    allocations: f64,
}

const SLOTS: [usize; 3] = [1, 64, 4_096];

fn measure(contender: &mut dyn Contender, orders: u32, unit: f64) -> Measured {
    let mut random = Random(0x5EED);
    // A market with this many orders may see this many updates between two ticks.
    let batch: usize = (orders as usize / 10).clamp(100, 50_000);
    let mut updates: Vec<(OrderKey, Price)> = (0..batch).map(|_| random.update(orders)).collect();
    contender.update(&updates);

    // The median of several runs: the machine is shared.
    let mut means: Vec<f64> = (0..15)
        .map(|_| {
            updates.iter_mut().for_each(|update| *update = random.update(orders));
            let from = Instant::now();
            contender.update(&updates);
            from.elapsed().as_nanos() as f64 / batch as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);

    let mut single = Vec::with_capacity(batch * 4);
    for _ in 0..4 {
        updates.iter_mut().for_each(|update| *update = random.update(orders));
        let mut last = stamp();
        contender.update_observed(&updates, &mut || {
            let now = stamp();
            single.push(now - last);
            last = stamp();
        });
    }
    single.sort_unstable();
    let quantile = |q: f64| single[((single.len() - 1) as f64 * q) as usize] as f64 * unit;

    let mut clears = [0.0; 3];
    for (clear, slots) in clears.iter_mut().zip(SLOTS) {
        if slots >= orders as usize {
            *clear = f64::NAN;
            continue;
        }
        black_box(contender.clear(slots));
        let mut times: Vec<f64> = (0..9)
            .map(|_| {
                // A tick's worth of updates between two clearings, so that the best orders are not all in the cache.
                updates.iter_mut().take(1_000).for_each(|update| *update = random.update(orders));
                contender.update(&updates[..batch.min(1_000)]);
                let from = Instant::now();
                black_box(contender.clear(slots));
                from.elapsed().as_nanos() as f64
            })
            .collect();
        times.sort_by(f64::total_cmp);
        *clear = times[times.len() / 2];
    }

    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..10 {
        contender.update(&updates);
        black_box(contender.clear(64));
    }
    let allocations = (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / 10.0;
    Measured { mean: means[means.len() / 2], p50: quantile(0.5), p99: quantile(0.99), clears, allocations }
}

fn time(ns: f64) -> String {
    match ns {
        ns if ns.is_nan() => "–".to_owned(),
        ns if ns < 1_000.0 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.2} µs", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}

fn contenders(orders: u32) -> Vec<Box<dyn Contender>> {
    let mut random = Random(1);
    let bids: Vec<u64> = (0..orders).map(|_| random.update(orders).1.0).collect();
    let mut book = Book::new();
    for (key, bid) in (0..).zip(&bids) {
        book.register(OrderKey(key), PrincipalIndex(key / 10), 1);
        book.set(OrderKey(key), Price(*bid));
    }
    let ours = Ours { book, clearing: Clearing::with_capacity(5_000), asks: vec![Price(1); 5_000] };
    let tree = bids.iter().zip(0..).map(|(bid, key)| ((std::cmp::Reverse(*bid), key), ())).collect();
    vec![
        Box::new(ours),
        Box::new(Heap { bids: Bids(bids.clone()), heap: Vec::with_capacity(orders as usize) }),
        Box::new(Tree { bids: bids.clone(), tree }),
        Box::new(Sort { bids: Bids(bids), sorted: Vec::with_capacity(orders as usize) }),
    ]
}

fn main() {
    let unit = stamp_ns();
    let mut own: Vec<u64> = (0..10_000)
        .map(|_| {
            let a = stamp();
            stamp() - a
        })
        .collect();
    own.sort_unstable();
    println!("### Order book\n");
    println!(
        "Updates are uniformly random; p50 and p99 are of single updates inside a batch and include {:.0} ns of the clock \
         itself. Between two clearings 1,000 orders change.\n",
        own[own.len() / 2] as f64 * unit
    );
    println!(
        "| orders | structure | update, mean | p50 | p99 | clear 1 | clear 64 | clear 4,096 | allocations a tick |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for orders in [1_000, 100_000, 1_000_000] {
        for mut contender in contenders(orders) {
            let m = measure(contender.as_mut(), orders, unit);
            let [one, some, many] = m.clears.map(time);
            println!(
                "| {orders} | {} | {} | {} | {} | {one} | {some} | {many} | {:.0} |",
                contender.name(),
                time(m.mean),
                time(m.p50),
                time(m.p99),
                m.allocations
            );
        }
    }
    println!();
}
