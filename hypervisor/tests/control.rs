//! The control socket with a market behind it that decides once a tick.

#![allow(clippy::unwrap_used, reason = "a failure to unwrap is a failure of the test")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use maxwell_core::{AgentId, Price};
use maxwell_hypervisor::protocol::control::{
    AgentRow, Answer, Ask, Client, ControlError, Directory, Request, Server, Which,
};
use maxwell_hypervisor::protocol::fault::Fault;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than any answer takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn row(id: u64) -> AgentRow {
    AgentRow {
        id,
        name: format!("agent-{id:04}"),
        state: "waiting".to_owned(),
        reason: "outbid".to_owned(),
        text: "bids 4W; a slot went for 4.5W".to_owned(),
        wallet: 1_000,
        spent: 0,
        core_us: 0,
        bid: 4_000,
    }
}

/// Decides as the market does, for as long as anybody may ask.
fn market(asks: Receiver<Ask>, count: u64) -> JoinHandle<Vec<AgentRow>> {
    std::thread::spawn(move || {
        let mut agents: Vec<AgentRow> = (0..count).map(row).collect();
        loop {
            match asks.recv_timeout(PATIENCE) {
                Ok(ask) => {
                    let decision = decide(&ask.request, &mut agents);
                    ask.answer(decision);
                }
                Err(RecvTimeoutError::Disconnected) => return agents,
                Err(RecvTimeoutError::Timeout) => panic!("the server does not end"),
            }
        }
    })
}

fn find<'a>(which: &Which, agents: &'a mut [AgentRow]) -> Result<&'a mut AgentRow, Fault> {
    let only = agents.len() == 1;
    let mut matching = agents.iter_mut().filter(|agent| match which {
        Which::Only => only,
        Which::Id(AgentId(id)) => agent.id == *id,
        Which::Name(name) => agent.name == *name,
    });
    matching.next().ok_or_else(|| Fault::unknown_agent(which))
}

fn decide(request: &Request, agents: &mut [AgentRow]) -> Result<Answer, Fault> {
    match request {
        Request::List { from, count } => {
            let from = usize::try_from(from.0).unwrap_or(usize::MAX).min(agents.len());
            let end = (from + usize::try_from(*count).unwrap()).min(agents.len());
            let next = (end < agents.len()).then_some(AgentId(end as u64));
            Ok(Answer::Agents { agents: agents[from..end].to_vec(), next })
        }
        Request::Fund { agent, amount } => {
            let agent = find(agent, agents)?;
            agent.wallet += amount.0;
            Ok(Answer::Agent(agent.clone()))
        }
        Request::Bid { agent, limit: Price(limit) } => {
            let agent = find(agent, agents)?;
            agent.bid = *limit;
            Ok(Answer::Agent(agent.clone()))
        }
        Request::Park { agent } => {
            let agent = find(agent, agents)?;
            agent.state = "parked".to_owned();
            Ok(Answer::Agent(agent.clone()))
        }
        Request::Kill { agent } => {
            let agent = find(agent, agents)?;
            if agent.state == "dead" {
                return Err(Fault::refused("dead", format!("{} is dead already", agent.name)));
            }
            agent.state = "dead".to_owned();
            Ok(Answer::Agent(agent.clone()))
        }
    }
}

fn directory() -> (TempDir, Directory) {
    let home = tempfile::tempdir().unwrap();
    let directory = Directory::open(home.path().join("maxwell")).unwrap();
    (home, directory)
}

