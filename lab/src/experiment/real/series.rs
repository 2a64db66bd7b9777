//! A whole plan on a host: turn by turn, with everything that was seen in a file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::meter::Meter;
use super::watch::RawSample;
use super::{Outcome, Real, RealError};
use crate::experiment::plan::{Plan, Turn};

/// The start temperature is reached within this.
const NEAR: f64 = 1.0;
/// The longest that a run waits for the machine to cool.
const COOLING: Duration = Duration::from_secs(120);
/// Between runs without a thermometer: what the last one left behind is gone by then.
const PAUSE: Duration = Duration::from_millis(200);

/// The columns of the raw data.
const COLUMNS: &str =
    "arm,run,seconds,joules,honest_cores,leech_cores,own_cores,other_cores,primes,celsius,price_watts";

/// Everything that was seen, line by line: whoever stops in the middle has what was seen until then.
#[derive(Debug)]
pub struct RawData {
    samples: BufWriter<File>,
    remarks: BufWriter<File>,
    folder: std::path::PathBuf,
}

impl RawData {
    /// Begins `samples.csv` and `remarks.txt` in a folder.
    ///
    /// # Errors
    ///
    /// [`RealError::Io`]
    pub fn create(folder: &Path) -> Result<Self, RealError> {
        let make = |name: &str| {
            let path = folder.join(name);
            File::create(&path).map(BufWriter::new).map_err(RealError::io("make", &path))
        };
        let (mut samples, remarks) = (make("samples.csv")?, make("remarks.txt")?);
        writeln!(samples, "{COLUMNS}").map_err(RealError::io("write to", folder))?;
        Ok(Self { samples, remarks, folder: folder.to_owned() })
    }

    /// Adds a run.
    ///
    /// # Errors
    ///
    /// [`RealError::Io`]
    pub fn add(&mut self, outcome: &Outcome) -> Result<(), RealError> {
        self.write(outcome).map_err(RealError::io("write to", &self.folder))
    }

    fn write(&mut self, outcome: &Outcome) -> std::io::Result<()> {
        let Turn { arm, run, .. } = outcome.record.turn;
        for sample in &outcome.samples {
            writeln!(self.samples, "{arm},{run},{}", columns(sample))?;
        }
        for remark in &outcome.remarks {
            writeln!(self.remarks, "{arm} {run}: {remark}")?;
        }
        self.samples.flush()?;
        self.remarks.flush()
    }
}

fn columns(sample: &RawSample) -> String {
    let maybe = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.3}"));
    format!(
        "{:.4},{:.6},{:.4},{:.4},{:.4},{:.3},{},{},{}",
        sample.seconds,
        sample.joules,
        sample.honest_cores,
        sample.leech_cores,
        sample.own_cores,
        sample.other_cores,
        sample.primes,
        maybe(sample.celsius),
        maybe(sample.price),
    )
}

/// One second of the baseline.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Second {
    /// Since the start, at its end.
    pub seconds: f64,
    /// Mean power.
    pub watts: f64,
    /// Temperature at its end.
    pub celsius: Option<f64>,
    /// Primes found in it.
    pub primes: u64,
    /// Primes for each joule, idle power included.
    pub primes_per_joule: f64,
}

impl Outcome {
    /// The run second by second: what the baseline shows.
    #[must_use]
    pub fn seconds(&self) -> Vec<Second> {
        let mut seconds: Vec<Second> = Vec::new();
        let (mut joules, mut before) = (0.0, RawSample::default());
        for sample in &self.samples {
            joules += sample.joules;
            // The last look of a second may come a little late.
            if sample.seconds - before.seconds >= 0.95 {
                let primes = sample.primes.saturating_sub(before.primes);
                seconds.push(Second {
                    seconds: sample.seconds,
                    watts: joules / (sample.seconds - before.seconds),
                    celsius: sample.celsius,
                    primes,
                    primes_per_joule: if joules > 0.0 { primes as f64 / joules } else { 0.0 },
                });
                (joules, before) = (0.0, *sample);
            }
        }
        seconds
    }
}

impl Real {
    /// Runs a plan, turn by turn, and tells `ended` of each. Stops between and within turns; then the outcomes are those of the turns
    /// that were finished.
    ///
    /// # Errors
    ///
    /// [`RealError`]
    pub fn series(
        &self,
        plan: &Plan,
        stop: &AtomicBool,
        mut begins: impl FnMut(usize, &Turn),
        mut ended: impl FnMut(&Outcome) -> Result<(), RealError>,
    ) -> Result<Vec<Outcome>, RealError> {
        let mut thermometer = Meter::new(&self.scenario)?;
        let start = thermometer.measured_celsius();
        let mut outcomes = Vec::new();
        for (number, turn) in plan.turns().into_iter().enumerate() {
            cool(&mut thermometer, start, stop);
            begins(number, &turn);
            let Some(outcome) = self.run(plan, turn, stop)? else { break };
            ended(&outcome)?;
            outcomes.push(outcome);
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(outcomes)
    }
}

/// Waits until the machine is as cool as at the start. A model starts cool every time.
fn cool(thermometer: &mut Meter, start: Option<f64>, stop: &AtomicBool) {
    let began = Instant::now();
    std::thread::sleep(PAUSE);
    let Some(start) = start else { return };
    while began.elapsed() < COOLING
        && !stop.load(Ordering::Relaxed)
        && thermometer.measured_celsius().is_some_and(|now| now > start + NEAR)
    {
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::arm::Arm;
    use crate::experiment::metrics::{RunMetrics, RunRecord};

    #[test]
    fn seconds_hold_all_joules_and_primes_of_whole_seconds() {
        let samples: Vec<RawSample> = (1..=25u32)
            .map(|n| RawSample {
                seconds: f64::from(n) * 0.1,
                joules: 2.0,
                primes: u64::from(n) * 10,
                ..RawSample::default()
            })
            .collect();
        let turn = Turn { arm: Arm::Linux, run: 0, seed: 0 };
        let record = RunRecord { turn, metrics: RunMetrics::default(), trace: Vec::new() };
        let outcome = Outcome { record, samples, primes: 250, verified: 0, remarks: Vec::new() };
        let seconds = outcome.seconds();
        assert_eq!(seconds.iter().map(|second| second.primes).collect::<Vec<_>>(), [100, 100]);
        assert!(seconds.iter().all(|second| (second.watts - 20.0).abs() < 1e-6 && second.primes_per_joule == 5.0));
    }

    #[test]
    fn raw_data_has_as_many_columns_as_names() {
        let line = format!("linux,0,{}", columns(&RawSample::default()));
        assert_eq!(line.split(',').count(), COLUMNS.split(',').count());
    }
}
