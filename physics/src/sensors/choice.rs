//! Which sensors somebody asks for, in words.
//!
//! | words | energy | temperature |
//! |---|---|---|
//! | `auto` | the best that works | the best that works |
//! | `perf`, `powercap` | that, or an error | the best that works |
//! | `thermal-zone` | the best that works | that, or an error |
//! | `msr`, `hwmon`, `file:/path` | that if it gives it | that if it gives it; an error if it gives neither |
//! | `model` | the model | the model |
//! | `powercap+thermal-zone` | the first, or an error | the second, or an error |
//!
//! ```
//! use maxwell_physics::{Choice, Pick};
//! use maxwell_core::sensor::Source;
//! let choice: Choice = "powercap+model".parse()?;
//! assert_eq!((choice.energy, choice.thermometer), (Pick::Only(Source::Powercap), Pick::Only(Source::Model)));
//! # Ok::<(), maxwell_physics::SensorError>(())
//! ```

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use maxwell_core::sensor::Source;

/// A sensor that somebody asks for cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SensorError {
    /// A word that names no sensor.
    #[error("`{word}` is no sensor of {part}; choose one of {words}")]
    UnknownWord {
        /// The word.
        word: String,
        /// What was asked for: energy, temperature, or both.
        part: &'static str,
        /// The words that there are.
        words: String,
    },
    /// Two files, where a host writes one.
    #[error("two files are named, `{0}` and `{1}`; a host writes one file for both energy and temperature")]
    TwoFiles(String, String),
    /// The sensor does not work on this machine.
    #[error("{source_name} gives no {part}: {reason}{}", remedy.as_ref().map_or_else(String::new, |line| format!("\n  to have it: {line}")))]
    Unusable {
        /// The sensor.
        source_name: &'static str,
        /// What it should have given.
        part: &'static str,
        /// Why it does not.
        reason: String,
        /// The line that would fix it.
        remedy: Option<String>,
    },
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pick {
    /// The best that works.
    #[default]
    Auto,
    /// This where it works, else the best that does.
    Prefer(Source),
    /// This and no other. The model takes over if it fails later.
    Only(Source),
}

/// Which sensors to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Where energy is read.
    pub energy: Pick,
    /// Where temperature is read.
    pub thermometer: Pick,
    /// The host's file, for guests.
    pub file: Option<PathBuf>,
}

const ENERGY: [Source; 6] = [Source::Perf, Source::Powercap, Source::Msr, Source::Hwmon, Source::File, Source::Model];
const TEMPERATURE: [Source; 5] = [Source::Msr, Source::ThermalZone, Source::Hwmon, Source::File, Source::Model];

/// A word with its file, if it is one for a part.
fn word(text: &str, sources: &[Source]) -> Option<(Pick, Option<PathBuf>)> {
    if text == "auto" {
        return Some((Pick::Auto, None));
    }
    if let Some(path) = text.strip_prefix("file:") {
        let named = !path.is_empty() && sources.contains(&Source::File);
        return named.then(|| (Pick::Only(Source::File), Some(PathBuf::from(path))));
    }
    let source = sources.iter().find(|source| source.name() == text && **source != Source::File)?;
    Some((Pick::Only(*source), None))
}

fn unknown(text: &str, part: &'static str, sources: impl IntoIterator<Item = Source>) -> SensorError {
    let mut words = "auto".to_owned();
    for source in sources {
        words.push_str(", ");
        words.push_str(if source == Source::File { "file:/path" } else { source.name() });
    }
    SensorError::UnknownWord { word: text.to_owned(), part, words }
}

impl FromStr for Choice {
    type Err = SensorError;

    fn from_str(text: &str) -> Result<Self, SensorError> {
        let text = text.trim();
        if let Some((energy, thermometer)) = split(text) {
            let (energy, file) = word(energy, &ENERGY).ok_or_else(|| unknown(energy, "energy", ENERGY))?;
            let (thermometer, other) =
                word(thermometer, &TEMPERATURE).ok_or_else(|| unknown(thermometer, "temperature", TEMPERATURE))?;
            if let (Some(a), Some(b)) = (&file, &other)
                && a != b
            {
                return Err(SensorError::TwoFiles(a.display().to_string(), b.display().to_string()));
            }
            return Ok(Self { energy, thermometer, file: file.or(other) });
        }
        match (word(text, &ENERGY), word(text, &TEMPERATURE)) {
            (Some((Pick::Only(source), file)), Some(_)) if source != Source::Model => {
                Ok(Self { energy: Pick::Prefer(source), thermometer: Pick::Prefer(source), file })
            }
            (Some((energy, _)), Some((thermometer, _))) => Ok(Self { energy, thermometer, file: None }),
            (Some((energy, _)), None) => Ok(Self { energy, ..Self::default() }),
            (None, Some((thermometer, _))) => Ok(Self { thermometer, ..Self::default() }),
            (None, None) => {
                let thermal = TEMPERATURE.into_iter().filter(|source| !ENERGY.contains(source));
                Err(unknown(text, "energy or temperature", ENERGY.into_iter().chain(thermal)))
            }
        }
    }
}

