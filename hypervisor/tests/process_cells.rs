//! What process cells do with their turns: they use what they bought and no more, go on without a pause when they win
//! again, end when their command ends, and are told before they die.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests work with small numbers, and a failure to unwrap is a failure of the test"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use maxwell_core::agent::{LeaseKind, SlotId};
use maxwell_core::market::{Grant, Stop, Usage};
use maxwell_core::reason::Trap;
use maxwell_core::{AgentId, Bytes, Joule, Micros, Price, Tick};
use maxwell_hypervisor::process::cgroup::{Hierarchy, Limits};
use maxwell_hypervisor::process::child::Exit;
use maxwell_hypervisor::process::sandbox::Sandbox;
use maxwell_hypervisor::process::spawn::Program;
use maxwell_hypervisor::process::{Command, ProcessCell, Processes, Streams};
use maxwell_hypervisor::protocol::account::Board;
use maxwell_hypervisor::slots::Slots;
use maxwell_hypervisor::{Assignment, Cells, Quote, Report};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Slots with process cells on them, driven by hand.
struct Machine {
    slots: Slots,
    processes: Processes,
    cells: Vec<Arc<ProcessCell>>,
    tick: u64,
    _alone: MutexGuard<'static, ()>,
}

/// `None`, said on stderr, where groups cannot be made.
fn machine(slots: u16) -> Option<Machine> {
    with_slots(slots, false)
}

fn with_slots(slots: u16, pin: bool) -> Option<Machine> {
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let processes = Processes::open(Arc::new(Board::default())).unwrap();
    if !processes.held_by().contains("cgroup") {
        eprintln!("skipped: {}", processes.held_by());
        return None;
    }
    Some(Machine { slots: Slots::new(slots, pin).unwrap(), processes, cells: Vec::new(), tick: 0, _alone: alone })
}

fn shell(script: &str) -> Command {
    Command {
        program: Program {
            argv: ["/bin/sh", "-c", script].map(Into::into).to_vec(),
            environment: std::env::vars_os().collect(),
            ..Program::default()
        },
        sandbox: Sandbox::default(),
        limits: Limits::default(),
        slots: 2,
        grace: Duration::from_secs(2),
        wait_all: false,
        streams: Streams::Deaf,
        audit: false,
    }
}

const SPIN: &str = "while :; do :; done";

impl Machine {
    fn agent(&mut self, command: Command) -> AgentId {
        let cell = self.processes.spawn(self.slots.next_id(), command).unwrap();
        self.cells.push(Arc::clone(&cell));
        self.slots.add(cell)
    }

    /// One tick of `ms` milliseconds in which these leases are held.
    fn tick(&mut self, ms: u64, leases: &[(AgentId, LeaseKind)]) -> Report {
        self.tick_of(ms, Micros(500_000), leases)
    }

    /// The same with leases of this length.
    fn tick_of(&mut self, ms: u64, length: Micros, leases: &[(AgentId, LeaseKind)]) -> Report {
        self.tick += 1;
        let quote = Quote { tick: Tick(self.tick), spot: Price(4_500), now_us: self.tick * 10_000 };
        let assignments: Vec<Assignment> = leases
            .iter()
            .map(|(agent, kind)| Assignment {
                grant: Grant {
                    agent: *agent,
                    kind: *kind,
                    price: Price(4_500),
                    length,
                    worst_case: Micros(500_000),
                    erasable: Bytes(64 << 20),
                },
                slots: leases.iter().filter(|(other, _)| other == agent).count() as u16,
                balance: Joule(77_000),
                spare: Bytes(0),
            })
            .collect();
        let ends = Instant::now() + Duration::from_millis(ms);
        self.slots.dispatch(quote, ends, &assignments);
        let mut report = Report::default();
        self.slots.collect(Duration::from_millis(ms) + Duration::from_secs(5), &mut report);
        report
    }

    fn run(&mut self, agent: AgentId, ms: u64) -> Usage {
        let report = self.tick(ms, &[(agent, LeaseKind::Slot(SlotId(0)))]);
        usage(&report, agent)
    }

