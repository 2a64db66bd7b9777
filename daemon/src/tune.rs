//! A relay experiment on the machine itself: load on all cores is switched so that the die's temperature swings, and the
//! swing tells the plant's slope and the loop's delay (see [`maxwell_core::thermal::RelayTuner`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use maxwell_core::energy::Metering;
use maxwell_core::sensor::{Activity, Quality, Reading, Sensor, Source};
use maxwell_core::thermal::{Relay, RelayError, RelayPolicy, RelayTuner, Tuning};
use maxwell_core::units::{Celsius, Watts};
use maxwell_hypervisor::clock;

use crate::realtime;

const TICK: Duration = Duration::from_millis(10);

/// Why a run gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum TuneError {
    /// The experiment failed.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// Somebody ended it.
    #[error("stopped before it was over: nothing was written")]
    Stopped,
}

/// What a run found, and through which sensors.
#[derive(Clone, Copy, Debug)]
pub struct Tuned {
    /// Gains, slope and delay.
    pub tuning: Tuning,
    /// Where temperature was read, and how far to trust it.
    pub thermometer: (Source, Quality),
    /// The least trust of the energy counters.
    pub power: Quality,
    /// How long it took.
    pub seconds: f64,
    /// The highest temperature that was shown.
    pub peak: Celsius,
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Seconds since it began.
    pub seconds: f64,
    /// Swings that count.
    pub swings: u32,
    /// The temperature shown.
    pub celsius: Option<Celsius>,
    /// Power.
    pub power: Watts,
    /// Whether the cores are at work.
    pub load: bool,
}

/// Threads that spin while they are told to, one for each core.
#[derive(Debug)]
struct Burners {
    working: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    used_ns: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Burners {
    fn start(count: usize) -> Self {
        let (working, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let used_ns: Vec<Arc<AtomicU64>> = (0..count).map(|_| Arc::default()).collect();
        let threads = used_ns
            .iter()
            .map(|used| {
                let (working, over, used) = (Arc::clone(&working), Arc::clone(&over), Arc::clone(used));
                std::thread::spawn(move || burn(&working, &over, &used))
            })
            .collect();
        Self { working, over, used_ns, threads }
    }

    fn used_us(&self) -> u64 {
        self.used_ns.iter().map(|used| used.load(Ordering::Relaxed)).sum::<u64>() / 1_000
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A burner cannot panic; if it did, it burns no more.
            let _ = thread.join();
        }
    }
}

/// Works or waits until it is over. Integer arithmetic in registers: ordinary work, power class 1.
fn burn(working: &AtomicBool, over: &AtomicBool, used: &AtomicU64) {
    let mut x = 0x9E37_79B9_7F4A_7C15_u64;
    while !over.load(Ordering::Relaxed) {
        if !working.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        for _ in 0..50_000 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
        }
        std::hint::black_box(x);
        used.store(clock::thread_cpu_ns(), Ordering::Relaxed);
    }
}

/// Runs the experiment in real time. `progress` is told about ten times a second.
///
/// # Errors
///
/// [`TuneError`]: the sensors or the plant allow no swing, or `stop` was set.
pub fn tune(
    sensor: &mut dyn Sensor,
    policy: RelayPolicy,
    stop: &AtomicBool,
    mut progress: impl FnMut(Progress),
) -> Result<Tuned, TuneError> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let burners = Burners::start(cores);
    let mut tuner = RelayTuner::new(policy);
    let (mut metering, mut reading) = (Metering::default(), Reading::default());
    metering.choose(sensor.counters());
    let (mut used, mut last, mut power) = (0, Instant::now(), Watts(0.0));
    let (mut thermometer, mut peak) = ((Source::Model, Quality::Modelled), Celsius(f64::MIN));
    let start = last;
    for n in 1u32.. {
        realtime::sleep_until(start + TICK * n);
        if stop.load(Ordering::Relaxed) {
            return Err(TuneError::Stopped);
        }
        let elapsed = last.elapsed();
        last = Instant::now();
        let now_used = burners.used_us();
        let busy = now_used - std::mem::replace(&mut used, now_used);
        let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let activity = Activity { elapsed_us, agents_us: busy, agents_weighted_us: busy, ..Activity::default() };
        if sensor.read(&activity, &mut reading) {
            metering.choose(sensor.counters());
        }
        let tick = metering.advance(&reading.counters, elapsed_us);
        if !tick.stale && elapsed_us > 0 {
            power = Watts(tick.die.0 as f64 / elapsed_us as f64 / 1_000.0);
        }
        if let Some(shown) = reading.temperature {
            thermometer = (shown.source, shown.quality);
            peak = Celsius(peak.0.max(shown.celsius.0));
        }
        let load = match tuner.step(elapsed.as_secs_f64(), reading.temperature, power) {
            Relay::Load(load) => load,
            Relay::Failed(error) => return Err(error.into()),
            Relay::Done(tuning) => {
                let modelled = sensor.counters().iter().any(|counter| counter.quality == Quality::Modelled);
                let power = if modelled { Quality::Modelled } else { Quality::Measured };
                return Ok(Tuned { tuning, thermometer, power, seconds: tuner.elapsed(), peak });
            }
        };
        burners.working.store(load, Ordering::Relaxed);
        if n.is_multiple_of(10) {
            let celsius = reading.temperature.map(|shown| shown.celsius);
            progress(Progress { seconds: tuner.elapsed(), swings: tuner.swings(), celsius, power, load });
        }
    }
    Err(TuneError::Stopped)
}
