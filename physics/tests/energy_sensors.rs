//! One test for each way in which energy counters are known to mislead; each asserts the total that is right.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a failure to unwrap is a failure of the test"
)]

mod fixture;

use fixture::{Fixture, RANGE_14, RANGE_16, assert_joules};
use maxwell_core::sensor::{Quality, Sensor as _, Source};
use maxwell_physics::sensors::{ReadError, State};
use maxwell_physics::survey;

const ONE: [(u32, u32); 1] = [(0, 0)];
const TWO: [(u32, u32); 2] = [(0, 0), (1, 0)];

// ── powercap ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn powercap_wraps_where_its_range_says() {
    for range in [RANGE_14, RANGE_16] {
        let machine = Fixture::new();
        machine.intel(0x55, &ONE).zone("intel-rapl:0", "package-0", range - 400_000, range);
        let mut watch = machine.watch("auto");
        assert_eq!(watch.instruments.energy_source(), Source::Powercap);
        for (energy_uj, joules) in [(range, 0.4), (599_990, 1.0), (1_599_990, 2.0)] {
            machine.energy("intel-rapl:0", energy_uj);
            let tick = watch.tick();
            assert!(!tick.gap && !tick.stale);
            assert_joules(&watch, joules);
        }
    }
}

#[test]
fn no_unit_is_lost_at_powercaps_wraps() {
    // What the kernel makes of a 32-bit register at 2⁻¹⁴ J: it cuts the unit to 61,035 nJ (intel_rapl_common.c).
    let shown = |count: u64| (count & 0xFFFF_FFFF) * 61_035 / 1_000;
    let machine = Fixture::new();
    machine.intel(0x55, &ONE).zone("intel-rapl:0", "package-0", shown(1), shown(0xFFFF_FFFF));
    assert_eq!(shown(0xFFFF_FFFF), RANGE_14);
    let mut watch = machine.watch("powercap");
    let mut count = 1;
    while count < 20 << 32 {
        // About ten kilojoules a minute.
        count += 163_840_001;
        machine.energy("intel-rapl:0", shown(count));
        assert!(!watch.after(60_000).gap);
    }
    let true_uj = i128::from(count - 1) * 61_035 / 1_000;
    let lost_uj = true_uj - i128::try_from(watch.metering.total() / 1_000).unwrap();
    assert!(lost_uj.abs() <= 30, "{lost_uj} µJ in 20 wraps, where a unit is 61");
}

#[test]
fn two_sockets_are_summed_and_psys_at_index_1_is_not_socket_1() {
    let machine = Fixture::new();
    machine.intel(0x55, &TWO);
    machine.zone("intel-rapl:0", "package-0", 1_000_000, RANGE_14);
    machine.zone("intel-rapl:0:0", "dram", 1_000_000, RANGE_16);
    machine.zone("intel-rapl:1", "psys", 9_000_000, RANGE_14);
    machine.zone("intel-rapl:2", "package-1", 1_000_000, RANGE_14);
    machine.zone("intel-rapl:2:0", "dram", 1_000_000, RANGE_16);
    let mut watch = machine.watch("powercap");
    assert_eq!(watch.domains(), ["package-0", "package-1", "dram-0", "dram-1"]);
    machine.energy("intel-rapl:0", 1_500_000).energy("intel-rapl:0:0", 1_100_000).energy("intel-rapl:1", 11_000_000);
    machine.energy("intel-rapl:2", 1_700_000).energy("intel-rapl:2:0", 1_050_000);
    watch.tick();
    assert_joules(&watch, 0.5 + 0.1 + 0.7 + 0.05);
}

#[test]
fn psys_counts_only_where_no_package_is_shown() {
    let machine = Fixture::new();
    machine.intel(0x9A, &ONE).zone("intel-rapl:0", "psys", 5_000_000, RANGE_14);
    let mut watch = machine.watch("auto");
    assert_eq!(watch.domains(), ["platform"]);
    machine.energy("intel-rapl:0", 5_250_000);
    watch.tick();
    assert_joules(&watch, 0.25);
}

