//! `maxwell physics export`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use maxwell_core::energy::Metering;
use maxwell_core::sensor::{Activity, Counter, Quality, Reading, Sensor};
use maxwell_core::units::Watts;
use maxwell_physics::sensors::file::{self, HostReport};
use maxwell_physics::{Choice, Instruments, ModelConfig, OtherLoad, Root};

use super::tune;
use crate::outcome::{Failure, INTERRUPTED};
use crate::run::say;

/// What `maxwell physics export` is told.
#[derive(Args)]
pub(crate) struct Export {
    /// The file. It is replaced with every write, by a rename, so that nobody ever reads half of it; it is removed at the end.
    file: PathBuf,
    /// How often it is written.
    #[arg(long, default_value_t = 100, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u32).range(10..=10_000))]
    interval: u32,
    /// Where energy and temperature are read (see `maxwell run --help`).
    #[arg(long, value_name = "WORDS")]
    sensor: Option<Choice>,
}

/// Reads this often between writes: counters must be seen to wrap.
const READ: Duration = Duration::from_millis(10);

pub(crate) fn run(export: &Export) -> Result<ExitCode, Failure> {
    let write = |report: &HostReport| {
        file::write(&export.file, report).map_err(|source| Failure::Write { path: export.file.clone(), source })
    };
    let choice = export.sensor.clone().unwrap_or_default();
    let model = ModelConfig::from(&tune::assumed());
    let mut sensor =
        Instruments::open(Root::machine(), choice, model).map_err(|error| Failure::Usage(error.to_string()))?;
    let stop = Arc::new(AtomicBool::new(false));
    crate::run::stop_on_signals(&stop)?;
    say(&format!(
        "Writing {} to {} every {} ms until Ctrl-C.\n",
        sensor.describe(),
        export.file.display(),
        export.interval
    ));
    let (mut metering, mut reading, mut others) = (Metering::default(), Reading::default(), OtherLoad::default());
    metering.choose(sensor.counters());
    let (mut last, mut written, mut sequence) = (Instant::now(), None::<Instant>, 0);
    while !stop.load(Ordering::Relaxed) {
        let elapsed = last.elapsed();
        last = Instant::now();
        let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` saturates; load is never negative"
        )]
        let others_us = (others.busy_cores(0) * elapsed_us as f64) as u64;
        let activity = Activity { elapsed_us, others_us, ..Activity::default() };
        if sensor.read(&activity, &mut reading) {
            metering.choose(sensor.counters());
        }
        metering.advance(&reading.counters, elapsed_us);
        if written.is_none_or(|at| at.elapsed() >= Duration::from_millis(u64::from(export.interval))) {
            written = Some(Instant::now());
            sequence += 1;
            write(&report(sequence, export.interval, &metering, sensor.counters(), &reading))?;
        }
        std::thread::sleep(READ);
    }
    // A guest must not believe that somebody still writes.
    std::fs::remove_file(&export.file).map_err(|source| Failure::Write { path: export.file.clone(), source })?;
    Ok(ExitCode::from(INTERRUPTED))
}

fn report(sequence: u64, interval_ms: u32, metering: &Metering, counters: &[Counter], reading: &Reading) -> HostReport {
    let quality = |worst: Quality, next: Quality| match (worst, next) {
        (Quality::Modelled, _) | (_, Quality::Modelled) => Quality::Modelled,
        (Quality::Filtered, _) | (_, Quality::Filtered) => Quality::Filtered,
        _ => Quality::Measured,
    };
    let shown = reading.temperature;
    HostReport {
        sequence,
        interval_ms,
        energy_uj: Some(u64::try_from(metering.total() / 1_000).unwrap_or(u64::MAX)),
        max_energy_range_uj: u64::MAX,
        max_power: Watts(counters.iter().map(|counter| counter.max_power.0).sum()),
        celsius: shown.map(|shown| shown.celsius),
        quality: counters
            .iter()
            .map(|counter| counter.quality)
            .chain(shown.map(|shown| shown.quality))
            .fold(Quality::Measured, quality),
    }
}
