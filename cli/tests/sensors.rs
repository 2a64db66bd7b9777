//! Sensors as a user meets them: what the machine has, what a scenario asks for, and what happens when one goes away.

#![allow(clippy::unwrap_used, reason = "tests")]

mod maxwell;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use maxwell::{Run, alone, command, scenario};
use maxwell_core::sensor::Quality;
use maxwell_core::units::{Celsius, Watts};
use maxwell_physics::sensors::file::{HostReport, write};

const LEECH: &str = "[[agent]]\nname = \"leech\"\nmodule = \"leech\"\nwallet = \"500J\"\norder = { limit = \"50W\" }\n";

/// A host that draws a constant power, and writes its file until it is dropped.
struct Host {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Host {
    fn start(path: &std::path::Path, watts: u64, quality: Quality) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (over, path) = (Arc::clone(&stop), path.to_owned());
        let start = Instant::now();
        let report = move |sequence| HostReport {
            sequence,
            interval_ms: 50,
            // Shortly before its counter wraps.
            energy_uj: Some(
                (65_712_999_613 - 5_000_000 + watts * u64::try_from(start.elapsed().as_micros()).unwrap())
                    % 65_712_999_614,
            ),
            max_energy_range_uj: 65_712_999_613,
            max_power: Watts(500.0),
            celsius: Some(Celsius(51.0)),
            quality,
        };
        write(&path, &report(0)).unwrap();
        let thread = std::thread::spawn(move || {
            let mut sequence = 0;
            while !over.load(Ordering::Relaxed) {
                sequence += 1;
                write(&path, &report(sequence)).unwrap();
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn the_doctor_shows_what_is_used_and_what_would_help() {
    let run = Run::maxwell(&["doctor"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for part in ["energy: ", "temperature: ", "host", "KVM", "PAGEMAP_SCAN", "real-time priority"] {
        assert!(run.stdout.contains(part), "no {part} in\n{}", run.stdout);
    }
    for part in ["cgroup", "core time", "eBPF", "sandbox", "control sockets", "leftovers"] {
        assert!(run.stdout.contains(part), "no {part} in\n{}", run.stdout);
    }
    assert!(run.stdout.lines().count() <= 60, "one screen:\n{}", run.stdout);
    let json: serde_json::Value = serde_json::from_str(&Run::maxwell(&["doctor", "--json"]).stdout).unwrap();
    assert!(json["uses"]["energy"].is_string() && json["sensors"]["energy"].is_array());
    assert_eq!(json["host"].as_array().unwrap().len(), 9);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("host");
    let _host = Host::start(&file, 30, Quality::Measured);
    let run = Run::maxwell(&["doctor", "--file", &file.display().to_string()]);
    assert!(run.stdout.lines().any(|line| line.contains("✓ file")), "{}", run.stdout);
}

#[test]
fn a_host_that_stops_writing_is_noticed_and_no_joule_is_lost_or_invented() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("host");
    let host = Host::start(&path, 40, Quality::Measured);
    let file = scenario(LEECH);
    let ender = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(4));
        drop(host);
    });
    let (sensor, recording) = (format!("file:{}", path.display()), folder.path().join("run.maxwell"));
    let recording = recording.display().to_string();
    let run = Run::scenario(&file, 8, &["--sensor", &sensor, "--record", &recording]);
    ender.join().unwrap();
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report = run.report();
    let energy = &report["energy"];
    assert_eq!(energy["error_nj"], 0);
    let domains = energy["domains"].as_array().unwrap();
    let of = |source: &str| domains.iter().find(|domain| domain["source"] == source);
    let (measured, modelled) = (of("file").unwrap(), of("model").unwrap());
    assert_eq!((&measured["quality"], &modelled["quality"]), (&"measured".into(), &"modelled".into()));
    // About 4 s at 40 W, across a wrap; how long exactly depends on how quickly the program starts.
    let joules = measured["meter_nj"].as_u64().unwrap() as f64 * 1e-9;
    assert!((60.0..=200.0).contains(&joules), "{joules} J of 40 W for some 4 s");
    assert!(modelled["meter_nj"].as_u64().unwrap() > 1_000_000_000, "{modelled}");
    let sum: u64 = domains.iter().map(|domain| domain["meter_nj"].as_u64().unwrap()).sum();
    assert_eq!(energy["meter_nj"].as_u64().unwrap(), sum);
    assert_eq!((&report["sensor"]["source"], &report["sensor"]["quality"]), (&"model".into(), &"modelled".into()));
    // The recording holds which counters there were, and when they changed.
    let replay = Run::maxwell(&["replay", &recording, "--json"]);
    assert_eq!(replay.code, 0, "{}", replay.stderr);
    assert_eq!(replay.report()["state_hash"], report["state_hash"]);
}

#[test]
fn people_are_told_which_sensors_there_are_and_when_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("host");
    let host = Host::start(&path, 40, Quality::Filtered);
    let file = scenario(&format!("[sensors]\nuse = \"file:{}\"\n{LEECH}", path.display()));
    let ender = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(3));
        drop(host);
    });
    let run = Run::shown(&file, 6);
    ender.join().unwrap();
    assert!(run.stdout.contains("energy from file, temperature from file"), "{}", run.stdout);
    assert!(run.stdout.contains("energy from a model (nothing is measured)"), "{}", run.stdout);
    assert!(run.stdout.contains("(file, filtered)") && run.stdout.contains("(model, modelled)"), "{}", run.stdout);
}

