//! The broker under siege: well-behaved agents beside hostile ones, over real sockets.

#![allow(clippy::unwrap_used, reason = "a failure to unwrap is a failure of the test")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use maxwell_core::bounty::{SponsorId, Verifier};
use maxwell_core::reason::Reason;
use maxwell_core::{AgentId, Joule, Price, Tick};
use maxwell_hypervisor::Offer;
use maxwell_hypervisor::Quote;
use maxwell_hypervisor::protocol::account::{Account, Board, Link, Notice, Standing, Wishes};
use maxwell_hypervisor::protocol::broker::{Broker, Departure, Rate, pair};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

/// Longer than any answer takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn board() -> Arc<Board> {
    let board = Board::default();
    let quote = Quote { tick: Tick(7), spot: Price(4_500), now_us: 70_000 };
    assert!(board.publish(Notice { quote, reserve: Some(Price(4_200)) }));
    let verifier = Verifier::Prime { least: 100 };
    board.offers().add(Offer { sponsor: SponsorId(0), verifier, reward: Joule(2_500), funded: true });
    Arc::new(board)
}

struct Agent {
    account: Arc<Account>,
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Agent {
    fn join(broker: &Broker, id: u64) -> Self {
        let (ours, theirs) = pair().unwrap();
        let account = Arc::new(Account::new(AgentId(id)));
        assert!(account.publish(Standing { balance: Joule(1_000 + id), ..Standing::default() }));
        broker.add(ours, Arc::clone(&account));
        let stream = UnixStream::from(theirs);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { account, stream, reader }
    }

    fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.say(&format!("{}\n", json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})));
        self.hear()
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn drained(account: &Account) -> Wishes {
    let mut wishes = Wishes::default();
    wait_until("the broker keeps the account locked", || account.drain(&mut wishes));
    wishes
}

#[test]
fn an_agent_is_answered_from_its_own_account() {
    let broker = Broker::start(board(), Rate::default()).unwrap();
    let mut agent = Agent::join(&broker, 5);
    assert_eq!(agent.ask("hello", &json!({}))["result"]["agent"], 5);
    let price = agent.ask("price", &json!({}));
    assert_eq!(
        price["result"],
        json!({"spot": 4500, "reserve": 4200, "tick": 7, "now_us": 70000, "text": "4.5W for each core"})
    );
    assert_eq!(agent.ask("balance", &json!({}))["result"]["balance"], 1005);
    assert_eq!(agent.ask("bid", &json!({"limit": "5W"}))["result"]["limit"], 5000);
    assert_eq!(agent.ask("submit", &json!({"kind": "prime", "unit": 101}))["result"]["reward"], 2500);
    assert_eq!(agent.ask("submit", &json!({"sponsor": 0, "unit": 102}))["error"]["code"], -32005);
    assert_eq!(agent.ask("submit", &json!({"kind": "hash", "unit": 102}))["error"]["data"]["reason"], "no_sponsor");
    assert_eq!(agent.ask("log", &json!({"text": "hi"}))["result"]["left"], 7);
    assert_eq!(agent.ask("status", &json!({}))["result"]["reason"], "no_order");
    assert_eq!(agent.ask("fly", &json!({}))["error"]["code"], -32601);
    let wishes = drained(&agent.account);
    assert_eq!((wishes.bid, wishes.claims.len(), wishes.said.len()), (Some(Price(5000)), 2, 1));
    assert!(wishes.service_ns > 0, "serving it was measured");
    broker.condemn(AgentId(5), Reason::Insolvent, Duration::from_millis(200));
    let notice = agent.hear();
    assert_eq!((&notice["method"], &notice["params"]["reason"]), (&json!("apoptosis"), &json!("insolvent")));
    assert_eq!((notice.get("id"), &notice["params"]["grace_ms"]), (None, &json!(200)));
}

