//! What happens while the market runs: sources that fail, stand still, come back, and files that a host writes. Nothing of
//! it may show a silent zero.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a failure to unwrap is a failure of the test"
)]

mod fixture;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fixture::{Fixture, RANGE_14, Watch, assert_joules};
use maxwell_core::sensor::{Activity, Quality, Reading, Sensor as _, Source};
use maxwell_core::units::{Celsius, Watts};
use maxwell_physics::sensors::file::{HostReport, write};
use maxwell_physics::sensors::{ReadError, State};
use maxwell_physics::{Choice, Instruments, ModelConfig, Root, survey};
use proptest::prelude::*;

const ONE: [(u32, u32); 1] = [(0, 0)];

/// A machine with powercap above registers, and a zone above coretemp.
fn two_of_each() -> Fixture {
    let machine = Fixture::new();
    machine.intel(0x9A, &ONE).zone("intel-rapl:0", "package-0", 1_000_000, RANGE_14);
    machine.register(0, 0x606, 0x000A_0E03).register(0, 0x611, 1_000);
    machine.thermal_zone(0, "x86_pkg_temp", 51_000);
    machine.hwmon(0, "coretemp").shows(0, "temp1", "Package id 0", 49_000);
    machine
}

#[test]
fn a_counter_that_cannot_be_read_is_unknown_and_the_next_rung_takes_over() {
    let machine = two_of_each();
    let mut watch = machine.watch("auto");
    machine.energy("intel-rapl:0", 1_500_000);
    watch.tick();
    // The zone is unplugged: a kept descriptor of sysfs then gives an error, a truncated file stands for it.
    machine.write("sys/class/powercap/intel-rapl:0/energy_uj", "");
    for _ in 0..3 {
        assert!(watch.tick().stale, "unknown, not zero");
        assert_eq!(watch.reading.counters[0].raw, None);
    }
    assert!(watch.instruments.is_searching());
    watch.instruments.wait_for_search();
    watch.tick();
    assert!(watch.changed);
    assert_eq!(watch.instruments.energy_source(), Source::Msr);
    let change = watch.instruments.last_change().unwrap();
    assert_eq!((change.part, change.from, change.to), ("energy", Source::Powercap, Source::Msr));
    assert_eq!(change.why, "package-0 holds no number");
    machine.register(0, 0x611, 1_000 + 16_384);
    assert!(!watch.tick().stale);
    assert!(!watch.changed, "it is told once");
    assert_joules(&watch, 0.5 + 1.0);
}

#[test]
fn a_counter_that_stands_still_grows_old_and_is_given_up_after_a_second() {
    let machine = two_of_each();
    let mut watch = machine.watch("auto");
    for n in 1..=105_u32 {
        let tick = watch.tick();
        assert_eq!(watch.reading.counters[0].age_ms, n * 10);
        assert_eq!(tick.stale, n * 10 > 251, "after {n} ticks");
        assert_eq!(watch.instruments.is_searching(), n * 10 > 1_001, "after {n} ticks");
        if watch.instruments.is_searching() {
            break;
        }
    }
    watch.instruments.wait_for_search();
    watch.tick();
    assert!(watch.changed);
    assert_eq!(watch.instruments.energy_source(), Source::Msr);
    assert_eq!(watch.instruments.last_change().unwrap().why, "package-0 stands still");
}

#[test]
fn a_register_that_goes_away_ends_on_the_model_and_says_modelled() {
    let machine = Fixture::new();
    machine.intel(0x9A, &ONE).register(0, 0x606, 0x000A_0E03).register(0, 0x611, 1_000);
    let mut watch = machine.watch("msr");
    assert_eq!(watch.instruments.counters()[0].quality, Quality::Measured);
    machine.remove("dev/cpu/0/msr");
    // The descriptor outlives the name, as a device's does not: the count stands still.
    for _ in 0..110 {
        watch.tick();
        if watch.instruments.is_searching() {
            break;
        }
    }
    watch.instruments.wait_for_search();
    watch.tick();
    assert!(watch.changed);
    let counter = watch.instruments.counters()[0];
    assert_eq!((counter.source, counter.quality), (Source::Model, Quality::Modelled));
    let before = watch.joules();
    assert!(!watch.tick().stale);
    assert!(watch.joules() > before, "the model goes on");
}