#[test]
fn cores_and_graphics_are_inside_the_package() {
    let machine = Fixture::new();
    machine.intel(0x9A, &ONE).zone("intel-rapl:0", "package-0", 1_000_000, RANGE_14);
    machine.zone("intel-rapl:0:0", "core", 1_000_000, RANGE_14).zone("intel-rapl:0:1", "uncore", 1_000_000, RANGE_14);
    let mut watch = machine.watch("auto");
    machine.energy("intel-rapl:0", 1_300_000).energy("intel-rapl:0:0", 1_200_000).energy("intel-rapl:0:1", 1_050_000);
    watch.tick();
    assert_joules(&watch, 0.3);
}

#[test]
fn the_mmio_twin_is_not_added() {
    let machine = Fixture::new();
    machine.intel(0x9A, &ONE).zone("intel-rapl-mmio:0", "package-0", 3_000_000, RANGE_14);
    let alone = machine.watch("auto");
    assert_eq!(alone.domains(), ["package-0"], "where it is the only door, it is taken");
    machine.zone("intel-rapl:0", "package-0", 3_000_000, RANGE_14);
    let mut watch = machine.watch("auto");
    assert_eq!(watch.domains(), ["package-0"]);
    machine.energy("intel-rapl:0", 3_200_000).energy("intel-rapl-mmio:0", 3_200_000);
    watch.tick();
    assert_joules(&watch, 0.2);
}

#[test]
fn dies_that_mirror_their_socket_count_once() {
    let machine = Fixture::new();
    machine.amd(0x17, 0x01, &[(0, 0), (0, 1)]);
    machine.zone("intel-rapl:0", "package-0-die-0", 68_000_000, RANGE_16);
    machine.zone("intel-rapl:1", "package-0-die-1", 68_000_000, RANGE_16);
    let mut watch = machine.watch("auto");
    machine.energy("intel-rapl:0", 68_680_000).energy("intel-rapl:1", 68_680_000);
    watch.tick();
    assert_joules(&watch, 0.68);
}

#[test]
fn dies_of_their_own_are_all_counted() {
    let machine = Fixture::new();
    machine.intel(0x55, &[(0, 0), (0, 1), (1, 0), (1, 1)]);
    let zones = ["package-0-die-0", "package-0-die-1", "package-1-die-0", "package-1-die-1"];
    let zones: Vec<(String, &str)> = (0..).zip(zones).map(|(n, name)| (format!("intel-rapl:{n}"), name)).collect();
    for (n, (folder, name)) in (1..).zip(&zones) {
        machine.zone(folder, name, n * 1_000_000, RANGE_14);
    }
    let mut watch = machine.watch("auto");
    assert_eq!(watch.domains(), ["package-0", "package-1", "package-2", "package-3"]);
    for (n, (folder, _)) in (1..).zip(&zones) {
        machine.energy(folder, n * 1_000_000 + 100_000);
    }
    watch.tick();
    assert_joules(&watch, 0.4);
}

#[test]
fn more_than_four_times_the_design_power_is_a_gap_and_no_spike() {
    let machine = Fixture::new();
    machine.intel(0x55, &ONE).zone("intel-rapl:0", "package-0", 1_000_000, RANGE_14);
    machine.write("sys/class/powercap/intel-rapl:0/constraint_0_max_power_uw", "100000000\n");
    let mut watch = machine.watch("auto");
    assert!((watch.instruments.counters()[0].max_power.0 - 400.0).abs() < 1e-9);
    machine.energy("intel-rapl:0", 2_000_000);
    watch.tick();
    machine.energy("intel-rapl:0", 800_000_000);
    assert!(watch.tick().gap);
    assert_joules(&watch, 1.0);
}

