//! One test for each way in which thermometers are known to mislead.

#![allow(clippy::unwrap_used, reason = "a failure to unwrap is a failure of the test")]

mod fixture;

use fixture::Fixture;
use maxwell_core::sensor::{Quality, Source};
use maxwell_physics::survey;

const TWO: [(u32, u32); 2] = [(0, 0), (1, 0)];
const VALID: u64 = 1 << 31;

/// Every thermometer there is, each showing something else.
fn everything() -> Fixture {
    let machine = Fixture::new();
    machine.intel(0x55, &TWO);
    for (cpu, below) in [(0, 50), (1, 43)] {
        machine.register(cpu, 0x1A2, 100 << 16).register(cpu, 0x1B1, VALID | below << 16);
    }
    machine.thermal_zone(0, "acpitz", 27_800).thermal_zone(1, "x86_pkg_temp", 51_000).thermal_zone(
        2,
        "x86_pkg_temp",
        58_000,
    );
    machine.thermal_zone(3, "cpu-thermal", 61_000).thermal_zone(4, "gpu-thermal", 90_000);
    machine.hwmon(0, "k10temp").shows(0, "temp1", "Tctl", 79_000).shows(0, "temp2", "Tdie", 52_000);
    machine.hwmon(1, "coretemp").shows(1, "temp1", "Package id 0", 53_000).shows(1, "temp2", "Core 0", 55_000);
    machine
}

#[test]
fn the_ladder_of_thermometers() {
    let machine = everything();
    let rungs = [
        ("msr", 57.0, 1, "dev/cpu/0/msr/1b1"),
        ("x86_pkg_temp", 58.0, 1, "sys/class/thermal/thermal_zone1"),
        ("k10temp", 52.0, 1, "sys/class/hwmon/hwmon0"),
        ("coretemp", 53.0, 1_000, "sys/class/hwmon/hwmon1"),
        ("cpu-thermal", 61.0, 1, "sys/class/thermal/thermal_zone3"),
        ("acpitz", 27.8, 1, "sys/class/thermal/thermal_zone0"),
    ];
    for (kind, celsius, refresh_ms, path) in rungs {
        let watch = machine.watch("auto");
        assert_eq!(watch.instruments.describe(), format!("model + {kind}"));
        let shown = watch.reading.temperature.unwrap();
        assert!((shown.celsius.0 - celsius).abs() < 1e-9, "{kind}: {shown:?}");
        assert_eq!((shown.refresh_ms, shown.age_ms), (refresh_ms, 0));
        let quality = if kind == "acpitz" { Quality::Filtered } else { Quality::Measured };
        assert_eq!(shown.quality, quality);
        machine.remove(path);
        if kind == "x86_pkg_temp" {
            machine.remove("sys/class/thermal/thermal_zone2");
        }
    }
    let watch = machine.watch("auto");
    assert_eq!(watch.reading.temperature.unwrap().source, Source::Model);
}

#[test]
fn the_hottest_socket_counts() {
    let machine = everything();
    let mut watch = machine.watch("msr");
    assert!((watch.celsius() - 57.0).abs() < 1e-9);
    machine.register(0, 0x1B1, VALID | 20 << 16);
    watch.tick();
    assert!((watch.celsius() - 80.0).abs() < 1e-9);
}

#[test]
fn a_readout_that_is_not_valid_is_no_temperature() {
    let machine = everything();
    machine.register(1, 0x1B1, 43 << 16);
    assert_eq!(machine.watch("auto").instruments.describe(), "model + x86_pkg_temp");
    let machine = everything();
    machine.register(0, 0x1A2, 0);
    assert_eq!(machine.watch("auto").instruments.describe(), "model + x86_pkg_temp", "TjMax is not known");
}

#[test]
fn a_processor_without_a_package_thermometer_shows_its_hottest_core() {
    let machine = Fixture::new();
    machine.intel(0x1A, &[(0, 0), (0, 0), (0, 0)]);
    for (cpu, below) in [(0, 40), (1, 31), (2, 38)] {
        machine.register(cpu, 0x1A2, 100 << 16).register(cpu, 0x19C, VALID | below << 16);
    }
    assert!((machine.watch("msr").celsius() - 69.0).abs() < 1e-9);
    machine.register(2, 0x19C, 38 << 16);
    assert_eq!(
        machine.watch("auto").instruments.describe(),
        "model + model",
        "a core that shows nothing may be the hottest"
    );
}

#[test]
fn tctl_is_taken_only_where_no_tdie_is_shown_and_says_so() {
    let machine = Fixture::new();
    machine.amd(0x19, 0x21, &[(0, 0)]).hwmon(0, "k10temp").shows(0, "temp1", "Tctl", 60_000);
    assert!((machine.watch("auto").celsius() - 60.0).abs() < 1e-9);
    let found = survey(&machine.root(), None);
    let item = &found.temperature[2].items[0];
    assert!(item.counted && item.note.as_deref().unwrap().contains("27 K above the die"));
    machine.shows(0, "temp2", "Tdie", 50_000).shows(0, "temp3", "Tccd1", 55_000);
    assert!((machine.watch("auto").celsius() - 50.0).abs() < 1e-9);
}

#[test]
fn coretemp_without_a_package_takes_the_hottest_core() {
    let machine = Fixture::new();
    machine.hwmon(0, "coretemp").shows(0, "temp2", "Core 0", 41_000).shows(0, "temp3", "Core 1", 47_000);
    assert!((machine.watch("auto").celsius() - 47.0).abs() < 1e-9);
}

#[test]
fn impossible_temperatures_are_refused() {
    for thousandths in [-273_200, 200_000, 255_000_000, i64::MIN + 1] {
        let machine = Fixture::new();
        machine.thermal_zone(0, "x86_pkg_temp", thousandths);
        assert_eq!(machine.watch("auto").instruments.thermometer_source(), Source::Model);
    }
}

#[test]
fn several_clusters_of_a_board_and_its_names() {
    let machine = Fixture::new();
    machine.thermal_zone(0, "bigcore0-thermal", 48_000).thermal_zone(1, "littlecore-thermal", 44_000);
    machine.thermal_zone(2, "gpu-thermal", 80_000).thermal_zone(3, "soc_thermal", 46_000);
    assert!((machine.watch("auto").celsius() - 48.0).abs() < 1e-9);
}

#[test]
fn a_value_that_stands_still_is_not_old() {
    let machine = Fixture::new();
    machine.thermal_zone(0, "x86_pkg_temp", 51_000);
    let mut watch = machine.watch("auto");
    for _ in 0..1_000 {
        watch.tick();
        assert_eq!(watch.reading.temperature.unwrap().age_ms, 0);
    }
    assert_eq!(watch.instruments.thermometer_source(), Source::ThermalZone);
}

#[test]
fn throttle_bits_are_told() {
    let machine = everything();
    machine.register(1, 0x1B1, VALID | 0b100_0000_1110);
    let throttling = survey(&machine.root(), None).throttling;
    assert_eq!(throttling.len(), 2);
    assert_eq!(throttling[0], maxwell_physics::sensors::Throttling::default());
    let hot = throttling[1];
    assert_eq!((hot.package, hot.hot, hot.was_hot, hot.prochot, hot.was_prochot), (1, false, true, true, true));
    assert!(hot.power_limited && !hot.critical);
}
