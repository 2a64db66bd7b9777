//! What is written: `plan.json` before the first run; `runs.csv`, `summary.json`, `report.md` and pictures after the last.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::arm::Arm;
use super::metrics::{FIGURES, RunRecord};
use super::plan::Plan;
use super::plot::PlotError;
use super::summary::{ArmSummary, Host, RIVALS, Summary};

/// A report that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file or a directory cannot be written.
    #[error("{path} cannot be written: {source}", path = path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A picture cannot be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
}

fn write(path: PathBuf, text: &str) -> Result<(), ReportError> {
    std::fs::write(&path, text).map_err(|source| ReportError::Write { path, source })
}

fn json(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("plain data with text keys");
    text.push('\n');
    text
}

/// Writes the plan with its thresholds to `dir`, before anything has run.
///
/// # Errors
///
/// [`ReportError::Write`].
pub fn register(plan: &Plan, dir: &Path) -> Result<(), ReportError> {
    std::fs::create_dir_all(dir).map_err(|source| ReportError::Write { path: dir.to_owned(), source })?;
    write(dir.join("plan.json"), &json(plan))
}

/// Every run as a line of comma-separated values, the first line names the columns.
#[must_use]
pub fn csv(records: &[RunRecord]) -> String {
    let mut out = String::from("arm,run,seed");
    for (name, _) in FIGURES {
        out.push(',');
        out.push_str(name);
    }
    out.push('\n');
    for RunRecord { turn, metrics, .. } in records {
        write!(out, "{},{},{}", turn.arm, turn.run, turn.seed).expect("writing to a string");
        for (_, figure) in FIGURES {
            out.push(',');
            if let Some(value) = figure(metrics) {
                write!(out, "{value}").expect("writing to a string");
            }
        }
        out.push('\n');
    }
    out
}

impl Summary {
    /// Writes `summary.json`, `runs.csv`, `report.md`, `arms.svg` and `time.svg` to `dir`.
    ///
    /// # Errors
    ///
    /// [`ReportError`].
    pub fn write(&self, records: &[RunRecord], dir: &Path) -> Result<(), ReportError> {
        std::fs::create_dir_all(dir).map_err(|source| ReportError::Write { path: dir.to_owned(), source })?;
        write(dir.join("summary.json"), &json(self))?;
        write(dir.join("runs.csv"), &csv(records))?;
        write(dir.join("report.md"), &self.markdown())?;
        self.plot_arms(&dir.join("arms.svg"))?;
        self.plot_time(records, &dir.join("time.svg"))?;
        Ok(())
    }

    /// The report as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        self.write_markdown(&mut out).expect("writing to a string");
        out
    }

    fn write_markdown(&self, out: &mut String) -> std::fmt::Result {
        let Self { plan, host, sensor, arithmetic, .. } = self;
        writeln!(out, "# {}\n", plan.name)?;
        let Host { kernel, scheduler, processor, .. } = host;
        writeln!(
            out,
            "Kernel: {kernel}; fair scheduler: {scheduler}; processor: {processor}. **Joules: {sensor}.**\n"
        )?;
        writeln!(
            out,
            "{} scientists, {} leeches ({}), {} poor and {} bursty agents; {} cores, {} W idle, {} W for a busy core; {} s, {} runs of each arm, seed {}.\n",
            plan.scientists,
            plan.leeches,
            plan.leech,
            plan.poor,
            plan.bursty,
            plan.machine.slots,
            plan.machine.idle.0,
            plan.machine.core.0,
            plan.seconds,
            plan.runs,
            plan.seed
        )?;
        writeln!(out, "{}\n", self.honestly)?;
        writeln!(out, "## What had to come out\n")?;
        writeln!(
            out,
            "Oracle / fair share = {:.3} with idle power, {:.3} without ({}; L/S = {:.2}). Fair share: {:.2} core-s of work a second at {:.1} W; oracle: {:.2} at {:.1} W.\n",
            arithmetic.oracle_over_fair,
            arithmetic.oracle_over_fair_active,
            if arithmetic.oversubscribed {
                "oversubscribed: 1 + L/S"
            } else {
                "undersubscribed: bounded by idle power"
            },
            arithmetic.leeches_per_scientist,
            arithmetic.fair_work,
            arithmetic.fair_watts,
            arithmetic.oracle_work,
            arithmetic.oracle_watts
        )?;
        writeln!(out, "## What came out\n")?;
        self.write_table(out)?;
        writeln!(out, "\nIntervals are 95 % percentile bootstraps over runs, paired by seed. Joules are {sensor}.\n")?;
        writeln!(out, "![share of the oracle](arms.svg)\n\n![over time](time.svg)\n")?;
        writeln!(out, "## Thresholds, written before the first run\n")?;
        for verdict in &self.verdicts {
            let met = if verdict.met { "met" } else { "**missed**" };
            writeln!(out, "* {met}: {}: {}", verdict.goal, verdict.measured)?;
        }
        Ok(())
    }

    fn write_table(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "| arm | work/J | work/J without idle | eta | × linux | joules | leeches' joules | neutralised s | killed s | wake p99 ms | poor | honest killed | peak °C | price ± |"
        )?;
        writeln!(out, "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")?;
        for arm in &self.plan.arms {
            let Some(summary) = self.arm(*arm) else { continue };
            let told = if arm.knows_the_leeches() { " (told who)" } else { "" };
            writeln!(
                out,
                "| {arm}{told} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                with_interval(summary.work_per_joule, summary.ci95.work_per_joule, 4),
                with_interval(summary.work_per_joule_active, summary.ci95.work_per_joule_active, 4),
                with_interval(summary.eta, summary.ci95.eta, 3),
                with_interval(summary.ratio_vs_linux, summary.ci95.ratio_vs_linux, 2),
                figure(summary, "joules", 0),
                figure(summary, "wasted_joules", 1),
                figure(summary, "neutralise_seconds", 2),
                figure(summary, "kill_seconds", 2),
                figure(summary, "wake_p99_ms", 1),
                figure(summary, "poor_share", 2),
                figure(summary, "false_kills", 3),
                figure(summary, "peak_celsius", 1),
                figure(summary, "price_amplitude", 3),
            )?;
        }
        Ok(())
    }
}

