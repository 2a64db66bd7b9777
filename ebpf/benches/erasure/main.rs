//! What counting erased memory costs; prints Markdown tables.
//!
//! Machines are noisy and change from minute to minute, so everything that is compared is measured in turns: each round
//! attaches one meter after the other and asks the same worker, and differences are taken within a round.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark"
)]

#[path = "../../tests/group/mod.rs"]
mod group;
mod hoarding;
mod programs;
mod variants;
mod worker;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use group::Group;
use maxwell_ebpf::{EbpfError, available};
use variants::{VARIANTS, Variant};

const ROUNDS: usize = 31;

fn main() {
    if std::env::args().any(|argument| argument == "worker") {
        return worker::work();
    }
    if std::env::args().any(|argument| argument == "churn") {
        return worker::churn();
    }
    if let Err(error @ (EbpfError::Forbidden(_) | EbpfError::Unsupported(_))) = available() {
        println!("skipped: {error}");
        return;
    }
    let Some(group) = Group::new("bench") else {
        println!("skipped: no cgroup of version 2 can be made here");
        return;
    };
    let page_ns = calls(&group);
    reading(&group);
    programs::programs(&group, page_ns);
    hoarding::hoarding(&group);
}

struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    fn start(group: &Group) -> Self {
        let mut command = group.command(&std::env::current_exe().unwrap());
        let mut child = command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, orders, answers }
    }

    fn ask(&mut self, operation: &str) -> f64 {
        writeln!(self.orders, "{operation}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn nanoseconds(ns: f64) -> String {
    if ns.abs() >= 10_000.0 { format!("{:.1} µs", ns / 1e3) } else { format!("{ns:.0} ns") }
}

/// What each operation takes, and how much longer under each meter. Gives what counting one of many pages costs.
fn calls(group: &Group) -> f64 {
    let mut worker = Worker::start(group);
    let operations = worker::OPERATIONS;
    let mut took = vec![vec![Vec::with_capacity(ROUNDS); operations.len()]; VARIANTS.len()];
    for round in 0..=ROUNDS {
        for (variant, took) in VARIANTS.iter().zip(&mut took) {
            let attached = variant.attach(group);
            for ((operation, _), took) in operations.iter().zip(took) {
                let ns = worker.ask(operation);
                // The first round warms up.
                if round > 0 {
                    took.push(ns);
                }
            }
            drop(attached);
        }
    }
    println!("### Erasure meter: what it costs\n");
    println!(
        "One worker in a cgroup, {ROUNDS} rounds, each meter in turn in every round. First row: median. Other rows: median of the \
         differences within a round. One `fault` is a page of 16 MiB touched for the first time; `fork` is fork, exit and wait.\n"
    );
    let names: Vec<String> = operations.iter().map(|(name, _)| format!("`{name}`")).collect();
    println!("| attached | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    let nothing = &took[0];
    for (variant, took) in VARIANTS.iter().zip(&took) {
        let cells: Vec<String> = took
            .iter()
            .zip(nothing)
            .map(|(took, nothing)| {
                if *variant == Variant::Nothing {
                    return nanoseconds(median(took.clone()));
                }
                let difference = median(took.iter().zip(nothing).map(|(with, without)| with - without).collect());
                let sign = if difference >= 0.0 { "+" } else { "−" };
                format!("{sign}{}", nanoseconds(difference.abs()))
            })
            .collect();
        println!("| {} | {} |", variant.name(), cells.join(" | "));
    }
    println!();
    let many = operations.iter().position(|(name, _)| *name == "munmap 4096").unwrap();
    let metered = VARIANTS.iter().position(|variant| *variant == Variant::Meter).unwrap();
    let differences = took[metered][many].iter().zip(&nothing[many]).map(|(with, without)| with - without);
    median(differences.collect()) / 4096.0
}

/// The compiler may not see that nobody wants it.
pub(crate) fn keep<T>(value: T) {
    std::hint::black_box(value);
}

/// What reading costs.
fn reading(group: &Group) {
    use std::hint::black_box;
    use std::time::Instant;
    const TIMES: u32 = 20_000;
    let meter = maxwell_ebpf::ErasureMeter::open(group.level()).unwrap();
    let watched = meter.watch(group.id()).unwrap();
    let mut worker = Worker::start(group);
    worker.ask("munmap 64");
    let pid = [worker.child.id()];
    let (mut held, mut smaps) = (maxwell_ebpf::Held::default(), maxwell_ebpf::Smaps::default());
    let ballast = vec![1u8; 256 << 20];
    black_box(&ballast);
    let me = [std::process::id()];
    let time = |times: u32, look: &mut dyn FnMut()| {
        let from = Instant::now();
        (0..times).for_each(|_| look());
        from.elapsed().as_nanos() as f64 / f64::from(times)
    };
    let rows = [
        ("`Watched::read`", time(TIMES, &mut || keep(watched.read().unwrap()))),
        ("`Held::bytes`, one process", time(TIMES / 4, &mut || keep(held.bytes(&pid)))),
        ("`Smaps::look`, one process of some MiB", time(TIMES / 20, &mut || keep(smaps.look(&pid)))),
        ("`Smaps::look`, one process of 256 MiB", time(50, &mut || keep(smaps.look(&me)))),
    ];
    println!("### Erasure meter: what reading costs\n\n| read | mean |\n|---|---|");
    for (what, ns) in rows {
        println!("| {what} | {} |", nanoseconds(ns));
    }
    println!();
}
