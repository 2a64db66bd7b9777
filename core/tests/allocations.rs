//! A tick allocates nothing once a market has warmed up, however many agents it has.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a failure to unwrap is a failure of the test"
)]

mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use maxwell_core::market::{Stop, Usage};
use maxwell_core::sensor::{CounterReading, Quality, Source, Temperature};
use maxwell_core::units::{Celsius, Tick};
use maxwell_core::{Bytes, Micros};
use world::{World, policy, spec};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes unchanged to the system allocator; the counter is not memory that anybody is given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is being torn down has no counter any more, and nothing to count.
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

#[test]
fn a_tick_allocates_nothing() {
    let mut world = World::new(policy(8));
    for n in 0..5_000u64 {
        world.spinner(spec(&format!("owner {}", n % 500), 5_000 + n % 700), 1_000_000_000_000);
    }
    world.run(300);
    let World { market, input, out, .. } = &mut world;
    // Drive the market by hand: the world around it allocates.
    let mut counted = 0;
    // The first ticks of this kind may still size a buffer.
    for n in 1..=520u64 {
        input.usages.clear();
        for (at, grant) in out.grants.iter().enumerate() {
            input.usages.push(Usage {
                agent: grant.agent,
                core: Micros(if at < 8 { 9_000 } else { 0 }),
                fuel: 1,
                erased: Bytes(0),
                held: Bytes(0),
                erasable: Bytes(0),
                bid: None,
                demand: None,
                stop: if at < 8 { Stop::SlotEnd } else { Stop::NotRun },
            });
        }
        input.tick = Tick(market.now().0 + 1);
        input.reading.clear();
        input.reading.counters.push(CounterReading { raw: Some(n * 3_000), age_ms: 0 });
        input.reading.temperature = Some(Temperature::fresh(Celsius(50.0), Source::Msr, Quality::Measured));
        let before = COUNT.with(Cell::get);
        market.tick(input, out).unwrap();
        if n > 20 {
            counted += COUNT.with(Cell::get) - before;
            assert_eq!(out.sold, 8, "the market is at work");
        }
    }
    assert_eq!(counted, 0, "{counted} allocations in 500 ticks");
}
