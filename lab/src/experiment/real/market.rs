//! The arm `maxwell`: the daemon's machine, with a sponsor of primes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use maxwell_agents::native::search;
use maxwell_core::agent::OnInsolvency;
use maxwell_core::bounty::Verifier;
use maxwell_core::market::{Event, MarketPolicy};
use maxwell_core::{AgentId, Joule, Micros, Price};
use maxwell_daemon::machine::{Machine, RunOptions, RunResult, Until};
use maxwell_daemon::notice::Notice;
use maxwell_daemon::scenario::{AgentGroup, GRACE, ProcessSpec, Program, Scenario, Sponsor};
use maxwell_hypervisor::process::Streams;
use maxwell_physics::TaskClock;

use super::meter::Meter;
use super::output::Lines;
use super::roster::{Member, roster};
use super::watch::{Seen, Watched};
use super::{Real, RealError};
use crate::experiment::plan::{Plan, Turn};

/// The machine is to live until the last look, and is then told to stop.
const BEYOND: Duration = Duration::from_secs(60);

/// How long each keeps a slot against equals: some ticks, so that caches stay warm.
const HOLD: Micros = Micros(50_000);

/// Runs a turn under the market.
pub(super) fn run(real: &Real, plan: &Plan, turn: Turn, stop: &AtomicBool) -> Result<Watched, RealError> {
    let members = roster(plan, turn.arm, turn.seed, &real.agents);
    let mut lines = Vec::new();
    for member in &members {
        lines.push(Lines::create(real.lines.join(format!("{}.lines", member.name)))?);
    }
    let scenario = scenario(real, plan, &members, &lines);
    let machine = Machine::new(Path::new(""), &scenario, turn.seed)?;
    let mut seen = Vec::new();
    for ((id, member), lines) in (0..).map(AgentId).zip(&members).zip(lines) {
        let group = machine.process(id).and_then(|cell| cell.group());
        let group = group.ok_or_else(|| RealError::Ungrouped(member.name.clone()))?;
        seen.push(Seen::new(member, lines, TaskClock::of_cgroup(&group)?));
    }
    let (watcher, notices) = channel();
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    let until = Until::Time(Duration::from_secs_f64(plan.seconds) + BEYOND);
    // A thread of its own, because it asks for real-time priority and keeps it.
    let thread = std::thread::Builder::new().name("maxwell-market".into()).spawn(move || {
        let options = RunOptions { until, watcher: Some(watcher), ..RunOptions::default() };
        machine.run(&options, &told)
    });
    let thread = thread.map_err(RealError::io("start a thread for", Path::new("the market")))?;
    let mut watched = Watched::start(seen, Meter::new(&real.scenario)?);
    let looked = watch(&mut watched, &notices, plan, &scenario.policy, stop);
    over.store(true, Ordering::Relaxed);
    let result = thread.join().map_err(|_| RealError::Panicked("see the error output".to_owned()))?;
    looked?;
    note(&mut watched, &result?, &notices);
    Ok(watched)
}

fn watch(
    watched: &mut Watched,
    notices: &Receiver<Notice>,
    plan: &Plan,
    policy: &MarketPolicy,
    stop: &AtomicBool,
) -> Result<(), RealError> {
    let mut price = None;
    while watched.goes_on(plan.seconds) && !stop.load(Ordering::Relaxed) {
        watched.wait(plan.seconds);
        let now = watched.elapsed();
        for notice in notices.try_iter() {
            match notice {
                Notice::Snapshot(snapshot) => price = Some(snapshot.spot.0 as f64 * 1e-3),
                Notice::Happened { tick, event: Event::Condemned { agent, .. } } => {
                    let at = usize::try_from(agent.0).unwrap_or(usize::MAX);
                    if let Some(seen) = watched.seen.get_mut(at) {
                        // It is condemned when it could not pay for a slot for as long as the grace.
                        let told = Duration::from_micros(tick.0.saturating_mul(policy.tick.0));
                        let broke = told.saturating_sub(Duration::from_micros(policy.grace.0));
                        seen.broke = seen.broke.or(Some(broke));
                    }
                }
                Notice::Happened { event: Event::Died { agent, reason }, .. } => {
                    let at = usize::try_from(agent.0).unwrap_or(usize::MAX);
                    if let Some(seen) = watched.seen.get_mut(at) {
                        seen.killed.get_or_insert(now);
                        if seen.role.is_honest() {
                            let text = format!("{} died: {}", seen.name, reason.code());
                            watched.remarks.push(text);
                        }
                    }
                }
                Notice::Failed { agent, why, .. } => watched.remarks.push(format!("agent {}: {why}", agent.0)),
                _ => {}
            }
        }
        watched.look(price, 0)?;
    }
    Ok(())
}

