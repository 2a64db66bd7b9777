//! The Python agent against the broker, with a market that drains its account every few milliseconds.

#![allow(clippy::unwrap_used, reason = "a failure to unwrap is a failure of the test")]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use maxwell_core::bounty::{SponsorId, Verifier};
use maxwell_core::market::Claim;
use maxwell_core::reason::Reason;
use maxwell_core::{AgentId, Joule, Price, Tick};
use maxwell_hypervisor::Offer;
use maxwell_hypervisor::Quote;
use maxwell_hypervisor::protocol::account::{Account, Board, Link, Notice, Standing, Wishes};
use maxwell_hypervisor::protocol::broker::{Broker, Departure, Rate, SOCKET_VARIABLE, inherit, pair};

const PATIENCE: Duration = Duration::from_secs(60);

fn python() -> Option<Command> {
    if !Command::new("python3").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        println!("skipped: no python3 here");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agents/frugal.py");
    let mut command = Command::new("python3");
    command.arg(script).env_remove(SOCKET_VARIABLE).stdout(Stdio::piped());
    Some(command)
}

/// A process that a failing test does not leave behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(mut command: Command, socket: OwnedFd) -> Running {
    command.env(SOCKET_VARIABLE, socket.as_raw_fd().to_string());
    // SAFETY: between fork and exec only fcntl(2) is called, which is async-signal-safe; the descriptor was moved into the
    // closure and so is open.
    unsafe { command.pre_exec(move || inherit(socket.as_fd())) };
    Running(command.spawn().unwrap())
}

/// A market of one agent: what it asked for, gathered.
struct Market {
    board: Arc<Board>,
    account: Arc<Account>,
    wishes: Wishes,
    bids: Vec<Price>,
    claims: Vec<Claim>,
    said: Vec<String>,
}

impl Market {
    fn new() -> Self {
        let board = Arc::new(Board::default());
        let verifier = Verifier::Prime { least: 1_000_000 };
        board.offers().add(Offer { sponsor: SponsorId(4), verifier, reward: Joule(1_000_000), funded: true });
        let account = Arc::new(Account::new(AgentId(9)));
        assert!(account.publish(Standing { balance: Joule(1_000_000_000_000), ..Standing::default() }));
        let (wishes, bids, claims, said) = (Wishes::default(), Vec::new(), Vec::new(), Vec::new());
        let mut market = Self { board, account, wishes, bids, claims, said };
        market.price(1);
        market
    }

    fn price(&mut self, mw: u64) {
        let quote = Quote { tick: Tick(1), spot: Price(mw), now_us: 10_000 };
        while !self.board.publish(Notice { quote, reserve: None }) {}
    }

    /// Takes what the agent asked for, until something is so.
    fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !condition(self) {
            assert!(began.elapsed() < PATIENCE, "{what}: {:?} {:?} {}", self.said, self.bids, self.claims.len());
            std::thread::sleep(Duration::from_millis(3));
            if self.account.drain(&mut self.wishes) {
                self.bids.extend(self.wishes.bid);
                self.claims.append(&mut self.wishes.claims);
                self.said.append(&mut self.wishes.said);
            }
        }
    }

    fn finish(&mut self, running: &mut Running) -> String {
        self.until("it ends", |market| market.account.link() == Link::Closed(Departure::Ended));
        assert!(running.0.wait().unwrap().success());
        let mut text = String::new();
        std::io::Read::read_to_string(&mut running.0.stdout.take().unwrap(), &mut text).unwrap();
        text
    }
}

fn saved(path: &PathBuf) -> u64 {
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    state["next"].as_u64().unwrap()
}

#[test]
fn it_sells_work_waits_when_prices_are_high_and_goes_on_after_its_death() {
    let Some(mut first) = python() else { return };
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state.json");
    let mut market = Market::new();
    let broker = Broker::start(Arc::clone(&market.board), Rate::default()).unwrap();

    let (ours, theirs) = pair().unwrap();
    broker.add(ours, Arc::clone(&market.account));
    first.arg("--state").arg(&state);
    let mut running = start(first, theirs);
    market.until("it sells primes and bids", |market| market.claims.len() > 50 && !market.bids.is_empty());
    assert!(market.claims.iter().all(|claim| claim.sponsor == SponsorId(4) && claim.verdict.is_ok()));
    assert!(*market.bids.last().unwrap() > Price(1), "what it earns: {:?}", market.bids);
    assert!(market.said[0].contains("as agent 9"), "{:?}", market.said);
    market.price(u64::from(u32::MAX));
    market.until("it waits", |market| market.said.iter().any(|line| line.ends_with("I wait")));
    assert!(*market.bids.last().unwrap() < Price(u64::from(u32::MAX)), "it does not follow the price");

    broker.condemn(AgentId(9), Reason::Insolvent, Duration::from_secs(60));
    let text = market.finish(&mut running);
    assert!(text.contains("primes below"), "{text}");
    assert!(market.said.last().unwrap().starts_with("condemned (insolvent)"), "{:?}", market.said);
    let next = saved(&state);
    let last = market.claims.iter().filter_map(|claim| claim.verdict.ok()).max().unwrap();
    assert!(last < next, "{last} {next}");

    market.claims.clear();
    let (ours, theirs) = pair().unwrap();
    broker.add(ours, Arc::clone(&market.account));
    let mut second = python().unwrap();
    second.arg("--state").arg(&state);
    let mut running = start(second, theirs);
    market.until("it goes on", |market| !market.claims.is_empty());
    assert!(market.claims[0].verdict.unwrap() >= next, "where it was");
    market.board.offers().set_funded(SponsorId(4), false);
    market.finish(&mut running);
    assert_ne!(market.bids.last(), Some(&Price(0)), "nobody pays: it ends, and does not freeze itself first");
    assert!(saved(&state) > next);
}

#[test]
fn it_needs_no_maxwell() {
    let Some(mut command) = python() else { return };
    let output = command.args(["--count", "30", "--start", "2"]).output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("primes below"));
}

#[test]
fn without_its_maxwell_it_saves_and_ends() {
    let Some(mut command) = python() else { return };
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state.json");
    let mut market = Market::new();
    let broker = Broker::start(Arc::clone(&market.board), Rate::default()).unwrap();
    let (ours, theirs) = pair().unwrap();
    broker.add(ours, Arc::clone(&market.account));
    command.arg("--state").arg(&state).stderr(Stdio::null());
    let mut running = start(command, theirs);
    market.until("it works", |market| !market.claims.is_empty());
    drop(broker);
    assert!(running.0.wait().unwrap().success());
    assert!(saved(&state) > 1_000_000);
}
