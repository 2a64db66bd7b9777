//! A machine's numbers in a file: what it burns, how it warms, and how anybody came to know that.
//!
//! A profile is TOML, made by `maxwell physics fit` or by hand; docs/model.md describes it. Values carry their unit.
//! Nothing is guessed: unknown keys are errors, and every error names the file, the line and the column, says what is
//! wrong, and what to write instead. What is saved reads back as exactly the same numbers.
//!
//! ```
//! use std::path::Path;
//! use maxwell_physics::profile::Profile;
//! let text = r#"
//!     title = "my laptop"
//!     threads = 8
//!     [power]
//!     idle = "3.5W"
//!     curve = [{ utilisation = 0.5, watts = "1.2W" }, { utilisation = 1.0, watts = "3W" }]
//! "#;
//! let profile = Profile::parse(Path::new("laptop.toml"), text)?;
//! assert_eq!(Profile::parse(Path::new("copy.toml"), &profile.text()?)?, profile);
//! # Ok::<(), maxwell_physics::profile::ProfileError>(())
//! ```

mod file;
mod quantity;

use std::fs::File;
use std::io::Read;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use maxwell_core::thermal::{FosterNode, PlantModel};
use maxwell_core::units::Watts;
use toml::Spanned;

use self::file::{Raw, RawKnot, RawNode, RawPlant, RawPower, RawProvenance};
use self::quantity::{Quantity, Unit};
use crate::artefact::{self, Existing};
use crate::power::{Frequency, Knot, PowerModel, Siblings};

/// Why a profile cannot be used or saved.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file could not be read.
    #[error("{path}: {source}. Give the path of a profile, such as `maxwell physics fit TRACE.csv --out` makes")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{path}:{line}:{column}: {message}")]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What, and what to do.
        message: String,
    },
    /// The file is there already.
    #[error("{path} is there already: give another name, or --force to replace it")]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The file could not be written.
    #[error("{path} could not be written: {source}")]
    Unwritable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Where a profile's numbers come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Provenance {
    /// What they were fitted to, or who says so.
    pub source: String,
    /// When.
    pub date: String,
    /// The highest power that was seen.
    pub peak: Option<Watts>,
    /// Mean absolute error on the rows that the model was fitted to.
    pub in_sample: Option<Watts>,
    /// Mean absolute error on rows that it was not fitted to.
    pub held_out: Option<Watts>,
}

/// A machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// What machine this is, for people.
    pub title: String,
    /// How many hardware threads it has.
    pub threads: u16,
    /// Where the numbers come from.
    pub provenance: Option<Provenance>,
    /// What it burns.
    pub power: PowerModel,
    /// How it warms, where that is known.
    pub plant: Option<PlantModel>,
    /// Seconds from an action to its first visible effect on the temperature, for the controller's tuning.
    pub delay: Option<f64>,
}

const MOST_THREADS: u16 = 4_096;
const MOST_KNOTS: usize = 64;
/// A title or a source longer than this is not for people.
const MOST_TEXT: usize = 2_000;
/// A profile is a page; more is another kind of file.
const MOST_BYTES: u64 = 1 << 20;

