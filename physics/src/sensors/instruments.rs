//! A machine's sensors as one: the best energy and the best thermometer there are, each on its own.
//!
//! ```text
//!                     ┌── bank (perf, powercap, msr, hwmon, file) ──┐ counters
//!   ladder ── climb ──┤                                             ├────────────────► Reading
//!      ▲              └── thermometer (msr, zones, hwmon, file) ────┘ temperature         ▲
//!      │ every 10 s, or when something failed                                            │ whichever part is missing
//!    scout (a thread of its own) ◄── tick                    power ─► model and plant ───┘
//! ```
//!
//! Energy and temperature are chosen independently, and the model stands in for either: measured power drives the
//! modelled die, and a measured die does not stop energy from being modelled. Every part says which it is. A die whose
//! last thermometer fails goes on, modelled, from the temperature it was last seen at.
//!
//! A source that fails (three reads in a row, or a count that stands still for a second) is given up: the scout looks for
//! the next rung, and the read that gets it answers that the counters changed. Until then the failed counters show nothing,
//! which is unknown power and never none. Better rungs are tried again every ten seconds, and believed once they have been
//! seen to move.

use std::time::Instant;

use maxwell_core::energy::Metering;
use maxwell_core::sensor::{Activity, Counter, Quality, Reading, Sensor, Source, Temperature};
use maxwell_core::thermal::Plant;
use maxwell_core::units::{Celsius, Watts};

use super::bank::Bank;
use super::choice::{Choice, Pick, SensorError};
use super::finding::Finding;
use super::ladder::{Ladder, Search, Standing, telling};
use super::processor::Processor;
use super::root::Root;
use super::scout::{Catch, Errand, Scout};
use super::thermometer::Thermometer;
use crate::{ModelConfig, ModelSensor};

/// How often better rungs are looked for.
const RETRY_US: u64 = 10_000_000;

/// A part that changed its source while running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `energy` or `temperature`.
    pub part: &'static str,
    /// What it was.
    pub from: Source,
    /// What it is.
    pub to: Source,
    /// Why.
    pub why: String,
}

/// All sensors of a machine.
#[derive(Debug)]
pub struct Instruments {
    /// How many rungs of energy and of temperature a choice leaves: the rank of the model below them.
    rungs: (usize, usize),
    energy: Option<Standing<Bank>>,
    thermometer: Option<Standing<Thermometer>>,
    /// Always driven, so that it is warm when it is needed.
    model: ModelSensor,
    modelled: Reading,
    /// The die, driven by the power that is read.
    plant: Plant,
    /// It goes on from a temperature that was measured.
    fell: bool,
    resolution: f64,
    metering: Metering,
    power: Watts,
    counters: Vec<Counter>,
    scout: Option<Scout>,
    /// What was found, and not yet taken over.
    caught: Option<Catch>,
    started: Instant,
    last_us: u64,
    retry_us: u64,
    last_change: Option<Change>,
    #[cfg(feature = "nvml")]
    cards: super::nvml::Cards,
}

impl Instruments {
    /// Climbs the ladders of a machine. `model` describes the machine to the model.
    ///
    /// # Errors
    ///
    /// [`SensorError`] if a source is asked for that does not work here; `auto` always works.
    pub fn open(root: Root, choice: Choice, model: ModelConfig) -> Result<Self, SensorError> {
        let ladder = Ladder { root, choice };
        let processor = Processor::of(&ladder.root);
        let mut findings = Vec::new();
        let energy = ladder.energy(&processor, Search::Best, &mut findings).flatten();
        let thermometer = ladder.thermometer(&processor, Search::Best, &mut findings).flatten();
        let missed = Missed { choice: &ladder.choice, findings: &findings };
        missed.check(energy.as_ref().map(|it| it.on.source), thermometer.as_ref().map(|it| it.on.source))?;
        let mut it = Self {
            rungs: (ladder.energy_rungs(), ladder.temperature_rungs()),
            energy,
            thermometer,
            plant: Plant::settled(model.plant, model.power.idle),
            fell: false,
            resolution: model.resolution,
            power: model.power.idle,
            model: ModelSensor::new(model).with_clock(&ladder.root),
            modelled: Reading::default(),
            metering: Metering::default(),
            counters: Vec::new(),
            scout: Scout::start(ladder),
            caught: None,
            started: Instant::now(),
            last_us: 0,
            retry_us: RETRY_US,
            last_change: None,
            #[cfg(feature = "nvml")]
            cards: super::nvml::Cards::default(),
        };
        // Sizes the buffer, and nothing else: no time has passed.
        it.model.read(&Activity::default(), &mut it.modelled);
        it.list_counters();
        Ok(it)
    }

    /// Adds the graphics cards that a library finds.
    #[cfg(feature = "nvml")]
    #[must_use]
    pub fn with_cards(mut self, cards: super::nvml::Cards) -> Self {
        self.cards = cards;
        self.list_counters();
        self
    }

