//! `miner`: burns cores and memory for nobody. One program, several ways to be a parasite.
//!
//! | mode | what it does |
//! |---|---|
//! | `spin` | an empty loop |
//! | `mine` | SHA-256 over nonces; takes and gives back 8 MiB after every 65,536 of them |
//! | `hoard` | holds memory and touches it, hashing in between |
//! | `orphans` | starts processes that spin, and ends: nobody owns them any more |
//! | `sleep` | asks the price and mines where it is low; without Maxwell, a second on and a second off |
//! | `mimic` | a scientist for some of its time, a miner for the rest |

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use maxwell_agents::native::market::Market;
use maxwell_agents::native::search;
use sha2::{Digest, Sha256};

const USAGE: &str = "miner MODE [N] [--seed N] [--worker N] [--count PRIMES] [--at UNIX_MILLISECONDS]
  spin | mine | hoard MIB | orphans COUNT | sleep [MILLIWATTS] | mimic PERCENT";

/// Bytes that mining takes and gives back.
const CHURN: usize = 8 << 20;
/// Hashes between two of that.
const NONCES: u64 = 1 << 16;
const PAGE: usize = 4_096;
/// Nobody lies low for longer.
const MOST_LOW: Duration = Duration::from_secs(60);
/// What a sleeper calls cheap if it is not told: a core of a small machine at par, and a little.
const CHEAP: u64 = 6_000;

struct Miner {
    nonce: u64,
    best: u32,
}

impl Miner {
    /// Hashes some nonces, and erases some memory.
    fn mine(&mut self, nonces: u64) {
        for _ in 0..nonces {
            self.nonce += 1;
            let hash = Sha256::digest(self.nonce.to_le_bytes());
            self.best = self.best.max(u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]).leading_zeros());
            if self.nonce.is_multiple_of(NONCES) {
                let mut memory = vec![0u8; CHURN];
                for page in memory.chunks_mut(PAGE) {
                    page[0] = hash[4];
                }
                std::hint::black_box(&memory);
            }
        }
    }

    fn mine_for(&mut self, time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time {
            self.mine(256);
        }
    }
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

fn hoard(miner: &mut Miner, mebibytes: usize) -> ! {
    let mut memory = vec![0u8; mebibytes << 20];
    loop {
        for page in memory.chunks_mut(PAGE) {
            page[0] = page[0].wrapping_add(1);
        }
        miner.mine(NONCES / 4);
    }
}

fn orphans(count: u64) -> std::io::Result<()> {
    let program = std::env::current_exe()?;
    for _ in 0..count {
        // Never waited for: we end, and nobody knows them any more.
        Command::new(&program).arg("spin").stdin(Stdio::null()).spawn()?;
    }
    Ok(())
}

fn sleep(miner: &mut Miner, milliwatts: u64) -> std::io::Result<()> {
    let Some(mut market) = Market::connect() else {
        loop {
            miner.mine_for(Duration::from_secs(1));
            std::thread::sleep(Duration::from_secs(1));
        }
    };
    loop {
        if market.price()? <= milliwatts {
            miner.mine_for(Duration::from_millis(10));
        } else {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn mimic(miner: &mut Miner, percent: u64, place: &Place) -> std::io::Result<()> {
    let mut market = Market::connect();
    let mut from = search::start(place.seed, place.worker);
    let percent = u32::try_from(percent.clamp(1, 100)).expect("at most a hundred");
    loop {
        let began = Instant::now();
        let batch = search::batch(from, place.count, |_| {});
        let useful = began.elapsed();
        std::io::stdout().lock().write_all(format!("{batch}\n").as_bytes())?;
        if let Some(market) = &mut market {
            market.claim_prime(batch.to, 1)?;
        }
        from = batch.to + 1;
        miner.mine_for(useful * (100 - percent) / percent);
    }
}

struct Place {
    seed: u64,
    worker: u64,
    count: u64,
}

/// Sleeps until a moment of the wall clock, however late it was let run: leeches of all arms begin alike.
fn lie_low(until_ms: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = Duration::from_millis(until_ms).saturating_sub(now);
    std::thread::sleep(left.min(MOST_LOW));
}

fn run() -> Option<std::io::Result<()>> {
    let (mut place, mut at) = (Place { seed: 0, worker: 0, count: 2_048 }, 0);
    let (mut plain, mut words) = (Vec::new(), std::env::args().skip(1));
    while let Some(word) = words.next() {
        let mut number = || words.next()?.parse::<u64>().ok();
        match word.as_str() {
            "--seed" => place.seed = number()?,
            "--worker" => place.worker = number()?,
            "--count" => place.count = number()?.max(1),
            "--at" => at = number()?,
            _ => plain.push(word),
        }
    }
    let number = || plain.get(1)?.parse::<u64>().ok();
    let mut miner = Miner { nonce: place.worker << 40, best: 0 };
    lie_low(at);
    match plain.first()?.as_str() {
        "spin" => spin(),
        "mine" => loop {
            miner.mine(NONCES);
        },
        "hoard" => hoard(&mut miner, usize::try_from(number()?.min(1 << 20)).ok()?),
        "orphans" => Some(orphans(number()?.min(10_000))),
        "sleep" => Some(sleep(&mut miner, number().unwrap_or(CHEAP))),
        "mimic" => Some(mimic(&mut miner, number()?, &place)),
        _ => None,
    }
}

fn main() -> ExitCode {
    match run() {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("miner: {error}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
