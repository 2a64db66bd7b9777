//! NVIDIA's graphics cards, through a library that is loaded while running.
//!
//! ```text
//!  thread "nvml"   every 20 ms: total energy, instant power ──► atomics, one set a card
//!                  calls into the driver may block for as long as they like        │
//!  tick            never calls the library: reads atomics ─► TruedUp ─► nanojoules ┘
//! ```
//!
//! `nvmlDeviceGetTotalEnergyConsumption` counts millijoules since the driver was loaded (Volta and later) and is renewed
//! every 20–100 ms, so its count is smoothed by [`TruedUp`] with the instant power of field 186
//! (`NVML_FI_DEV_POWER_INSTANT`); `nvmlDeviceGetPowerUsage` is a one-second average on Ampere and later and only stands in
//! for it. Cards without the counter are not shown. A card that is lost shows nothing from then on and is taken off the
//! list; every ten seconds the thread looks whether one came back.

use std::ffi::{OsStr, OsString};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use maxwell_core::sensor::{Counter, CounterReading, CounterSpec, Domain, Quality, Source};
use maxwell_core::units::Watts;
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::{Device, Nvml};

use super::trued_up::TruedUp;

/// The names of the library: the first is what drivers install, the second what development packages add.
const LIBRARIES: [&str; 2] = ["libnvidia-ml.so.1", "libnvidia-ml.so"];
/// No machine has more cards.
const MOST_CARDS: usize = 64;
const POLL: Duration = Duration::from_millis(20);
/// Polls between two looks for cards that came back.
const LOOK: u32 = 500;
/// How often the counter is renewed, at worst, in milliseconds.
const REFRESH_MS: u32 = 100;
/// `NVML_FI_DEV_POWER_INSTANT`.
const POWER_INSTANT: FieldId = FieldId(186);
/// What a card draws at most where it does not say.
const DEFAULT_WATTS: f64 = 700.0;
/// Millijoules.
const MILLIJOULES: CounterSpec = CounterSpec { max: u64::MAX, unit_num: 1_000_000, unit_den: 1 };

/// What the thread last saw of a card.
#[derive(Debug, Default)]
struct Seen {
    present: AtomicBool,
    millijoules: AtomicU64,
    milliwatts: AtomicU64,
    /// The most it may draw; written before it is present.
    most_milliwatts: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    cards: [Seen; MOST_CARDS],
    /// Rises whenever a card comes or goes.
    generation: AtomicU64,
    stop: AtomicBool,
    problem: Mutex<Option<String>>,
}

/// One card, on the reader's side.
#[derive(Debug)]
struct Card {
    number: usize,
    smooth: TruedUp,
    /// Before the first true value there is nothing to add to.
    started: bool,
}

/// All cards. The default has none.
#[derive(Debug, Default)]
pub struct Cards {
    shared: Option<Arc<Shared>>,
    generation: u64,
    cards: Vec<Card>,
    counters: Vec<Counter>,
    clock: Option<Instant>,
}

impl Cards {
    /// Starts to look for cards through the library of this name or path, or the one that the driver installs. Cards
    /// appear when the thread has found them.
    #[must_use]
    pub fn find(library: Option<&OsStr>) -> Self {
        let shared = Arc::new(Shared {
            cards: std::array::from_fn(|_| Seen::default()),
            generation: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            problem: Mutex::new(None),
        });
        let libraries: Vec<OsString> =
            library.map_or_else(|| LIBRARIES.iter().map(OsString::from).collect(), |library| vec![library.to_owned()]);
        let theirs = Arc::clone(&shared);
        let run = move || {
            if let Err(problem) = poll(&theirs, &libraries) {
                theirs.say(Some(problem));
            }
        };
        if let Err(error) = std::thread::Builder::new().name("nvml".to_owned()).spawn(run) {
            shared.say(Some(format!("no thread could be started: {error}")));
        }
        let mut it = Self::default();
        (it.shared, it.clock) = (Some(shared), Some(Instant::now()));
        it
    }

