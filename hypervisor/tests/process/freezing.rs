//! Freeze, thaw, kill: confirmed, undone, and without leaks.

use std::sync::PoisonError;
use std::time::Duration;

use maxwell_hypervisor::process::cgroup::Limits;
use maxwell_hypervisor::process::freezer::FreezerError;
use maxwell_hypervisor::process::sandbox::Sandbox;
use rustix::process::Signal;

use crate::arena::{ALONE, Arena, PATIENCE, run_hostile, start, until, usage_us};

/// A task is frozen when it will not return to user space; it leaves its core some microseconds later.
const LEAVING_US: u64 = 4_000;

#[test]
fn a_frozen_group_does_not_run_and_a_thawed_one_does() {
    let Some(arena) = Arena::new() else { return };
    let group = arena.group("agent");
    let _spinning = start(&run_hostile(&["spin", "3"]), &Sandbox::default(), Some(&group)).unwrap();
    until("it runs", || usage_us(&group) > 0);
    let freezer = group.freezer();
    freezer.freeze(PATIENCE).unwrap();
    assert!(freezer.frozen().unwrap() && freezer.populated().unwrap());
    let before = usage_us(&group);
    std::thread::sleep(Duration::from_millis(50));
    assert!(usage_us(&group) - before < LEAVING_US);
    freezer.thaw(PATIENCE).unwrap();
    assert!(!freezer.frozen().unwrap());
    until("it runs again", || usage_us(&group) > before);
    freezer.kill().unwrap();
    freezer.wait_empty(PATIENCE).unwrap();
    assert!(!freezer.populated().unwrap());
}

#[test]
fn a_freeze_that_does_not_finish_is_undone() {
    let Some(arena) = Arena::new() else { return };
    let group = arena.group("stuck");
    let mut stuck = start(&run_hostile(&["stuck"]), &Sandbox::off(), Some(&group)).unwrap();
    let said = stuck.line();
    if said != "stuck" {
        println!("skipped: no userfaultfd here: {said}");
        return;
    }
    let freezer = group.freezer();
    for _ in 0..3 {
        let error = freezer.freeze(Duration::from_millis(20)).unwrap_err();
        assert!(matches!(error, FreezerError::Undone(_)), "{error}");
        assert!(!freezer.frozen().unwrap());
        assert_eq!(std::fs::read_to_string(group.path().join("cgroup.freeze")).unwrap(), "0\n");
    }
    // Being stuck does not protect from death.
    freezer.kill().unwrap();
    freezer.wait_empty(PATIENCE).unwrap();
}

