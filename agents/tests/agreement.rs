//! The same plan on this host and in virtual time: the two agree, within what was measured of the difference (`lab`'s `agreement`).

#![allow(clippy::unwrap_used, reason = "a test that cannot set up a run fails")]

use std::path::Path;
use std::sync::atomic::AtomicBool;

use maxwell_hypervisor::process::cgroup::Hierarchy;
use maxwell_lab::experiment::real::Real;
use maxwell_lab::experiment::{
    Arm, Host, Plan, RunRecord, SensorLabel, Summary, Told, compare, comparison_table, run_virtual,
};

const ARMS: [Arm; 5] = [Arm::Linux, Arm::Killer, Arm::KillerPaid, Arm::Maxwell, Arm::Oracle];
/// Whoever builds something beside this test makes an arm worse than it is; who repeats must be unlucky twice.
const ATTEMPTS: u32 = 2;
/// Where something else uses more than this share of the cores, leeches take so much of the rest that fair share and the market cannot be told
/// apart.
const CROWDED: f64 = 0.6;

fn told(plan: &Plan, records: &[RunRecord], host: Host) -> Told {
    let summary = Summary::new(plan, records, host, SensorLabel::modelled());
    Told::read(&serde_json::to_string(&summary).unwrap()).unwrap()
}

/// Records of one arm under the name of another.
fn renamed(records: &[RunRecord], from: Arm, to: Arm) -> Vec<RunRecord> {
    let others = records.iter().filter(|record| record.turn.arm != to).cloned();
    let taken = records.iter().filter(|record| record.turn.arm == from).cloned().map(|mut record| {
        record.turn.arm = to;
        record
    });
    others.chain(taken).collect()
}

#[test]
fn virtual_time_and_this_host_agree() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: groups take root");
        return;
    }
    if let Err(why) = Hierarchy::find(Path::new("/")) {
        println!("skipped: {why}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let agents = Path::new(env!("CARGO_BIN_EXE_scientist")).parent().unwrap();
    let real = Real::open(agents, folder.path(), None).unwrap();
    if real.machine().slots < 2 {
        println!("skipped: two scientists and two leeches want two cores");
        return;
    }
    // As many scientists and leeches as there are cores; half a core-second each, so that even leeches at par are broke in time.
    let cores = real.machine().slots;
    let mut plan = Plan {
        arms: ARMS.to_vec(),
        scientists: cores,
        leeches: cores,
        seconds: 2.5,
        runs: 2,
        machine: real.machine(),
        ..Plan::default()
    };
    plan.economy.wallet = 0.5;
    let mut tried = String::new();
    for attempt in 0..ATTEMPTS {
        plan.seed = 1 + u64::from(attempt);
        let simulated = run_virtual(&plan, 1, &|_| ()).unwrap();
        let stop = AtomicBool::new(false);
        let outcomes = real.series(&plan, &stop, |_, _| (), |_| Ok(())).unwrap();
        let here: Vec<RunRecord> = outcomes.into_iter().map(|outcome| outcome.record).collect();
        let there = told(&plan, &simulated, Host::simulated());
        let host = told(&plan, &here, real.host());
        let all = compare(&there, &host).unwrap();
        if host.crowd() > CROWDED {
            println!("skipped: something else uses {:.0} % of the cores", host.crowd() * 100.0);
            return;
        }
        // Two figures for three arms, one for fair share itself, and as many again on a quiet host.
        assert!(all.len() == 7 || all.len() == 14, "{all:?}");
        tried.push_str(&comparison_table(&all, &host));
        if !all.iter().all(|one| one.agrees()) {
            continue;
        }
        println!("{tried}");
        // What must not agree: this host's fair share with what virtual time has for the market.
        let wrong = told(&plan, &renamed(&here, Arm::Linux, Arm::Maxwell), real.host());
        let all = compare(&there, &wrong).unwrap();
        let differs = all.iter().any(|one| one.arm == Arm::Maxwell && !one.agrees());
        assert!(differs, "fair share passes for the market:\n{}", comparison_table(&all, &wrong));
        return;
    }
    panic!("virtual time and this host differ, {ATTEMPTS} times:\n{tried}");
}
