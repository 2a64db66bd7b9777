//! The closing summary: what happened, for somebody who has never seen Maxwell.

use std::fmt::Write;

use maxwell_core::units::{Joule, Price};
use maxwell_daemon::machine::RunResult;
use maxwell_daemon::report::{AgentReport, DomainReport};
use maxwell_daemon::scenario::Scenario;

/// In a crowd agents are summed by principal.
const FEW: usize = 12;

/// The summary, as text.
pub(crate) fn text(scenario: &Scenario, result: &RunResult) -> String {
    let mut out = String::new();
    write(&mut out, scenario, result).expect("writing to a string");
    out
}

fn write(out: &mut String, scenario: &Scenario, result: &RunResult) -> std::fmt::Result {
    let report = &result.report;
    writeln!(out)?;
    writeln!(out, "── what happened in {:.0} seconds ──", report.seconds)?;
    if report.agents.len() <= FEW {
        for agent in &report.agents {
            writeln!(out, "{}", story(agent))?;
        }
    } else {
        crowd(out, &report.agents)?;
    }
    let price = &report.price_mw;
    writeln!(
        out,
        "The price of a core began at {} (what its electricity costs), peaked at {} and ended at {}.",
        Price(price.par),
        Price(price.peak),
        Price(price.r#final)
    )?;
    writeln!(
        out,
        "The die began at {:.1}°C, peaked at {:.1}°C (Maxwell holds {}) and ended at {:.1}°C; thermometer: {}.",
        report.temp_c.start,
        report.temp_c.peak,
        scenario.policy.thermal.set,
        report.temp_c.r#final,
        labelled(report.sensor.thermometer, report.sensor.thermometer_quality)
    )?;
    if report.plant.learnt {
        let (fast, slow) = (report.plant.fast, report.plant.slow);
        writeln!(
            out,
            "It learnt how this machine warms: {:.2} K/W in {:.2} s for the die, {:.2} K/W in {:.1} s for the sink.",
            fast.resistance, fast.tau, slow.resistance, slow.tau
        )?;
    }
    let money = &report.money;
    writeln!(
        out,
        "Money: {} minted = {} paid for energy, scarcity, rent and tax + {} in wallets and with sponsors + {} in escrow; error {} nJ.",
        Joule(money.minted_nj),
        Joule(money.burned_nj),
        Joule(money.balances_nj),
        Joule(money.escrow_nj),
        money.error_nj
    )?;
    let energy = &report.energy;
    writeln!(
        out,
        "Energy: {}; {} on the meter = {} agents + {} idle and others + {} Maxwell; error {} nJ.",
        sources(&energy.domains),
        Joule(energy.meter_nj),
        Joule(energy.attributed_nj),
        Joule(energy.idle_nj),
        Joule(energy.daemon_nj),
        energy.error_nj
    )?;
    let lateness = &report.tick_lateness_us;
    writeln!(
        out,
        "{} ticks, late by p50 {} µs, p99 {} µs, at most {} µs; {} late by more than 1 ms. The market used {:.2} % of one core{}.",
        report.ticks,
        lateness.p50,
        lateness.p99,
        lateness.max,
        report.late_ticks,
        result.market_share * 100.0,
        if result.realtime { "" } else { " (without real-time priority: not permitted here)" }
    )?;
    if report.agents.iter().any(|agent| agent.cell == "wasm") {
        writeln!(out, "Erased bytes were proved by {}.", result.method.name())?;
    }
    if let Some(processes) = &result.processes {
        let (held, erased) = (&processes.held_by, &processes.erased_by);
        writeln!(out, "Processes were held by {held}; the bytes that they erased were {erased}.")?;
    }
    writeln!(out, "state hash {}", report.state_hash)
}

/// A source and how far to trust it.
fn labelled(source: &str, quality: &str) -> String {
    if quality == "modelled" {
        "a model, not a measurement (`maxwell doctor` shows what this machine could offer)".to_owned()
    } else {
        format!("{source}, {quality}")
    }
}

/// The meter by source, the largest share of the machine first.
fn sources(domains: &[DomainReport]) -> String {
    let mut parts: Vec<String> = domains
        .iter()
        .map(|part| format!("{} of {} ({}, {})", Joule(part.meter_nj), part.domain, part.source, part.quality))
        .collect();
    if parts.len() > 4 {
        let more = parts.len() - 4;
        parts.truncate(4);
        parts.push(format!("{more} more"));
    }
    parts.join("; ")
}

/// One agent's life in a sentence or two.
fn story(agent: &AgentReport) -> String {
    let spent = agent.paid_nj + agent.rent_nj + agent.tax_nj;
    let end = match agent.state {
        "dead" => format!("DIED ({})", agent.reason),
        "parked" => format!("is PARKED ({})", agent.reason),
        "dying" => format!("is dying ({})", agent.reason),
        _ => "LIVES".to_owned(),
    };
    let work = match agent.work_verified {
        0 => "did no work that anybody paid for".to_owned(),
        n => format!("did {n} units of verified work and earned {}", Joule(agent.earned_nj)),
    };
    format!(
        "{} {end}. It {work}. It paid {} for {:.2} s of core time, {} for erasing memory and {} for holding it, {} in all, and has {} left.",
        agent.name,
        Joule(agent.paid_nj),
        agent.core_us as f64 * 1e-6,
        Joule(agent.tax_nj),
        Joule(agent.rent_nj),
        Joule(spent),
        Joule(agent.balance_nj)
    )
}

fn crowd(out: &mut String, agents: &[AgentReport]) -> std::fmt::Result {
    let mut owners: Vec<&str> = agents.iter().map(|agent| agent.principal.as_str()).collect();
    owners.sort_unstable();
    owners.dedup();
    for owner in owners.iter().take(FEW) {
        let mine: Vec<&AgentReport> = agents.iter().filter(|agent| agent.principal == *owner).collect();
        let count = |state: &str| mine.iter().filter(|agent| agent.state == state).count();
        let sum = |value: fn(&AgentReport) -> u64| {
            Joule(mine.iter().fold(0u64, |sum, agent| sum.saturating_add(value(agent))))
        };
        writeln!(
            out,
            "{owner}: {} agents, {} alive, {} parked, {} dead; {:.2} s of core time for {}, {} tax, {} rent; earned {}; {} left.",
            mine.len(),
            count("running") + count("waiting") + count("dying"),
            count("parked"),
            count("dead"),
            mine.iter().map(|agent| agent.core_us).sum::<u64>() as f64 * 1e-6,
            sum(|agent| agent.paid_nj),
            sum(|agent| agent.tax_nj),
            sum(|agent| agent.rent_nj),
            sum(|agent| agent.earned_nj),
            sum(|agent| agent.balance_nj)
        )?;
    }
    if owners.len() > FEW {
        writeln!(out, "… and {} more owners.", owners.len() - FEW)?;
    }
    Ok(())
}