#[test]
fn a_laptop_may_draw_more_than_four_times_its_design_power() {
    let machine = Fixture::new();
    machine.intel(0x9A, &ONE).zone("intel-rapl:0", "package-0", 1_000_000, RANGE_14);
    machine.write("sys/class/powercap/intel-rapl:0/constraint_0_max_power_uw", "15000000\n");
    machine.write("sys/class/powercap/intel-rapl:0/constraint_1_power_limit_uw", "115000000\n");
    let watch = machine.watch("auto");
    assert!((watch.instruments.counters()[0].max_power.0 - 230.0).abs() < 1e-9, "twice the limit in force");
}

#[test]
fn a_socket_that_cannot_be_read_is_not_left_out_of_the_sum() {
    let machine = Fixture::new();
    machine.intel(0x55, &TWO).zone("intel-rapl:0", "package-0", 1_000_000, RANGE_14);
    machine.zone("intel-rapl:1", "package-1", 1_000_000, RANGE_14);
    machine.write("sys/class/powercap/intel-rapl:1/energy_uj", "");
    assert_eq!(machine.try_open("auto").unwrap().energy_source(), Source::Model);
    let error = machine.try_open("powercap").unwrap_err().to_string();
    assert_eq!(error, "powercap gives no energy: /sys/class/powercap/intel-rapl:1/energy_uj holds no number");
}

#[test]
fn sgx_makes_every_door_filtered() {
    let machine = Fixture::new();
    machine.processor("GenuineIntel", 6, 0x6A, "sgx", &ONE).zone("intel-rapl:0", "package-0", 1, RANGE_14);
    assert_eq!(machine.watch("auto").instruments.counters()[0].quality, Quality::Filtered);
    let machine = Fixture::new();
    machine.intel(0x6A, &ONE).zone("intel-rapl:0", "package-0", 1, RANGE_14);
    assert_eq!(machine.watch("auto").instruments.counters()[0].quality, Quality::Measured);
    machine.register(0, 0xBC, 1);
    assert_eq!(machine.watch("auto").instruments.counters()[0].quality, Quality::Filtered);
}

// ── registers ───────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn registers_wrap_after_32_bits_in_units_of_2_to_the_minus_14_and_16() {
    for esu in [14_u64, 16] {
        let machine = Fixture::new();
        let joule = 1_u64 << esu;
        machine.intel(0x9A, &ONE).register(0, 0x606, 0x000A_0003 | esu << 8).register(0, 0x611, (1 << 32) - joule / 4);
        let mut watch = machine.watch("msr");
        assert_eq!(watch.instruments.energy_source(), Source::Msr);
        machine.register(0, 0x611, joule / 4);
        watch.tick();
        assert_joules(&watch, 0.5);
        // Above the 32 bits lies rubbish.
        machine.register(0, 0x611, joule | 0xDEAD_0000_0000_0000);
        watch.tick();
        assert_joules(&watch, 1.25);
    }
}

#[test]
fn amd_counts_64_bits_on_zen_4_servers_and_32_where_it_is_not_known() {
    // 2⁻¹⁶ J; the count passes 2³².
    let before = (1_u64 << 32) - 6_554;
    for (model, watches) in [(0x11, "wide"), (0xA1, "wide"), (0x01, "narrow"), (0x61, "narrow")] {
        let machine = Fixture::new();
        machine.amd(0x19, model, &ONE).register(0, 0xC001_0299, 0x000A_1003).register(0, 0xC001_029B, before);
        let mut watch = machine.watch("msr");
        let max = watch.instruments.counters()[0].spec.max;
        assert_eq!(max, if watches == "wide" { u64::MAX } else { u64::from(u32::MAX) }, "model {model:#x}");
        machine.register(0, 0xC001_029B, before + 2 * 6_554);
        watch.tick();
        // The low half of a wide counter is a good narrow counter.
        assert_joules(&watch, 2.0 * 6_554.0 / 65_536.0);
    }
}