#[test]
fn what_was_sent_before_leaving_is_heard() {
    let broker = Broker::start(board(), Rate::default()).unwrap();
    let last = "{\"jsonrpc\":\"2.0\",\"method\":\"submit\",\"params\":{\"kind\":\"prime\",\"unit\":101}}\n";
    let mut hangs_up = Agent::join(&broker, 1);
    hangs_up.say(last);
    let account = Arc::clone(&hangs_up.account);
    drop(hangs_up);
    wait_until("it hung up", || account.link() == Link::Closed(Departure::Ended));
    assert_eq!(drained(&account).claims.len(), 1);
    let mut removed = Agent::join(&broker, 2);
    removed.say(last);
    broker.remove(AgentId(2));
    wait_until("it was removed", || removed.account.link() == Link::Closed(Departure::Removed));
    assert_eq!(drained(&removed.account).claims.len(), 1);
    assert_eq!(removed.stream.read(&mut [0; 8]).unwrap(), 0, "closed");
    let mut half_closed = Agent::join(&broker, 3);
    half_closed.say("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"price\"}\n");
    half_closed.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(half_closed.hear()["result"]["spot"], 4500);
    let end = half_closed.account.link();
    assert!(matches!(end, Link::Open | Link::Closed(Departure::Ended)));
}

