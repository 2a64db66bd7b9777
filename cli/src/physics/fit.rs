//! `maxwell physics fit`.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use comfy_table::{Cell, CellAlignment, Table, presets};
use maxwell_core::units::Watts;
use maxwell_physics::artefact::{self, Existing};
use maxwell_physics::fit::{self, Fitted, Options, Score, Trace};
use maxwell_physics::profile::{Profile, Provenance};

use super::{Fit, plot};
use crate::outcome::Failure;
use crate::run::say;

pub(super) fn fit(arguments: &Fit) -> Result<ExitCode, Failure> {
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    // Better known now than after the work; the writing itself checks again.
    for path in arguments.out.iter().chain(&arguments.plot) {
        if existing == Existing::Keep && path.symlink_metadata().is_ok() {
            return Err(Failure::Exists { path: path.clone() });
        }
    }
    let traces: Vec<Trace> = arguments.traces.iter().map(|path| Trace::load(path)).collect::<Result<_, _>>()?;
    let tdp = arguments.tdp.map(Watts::from);
    let fitted = fit::fit(&traces, &Options { threads: arguments.threads, tdp, clock: arguments.clock })?;
    let profile = profile(&traces, &fitted, arguments.title.as_deref());

    if let Some(path) = &arguments.out {
        profile.save(path, existing)?;
    }
    if let Some(path) = &arguments.plot {
        write(path, &plot::svg(&profile, &fitted), existing)?;
    }
    if arguments.json {
        say(&format!("{:#}\n", json(&profile, &fitted, tdp)));
    } else {
        say(&text(&traces, &profile, &fitted, arguments));
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str, existing: Existing) -> Result<(), Failure> {
    artefact::write(path, text, existing).map_err(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::Exists { path: path.to_owned() },
        _ => Failure::Write { path: path.to_owned(), source },
    })
}

fn profile(traces: &[Trace], fitted: &Fitted, title: Option<&str>) -> Profile {
    let name = |trace: &Trace| trace.path.file_name().map(|name| name.to_string_lossy().into_owned());
    let title = title.map(str::to_owned).or_else(|| traces.iter().find_map(|trace| trace.machine.clone()));
    let title = title.or_else(|| traces.first().and_then(name)).unwrap_or_default();
    let names: Vec<String> = traces.iter().filter_map(name).collect();
    let power = &fitted.power;
    Profile {
        title: printable(&title, "a machine"),
        threads: fitted.threads,
        provenance: Some(Provenance {
            source: printable(&format!("{} rows of {}", power.rows, names.join(", ")), "traces"),
            date: date(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())),
            peak: Some(milli(power.peak)),
            in_sample: Some(milli(power.ours.in_sample)),
            held_out: Some(milli(power.ours.held_out)),
        }),
        power: power.model.clone(),
        plant: fitted.thermal.as_ref().ok().map(|thermal| thermal.plant),
        delay: None,
    }
}

fn milli(watts: Watts) -> Watts {
    Watts((watts.0 * 1e3).round() / 1e3)
}

/// A text from outside as profiles and terminals take it.
fn printable(text: &str, otherwise: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).take(400).collect();
    if text.is_empty() { otherwise.to_owned() } else { text }
}