    /// Where energy comes from now.
    #[must_use]
    pub fn energy_source(&self) -> Source {
        self.energy.as_ref().map_or(Source::Model, |it| it.on.source)
    }

    /// Where temperature comes from now.
    #[must_use]
    pub fn thermometer_source(&self) -> Source {
        self.thermometer.as_ref().map_or(Source::Model, |it| it.on.source)
    }

    /// Both in a line, as in `powercap + x86_pkg_temp`.
    #[must_use]
    pub fn describe(&self) -> String {
        let thermometer = self.thermometer.as_ref().map_or(Source::Model.name(), |it| it.on.kind);
        format!("{} + {thermometer}", self.energy_source().name())
    }

    /// The last time a source was given up or a better one found.
    #[must_use]
    pub fn last_change(&self) -> Option<&Change> {
        self.last_change.as_ref()
    }

    /// Reads everything, `now_us` after the start: [`Sensor::read`] for whoever has a clock of their own.
    pub fn read_at(&mut self, now_us: u64, activity: &Activity, reading: &mut Reading) -> bool {
        reading.clear();
        let caught = self.caught.take().or_else(|| self.scout.as_mut().and_then(Scout::catch));
        #[allow(unused_mut, reason = "cards come and go only with the feature")]
        let mut changed = caught.is_some_and(|catch| self.adopt(catch, now_us));
        #[cfg(feature = "nvml")]
        if self.cards.came_or_went() {
            self.list_counters();
            changed = true;
        }
        self.model.read(activity, &mut self.modelled);
        match &mut self.energy {
            Some(it) => it.on.read(now_us, &mut reading.counters),
            None => reading.counters.extend_from_slice(&self.modelled.counters),
        }
        #[cfg(feature = "nvml")]
        if self.counts_cards() {
            self.cards.read(&mut reading.counters);
        }
        self.follow(reading, now_us);
        reading.temperature = match &mut self.thermometer {
            Some(it) => it.on.read(now_us),
            None if self.energy.is_none() && !self.fell => self.modelled.temperature,
            None => Some(self.modelled_die()),
        };
        self.watch(now_us);
        changed
    }

    /// Waits for a search that is under way; the next read applies what it found. For tests, and for whoever is in no
    /// hurry.
    pub fn wait_for_search(&mut self) {
        if let Some(catch) = self.scout.as_mut().and_then(Scout::wait) {
            self.caught = Some(catch);
        }
    }

    /// Whether a search is under way.
    #[must_use]
    pub fn is_searching(&self) -> bool {
        self.scout.as_ref().is_some_and(Scout::is_away)
    }

    /// Takes over what the scout found. Answers whether the counters changed.
    fn adopt(&mut self, catch: Catch, now_us: u64) -> bool {
        self.retry_us = now_us + RETRY_US;
        // A search among better rungs says nothing about those below: what failed meanwhile waits for the next.
        let below = |search: Search| matches!(search, Search::Without(_));
        let why = self.thermometer_failure(now_us);
        if let Some(found) = catch.thermometer
            && better(self.thermometer.as_ref(), found.as_ref(), why.is_some() && below(catch.errand.thermometer))
        {
            let to = found.as_ref().map_or(Source::Model, |it| it.on.source);
            self.note("temperature", self.thermometer_source(), to, why);
            let lost = std::mem::replace(&mut self.thermometer, found);
            if self.thermometer.is_none() {
                self.fall(lost.and_then(|it| it.on.last()));
            }
        }
        let why = self.energy_failure(now_us);
        let Some(found) = catch.energy else { return false };
        if !better(self.energy.as_ref(), found.as_ref(), why.is_some() && below(catch.errand.energy)) {
            return false;
        }
        let to = found.as_ref().map_or(Source::Model, |it| it.on.source);
        self.note("energy", self.energy_source(), to, why);
        self.energy = found;
        self.list_counters();
        true
    }

    /// The model takes over from a die that was last seen at a temperature, and goes on from there: a hot die does not
    /// become cool by losing its thermometer. The difference fades as the heat of a sink does.
    fn fall(&mut self, last: Option<Celsius>) {
        if let Some(last) = last {
            self.plant.slow += last.0 - self.plant.temperature().0;
            self.fell = true;
        }
    }

    fn note(&mut self, part: &'static str, from: Source, to: Source, why: Option<String>) {
        let why = why.unwrap_or_else(|| "a better one works now".to_owned());
        self.last_change = Some(Change { part, from, to, why });
    }

    fn energy_failure(&self, now_us: u64) -> Option<String> {
        let (domain, failure) = self.energy.as_ref()?.on.failure(now_us)?;
        Some(format!("{domain} {failure}"))
    }

    fn thermometer_failure(&self, now_us: u64) -> Option<String> {
        let it = self.thermometer.as_ref()?;
        it.on.failure(now_us).map(|error| format!("{} {error}", it.on.kind))
    }

