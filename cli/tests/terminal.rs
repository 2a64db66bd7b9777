//! `maxwell exec` at a terminal: job control, Ctrl-C, Ctrl-Z. Driven by `terminal.py`, for Python has pseudo-terminals.

#![allow(clippy::unwrap_used, reason = "a failure to unwrap is a failure of the test")]

mod maxwell;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use maxwell::exec::cannot;
use maxwell::{alone, root};

/// Every step of the driver has a deadline of its own; this is for a driver that hangs.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn it_behaves_at_a_terminal_as_any_program_does() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let driver = root().join("cli/tests/terminal.py");
    let mut driver = Command::new("python3")
        .arg(driver)
        .arg(env!("CARGO_BIN_EXE_maxwell"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let since = Instant::now();
    while driver.try_wait().unwrap().is_none() && since.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
    // It may have ended.
    let _ = driver.kill();
    let output = driver.wait_with_output().unwrap();
    let (steps, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "after\n{steps}{error}");
    assert_eq!(steps.lines().count(), 6, "{steps}");
}