#[test]
fn a_thermometer_that_fails_keeps_its_last_value_ages_and_is_replaced() {
    let machine = two_of_each();
    let mut watch = machine.watch("auto");
    machine.write("sys/class/thermal/thermal_zone0/temp", "garbage\n");
    for n in 1..=3 {
        watch.tick();
        let shown = watch.reading.temperature.unwrap();
        assert_eq!((shown.celsius.0, shown.age_ms, shown.source), (51.0, n * 10, Source::ThermalZone));
    }
    watch.instruments.wait_for_search();
    watch.tick();
    assert!(!watch.changed, "the counters are the same");
    let shown = watch.reading.temperature.unwrap();
    assert_eq!((shown.celsius.0, shown.age_ms, shown.source, shown.refresh_ms), (49.0, 0, Source::Hwmon, 1_000));
    assert_eq!(watch.instruments.last_change().unwrap().why, "x86_pkg_temp holds no number");
}

#[test]
fn a_hot_die_does_not_become_cool_by_losing_its_thermometer() {
    for words in ["auto", "model+thermal-zone"] {
        let machine = two_of_each();
        machine.remove("sys/class/hwmon/hwmon0");
        machine.thermal_zone(0, "x86_pkg_temp", 81_000);
        let mut watch = machine.watch(words);
        machine.write("sys/class/thermal/thermal_zone0/temp", "");
        let mut energy = 1_000_000;
        let mut tick = |watch: &mut Watch, ms: u64| {
            energy += 10_000 * ms;
            machine.energy("intel-rapl:0", energy);
            watch.after(ms);
        };
        for _ in 0..3 {
            tick(&mut watch, 10);
        }
        watch.instruments.wait_for_search();
        tick(&mut watch, 10);
        let shown = watch.reading.temperature.unwrap();
        assert_eq!((shown.source, shown.quality), (Source::Model, Quality::Modelled));
        assert!((79.0..=81.0).contains(&shown.celsius.0), "{words}: {shown:?}");
        // 10 W warm the modelled die to 35 °C + 6.9 K, whatever it was.
        for _ in 0..3_000 {
            tick(&mut watch, 100);
        }
        assert!((41.0..=42.0).contains(&watch.celsius()), "{words}: {}", watch.celsius());
    }
}

