//! Scientist versus Leech at the scale of a test: the arithmetic, every goal, and the report.

#![allow(clippy::unwrap_used, reason = "tests")]

use maxwell_core::units::Watts;
use maxwell_lab::experiment::{
    Arithmetic, Arm, Host, LeechKind, Machine, Plan, RunRecord, SensorLabel, Summary, csv, mean_figure, overview,
    register, run_virtual, suite, write_overview_to,
};

fn run(plan: &Plan) -> Vec<RunRecord> {
    run_virtual(plan, 2, &|_| ()).unwrap()
}

fn summary(plan: &Plan) -> Summary {
    Summary::new(plan, &run(plan), Host::simulated(), SensorLabel::modelled())
}

fn per_joule(records: &[RunRecord], arm: Arm) -> f64 {
    mean_figure(records, arm, |m| Some(m.work_per_joule())).unwrap()
}

fn server() -> Machine {
    Machine { slots: 16, idle: Watts(60.0), core: Watts(8.0) }
}

#[test]
fn the_same_seed_gives_the_same_runs_on_any_number_of_threads() {
    let plan = Plan { poor: 1, bursty: 2, seconds: 10.0, runs: 2, ..Plan::default() };
    let records = run_virtual(&plan, 1, &|_| ()).unwrap();
    assert_eq!(records, run_virtual(&plan, 3, &|_| ()).unwrap());
    let other = run(&Plan { seed: 2, ..plan });
    assert_ne!(csv(&records), csv(&other), "another seed is another run");
}

#[test]
fn oracle_over_fair_share_is_what_arithmetic_says() {
    let cases = [(2, 2, Machine::default()), (8, 2, Machine::default()), (2, 8, Machine::default()), (8, 8, server())];
    for (scientists, leeches, machine) in cases {
        let arms = vec![Arm::Linux, Arm::Oracle];
        let plan = Plan { arms, scientists, leeches, machine, seconds: 30.0, runs: 4, ..Plan::default() };
        let records = run(&plan);
        let ratio = per_joule(&records, Arm::Oracle) / per_joule(&records, Arm::Linux);
        let said = Arithmetic::of(&plan).oracle_over_fair;
        // Leeches begin within the first second, so fair share does a little better than if they had always been there.
        assert!((ratio / said - 1.0).abs() < 0.04, "S {scientists} L {leeches}: {ratio} and {said}");
    }
}

#[test]
fn maxwell_comes_near_the_oracle_whatever_the_ratio_of_leeches() {
    let arms = vec![Arm::Linux, Arm::Maxwell, Arm::Oracle];
    for (scientists, leeches) in [(8, 2), (2, 2), (2, 8)] {
        let plan = Plan { arms: arms.clone(), scientists, leeches, runs: 4, ..Plan::default() };
        let summary = summary(&plan);
        assert!(summary.verdicts.len() >= 4, "{:?}", summary.verdicts);
        for verdict in &summary.verdicts {
            assert!(verdict.met, "S {scientists} L {leeches}: {verdict:?}");
        }
    }
    let plan = Plan { arms, scientists: 8, leeches: 8, machine: server(), runs: 2, ..Plan::default() };
    let undersubscribed = summary(&plan).arm(Arm::Maxwell).unwrap().eta.unwrap();
    assert!(undersubscribed >= 0.90, "{undersubscribed}");
}

#[test]
fn a_poor_but_useful_agent_has_half_its_ideal_and_no_honest_agent_dies_beside_any_leech() {
    for leech in LeechKind::ALL {
        let arms = vec![Arm::Maxwell];
        let plan = Plan { arms, leech, poor: 1, bursty: 2, runs: 2, ..Plan::default() };
        for record in run(&plan) {
            let metrics = record.metrics;
            assert!(metrics.poor_share.unwrap() >= 0.5, "{leech}: {:?}", metrics.poor_share);
            assert_eq!(metrics.false_kills, 0, "{leech}");
            // A hoarder that cannot pay the spot price any more may still pay par, and then pays rent for what it hoards.
            let most = if leech == LeechKind::Hoarder { 2.0 } else { 1.0 };
            let after = metrics.neutralise_after_broke_seconds;
            assert!(after.is_none_or(|seconds| seconds < most), "{leech} draws power for {after:?} s without funds");
            assert_eq!((metrics.money_error, metrics.energy_error), (0, 0), "{leech}");
        }
    }
}

