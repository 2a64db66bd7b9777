//! What a look at the machine costs: every source that this machine has, and trees of files that stand for the others;
//! prints Markdown tables.
//!
//! A tree's files lie in memory: they cost the system call and the parsing, not the register behind them, which adds one
//! to five microseconds where another core must be interrupted.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark"
)]

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fixture::{Fixture, RANGE_14};
use maxwell_core::sensor::{Activity, Reading};
use maxwell_core::units::Celsius;
use maxwell_physics::sensors::State;
use maxwell_physics::sensors::file::{HostReport, write};
use maxwell_physics::{Instruments, ModelConfig, Root, TaskClock, survey};

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

const ROUNDS: usize = 20_000;

/// Prints a row: mean, median and 99th percentile of one look, and its allocations.
fn row(name: &str, what: &str, mut look: impl FnMut()) {
    for _ in 0..1_000 {
        look();
    }
    let mut times = Vec::with_capacity(ROUNDS);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let started = Instant::now();
    for _ in 0..ROUNDS {
        look();
    }
    let mean = started.elapsed().as_nanos() as f64 / ROUNDS as f64;
    let allocations = (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / ROUNDS as f64;
    for _ in 0..ROUNDS {
        let from = Instant::now();
        look();
        times.push(from.elapsed().as_nanos() as f64);
    }
    times.sort_by(f64::total_cmp);
    let quantile = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
    println!(
        "| {name} | {what} | {} | {} | {} | {allocations:.0} |",
        time(mean),
        time(quantile(0.5)),
        time(quantile(0.99))
    );
}

fn time(ns: f64) -> String {
    if ns < 1_000.0 { format!("{ns:.0} ns") } else { format!("{:.2} µs", ns / 1e3) }
}

/// A whole look through instruments, always at the same moment: nothing is given up for standing still.
fn instruments(name: &str, mut instruments: Instruments) {
    let mut reading = Reading::default();
    let activity = Activity { elapsed_us: 10_000, ..Activity::default() };
    let what = instruments.describe();
    row(name, &what, || {
        black_box(instruments.read_at(10_000, &activity, &mut reading));
    });
}

/// Two sockets with memory, as a server shows them.
fn server() -> Fixture {
    let machine = Fixture::new();
    machine.intel(0x6A, &[(0, 0), (1, 0)]).pmu("0,1", &[("energy-pkg", 2), ("energy-ram", 3)]);
    for cpu in 0..2 {
        machine.event(2, cpu, 0).event(3, cpu, 0);
        machine.register(cpu, 0x606, 0x000A_0E03).register(cpu, 0x611, 5_000).register(cpu, 0x619, 5_000);
        machine.register(cpu, 0x1A2, 100 << 16).register(cpu, 0x1B1, 1 << 31 | 40 << 16);
    }
    machine.zone("intel-rapl:0", "package-0", 123_456_789, RANGE_14).zone(
        "intel-rapl:0:0",
        "dram",
        23_456_789,
        RANGE_14,
    );
    machine.zone("intel-rapl:1", "package-1", 223_456_789, RANGE_14).zone(
        "intel-rapl:1:0",
        "dram",
        33_456_789,
        RANGE_14,
    );
    machine.thermal_zone(0, "x86_pkg_temp", 51_000).thermal_zone(1, "x86_pkg_temp", 52_000);
    machine.hwmon(0, "coretemp").shows(0, "temp1", "Package id 0", 49_000);
    machine.hwmon(1, "coretemp").shows(1, "temp1", "Package id 1", 49_000);
    machine
}

fn main() {
    println!("### Sensors: one look\n");
    println!("| machine | sources | mean | p50 | p99 | allocations |");
    println!("|---|---|---|---|---|---|");
    let here = survey(&Root::machine(), None);
    let words =
        here.energy.iter().filter(|finding| finding.state == State::Usable).map(|finding| finding.source.name());
    for word in words.chain(["auto"]) {
        let choice = word.parse().unwrap();
        instruments("this machine", Instruments::open(Root::machine(), choice, ModelConfig::default()).unwrap());
    }
    let server = server();
    for words in ["perf+msr", "perf+thermal-zone", "powercap+thermal-zone", "msr+msr", "powercap+hwmon"] {
        instruments("two sockets with memory", server.try_open(words).unwrap());
    }
    let files: Vec<_> = ["intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0", "intel-rapl:1:0"]
        .map(|zone| server.path(&format!("sys/class/powercap/{zone}/energy_uj")))
        .into_iter()
        .chain([0, 1].map(|zone| server.path(&format!("sys/class/thermal/thermal_zone{zone}/temp"))))
        .collect();
    row("two sockets with memory", "the same files, opened and read as text each time", || {
        for file in &files {
            black_box(std::fs::read_to_string(file).unwrap().trim().parse::<u64>().unwrap());
        }
    });
    let guest = Fixture::new();
    let path = guest.path("host");
    write(&path, &HostReport { energy_uj: Some(5), celsius: Some(Celsius(50.0)), ..HostReport::default() }).unwrap();
    instruments("a guest", guest.try_open(&format!("file:{}", path.display())).unwrap());
    instruments("a guest", guest.try_open("model").unwrap());
    task_clock();
    println!();
    println!(
        "A survey of this machine takes {:.1} ms, of the server {:.1} ms.",
        best_survey(&Root::machine()),
        best_survey(&server.root())
    );
    println!();
}

/// The core time of a cgroup, beside the file that the kernel shows it in. Needs root.
fn task_clock() {
    let mount = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .into_iter()
        .find(|path| std::path::Path::new(path).join("cgroup.procs").exists());
    let Some(group) =
        mount.map(|mount| std::path::Path::new(mount).join(format!("maxwell-bench-{}", std::process::id())))
    else {
        return;
    };
    if std::fs::create_dir(&group).is_err() {
        return;
    }
    if let Ok(clock) = TaskClock::of_cgroup(&group) {
        row("this machine", "task-clock of a cgroup, all cores", || {
            black_box(clock.read_ns().unwrap());
        });
    }
    row("this machine", "its `cpu.stat`, opened and read as text", || {
        black_box(std::fs::read_to_string(group.join("cpu.stat")).unwrap());
    });
    std::fs::remove_dir(&group).unwrap();
}

/// The quickest of ten surveys, in milliseconds.
fn best_survey(root: &Root) -> f64 {
    (0..10).map(|_| survey(root, None).took_us).min().unwrap_or(0) as f64 * 1e-3
}