#[test]
fn a_better_source_is_taken_once_it_is_seen_to_move() {
    let machine = two_of_each();
    machine.write("sys/class/powercap/intel-rapl:0/energy_uj", "");
    let mut watch = machine.watch("auto");
    assert_eq!(watch.instruments.energy_source(), Source::Msr);
    machine.energy("intel-rapl:0", 1_000_000);
    let mut count = 1_000;
    let mut ten_seconds = |watch: &mut Watch| {
        for _ in 0..1_001 {
            count += 200;
            machine.register(0, 0x611, count);
            watch.tick();
        }
        assert!(watch.instruments.is_searching());
        watch.instruments.wait_for_search();
        watch.tick();
    };
    ten_seconds(&mut watch);
    assert_eq!(watch.instruments.energy_source(), Source::Msr, "it is there, but does not move");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::os::unix::fs::FileExt as _;
            let path = machine.path("sys/class/powercap/intel-rapl:0/energy_uj");
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            let mut n = 2_000_000;
            while !stop.load(Ordering::Relaxed) {
                n += 1_000;
                file.write_all_at(format!("{n}\n").as_bytes(), 0).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        ten_seconds(&mut watch);
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(watch.instruments.energy_source(), Source::Powercap);
    assert_eq!(watch.instruments.last_change().unwrap().why, "a better one works now");
}

#[test]
fn two_counters_that_stand_still_do_not_take_turns() {
    let machine = two_of_each();
    let mut watch = machine.watch("auto");
    let mut sources = vec![watch.instruments.energy_source()];
    for _ in 0..900 {
        watch.tick();
        watch.instruments.wait_for_search();
        if watch.instruments.energy_source() != sources[sources.len() - 1] {
            sources.push(watch.instruments.energy_source());
        }
    }
    assert_eq!(sources, [Source::Powercap, Source::Msr, Source::Model]);
}

#[test]
fn measured_energy_warms_a_modelled_die() {
    let machine = Fixture::new();
    machine.intel(0x9A, &ONE).zone("intel-rapl:0", "package-0", 0, RANGE_14).energy("intel-rapl:0", 1);
    let mut watch = machine.watch("powercap+model");
    // 60 W for ten minutes.
    let mut energy = 1;
    for _ in 0..6_000 {
        energy += 6_000_000;
        machine.energy("intel-rapl:0", energy);
        watch.after(100);
    }
    assert_eq!(watch.instruments.counters()[0].quality, Quality::Measured);
    let shown = watch.reading.temperature.unwrap();
    assert_eq!((shown.source, shown.quality), (Source::Model, Quality::Modelled));
    // 35 °C and 60 W × 0.69 K/W, in whole degrees.
    assert!((shown.celsius.0 - 76.0).abs() < 1e-9, "{shown:?}");
}

#[test]
fn modelled_energy_stands_beside_a_measured_die() {
    let machine = Fixture::new();
    machine.thermal_zone(0, "x86_pkg_temp", 63_000);
    let mut watch = machine.watch("auto");
    watch.after(1_000);
    let (counter, shown) = (watch.instruments.counters()[0], watch.reading.temperature.unwrap());
    assert_eq!((counter.source, counter.quality), (Source::Model, Quality::Modelled));
    assert_eq!((shown.source, shown.quality, shown.celsius), (Source::ThermalZone, Quality::Measured, Celsius(63.0)));
    assert!((watch.joules() - 10.0).abs() < 0.1, "an idle machine of 10 W: {}", watch.joules());
}

#[test]
fn what_is_asked_for_and_does_not_work_is_an_error_with_a_remedy() {
    let machine = Fixture::new();
    machine.intel(0x9A, &ONE);
    let error = |words: &str| machine.try_open(words).unwrap_err().to_string();
    assert_eq!(
        error("powercap"),
        "powercap gives no energy: /sys/class/powercap shows no energy\n  to have it: sudo modprobe intel_rapl_msr   # the \
         kernel's CONFIG_INTEL_RAPL; AMD needs Linux 5.11"
    );
    assert!(error("msr").starts_with(
        "msr gives no energy and no temperature: /dev/cpu/0/msr does not exist\n  to have it: sudo modprobe msr"
    ));
    assert!(error("auto+thermal-zone").starts_with("thermal-zone gives no temperature: "));
    assert!(
        error("file:/nowhere/at/all").contains("/nowhere/at/all does not exist\n  to have it: let the host write it")
    );
    for words in ["auto", "model", "auto+model", "model+auto"] {
        assert_eq!(machine.try_open(words).unwrap().describe(), "model + model");
    }
}

#[test]
fn hwmon_is_had_if_it_gives_one_of_both() {
    let machine = Fixture::new();
    machine.hwmon(0, "coretemp").shows(0, "temp1", "Package id 0", 49_000).thermal_zone(0, "x86_pkg_temp", 51_000);
    assert_eq!(machine.try_open("hwmon").unwrap().describe(), "model + coretemp");
    assert_eq!(machine.try_open("auto").unwrap().describe(), "model + x86_pkg_temp");
}

// ── the host's file ─────────────────────────────────────────────────────────────────────────────────────────────────

fn report(sequence: u64, energy_uj: u64, celsius: f64) -> HostReport {
    HostReport {
        sequence,
        energy_uj: Some(energy_uj),
        celsius: Some(Celsius(celsius)),
        max_power: Watts(500.0),
        ..HostReport::default()
    }
}

fn guest(path: &Path) -> Watch {
    let words = format!("file:{}", path.display());
    let machine = Fixture::new();
    Watch::new(Instruments::open(machine.root(), words.parse().unwrap(), ModelConfig::default()).unwrap())
}

#[test]
fn a_guest_sees_the_hosts_energy_smoothly_and_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("host");
    write(&path, &report(0, 5_000_000, 50.0)).unwrap();
    let mut watch = guest(&path);
    assert_eq!(watch.domains(), ["machine"]);
    // 100 W, written ten times a second by renaming.
    let mut moved = 0;
    for n in 1..=200_u64 {
        if n % 10 == 0 {
            write(&path, &report(n, 5_000_000 + n * 1_000_000, 50.0 + n as f64 / 10.0)).unwrap();
        }
        let before = watch.joules();
        let tick = watch.tick();
        assert!(!tick.gap && !tick.stale);
        moved += u32::from(watch.joules() > before);
    }
    assert!(moved > 180, "it moves at every tick, not at every tenth: {moved}");
    assert_joules(&watch, 200.0);
    assert!((watch.celsius() - 70.0).abs() < 1e-9);
}

