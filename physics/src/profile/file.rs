//! What a profile looks like on disk, before anything about it is checked; and how one is written.

use std::fmt::{self, Write};

use maxwell_core::thermal::FosterNode;
use maxwell_core::units::{Celsius, Watts};
use serde::Deserialize;
use toml::Spanned;

use super::Profile;
use super::quantity::{Quantity, Seconds, Unit};
use crate::power::Megahertz;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) title: Spanned<String>,
    pub(super) threads: Spanned<u16>,
    pub(super) provenance: Option<RawProvenance>,
    pub(super) power: RawPower,
    pub(super) plant: Option<RawPlant>,
    pub(super) controller: Option<RawController>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProvenance {
    pub(super) source: Spanned<String>,
    pub(super) date: Spanned<String>,
    pub(super) peak: Option<Spanned<Quantity<Watts>>>,
    pub(super) in_sample: Option<Spanned<Quantity<Watts>>>,
    pub(super) held_out: Option<Spanned<Quantity<Watts>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPower {
    pub(super) idle: Spanned<Quantity<Watts>>,
    pub(super) awake: Option<Spanned<Quantity<Watts>>>,
    pub(super) curve: Spanned<Vec<Spanned<RawKnot>>>,
    pub(super) siblings: Option<RawSiblings>,
    pub(super) frequency: Option<RawFrequency>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKnot {
    pub(super) utilisation: f64,
    pub(super) watts: Quantity<Watts>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSiblings {
    pub(super) cores: Spanned<u16>,
    pub(super) share: Spanned<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFrequency {
    pub(super) reference: Spanned<Quantity<Megahertz>>,
    pub(super) gamma: Spanned<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPlant {
    pub(super) ambient: Spanned<Quantity<Celsius>>,
    pub(super) fast: RawNode,
    pub(super) slow: RawNode,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNode {
    /// Kelvin per watt.
    pub(super) resistance: Spanned<f64>,
    pub(super) tau: Spanned<Quantity<Seconds>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawController {
    pub(super) delay: Spanned<Quantity<Seconds>>,
}

/// A text, quoted as TOML wants it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn node(node: &FosterNode) -> String {
    format!("{{ resistance = {:?}, tau = \"{}\" }}", node.resistance, Seconds(node.tau).text())
}

/// The file's text. Numbers are written so that they read back exactly.
pub(super) fn write(profile: &Profile) -> Result<String, fmt::Error> {
    let mut out = String::new();
    writeln!(out, "# A machine's power and heat, for Maxwell. What the numbers mean: docs/model.md")?;
    writeln!(out, "title = {}", quoted(&profile.title))?;
    writeln!(out, "threads = {}", profile.threads)?;
    if let Some(provenance) = &profile.provenance {
        writeln!(out, "\n[provenance]")?;
        writeln!(out, "source = {}", quoted(&provenance.source))?;
        writeln!(out, "date = {}", quoted(&provenance.date))?;
        let errors =
            [("peak", provenance.peak), ("in_sample", provenance.in_sample), ("held_out", provenance.held_out)];
        for (key, value) in errors {
            if let Some(value) = value {
                writeln!(out, "{key} = \"{}\"", value.text())?;
            }
        }
    }
    let power = &profile.power;
    writeln!(out, "\n[power]")?;
    writeln!(out, "idle = \"{}\"", power.idle.text())?;
    writeln!(out, "awake = \"{}\"", power.awake.text())?;
    writeln!(out, "# What one core adds, by its utilisation.")?;
    writeln!(out, "curve = [")?;
    for knot in &power.curve {
        writeln!(out, "    {{ utilisation = {:?}, watts = \"{}\" }},", knot.utilisation, knot.watts.text())?;
    }
    writeln!(out, "]")?;
    if let Some(siblings) = power.siblings {
        writeln!(out, "\n[power.siblings]\ncores = {}\nshare = {:?}", siblings.cores, siblings.share)?;
    }
    if let Some(frequency) = power.frequency {
        let reference = frequency.reference.text();
        writeln!(out, "\n[power.frequency]\nreference = \"{reference}\"\ngamma = {:?}", frequency.gamma)?;
    }
    if let Some(plant) = profile.plant {
        writeln!(out, "\n[plant]\nambient = \"{}\"", plant.ambient.text())?;
        writeln!(out, "fast = {}\nslow = {}", node(&plant.fast), node(&plant.slow))?;
    }
    if let Some(delay) = profile.delay {
        writeln!(out, "\n[controller]\ndelay = \"{}\"", Seconds(delay).text())?;
    }
    Ok(out)
}