/// The two words around a plus. A path may hold one: it ends where a word follows.
fn split(text: &str) -> Option<(&str, &str)> {
    if text.starts_with("file:") {
        text.rmatch_indices('+')
            .map(|(at, _)| (&text[..at], &text[at + 1..]))
            .find(|(_, word_after)| word_after.starts_with("file:") || word(word_after, &TEMPERATURE).is_some())
    } else {
        text.split_once('+')
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |pick: Pick| match pick {
            Pick::Auto => "auto".to_owned(),
            Pick::Prefer(Source::File) | Pick::Only(Source::File) => {
                format!("file:{}", self.file.as_deref().unwrap_or_else(|| "".as_ref()).display())
            }
            Pick::Prefer(source) | Pick::Only(source) => source.name().to_owned(),
        };
        match (self.energy, self.thermometer) {
            (Pick::Prefer(a), Pick::Prefer(b)) if a == b => f.write_str(&word(self.energy)),
            (Pick::Auto, Pick::Auto) => f.write_str("auto"),
            _ => write!(f, "{}+{}", word(self.energy), word(self.thermometer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(text: &str) -> Choice {
        text.parse().unwrap()
    }

    #[test]
    fn one_word_asks_for_what_it_can_give() {
        assert_eq!(choice("auto"), Choice::default());
        assert_eq!(choice("perf"), Choice { energy: Pick::Only(Source::Perf), ..Choice::default() });
        assert_eq!(
            choice("thermal-zone"),
            Choice { thermometer: Pick::Only(Source::ThermalZone), ..Choice::default() }
        );
        let both = Pick::Prefer(Source::Msr);
        assert_eq!(choice("msr"), Choice { energy: both, thermometer: both, file: None });
        let model = Pick::Only(Source::Model);
        assert_eq!(choice(" model "), Choice { energy: model, thermometer: model, file: None });
        let file = choice("file:/run/host");
        assert_eq!((file.energy, file.file), (Pick::Prefer(Source::File), Some("/run/host".into())));
    }

    #[test]
    fn two_words_ask_for_energy_and_temperature() {
        let it = choice("file:/run/a+b+hwmon");
        assert_eq!((it.energy, it.thermometer), (Pick::Only(Source::File), Pick::Only(Source::Hwmon)));
        assert_eq!(it.file, Some("/run/a+b".into()), "a path may hold a plus");
        let it = choice("file:/x+file:/x");
        assert_eq!((it.thermometer, it.file), (Pick::Only(Source::File), Some("/x".into())));
        assert_eq!(choice("auto+model").thermometer, Pick::Only(Source::Model));
    }

    #[test]
    fn what_is_written_is_read() {
        for text in [
            "auto",
            "powercap+thermal-zone",
            "perf+auto",
            "msr",
            "file:/a",
            "model+hwmon",
            "model+model",
            "file:/a+msr",
        ] {
            assert_eq!(choice(text).to_string(), text);
            assert_eq!(choice(&choice(text).to_string()), choice(text));
        }
    }

    #[test]
    fn an_error_lists_the_words() {
        let text = |word: &str| word.parse::<Choice>().unwrap_err().to_string();
        assert_eq!(
            text("rapl"),
            "`rapl` is no sensor of energy or temperature; choose one of auto, perf, powercap, msr, hwmon, file:/path, \
             model, thermal-zone"
        );
        assert!(text("thermal-zone+auto").contains("no sensor of energy"));
        assert!(text("auto+perf").contains("no sensor of temperature; choose one of auto, msr, thermal-zone, hwmon"));
        assert!(text("file:").contains("file:/path"));
        assert!(text("file").contains("file:/path"));
        assert!(text("file:/a+file:/b").contains("two files"));
        assert!(text("").contains("choose one of"));
    }
}