    /// Runs until its command ends; how it stopped.
    fn run_out(&mut self, agent: AgentId) -> (Usage, Micros, u64) {
        let (mut core, mut erased) = (Micros::ZERO, 0);
        for _ in 0..2_000 {
            let usage = self.run(agent, 10);
            core = core.saturating_add(usage.core);
            erased += usage.erased.0;
            if !matches!(usage.stop, Stop::SlotEnd | Stop::Idle) {
                return (usage, core, erased);
            }
        }
        panic!("it does not end");
    }
}

fn usage(report: &Report, agent: AgentId) -> Usage {
    let mut found = report.usages.iter().filter(|usage| usage.agent == agent);
    let usage = *found.next().unwrap_or_else(|| panic!("no report of {agent}: {report:?}"));
    assert!(found.next().is_none(), "{agent} is reported twice: {report:?}");
    usage
}

#[test]
fn a_command_runs_only_in_its_turns_and_ends_with_its_code() {
    let Some(mut machine) = machine(1) else { return };
    let file = tempfile::tempdir_in("/tmp").unwrap();
    let mark = file.path().join("mark");
    let agent = machine.agent(shell(&format!("echo ran > {}; exit 7", mark.display())));
    machine.tick(20, &[]);
    assert!(!mark.exists(), "it ran before its first turn");
    let (usage, core, _) = machine.run_out(agent);
    assert!(mark.exists());
    assert_eq!(usage.stop, Stop::Done);
    assert!(core > Micros::ZERO);
    assert_eq!(machine.cells[0].exit(), Some(Exit::Code(7)));
    assert_eq!(machine.run(agent, 2).stop, Stop::NotRun, "there is nothing left to run");
}

#[test]
fn one_slot_is_one_core_however_many_processes_want_more() {
    let Some(mut machine) = machine(2) else { return };
    let agent = machine.agent(shell(&format!("({SPIN}) & ({SPIN}) & ({SPIN}) & wait")));
    machine.run(agent, 10);
    let (began, mut core) = (Instant::now(), Micros::ZERO);
    let mut demand = 0;
    for _ in 0..40 {
        let usage = machine.run(agent, 10);
        core = core.saturating_add(usage.core);
        demand = usage.demand.unwrap();
    }
    let wall = Micros(began.elapsed().as_micros() as u64);
    // Forty slots of ten milliseconds; what is paid ahead at the end, and some freezes, beside them.
    assert!(core <= Micros(40 * 10_000 + 12_000), "{core} of core time in {wall} for one slot");
    assert!(core >= Micros(200_000), "{core} is far less than a slot: the machine is very busy, or it does not run");
    assert_eq!(demand, 2, "it could use two cores");
}

#[test]
fn a_short_slot_ends_early_and_leaves_the_rest_to_others() {
    let Some(mut machine) = machine(1) else { return };
    let [poor, other] = [(); 2].map(|()| machine.agent(shell(SPIN)));
    machine.run(poor, 10);
    let leases = [(poor, LeaseKind::Slot(SlotId(0))), (other, LeaseKind::Standby)];
    // What it was billed for lingering before comes off the first.
    for turn in 0..5 {
        let report = machine.tick_of(40, Micros(4_000), &leases);
        let (short, rest) = (usage(&report, poor), usage(&report, other));
        assert_eq!(short.stop, Stop::SlotEnd);
        assert!(turn == 0 || short.core >= Micros(1_000) && short.core <= Micros(4_000 + 2_000), "{short:?}");
        assert!(machine.cells[0].is_frozen(), "it lingers, unpaid");
        // It has as short a one.
        assert!(rest.core >= Micros(1_000) && rest.core <= Micros(4_000 + 2_000), "{rest:?}");
    }
}

