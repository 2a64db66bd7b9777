//! A read allocates nothing, whatever it reads.

#![allow(clippy::unwrap_used, reason = "a failure to unwrap is a failure of the test")]

mod fixture;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use fixture::{Fixture, RANGE_14};
use maxwell_core::sensor::{Activity, Reading};
use maxwell_core::units::Celsius;
use maxwell_physics::sensors::file::{HostReport, write};

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
fn a_read_allocates_nothing() {
    let machine = Fixture::new();
    machine.intel(0x55, &[(0, 0), (1, 0)]).pmu("0,1", &[("energy-pkg", 2), ("energy-ram", 3)]);
    for cpu in 0..2 {
        machine.event(2, cpu, 0).event(3, cpu, 0).register(cpu, 0x606, 0x000A_0E03).register(cpu, 0x611, 5_000);
        machine.register(cpu, 0x1A2, 100 << 16).register(cpu, 0x1B1, 1 << 31 | 40 << 16);
    }
    machine.zone("intel-rapl:0", "package-0", 1_000_000, RANGE_14).zone(
        "intel-rapl:1",
        "package-1",
        2_000_000,
        RANGE_14,
    );
    machine.thermal_zone(0, "x86_pkg_temp", 51_000).hwmon(0, "coretemp").shows(0, "temp1", "Package id 0", 49_000);
    machine
        .hwmon(1, "amd_energy")
        .shows(1, "energy1", "Esocket0", 5_000_000)
        .shows(1, "energy2", "Esocket1", 6_000_000);
    let path = machine.path("host");
    let report = HostReport { energy_uj: Some(5), celsius: Some(Celsius(50.0)), ..HostReport::default() };
    write(&path, &report).unwrap();
    let file = format!("file:{0}+file:{0}", path.display());
    for words in ["perf+msr", "powercap+thermal-zone", "msr+hwmon", "hwmon+auto", &file, "model+model", "perf+model"] {
        let mut instruments = machine.try_open(words).unwrap();
        let mut reading = Reading::default();
        let activity = Activity { elapsed_us: 10_000, ..Activity::default() };
        // The first read sizes the caller's buffer.
        instruments.read_at(10_000, &activity, &mut reading);
        // Nothing moves here, so stop before the counters count as failed.
        write(&path, &HostReport { sequence: 1, ..report }).unwrap();
        let before = COUNT.with(Cell::get);
        for n in 2..90 {
            instruments.read_at(n * 10_000, &activity, &mut reading);
            assert!(reading.counters.iter().all(|counter| counter.raw.is_some()));
        }
        assert_eq!(COUNT.with(Cell::get) - before, 0, "{words}");
    }
}
