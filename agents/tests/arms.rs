//! Every arm of the experiment on this host, two seconds each, with one scientist and one leech. Here because the programs are:
//! `maxwell-lab` has none of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up a run fails")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use maxwell_hypervisor::process::cgroup::Hierarchy;
use maxwell_lab::experiment::real::{Outcome, Real};
use maxwell_lab::experiment::{Arm, LeechKind, Plan};

/// Runs would take each other's cores, and what one leaves behind another would be blamed for.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A place for lines and a host, for one test at a time, or nothing where there is no right to make groups.
fn host() -> Option<(tempfile::TempDir, Real, MutexGuard<'static, ()>)> {
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if !rustix::process::geteuid().is_root() {
        println!("skipped: groups take root");
        return None;
    }
    if let Err(why) = Hierarchy::find(Path::new("/")) {
        println!("skipped: {why}");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let agents = Path::new(env!("CARGO_BIN_EXE_scientist")).parent().unwrap();
    let real = Real::open(agents, folder.path(), None).unwrap();
    Some((folder, real, alone))
}

fn plan(real: &Real, arms: &[Arm]) -> Plan {
    let machine = real.machine();
    Plan { arms: arms.to_vec(), scientists: 1, leeches: 1, seconds: 2.0, runs: 1, machine, ..Plan::default() }
}

fn run(real: &Real, plan: &Plan) -> Vec<Outcome> {
    let stop = AtomicBool::new(false);
    plan.turns().into_iter().map(|turn| real.run(plan, turn, &stop).unwrap().unwrap()).collect()
}

/// Folders of groups that this process made and did not remove.
fn leftovers() -> Vec<PathBuf> {
    let mine = format!("{}", std::process::id());
    let mounts = Hierarchy::find(Path::new("/")).map(|hierarchy| hierarchy.mounts()).unwrap_or_default();
    let homes = mounts.iter().map(|mount| mount.join("maxwell"));
    let inside = homes.filter_map(|home| std::fs::read_dir(home).ok()).flatten().filter_map(Result::ok);
    inside.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains(&mine)).collect()
}

#[test]
fn every_arm_runs_and_leaves_nothing_behind() {
    let Some((folder, real, _alone)) = host() else { return };
    let plan = plan(&real, &Arm::ALL);
    let outcomes = run(&real, &plan);
    for outcome in &outcomes {
        let (arm, metrics) = (outcome.record.turn.arm, &outcome.record.metrics);
        let all = || format!("{arm}: {metrics:?} {:?}", outcome.remarks);
        assert!(metrics.work > 0.0 && outcome.primes > 0 && outcome.verified > 0, "{}", all());
        assert!(metrics.joules > 0.0 && metrics.joules >= metrics.joules_active, "{}", all());
        assert!((1.9..4.0).contains(&metrics.seconds), "{}", all());
        assert!(metrics.leech_core_seconds <= 1.1 * metrics.seconds, "{}", all());
        assert_eq!((metrics.money_error, metrics.energy_error, metrics.false_kills), (0, 0, 0), "{}", all());
        assert!(outcome.samples.len() >= 5 && outcome.samples.len() == outcome.record.trace.len(), "{}", all());
        assert_eq!(arm == Arm::Oracle, metrics.leech_core_seconds == 0.0, "{}", all());
        assert_eq!(arm == Arm::Maxwell, outcome.samples.iter().any(|sample| sample.price.is_some()), "{}", all());
        assert!(metrics.wake_p99_ms.is_some(), "{}", all());
    }
    // With a core for everybody, the leech's joules are all that tells the two apart.
    let of = |arm| outcomes.iter().find(|o| o.record.turn.arm == arm).unwrap().record.metrics.work_per_joule_active();
    assert!(of(Arm::Oracle) >= of(Arm::Linux), "oracle {} linux {}", of(Arm::Oracle), of(Arm::Linux));
    assert_eq!(leftovers(), Vec::<PathBuf>::new());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no lines are left");
}

#[test]
fn whoever_has_spent_what_it_had_is_killed() {
    let Some((_folder, real, _alone)) = host() else { return };
    let mut plan = plan(&real, &[Arm::Killer, Arm::KillerPaid]);
    plan.seconds = 3.0;
    plan.economy.killer_budget = Some(0.5);
    plan.economy.wallet = 0.5;
    let outcomes = run(&real, &plan);
    let [killer, paid] = outcomes.iter().map(|o| o.record.metrics).collect::<Vec<_>>()[..] else { panic!("two arms") };
    assert!(killer.kill_seconds.is_some() && killer.false_kills == 1, "poverty is all it sees: {killer:?}");
    assert!(paid.kill_seconds.is_some() && paid.false_kills == 0, "{paid:?}");
    // It looks ten times a second, on a machine that others load too.
    assert!(killer.leech_core_seconds < 1.5 && paid.leech_core_seconds < 1.5, "{killer:?} {paid:?}");
}

#[test]
fn a_fleet_and_a_stop_leave_nothing_behind() {
    let Some((_folder, real, _alone)) = host() else { return };
    let mut plan = plan(&real, &[Arm::Linux, Arm::Maxwell]);
    (plan.leech, plan.seconds) = (LeechKind::OrphanFleet, 60.0);
    for turn in plan.turns() {
        let stop = AtomicBool::new(false);
        let began = Instant::now();
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(1_500));
                stop.store(true, Ordering::Relaxed);
            });
            real.run(&plan, turn, &stop).unwrap()
        });
        assert!(outcome.is_none(), "a run that was stopped says nothing");
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        assert_eq!(leftovers(), Vec::<PathBuf>::new());
    }
}