#[test]
fn sensors_that_do_not_work_are_refused_with_words() {
    let file = scenario(LEECH);
    let path = file.path().display().to_string();
    let unknown = Run::maxwell(&["run", &path, "--sensor", "thermostat"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("thermostat") && unknown.stderr.contains("powercap"), "{}", unknown.stderr);
    let absent = Run::maxwell(&["run", &path, "--sensor", "file:/no/such/file"]);
    assert_eq!(absent.code, 2);
    assert!(absent.stderr.contains("file gives no"), "{}", absent.stderr);
    for (line, what) in [
        ("use = \"thermostat\"", "thermostat"),
        ("model = \"nowhere.toml\"", "nowhere.toml"),
        ("sensor = \"auto\"", "unknown field `sensor`"),
    ] {
        let file = scenario(&format!("[sensors]\n{line}\n{LEECH}"));
        let run = Run::maxwell(&["run", &file.path().display().to_string()]);
        assert_eq!(run.code, 2, "{line}");
        assert!(run.stderr.contains(":2:") && run.stderr.contains(what), "{line}: {}", run.stderr);
    }
}

/// A machine small and quick enough that one core warms it.
const PROFILE: &str = "title = \"little machine\"\nthreads = 2\n[power]\nidle = \"2W\"\n\
    curve = [{ utilisation = 1.0, watts = \"7W\" }]\n[plant]\nambient = \"35C\"\n\
    fast = { resistance = 3.0, tau = \"400ms\" }\nslow = { resistance = 1.0, tau = \"6s\" }\n";

#[test]
fn a_profile_says_what_the_machine_burns() {
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("little.toml");
    std::fs::write(&profile, PROFILE).unwrap();
    let file = scenario(&format!("[sensors]\nuse = \"model\"\nmodel = \"{}\"\n{LEECH}", profile.display()));
    let run = Run::scenario(&file, 1, &[]);
    assert_eq!(run.report()["price_mw"]["par"], 7_000, "{}", run.stderr);
}

#[test]
fn tuning_swings_the_machine_and_keeps_what_it_found() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (profile, tuned) = (folder.path().join("little.toml"), folder.path().join("tuned.toml"));
    std::fs::write(&profile, PROFILE).unwrap();
    let (from, to) = (profile.display().to_string(), tuned.display().to_string());
    let tune = ["physics", "tune", "--sensor", "model", "--profile", &from, "--limit", "120", "--json", "--out", &to];
    let run = Run::maxwell(&tune);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let result: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(result["thermometer"]["quality"], "modelled");
    assert!(result["seconds"].as_f64().unwrap() <= 60.0);
    // 3 K/W in 0.4 s; a busy computer's load is not the square wave that the method wants.
    let slope = result["slope_k_per_s_per_w"].as_f64().unwrap();
    assert!((2.0..=15.0).contains(&slope), "{slope}");
    let kept = std::fs::read_to_string(&tuned).unwrap();
    assert!(kept.contains("[controller]") && kept.contains("delay = "), "{kept}");
    let again = Run::maxwell(&tune);
    assert_eq!(again.code, 2);
    assert!(again.stderr.contains("--force"), "{}", again.stderr);
    let absurd = Run::maxwell(&["physics", "tune", "--limit", "900"]);
    assert_eq!(absurd.code, 2);
    assert!(absurd.stderr.contains("between 30 and 150"), "{}", absurd.stderr);
}

#[test]
fn ctrl_c_ends_tuning_and_export_and_leaves_nothing_behind() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (tuned, exported) = (folder.path().join("tuned.toml"), folder.path().join("host"));
    let interrupted = |arguments: &[&str], seconds: u64| {
        let mut child =
            command(arguments).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_secs(seconds));
        let seen = exported.exists();
        let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        (child.wait().unwrap().code(), seen)
    };
    let to = tuned.display().to_string();
    assert_eq!(interrupted(&["physics", "tune", "--out", &to], 2).0, Some(130));
    assert!(!tuned.exists());
    let to = exported.display().to_string();
    assert_eq!(interrupted(&["physics", "export", &to], 2), (Some(130), true));
    assert!(!exported.exists(), "a guest must not believe that somebody still writes");
}

#[test]
fn the_thermal_lab_lists_runs_and_draws_its_cases() {
    let list = Run::maxwell(&["lab", "thermal", "--list"]);
    assert!(list.stdout.lines().count() >= 20 && list.stdout.contains("inelastic"), "{}", list.stdout);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new");
    let run = Run::maxwell(&["lab", "thermal", "--case", "burst", "--json", "--out", &out.display().to_string()]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(json["trials"].as_array().unwrap().len(), 3);
    assert!(json["trials"][0]["recovery"].as_f64().unwrap() <= 1.0);
    let picture = std::fs::read_to_string(out.join("burst.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("power_allocator"));
    assert!(out.join("thermal.md").exists() && out.join("thermal.json").exists());
    let unknown = Run::maxwell(&["lab", "thermal", "--case", "volcano"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("--list"), "{}", unknown.stderr);
}
