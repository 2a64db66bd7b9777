//! `scientist`: finds primes, says so, and sells them where somebody buys.
//!
//! A line on stdout for each batch, which anybody can check: `batch FROM TO COUNT DIGEST`. With `--wake`, a line of how late
//! a sleeping thread of it woke, every second.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use maxwell_agents::native::market::Market;
use maxwell_agents::native::{search, wake};

const USAGE: &str = "scientist [--seed N] [--worker N] [--count PRIMES] [--batches N] [--primes] [--wake] [--bursty]
  --seed, --worker  where it looks: no two of them look at the same numbers
  --count           primes in a batch (2048): some ten milliseconds of work
  --batches         ends after so many; otherwise it goes on until it is ended
  --primes          prints the primes too
  --wake            measures how late a sleeper wakes
  --bursty          works for one or two seconds, then sleeps for two or three";

struct Wanted {
    seed: u64,
    worker: u64,
    count: u64,
    batches: u64,
    primes: bool,
    wake: bool,
    bursty: bool,
}

fn wanted() -> Option<Wanted> {
    let mut wanted =
        Wanted { seed: 0, worker: 0, count: 2_048, batches: u64::MAX, primes: false, wake: false, bursty: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next()?.parse::<u64>().ok();
        match word.as_str() {
            "--seed" => wanted.seed = number()?,
            "--worker" => wanted.worker = number()?,
            "--count" => wanted.count = number()?.max(1),
            "--batches" => wanted.batches = number()?,
            "--primes" => wanted.primes = true,
            "--wake" => wanted.wake = true,
            "--bursty" => wanted.bursty = true,
            _ => return None,
        }
    }
    Some(wanted)
}

fn work(wanted: &Wanted) -> std::io::Result<()> {
    if wanted.wake {
        wake::start()?;
    }
    let mut market = Market::connect();
    let mut from = search::start(wanted.seed, wanted.worker);
    let (mut primes, mut burst) = (String::new(), Instant::now());
    for _ in 0..wanted.batches {
        let batch = search::batch(from, wanted.count, |prime| {
            if wanted.primes {
                primes.push_str(&format!("prime {prime}\n"));
            }
        });
        std::io::stdout().lock().write_all(format!("{primes}{batch}\n").as_bytes())?;
        primes.clear();
        if let Some(market) = &mut market {
            market.claim_prime(batch.to, 1)?;
        }
        from = batch.to + 1;
        if wanted.bursty && burst.elapsed() >= Duration::from_millis(1_000 + batch.digest % 1_000) {
            // Nobody knows the digest before: as good as chance, and the same in every arm.
            std::thread::sleep(Duration::from_millis(2_000 + batch.digest / 1_000 % 1_000));
            burst = Instant::now();
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let Some(wanted) = wanted() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match work(&wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scientist: {error}");
            ExitCode::FAILURE
        }
    }
}
