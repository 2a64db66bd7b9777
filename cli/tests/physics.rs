//! `maxwell physics fit` as a user meets it: traces in, a profile and a table out, and mistakes.

#![allow(clippy::unwrap_used, reason = "a failure to unwrap is a failure of the test")]

mod maxwell;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use maxwell::Run;

/// A machine of four threads that burns 12 W idle, 9 W more when awake, and 5 W for each busy thread; with a die of 0.4 K/W
/// and 2 s, and a sink of 0.3 K/W and 40 s, in air of 25 °C.
fn trace(dir: &Path, heat: bool) -> PathBuf {
    let mut csv = String::from(if heat {
        "seconds,core0,core1,core2,core3,watts,celsius\n"
    } else {
        "seconds,core0,core1,core2,core3,watts\n"
    });
    let (mut die, mut sink) = (0.4 * 12.0, 0.3 * 12.0);
    for second in 0..600u32 {
        let level = (second / 37) % 5;
        let cores: Vec<f64> = (0..4).map(|core| if core < level { 1.0 } else { 0.0 }).collect();
        let busy: f64 = cores.iter().sum();
        let watts = 12.0 + if busy > 0.0 { 9.0 } else { 0.0 } + 5.0 * busy;
        die += (0.4 * watts - die) * (1.0 - f64::exp(-1.0 / 2.0));
        sink += (0.3 * watts - sink) * (1.0 - f64::exp(-1.0 / 40.0));
        let cores: Vec<String> = cores.iter().map(f64::to_string).collect();
        write!(csv, "{second},{},{watts}", cores.join(",")).unwrap();
        if heat {
            write!(csv, ",{:.0}", 25.0 + die + sink).unwrap();
        }
        csv.push('\n');
    }
    let path = dir.join("machine.csv");
    std::fs::write(&path, csv).unwrap();
    path
}

fn fit(arguments: &[&str]) -> Run {
    Run::maxwell(&[&["physics", "fit"], arguments].concat())
}

#[test]
fn a_trace_becomes_a_profile_a_table_and_a_picture() {
    let dir = tempfile::tempdir().unwrap();
    let trace = trace(dir.path(), true).display().to_string();
    let (out, plot) = (dir.path().join("m.toml"), dir.path().join("m.svg"));
    let (out, plot) = (out.display().to_string(), plot.display().to_string());
    let run = fit(&[&trace, "--out", &out, "--plot", &plot, "--title", "bench <1>"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for words in ["bench <1>: 600 rows of 1 trace, 4 hardware threads", "12.00W", "+9.00W", "+5.00W", "K/W", "held out"]
    {
        assert!(run.stdout.contains(words), "{words} is missing in\n{}", run.stdout);
    }
    let profile = std::fs::read_to_string(&out).unwrap();
    for words in [
        "title = \"bench <1>\"",
        "threads = 4",
        "idle = \"12W\"",
        "awake = \"9W\"",
        "[plant]",
        "600 rows of machine.csv",
    ] {
        assert!(profile.contains(words), "{words} is missing in\n{profile}");
    }
    let picture = std::fs::read_to_string(&plot).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("</svg>") && !picture.contains("bench <1>"), "{picture}");

    let again = fit(&[&trace, "--out", &out]);
    assert_eq!(again.code, 2);
    assert!(again.stderr.contains("is there already") && again.stderr.contains("--force"), "{}", again.stderr);
    assert_eq!(fit(&[&trace, "--out", &out, "--plot", &plot, "--force"]).code, 0);
    assert!(std::fs::read_to_string(&out).unwrap().contains("title = \"machine.csv\""));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "no leftovers");
}

#[test]
fn the_result_is_told_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let run = fit(&[&trace(dir.path(), false).display().to_string(), "--json", "--tdp", "45W"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report = run.report();
    assert!((report["power"]["awake_w"].as_f64().unwrap() - 9.0).abs() < 0.1, "{report}");
    assert!(report["errors"]["fit"]["held_out_percent_of_peak"].as_f64().unwrap() < 1.0, "{report}");
    assert!(report["errors"]["codecarbon"]["held_out_percent_of_peak"].as_f64().unwrap() > 10.0, "{report}");
    assert!(report["plant"]["refused"].as_str().unwrap().contains("no row has a temperature"), "{report}");
}

#[test]
fn a_wrong_trace_is_one_clear_error_and_exits_with_two() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.csv");
    let file = path.display().to_string();
    let cases: [(&str, &[&str], &str); 6] = [
        ("seconds,utilisation,watts\n0,0.1,10\n1,0.2,hot\n", &[], "t.csv:3: `watts` is `hot`"),
        ("seconds,utilisation,watts\n0,50,10\n", &[], "t.csv:2: `utilisation` is 50"),
        ("seconds,load,watts\n0,50,10\n", &[], "no column `utilisation`"),
        ("seconds,utilisation,watts\n0,0,10\n1,1,20\n", &["--threads", "2"], "2 rows are too few"),
        ("seconds,utilisation,watts\n0,0,10\n1,1,20\n", &[], "--threads"),
        ("", &[], "the file is empty"),
    ];
    for (text, more, what) in cases {
        std::fs::write(&path, text).unwrap();
        let run = fit(&[&[file.as_str()], more].concat());
        assert_eq!(run.code, 2, "{}", run.stderr);
        assert!(run.stderr.contains(what) && run.stdout.is_empty(), "{}\nwanted {what}", run.stderr);
        assert_eq!(run.stderr.trim().lines().count(), 1, "one error, one line: {}", run.stderr);
    }
    assert_eq!(fit(&["/no/such.csv"]).code, 2);
    assert_eq!(fit(&[]).code, 2, "no trace at all");
    assert_eq!(fit(&[&file, "--tdp", "90"]).code, 2, "power without its unit");
    let trace = trace(dir.path(), false).display().to_string();
    assert_eq!(fit(&[&trace, "--out", "/no/such/dir/p.toml"]).code, 1, "a disk that says no");
}

#[test]
fn help_tells_what_a_trace_is() {
    let help = fit(&["--help"]).stdout;
    for words in ["seconds", "utilisation", "core0", "celsius", "--out", "Example"] {
        assert!(help.contains(words), "{words} is missing in\n{help}");
    }
    assert!(Run::maxwell(&["--help"]).stdout.contains("physics"));
}
