//! The command line as a new user meets it: help, mistakes, files, recordings, Ctrl-C.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests work with small numbers, and a failure to unwrap is a failure of the test"
)]

mod maxwell;

use std::time::Duration;

use maxwell::{Run, agent, alone, scenario};

const LEECH: &str = "[machine]\nslots = 1\nutilisation = \"maxwell\"\n[[agent]]\nname = \"leech\"\nmodule = \"leech\"\nwallet = \"50J\"\norder = { limit = \"6W\" }\n";

#[test]
fn help_is_worth_reading() {
    let help = Run::maxwell(&["--help"]);
    assert_eq!(help.code, 0);
    for word in ["demo", "run", "replay", "second-price", "Exit codes"] {
        assert!(help.stdout.contains(word), "{word} is missing in\n{}", help.stdout);
    }
    assert!(Run::maxwell(&["demo", "--help"]).stdout.contains("--seconds"));
}

#[test]
fn a_wrong_flag_or_command_says_so_and_exits_with_two() {
    for arguments in [vec!["--nonsense"], vec!["demon"], vec!["demo", "--seconds", "0"], vec!["run"]] {
        let run = Run::maxwell(&arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {}", run.stderr);
        assert!(!run.stderr.is_empty());
    }
}

#[test]
fn an_experiment_refuses_options_of_its_other_half() {
    let help = Run::maxwell(&["experiment", "scientist-vs-leech", "--help"]).stdout;
    let (host, simulated) = (help.find("Only on this host").unwrap(), help.find("Only in virtual time").unwrap());
    let at = |word: &str| help.find(word).unwrap();
    assert!(at("\n      --runs") < host.min(simulated), "{help}");
    assert!((host..simulated).contains(&at("\n      --sensor")) && at("\n      --slots") > simulated, "{help}");
    let wrong: [(&[&str], &str); 4] = [
        (&["--slots", "4", "--threads", "1", "--out", "/nonexistent/x"], "--slots, --threads"),
        (&["--core", "3"], "add --virtual"),
        (&["--virtual", "--agents", "/bin"], "leave out --virtual"),
        (&["--virtual", "--sensor", "model"], "--sensor"),
    ];
    for (words, what) in wrong {
        let run = Run::maxwell(&[&["experiment", "scientist-vs-leech"][..], words].concat());
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{words:?}");
        assert!(run.stderr.contains(what), "{words:?}: {}", run.stderr);
    }
    let none = Run::maxwell(&["experiment", "compare", "/nonexistent/a", "/nonexistent/b"]);
    assert!(none.code == 2 && none.stderr.contains("summary.json"), "{}", none.stderr);
}

#[test]
fn a_wrong_file_is_one_clear_error_and_exits_with_two() {
    let wrong = [
        (scenario(&LEECH.replace("50J", "50 bananas")), ":7:10: ", "unknown unit `bananas`"),
        (scenario(&LEECH.replace("wallet", "walet")), ":7:1: ", "unknown field `walet`"),
        (scenario(&LEECH.replace("\"leech\"\nwallet", "\"no.wasm\"\nwallet")), ":6:10: ", "no.wasm cannot be read"),
        (
            scenario(&LEECH.replace("\"leech\"\nwallet", "\"/bin/sh\"\nwallet")),
            ":6:10: ",
            "not a valid WebAssembly module",
        ),
        (scenario("[[agent"), ":1:", ""),
    ];
    for (file, place, what) in &wrong {
        let run = Run::maxwell(&["run", &file.path().display().to_string()]);
        assert_eq!(run.code, 2, "{}", run.stderr);
        let error = run.stderr.trim();
        assert!(error.contains(place) && error.contains(what), "{error}");
        assert_eq!(error.lines().count(), 1, "one error, one line: {error}");
        assert!(run.stdout.is_empty());
    }
    let missing = Run::maxwell(&["run", "no/such.toml"]);
    assert_eq!(missing.code, 2);
    assert!(missing.stderr.contains("no/such.toml"), "{}", missing.stderr);
}

#[test]
fn a_module_that_is_too_large_or_wants_too_much_memory_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("large.wasm"), vec![0; 100 << 20]).unwrap();
    let greedy = r#"(module (memory (export "memory") 65536) (func (export "step") (result i32) (i32.const 0)))"#;
    std::fs::write(dir.path().join("greedy.wat"), greedy).unwrap();
    for (module, what) in [("large.wasm", "the module is 100MiB"), ("greedy.wat", "declares 4GiB of memory")] {
        let file = dir.path().join("scenario.toml");
        std::fs::write(&file, LEECH.replace("\"leech\"\nwallet", &format!("\"{module}\"\nwallet"))).unwrap();
        let run = Run::maxwell(&["run", &file.display().to_string()]);
        assert_eq!(run.code, 2, "{}", run.stderr);
        assert!(run.stderr.contains(":6:10: ") && run.stderr.contains(what), "{}", run.stderr);
    }
}