#[test]
fn a_flood_is_slowed_to_its_rate_and_charged() {
    let rate = Rate { messages_per_s: 500, message_burst: 50, ..Rate::default() };
    let broker = Broker::start(board(), rate).unwrap();
    let (flood, mut quiet) = (Agent::join(&broker, 1), Agent::join(&broker, 2));
    let began = Instant::now();
    flood.stream.set_nonblocking(true).unwrap();
    let line = b"{\"jsonrpc\":\"2.0\",\"method\":\"log\",\"params\":[\"x\"]}\n".repeat(50);
    while began.elapsed() < Duration::from_millis(600) {
        match (&flood.stream).write(&line) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(quiet.ask("price", &json!({}))["result"]["spot"], 4500);
    let wishes = drained(&flood.account);
    let heard = u64::try_from(wishes.said.len()).unwrap() + u64::from(wishes.unsaid);
    let allowed = 50 + 500 * u64::try_from(began.elapsed().as_millis()).unwrap() / 1000 + 1;
    assert!(heard <= allowed, "{heard} messages in {:?}", began.elapsed());
    assert!(heard > 50, "it is slowed, not shut out: {heard}");
    assert!(wishes.service_ns > drained(&quiet.account).service_ns, "who asks more pays more");
}

#[test]
fn who_leaves_while_it_is_slowed_is_heard_to_the_end() {
    let rate = Rate { messages_per_s: 1_000, message_burst: 20, ..Rate::default() };
    let broker = Broker::start(board(), rate).unwrap();
    let mut agent = Agent::join(&broker, 1);
    agent.say(&"{\"jsonrpc\":\"2.0\",\"method\":\"log\",\"params\":[\"x\"]}\n".repeat(300));
    let account = Arc::clone(&agent.account);
    drop(agent);
    wait_until("it is heard to the end", || account.link() == Link::Closed(Departure::Ended));
    let wishes = drained(&account);
    assert_eq!((wishes.said.len(), wishes.unsaid), (8, 292));
}

/// A descriptor sent along must not stay open at ours: the other end of a pipe tells.
#[test]
fn descriptors_sent_along_are_closed() {
    let broker = Broker::start(board(), Rate::default()).unwrap();
    let mut agent = Agent::join(&broker, 1);
    let (reading, writing) = rustix::pipe::pipe().unwrap();
    let bytes = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"price\"}\n";
    for _ in 0..20 {
        let descriptors = [writing.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(&agent.stream, &[std::io::IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
        assert_eq!(agent.hear()["result"]["spot"], 4500);
    }
    drop(writing);
    let mut pipe = std::fs::File::from(reading);
    assert_eq!(pipe.read(&mut [0; 8]).unwrap(), 0, "nobody else holds the writing end");
}

/// Prints what serving an agent costs; the document's numbers come from here.
#[test]
fn serving_an_agent_costs_microseconds() {
    let broker =
        Broker::start(board(), Rate { messages_per_s: 1_000_000, message_burst: 100_000, ..Rate::default() }).unwrap();
    let mut agent = Agent::join(&broker, 1);
    let prime = json!({"kind": "prime", "unit": 18_446_744_073_709_551_557u64});
    for (method, params, rounds) in
        [("price", json!({}), 500u64), ("log", json!({"text": "x"}), 500), ("submit", prime, 60)]
    {
        drained(&agent.account);
        for _ in 0..rounds {
            agent.ask(method, &params);
        }
        let each = drained(&agent.account).service_ns / rounds;
        println!("{method}: {each} ns of the broker's core time");
        assert!(each > 0 && each < 10_000_000, "{method}: {each} ns");
    }
}

/// What hostile agents do, again and again, until told to stop or thrown out.
fn attack(kind: usize, stream: &UnixStream, stop: &AtomicBool) {
    stream.set_nonblocking(true).unwrap();
    let request = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"sponsors\"}\n".repeat(40);
    let claim = b"{\"jsonrpc\":\"2.0\",\"method\":\"submit\",\"params\":{\"kind\":1,\"unit\":18446744073709551557}}\n"
        .repeat(40);
    let endless = vec![b'['; 1 << 20];
    let half = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"meth";
    let noise: Vec<u8> = (0..5000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let bytes: &[u8] = match kind {
        0 => &request, // reads nothing
        1 => &claim,   // makes us verify
        2 => &endless,
        3 => half,
        4 => &noise,
        _ => b"\n\n\n\n\n\n\n\n",
    };
    while !stop.load(Ordering::Relaxed) {
        match (&*stream).write(bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(5)),
            Err(_) => return,
        }
        if kind == 3 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn sixty_agents_work_beside_forty_that_attack() {
    let board = board();
    for sponsor in 1..64 {
        let verifier = Verifier::Hash { bits: 255 };
        board.offers().add(Offer { sponsor: SponsorId(sponsor), verifier, reward: Joule(1), funded: false });
    }
    let broker = Broker::start(board, Rate::default()).unwrap();
    let stop = AtomicBool::new(false);
    let hostile: Vec<Agent> = (0..30).map(|n| Agent::join(&broker, 100 + n)).collect();
    let mut good: Vec<Agent> = (0..60).map(|n| Agent::join(&broker, n)).collect();
    std::thread::scope(|scope| {
        for (n, agent) in hostile.iter().enumerate() {
            let stop = &stop;
            std::thread::Builder::new()
                .stack_size(128 * 1024)
                .spawn_scoped(scope, move || attack(n % 6, &agent.stream, stop))
                .unwrap();
        }
        for round in 0..10u64 {
            // Some come and go.
            let mut fleeting = Agent::join(&broker, 200 + round);
            fleeting.say("[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"price\"},");
            drop(fleeting);
            for (n, agent) in (0u64..).zip(&mut good) {
                let limit = 1000 * (n + 1) + round;
                agent.say(&format!(
                    "[{{\"jsonrpc\":\"2.0\",\"id\":\"b\",\"method\":\"bid\",\"params\":[{limit}]}},\
                     {{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"balance\"}}]\n"
                ));
            }
            for (n, agent) in (0u64..).zip(&mut good) {
                let answers = agent.hear();
                assert_eq!(answers[0]["result"]["limit"], 1000 * (n + 1) + round);
                assert_eq!(answers[1]["result"]["balance"], 1000 + n);
            }
        }
        wait_until("those that do not read are thrown out", || {
            hostile.iter().step_by(6).all(|agent| agent.account.link() == Link::Closed(Departure::Overflow))
        });
        stop.store(true, Ordering::Relaxed);
    });
    for (n, agent) in (0u64..).zip(&good) {
        assert_eq!(drained(&agent.account).bid, Some(Price(1000 * (n + 1) + 9)), "each its own");
        assert_eq!(agent.account.link(), Link::Open);
    }
    for agent in &hostile {
        let wishes = drained(&agent.account);
        assert!(wishes.claims.len() <= 64 && wishes.said.len() <= 8, "{wishes:?}");
    }
    drop(broker);
    for agent in &mut good {
        assert_eq!(agent.reader.read_line(&mut String::new()).unwrap(), 0, "closed with the broker");
    }
}
