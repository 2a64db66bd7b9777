//! The native agents as programs: what they say is true, and they say no when asked for nonsense.

#![allow(clippy::unwrap_used, reason = "a test that cannot start a program fails")]

use std::process::{Command, Stdio};
use std::time::Duration;

use maxwell_agents::native::search::{self, Batch};
use maxwell_agents::native::wake;

const SCIENTIST: &str = env!("CARGO_BIN_EXE_scientist");
const MINER: &str = env!("CARGO_BIN_EXE_miner");

fn lines(program: &str, words: &[&str]) -> Vec<String> {
    let output = Command::new(program).args(words).env_remove("MAXWELL_SOCKET").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_scientist_says_what_sponsors_find_true_and_says_it_again() {
    let words = ["--seed", "3", "--worker", "2", "--count", "40", "--batches", "3", "--primes"];
    let once = lines(SCIENTIST, &words);
    assert_eq!(once, lines(SCIENTIST, &words), "the same place gives the same primes");
    let batches: Vec<Batch> = once.iter().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(batches.len(), 3);
    assert_eq!(batches[0].from, search::start(3, 2));
    assert!(batches.windows(2).all(|pair| pair[1].from == pair[0].to + 1), "nothing is left out");
    assert!(batches.iter().all(|batch| batch.holds(maxwell_core::bounty::is_prime)));
    let primes = once.iter().filter_map(|line| line.strip_prefix("prime ")).map(|n| n.parse::<u64>().unwrap());
    assert_eq!(primes.filter(|n| maxwell_core::bounty::is_prime(*n)).count(), 120);
}

#[test]
fn a_mimic_does_true_work_too_and_a_sleeper_is_late_sometimes() {
    for (program, words) in
        [(MINER, ["mimic", "50", "--count", "20"].as_slice()), (SCIENTIST, ["--wake", "--count", "2048"].as_slice())]
    {
        let mut child =
            Command::new(program).args(words).env_remove("MAXWELL_SOCKET").stdout(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(2_500));
        child.kill().unwrap();
        let text = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let batches: Vec<Batch> = text.lines().filter_map(|line| line.parse().ok()).collect();
        assert!(batches.first().is_some_and(|batch| batch.holds(maxwell_core::bounty::is_prime)), "{text}");
        let wakes = text.lines().flat_map(wake::read).count();
        assert_eq!(wakes > 0, program == SCIENTIST, "{wakes} naps");
    }
}

#[test]
fn nonsense_is_refused() {
    let wrong: [(&str, &[&str]); 5] = [
        (SCIENTIST, &["--count"]),
        (SCIENTIST, &["--count", "many"]),
        (MINER, &[]),
        (MINER, &["dig"]),
        (MINER, &["hoard"]),
    ];
    for (program, words) in wrong {
        let status = Command::new(program).args(words).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(2), "{words:?}");
    }
}