#[test]
fn an_unwritable_report_is_found_before_the_run() {
    let file = scenario(LEECH);
    let run =
        Run::maxwell(&["run", &file.path().display().to_string(), "--seconds", "60", "--json", "/no/such/dir/r.json"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("/no/such/dir/r.json"), "{}", run.stderr);
}

#[test]
fn the_report_has_every_name_of_the_contract() {
    let run = Run::scenario(&scenario(LEECH), 2, &[]);
    let report = run.report();
    for name in [
        "seconds",
        "ticks",
        "late_ticks",
        "tick_lateness_us",
        "sensor",
        "price_mw",
        "temp_c",
        "plant",
        "agents",
        "money",
        "energy",
        "state_hash",
    ] {
        assert!(!report[name].is_null(), "{name}");
    }
    let nested = [
        ("tick_lateness_us", vec!["p50", "p99", "max"]),
        ("sensor", vec!["source", "quality", "thermometer", "thermometer_quality"]),
        ("price_mw", vec!["par", "peak", "final"]),
        ("temp_c", vec!["start", "peak", "final"]),
        ("plant", vec!["learnt", "ambient_c", "fast", "slow"]),
        ("money", vec!["minted_nj", "burned_nj", "balances_nj", "escrow_nj", "error_nj"]),
        ("energy", vec!["meter_nj", "attributed_nj", "idle_nj", "daemon_nj", "error_nj", "domains"]),
    ];
    for (outer, names) in nested {
        names.iter().for_each(|name| assert!(!report[outer][name].is_null(), "{outer}.{name}"));
    }
    let leech = agent(&report, "leech").as_object().unwrap();
    let names = [
        "name",
        "principal",
        "cell",
        "state",
        "born_tick",
        "died_tick",
        "reason",
        "work_verified",
        "core_us",
        "fuel",
        "paid_nj",
        "rent_nj",
        "tax_nj",
        "earned_nj",
        "balance_nj",
        "energy_nj",
    ];
    names.iter().for_each(|name| assert!(leech.contains_key(*name), "{name}"));
    assert_eq!(report["state_hash"].as_str().unwrap().len(), 64);
    let ticks = report["ticks"].as_u64().unwrap();
    assert!((100..=202).contains(&ticks), "{ticks} ticks in two seconds");
    assert!(leech["core_us"].as_u64().unwrap() > 100_000);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let _alone = alone();
    let file = scenario(LEECH);
    let mut child = maxwell::command(&["run", &file.path().display().to_string(), "--seconds", "1"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
}

#[test]
fn names_that_would_disturb_a_terminal_are_refused() {
    let file = scenario(&LEECH.replace("name = \"leech\"", "name = \"a\\u001b[31m\""));
    let run = Run::maxwell(&["run", &file.path().display().to_string()]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("control characters") && !run.stderr.contains('\u{1b}'), "{}", run.stderr);
}

#[test]
fn quiet_prints_nothing() {
    let _alone = alone();
    let file = scenario(LEECH);
    let run = Run::maxwell(&["run", &file.path().display().to_string(), "--seconds", "1", "--quiet"]);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "", ""));
}

#[test]
fn every_scenario_that_ships_can_be_run() {
    for entry in std::fs::read_dir(maxwell::root().join("scenarios")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let _alone = alone();
            let run = Run::maxwell(&["run", &path.display().to_string(), "--seconds", "2", "--json", "-"]);
            assert_eq!(run.code, 0, "{}: {}", path.display(), run.stderr);
            assert_eq!(run.report()["money"]["error_nj"], 0);
        }
    }
}

#[test]
fn a_recording_replays_to_the_same_hash_and_a_changed_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let recording = dir.path().join("run.maxwell").display().to_string();
    let demo = scenario(&std::fs::read_to_string(maxwell::root().join("scenarios/demo.toml")).unwrap());
    let report = Run::scenario(&demo, 3, &["--record", &recording]).report();
    let replayed = Run::maxwell(&["replay", &recording, "--json"]);
    assert_eq!(replayed.code, 0, "{}", replayed.stderr);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&replayed.stdout).unwrap()["state_hash"],
        report["state_hash"]
    );

    let bytes = std::fs::read(&recording).unwrap();
    // One changed byte anywhere in the last third is a different input, a different decision, or no recording any more.
    for at in (bytes.len() * 2 / 3..bytes.len()).step_by(bytes.len() / 40) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        std::fs::write(&recording, &changed).unwrap();
        let run = Run::maxwell(&["replay", &recording]);
        assert!(run.code == 1 || run.code == 2, "byte {at}: exit code {}, {}{}", run.code, run.stdout, run.stderr);
        assert_eq!(run.stderr.trim().lines().count(), 1, "no panic: {}", run.stderr);
    }
    for cut in [0, 5, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&recording, &bytes[..cut]).unwrap();
        let run = Run::maxwell(&["replay", &recording]);
        assert_eq!(run.code, 2, "cut at {cut}: {}", run.stderr);
    }
}