fn refused(result: Result<impl std::fmt::Debug, ControlError>) -> (i64, Option<String>) {
    match result.unwrap_err() {
        ControlError::Refused { code, reason, .. } => (code, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_verb_reaches_the_market_and_brings_its_decision_back() {
    let (_home, directory) = directory();
    let (server, asks) = Server::start(directory.clone(), "demo").unwrap();
    let market = market(asks, 3);
    let instances = directory.instances().unwrap();
    assert_eq!((instances.len(), instances[0].id.as_str()), (1, "demo"));
    let mut client = Client::connect(&instances[0].path, PATIENCE).unwrap();
    assert_eq!(client.call("hello", &Value::Null).unwrap()["instance"], "demo");
    assert_eq!(client.list().unwrap(), (0..3).map(row).collect::<Vec<_>>());
    let funded = client.agent("fund", &json!({"agent": "agent-0001", "amount": "100J"})).unwrap();
    assert_eq!((funded.id, funded.wallet), (1, 100_000_001_000));
    assert_eq!(client.agent("bid", &json!({"agent": 2, "limit": "5W"})).unwrap().bid, 5_000);
    assert_eq!(client.agent("park", &json!({"agent": 0})).unwrap().state, "parked");
    assert_eq!(client.agent("kill", &json!({"agent": 0})).unwrap().state, "dead");
    assert_eq!(refused(client.agent("kill", &json!({"agent": 0}))), (-32_012, Some("dead".to_owned())));
    assert_eq!(refused(client.agent("fund", &json!({"amount": 1}))), (-32_004, Some("unknown_agent".to_owned())));
    assert_eq!(refused(client.agent("park", &json!({"agent": "nobody"}))).0, -32_004);
    assert_eq!(refused(client.call("fund", &json!({"agent": 1, "amount": "100W"}))).0, -32_602);
    assert_eq!(refused(client.call("fund", &json!({"agent": 1}))).0, -32_602);
    assert_eq!(refused(client.call("fund", &json!({"agent": [], "amount": 5}))).0, -32_602);
    assert_eq!(refused(client.call("explode", &Value::Null)).0, -32_601);
    let path = server.path().to_owned();
    drop(server);
    assert!(!path.exists() && directory.instances().unwrap().is_empty(), "nothing is left behind");
    assert_eq!(market.join().unwrap()[1].wallet, 100_000_001_000);
    assert!(matches!(client.call("list", &Value::Null), Err(ControlError::Gone { .. })));
    assert!(matches!(Client::connect(&path, PATIENCE), Err(ControlError::Gone { .. })));
}

#[test]
fn many_agents_come_in_pages_and_a_single_one_needs_no_name() {
    let (_home, directory) = directory();
    let (many, asks) = Server::start(directory.clone(), "many").unwrap();
    market(asks, 1_234);
    let (one, asks) = Server::start(directory.clone(), "one").unwrap();
    market(asks, 1);
    assert_eq!(directory.instances().unwrap().len(), 2);
    let mut client = Client::connect(many.path(), PATIENCE).unwrap();
    let all = client.list().unwrap();
    assert_eq!(all.len(), 1_234);
    assert!(all.iter().zip(0..).all(|(agent, id)| agent.id == id));
    let page = client.call("list", &json!({"count": u64::MAX})).unwrap();
    assert_eq!((page["agents"].as_array().unwrap().len(), &page["next"]), (100, &json!(100)));
    let mut client = Client::connect(one.path(), PATIENCE).unwrap();
    assert_eq!(client.agent("fund", &json!({"amount": 5})).unwrap().wallet, 1_005);
}

#[test]
fn nobody_waits_for_ever() {
    let (_home, directory) = directory();
    let (server, asks) = Server::start(directory, "slow").unwrap();
    let mut client = Client::connect(server.path(), Duration::from_millis(50)).unwrap();
    let began = Instant::now();
    assert!(matches!(client.call("list", &Value::Null), Err(ControlError::Timeout { .. })));
    assert!(began.elapsed() >= Duration::from_millis(50));
    // The market drops a request: its asker hears so.
    let mut other = Client::connect(server.path(), PATIENCE).unwrap();
    let waiting = std::thread::spawn(move || (refused(other.call("list", &Value::Null)), other));
    drop((asks.recv_timeout(PATIENCE).unwrap(), asks.recv_timeout(PATIENCE).unwrap()));
    let (told, mut other) = waiting.join().unwrap();
    assert_eq!(told, (-32_011, Some("ended".to_owned())));
    drop(asks);
    assert_eq!(refused(other.call("list", &Value::Null)), (-32_011, Some("ended".to_owned())));
    assert!(other.call("hello", &Value::Null).is_ok());
}

/// Reads until `count` answers have come.
fn answers(stream: &mut UnixStream, count: usize) -> Vec<Value> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while bytes.iter().filter(|byte| **byte == b'\n').count() < count {
        let read = stream.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "closed");
        bytes.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_markets_queue_is_bounded_and_who_is_beyond_it_is_told() {
    let (_home, directory) = directory();
    let (server, asks) = Server::start(directory, "busy").unwrap();
    let line = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"list\"}\n";
    // Four connections fill the queue, sixteen requests each. What they send beyond is not even read.
    let mut patient: Vec<UnixStream> = (0..4).map(|_| UnixStream::connect(server.path()).unwrap()).collect();
    for stream in &mut patient {
        stream.write_all(&line.repeat(20)).unwrap();
    }
    let mut late = UnixStream::connect(server.path()).unwrap();
    let told = loop {
        late.write_all(b"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"list\"}]\n").unwrap();
        late.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut buffer = [0; 512];
        if let Ok(read) = late.read(&mut buffer) {
            break serde_json::from_slice::<Value>(&buffer[..read]).unwrap();
        }
    };
    assert_eq!(told[0]["error"]["data"]["reason"], "busy");
    drop(late);
    let market = market(asks, 1);
    for stream in &mut patient {
        let answers = answers(stream, 20);
        assert!(answers.iter().all(|answer| answer["result"]["agents"][0]["id"] == 0), "{answers:?}");
    }
    drop(server);
    market.join().unwrap();
}

#[test]
fn hostile_people_keep_nobody_from_being_heard() {
    let (_home, directory) = directory();
    let (server, asks) = Server::start(directory, "siege").unwrap();
    let market = market(asks, 100);
    let line = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"list\"}\n".repeat(100);
    let (noise, endless) = (vec![0xff; 1 << 20], vec![b'['; 1 << 20]);
    let hostile: Vec<UnixStream> = (0..12).map(|_| UnixStream::connect(server.path()).unwrap()).collect();
    let mut client = Client::connect(server.path(), PATIENCE).unwrap();
    for round in 0..20 {
        for (n, stream) in hostile.iter().enumerate() {
            stream.set_nonblocking(true).unwrap();
            let bytes: &[u8] = [&line[..], &noise, &endless, b"{\"jsonrpc"][n % 4];
            let _ = (&*stream).write(bytes);
        }
        assert_eq!(client.agent("fund", &json!({"agent": 7, "amount": 1})).unwrap().wallet, 1_001 + round);
    }
    drop(hostile);
    // More people than there is room for are turned away; room is there again when they have left.
    let crowd: Vec<UnixStream> = (0..100).map(|_| UnixStream::connect(server.path()).unwrap()).collect();
    assert!(client.call("hello", &Value::Null).is_ok());
    drop(crowd);
    let began = Instant::now();
    while Client::connect(server.path(), PATIENCE).unwrap().call("hello", &Value::Null).is_err() {
        assert!(began.elapsed() < PATIENCE);
    }
    drop(server);
    market.join().unwrap();
}

#[test]
fn sockets_of_the_dead_are_recognised_and_removed() {
    let (home, directory) = directory();
    let inside = home.path().join("maxwell");
    // What a process leaves that is killed.
    drop(UnixListener::bind(inside.join("dead.sock")).unwrap());
    drop(UnixListener::bind(inside.join("buried.sock")).unwrap());
    fs::write(inside.join("file.sock"), "not a socket").unwrap();
    fs::write(inside.join("notes.txt"), "somebody's").unwrap();
    let (alive, _asks) = Server::start(directory.clone(), "alive").unwrap();
    let (heir, _heirs_asks) = Server::start(directory.clone(), "dead").expect("its name is free again");
    assert!(matches!(Server::start(directory.clone(), "alive"), Err(ControlError::Running { .. })));
    let names = |directory: &Directory| -> Vec<String> {
        directory.instances().unwrap().into_iter().map(|instance| instance.id).collect()
    };
    assert_eq!(names(&directory), ["alive", "dead"]);
    assert!(!inside.join("buried.sock").exists());
    assert!(inside.join("file.sock").exists() && inside.join("notes.txt").exists(), "not ours to remove");
    for name in ["", "..", "a/b", "a b", "ä", &"x".repeat(33)] {
        assert!(matches!(directory.socket(name), Err(ControlError::BadName { .. })), "{name}");
    }
    drop((alive, heir));
    assert!(names(&directory).is_empty());
}

#[test]
fn a_directory_that_others_may_use_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let open = |path: &Path| Directory::open(path);
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(open(home.path()), Err(ControlError::Unsafe { .. })));
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(open(home.path()).is_ok());
    let link = home.path().join("link");
    std::os::unix::fs::symlink(home.path(), &link).unwrap();
    assert!(matches!(open(&link), Err(ControlError::Unsafe { .. })), "somebody's link");
    let made = home.path().join("made");
    open(&made).unwrap();
    assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn other_users_are_not_heard_even_if_they_reach_the_socket() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become somebody else");
        return;
    }
    let (home, directory) = directory();
    let (server, asks) = Server::start(directory, "guarded").unwrap();
    let market = market(asks, 1);
    let everybody = fs::Permissions::from_mode(0o777);
    for path in [home.path(), server.path().parent().unwrap(), server.path()] {
        fs::set_permissions(path, everybody.clone()).unwrap();
    }
    let path = server.path().to_owned();
    // Credentials belong to threads; std and libc only pretend otherwise. This one ends as nobody.
    let answer = std::thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(65_534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        Client::connect(&path, PATIENCE).unwrap().call("hello", &Value::Null)
    });
    assert!(matches!(answer.join().unwrap(), Err(ControlError::Gone { .. })), "turned away");
    assert!(Client::connect(server.path(), PATIENCE).unwrap().call("hello", &Value::Null).is_ok());
    drop(server);
    market.join().unwrap();
}
