//! `/sys/class/powercap`: the same counters as files of microjoules.
//!
//! ```text
//!  intel-rapl:0     name package-0            energy_uj 123456   max_energy_range_uj 262143328850   constraint_0_max_power_uw …
//!  intel-rapl:0:0   name core                 part of package-0
//!  intel-rapl:0:1   name dram
//!  intel-rapl:1     name psys                 not socket 1
//!  intel-rapl:2     name package-1            socket 1
//!  intel-rapl-mmio:0  name package-0          the same counter through another door
//! ```
//!
//! Numbers in folder names say nothing; `name` says everything. `package-0-die-1` is a die of socket 0. Since
//! CVE-2020-8694 only root may read `energy_uj`; everything beside it is readable.

use maxwell_core::sensor::{CounterSpec, Source};

use super::bank::{Bank, Port, dead};
use super::dedupe::{Candidate, Kind, dedupe};
use super::finding::{Attempt, Item, Obstacle};
use super::processor::Processor;
use super::rapl::Limits;
use super::root::{ReadError, Root};

const FOLDER: &str = "sys/class/powercap";
const REMEDY: &str =
    "sudo chmod a+r /sys/class/powercap/*/energy_uj   # until the next boot; docs/sensors.md has a udev rule";

/// A zone, as its folder says.
struct Zone {
    folder: String,
    name: String,
    kind: Kind,
    twin: bool,
}

/// All zones.
fn zones(root: &Root) -> Vec<Zone> {
    let name = |folder: &str| root.text(&format!("{FOLDER}/{folder}/name")).ok();
    let mut zones = Vec::new();
    for folder in root.names(FOLDER) {
        let Some((door, number)) = folder.split_once(':') else { continue };
        if !door.starts_with("intel-rapl") {
            continue;
        }
        let Some(zone) = name(&folder) else { continue };
        // `0:1` is inside `0`.
        let parent = number.rsplit_once(':').and_then(|(outer, _)| name(&format!("{door}:{outer}")));
        let inside = parent.as_deref().and_then(package);
        let kind = match (zone.as_str(), package(&zone), inside) {
            (_, Some((socket, die)), _) => Kind::Package { socket, die },
            ("psys", ..) => Kind::Platform,
            ("dram", _, Some((socket, die))) => Kind::Dram { socket, die },
            _ => Kind::Part,
        };
        let shown = parent.map_or_else(|| zone.clone(), |parent| format!("{zone} of {parent}"));
        zones.push(Zone { twin: door == "intel-rapl-mmio", folder, name: shown, kind });
    }
    zones
}

/// The socket and die in `package-0` or `package-0-die-1` (drivers/powercap/intel_rapl_common.c).
fn package(name: &str) -> Option<(u32, u32)> {
    let number = name.strip_prefix("package-")?;
    match number.split_once("-die-") {
        Some((socket, die)) => Some((socket.parse().ok()?, die.parse().ok()?)),
        None => Some((number.parse().ok()?, 0)),
    }
}

/// The largest thermal design power, and the largest limit in force, of any package, in watts; zero where none is told.
/// Constraint 0's maximum is the thermal design power (`THERMAL_SPEC_POWER`), constraint 1's the most the part may draw.
pub(crate) fn package_power(root: &Root) -> (f64, f64) {
    let (mut tdp, mut limit) = (0.0_f64, 0.0_f64);
    for zone in zones(root).into_iter().filter(|zone| matches!(zone.kind, Kind::Package { .. })) {
        let watts = |file: &str| {
            let microwatts = root.number(&format!("{FOLDER}/{}/{file}", zone.folder)).unwrap_or(0);
            // Some firmware sets no limit by setting an absurd one.
            if microwatts < 10_000_000_000 { microwatts as f64 * 1e-6 } else { 0.0 }
        };
        tdp = tdp.max(watts("constraint_0_max_power_uw"));
        for file in ["constraint_0_power_limit_uw", "constraint_1_power_limit_uw", "constraint_1_max_power_uw"] {
            limit = limit.max(watts(file));
        }
    }
    (tdp, limit)
}