#[test]
fn ctrl_c_ends_the_run_cleanly_with_a_summary() {
    let _alone = alone();
    let file = scenario(LEECH);
    let child = maxwell::command(&["run", &file.path().display().to_string(), "--seconds", "600"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!(run.code, 130, "{}", run.stderr);
    assert!(run.stdout.contains("what happened in") && run.stdout.contains("error 0 nJ"), "{}", run.stdout);
}

#[test]
fn hostile_agents_die_of_their_own_deeds_and_the_others_do_not_notice() {
    let dir = tempfile::tempdir().unwrap();
    let module = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    module("trap.wat", r#"(module (memory (export "memory") 1) (func (export "step") (result i32) (unreachable)))"#);
    module(
        "start.wat",
        r#"(module (memory (export "memory") 1) (func $s (loop $l (br $l))) (start $s) (func (export "step") (result i32) (i32.const 0)))"#,
    );
    module(
        "recurse.wat",
        r#"(module (memory (export "memory") 1) (func $f (call $f) (call $f)) (func (export "step") (result i32) (call $f) (i32.const 0)))"#,
    );
    module(
        "bomb.wat",
        r#"(module (memory (export "memory") 1) (func (export "step") (result i32) (loop $l (br_if $l (i32.ne (memory.grow (i32.const 64)) (i32.const -1)))) (unreachable)))"#,
    );
    module(
        "bulk.wat",
        r#"(module (memory (export "memory") 1000) (func (export "step") (result i32) (loop $l (memory.fill (i32.const 0) (i32.const 7) (i32.const 65536000)) (br $l)) (unreachable)))"#,
    );
    module(
        "flood.wat",
        r#"(module (import "maxwell" "log" (func $log (param i32 i32) (result i32))) (import "maxwell" "bid" (func $bid (param i64))) (memory (export "memory") 1) (func (export "step") (result i32) (loop $l (drop (call $log (i32.const 0) (i32.const 60000))) (call $bid (i64.const -1)) (br $l)) (unreachable)))"#,
    );
    let mut text = "[machine]\nslots = 2\nutilisation = \"maxwell\"\n[policy]\ngrace = \"500ms\"\n[[sponsor]]\nname = \"s\"\nverifier = \"prime\"\nleast = 549_755_813_888\nreward = \"40mJ\"\nbudget = \"10kJ\"\n[[agent]]\nname = \"honest\"\nmodule = \"scientist\"\nwallet = \"30J\"\norder = { limit = \"9W\" }\n".to_owned();
    for name in ["trap", "start", "recurse", "bomb", "bulk", "flood"] {
        text += &format!(
            "[[agent]]\nname = \"{name}\"\nmodule = \"{name}.wat\"\nwallet = \"6J\"\norder = {{ limit = \"8W\" }}\n"
        );
    }
    let file = dir.path().join("hostile.toml");
    std::fs::write(&file, text).unwrap();
    let _alone = alone();
    let run = Run::maxwell(&["run", &file.display().to_string(), "--seconds", "12", "--json", "-"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.is_empty(), "no panic, no noise: {}", run.stderr);
    let report = run.report();
    assert_eq!((&report["money"]["error_nj"], &report["energy"]["error_nj"]), (&0.into(), &0.into()));
    let reason = |name: &str| agent(&report, name)["reason"].as_str().unwrap().to_owned();
    assert_eq!(reason("trap"), "trap_unreachable");
    assert_eq!(reason("recurse"), "trap_stack_overflow");
    assert_eq!(reason("bomb"), "trap_memory_limit");
    for name in ["start", "flood", "bulk"] {
        assert!(["insolvent", "rent_unpaid"].contains(&reason(name).as_str()), "{}", agent(&report, name));
    }
    for name in ["trap", "start", "recurse", "bomb", "bulk", "flood"] {
        assert!(agent(&report, name)["paid_nj"].as_u64().unwrap() > 0, "never free: {}", agent(&report, name));
    }
    let honest = agent(&report, "honest");
    assert!(honest["work_verified"].as_u64().unwrap() > 100, "{honest}");
    assert!(honest["died_tick"].is_null(), "{honest}");
}