fn figure(summary: &ArmSummary, name: &str, digits: usize) -> String {
    summary.figures.get(name).map_or_else(|| "–".to_owned(), |estimate| format!("{:.digits$}", estimate.value))
}

fn with_interval(value: Option<f64>, interval: Option<(f64, f64)>, digits: usize) -> String {
    match (value, interval) {
        (Some(value), Some((low, high))) => format!("{value:.digits$} [{low:.digits$}, {high:.digits$}]"),
        (Some(value), None) => format!("{value:.digits$}"),
        _ => "–".to_owned(),
    }
}

/// Several experiments side by side, as Markdown: a line for each, and where the auction earns its keep.
#[must_use]
pub fn overview(summaries: &[Summary]) -> String {
    let mut out = String::new();
    write_overview(summaries, &mut out).expect("writing to a string");
    out
}

fn write_overview(summaries: &[Summary], out: &mut String) -> std::fmt::Result {
    let sensor = summaries.first().map_or_else(String::new, |summary| summary.sensor.to_string());
    writeln!(
        out,
        "# Scientist versus Leech\n\n**Joules: {sensor}.** eta is the share of the oracle's work per joule.\n"
    )?;
    let arms: Vec<Arm> = Arm::ALL.into_iter().filter(|arm| summaries.iter().any(|s| s.arm(*arm).is_some())).collect();
    write!(out, "| experiment | S | L | leech | oracle/fair |")?;
    arms.iter().try_for_each(|arm| write!(out, " {arm} |"))?;
    writeln!(out, " honest killed | poor | missed |\n|---|---|---|---|---|{}---|---|---|", "---|".repeat(arms.len()))?;
    for summary in summaries {
        let plan = &summary.plan;
        write!(
            out,
            "| [{0}]({0}/report.md) | {1} | {2} | {3} | {4:.2} |",
            plan.name, plan.scientists, plan.leeches, plan.leech, summary.arithmetic.oracle_over_fair
        )?;
        for arm in &arms {
            let eta = summary.arm(*arm).and_then(|arm| arm.eta);
            write!(out, " {} |", eta.map_or_else(|| "–".to_owned(), |eta| format!("{eta:.3}")))?;
        }
        let maxwell = summary.arm(Arm::Maxwell);
        let largest = |name| maxwell.and_then(|m| m.largest.get(name).copied());
        let poor = maxwell.and_then(|m| m.smallest.get("poor_share").copied());
        let missed = summary.verdicts.iter().filter(|verdict| !verdict.met).count();
        writeln!(
            out,
            " {} | {} | {missed} |",
            largest("false_kills").map_or_else(|| "–".to_owned(), |n| format!("{n:.0}")),
            poor.map_or_else(|| "–".to_owned(), |share| format!("{share:.2}"))
        )?;
    }
    writeln!(out, "\n## Where the auction earns its keep\n")?;
    for rival in RIVALS {
        let of = |keep: &dyn Fn((f64, f64)) -> bool| -> Vec<String> {
            let named = |s: &Summary| {
                let ratio = s.maxwell_over.get(rival.name())?;
                keep(ratio.ci95).then(|| format!("{} ({:+.1} %)", s.plan.name, (ratio.value - 1.0) * 100.0))
            };
            summaries.iter().filter_map(named).collect()
        };
        let list = |names: Vec<String>| if names.is_empty() { "nowhere".to_owned() } else { names.join(", ") };
        writeln!(
            out,
            "* Beside `{rival}`: better by more than 1 %: {}. No better: {}. **Worse by more than 1 %: {}.**",
            list(of(&|(low, _)| low > 1.01)),
            list(of(&|(low, high)| low <= 1.01 && high >= 0.99)),
            list(of(&|(_, high)| high < 0.99))
        )?;
    }
    writeln!(out, "\n## Thresholds missed\n")?;
    let mut none = true;
    for summary in summaries {
        for verdict in summary.verdicts.iter().filter(|verdict| !verdict.met) {
            none = false;
            writeln!(out, "* {}: {}: {}", summary.plan.name, verdict.goal, verdict.measured)?;
        }
    }
    if none { writeln!(out, "None.") } else { Ok(()) }
}

/// Writes an overview of several experiments to `dir`: `report.md` and `summary.json`, which holds the first one's summary
/// and all of them under `experiments`.
///
/// # Errors
///
/// [`ReportError::Write`].
pub fn write_overview_to(summaries: &[Summary], dir: &Path) -> Result<(), ReportError> {
    #[derive(serde::Serialize)]
    struct Whole<'a> {
        #[serde(flatten)]
        first: Option<&'a Summary>,
        experiments: std::collections::BTreeMap<&'a str, &'a Summary>,
    }
    let experiments = summaries.iter().map(|summary| (summary.plan.name.as_str(), summary)).collect();
    write(dir.join("report.md"), &overview(summaries))?;
    write(dir.join("summary.json"), &json(&Whole { first: summaries.first(), experiments }))
}
