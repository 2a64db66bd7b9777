//! Process cells: how long freezing, thawing and starting takes; prints Markdown tables. Needs root and cgroup v2.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark"
)]

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use maxwell_hypervisor::process::cgroup::{Cgroup, Hierarchy, Limits, Subtree, sweep};
use maxwell_hypervisor::process::freezer::FreezerError;
use maxwell_hypervisor::process::sandbox::{Prepared, Sandbox, Surroundings};
use maxwell_hypervisor::process::spawn::{Entry, Program, enter, spawn};
use maxwell_hypervisor::process::stop::{TOKEN, Tree};
use rustix::event::{PollFd, PollFlags, poll};

#[path = "../examples/hostile/count.rs"]
mod count;

const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // This program is its own agent.
    if let [_, word, path, processes, kind] = arguments.as_slice()
        && word == "count"
    {
        count::count(path, processes.parse().unwrap(), 1, kind == "syscalls");
    }
    let hierarchy = match Hierarchy::find(Path::new("/")) {
        Ok(hierarchy) => hierarchy,
        Err(error) => return println!("skipped: {error}"),
    };
    sweep(&hierarchy, PATIENCE).unwrap();
    let subtree = Subtree::new(&hierarchy).unwrap();
    freezing(&subtree);
    starting(&subtree);
}

/// As the market's thread runs (`daemon/src/realtime.rs`); children do not inherit it.
fn realtime(on: bool) -> bool {
    let policy = if on { libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK } else { libc::SCHED_OTHER };
    let parameters = libc::sched_param { sched_priority: i32::from(on) };
    // SAFETY: the structure lives during the call.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}

fn quantile(samples: &mut [Duration], q: f64) -> String {
    samples.sort_unstable();
    let at = ((samples.len() - 1) as f64 * q) as usize;
    let us = samples[at].as_secs_f64() * 1e6;
    if us < 1_000.0 { format!("{us:.0} µs") } else { format!("{:.2} ms", us / 1_000.0) }
}

fn row(samples: &mut [Duration]) -> String {
    [0.5, 0.99, 1.0].map(|q| quantile(samples, q)).join(" | ")
}

fn prepared(sandbox: &Sandbox) -> Prepared {
    let here =
        Surroundings { directory: Path::new("/tmp"), temporary: Path::new("/tmp"), forbidden: &[], streams: &[] };
    sandbox.prepare(&here).unwrap()
}

/// Tasks that count in shared memory.
struct Agents {
    counter: &'static AtomicU64,
    ready: &'static AtomicU64,
    program: Program,
    _file: tempfile::NamedTempFile,
}

impl Agents {
    fn new(tasks: usize, kind: &str, token: &str) -> Self {
        let file = tempfile::NamedTempFile::new_in("/tmp").unwrap();
        file.as_file().set_len(4096).unwrap();
        let words = ["count", file.path().to_str().unwrap(), &tasks.to_string(), kind].map(OsString::from);
        let argv = std::iter::once(std::env::current_exe().unwrap().into()).chain(words).collect();
        let environment = vec![(TOKEN.into(), token.into())];
        let program = Program { argv, environment, directory: Some("/tmp".into()), ..Program::default() };
        let [counter, ready] = count::counters(file.as_file());
        Self { counter, ready, program, _file: file }
    }

    /// Waits until all count.
    fn wait_ready(&self, tasks: usize) {
        while self.ready.load(Ordering::Relaxed) < tasks as u64 {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(50));
        self.ready.store(0, Ordering::Relaxed);
        self.progress(Instant::now(), self.counter.load(Ordering::Relaxed));
    }

    /// Waits for progress; how long it took.
    fn progress(&self, since: Instant, before: u64) -> Duration {
        while self.counter.load(Ordering::Relaxed) == before {
            assert!(since.elapsed() < PATIENCE, "no progress");
            std::hint::spin_loop();
        }
        since.elapsed()
    }
}

fn freezing(subtree: &Subtree) {
    println!("### Process cells: freeze and thaw\n");
    let realtime_here =
        if realtime(true) { "SCHED_FIFO, as the market's thread" } else { "without real-time scheduling" };
    println!(
        "A cell of single-threaded processes that count in shared memory, or call `stat` and count; more of them than cores, \
         all runnable. Freeze: from the write to `frozen 1` seen. Thaw: from the write to the first progress of any task. \
         SIGSTOP: the fallback, from the first signal to every process seen stopped; SIGCONT to the first progress; fewer \
         rounds. Measured from a thread with {realtime_here}.\n"
    );
    println!(
        "| tasks | work | freeze p50 | p99 | max | thaw p50 | p99 | max | undone | SIGSTOP p50 | p99 | max | SIGCONT p50 | p99 | max |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for tasks in [1usize, 10, 100, 1_000] {
        for (kind, work) in [("cpu", "computes"), ("syscalls", "system calls")] {
            let rounds = (20_000 / tasks).clamp(100, 1_000);
            let agents = Agents::new(tasks, kind, &format!("bench-{tasks}-{kind}"));
            let (mut freeze, mut thaw, undone) = by_cgroup(subtree, &agents, tasks, rounds);
            let (mut stop, mut resume) = by_signals(subtree, &agents, tasks, (5_000 / tasks).clamp(20, 300));
            println!(
                "| {tasks} | {work} | {} | {} | {undone} | {} | {} |",
                row(&mut freeze),
                row(&mut thaw),
                row(&mut stop),
                row(&mut resume)
            );
        }
    }
    realtime(false);
    println!();
}

/// Lets tasks run for a while that is not a multiple of anything.
fn let_run(round: usize) {
    std::thread::sleep(Duration::from_micros(1_500 + (round as u64 * 37) % 1_000));
}

fn by_cgroup(subtree: &Subtree, agents: &Agents, tasks: usize, rounds: usize) -> (Vec<Duration>, Vec<Duration>, usize) {
    let group = subtree.group(&format!("agents-{tasks}"), &Limits::default()).unwrap();
    let mut child = spawn(&agents.program, &[], &prepared(&Sandbox::default()), Some(&group)).unwrap();
    agents.wait_ready(tasks);
    assert_eq!(group.freezer().pids(tasks + 1).unwrap().len(), tasks);
    let (mut freeze, mut thaw, mut undone) = (Vec::new(), Vec::new(), 0);
    for round in 0..rounds {
        let_run(round);
        let since = Instant::now();
        match group.freezer().freeze(Duration::from_secs(1)) {
            Ok(()) => freeze.push(since.elapsed()),
            Err(FreezerError::Undone(_)) => undone += 1,
            Err(error) => panic!("{error}"),
        }
        std::thread::sleep(Duration::from_micros(300));
        let (before, since) = (agents.counter.load(Ordering::Relaxed), Instant::now());
        group.freezer().thaw(Duration::from_secs(1)).unwrap();
        thaw.push(agents.progress(since, before));
    }
    group.remove(PATIENCE).unwrap();
    child.wait().unwrap();
    (freeze, thaw, undone)
}

fn by_signals(subtree: &Subtree, agents: &Agents, tasks: usize, rounds: usize) -> (Vec<Duration>, Vec<Duration>) {
    // In a group all the same, so that its keeper ends them if this is interrupted.
    let group = subtree.group(&format!("signals-{tasks}"), &Limits::default()).unwrap();
    let child = spawn(&agents.program, &[], &prepared(&Sandbox::default()), Some(&group)).unwrap();
    let token = agents.program.environment[0].1.to_str().unwrap();
    let mut tree = Tree::new(child, token).unwrap();
    agents.wait_ready(tasks);
    assert_eq!(tree.stop(PATIENCE).unwrap(), tasks);
    tree.resume();
    let (mut stop, mut resume) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let_run(round);
        let since = Instant::now();
        tree.stop(PATIENCE).unwrap();
        stop.push(since.elapsed());
        std::thread::sleep(Duration::from_micros(300));
        let (before, since) = (agents.counter.load(Ordering::Relaxed), Instant::now());
        tree.resume();
        resume.push(agents.progress(since, before));
    }
    assert!(tree.kill(PATIENCE));
    (stop, resume)
}