#[test]
fn amds_counter_is_the_sockets_whichever_die_is_asked() {
    let machine = Fixture::new();
    machine.amd(0x17, 0x01, &[(0, 0), (0, 1), (1, 0), (1, 1)]);
    for cpu in 0..4 {
        machine.register(cpu, 0xC001_0299, 0x000A_1003).register(cpu, 0xC001_029B, 1_000);
    }
    let mut watch = machine.watch("msr");
    assert_eq!(watch.domains(), ["package-0", "package-1"]);
    for cpu in 0..4 {
        machine.register(cpu, 0xC001_029B, 1_000 + 6_554);
    }
    watch.tick();
    assert_joules(&watch, 2.0 * 6_554.0 / 65_536.0);
}

#[test]
fn memory_has_a_unit_of_its_own_on_some_servers() {
    // Ice Lake-X and Skylake-X count 2⁻¹⁶ J whatever 0x606 says; Sapphire Rapids does what it says.
    for (model, unit) in [(0x6A, 65_536.0), (0x55, 65_536.0), (0x3F, 65_536.0), (0x57, 65_536.0), (0x8F, 16_384.0)] {
        let machine = Fixture::new();
        machine.intel(model, &ONE).register(0, 0x606, 0x000A_0E03).register(0, 0x611, 77).register(0, 0x619, 1_000);
        let mut watch = machine.watch("msr");
        assert_eq!(watch.domains(), ["package-0", "dram-0"]);
        machine.register(0, 0x619, 2_000).register(0, 0x611, 78);
        watch.tick();
        assert_joules(&watch, 1_000.0 / unit + 1.0 / 16_384.0);
    }
}

#[test]
fn the_board_of_sapphire_rapids_counts_whole_joules() {
    let machine = Fixture::new();
    machine.intel(0x8F, &ONE).register(0, 0x606, 0x000A_0E03).register(0, 0x64D, 1_000);
    let mut watch = machine.watch("msr");
    assert_eq!(watch.domains(), ["platform"]);
    machine.register(0, 0x64D, 1_003);
    watch.tick();
    assert_joules(&watch, 3.0);
    // Other processors count their board in the unit of 0x606.
    let machine = Fixture::new();
    machine.intel(0x9A, &ONE).register(0, 0x606, 0x000A_0E03).register(0, 0x64D, 1_000);
    let mut watch = machine.watch("msr");
    machine.register(0, 0x64D, 1_000 + 16_384);
    watch.tick();
    assert_joules(&watch, 1.0);
}

#[test]
fn the_board_is_not_added_to_packages_and_does_not_stand_in_for_one_socket() {
    let machine = Fixture::new();
    machine.intel(0x8F, &TWO);
    for cpu in 0..2 {
        machine.register(cpu, 0x606, 0x000A_0E03).register(cpu, 0x611, 5).register(cpu, 0x64D, 1_000);
    }
    assert_eq!(machine.watch("msr").domains(), ["package-0", "package-1"]);
    let found = survey(&machine.root(), None);
    let board = found.energy[2].items.iter().find(|item| item.name == "psys").unwrap();
    assert!(!board.counted && board.note.as_deref().unwrap().contains("contains the packages"));
    machine.remove("dev/cpu/1/msr/611");
    assert_eq!(machine.try_open("auto").unwrap().energy_source(), Source::Model, "half a machine is none");
}

#[test]
fn a_register_that_a_hypervisor_answers_with_zero_is_no_counter() {
    let machine = Fixture::new();
    machine
        .processor("GenuineIntel", 6, 0x6A, "hypervisor", &ONE)
        .register(0, 0x606, 0x000A_0E03)
        .register(0, 0x611, 0);
    assert_eq!(machine.try_open("auto").unwrap().energy_source(), Source::Model);
    let found = survey(&machine.root(), None);
    assert_eq!(found.energy[2].state, State::Unusable);
    let reason = &found.energy[2].obstacle.as_ref().unwrap().reason;
    assert!(reason.contains("zero all the time: the hypervisor answers it"), "{reason}");
}

