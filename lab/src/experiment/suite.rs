//! The standard set of experiments: every leech, few and many of them, idle cores, and honest agents that come and go.

use maxwell_core::units::Watts;

use super::leech::LeechKind;
use super::plan::{Machine, Plan};

/// The standard set with the arms, length, runs, seed, machine and economy of `base`. The first one is the headline: two scientists
/// and two spinning leeches on two cores.
#[must_use]
pub fn suite(base: &Plan) -> Vec<Plan> {
    let plan = |name: String, scientists, leeches, leech| Plan { name, scientists, leeches, leech, ..base.clone() };
    let mut plans = vec![
        plan("headline".into(), 2, 2, LeechKind::Spin),
        plan("few-leeches".into(), 8, 2, LeechKind::Spin),
        plan("many-leeches".into(), 2, 8, LeechKind::Spin),
    ];
    // Beside two scientists and two leeches a poor agent and two bursty ones.
    for leech in LeechKind::ALL {
        plans.push(Plan { poor: 1, bursty: 2, ..plan(leech.to_string(), 2, 2, leech) });
    }
    // A server with idle cores: 16 cores, 60 W idle, 8 W for a busy core.
    let machine = Machine { slots: 16, idle: Watts(60.0), core: Watts(8.0) };
    for leech in [
        LeechKind::Spin,
        LeechKind::Mimic(10),
        LeechKind::Mimic(25),
        LeechKind::Mimic(50),
        LeechKind::Rich,
        LeechKind::Sleeper,
    ] {
        plans.push(Plan { machine, ..plan(format!("idle-cores-{leech}"), 8, 8, leech) });
    }
    // Honest agents that come and go, among leeches that pay anything.
    plans.push(Plan { bursty: 8, ..plan("bursty".into(), 1, 2, LeechKind::Overbidder) });
    // A small machine, of which memory costs more beside a core: two threads of an EPYC (Cloud Carbon Footprint's figures).
    let machine = Machine { slots: 2, idle: Watts(0.9), core: Watts(1.55) };
    plans.push(Plan { machine, poor: 1, bursty: 8, ..plan("bursty-small".into(), 4, 2, LeechKind::Rich) });
    plans.push(plan("rich-many".into(), 2, 8, LeechKind::Rich));
    plans
}