/// The day of a moment, by the Gregorian calendar in UTC (Howard Hinnant, *chrono-compatible low-level date algorithms*).
fn date(unix: u64) -> String {
    let days = unix / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

fn percent(watts: Watts, of: Watts) -> f64 {
    100.0 * watts.0 / of.0
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

fn errors(fitted: &Fitted, tdp: Option<Watts>) -> Table {
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let mut table = table();
    table.set_header(vec![
        Cell::new("mean absolute error"),
        right("rows it was fitted to".into()),
        right("rows held out".into()),
    ]);
    let power = &fitted.power;
    let cubic = match tdp {
        Some(tdp) => format!("CodeCarbon's formula at {tdp}"),
        None => "CodeCarbon's formula at its best TDP".to_owned(),
    };
    for (name, score) in [("this fit", power.ours), ("a straight line", power.line), (cubic.as_str(), power.cubic)] {
        let cell = |watts: Watts| right(format!("{watts}  {:4.1} %", percent(watts, power.peak)));
        table.add_row(vec![Cell::new(name), cell(score.in_sample), cell(score.held_out)]);
    }
    table
}

fn model(profile: &Profile) -> Table {
    let mut table = table();
    let power = &profile.power;
    let mut row = |name: String, value: String| {
        table.add_row(vec![Cell::new(name), Cell::new(value).set_alignment(CellAlignment::Right)]);
    };
    row("idle".into(), power.idle.to_string());
    if power.awake.0 > 0.0 {
        row("while any core is awake".into(), format!("+{}", power.awake));
    }
    for knot in &power.curve {
        row(format!("each core that is {:.0} % busy", 100.0 * knot.utilisation), format!("+{}", knot.watts));
    }
    if let Some(siblings) = power.siblings {
        let name = format!("threads beyond {} busy ones, of that", siblings.cores);
        row(name, format!("{:.0} %", 100.0 * siblings.share));
    }
    if let Some(frequency) = power.frequency {
        row("all but idle, by the clock".into(), format!("(f/{})^{}", frequency.reference, frequency.gamma));
    }
    table
}

fn text(traces: &[Trace], profile: &Profile, fitted: &Fitted, arguments: &Fit) -> String {
    let mut out = String::new();
    describe(&mut out, traces, profile, fitted, arguments).expect("writing to a string");
    out
}

fn describe(
    out: &mut String,
    traces: &[Trace],
    profile: &Profile,
    fitted: &Fitted,
    arguments: &Fit,
) -> std::fmt::Result {
    let power = &fitted.power;
    let files = if traces.len() == 1 { "1 trace".to_owned() } else { format!("{} traces", traces.len()) };
    writeln!(
        out,
        "{}: {} rows of {files}, {} hardware threads, {} at most. Percentages are of that.\n",
        profile.title, power.rows, profile.threads, power.peak
    )?;
    writeln!(out, "{}", errors(fitted, arguments.tdp.map(Watts::from)).trim_fmt())?;
    writeln!(
        out,
        "Held out: {} blocks in turn, each predicted by a model chosen and fitted without it.",
        power.blocks
    )?;
    writeln!(out, "\nPower")?;
    writeln!(out, "{}", model(profile).trim_fmt())?;
    writeln!(out, "\nHeat")?;
    match &fitted.thermal {
        Ok(thermal) => {
            let plant = thermal.plant;
            let mut table = table();
            table.add_row(vec!["air".to_owned(), plant.ambient.to_string(), String::new()]);
            for (name, node) in [("die", plant.fast), ("sink", plant.slow)] {
                table.add_row(vec![name.into(), format!("{} K/W", node.resistance), format!("{} s", node.tau)]);
            }
            writeln!(out, "{}", table.trim_fmt())?;
            writeln!(
                out,
                "Root mean squared error: {:.2} K on the {} rows it was fitted to; {:.2} K on the last fifth, by a fit to the rest; of {:.0} K.",
                thermal.in_sample, thermal.rows, thermal.held_out, thermal.excursion
            )?;
        }
        Err(refusal) => writeln!(out, " not fitted: {refusal}")?,
    }
    if !power.notes.is_empty() {
        writeln!(out, "\nNotes")?;
    }
    for note in &power.notes {
        writeln!(out, " * {note}")?;
    }
    let written = [("profile", &arguments.out), ("picture", &arguments.plot)];
    for (what, path) in written {
        if let Some(path) = path {
            writeln!(out, "\nThe {what} is in {}.", printable(&path.display().to_string(), "a file"))?;
        }
    }
    Ok(())
}

fn json(profile: &Profile, fitted: &Fitted, tdp: Option<Watts>) -> serde_json::Value {
    let power = &fitted.power;
    let score = |score: Score| {
        serde_json::json!({
            "in_sample_w": score.in_sample.0,
            "held_out_w": score.held_out.0,
            "in_sample_percent_of_peak": percent(score.in_sample, power.peak),
            "held_out_percent_of_peak": percent(score.held_out, power.peak),
        })
    };
    let model = &profile.power;
    let curve: Vec<_> = model
        .curve
        .iter()
        .map(|knot| serde_json::json!({ "utilisation": knot.utilisation, "watts": knot.watts.0 }))
        .collect();
    let thermal = match &fitted.thermal {
        Ok(thermal) => serde_json::json!({
            "ambient_c": thermal.plant.ambient.0,
            "fast": thermal.plant.fast,
            "slow": thermal.plant.slow,
            "rows": thermal.rows,
            "excursion_k": thermal.excursion,
            "in_sample_rmse_k": thermal.in_sample,
            "held_out_rmse_k": thermal.held_out,
        }),
        Err(refusal) => serde_json::json!({ "refused": refusal.to_string() }),
    };
    serde_json::json!({
        "title": profile.title,
        "threads": profile.threads,
        "rows": power.rows,
        "blocks": power.blocks,
        "peak_w": power.peak.0,
        "errors": {
            "fit": score(power.ours),
            "line": score(power.line),
            "codecarbon": score(power.cubic),
            "codecarbon_tdp_w": tdp.map(|tdp| tdp.0),
        },
        "power": {
            "idle_w": model.idle.0,
            "awake_w": model.awake.0,
            "curve": curve,
            "siblings": model.siblings.map(|s| serde_json::json!({ "cores": s.cores, "share": s.share })),
            "frequency": model
                .frequency
                .map(|f| serde_json::json!({ "reference_mhz": f.reference.0, "gamma": f.gamma })),
        },
        "plant": thermal,
        "notes": power.notes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_told_right_through_leap_years() {
        let days = [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (4_107_542_399, "2100-02-28"),
        ];
        for (unix, day) in days {
            assert_eq!(date(unix), day);
        }
    }
}
