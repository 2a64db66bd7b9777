//! Groups: their names, ids, depth, limits; and what a Maxwell leaves behind.

use std::os::linux::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use maxwell_hypervisor::process::cgroup::{CgroupError, Hierarchy, Limits, Subtree, leftovers, sweep};
use maxwell_hypervisor::process::sandbox::Sandbox;

use crate::arena::{Arena, PATIENCE, run_hostile, start, until};

#[test]
fn a_group_has_the_id_and_the_depth_that_the_kernel_gives_it() {
    let Some(arena) = Arena::new() else { return };
    let group = arena.group("agent-0");
    assert_eq!(group.id(), std::fs::metadata(group.path()).unwrap().st_ino());
    let inside = group.path().strip_prefix(arena.hierarchy.mount()).unwrap();
    assert_eq!(group.level() as usize, inside.components().count());
    assert_eq!(group.level(), arena.subtree.level() + 1);
}

#[test]
fn names_stay_inside() {
    let Some(arena) = Arena::new() else { return };
    for name in ["", "..", "a/b", "cgroup.procs", ".hidden", "a b", &"x".repeat(65)] {
        assert!(matches!(arena.subtree.group(name, &Limits::default()), Err(CgroupError::Name(_))), "{name:?}");
    }
    let _first = arena.group("same");
    assert!(arena.subtree.group("same", &Limits::default()).is_err());
}

#[test]
fn limits_hold_where_there_is_a_controller_and_are_told_where_not() {
    let Some(arena) = Arena::new() else { return };
    let limits = Limits { memory_bytes: Some(32 << 20), tasks: Some(16), millicores: Some(200) };
    let group = arena.subtree.group("limited", &limits).unwrap();
    for why in group.unavailable() {
        println!("skipped: {why}");
    }
    let holds = |name: &str| group.unavailable().iter().all(|missing| missing.controller.name() != name);
    if holds("memory") {
        let (said, ended) =
            start(&run_hostile(&["allocate", "8"]), &Sandbox::default(), Some(&group)).unwrap().finish();
        assert_eq!((said.as_str(), ended.exit.code()), ("allocated", 0));
        let (said, ended) =
            start(&run_hostile(&["allocate", "256"]), &Sandbox::default(), Some(&group)).unwrap().finish();
        assert_eq!((said.as_str(), ended.exit.code()), ("", 137));
    }
    if holds("cpu") {
        let since = std::time::Instant::now();
        start(&run_hostile(&["burn-ms", "200"]), &Sandbox::default(), Some(&group)).unwrap().finish();
        // A fifth of a core: a second for 200 ms, or a little less for the first periods.
        assert!(since.elapsed() > Duration::from_millis(500), "{:?}", since.elapsed());
    }
    let path = group.path().to_owned();
    group.remove(PATIENCE).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_subtree_takes_everything_with_it() {
    let Some(arena) = Arena::new() else { return };
    let other = Subtree::new(&arena.hierarchy).unwrap();
    let limits = Limits { tasks: Some(8), ..Limits::default() };
    let group = other.group("agent", &limits).unwrap();
    let mut child = start(&run_hostile(&["spin"]), &Sandbox::default(), Some(&group)).unwrap();
    // Groups that somebody made below are removed too.
    std::fs::create_dir_all(group.path().join("deep/er")).unwrap();
    group.freezer().freeze(PATIENCE).unwrap();
    let (path, keeper) = (other.path().to_owned(), other.keeper().unwrap().pid());
    other.end(PATIENCE).unwrap();
    assert!(!path.exists());
    assert_eq!(child.child.wait_timeout(PATIENCE).unwrap().unwrap().exit.code(), 137);
    assert!(!Path::new("/proc").join(keeper.as_raw_nonzero().to_string()).exists(), "the keeper was not reaped");
    drop(group);
    assert!(arena.subtree.path().exists());
}

#[test]
fn a_subtree_whose_owner_lives_is_never_swept() {
    let Some(arena) = Arena::new() else { return };
    let group = arena.group("alive");
    let _running = start(&run_hostile(&["sleep"]), &Sandbox::default(), Some(&group)).unwrap();
    until("it lives", || group.freezer().populated().unwrap());
    let ours = arena.subtree.path();
    assert!(leftovers(&arena.hierarchy).unwrap().iter().all(|left| left.path != ours));
    assert!(sweep(&arena.hierarchy, PATIENCE).unwrap().iter().all(|left| left.path != ours));
    assert!(group.freezer().populated().unwrap());
}

#[test]
fn a_directory_that_nobody_locks_is_left_over() {
    let Some(arena) = Arena::new() else { return };
    // As after a crash between making it and locking it, in a place of its own so that no other test sweeps it.
    let base = arena.subtree.path().join("base");
    std::fs::create_dir(&base).unwrap();
    let place = Hierarchy::below(Path::new("/"), &base).unwrap();
    let left = base.join("maxwell/4711-dead/agent");
    std::fs::create_dir_all(&left).unwrap();
    let found = leftovers(&place).unwrap();
    assert_eq!(
        found.iter().map(|left| (left.path.as_path(), left.processes)).collect::<Vec<_>>(),
        [(left.parent().unwrap(), 0)]
    );
    assert_eq!(sweep(&place, PATIENCE).unwrap(), found);
    assert!(!base.join("maxwell").exists());
    assert_eq!(sweep(&place, PATIENCE).unwrap(), []);
    std::fs::remove_dir(base).unwrap();
}
