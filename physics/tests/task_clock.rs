//! Core time of a cgroup is exact at the scale of a tick.
//!
//! Needs root (or `CAP_PERFMON`) and a cgroup of version 2 in which a group can be made; says so and passes where that is
//! not given.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use maxwell_physics::TaskClock;

/// A cgroup that goes when the test does, with a process in it.
struct Group {
    path: PathBuf,
    children: Vec<Child>,
}

impl Group {
    fn new(name: &str) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
        let mount = mounts.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words.get(2) == Some(&"cgroup2")).then(|| words[1].to_owned())
        })?;
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
        let path = Path::new(&mount).join(own).join(format!("maxwell-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).ok()?;
        Some(Self { path, children: Vec::new() })
    }

    fn spawn(&mut self, script: &str) {
        let procs = self.path.join("cgroup.procs");
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        // SAFETY: between fork and exec only a file is opened and written, from a path that was made before the fork.
        unsafe {
            command.pre_exec(move || std::fs::write(&procs, "0"));
        }
        self.children.push(command.spawn().unwrap());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::write(self.path.join("cgroup.kill"), "1");
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        for _ in 0..100 {
            if std::fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn group_and_clock(name: &str) -> Option<(Group, TaskClock)> {
    let Some(group) = Group::new(name) else {
        println!("skipped: needs a cgroup of version 2 in which a group can be made (root)");
        return None;
    };
    match TaskClock::of_cgroup(&group.path) {
        Ok(clock) => Some((group, clock)),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

/// What `cpu.stat` has counted, exact once the tasks are gone.
fn cpu_stat_us(group: &Group) -> u64 {
    let text = std::fs::read_to_string(group.path.join("cpu.stat")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap().parse().unwrap()
}

#[test]
fn a_spinning_process_is_seen_in_every_tick_and_by_as_much() {
    let Some((mut group, clock)) = group_and_clock("spin") else { return };
    assert_eq!(clock.read_ns().unwrap(), 0);
    group.spawn("while :; do :; done");
    std::thread::sleep(Duration::from_millis(50));
    let (start, mut last) = (Instant::now(), clock.read_ns().unwrap());
    let first = last;
    let (mut moved, ticks) = (0, 100);
    for _ in 0..ticks {
        std::thread::sleep(Duration::from_millis(10));
        let now = clock.read_ns().unwrap();
        assert!(now >= last, "core time never goes back");
        moved += u32::from(now > last);
        last = now;
    }
    let (used, wall) = (last - first, u64::try_from(start.elapsed().as_nanos()).unwrap());
    assert!(moved > ticks * 9 / 10, "only {moved} of {ticks} reads moved");
    assert!(used <= wall + 1_000_000, "one process on one core: {used} ns in {wall} ns");
    assert!(used > wall / 10, "{used} ns in {wall} ns");
}

#[test]
fn the_sum_agrees_with_the_kernels_own_accounts() {
    let Some((mut group, clock)) = group_and_clock("sum") else { return };
    // A process that forks others, some of which end at once.
    group.spawn("for i in 1 2 3; do (n=0; while [ $n -lt 60000 ]; do n=$((n+1)); done) & done; wait");
    let _ = group.children[0].wait();
    let (clocked, counted) = (clock.read_ns().unwrap() / 1_000, cpu_stat_us(&group));
    assert!(counted > 20_000, "the test must use core time, it used {counted} µs");
    // No core time is missed, but what happens before the process has joined. The task-clock is a wall clock while a task is
    // on a core, so it holds the interrupts and the time that a hypervisor stole meanwhile; `cpu.stat` leaves these out.
    assert!(clocked + 3_000 >= counted, "task-clock {clocked} µs, cpu.stat {counted} µs");
    assert!(clocked <= counted * 3 / 2 + 30_000, "task-clock {clocked} µs, cpu.stat {counted} µs");
}

#[test]
fn what_is_no_cgroup_is_refused_with_a_remedy() {
    let missing = TaskClock::of_cgroup(Path::new("/no/such/group")).unwrap_err().to_string();
    assert!(missing.contains("/no/such/group") && missing.contains("version 2"), "{missing}");
    let folder = TaskClock::of_cgroup(Path::new("/tmp")).unwrap_err().to_string();
    assert!(folder.contains("/tmp"), "{folder}");
}
