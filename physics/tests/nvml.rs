//! Graphics cards through a library that blocks and loses one of them: the tick does not notice, and the total is right.

#![cfg(feature = "nvml")]
#![allow(clippy::unwrap_used, reason = "a failure to unwrap is a failure of the test")]

mod fixture;

use std::time::{Duration, Instant};

use fixture::Fixture;
use maxwell_core::energy::Metering;
use maxwell_core::sensor::{Activity, Domain, Reading, Sensor as _, Source};
use maxwell_physics::sensors::nvml::Cards;

/// The library, which Cargo builds beside the tests.
fn library() -> std::path::PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/libfake_nvml.so");
    assert!(path.exists(), "{} is built by `cargo test --features nvml`, without --test", path.display());
    path
}

#[test]
fn cards_are_counted_exactly_while_their_driver_blocks_and_one_of_them_is_lost() {
    let machine = Fixture::new();
    machine.thermal_zone(0, "x86_pkg_temp", 50_000);
    let cards = Cards::find(Some(library().as_os_str()));
    let mut instruments = machine.try_open("auto").unwrap().with_cards(cards);
    let mut metering = Metering::default();
    metering.choose(instruments.counters());
    let mut reading = Reading::default();
    let started = Instant::now();
    let (mut found, mut both) = (None, false);
    let (mut ticks, mut moved, mut slow) = (0, 0, 0);
    let mut last = started;
    while started.elapsed() < Duration::from_millis(2_600) {
        std::thread::sleep(Duration::from_millis(10));
        let now = Instant::now();
        let elapsed_us = u64::try_from((now - last).as_micros()).unwrap();
        last = now;
        let changed = instruments.read(&Activity { elapsed_us, ..Activity::default() }, &mut reading);
        slow += u32::from(now.elapsed() > Duration::from_millis(50));
        if changed {
            metering.choose(instruments.counters());
        }
        assert_eq!(reading.counters.len(), instruments.counters().len());
        let tick = metering.advance(&reading.counters, elapsed_us);
        assert!(!tick.gap);
        let cards = instruments.counters().iter().filter(|counter| counter.source == Source::Nvml).count();
        if cards > 0 {
            found.get_or_insert_with(Instant::now);
            ticks += 1;
            moved += u32::from(tick.accelerators.0 > 0);
        }
        both |= cards == 2;
    }
    assert!(both, "both cards were seen");
    let domains: Vec<Domain> = instruments.counters().iter().map(|counter| counter.domain).collect();
    assert_eq!(domains, [Domain::Machine, Domain::Gpu(0)], "the lost card is gone");
    let of = |number| {
        let card = metering.metered().find(|metered| metered.domain == Domain::Gpu(number)).unwrap();
        card.energy as f64 * 1e-9
    };
    let seconds = found.unwrap().elapsed().as_secs_f64();
    // Over two and a half seconds, one renewal and one blocked call are a tenth of it.
    let truth = 200.0 * seconds;
    assert!((of(0) - truth).abs() < 0.15 * truth, "{} J, not {truth} J", of(0));
    assert!((5.0..=60.0).contains(&of(1)), "50 W until it was lost: {} J", of(1));
    assert!(2 * moved > ticks, "between renewals power goes on: {moved} of {ticks} ticks moved");
    // Every tenth call blocks for 100 ms, a dozen in all; reads that waited would be as slow. A busy machine may be once.
    assert!(slow <= 2, "{slow} reads waited");
}

#[test]
fn cards_are_not_added_to_a_board_that_contains_them() {
    let machine = Fixture::new();
    machine.intel(0x9A, &[(0, 0)]).zone("intel-rapl:0", "psys", 5_000_000, fixture::RANGE_14);
    let mut cards = Cards::find(Some(library().as_os_str()));
    let started = Instant::now();
    while !cards.came_or_went() && started.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!cards.counters().is_empty());
    let instruments = machine.try_open("auto").unwrap().with_cards(cards);
    let domains: Vec<Domain> = instruments.counters().iter().map(|counter| counter.domain).collect();
    assert_eq!(domains, [Domain::Platform]);
}

#[test]
fn a_machine_without_the_library_says_so_and_goes_on() {
    let mut cards = Cards::find(Some("libno-such-thing.so".as_ref()));
    let started = Instant::now();
    while cards.problem().is_none() && started.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(cards.problem().unwrap().contains("libno-such-thing.so"));
    assert!(!cards.came_or_went() && cards.counters().is_empty());
}
