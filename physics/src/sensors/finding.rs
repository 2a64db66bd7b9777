//! What was found where a source was looked for: data that a survey shows, and that errors are made of.

use maxwell_core::sensor::Source;
use serde::Serialize;

use super::root::ReadError;

/// Whether a source can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It can.
    Usable,
    /// It is there, but cannot be used as it is.
    Unusable,
    /// This machine, or its kernel, does not have it.
    Absent,
}

/// One counter or thermometer that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// What it is called (`package-0`, `psys`, `Tdie`).
    pub name: String,
    /// Where it is.
    pub path: String,
    /// Whether it takes part: a counter in the sum, a thermometer in the hottest.
    pub counted: bool,
    /// Why it does not, or what to know about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What is in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// What is wrong.
    pub reason: String,
    /// The one line that would fix it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// What there is of one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The source.
    pub source: Source,
    /// Which of its kinds, where it has several (`k10temp` and `coretemp` are both hwmon).
    pub kind: &'static str,
    /// Whether it can be read.
    pub state: State,
    /// What was seen.
    pub items: Vec<Item>,
    /// What is in the way, if it cannot be used.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<Obstacle>,
}

/// A finding, and what was built from it.
#[derive(Debug)]
pub(crate) struct Attempt<T> {
    pub(crate) finding: Finding,
    pub(crate) built: Option<T>,
}

impl<T> Attempt<T> {
    pub(crate) fn usable(source: Source, kind: &'static str, items: Vec<Item>, built: T) -> Self {
        let finding = Finding { source, kind, state: State::Usable, items, obstacle: None };
        Self { finding, built: Some(built) }
    }

    pub(crate) fn unusable(source: Source, kind: &'static str, items: Vec<Item>, obstacle: Obstacle) -> Self {
        let finding = Finding { source, kind, state: State::Unusable, items, obstacle: Some(obstacle) };
        Self { finding, built: None }
    }

    pub(crate) fn absent(source: Source, kind: &'static str, obstacle: Obstacle) -> Self {
        let finding = Finding { source, kind, state: State::Absent, items: Vec::new(), obstacle: Some(obstacle) };
        Self { finding, built: None }
    }
}

impl Obstacle {
    pub(crate) fn new(reason: impl Into<String>, remedy: Option<&str>) -> Self {
        Self { reason: reason.into(), remedy: remedy.map(str::to_owned) }
    }

    /// A file that gave no value. `denied` is what helps where permission is missing.
    pub(crate) fn file(path: &str, error: ReadError, denied: &str) -> Self {
        Self::new(format!("/{path} {error}"), (error == ReadError::Denied).then_some(denied))
    }
}

impl Item {
    pub(crate) fn counted(name: impl Into<String>, path: &str) -> Self {
        Self { name: name.into(), path: format!("/{path}"), counted: true, note: None }
    }

    pub(crate) fn left_out(name: impl Into<String>, path: &str, why: impl Into<String>) -> Self {
        Self { counted: false, note: Some(why.into()), ..Self::counted(name, path) }
    }
}
