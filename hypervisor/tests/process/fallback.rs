//! Without cgroups: process trees stopped by signals.

use std::time::Duration;

use maxwell_hypervisor::process::sandbox::Sandbox;
use maxwell_hypervisor::process::stop::{TOKEN, Tree};

use crate::arena::{PATIENCE, run_hostile, start};

fn tree(words: &[&str], token: &str) -> Tree {
    let mut program = run_hostile(words);
    program.environment.push((TOKEN.into(), token.into()));
    let running = start(&program, &Sandbox::default(), None).unwrap();
    Tree::new(running.child, token).unwrap()
}

/// Core time does not grow; and everything dies.
fn stops_and_dies(tree: &mut Tree, words: &[&str]) {
    for _ in 0..3 {
        let processes = tree.stop(PATIENCE).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        let before = tree.core_time();
        std::thread::sleep(Duration::from_millis(20));
        let after = tree.core_time();
        assert!(
            after.abs_diff(before) < Duration::from_millis(4),
            "{words:?}: {processes} processes, {before:?}, {after:?}"
        );
        assert_eq!(tree.stop(PATIENCE).unwrap(), processes, "{words:?}");
        tree.resume();
        std::thread::sleep(Duration::from_millis(2));
    }
    tree.stop(PATIENCE).unwrap();
    assert!(tree.kill(PATIENCE), "{words:?}: {} left", tree.len());
}

#[test]
fn trees_stop_resume_and_die_whatever_they_do() {
    let modes: [&[&str]; 7] = [
        &["spin", "3"],
        &["fork-bomb", "32"],
        &["ignore-term"],
        &["new-session"],
        &["daemonise"],
        &["close-all"],
        &["orphans", "200"],
    ];
    for (at, words) in modes.into_iter().enumerate() {
        let mut tree = tree(words, &format!("whatever-{at}-{}", std::process::id()));
        std::thread::sleep(Duration::from_millis(60));
        match words[0] {
            "orphans" => {
                // They are left when the first process has ended.
                assert!(tree.root().wait_timeout(PATIENCE).unwrap().is_some());
                assert_eq!(tree.stop(PATIENCE).unwrap(), 200);
            }
            "daemonise" => until_daemon(&mut tree),
            _ => {}
        }
        stops_and_dies(&mut tree, words);
    }
}

/// A daemon that was never seen before its parents ended is known by its token.
fn until_daemon(tree: &mut Tree) {
    let since = std::time::Instant::now();
    while tree.root().try_wait().unwrap().is_none() {
        assert!(since.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(tree.stop(PATIENCE).unwrap() >= 1);
    tree.core_time();
    assert_eq!(tree.len(), 1, "the daemon alone is left");
}

#[test]
fn core_time_counts_the_waited_for_the_orphaned_and_the_living() {
    let token = format!("family-{}", std::process::id());
    let mut program = run_hostile(&["family", "40"]);
    program.environment.push((TOKEN.into(), token.as_str().into()));
    let mut running = start(&program, &Sandbox::default(), None).unwrap();
    let said: Vec<u64> = (0..3).map(|_| running.line().parse().unwrap()).collect();
    assert!(said.iter().all(|ns| *ns >= 40_000_000));
    let mut tree = Tree::new(running.child, &token).unwrap();
    tree.stop(PATIENCE).unwrap();
    let seen = tree.core_time();
    // What was waited for is known to a tick of 10 ms.
    assert!(seen >= Duration::from_millis(110) && seen < Duration::from_millis(180), "{seen:?}");
    assert!(tree.kill(PATIENCE));
    // What is known at the end is exact, and never less than what was said before.
    let last = tree.core_time();
    assert!(
        last >= seen && last >= Duration::from_millis(120) && last < seen + Duration::from_millis(20),
        "{seen:?}, {last:?}"
    );
}

#[test]
fn a_tree_does_not_touch_another() {
    let id = std::process::id();
    let mut first = tree(&["spin"], &format!("first-{id}"));
    let mut second = tree(&["daemonise"], &format!("second-{id}"));
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(first.stop(PATIENCE).unwrap(), 1);
    let (before, since) = (second.core_time(), std::time::Instant::now());
    while second.core_time() == before {
        assert!(since.elapsed() < PATIENCE, "the other was stopped too");
    }
    assert!(first.kill(PATIENCE));
    assert!(second.kill(PATIENCE));
}
