//! The two ladders, best rung first, and climbing them.
//!
//! ```text
//!   energy        perf ─ powercap ─ msr ─ hwmon ─ file ─┐
//!   temperature   msr ─ x86_pkg_temp ─ k10temp ─ coretemp ─ cpu-thermal ─ file ─ acpitz ─┴─ model
//! ```
//!
//! For energy, perf comes first because the kernel extends the counter to 64 bits and one call reads a whole package;
//! powercap is the same register as text; raw registers are the easiest to read wrongly (Raffin and Trystram, arXiv
//! 2401.15985). For temperature the order is by age: registers and zones are read when asked, coretemp once a second.
//! The model is no rung here: it always works, and stands below both.

use std::path::Path;
use std::time::Duration;

use maxwell_core::sensor::Source;

use super::bank::Bank;
use super::choice::{Choice, Pick};
use super::finding::{Attempt, Finding, State};
use super::processor::Processor;
use super::root::Root;
use super::thermometer::Thermometer;
use super::{file, hwmon, msr, perf, powercap, thermal_zone};

/// How long a counter that stood still once is watched before it is believed again.
const TRIAL: Duration = Duration::from_millis(50);

/// Where energy may come from, best first.
const ENERGY: [Source; 5] = [Source::Perf, Source::Powercap, Source::Msr, Source::Hwmon, Source::File];
/// Where temperature may come from, best first.
const TEMPERATURE: [Source; 7] = [
    Source::Msr,
    Source::ThermalZone,
    Source::Hwmon,
    Source::Hwmon,
    Source::ThermalZone,
    Source::File,
    Source::ThermalZone,
];

fn energy(root: &Root, processor: &Processor, file: Option<&Path>, rung: usize) -> Attempt<Bank> {
    match rung {
        0 => perf::attempt(root, processor),
        1 => powercap::attempt(root, processor),
        2 => msr::attempt(root, processor),
        3 => hwmon::attempt(root, processor),
        _ => file::attempt(file),
    }
}

fn temperature(root: &Root, processor: &Processor, file: Option<&Path>, rung: usize) -> Attempt<Thermometer> {
    match rung {
        0 => msr::thermometer(root, processor),
        1 => thermal_zone::package(root),
        2 => hwmon::k10temp(root),
        3 => hwmon::coretemp(root),
        4 => thermal_zone::processor(root),
        5 => file::thermometer(file),
        _ => thermal_zone::firmware(root),
    }
}

/// What every rung of both ladders finds.
pub(crate) fn findings(root: &Root, processor: &Processor, file: Option<&Path>) -> (Vec<Finding>, Vec<Finding>) {
    (
        (0..ENERGY.len()).map(|rung| energy(root, processor, file, rung).finding).collect(),
        (0..TEMPERATURE.len()).map(|rung| temperature(root, processor, file, rung).finding).collect(),
    )
}

/// Something that stands on a rung. Its rank is its place among the rungs that were asked for: zero is the best.
#[derive(Debug)]
pub(crate) struct Standing<T> {
    pub(crate) rank: usize,
    pub(crate) on: T,
}

/// Which rungs to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// None.
    Nothing,
    /// All.
    Best,
    /// All but this one, which failed; above it only what can be seen to work.
    Without(usize),
    /// Those above this one, and only what can be seen to work.
    Above(usize),
}

/// What a search found: `None` was not looked for, `Some(None)` nothing that works.
type Found<T> = Option<Option<Standing<T>>>;

/// The ladders of one machine, and what is wanted of them.
#[derive(Debug)]
pub(crate) struct Ladder {
    pub(crate) root: Root,
    pub(crate) choice: Choice,
}

impl Ladder {
    fn file(&self) -> Option<&Path> {
        self.choice.file.as_deref()
    }

    /// The best energy that a search allows. `findings` collects what was in the way.
    pub(crate) fn energy(&self, processor: &Processor, search: Search, findings: &mut Vec<Finding>) -> Found<Bank> {
        let attempt = |rung| energy(&self.root, processor, self.file(), rung);
        climb(&ENERGY, self.choice.energy, search, findings, |rung, doubted| {
            let mut found = attempt(rung);
            if doubted {
                let moves = found.built.as_mut().is_some_and(|bank| bank.moves(TRIAL));
                // The trial left its marks on this one.
                found = if moves { attempt(rung) } else { Attempt { built: None, ..found } };
            }
            found
        })
    }

    /// The best thermometer that a search allows.
    pub(crate) fn thermometer(
        &self,
        processor: &Processor,
        search: Search,
        findings: &mut Vec<Finding>,
    ) -> Found<Thermometer> {
        climb(&TEMPERATURE, self.choice.thermometer, search, findings, |rung, doubted| {
            let mut found = temperature(&self.root, processor, self.file(), rung);
            if doubted && found.built.as_mut().is_some_and(|thermometer| !thermometer.is_written()) {
                found.built = None;
            }
            found
        })
    }

    /// How many rungs a choice leaves: what stands below them all has this rank.
    pub(crate) fn energy_rungs(&self) -> usize {
        order(&ENERGY, self.choice.energy).len()
    }

    /// How many rungs a choice leaves: what stands below them all has this rank.
    pub(crate) fn temperature_rungs(&self) -> usize {
        order(&TEMPERATURE, self.choice.thermometer).len()
    }
}

/// The rungs that a choice leaves, in its order.
fn order(ladder: &[Source], pick: Pick) -> Vec<usize> {
    let mut rungs: Vec<usize> = (0..ladder.len()).collect();
    match pick {
        Pick::Auto => {}
        Pick::Only(source) => rungs.retain(|&rung| ladder[rung] == source),
        Pick::Prefer(source) => rungs.sort_by_key(|&rung| ladder[rung] != source),
    }
    rungs
}

/// Tries rungs in order. `attempt` is told the rung, and whether it has to be seen to work.
fn climb<T>(
    ladder: &[Source],
    pick: Pick,
    search: Search,
    findings: &mut Vec<Finding>,
    mut attempt: impl FnMut(usize, bool) -> Attempt<T>,
) -> Found<T> {
    if search == Search::Nothing {
        return None;
    }
    for (rank, rung) in order(ladder, pick).into_iter().enumerate() {
        match search {
            Search::Without(failed) if failed == rank => continue,
            Search::Above(here) if rank >= here => break,
            _ => {}
        }
        // What stands above was given up before, or never worked: it has to be seen to work. Else two counters that both
        // stand still would take turns.
        let doubted = match search {
            Search::Above(_) => true,
            Search::Without(failed) => rank < failed,
            Search::Nothing | Search::Best => false,
        };
        let Attempt { finding, built } = attempt(rung, doubted);
        if let Some(on) = built {
            return Some(Some(Standing { rank, on }));
        }
        findings.push(finding);
    }
    Some(None)
}

/// The finding that tells best why a source does not work: one that is there but unusable, before one that is absent.
pub(crate) fn telling(findings: &[Finding], source: Source) -> Option<&Finding> {
    let of_source = || findings.iter().filter(|finding| finding.source == source);
    of_source().find(|finding| finding.state == State::Unusable).or_else(|| of_source().next())
}