#[test]
fn a_writer_that_died_is_seen_as_age_and_then_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("host");
    write(&path, &report(0, 0, 50.0)).unwrap();
    let mut watch = guest(&path);
    for n in 1..=3 {
        write(&path, &report(n, n * 10_000_000, 50.0)).unwrap();
        watch.after(100);
    }
    let mut stale = false;
    for n in 1..=115 {
        stale = watch.tick().stale;
        assert_eq!(watch.reading.temperature.unwrap().age_ms, n * 10);
        assert!(watch.joules() <= 30.0 + 30.0 + 1e-6, "it is bridged for three renewals and no longer");
        if watch.instruments.is_searching() {
            break;
        }
    }
    assert!(stale && watch.instruments.is_searching());
    watch.instruments.wait_for_search();
    watch.tick();
    assert!(watch.changed);
    // The file can still be read, but what it says is old: it is not believed again before something new is written.
    let modelled = |watch: &mut Watch, ticks: u32| {
        for _ in 0..ticks {
            assert_eq!(watch.instruments.energy_source(), Source::Model);
            assert_eq!(watch.instruments.thermometer_source(), Source::Model);
            watch.tick();
        }
        assert!(watch.instruments.is_searching());
    };
    modelled(&mut watch, 1_001);
    watch.instruments.wait_for_search();
    watch.tick();
    modelled(&mut watch, 1_001);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in (10..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                write(&path, &report(n, 30_000_000 + n * 100_000, 55.0)).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        watch.instruments.wait_for_search();
        stop.store(true, Ordering::Relaxed);
    });
    watch.tick();
    assert_eq!(watch.instruments.energy_source(), Source::File);
    assert_eq!(watch.instruments.thermometer_source(), Source::File);
    assert!((watch.celsius() - 55.0).abs() < 1e-9);
}

#[test]
fn what_a_host_models_is_never_shown_as_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("host");
    write(&path, &report(0, 0, 50.0)).unwrap();
    let mut watch = guest(&path);
    for n in 1..=3 {
        write(&path, &HostReport { quality: Quality::Modelled, ..report(n, n * 1_000_000, 50.0) }).unwrap();
        watch.after(100);
        assert_eq!(watch.reading.counters[0].raw, None);
    }
    watch.instruments.wait_for_search();
    watch.tick();
    assert!(watch.instruments.counters().iter().all(|counter| counter.quality == Quality::Modelled));
}

// ── hostile content ─────────────────────────────────────────────────────────────────────────────────────────────────

/// What a broken or hostile file may hold.
fn rubbish() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        Just(None),
        Just(Some(Vec::new())),
        Just(Some(b"-1\n".to_vec())),
        Just(Some(b"99999999999999999999999999\n".to_vec())),
        Just(Some(b"18446744073709551615\n".to_vec())),
        Just(Some(b"0\n".to_vec())),
        Just(Some(vec![0xFF; 5_000])),
        prop::collection::vec(any::<u8>(), 0..64).prop_map(Some),
        any::<u64>().prop_map(|number| Some(format!("{number}\n").into_bytes())),
        any::<u64>().prop_map(|word| Some(word.to_le_bytes().to_vec())),
    ]
}

fn large() -> Fixture {
    let machine = Fixture::new();
    let cores = [(0, 0), (1, 0)];
    machine.intel(0x55, &cores).pmu("0-1", &[("energy-pkg", 2), ("energy-ram", 3)]);
    for cpu in 0..2 {
        machine.event(2, cpu, 0).event(3, cpu, 0);
        machine.register(cpu, 0x606, 0x000A_0E03).register(cpu, 0x611, 5_000).register(cpu, 0x619, 5_000);
        machine.register(cpu, 0x1A2, 100 << 16).register(cpu, 0x1B1, 1 << 31 | 40 << 16);
    }
    machine.zone("intel-rapl:0", "package-0", 1_000_000, RANGE_14).zone(
        "intel-rapl:1",
        "package-1",
        2_000_000,
        RANGE_14,
    );
    machine.zone("intel-rapl:0:0", "dram", 1_000_000, RANGE_14).zone("intel-rapl:2", "psys", 7_000_000, RANGE_14);
    machine.thermal_zone(0, "x86_pkg_temp", 51_000).hwmon(0, "coretemp").shows(0, "temp1", "Package id 0", 49_000);
    machine.hwmon(1, "amd_energy").shows(1, "energy1", "Esocket0", 5_000_000);
    machine
}