    /// Sends the scout for what failed, and now and then for something better. The common case is two comparisons.
    fn watch(&mut self, now_us: u64) {
        let due = now_us >= self.retry_us;
        let failed = |broken: bool, rank: usize| match (broken, due && rank > 0) {
            (true, _) => Search::Without(rank),
            (false, true) => Search::Above(rank),
            (false, false) => Search::Nothing,
        };
        let energy = match &self.energy {
            Some(it) => failed(it.on.failure(now_us).is_some(), it.rank),
            None => failed(false, self.rungs.0),
        };
        let thermometer = match &self.thermometer {
            Some(it) => failed(it.on.failure(now_us).is_some(), it.rank),
            None => failed(false, self.rungs.1),
        };
        if energy == Search::Nothing && thermometer == Search::Nothing {
            return;
        }
        match &mut self.scout {
            Some(scout) => scout.send(Errand { energy, thermometer }),
            // Nobody can be sent: what failed is given up for the model.
            None => {
                let lost = |search| matches!(search, Search::Without(_));
                self.caught = Some(Catch {
                    errand: Errand { energy, thermometer },
                    energy: lost(energy).then_some(None),
                    thermometer: lost(thermometer).then_some(None),
                });
            }
        }
        if due {
            self.retry_us = now_us + RETRY_US;
        }
    }

    /// Lists the counters that readings hold from now on.
    fn list_counters(&mut self) {
        self.counters.clear();
        match &self.energy {
            Some(it) => self.counters.extend(it.on.counters()),
            None => self.counters.extend_from_slice(self.model.counters()),
        }
        #[cfg(feature = "nvml")]
        if self.counts_cards() {
            self.counters.extend_from_slice(self.cards.counters());
        }
        self.metering.choose(&self.counters);
    }

    #[cfg(feature = "nvml")]
    fn counts_cards(&self) -> bool {
        self.energy.as_ref().is_none_or(|it| it.on.leaves_out_accelerators())
    }

    /// Warms the modelled die with measured power. Where that is unknown, the last known power goes on.
    fn follow(&mut self, reading: &Reading, now_us: u64) {
        let elapsed_us = now_us.saturating_sub(self.last_us);
        self.last_us = now_us;
        let tick = self.metering.advance(&reading.counters, elapsed_us);
        if !tick.stale && elapsed_us > 0 {
            // A nanojoule a microsecond is a milliwatt.
            self.power = Watts(tick.die.0 as f64 / elapsed_us as f64 * 1e-3);
        }
        self.plant.step(self.power, elapsed_us as f64 * 1e-6);
    }

    fn modelled_die(&self) -> Temperature {
        let step = self.resolution.max(f64::MIN_POSITIVE);
        let shown = Celsius((self.plant.temperature().0 / step).floor() * step);
        Temperature { resolution: self.resolution, ..Temperature::fresh(shown, Source::Model, Quality::Modelled) }
    }
}

impl Sensor for Instruments {
    fn counters(&self) -> &[Counter] {
        &self.counters
    }

    fn read(&mut self, activity: &Activity, reading: &mut Reading) -> bool {
        let now_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.read_at(now_us, activity, reading)
    }
}

/// Whether what was found is better than what there is: anything, if that has failed.
fn better<T>(now: Option<&Standing<T>>, found: Option<&Standing<T>>, failed: bool) -> bool {
    match (now, found) {
        (Some(now), Some(found)) => failed || found.rank < now.rank,
        (None, found) => found.is_some(),
        (Some(_), None) => failed,
    }
}

/// What was asked for, and what was found in the way.
struct Missed<'a> {
    choice: &'a Choice,
    findings: &'a [Finding],
}

impl Missed<'_> {
    /// Whether what was asked for was had.
    fn check(&self, energy: Option<Source>, thermometer: Option<Source>) -> Result<(), SensorError> {
        let only = |pick: Pick, had: Option<Source>| match pick {
            Pick::Only(source) if source != Source::Model && had != Some(source) => Some(source),
            _ => None,
        };
        if let Some(source) = only(self.choice.energy, energy) {
            return Err(self.unusable(source, "energy"));
        }
        if let Some(source) = only(self.choice.thermometer, thermometer) {
            return Err(self.unusable(source, "temperature"));
        }
        match (self.choice.energy, self.choice.thermometer) {
            (Pick::Prefer(source), Pick::Prefer(same))
                if source == same && energy != Some(source) && thermometer != Some(source) =>
            {
                Err(self.unusable(source, "energy and no temperature"))
            }
            _ => Ok(()),
        }
    }

    fn unusable(&self, source: Source, part: &'static str) -> SensorError {
        let obstacle = telling(self.findings, source).and_then(|finding| finding.obstacle.clone());
        let (reason, remedy) = obstacle.map_or_else(
            || ("this machine does not have it".to_owned(), None),
            |obstacle| (obstacle.reason, obstacle.remedy),
        );
        SensorError::Unusable { source_name: source.name(), part, reason, remedy }
    }
}
