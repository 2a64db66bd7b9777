//! `maxwell physics tune`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use maxwell_core::sensor::Quality;
use maxwell_core::thermal::{FosterNode, RelayPolicy};
use maxwell_core::units::Celsius;
use maxwell_daemon::tune::{Progress, TuneError, Tuned, tune};
use maxwell_physics::artefact::Existing;
use maxwell_physics::profile::Profile;
use maxwell_physics::{Choice, Instruments, ModelConfig, Root, cpu};
use serde_json::json;

use crate::outcome::{Failure, INTERRUPTED};
use crate::run::say;

/// What `maxwell physics tune` is told.
#[derive(Args)]
#[command(after_help = "Example: maxwell physics tune --profile host.toml --out host-tuned.toml")]
pub(crate) struct Tune {
    /// The most time it may take.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(20..=600))]
    seconds: u32,
    /// The run ends, and fails, above this temperature in degrees Celsius.
    #[arg(long, default_value_t = 85.0, value_name = "CELSIUS")]
    limit: f64,
    /// Where energy and temperature are read (see `maxwell run --help`).
    #[arg(long, value_name = "WORDS")]
    sensor: Option<Choice>,
    /// The machine's profile, as `maxwell physics fit` makes it; what tuning finds is added to it.
    #[arg(long, value_name = "PROFILE.toml")]
    profile: Option<PathBuf>,
    /// Write the profile with the tuned numbers to a file.
    #[arg(long, value_name = "PROFILE.toml")]
    out: Option<PathBuf>,
    /// Replace a file that is there already.
    #[arg(long)]
    force: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(tune_: &Tune) -> Result<ExitCode, Failure> {
    if !(30.0..=150.0).contains(&tune_.limit) {
        let message = format!("a limit of {} °C makes no sense: give one between 30 and 150", tune_.limit);
        return Err(Failure::Usage(message));
    }
    if let Some(out) = tune_.out.as_ref().filter(|out| !tune_.force && out.exists()) {
        return Err(Failure::Exists { path: out.clone() });
    }
    let mut profile = match &tune_.profile {
        Some(path) => Profile::load(path).map_err(Failure::Profile)?,
        None => assumed(),
    };
    let choice = tune_.sensor.clone().unwrap_or_default();
    let mut sensor = Instruments::open(Root::machine(), choice, ModelConfig::from(&profile))
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let stop = Arc::new(AtomicBool::new(false));
    crate::run::stop_on_signals(&stop)?;

    let policy =
        RelayPolicy { abort: Celsius(tune_.limit), most_seconds: f64::from(tune_.seconds), ..RelayPolicy::default() };
    let terminal = std::io::stderr().is_terminal();
    if !tune_.json {
        say(&format!(
            "Full load is switched on and off for up to {} s; sensors: {}.\n",
            tune_.seconds,
            sensor.describe()
        ));
    }
    let result = tune(&mut sensor, policy, &stop, |progress| {
        if terminal {
            eprint!("\r\x1b[K{}", words(&progress));
        }
    });
    if terminal {
        eprint!("\r\x1b[K");
    }
    let tuned = match result {
        Ok(tuned) => tuned,
        Err(TuneError::Stopped) => {
            eprintln!("maxwell: {}", TuneError::Stopped);
            return Ok(ExitCode::from(INTERRUPTED));
        }
        Err(TuneError::Relay(error)) => return Err(Failure::Tune(error)),
    };
    apply(&mut profile, &tuned);
    if let Some(out) = &tune_.out {
        let existing = if tune_.force { Existing::Replace } else { Existing::Keep };
        profile.save(out, existing).map_err(Failure::Profile)?;
    }
    say(&if tune_.json { as_json(&tuned) } else { as_text(&tuned, tune_) });
    Ok(ExitCode::SUCCESS)
}

/// A machine of which nothing is known but its processor.
pub(super) fn assumed() -> Profile {
    let cpu = cpu::Cpu::parse(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
    let default = cpu.default_power();
    Profile {
        title: format!("{}, {}", cpu.name, default.family),
        threads: cpu.threads.max(1),
        provenance: None,
        power: default.power,
        plant: None,
        delay: None,
    }
}

/// What tuning knows better: the delay, and how fast a watt warms the die. The resistance stays; the time constant follows.
fn apply(profile: &mut Profile, tuned: &Tuned) {
    let mut plant = profile.plant.unwrap_or_default();
    let resistance = plant.fast.resistance;
    let tau = (resistance / tuned.tuning.slope).clamp(0.01, 10_000.0);
    plant.fast = FosterNode { resistance, tau };
    profile.plant = Some(plant);
    profile.delay = Some(tuned.tuning.delay.clamp(0.0, 10.0));
}

fn words(progress: &Progress) -> String {
    let celsius = progress.celsius.map_or_else(|| "no temperature".to_owned(), |t| t.to_string());
    let load = if progress.load { "full load" } else { "rest" };
    format!("{:5.1} s  {celsius}  {:.1}  {load}  {} swings", progress.seconds, progress.power, progress.swings)
}

fn modelled(tuned: &Tuned) -> bool {
    tuned.thermometer.1 == Quality::Modelled
}

fn as_text(tuned: &Tuned, tune: &Tune) -> String {
    let t = &tuned.tuning;
    let mut text = format!(
        "{} swings of ±{:.1} K in {:.0} s, at most {}; thermometer: {} ({}), power {}.\n\
         ultimate gain      {:.2} W/K at a period of {:.2} s\n\
         Tyreus–Luyben      K_c = {:.2} W/K, T_i = {:.2} s\n\
         slope of the die   {:.3} K/s for each watt\n\
         delay of the loop  {:.0} ms\n",
        t.swings,
        t.amplitude,
        tuned.seconds,
        tuned.peak,
        tuned.thermometer.0.name(),
        tuned.thermometer.1.name(),
        tuned.power.name(),
        t.ultimate_gain,
        t.ultimate_period,
        t.gain,
        t.reset_time,
        t.slope,
        t.delay * 1e3
    );
    if modelled(tuned) {
        text += "The thermometer is a model: these numbers describe the model, and not this machine.\n";
    }
    match &tune.out {
        Some(out) => text += &format!("Written to {}: `[sensors] model` in a scenario uses it.\n", out.display()),
        None => text += "Nothing was written: --out PROFILE.toml keeps it.\n",
    }
    text
}

fn as_json(tuned: &Tuned) -> String {
    let t = &tuned.tuning;
    let value = json!({
        "ultimate_gain_w_per_k": t.ultimate_gain,
        "ultimate_period_s": t.ultimate_period,
        "gain_w_per_k": t.gain,
        "reset_time_s": t.reset_time,
        "slope_k_per_s_per_w": t.slope,
        "delay_s": t.delay,
        "amplitude_k": t.amplitude,
        "swings": t.swings,
        "seconds": tuned.seconds,
        "peak_celsius": tuned.peak.0,
        "thermometer": { "source": tuned.thermometer.0.name(), "quality": tuned.thermometer.1.name() },
        "power_quality": tuned.power.name(),
    });
    format!("{value:#}\n")
}