/// Looks for zones and opens those that are added up.
pub(crate) fn attempt(root: &Root, processor: &Processor) -> Attempt<Bank> {
    let (source, kind) = (Source::Powercap, "powercap");
    let zones = zones(root);
    if zones.is_empty() {
        let reason = format!("/{FOLDER} shows no energy");
        let remedy = (!processor.hypervisor)
            .then_some("sudo modprobe intel_rapl_msr   # the kernel's CONFIG_INTEL_RAPL; AMD needs Linux 5.11");
        return Attempt::absent(source, kind, Obstacle::new(reason, remedy));
    }
    match build(root, processor, zones) {
        Ok((bank, items)) => Attempt::usable(source, kind, items, bank),
        Err((items, obstacle)) => Attempt::unusable(source, kind, items, obstacle),
    }
}

fn build(root: &Root, processor: &Processor, zones: Vec<Zone>) -> Result<(Bank, Vec<Item>), (Vec<Item>, Obstacle)> {
    let mut candidates = Vec::new();
    let mut items = Vec::new();
    let mut obstacles = Vec::new();
    for Zone { folder, name, kind, twin } in zones {
        let path = format!("{FOLDER}/{folder}/energy_uj");
        let range = format!("{FOLDER}/{folder}/max_energy_range_uj");
        let counter = root.keep(&path).and_then(|kept| kept.number().map(|_| kept)).and_then(|kept| {
            // Without its range, where it wraps is not known.
            let max = root.number(&range)?;
            // The count wraps where its register does, one unit after the largest count; powercap's unit is the range over
            // 2³² (drivers/powercap/intel_rapl_common.c, get_max_energy_counter).
            if max == 0 { Err(ReadError::Impossible) } else { Ok((Port::Number(kept), max.saturating_add(max >> 32))) }
        });
        match counter {
            Ok(port) => candidates.push(Candidate { name, path, kind, twin, port }),
            Err(error) => {
                if matches!(kind, Kind::Package { .. } | Kind::Platform) {
                    obstacles.push((kind, Obstacle::file(&path, error, REMEDY)));
                }
                items.push(Item::left_out(name, &path, error.to_string()));
            }
        }
    }
    let (mut kept, dropped) = dedupe(candidates, |(a, _), (b, _)| a.mirrors(b));
    items.extend(dropped);
    // A package that cannot be read is missing in the sum, unless its twin can. The board is only missed where it is all.
    let missing = obstacles.into_iter().find(|(kind, _)| match kind {
        Kind::Platform => kept.is_empty(),
        kind => !kept.iter().any(|(_, candidate)| candidate.kind == *kind),
    });
    if let Some((_, obstacle)) = missing {
        return Err((items, obstacle));
    }
    if let Some(path) = dead(&mut kept, &mut items, |(port, _)| port.is_dead()) {
        return Err((items, Obstacle::new(format!("/{path} shows zero all the time"), None)));
    }
    if kept.is_empty() {
        return Err((items, Obstacle::new(format!("/{FOLDER} shows no package and no psys"), None)));
    }
    let limits = Limits::read(root, processor);
    let mut channels = Vec::new();
    for (domain, candidate) in kept {
        items.push(Item::counted(&candidate.name, &candidate.path));
        let (port, max) = candidate.port;
        channels.push(limits.channel(domain, Source::Powercap, CounterSpec::microjoules(max), port, 1));
    }
    Ok((Bank::new(Source::Powercap, channels), items))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_packages() {
        assert_eq!(package("package-1"), Some((1, 0)));
        assert_eq!(package("package-1-die-3"), Some((1, 3)));
        assert_eq!((package("psys"), package("package-"), package("package-x-die-0")), (None, None, None));
    }
}
