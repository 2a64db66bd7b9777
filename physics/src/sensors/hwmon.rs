//! `/sys/class/hwmon`: thermometers of every processor, and AMD's energy where a driver for it is loaded.
//!
//! ```text
//!  hwmon2  name amd_energy   energy129_label Esocket0   energy129_input 73500123456 (µJ)   Ecore… are parts of it
//!  hwmon3  name k10temp      temp1_label Tctl (what the fan follows; up to 27 K above the die)   temp2_label Tdie
//!  hwmon4  name coretemp     temp1_label Package id 0   temp2_label Core 0 …   read once a second by the driver
//! ```
//!
//! * The driver amd_energy makes one `Esocket` a **NUMA node** (`num_possible_nodes`), each of which shows its socket's
//!   counter: with four nodes a socket the sum would be four times too much. A node's first core tells its socket, and nodes
//!   of one socket are dies that may be mirrors.
//! * It multiplies before it divides, in 64 bits: at 2⁻¹⁶ J a count of microjoules **wraps after 2⁴⁸ − 1**, sixteen days at
//!   200 W.
//! * coretemp keeps a value for a second (`drivers/hwmon/coretemp.c`), too old to hold a temperature with; it comes last.
//! * k10temp's `Tctl` has an offset on some Ryzen and Threadripper parts; `Tdie` is the die wherever it is shown.

use maxwell_core::sensor::{CounterSpec, Quality, Source};

use super::bank::{Bank, Port, dead};
use super::dedupe::{Candidate, Kind, dedupe};
use super::finding::{Attempt, Item, Obstacle};
use super::processor::Processor;
use super::rapl::Limits;
use super::root::{ReadError, Root, cpu_list};
use super::thermometer::{Eye, Thermometer};

const FOLDER: &str = "sys/class/hwmon";
const REMEDY: &str = "sudo chmod a+r /sys/class/hwmon/hwmon*/energy*_input   # until the next boot";
/// Where the driver's product overflows, in microjoules, at the energy unit of every AMD processor.
const WRAP: u64 = (1 << 48) - 1;
/// No chip has more of one kind.
const MOST_CPUS: usize = 4_096;

/// The folders of chips with one of these names.
fn chips(root: &Root, names: &[&str]) -> Vec<(String, String)> {
    root.names(FOLDER)
        .into_iter()
        .filter_map(|chip| {
            let folder = format!("{FOLDER}/{chip}");
            let name = root.text(&format!("{folder}/name")).ok()?;
            names.contains(&name.as_str()).then_some((folder, name))
        })
        .collect()
}

/// The files of a chip of one kind (`temp`, `energy`): path of the value, and its label.
fn inputs(root: &Root, folder: &str, kind: &str) -> Vec<(String, String)> {
    root.names(folder)
        .into_iter()
        .filter_map(|file| {
            let number = file.strip_prefix(kind)?.strip_suffix("_input")?;
            number.parse::<u32>().ok()?;
            let label = root.text(&format!("{folder}/{kind}{number}_label")).unwrap_or_default();
            Some((format!("{folder}/{file}"), label))
        })
        .collect()
}

/// Looks for a driver that shows the energy of sockets.
pub(crate) fn attempt(root: &Root, processor: &Processor) -> Attempt<Bank> {
    let (source, kind) = (Source::Hwmon, "amd_energy");
    let chips = chips(root, &["amd_energy", "zenergy"]);
    if chips.is_empty() {
        let reason = format!("no driver in /{FOLDER} shows energy");
        return Attempt::absent(source, kind, Obstacle::new(reason, None));
    }
    match build(root, processor, &chips) {
        Ok((bank, items)) => Attempt::usable(source, kind, items, bank),
        Err((items, obstacle)) => Attempt::unusable(source, kind, items, obstacle),
    }
}

fn build(
    root: &Root,
    processor: &Processor,
    chips: &[(String, String)],
) -> Result<(Bank, Vec<Item>), (Vec<Item>, Obstacle)> {
    let mut candidates = Vec::new();
    let mut items = Vec::new();
    for (path, label) in chips.iter().flat_map(|(folder, _)| inputs(root, folder, "energy")) {
        let Some(node) = label.strip_prefix("Esocket").and_then(|node| node.parse::<u32>().ok()) else {
            // A machine has hundreds of cores: not worth an item each.
            continue;
        };
        let kind = Kind::Package { socket: socket_of_node(root, processor, node), die: node };
        match root.keep(&path).and_then(|kept| kept.number().map(|now| (kept, now))) {
            Ok((kept, now)) => {
                let max = if now <= WRAP { WRAP } else { u64::MAX };
                candidates.push(Candidate { name: label, path, kind, twin: false, port: (Port::Number(kept), max) });
            }
            Err(error) => return Err((items, Obstacle::file(&path, error, REMEDY))),
        }
    }
    let (mut kept, dropped) = dedupe(candidates, |(a, _), (b, _)| a.mirrors(b));
    items.extend(dropped);
    if let Some(path) = dead(&mut kept, &mut items, |(port, _)| port.is_dead()) {
        return Err((items, Obstacle::new(format!("/{path} shows zero all the time"), None)));
    }
    if kept.is_empty() {
        return Err((items, Obstacle::new(format!("no socket in /{FOLDER} shows energy"), None)));
    }
    let limits = Limits::read(root, processor);
    let mut channels = Vec::new();
    for (domain, candidate) in kept {
        items.push(Item::counted(&candidate.name, &candidate.path));
        let (port, max) = candidate.port;
        channels.push(limits.channel(domain, Source::Hwmon, CounterSpec::microjoules(max), port, 1));
    }
    Ok((Bank::new(Source::Hwmon, channels), items))
}