/// The kernel would wake them where they ran last, and two would share a core while the other is idle.
#[test]
fn agents_go_where_their_slots_are_and_do_not_notice() {
    // Without children, which the kernel spreads out; and with them: they inherit what their parents may use.
    let alone = "while :; do while read -r line; do case $line in Cpus_allowed_list*) echo \"$line\";; esac; done < /proc/self/status; done";
    let forks = "while :; do grep Cpus_allowed_list /proc/self/status; done";
    for script in [alone, forks] {
        let Some(mut machine) = with_slots(2, true) else { return };
        let ours = rustix::thread::sched_getaffinity(None).unwrap();
        let cores: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| ours.is_set(*core)).collect();
        if cores.len() < 2 || !rustix::process::geteuid().is_root() {
            eprintln!("skipped: one core, or no real-time priority");
            return;
        }
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let agents = ["a", "b"].map(|name| {
            let script = format!("({script}) > {}", folder.path().join(name).display());
            machine.agent(Command { slots: 1, sandbox: Sandbox::off(), ..shell(&script) })
        });
        let (turns, mut there) = (60, 0);
        for turn in 0..turns {
            let at = |agent: usize| SlotId(((agent + turn / 3) % 2) as u16);
            machine.tick(10, &[(agents[0], LeaseKind::Slot(at(0))), (agents[1], LeaseKind::Slot(at(1)))]);
            if script == forks {
                continue;
            }
            let cells = machine.cells.iter().enumerate();
            there += cells.filter(|(agent, cell)| last_core(cell) == cores[usize::from(at(*agent).0)]).count();
        }
        assert!(
            script == forks || there >= turns * 2 * 3 / 4,
            "{there} of {} turns were where they were sold",
            turns * 2
        );
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let whole = status.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap();
        for agent in ["a", "b"] {
            let said = std::fs::read_to_string(folder.path().join(agent)).unwrap();
            let (said, _) = said.rsplit_once('\n').unwrap();
            assert!(said.lines().count() > 20 && said.lines().all(|line| line == whole), "{whole} outside, and {said}");
        }
    }
}

/// Where the newest process of a cell ran last.
fn last_core(cell: &ProcessCell) -> usize {
    let pids = std::fs::read_to_string(cell.group().unwrap().join("cgroup.procs")).unwrap();
    let pid = pids.lines().last().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().split(' ').nth(36).unwrap().parse().unwrap()
}

#[test]
fn two_slots_are_two_cores() {
    let Some(mut machine) = machine(2) else { return };
    let agent = machine.agent(shell(&format!("({SPIN}) & ({SPIN}) & wait")));
    let both = [(agent, LeaseKind::Slot(SlotId(0))), (agent, LeaseKind::Slot(SlotId(1)))];
    machine.tick(20, &both);
    let (mut core, mut most) = (Micros::ZERO, Micros::ZERO);
    for _ in 0..40 {
        let used = usage(&machine.tick(10, &both), agent).core;
        core = core.saturating_add(used);
        most = most.max(used);
    }
    assert!(core <= Micros(40 * 20_000 + 12_000), "{core}");
    // However busy the machine is, once in forty ticks both cores are free enough.
    assert!(most > Micros(12_000), "{most}: two processes on two cores use more than one core");
}

#[test]
fn whoever_loses_its_slot_is_frozen_and_whoever_keeps_it_does_not_pause() {
    let Some(mut machine) = machine(1) else { return };
    let agent = machine.agent(shell(SPIN));
    for _ in 0..5 {
        assert_eq!(machine.run(agent, 10).stop, Stop::SlotEnd);
    }
    // It was paid ahead for lingering, and is frozen as soon as the plan is without it.
    machine.tick(100, &[]);
    let before = machine.run(agent, 1).core;
    machine.tick(100, &[]);
    let after = machine.run(agent, 1).core;
    assert!(before < Micros(30_000) && after < Micros(30_000), "{before}, {after}: it ran while it held no slot");
}

