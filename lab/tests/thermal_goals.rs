//! Thermal control meets its goals on every plant of the grid, and is better than the kernel's.

#![allow(clippy::unwrap_used, reason = "tests")]

use maxwell_lab::thermal::{Auction, Case, Comparison, Report, Rig, Trial};

#[test]
fn every_goal_is_met_on_every_plant() {
    let report = Report { comparisons: Case::all().into_iter().map(Comparison::run).collect() };
    let goals = report.goals();
    assert_eq!(goals.len(), 6);
    for goal in &goals {
        assert!(goal.met, "{}: {}\n{}", goal.goal, goal.measured, report.markdown());
    }
    // The cases must be able to fail: the rival oversteps where Maxwell does not, and plants do reach their limit.
    let stale = report.comparisons.iter().find(|c| c.case.name == "stale").unwrap();
    assert!(stale.linux().overshoot > 2.0, "a stale thermometer is hard");
    let limited = report.comparisons.iter().filter(|c| c.maxwell().settling.is_some()).count();
    assert!(limited >= 14, "{limited} cases reach the limit");
}

#[test]
fn the_same_case_gives_the_same_trace_bit_for_bit() {
    let case = || Case { seconds: 60.0, ..Case::all().remove(0) };
    let run = || {
        let case = case();
        let mut rig = Rig::new(&case);
        let mut auction = Auction::new(&case, rig.counters());
        let trial = Trial::run(&case, &mut rig, &mut auction);
        (trial.trace, auction.outcome().chain)
    };
    let (trace, chain) = run();
    assert!(trace.len() > 500 && trace.iter().any(|s| s.celsius > 74.0));
    assert_eq!(run(), (trace, chain));
}