/// The socket of a NUMA node's first core; machines that show no nodes have one a socket.
fn socket_of_node(root: &Root, processor: &Processor, node: u32) -> u32 {
    let cpus = root.text(&format!("sys/devices/system/node/node{node}/cpulist"));
    let first = cpus.and_then(|text| cpu_list(&text, MOST_CPUS)).ok().and_then(|cpus| cpus.first().copied());
    let Some(cpu) = first else { return node };
    let package = root.number(&format!("sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id")).ok();
    let package = package.and_then(|package| u32::try_from(package).ok());
    package.or_else(|| processor.lead(cpu).map(|lead| lead.package)).unwrap_or(node)
}

/// Looks for AMD's thermometers.
pub(crate) fn k10temp(root: &Root) -> Attempt<Thermometer> {
    let kind = "k10temp";
    thermometers(root, kind, &["k10temp", "zenpower"], 1, |labels| {
        // The die where it is shown; else what the fan follows; else whatever there is.
        let best = ["Tdie", "Tctl"].into_iter().find(|best| labels.iter().any(|label| label == best));
        let note = (best == Some("Tctl")).then_some("may lie up to 27 K above the die; no Tdie is shown");
        (best.map(|best| move |label: &str| label == best), note)
    })
}

/// Looks for Intel's thermometers.
pub(crate) fn coretemp(root: &Root) -> Attempt<Thermometer> {
    thermometers(root, "coretemp", &["coretemp"], 1_000, |labels| {
        let package = |label: &str| label.starts_with("Package id");
        (labels.iter().any(|label| package(label)).then_some(package), Some("the driver keeps each value for a second"))
    })
}

/// Opens the thermometers of all chips with one of these names. `best` picks by label within a chip, and says what to know
/// about them; where it picks nothing, all are taken.
fn thermometers<P: Fn(&str) -> bool>(
    root: &Root,
    kind: &'static str,
    names: &[&str],
    refresh_ms: u32,
    best: impl Fn(&[String]) -> (Option<P>, Option<&'static str>),
) -> Attempt<Thermometer> {
    let source = Source::Hwmon;
    let chips = chips(root, names);
    if chips.is_empty() {
        let reason = format!("no chip in /{FOLDER} is called {}", names.join(" or "));
        return Attempt::absent(source, kind, Obstacle::new(reason, None));
    }
    let (mut items, mut eyes) = (Vec::new(), Vec::new());
    let mut failed = None;
    for (folder, name) in chips {
        let inputs = inputs(root, &folder, "temp");
        let labels: Vec<String> = inputs.iter().map(|(_, label)| label.clone()).collect();
        let (picks, note) = best(&labels);
        for (path, label) in inputs {
            let shown = if label.is_empty() { name.clone() } else { label.clone() };
            if picks.as_ref().is_some_and(|picks| !picks(&label)) {
                items.push(Item::left_out(shown, &path, "a better one is shown beside it"));
                continue;
            }
            match open(root, &path) {
                Ok(eye) => {
                    items.push(Item { note: note.map(str::to_owned), ..Item::counted(shown, &path) });
                    eyes.push(eye);
                }
                Err(error) => {
                    items.push(Item::left_out(shown, &path, error.to_string()));
                    failed.get_or_insert_with(|| {
                        Obstacle::file(&path, error, "sudo chmod a+r /sys/class/hwmon/hwmon*/temp*_input")
                    });
                }
            }
        }
    }
    if eyes.is_empty() {
        let obstacle =
            failed.unwrap_or_else(|| Obstacle::new(format!("/{FOLDER} shows no temperature of {kind}"), None));
        return Attempt::unusable(source, kind, items, obstacle);
    }
    Attempt::usable(source, kind, items, Thermometer::new(source, kind, Quality::Measured, refresh_ms, eyes))
}

/// Opens a file of thousandths of a degree that shows something possible.
pub(crate) fn open(root: &Root, path: &str) -> Result<Eye, ReadError> {
    let mut eye = Eye::Thousandths(root.keep(path)?);
    eye.celsius(0).map(|_| eye)
}