#[test]
fn what_a_command_releases_is_counted_and_so_is_what_it_holds_at_its_end() {
    let Some(mut machine) = machine(1) else { return };
    if !machine.processes.erased_by().contains("kernel") {
        eprintln!("skipped: {}", machine.processes.erased_by());
        return;
    }
    let agent = machine.agent(shell("exec python3 -c 'x = bytearray(64 << 20); x[::4096] = bytes(len(x[::4096]))'"));
    let (usage, _, erased) = machine.run_out(agent);
    assert_eq!(usage.stop, Stop::Done);
    assert!((64 << 20..96 << 20).contains(&erased), "{erased} bytes");
    let erasers = machine.cells[0].erasers();
    assert!(erasers.iter().any(|(name, bytes)| name == "python3" && *bytes > 32 << 20), "{erasers:?}");
}

#[test]
fn system_calls_are_counted_by_class_where_that_is_asked_for() {
    let Some(mut machine) = machine(1) else { return };
    if !machine.processes.erased_by().contains("kernel") {
        eprintln!("skipped: {}", machine.processes.erased_by());
        return;
    }
    let script = "i=0; while [ $i -lt 500 ]; do : < /dev/null; i=$((i+1)); done";
    let audited = machine.agent(Command { audit: true, ..shell(script) });
    let silent = machine.agent(shell("exit 0"));
    machine.run_out(audited);
    machine.run_out(silent);
    let calls = machine.cells[0].calls().unwrap();
    let files = calls.of(maxwell_ebpf::Class::Files);
    // Each round opens, duplicates and closes.
    assert!((1_500..8_000).contains(&files), "{calls:?}");
    assert!(calls.total() >= files);
    assert!(machine.cells[1].calls().is_none());
}

#[test]
fn last_words_are_heard_and_then_it_is_over() {
    let Some(mut machine) = machine(1) else { return };
    let file = tempfile::tempdir_in("/tmp").unwrap();
    let will = file.path().join("will");
    let polite = machine.agent(shell(&format!("trap 'echo saved > {}; exit 3' TERM; {SPIN}", will.display())));
    let deaf = machine.agent(shell(&format!("trap '' TERM; {SPIN}")));
    for agent in [polite, deaf] {
        machine.run(agent, 10);
        let began = Instant::now();
        let report = machine.tick(10, &[(agent, LeaseKind::LastWords(SlotId(0)))]);
        assert_eq!(usage(&report, agent).stop, Stop::Done);
        assert!(began.elapsed() < Duration::from_secs(3));
    }
    assert!(will.exists());
    assert_eq!(machine.cells[0].exit(), Some(Exit::Code(3)));
    assert!(matches!(machine.cells[1].exit(), Some(Exit::Signal { signal: 9, .. })));
    // Half a second of core time was paid for; the deaf one used no more than that.
}

#[test]
fn descendants_end_with_the_command_unless_they_are_waited_for() {
    let Some(mut machine) = machine(1) else { return };
    let file = tempfile::tempdir_in("/tmp").unwrap();
    let mark = file.path().join("late");
    let script = format!("(sleep 0.3; echo late > {}) & exit 0", mark.display());
    let agent = machine.agent(shell(&script));
    machine.run_out(agent);
    std::thread::sleep(Duration::from_millis(500));
    assert!(!mark.exists(), "an orphan survived its command");
    let patient = machine.agent(Command { wait_all: true, ..shell(&script) });
    machine.run_out(patient);
    assert!(mark.exists());
}

#[test]
fn a_command_that_cannot_be_executed_says_so() {
    let Some(mut machine) = machine(1) else { return };
    let nothing =
        Command { program: Program { argv: vec!["/no/such/thing".into()], ..Program::default() }, ..shell("") };
    let why = machine.processes.spawn(machine.slots.next_id(), nothing).unwrap_err().to_string();
    assert!(why.contains("/no/such/thing"), "{why}");
    let file = tempfile::NamedTempFile::new_in("/tmp").unwrap();
    let argv = vec![file.path().as_os_str().to_owned()];
    let plain = machine.agent(Command { program: Program { argv, ..Program::default() }, ..shell("") });
    let (usage, ..) = machine.run_out(plain);
    assert_eq!(usage.stop, Stop::Trapped(Trap::Start));
    assert_eq!(machine.cells[0].exit(), Some(Exit::Code(126)));
}

