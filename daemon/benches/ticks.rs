//! Whether ticks are on time, and what the market costs, with few agents, with ten thousand, and with a hundred commands; prints a Markdown table.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use maxwell_daemon::machine::{Machine, RunOptions, Until};
use maxwell_daemon::scenario::Scenario;

/// Long enough that one percent of the ticks is a number worth quoting.
const SECONDS: u64 = 30;

fn main() {
    println!("### Ticks: on time, at what cost\n");
    println!(
        "`maxwell run` for {SECONDS} s each, every slot busy. Lateness: from the deadline to the start of the tick. Market: \
         core time of the market thread, with everything it does, as a share of one core.\n"
    );
    println!(
        "| scenario | agents | slots sold and resold a tick | late p50 | p99 | max | lost ticks | market | real-time |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for name in ["demo", "ten-thousand", "processes-crowd"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../scenarios/{name}.toml"));
        let scenario = Scenario::load(&path).unwrap();
        let machine = Machine::new(&path, &scenario, 0).unwrap();
        let options = RunOptions { until: Until::Time(Duration::from_secs(SECONDS)), ..RunOptions::default() };
        let result = machine.run(&options, &AtomicBool::new(false)).unwrap();
        let late = result.report.tick_lateness_us;
        let per_tick = result.slots_run as f64 / result.report.ticks.max(1) as f64;
        println!(
            "| {name} | {} | {per_tick:.1} | {} µs | {} µs | {} µs | {} | {:.2} % | {} |",
            result.report.agents.len(),
            late.p50,
            late.p99,
            late.max,
            result.lost_ticks,
            result.market_share * 100.0,
            if result.realtime { "SCHED_FIFO" } else { "not permitted" },
        );
    }
    println!();
}