impl Profile {
    /// Reads and checks a profile.
    ///
    /// # Errors
    ///
    /// What is wrong, where, and what to do.
    pub fn load(path: &Path) -> Result<Self, ProfileError> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text))
            .map_err(|source| ProfileError::Unreadable { path: path.to_owned(), source })?;
        if text.len() as u64 > MOST_BYTES {
            let message = format!("this is no profile: a profile has at most {} MiB", MOST_BYTES >> 20);
            return Err(Source { path, text: &text }.wrong(0..0, message));
        }
        Self::parse(path, &text)
    }

    /// Checks a profile's text. `path` is for errors.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn parse(path: &Path, text: &str) -> Result<Self, ProfileError> {
        let source = Source { path, text };
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let message = error.message().replace('\n', "; ");
            source.wrong(error.span().unwrap_or(0..0), message)
        })?;
        let threads = *raw.threads.get_ref();
        if !(1..=MOST_THREADS).contains(&threads) {
            let message = format!("threads must lie between 1 and {MOST_THREADS}: the machine's hardware threads");
            return Err(source.wrong(raw.threads.span(), message));
        }
        Ok(Self {
            title: source.printable(raw.title, "the title")?,
            threads,
            provenance: raw.provenance.map(|raw| provenance(&source, raw)).transpose()?,
            power: power(&source, raw.power)?,
            plant: raw.plant.map(|raw| plant(&source, raw)).transpose()?,
            delay: raw.controller.map(|raw| source.quantity(raw.delay, 0.0..=60.0, "delay")).transpose()?.map(|d| d.0),
        })
    }

    /// The profile as a file's text.
    ///
    /// # Errors
    ///
    /// [`ProfileError::Wrong`] if the profile would be refused when it is read: a machine of no threads, a curve that
    /// falls, or a number that is none.
    pub fn text(&self) -> Result<String, ProfileError> {
        let text = file::write(self).expect("writing to a string");
        Self::parse(Path::new("the profile"), &text)?;
        Ok(text)
    }

    /// Writes the profile: whole or not at all.
    ///
    /// # Errors
    ///
    /// [`ProfileError::Exists`] where a file is kept, [`ProfileError::Unwritable`] from the disk, and as
    /// [`text`](Self::text).
    pub fn save(&self, path: &Path, existing: Existing) -> Result<(), ProfileError> {
        artefact::write(path, &self.text()?, existing).map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => ProfileError::Exists { path: path.to_owned() },
            _ => ProfileError::Unwritable { path: path.to_owned(), source },
        })
    }
}

/// The text of a file, to turn byte offsets into lines.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn wrong(&self, span: Range<usize>, message: impl Into<String>) -> ProfileError {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        ProfileError::Wrong { path: self.path.to_owned(), line, column, message: message.into() }
    }

    /// A number that must be finite and inside a range.
    fn number(&self, value: Spanned<f64>, range: RangeInclusive<f64>, what: &str) -> Result<f64, ProfileError> {
        let (given, span) = (*value.get_ref(), value.span());
        if range.contains(&given) {
            return Ok(given);
        }
        let (least, most) = range.into_inner();
        Err(self.wrong(span, format!("{what} is {given}, but must lie between {least} and {most}")))
    }

    /// A quantity that must be finite and inside a range, given in its base unit.
    fn quantity<T: Unit>(
        &self,
        value: Spanned<Quantity<T>>,
        range: RangeInclusive<f64>,
        what: &str,
    ) -> Result<T, ProfileError> {
        let span = value.span();
        let given = value.into_inner().0;
        if range.contains(&given.value()) {
            return Ok(given);
        }
        let (least, most) = range.into_inner();
        let (given, least, most) = (given.text(), T::of(least).text(), T::of(most).text());
        Err(self.wrong(span, format!("{what} is {given}, but must lie between {least} and {most}")))
    }

    fn watts(&self, value: Spanned<Quantity<Watts>>, what: &str) -> Result<Watts, ProfileError> {
        self.quantity(value, 0.0..=100_000.0, what)
    }

    /// A text that will be shown on a terminal.
    fn printable(&self, text: Spanned<String>, what: &str) -> Result<String, ProfileError> {
        let given = text.get_ref();
        if given.is_empty() || given.len() > MOST_TEXT || given.chars().any(char::is_control) {
            let message = format!(
                "{what} must have 1 to {MOST_TEXT} bytes and no control characters, because it is shown on terminals"
            );
            return Err(self.wrong(text.span(), message));
        }
        Ok(text.into_inner())
    }
}

fn provenance(source: &Source<'_>, raw: RawProvenance) -> Result<Provenance, ProfileError> {
    let watts = |value: Option<Spanned<Quantity<Watts>>>, what| value.map(|v| source.watts(v, what)).transpose();
    Ok(Provenance {
        source: source.printable(raw.source, "the source")?,
        date: source.printable(raw.date, "the date")?,
        peak: watts(raw.peak, "peak")?,
        in_sample: watts(raw.in_sample, "in_sample")?,
        held_out: watts(raw.held_out, "held_out")?,
    })
}