#[test]
fn whatever_it_does_it_freezes_and_dies_and_its_group_goes() {
    let Some(arena) = Arena::new() else { return };
    let modes: [&[&str]; 9] = [
        &["fork-bomb", "64"],
        &["exec-storm"],
        &["ignore-term"],
        &["stop-self"],
        &["new-session"],
        &["daemonise"],
        &["close-all"],
        &["orphans", "500"],
        &["syscalls"],
    ];
    for words in modes {
        let group = arena.group(words[0]);
        let path = group.path().to_owned();
        let mut running = start(&run_hostile(words), &Sandbox::default(), Some(&group)).unwrap();
        until("it begins", || usage_us(&group) > 2_000 || words[0] == "stop-self");
        if words[0] == "orphans" {
            assert_eq!(running.line(), "left");
            assert_eq!(running.child.wait_timeout(PATIENCE).unwrap().map(|ended| ended.exit.code()), Some(0));
            assert_eq!(group.freezer().pids(10_000).unwrap().len(), 500);
            assert_eq!(group.freezer().pids(7).unwrap().len(), 7);
        }
        if words[0] == "ignore-term" {
            assert_eq!(running.line(), "ignoring");
            running.child.signal(Signal::TERM).unwrap();
        }
        for _ in 0..5 {
            // A storm of execs that never froze would show here.
            group.freezer().freeze(PATIENCE).unwrap_or_else(|error| panic!("{words:?}: {error}"));
            let (before, pids) = (usage_us(&group), group.freezer().pids(10_000).unwrap());
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(group.freezer().pids(10_000).unwrap(), pids, "{words:?}");
            assert!(usage_us(&group) - before < LEAVING_US, "{words:?}");
            group.freezer().thaw(PATIENCE).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(group.freezer().populated().unwrap(), "{words:?}");
        // Killed while frozen: nothing runs again.
        group.freezer().freeze(PATIENCE).unwrap();
        let since = std::time::Instant::now();
        group.remove(PATIENCE).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        println!("{words:?} removed in {:?}", since.elapsed());
        assert!(!path.exists());
    }
}

#[test]
fn a_fork_bomb_meets_its_limit() {
    let Some(arena) = Arena::new() else { return };
    let group = arena.subtree.group("bomb", &Limits { tasks: Some(20), ..Limits::default() }).unwrap();
    if let [why] = group.unavailable() {
        println!("skipped: {why}");
        return;
    }
    let mut bomb = start(&run_hostile(&["fork-bomb", "100000"]), &Sandbox::default(), Some(&group)).unwrap();
    assert_eq!(bomb.line(), "no more");
    assert!(group.freezer().pids(1_000).unwrap().len() <= 20);
    group.freezer().freeze(PATIENCE).unwrap();
    group.remove(PATIENCE).unwrap();
}

/// Ten thousand cycles of a group that computes and makes system calls in four tasks.
#[test]
fn ten_thousand_cycles_leak_nothing_and_leave_nothing_half_frozen() {
    let _alone = ALONE.write().unwrap_or_else(PoisonError::into_inner);
    let Some(arena) = Arena::alone() else { return };
    let file = tempfile::NamedTempFile::new_in("/tmp").unwrap();
    file.as_file().set_len(4096).unwrap();
    let group = arena.group("cycles");
    let path = file.path().to_str().unwrap();
    let counting =
        start(&run_hostile(&["count", path, "2", "2", "syscalls"]), &Sandbox::default(), Some(&group)).unwrap();
    let counter = || u64::from_ne_bytes(std::fs::read(path).unwrap()[..8].try_into().unwrap());
    until("it counts", || counter() > 0);
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (fds, pids) = (descriptors(), group.freezer().pids(100).unwrap());
    let first = counter();
    let (mut undone, mut half_frozen, mut ran_while_frozen) = (0, 0, 0);
    for cycle in 0..10_000 {
        match group.freezer().freeze(Duration::from_secs(5)) {
            Ok(()) if cycle % 50 == 0 => {
                let before = counter();
                std::thread::yield_now();
                ran_while_frozen += u32::from(counter() != before);
            }
            Ok(()) => {}
            Err(FreezerError::Undone(_)) => undone += 1,
            Err(error) => panic!("{error}"),
        }
        half_frozen += u32::from(!group.freezer().frozen().unwrap());
        group.freezer().thaw(Duration::from_secs(5)).unwrap();
        half_frozen += u32::from(group.freezer().frozen().unwrap());
    }
    println!("10,000 cycles: {undone} undone, {half_frozen} half frozen, {ran_while_frozen} ran while frozen");
    assert_eq!((undone, half_frozen, ran_while_frozen), (0, 0, 0));
    // Other tests have some too; a leak of one a cycle would be ten thousand.
    assert!(descriptors() < fds + 1_000, "{fds} descriptors before, {} after", descriptors());
    assert_eq!(group.freezer().pids(100).unwrap(), pids);
    assert!(counter() > first, "it never ran between freezes");
    let path = arena.subtree.path().to_owned();
    drop(counting);
    drop(group);
    assert_eq!(std::fs::read_dir(&path).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count(), 0);
    drop(arena);
    assert!(!path.exists());
}