#[test]
fn memory_that_shows_zero_is_left_out_with_a_reason() {
    let machine = Fixture::new();
    machine.intel(0x9A, &ONE).zone("intel-rapl:0", "package-0", 5, RANGE_14).zone(
        "intel-rapl:0:0",
        "dram",
        0,
        RANGE_14,
    );
    assert_eq!(machine.watch("auto").domains(), ["package-0"]);
    let found = survey(&machine.root(), None);
    assert!(found.energy[1].items.iter().any(|item| item.note.as_deref() == Some("shows zero all the time")));
}

// ── perf ────────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn perf_comes_first_and_counts_in_units_of_2_to_the_minus_32_joules() {
    let machine = Fixture::new();
    machine
        .intel(0x55, &TWO)
        .pmu("0-1", &[("energy-pkg", 2), ("energy-ram", 3), ("energy-cores", 1), ("energy-psys", 5)]);
    for cpu in 0..2 {
        machine.event(2, cpu, 0).event(3, cpu, 0).event(5, cpu, 0).event(1, cpu, 0);
    }
    // The same counters through another door are not added.
    machine.zone("intel-rapl:0", "package-0", 5, RANGE_14).zone("intel-rapl:1", "package-1", 5, RANGE_14);
    let mut watch = machine.watch("auto");
    assert_eq!(watch.instruments.energy_source(), Source::Perf);
    assert_eq!(watch.domains(), ["package-0", "package-1", "dram-0", "dram-1"]);
    for cpu in 0..2 {
        machine.event(2, cpu, 1 << 32).event(3, cpu, 1 << 30).event(5, cpu, 1 << 35).event(1, cpu, 1 << 31);
    }
    watch.tick();
    assert_joules(&watch, 2.0 * 1.25);
}

#[test]
fn the_pmu_of_cores_is_not_looked_at() {
    let machine = Fixture::new();
    machine.amd(0x1A, 0x02, &ONE).pmu("0", &[("energy-pkg", 2)]).event(2, 0, 0);
    let cores = "sys/bus/event_source/devices/power_core";
    for (file, content) in [
        ("type", "10"),
        ("cpumask", "0"),
        ("events/energy-core", "event=0x01"),
        ("events/energy-core.unit", "Joules"),
        ("events/energy-core.scale", "2.3283064365386962890625e-10"),
    ] {
        machine.write(&format!("{cores}/{file}"), content);
    }
    machine.write("perf/10:1:0", 0_u64.to_le_bytes());
    let mut watch = machine.watch("auto");
    machine.event(2, 0, 1 << 32);
    machine.write("perf/10:1:0", (1_u64 << 31).to_le_bytes());
    watch.tick();
    assert_joules(&watch, 1.0);
}

#[test]
fn older_kernels_list_a_core_for_each_die_of_amd_and_each_shows_the_socket() {
    let machine = Fixture::new();
    machine.amd(0x17, 0x01, &[(0, 0), (0, 1)]).pmu("0,1", &[("energy-pkg", 2)]).event(2, 0, 0).event(2, 1, 3);
    let mut watch = machine.watch("auto");
    machine.event(2, 0, 1 << 31).event(2, 1, (1 << 31) + 9);
    watch.tick();
    assert_joules(&watch, 0.5);
}

#[test]
fn a_unit_that_is_no_exact_fraction_is_refused_and_the_next_door_taken() {
    let machine = Fixture::new();
    machine.intel(0x55, &ONE).pmu("0", &[("energy-pkg", 2)]).event(2, 0, 0);
    machine.write(
        "sys/bus/event_source/devices/power/events/energy-pkg.scale",
        "0.33333333333333333333333333333333333333333",
    );
    machine.zone("intel-rapl:0", "package-0", 1_000_000, RANGE_14);
    assert_eq!(machine.watch("auto").instruments.energy_source(), Source::Powercap);
    let error = machine.try_open("perf").unwrap_err().to_string();
    assert!(error.contains("events/energy-pkg is not an exact fraction of a joule"), "{error}");
}

