//! What the meter counts beside what really happened.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod group;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use group::Group;
use maxwell_ebpf::{Attachment, EbpfError, ErasureMeter, Released, SyscallAudit};

const MIB: u64 = 1 << 20;

/// `target/…/examples/eraser`, which cargo builds with the tests.
fn eraser() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    deps.parent().unwrap().parent().unwrap().join("examples/eraser")
}

/// A group and a meter for it, or nothing where the kernel lends none.
fn meter(what: &str) -> Option<(Group, ErasureMeter)> {
    meter_as(what, None)
}

fn meter_as(what: &str, attachment: Option<Attachment>) -> Option<(Group, ErasureMeter)> {
    let Some(group) = Group::new(what) else {
        println!("skipped: no cgroup of version 2 can be made here");
        return None;
    };
    let opened = match attachment {
        Some(attachment) => ErasureMeter::open_as(group.level(), attachment),
        None => ErasureMeter::open(group.level()),
    };
    match opened {
        Ok(meter) => Some((group, meter)),
        Err(error @ (EbpfError::Forbidden(_) | EbpfError::Unsupported(_))) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Runs to the end; its standard output.
fn run(mut command: Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn fuzz(group: &Group, seed: u64) -> u64 {
    let mut command = group.command(&eraser());
    command.args(["fuzz", &seed.to_string(), "150"]);
    run(command).trim().parse().unwrap()
}

fn within_a_percent(counted: Released, truth: u64) {
    assert!(truth > 100 * MIB, "the fuzzer did nothing: {truth}");
    let error = counted.bytes.abs_diff(truth) as f64 / truth as f64;
    println!("truth {truth}, counted {}, off by {:.3} %", counted.bytes, error * 100.0);
    assert!(error < 0.01, "truth {truth}, counted {counted:?}");
}

#[test]
fn what_is_counted_is_what_smaps_shows_within_a_percent() {
    let Some((group, meter)) = meter("fuzz") else { return };
    for seed in 1..=5 {
        let watched = meter.watch(group.id()).unwrap();
        let truth = fuzz(&group, seed);
        within_a_percent(watched.read().unwrap(), truth);
    }
}

#[test]
fn every_way_of_attaching_counts_the_same() {
    for way in Attachment::LADDER {
        let Some((group, meter)) = meter_as("ways", Some(way)) else { continue };
        assert_eq!(meter.attachment(), way);
        let watched = meter.watch(group.id()).unwrap();
        let mut command = group.command(&eraser());
        run({
            command.args(["churn", "16", "8"]);
            command
        });
        let counted = watched.read().unwrap().bytes;
        assert!((128 * MIB..130 * MIB).contains(&counted), "{way:?} counted {counted}");
    }
}

#[test]
fn a_tebibyte_that_was_never_touched_costs_nothing() {
    let Some((group, meter)) = meter("sparse") else { return };
    let watched = meter.watch(group.id()).unwrap();
    let mut command = group.command(&eraser());
    command.arg("sparse");
    run(command);
    // Starting and ending a process releases some dozens of pages.
    let counted = watched.read().unwrap().bytes;
    assert!(counted < MIB, "{counted}");
}

#[test]
fn children_that_share_their_parents_memory_erase_none_of_it() {
    let Some((group, meter)) = meter("forks") else { return };
    let watched = meter.watch(group.id()).unwrap();
    let mut parent = start(&group, &["forks", "256", "20"]);
    assert_eq!(parent.line(), "ready");
    let before = watched.read().unwrap().bytes;
    parent.say();
    assert_eq!(parent.line(), "done");
    let of_children = watched.read().unwrap().bytes - before;
    // Twenty times fork, exec and exit of a small program.
    println!("fork, exec and exit beside 256 MiB: {} bytes each", of_children / 20);
    assert!(of_children < 20 * MIB, "{of_children}");
    parent.say();
    parent.child.wait().unwrap();
    let in_the_end = watched.read().unwrap().bytes - before - of_children;
    assert!((256 * MIB..260 * MIB).contains(&in_the_end), "{in_the_end}");
}

#[test]
fn who_is_killed_pays_for_all_it_held() {
    let Some((group, meter)) = meter("killed") else { return };
    let watched = meter.watch(group.id()).unwrap();
    let mut held = start(&group, &["hold", "64"]);
    let truth: u64 = held.line().parse().unwrap();
    let before = watched.read().unwrap().bytes;
    assert!(before < MIB, "{before}");
    group.kill();
    held.child.wait().unwrap();
    let counted = watched.read().unwrap().bytes - before;
    assert!(counted.abs_diff(truth) < MIB, "held {truth}, charged {counted}");
}

#[test]
fn nobody_pays_for_memory_of_tasks_outside() {
    let Some((group, meter)) = meter("outside") else { return };
    let other = Group::new("outside-other").unwrap();
    let watched = meter.watch(group.id()).unwrap();
    let mut command = Command::new(eraser());
    command.args(["churn", "32", "4"]);
    run(command);
    let mut command = other.command(&eraser());
    command.args(["churn", "32", "4"]);
    run(command);
    assert_eq!(watched.read().unwrap(), Released::default());
}

#[test]
fn groups_below_an_agents_are_the_agents() {
    let Some((group, meter)) = meter("below") else { return };
    let below = group.child("worker");
    let watched = meter.watch(group.id()).unwrap();
    let mut command = below.command(&eraser());
    command.args(["churn", "32", "2"]);
    run(command);
    let counted = watched.read().unwrap().bytes;
    assert!((64 * MIB..68 * MIB).contains(&counted), "{counted}");
}

#[test]
fn samples_name_the_process_and_add_up() {
    let Some((group, mut meter)) = meter("samples") else { return };
    let watched = meter.watch(group.id()).unwrap();
    let mut command = group.command(&eraser());
    command.args(["churn", "64", "2"]);
    run(command);
    let (mut bytes, mut named) = (0, 0);
    let taken = meter.samples(|sample| {
        assert_eq!(sample.cgroup, group.id());
        bytes += sample.bytes;
        named += u64::from(sample.name() == "eraser") * sample.bytes;
    });
    let released = watched.read().unwrap();
    // Each core keeps back less than one sample.
    let cores = std::thread::available_parallelism().unwrap().get() as u64;
    assert!(taken > 100 && released.lost_samples == 0, "{taken} samples, {released:?}");
    assert!(bytes <= released.bytes && released.bytes - bytes < cores * MIB, "{bytes} of {released:?}");
    assert!(named > bytes / 100 * 95, "{named} of {bytes}");
    assert_eq!(meter.samples(|_| panic!("all are taken")), 0);
}

#[test]
fn samples_that_nobody_collects_are_lost_and_the_count_is_not() {
    let Some((group, meter)) = meter("lost") else { return };
    let watched = meter.watch(group.id()).unwrap();
    let mut command = group.command(&eraser());
    command.args(["churn", "256", "24"]);
    run(command);
    let released = watched.read().unwrap();
    assert!(released.bytes >= 24 * 256 * MIB && released.lost_samples > 0, "{released:?}");
}

#[test]
fn a_watch_begins_at_zero_and_ends_when_it_is_dropped() {
    let Some((group, meter)) = meter("watch") else { return };
    let watched = meter.watch(group.id()).unwrap();
    assert!(matches!(meter.watch(group.id()), Err(EbpfError::AlreadyWatched(id)) if id == group.id()));
    let mut command = group.command(&eraser());
    command.args(["churn", "8", "1"]);
    run(command);
    assert!(watched.read().unwrap().bytes >= 8 * MIB);
    drop(watched);
    let again = meter.watch(group.id()).unwrap();
    assert_eq!(again.read().unwrap(), Released::default());
    // The counters outlive the meter that gave them.
    drop(meter);
    std::thread::spawn(move || again.read().unwrap()).join().unwrap();
}

#[test]
fn the_audit_counts_calls_by_class() {
    use maxwell_ebpf::Class;
    let Some((group, meter)) = meter("audit") else { return };
    drop(meter);
    let audit = SyscallAudit::open(group.level()).unwrap();
    let watched = audit.watch(group.id()).unwrap();
    let mut command = group.command(&eraser());
    command.args(["churn", "1", "1000"]);
    run(command);
    let calls = watched.read().unwrap();
    // A mapping and an unmapping each time, and what starting a program takes.
    assert!((2000..2200).contains(&calls.of(Class::Memory)), "{calls:?}");
    assert!((1..200).contains(&calls.of(Class::Files)), "{calls:?}");
    assert_eq!(calls.of(Class::Network), 0);
    assert_eq!(calls.total(), Class::ALL.iter().map(|&class| calls.of(class)).sum());
}

#[test]
fn who_may_not_load_programs_is_told_what_to_do() {
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    let mut command = Command::new(eraser());
    // Without root this test already runs as somebody who may not.
    let output = match command.arg("available").uid(NOBODY).gid(NOBODY).output() {
        Ok(output) => output,
        Err(error) => return println!("skipped: cannot run as nobody: {error}"),
    };
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("the kernel lets this process load no BPF programs"), "{said}");
    assert!(said.contains("setcap cap_bpf,cap_perfmon+ep"), "{said}");
}

#[test]
fn a_folder_that_is_no_cgroup_is_refused() {
    for folder in ["/proc/self", "/nowhere"] {
        let error = maxwell_ebpf::cgroup::id(std::path::Path::new(folder)).unwrap_err();
        assert!(matches!(error, EbpfError::NotACgroup { .. }), "{error}");
    }
}

#[test]
fn a_groups_level_is_how_deep_it_lies() {
    let Some(group) = Group::new("level") else { return println!("skipped: no cgroup of version 2 can be made here") };
    assert_eq!((group.level(), group.child("a").level()), (1, 2));
}

/// A process that is talked to.
struct Talk {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

fn start(group: &Group, arguments: &[&str]) -> Talk {
    let mut command = group.command(&eraser());
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    Talk { child, lines }
}

impl Talk {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn say(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap(), "go").unwrap();
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