fn starting(subtree: &Subtree) {
    println!("### Process cells: starting a program\n");
    println!(
        "`/bin/true`, 300 times each, in turns. From the call to the program being executed (`exec`), as `std` measures it. \
         A parent of 1 GiB has that much memory touched, whose page tables a `fork` copies.\n"
    );
    println!("| parent | how | p50 | p99 | max |");
    println!("|---|---|---|---|---|");
    let group = subtree.group("starting", &Limits::default()).unwrap();
    for parent in ["small", "1 GiB"] {
        let memory = if parent == "small" { Vec::new() } else { vec![1u8; 1 << 30] };
        let mut ways: [Way<'_>; 5] = [
            ("born in the group, sandbox", Vec::new(), Box::new(|| ours(&group, Entry::Born, &Sandbox::default()))),
            ("born in the group, no sandbox", Vec::new(), Box::new(|| ours(&group, Entry::Born, &Sandbox::off()))),
            ("moves into the group, no sandbox", Vec::new(), Box::new(|| ours(&group, Entry::Moved, &Sandbox::off()))),
            ("`std::process::Command`, no group", Vec::new(), Box::new(|| theirs(None))),
            ("`std::process::Command`, moves into the group", Vec::new(), Box::new(|| theirs(Some(&group)))),
        ];
        for _ in 0..300 {
            for (_, samples, start) in &mut ways {
                let since = Instant::now();
                start();
                samples.push(since.elapsed() - WAITED.take());
            }
        }
        for (name, samples, _) in &mut ways {
            println!("| {parent} | {name} | {} |", row(samples));
        }
        std::hint::black_box(&memory);
    }
    println!();
}

/// A name, samples, and how it is done.
type Way<'a> = (&'a str, Vec<Duration>, Box<dyn FnMut() + 'a>);

thread_local! {
    /// Time spent waiting for a child's end, which is not starting.
    static WAITED: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) };
}

fn ours(group: &Cgroup, entry: Entry, sandbox: &Sandbox) {
    let program = Program { argv: vec!["/bin/true".into()], directory: Some("/tmp".into()), ..Program::default() };
    let null = std::fs::File::open("/dev/null").unwrap();
    let mut child = enter(&program, &[(0, null.as_fd())], &prepared(sandbox), Some(group), entry).unwrap();
    if let Some(start) = child.start_fd() {
        poll(&mut [PollFd::new(&start, PollFlags::IN)], None).unwrap();
    }
    assert!(matches!(child.started(), Some(Ok(()))));
    let since = Instant::now();
    child.wait().unwrap();
    WAITED.set(since.elapsed());
}

fn theirs(group: Option<&Cgroup>) {
    let mut command = Command::new("/bin/true");
    command.stdin(Stdio::null()).current_dir("/tmp").env_clear();
    if let Some(group) = group {
        let procs = std::fs::File::options().write(true).open(group.path().join("cgroup.procs")).unwrap();
        // SAFETY: one system call.
        unsafe { command.pre_exec(move || rustix::io::write(&procs, b"0").map(drop).map_err(Into::into)) };
    }
    let mut child = command.spawn().unwrap();
    let since = Instant::now();
    child.wait().unwrap();
    WAITED.set(since.elapsed());
}