/// What the market itself says of the run.
fn note(watched: &mut Watched, result: &RunResult, notices: &Receiver<Notice>) {
    // Who dies now is ended with the machine.
    let _ = notices.try_iter().count();
    watched.freezes_ns = result.reaction.stop_ns.iter().map(|ns| u64::from(*ns)).collect();
    watched.money_error = result.report.money.error_nj;
    watched.energy_error = result.report.energy.error_nj;
    let ticks = result.report.ticks;
    let late = &result.report.tick_lateness_us;
    watched.remarks.push(format!(
        "{ticks} ticks, {} lost, {} late (p99 {} us, max {} us){}; market thread {:.2} % of a core; spot {} to {} mW, par {}",
        result.lost_ticks,
        result.report.late_ticks,
        late.p99,
        late.max,
        if result.realtime { "" } else { ", no real-time priority" },
        result.market_share * 100.0,
        result.report.price_mw.r#final,
        result.report.price_mw.peak,
        result.report.price_mw.par,
    ));
    for agent in &result.report.agents {
        watched.remarks.push(format!(
            "{}: {} ({}), core {:.3} s, {} units, paid {:.3} J, rent {:.3} J, tax {:.3} J, earned {:.3} J, balance {:.3} J",
            agent.name,
            agent.state,
            agent.reason,
            agent.core_us as f64 * 1e-6,
            agent.work_verified,
            agent.paid_nj as f64 * 1e-9,
            agent.rent_nj as f64 * 1e-9,
            agent.tax_nj as f64 * 1e-9,
            agent.earned_nj as f64 * 1e-9,
            agent.balance_nj as f64 * 1e-9,
        ));
    }
}

/// This machine, with these agents and somebody who pays for primes.
fn scenario(real: &Real, plan: &Plan, members: &[Member], lines: &[Lines]) -> Scenario {
    let mut scenario = real.scenario.clone();
    let par = scenario.policy.thermal.par;
    let cores = f64::from(scenario.policy.thermal.slots);
    scenario.sponsors = vec![Sponsor {
        name: "primes".to_owned(),
        verifier: Verifier::Prime { least: search::FLOOR },
        reward: real.reward(plan.economy.value),
        // All that can be found in the time, and as much again.
        budget: joules(2.0 * plan.economy.value * cores * plan.seconds, par),
    }];
    let agents = members.iter().zip(lines).map(|(member, lines)| AgentGroup {
        name: member.name.clone(),
        count: 1,
        program: Program::Process(Box::new(ProcessSpec {
            command: member.command.iter().map(Into::into).collect(),
            cwd: Some(real.lines.clone()),
            streams: Streams::File(lines.path().to_owned()),
            grace: GRACE,
            wait_all: member.wait_all,
            ..ProcessSpec::default()
        })),
        wallet: joules(member.wallet, par),
        limit: limit(member.bid, par),
        slots: member.slots,
        hold: HOLD,
        lifetime: None,
        insolvency: OnInsolvency::Apoptosis,
        principal: member.name.clone(),
        power_class: 1_000,
    });
    scenario.agents = agents.collect();
    scenario
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates; a plan's sums are positive"
)]
fn joules(core_seconds: f64, par: Price) -> Joule {
    Joule((core_seconds * par.0 as f64 * 1e6) as u64)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as above")]
fn limit(times: f64, par: Price) -> Price {
    Price((times * par.0 as f64) as u64)
}
