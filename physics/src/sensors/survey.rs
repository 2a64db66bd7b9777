//! Everything that was looked for, what was found, and the line that would fix what does not work.
//!
//! This is data; whoever shows it decides how.

use std::path::Path;
use std::time::Instant;

use maxwell_core::sensor::Source;
use serde::Serialize;

use super::finding::{Finding, Item, Obstacle, State};
use super::ladder;
use super::msr::{self, Throttling};
use super::processor::Processor;
use super::root::Root;

/// What a machine shows of itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Survey {
    /// Its processor.
    pub processor: Processor,
    /// Every source of energy, best first.
    pub energy: Vec<Finding>,
    /// Every source of temperature, best first.
    pub temperature: Vec<Finding>,
    /// Accelerators.
    pub accelerators: Finding,
    /// Packages that say whether they slow themselves down.
    pub throttling: Vec<Throttling>,
    /// How long the survey took, in microseconds.
    pub took_us: u64,
}

impl Survey {
    /// The source of energy that `auto` takes.
    #[must_use]
    pub fn best_energy(&self) -> Source {
        best(&self.energy)
    }

    /// The source of temperature that `auto` takes.
    #[must_use]
    pub fn best_temperature(&self) -> Source {
        best(&self.temperature)
    }
}

fn best(findings: &[Finding]) -> Source {
    findings.iter().find(|finding| finding.state == State::Usable).map_or(Source::Model, |finding| finding.source)
}

/// Looks for everything. `file` is the host's file, if there is one. Takes some milliseconds, and longer only where dies
/// have to be watched; touches nothing.
#[must_use]
pub fn survey(root: &Root, file: Option<&Path>) -> Survey {
    let started = Instant::now();
    let processor = Processor::of(root);
    let (energy, temperature) = ladder::findings(root, &processor, file);
    let accelerators = accelerators(root);
    let throttling = msr::throttling(root, &processor);
    let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    Survey { processor, energy, temperature, accelerators, throttling, took_us }
}

/// NVIDIA's cards, as their driver lists them: the library itself is not loaded, since that may take a second.
fn accelerators(root: &Root) -> Finding {
    let folder = "proc/driver/nvidia/gpus";
    let cards = root.names(folder);
    let (source, kind) = (Source::Nvml, "nvml");
    if cards.is_empty() {
        let obstacle = Some(Obstacle::new(format!("/{folder} lists no card"), None));
        return Finding { source, kind, state: State::Absent, items: Vec::new(), obstacle };
    }
    let built_in = cfg!(feature = "nvml");
    let item = |card: &String| Item { counted: built_in, ..Item::counted(card, &format!("{folder}/{card}")) };
    let items = cards.iter().map(item).collect();
    let state = if built_in { State::Usable } else { State::Unusable };
    let obstacle = (!built_in)
        .then(|| Obstacle::new("this Maxwell is built without NVML", Some("cargo install maxwell --features nvml")));
    Finding { source, kind, state, items, obstacle }
}