fn power(source: &Source<'_>, raw: RawPower) -> Result<PowerModel, ProfileError> {
    let siblings = raw.siblings.map(|raw| {
        let cores = *raw.cores.get_ref();
        if !(1..=MOST_THREADS).contains(&cores) {
            let message = format!("cores must lie between 1 and {MOST_THREADS}: the physical cores that threads share");
            return Err(source.wrong(raw.cores.span(), message));
        }
        Ok(Siblings { cores, share: source.number(raw.share, 0.0..=1.0, "share")? })
    });
    let frequency = raw.frequency.map(|raw| {
        let reference = source.quantity(raw.reference, 1.0..=100_000.0, "reference")?;
        Ok(Frequency { reference, gamma: source.number(raw.gamma, 0.0..=5.0, "gamma")? })
    });
    Ok(PowerModel {
        idle: source.watts(raw.idle, "idle")?,
        awake: raw.awake.map_or(Ok(Watts(0.0)), |value| source.watts(value, "awake"))?,
        curve: curve(source, raw.curve)?,
        siblings: siblings.transpose()?,
        frequency: frequency.transpose()?,
    })
}

fn curve(source: &Source<'_>, raw: Spanned<Vec<Spanned<RawKnot>>>) -> Result<Vec<Knot>, ProfileError> {
    let whole = raw.span();
    let knots = raw.into_inner();
    if !(1..=MOST_KNOTS).contains(&knots.len()) {
        let message = format!(
            "a curve needs 1 to {MOST_KNOTS} points, such as [{{ utilisation = 0.5, watts = \"2W\" }}, {{ utilisation = 1.0, watts = \"3W\" }}]"
        );
        return Err(source.wrong(whole, message));
    }
    let mut curve: Vec<Knot> = Vec::with_capacity(knots.len());
    for knot in knots {
        let span = knot.span();
        let RawKnot { utilisation, watts: Quantity(watts) } = knot.into_inner();
        let before = curve.last().copied().unwrap_or(Knot { utilisation: 0.0, watts: Watts(0.0) });
        if !(utilisation > before.utilisation && utilisation <= 1.0) {
            let message = format!(
                "a core's utilisation is {utilisation}, but must be a share above {} and at most 1: points go from left to right, and (0, 0W) is implied",
                before.utilisation
            );
            return Err(source.wrong(span, message));
        }
        if !(watts.0 >= before.watts.0 && watts.0 <= 100_000.0) {
            let message = format!(
                "a core at {utilisation} adds {watts}, but must add at least the {} of the point before and at most 100kW",
                before.watts
            );
            return Err(source.wrong(span, message));
        }
        curve.push(Knot { utilisation, watts });
    }
    if curve.last().is_some_and(|last| last.utilisation < 1.0) {
        return Err(source.wrong(whole, "the curve must end at utilisation 1.0: add what a fully busy core adds"));
    }
    Ok(curve)
}

fn plant(source: &Source<'_>, raw: RawPlant) -> Result<PlantModel, ProfileError> {
    let slow_at = raw.slow.tau.span();
    let node = |raw: RawNode| {
        let resistance = source.number(raw.resistance, 0.0001..=1000.0, "resistance (kelvin per watt)")?;
        Ok(FosterNode { resistance, tau: source.quantity(raw.tau, 0.001..=100_000.0, "tau")?.0 })
    };
    let ambient = source.quantity(raw.ambient, -100.0..=200.0, "ambient")?;
    let (fast, slow) = (node(raw.fast)?, node(raw.slow)?);
    if fast.tau >= slow.tau {
        let message = format!("the slow node's tau must be longer than the fast node's {}s: swap them", fast.tau);
        return Err(source.wrong(slow_at, message));
    }
    Ok(PlantModel { ambient, fast, slow })
}

#[cfg(test)]
mod tests;