#[test]
fn an_idle_agent_gives_its_slot_to_who_stands_by() {
    let Some(mut machine) = machine(1) else { return };
    let sleeper = machine.agent(shell("sleep 100"));
    let busy = machine.agent(shell(SPIN));
    for agent in [sleeper, busy] {
        machine.run(agent, 20);
    }
    let report = machine.tick(10, &[(sleeper, LeaseKind::Slot(SlotId(0))), (busy, LeaseKind::Standby)]);
    assert_eq!(usage(&report, sleeper).stop, Stop::Idle);
    let used = usage(&report, busy);
    assert_eq!(used.stop, Stop::SlotEnd);
    assert!(used.core > Micros(1_000), "{used:?}");
}

#[test]
fn whoever_waits_for_its_core_behind_another_program_is_not_idle() {
    let Some(mut machine) = machine(1) else { return };
    let waits = machine.agent(shell(&format!("taskset -p -c 0 $$ > /dev/null && {SPIN}")));
    let busy = machine.agent(shell(SPIN));
    // Until it has moved to its core and spins there.
    for _ in 0..20 {
        machine.run(waits, 20);
        machine.run(busy, 5);
    }
    // Another program takes that core away for the whole turn.
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let hog = std::thread::spawn(move || {
        let mut core = rustix::thread::CpuSet::new();
        core.set(0);
        rustix::thread::sched_setaffinity(None, &core).unwrap();
        let parameters = libc::sched_param { sched_priority: 10 };
        // SAFETY: the parameters live until the call returns; zero is this thread.
        let first = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) } == 0;
        let began = Instant::now();
        while !until.load(Ordering::Relaxed) && began.elapsed() < Duration::from_millis(300) {
            std::hint::spin_loop();
        }
        first
    });
    std::thread::sleep(Duration::from_millis(20));
    let report = machine.tick(20, &[(waits, LeaseKind::Slot(SlotId(0))), (busy, LeaseKind::Standby)]);
    over.store(true, Ordering::Relaxed);
    if !hog.join().unwrap() {
        eprintln!("skipped: no real-time priority");
        return;
    }
    let waited = usage(&report, waits);
    assert!(waited.core < Micros(15_000), "the core was not taken away: {waited:?}");
    assert_eq!(waited.stop, Stop::SlotEnd, "it waited, and did not rest: {waited:?}");
}

#[test]
fn nothing_is_left_behind() {
    let hierarchy = {
        let Some(mut machine) = machine(1) else { return };
        for _ in 0..3 {
            let agent = machine.agent(shell("for i in 1 2 3 4 5 6 7 8; do setsid sleep 1000 & done; wait"));
            machine.run(agent, 20);
        }
        Hierarchy::find(std::path::Path::new("/")).unwrap()
    };
    let left = maxwell_hypervisor::process::cgroup::leftovers(&hierarchy).unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn ending_an_agent_does_not_wait_for_the_turn_that_it_is_in() {
    let Some(mut machine) = machine(1) else { return };
    let agent = machine.agent(shell(SPIN));
    let grant = Grant {
        agent,
        kind: LeaseKind::Slot(SlotId(0)),
        price: Price(1),
        length: Micros(900_000),
        worst_case: Micros(900_000),
        erasable: Bytes(64 << 20),
    };
    let quote = Quote { tick: Tick(1), spot: Price(1), now_us: 0 };
    let ends = Instant::now() + Duration::from_millis(800);
    machine.slots.dispatch(quote, ends, &[Assignment { grant, slots: 1, balance: Joule(0), spare: Bytes(0) }]);
    std::thread::sleep(Duration::from_millis(200));
    machine.slots.end(agent);
    assert!(Instant::now() < ends, "it waited for the turn's end");
    let mut report = Report::default();
    machine.slots.collect(Duration::from_secs(5), &mut report);
    assert_eq!(usage(&report, agent).stop, Stop::SlotEnd);
    assert_eq!(machine.run(agent, 2).stop, Stop::NotRun, "the turn's own thread ended it");
}