    /// Why there are no cards, if something is wrong.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.shared.as_ref()?.problem.lock().ok()?.clone()
    }

    /// The cards' counters.
    #[must_use]
    pub fn counters(&self) -> &[Counter] {
        &self.counters
    }

    /// Whether cards came or went since the last call; then the list is another. The common case is one load.
    pub fn came_or_went(&mut self) -> bool {
        let Some(shared) = &self.shared else { return false };
        let generation = shared.generation.load(Ordering::Acquire);
        if generation == self.generation {
            return false;
        }
        self.generation = generation;
        let present = |number: usize| shared.cards.get(number).is_some_and(|seen| seen.present.load(Ordering::Acquire));
        self.cards.retain(|card| present(card.number));
        for (number, seen) in shared.cards.iter().enumerate() {
            if present(number) && !self.cards.iter().any(|card| card.number == number) {
                let most = Watts(seen.most_milliwatts.load(Ordering::Relaxed) as f64 * 1e-3);
                self.cards.push(Card { number, smooth: TruedUp::new(MILLIJOULES, most, REFRESH_MS), started: false });
            }
        }
        self.cards.sort_by_key(|card| card.number);
        self.counters.clear();
        for card in &self.cards {
            let most = shared.cards[card.number].most_milliwatts.load(Ordering::Relaxed);
            self.counters.push(Counter {
                domain: Domain::Gpu(u16::try_from(card.number).unwrap_or(u16::MAX)),
                source: Source::Nvml,
                quality: Quality::Measured,
                spec: CounterSpec::NANOJOULES,
                max_power: Watts(most as f64 * 1e-3),
                refresh_ms: REFRESH_MS,
            });
        }
        true
    }

    /// Appends what each card shows now. Calls nothing of the library, waits for nothing, allocates nothing.
    pub fn read(&mut self, out: &mut Vec<CounterReading>) {
        let (Some(shared), Some(clock)) = (&self.shared, self.clock) else { return };
        let now_us = u64::try_from(clock.elapsed().as_micros()).unwrap_or(u64::MAX);
        for card in &mut self.cards {
            let seen = &shared.cards[card.number];
            let mut raw = None;
            if seen.present.load(Ordering::Acquire) {
                let power = Watts(seen.milliwatts.load(Ordering::Relaxed) as f64 * 1e-3);
                let true_value = card.smooth.observe(seen.millijoules.load(Ordering::Relaxed), Some(power), now_us);
                // A driver that was loaded anew counts from zero: one look is unknown.
                raw = true_value.then(|| card.smooth.shown(now_us)).filter(|_| card.started);
                card.started = true;
            }
            let age_ms = u32::try_from(card.smooth.age_us(now_us) / 1_000).unwrap_or(u32::MAX);
            out.push(CounterReading { raw, age_ms });
        }
    }
}

impl Drop for Cards {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            // The thread may be inside the driver: it is told, not waited for.
            shared.stop.store(true, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn say(&self, problem: Option<String>) {
        if let Ok(mut said) = self.problem.lock() {
            *said = problem;
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// The thread: asks all cards until it is told to stop.
fn poll(shared: &Shared, libraries: &[OsString]) -> Result<(), String> {
    let mut problem = String::new();
    let load = |library: &OsString| {
        Nvml::builder().lib_path(library).init().inspect_err(|error| {
            problem = format!("{}: {error}", library.display());
        })
    };
    let nvml = libraries.iter().map(load).find_map(Result::ok);
    let Some(nvml) = nvml else { return Err(problem) };
    let mut polls = 0_u32;
    let mut devices: Vec<Option<Device<'_>>> = Vec::new();
    while !shared.stopped() {
        if polls.is_multiple_of(LOOK) {
            look(shared, &nvml, &mut devices);
        }
        polls = polls.wrapping_add(1);
        for (device, seen) in devices.iter_mut().zip(&shared.cards) {
            let Some(card) = device else { continue };
            match card.total_energy_consumption() {
                Ok(millijoules) => {
                    seen.milliwatts.store(milliwatts(card), Ordering::Relaxed);
                    seen.millijoules.store(millijoules, Ordering::Relaxed);
                    if !seen.present.swap(true, Ordering::AcqRel) {
                        shared.generation.fetch_add(1, Ordering::AcqRel);
                    }
                }
                Err(_) => {
                    *device = None;
                    if seen.present.swap(false, Ordering::AcqRel) {
                        shared.generation.fetch_add(1, Ordering::AcqRel);
                    }
                }
            }
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// Takes handles of all cards that have none.
fn look<'nvml>(shared: &Shared, nvml: &'nvml Nvml, devices: &mut Vec<Option<Device<'nvml>>>) {
    let count = match nvml.device_count() {
        Ok(count) => count,
        Err(error) => return shared.say(Some(format!("cards could not be counted: {error}"))),
    };
    let count = usize::try_from(count).unwrap_or(MOST_CARDS).min(MOST_CARDS);
    devices.resize_with(count.max(devices.len()), || None);
    for (number, device) in devices.iter_mut().enumerate().filter(|(_, device)| device.is_none()) {
        let Some(card) = u32::try_from(number).ok().and_then(|index| nvml.device_by_index(index).ok()) else {
            continue;
        };
        let most = card.power_management_limit_default().unwrap_or(0);
        let most = if most == 0 { DEFAULT_WATTS * 1e3 } else { f64::from(most) };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hundred thousand milliwatts")]
        // Four times the limit, as for every other counter: double is common for a few milliseconds.
        shared.cards[number].most_milliwatts.store((most * 4.0) as u64, Ordering::Relaxed);
        *device = Some(card);
    }
}

/// The power right now, or its average where that is all there is.
fn milliwatts(card: &Device<'_>) -> u64 {
    let field = card.field_values_for(&[POWER_INSTANT]).ok().and_then(|fields| fields.into_iter().next()?.ok());
    match field.and_then(|field| field.value.ok()) {
        Some(SampleValue::U32(milliwatts)) => u64::from(milliwatts),
        Some(SampleValue::U64(milliwatts)) => milliwatts,
        _ => card.power_usage().map_or(0, u64::from),
    }
}