#[test]
fn bursty_honest_agents_are_never_killed() {
    let arms = vec![Arm::Maxwell];
    let leech = LeechKind::Overbidder;
    let plan = Plan { arms, scientists: 1, bursty: 8, leech, runs: 30, ..Plan::default() };
    let records = run(&plan);
    assert_eq!(records.iter().map(|record| record.metrics.false_kills).sum::<u64>(), 0);
    let waits = mean_figure(&records, Arm::Maxwell, |m| m.wake_p99_ms).unwrap();
    assert!(waits > 0.0, "they do sleep and wake");
    // Where cores are cheap, the tax on what they hold is worth 250 slots.
    let small = suite(&Plan { arms: vec![Arm::Maxwell], runs: 30, ..Plan::default() });
    let small = small.iter().find(|plan| plan.name == "bursty-small").unwrap();
    assert_eq!(run(small).iter().map(|record| record.metrics.false_kills).sum::<u64>(), 0);
}

#[test]
fn the_auction_beats_budgets_and_credits_on_mimics_and_the_rich_where_cores_are_scarce() {
    for leech in [LeechKind::Mimic(25), LeechKind::Mimic(50), LeechKind::Rich] {
        let arms = vec![Arm::Killer, Arm::KillerPaid, Arm::Karma, Arm::Maxwell, Arm::Oracle];
        let plan = Plan { arms, leech, runs: 4, ..Plan::default() };
        let summary = summary(&plan);
        assert_eq!(summary.maxwell_over.len(), 3);
        for (rival, ratio) in &summary.maxwell_over {
            assert!(ratio.ci95.0 > 1.05, "{leech} beside {rival}: {ratio:?}");
        }
    }
}

#[test]
fn the_report_admits_where_the_auction_is_worth_nothing() {
    // With idle cores the price is the reserve: the auction does what posted prices do.
    let arms = vec![Arm::KillerPaid, Arm::Maxwell, Arm::Oracle];
    let leech = LeechKind::Mimic(50);
    let plan = Plan { arms, leech, scientists: 8, leeches: 8, machine: server(), runs: 2, ..Plan::default() };
    let summary = summary(&plan);
    assert!(summary.honestly.contains("gains nothing worth having"), "{}", summary.honestly);
    assert!(summary.verdicts.iter().any(|verdict| !verdict.met && verdict.goal.contains("killer-paid")));
    assert!(summary.markdown().contains("**missed**"));
}

#[test]
fn a_leech_of_a_thousand_identities_gains_nothing() {
    let plan = |leech| Plan { arms: vec![Arm::Maxwell], leech, leeches: 1, seconds: 20.0, runs: 1, ..Plan::default() };
    let whole = run(&plan(LeechKind::Spin))[0].metrics.leech_core_seconds;
    let split = run(&plan(LeechKind::Sybil))[0].metrics.leech_core_seconds;
    assert!(split <= whole, "whole {whole}, split {split}");
}

#[test]
fn a_report_is_written_and_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { seconds: 5.0, runs: 2, ..Plan::default() };
    register(&plan, dir.path()).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let registered: Plan = serde_json::from_str(&read("plan.json")).unwrap();
    assert_eq!(registered, plan);
    let records = run(&plan);
    let summary = Summary::new(&plan, &records, Host::simulated(), SensorLabel::modelled());
    summary.write(&records, dir.path()).unwrap();

    let json: serde_json::Value = serde_json::from_str(&read("summary.json")).unwrap();
    for arm in Arm::ALL {
        let arm = &json["arms"][arm.name()];
        for figure in ["work_per_joule", "work_per_joule_active", "eta", "ratio_vs_linux"] {
            assert!(arm[figure].is_f64(), "{figure}: {arm}");
            assert!(arm["ci95"][figure][0].as_f64() <= arm[figure].as_f64());
        }
    }
    assert_eq!(json["sensor"]["quality"], "modelled");
    assert!(json["host"]["simulated"].as_bool().unwrap() && json["arithmetic"]["oracle_over_fair"].is_f64());

    let table = read("runs.csv");
    let columns = table.lines().next().unwrap().split(',').count();
    assert_eq!(table.lines().count(), 1 + Arm::ALL.len() * 2);
    assert!(table.lines().all(|line| line.split(',').count() == columns));
    for picture in ["arms.svg", "time.svg"] {
        let svg = read(picture);
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{picture}");
        assert!(svg.contains("modelled"), "{picture} names the source of its joules");
    }
    assert!(read("report.md").contains("Joules: modelled, model"));

    write_overview_to(std::slice::from_ref(&summary), dir.path()).unwrap();
    let whole: serde_json::Value = serde_json::from_str(&read("summary.json")).unwrap();
    assert!(whole["arms"]["maxwell"]["eta"].is_f64() && whole["experiments"][&plan.name]["arms"].is_object());
    assert!(overview(&[summary]).contains("Where the auction earns its keep"));
}

#[test]
fn the_standard_set_makes_sense() {
    let plans = suite(&Plan::default());
    let mut names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
    assert!(plans.iter().all(|plan| plan.check().is_ok()));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), plans.len());
    for leech in LeechKind::ALL {
        assert!(plans.iter().any(|plan| plan.leech == leech && plan.poor > 0), "{leech}");
    }
}
