//! `scenarios/mixed.toml`: WebAssembly agents and processes in one auction.

#![allow(clippy::unwrap_used, clippy::tests_outside_test_module, reason = "tests")]

mod maxwell;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::maxwell::{Run, agent, alone, command, scenario};

/// The groups of one Maxwell, wherever this machine keeps them.
fn groups_of(pid: u32) -> Vec<std::path::PathBuf> {
    let places = ["/sys/fs/cgroup/maxwell", "/sys/fs/cgroup/unified/maxwell"];
    let inside = places.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten().flatten();
    let ours = |name: &str| name.starts_with(&format!("{pid}-"));
    inside
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|n| ours(&n.to_string_lossy())))
        .collect()
}

/// Processes with this variable in their environment.
fn carrying(mark: &str) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter(|entry| {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    })
    .count()
}

#[test]
fn whoever_earns_lives_whoever_burns_dies_and_nothing_is_left_behind() {
    if Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: python3 is not installed");
        return;
    }
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let mark = format!("MAXWELL_TEST_MIXED={}", std::process::id());
    let (name, value) = mark.split_once('=').unwrap();
    let mut running = command(&["run", "scenarios/mixed.toml", "--seconds", "8", "--json"]);
    running.arg(&file).env(name, value).stdout(Stdio::null());
    let mut child = running.spawn().unwrap();
    let pid = child.id();
    assert!(child.wait().unwrap().success());

    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!((&report["money"]["error_nj"], &report["energy"]["error_nj"]), (&0.into(), &0.into()));
    let number = |name: &str, key: &str| agent(&report, name)[key].as_u64().unwrap();
    let spent = |name: &str| ["paid_nj", "tax_nj", "rent_nj"].iter().map(|key| number(name, key)).sum::<u64>();
    for (name, cell) in
        [("scientist", "wasm"), ("miner", "wasm"), ("frugal", "process"), ("spinner", "process"), ("server", "process")]
    {
        assert_eq!(agent(&report, name)["cell"], cell);
        assert!(number(name, "core_us") > 0, "{name} ran");
    }
    for name in ["scientist", "frugal"] {
        assert!(number(name, "work_verified") > 0 && number(name, "earned_nj") > 0, "{name} sells its work");
        assert_ne!(agent(&report, name)["state"], "dead", "{name} lives");
    }
    for (name, wallet) in [("miner", 25_000_000_000), ("spinner", 8_000_000_000)] {
        assert_eq!(number(name, "earned_nj"), 0);
        // Both are dead on a machine that is not crowded.
        assert!(agent(&report, name)["reason"] == "insolvent" || spent(name) > wallet / 2, "{}", agent(&report, name));
    }
    assert!(spent("server") < 1_000_000_000, "who sleeps pays little: {}", agent(&report, "server"));

    // The keeper needs a moment.
    let since = Instant::now();
    while (carrying(&mark) > 0 || !groups_of(pid).is_empty()) && since.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((carrying(&mark), groups_of(pid)), (0, Vec::new()), "nothing is left behind");
}

#[test]
fn what_is_found_wrong_only_when_it_starts_is_told_with_its_line_too() {
    let agent = |command: &str, more: &str| {
        format!(
            "[[agent]]\nname = \"p\"\ncell = \"process\"\ncommand = {command}\nwallet = \"9J\"\norder = {{ limit = \"50W\" }}\n{more}"
        )
    };
    for (text, what) in [
        (agent("[\"true\"]", "user = \"nobody-of-this-name\"\n"), "no user `nobody-of-this-name`"),
        (agent("[\"true\"]", "sandbox = \"write=/no/such/folder\"\n"), "/no/such/folder"),
        (agent("[\"no-such-program\"]", ""), "no-such-program"),
    ] {
        let file = scenario(&text);
        let run = Run::shown(&file, 1);
        assert_eq!(run.code, 2, "{}{}", run.stdout, run.stderr);
        let place = format!("{}:4:11: agent `p`: ", Path::new(file.path()).display());
        assert!(run.stderr.contains(&place) && run.stderr.contains(what), "{}", run.stderr);
    }
}