/// Everything that counts, counts on, unless a file was mangled.
fn count_on(machine: &Fixture, mangled: &Path, n: u64) {
    let write = |path: &str, content: &[u8]| {
        if machine.path(path) != mangled {
            machine.write(path, content);
        }
    };
    for cpu in 0..2 {
        write(&format!("perf/9:2:{cpu}"), &(n << 32).to_le_bytes());
        write(&format!("perf/9:3:{cpu}"), &(n << 30).to_le_bytes());
        write(&format!("dev/cpu/{cpu}/msr/611"), &(5_000 + n * 16_384).to_le_bytes());
    }
    for (zone, base) in [("0", 1_000_000), ("1", 2_000_000), ("0:0", 1_000_000), ("2", 7_000_000)] {
        let path = format!("sys/class/powercap/intel-rapl:{zone}/energy_uj");
        write(&path, format!("{}\n", base + n * 1_000_000).as_bytes());
    }
    write("sys/class/hwmon/hwmon1/energy1_input", format!("{}\n", 5_000_000 + n * 1_000_000).as_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_content_makes_a_panic_or_a_silent_zero(
        which in any::<prop::sample::Index>(),
        content in rubbish(),
        early in any::<bool>(),
        words in prop::sample::select(vec!["auto", "powercap", "msr", "hwmon", "auto+hwmon"]),
    ) {
        let machine = large();
        let mangled = which.get(&machine.files()).clone();
        let mangle = || match &content {
            Some(content) => std::fs::write(&mangled, content).unwrap(),
            None => std::fs::remove_file(&mangled).unwrap(),
        };
        if early {
            mangle();
        }
        drop(survey(&machine.root(), None));
        let Ok(instruments) = machine.try_open(words) else { return Ok(()) };
        let mut watch = Watch::new(instruments);
        if !early {
            mangle();
        }
        let mut silent_ms = 0;
        for n in 1..=60 {
            // 50 ms a tick, 1 J a counter: 20 W.
            count_on(&machine, &mangled, n);
            let before = watch.joules();
            let tick = watch.after(50);
            let joules = watch.joules() - before;
            prop_assert!(joules < 150.0, "a spike of {joules} J");
            silent_ms = if joules > 0.0 || tick.stale || tick.gap || watch.changed { 0 } else { silent_ms + 50 };
            prop_assert!(silent_ms <= 250, "no energy for {silent_ms} ms, and nobody says so");
            let shown = watch.reading.temperature;
            prop_assert!(shown.is_none_or(|shown| (-40.0..=150.0).contains(&shown.celsius.0)));
            watch.instruments.wait_for_search();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_report_or_an_error(
        head in prop::sample::select(vec!["", "maxwell-sensor 1\n", "maxwell-sensor 1\nsequence=1\ncelsius=5\n"]),
        tail in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "([a-z_]{0,12}=[-0-9.eNaninf]{0,20}\n){0,6}".prop_map(String::into_bytes),
        ],
    ) {
        let mut bytes = head.as_bytes().to_vec();
        bytes.extend(tail);
        if let Ok(report) = HostReport::parse(&bytes) {
            prop_assert!(bytes.starts_with(b"maxwell-sensor 1"));
            prop_assert!(report.energy_uj.is_some() || report.celsius.is_some_and(|celsius| celsius.0.is_finite()));
        }
    }
}

// ── this machine ────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn this_machine_is_surveyed_quickly_and_auto_always_works() {
    let root = Root::machine();
    let quickest = (0..5).map(|_| survey(&root, None).took_us).min().unwrap();
    assert!(quickest < 50_000, "{quickest} µs");
    let found = survey(&root, None);
    for finding in found.energy.iter().chain(&found.temperature) {
        assert_eq!(finding.state == State::Usable, finding.obstacle.is_none(), "{finding:?}");
    }
    let text = serde_json::to_string(&found).unwrap();
    assert!(text.contains(r#""source":"powercap","kind":"powercap","state":""#), "{text}");
    let mut instruments = Instruments::open(root, Choice::default(), ModelConfig::default()).unwrap();
    assert_eq!(instruments.energy_source(), found.best_energy());
    assert_eq!(instruments.thermometer_source(), found.best_temperature());
    let mut reading = Reading::default();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(10));
        instruments.read(&Activity { elapsed_us: 10_000, ..Activity::default() }, &mut reading);
    }
    assert!(reading.counters.iter().all(|counter| counter.raw.is_some()));
    assert!(reading.temperature.is_some());
}

#[test]
fn a_tree_is_never_mistaken_for_this_machine() {
    let machine = Fixture::new();
    assert_eq!(machine.root().number("proc/cpuinfo"), Err(ReadError::Missing));
    assert!(!machine.root().is_machine() && Root::machine().is_machine());
}
