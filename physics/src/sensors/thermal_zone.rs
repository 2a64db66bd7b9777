//! `/sys/class/thermal`: temperatures by the name of their zone.
//!
//! ```text
//!  1  x86_pkg_temp                     reads register 0x1B1 at every look (drivers/thermal/intel/x86_pkg_temp_thermal.c)
//!  2  cpu-thermal, cpu0-thermal,       boards without hwmon; several clusters: the hottest counts
//!     soc_thermal, bigcore0-thermal …
//!  3  acpitz                           what firmware calls a temperature: often the board's, sometimes a constant;
//!                                      only where there is nothing else, and labelled filtered
//! ```

use maxwell_core::sensor::{Quality, Source};

use super::finding::{Attempt, Item, Obstacle};
use super::hwmon::open;
use super::root::Root;
use super::thermometer::Thermometer;

const FOLDER: &str = "sys/class/thermal";
const REMEDY: &str = "sudo chmod a+r /sys/class/thermal/thermal_zone*/temp";

/// Looks for Intel's package zones.
pub(crate) fn package(root: &Root) -> Attempt<Thermometer> {
    zones(root, "x86_pkg_temp", Quality::Measured, |name| name == "x86_pkg_temp", None)
}

/// Looks for zones that a processor or a system on a chip is called by.
pub(crate) fn processor(root: &Root) -> Attempt<Thermometer> {
    let is_processor = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["cpu", "soc", "core"].iter().any(|part| name.contains(part)) && !name.contains("gpu")
    };
    zones(root, "cpu-thermal", Quality::Measured, is_processor, None)
}

/// Looks for the firmware's zones.
pub(crate) fn firmware(root: &Root) -> Attempt<Thermometer> {
    let note = Some("the firmware's idea of a temperature: perhaps the board's, not the die's");
    zones(root, "acpitz", Quality::Filtered, |name| name == "acpitz", note)
}

fn zones(
    root: &Root,
    kind: &'static str,
    quality: Quality,
    wanted: impl Fn(&str) -> bool,
    note: Option<&str>,
) -> Attempt<Thermometer> {
    let source = Source::ThermalZone;
    let (mut items, mut eyes) = (Vec::new(), Vec::new());
    let mut failed = None;
    for zone in root.names(FOLDER) {
        if !zone.starts_with("thermal_zone") {
            continue;
        }
        let Ok(name) = root.text(&format!("{FOLDER}/{zone}/type")) else { continue };
        if !wanted(&name) {
            continue;
        }
        let path = format!("{FOLDER}/{zone}/temp");
        match open(root, &path) {
            Ok(eye) => {
                items.push(Item { note: note.map(str::to_owned), ..Item::counted(name, &path) });
                eyes.push(eye);
            }
            Err(error) => {
                items.push(Item::left_out(name, &path, error.to_string()));
                failed.get_or_insert_with(|| Obstacle::file(&path, error, REMEDY));
            }
        }
    }
    match failed {
        _ if !eyes.is_empty() => Attempt::usable(source, kind, items, Thermometer::new(source, kind, quality, 1, eyes)),
        Some(obstacle) => Attempt::unusable(source, kind, items, obstacle),
        None => Attempt::absent(source, kind, Obstacle::new(format!("/{FOLDER} has no zone {kind}"), None)),
    }
}
