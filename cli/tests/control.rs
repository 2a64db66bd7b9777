//! `maxwell ps`, `fund`, `bid`, `park`, `kill`, and `exec --or-park`: from a second terminal.

#![allow(clippy::unwrap_used, reason = "a failure to unwrap is a failure of the test")]

mod maxwell;

use std::path::Path;
use std::time::Duration;

use maxwell::exec::{Started, cannot, order, run};
use maxwell::{Run, alone};
use rustix::process::Signal;

/// Writes the core time that it has used, and ends with 7 after 0.6 s of it.
const WORK: &str = "import sys, time\nwith open('progress', 'w') as f:\n  print('up', flush=True)\n  \
                    while time.process_time() < 0.6:\n    f.seek(0); f.write('%.6f' % time.process_time()); f.flush()\nsys.exit(7)";
const SPIN: &[&str] = &["sh", "-c", "echo up; while :; do :; done"];

fn name(what: &str) -> String {
    format!("{what}-{}", std::process::id())
}

/// What `maxwell ps --json` says of an agent.
fn row(name: &str) -> Option<serde_json::Value> {
    let run = Run::maxwell(&["ps", "--json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&run.stdout).unwrap();
    rows.into_iter().find(|row| row["instance"] == name).map(|row| row["agent"].clone())
}

/// Waits until its state is this one.
fn until_state(started: &mut Started, name: &str, state: &str) {
    started.until(state, |_| row(name).is_some_and(|row| row["state"] == state));
}

fn progress(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("progress")).unwrap()
}

#[test]
fn parked_is_frozen_until_somebody_pays() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let name = name("parked");
    // Two thirds of what the work takes: without tax, so that it does not depend on what Python erases while it starts.
    let options = ["--budget", "0.8J", "--no-tax", "--or-park", "--name", &name];
    let mut started = order(&options, &["python3", "-c", WORK]).start();
    started.says("up");
    until_state(&mut started, &name, "parked");
    let (before, folder) = (progress(started.folder()), started.folder().to_owned());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(progress(&folder), before, "it runs although it is parked");

    let shown = Run::maxwell(&["ps"]);
    assert!(shown.stdout.contains(&name) && shown.stdout.contains("parked"), "{}", shown.stdout);
    // Not enough for a slot: it stays where it is.
    let little = Run::maxwell(&["fund", &name, "1uJ"]);
    assert!(little.code == 0 && little.stdout.contains("parked"), "{}{}", little.stdout, little.stderr);
    let enough = Run::maxwell(&["fund", &name, "50J"]);
    assert_eq!(enough.code, 0, "{}", enough.stderr);
    let done = started.end();
    assert_eq!((done.code, done.summary["ended"].as_str()), (7, Some("finished")), "{done:?}");
    assert!(done.stderr.contains("is parked, frozen") && done.stderr.contains("goes on"), "{}", done.stderr);
    assert!(row(&name).is_none(), "it has ended");
}

#[test]
fn who_is_parked_for_want_of_money_ends_with_75() {
    let _alone = alone();
    if cannot() {
        return;
    }
    for signal in [Signal::INT, Signal::TERM] {
        let name = name("ended");
        let mut started = order(&["--budget", "0.5J", "--or-park", "--name", &name, "--grace", "200ms"], SPIN).start();
        until_state(&mut started, &name, "parked");
        started.signal(signal);
        let done = started.end();
        assert_eq!((done.code, done.summary["ended"].as_str()), (75, Some("out_of_funds")), "{signal:?}: {done:?}");
    }
}

#[test]
fn whoever_runs_out_has_its_grace() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let save = "trap 'echo saved; exit 3' TERM; while :; do :; done";
    let done = run(&["--budget", "0.5J", "--grace", "5s"], &["sh", "-c", save]);
    assert_eq!((done.code, done.text().as_str()), (75, "saved\n"), "{done:?}");
    let without = run(&["--budget", "0.5J", "--grace", "0s"], &["sh", "-c", save]);
    assert_eq!((without.code, without.text().as_str()), (75, ""), "{without:?}");
}

#[test]
fn a_bid_that_is_raised_lets_it_go_on() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let name = name("bid");
    let mut started = order(&["--budget", "100J", "--name", &name], &["python3", "-c", WORK]).start();
    started.says("up");
    let low = Run::maxwell(&["bid", &name, "1mW"]);
    assert!(low.code == 0 && low.stdout.contains("below the reserve"), "{}{}", low.stdout, low.stderr);
    until_state(&mut started, &name, "waiting");
    let (before, folder) = (progress(started.folder()), started.folder().to_owned());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(progress(&folder), before, "it runs although it bids too little");
    assert_eq!(Run::maxwell(&["bid", &name, "6W"]).code, 0);
    assert_eq!(started.end().code, 7);
}

#[test]
fn its_owner_parks_revives_and_ends_it() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let name = name("owned");
    let mut started = order(&["--budget", "100J", "--name", &name], SPIN).start();
    started.says("up");
    let parked = Run::maxwell(&["park", &name]);
    assert!(parked.stdout.contains("was parked by its owner"), "{}{}", parked.stdout, parked.stderr);
    until_state(&mut started, &name, "parked");
    assert_eq!(Run::maxwell(&["fund", &name, "0J"]).code, 0);
    until_state(&mut started, &name, "running");
    let killed = Run::maxwell(&["kill", &format!("{name}/{name}")]);
    assert_eq!(killed.code, 0, "{}", killed.stderr);
    let done = started.end();
    assert_eq!((done.code, done.summary["ended"].as_str()), (143, Some("ended_by_signal")), "{done:?}");
}

#[test]
fn what_cannot_be_asked_is_refused_in_a_line() {
    let _alone = alone();
    if cannot() {
        return;
    }
    for (arguments, code, why) in [
        (&["fund", "no-such", "1J"][..], 2, "nothing called `no-such` is running"),
        (&["fund", "no-such", "1"], 2, "has no unit"),
        (&["bid", "no-such", "bananas"], 2, "does not start with a number"),
        (&["kill", "../../etc/passwd"], 2, "nothing called"),
        (&["park"], 2, "required"),
    ] {
        let run = Run::maxwell(arguments);
        assert_eq!(run.code, code, "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.contains(why) && run.stdout.is_empty(), "{arguments:?}: {}", run.stderr);
    }
    // A name is one instance's.
    let name = name("twice");
    let mut started = order(&["--budget", "100J", "--name", &name], SPIN).start();
    started.says("up");
    let second = run(&["--budget", "1J", "--name", &name], &["true"]);
    assert_eq!(second.code, 125);
    assert!(second.stderr.contains("is already running"), "{}", second.stderr);
    assert_eq!(Run::maxwell(&["kill", &name]).code, 0);
    assert_eq!(started.end().code, 143);
}
