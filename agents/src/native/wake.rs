//! How late a sleeper wakes: what a program that must answer somebody feels of the arm it runs in.

use std::io::Write;
use std::time::{Duration, Instant};

/// How long it sleeps each time.
pub const NAP: Duration = Duration::from_millis(10);
/// Naps in a line.
const LINE: usize = 100;

/// Sleeps for ever on a thread of its own, and writes a line `wake 12 9 1031 …` of lateness in microseconds after every
/// hundred naps.
///
/// # Errors
///
/// There is no thread to be had.
pub fn start() -> std::io::Result<()> {
    std::thread::Builder::new().name("sleeper".into()).stack_size(64 << 10).spawn(|| {
        loop {
            let mut line = String::from("wake");
            for _ in 0..LINE {
                let began = Instant::now();
                std::thread::sleep(NAP);
                let late = began.elapsed().saturating_sub(NAP);
                line.push_str(&format!(" {}", late.as_micros()));
            }
            line.push('\n');
            if std::io::stdout().lock().write_all(line.as_bytes()).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// The latenesses in such a line; none in any other.
pub fn read(line: &str) -> impl Iterator<Item = u64> {
    line.strip_prefix("wake ").into_iter().flat_map(|rest| rest.split(' ')).filter_map(|word| word.parse().ok())
}