// ── hwmon ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn amd_energy_shows_a_socket_for_each_numa_node() {
    let machine = Fixture::new();
    machine.amd(0x17, 0x31, &[(0, 0), (0, 0), (1, 0), (1, 0)]).hwmon(2, "amd_energy");
    for node in 0..4 {
        machine.write(&format!("sys/devices/system/node/node{node}/cpulist"), format!("{node}\n"));
    }
    let show = |a: i64, b: i64| {
        machine
            .shows(2, "energy1", "Ecore000", 500 + a)
            .shows(2, "energy5", "Esocket0", a)
            .shows(2, "energy6", "Esocket1", a);
        machine.shows(2, "energy7", "Esocket2", b).shows(2, "energy8", "Esocket3", b);
    };
    show(10_000_000, 20_000_000);
    let mut watch = machine.watch("auto");
    assert_eq!(watch.instruments.energy_source(), Source::Hwmon);
    assert_eq!(watch.domains(), ["package-0", "package-1"]);
    show(10_400_000, 20_500_000);
    watch.tick();
    assert_joules(&watch, 0.9);
}

#[test]
fn amd_energy_wraps_where_its_product_overflows() {
    let machine = Fixture::new();
    machine.amd(0x17, 0x31, &ONE).hwmon(0, "amd_energy").shows(0, "energy1", "Esocket0", (1 << 48) - 100_000);
    let mut watch = machine.watch("auto");
    machine.shows(0, "energy1", "Esocket0", 400_000);
    assert!(!watch.tick().gap);
    assert_joules(&watch, 0.5);
}

// ── permission ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// Runs as somebody who may read only what everybody may: on a thread of its own, whose file-system identity is
/// nobody's.
fn as_nobody(run: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                // SAFETY: setfsuid(2) concerns this thread alone and touches no memory; the thread ends here.
                unsafe { libc::setfsuid(65_534) };
                run();
            })
            .join()
            .unwrap();
    });
}

#[test]
fn what_only_root_may_read_comes_with_the_line_that_opens_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let machine = Fixture::new();
    machine.intel(0x55, &ONE).zone("intel-rapl:0", "package-0", 1_000_000, RANGE_14);
    machine.pmu("0", &[("energy-pkg", 2)]).event(2, 0, 0).register(0, 0x606, 0x000A_0E03).register(0, 0x611, 7);
    let close = |path: &str| {
        std::fs::set_permissions(machine.path(path), std::fs::Permissions::from_mode(0o000)).unwrap();
    };
    std::fs::set_permissions(machine.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    close("sys/class/powercap/intel-rapl:0/energy_uj");
    close("perf/9:2:0");
    close("dev/cpu/0/msr/606");
    as_nobody(|| {
        if machine.root().number("sys/class/powercap/intel-rapl:0/energy_uj") != Err(ReadError::Denied) {
            eprintln!("skipped: this user may read everything");
            return;
        }
        assert_eq!(machine.try_open("auto").unwrap().energy_source(), Source::Model);
        for (word, remedy) in [("perf", "cap_perfmon"), ("powercap", "chmod a+r"), ("msr+auto", "cap_sys_rawio")] {
            let error = machine.try_open(word).unwrap_err().to_string();
            assert!(error.contains("permission denied") && error.contains(remedy), "{error}");
        }
        let found = survey(&machine.root(), None);
        assert!(found.energy[..3].iter().all(|finding| finding.state == State::Unusable));
        assert!(found.energy[..3].iter().all(|finding| finding.obstacle.as_ref().unwrap().remedy.is_some()));
    });
}
