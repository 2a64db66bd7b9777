//! The broker: one thread that serves the sockets of all agents.
//!
//! ```text
//!            add                        tokens left           output full, socket fails
//!   (none) ─────► open ──── bytes ────► served ──────────────────────────► closed
//!                  ▲ ▲                    │ no tokens                         ▲
//!                  │ └──── refilled ── paused (not read from)                 │
//!                  └── hung up: what it had sent is heard, then ──────────────┤
//!                  └── remove: what it had sent is heard, as far as allowed ──┘
//! ```
//!
//! Agents are hostile: each has a share of messages and bytes a second, a bound on what it may leave unread, and one read
//! of 16 KiB at a turn. Nothing that one does delays another by more than its turn. What serving it costs in core time
//! is charged to its [`Account`].

use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use maxwell_core::AgentId;
use maxwell_core::reason::Reason;
use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde_json::{Value, json};

use super::account::{Account, Board, Link};
pub use super::connection::Departure;
use super::connection::{Connection, Heard};
use super::desk::serve;
use super::poll::{Interest, Poller, Waker};
use super::rate::Bucket;
pub use super::rate::Rate;
use super::session::{Event, Limits};
use crate::clock::thread_cpu_ns;

/// The environment variable that tells an agent the number of its inherited socket.
pub const SOCKET_VARIABLE: &str = "MAXWELL_SOCKET";

/// Connected stream sockets: ours, and the one that an agent inherits. Both are closed by exec; see [`inherit`].
///
/// # Errors
///
/// The kernel's, if there are too many descriptors.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// Lets a descriptor survive exec. To be called in the child between fork and exec: in the parent, any other child that is
/// started meanwhile would inherit it too. Async-signal-safe.
///
/// # Errors
///
/// The kernel's.
pub fn inherit(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(socket, FdFlags::empty())?)
}

/// What an agent is told with `apoptosis`.
#[must_use]
pub fn notice_of_death(reason: Reason, grace: Duration) -> Value {
    let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
    json!({"reason": reason.code(), "text": reason.to_string(), "grace_ms": grace_ms})
}

/// What the broker is told.
enum Order {
    Add(OwnedFd, Arc<Account>),
    Remove(AgentId),
    Notify(AgentId, &'static str, Value),
    Quit,
}

/// The thread that serves agents. Dropping it ends the thread and closes all connections.
#[derive(Debug)]
pub struct Broker {
    orders: mpsc::Sender<Order>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The kernel's, if there are too many descriptors or threads.
    pub fn start(board: Arc<Board>, rate: Rate) -> io::Result<Self> {
        let poller = Poller::new()?;
        let waker = poller.waker();
        let (orders, inbox) = mpsc::channel();
        let floor = Floor {
            poller,
            inbox,
            board,
            rate,
            peers: HashMap::new(),
            agents: HashMap::new(),
            paused: BinaryHeap::new(),
            seen: 0,
        };
        let thread = std::thread::Builder::new().name("maxwell-broker".into()).spawn(move || floor.run())?;
        Ok(Self { orders, waker, thread: Some(thread) })
    }

    /// Serves an agent on a stream socket, from now on. A socket that the agent had before is closed. Never blocks.
    pub fn add(&self, socket: OwnedFd, account: Arc<Account>) {
        self.tell(Order::Add(socket, account));
    }

    /// Hears what the agent had sent, as far as its rate allows, and closes its connection. Never blocks; it is done when
    /// [`Account::link`] is closed: drain the account once more then.
    pub fn remove(&self, agent: AgentId) {
        self.tell(Order::Remove(agent));
    }

    /// Tells an agent that it will be ended after a grace. Never blocks.
    pub fn condemn(&self, agent: AgentId, reason: Reason, grace: Duration) {
        self.tell(Order::Notify(agent, "apoptosis", notice_of_death(reason, grace)));
    }

    fn tell(&self, order: Order) {
        // A broker that panicked has said so on stderr; agents then hear nothing, and the market goes on.
        let _ = self.orders.send(order);
        self.waker.wake();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.tell(Order::Quit);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A connected agent.
#[derive(Debug)]
struct Peer {
    connection: Connection,
    account: Arc<Account>,
    messages: Bucket,
    bytes: Bucket,
    /// It has its moment among the paused.
    scheduled: bool,
}

/// What is to be done with an agent after it was served.
enum Next {
    Wait(Interest),
    /// Not read from before this moment.
    Pause(Interest, Instant),
    Close(Departure),
}

impl Peer {
    /// Serves it once: what was left, one read, and what that brought.
    fn serve(&mut self, board: &Board, now: Instant) -> Next {
        let began = thread_cpu_ns();
        let next = self.take_turn(board, now).unwrap_or_else(Next::Close);
        self.account.charge(thread_cpu_ns().saturating_sub(began));
        next
    }

    fn take_turn(&mut self, board: &Board, now: Instant) -> Result<Next, Departure> {
        self.messages.refill(now);
        self.bytes.refill(now);
        let mut drained = self.answer_all(board);
        if drained && !self.bytes.is_empty() {
            if let Heard::Bytes(count) = self.connection.read()? {
                self.bytes.take(count);
            }
            drained = self.answer_all(board);
        }
        self.connection.write()?;
        let unread = !self.connection.session.output().is_empty();
        // The end is read only after everything before it was answered.
        if self.connection.ended && !unread {
            return Err(Departure::Ended);
        }
        let write = Interest { read: false, write: unread };
        Ok(if !drained || self.bytes.is_empty() {
            let (messages, bytes) = (self.messages.refilled(), self.bytes.refilled());
            Next::Pause(write, if drained { bytes } else { messages })
        } else {
            Next::Wait(Interest { read: !self.connection.ended, ..write })
        })
    }

    /// Answers what has been read. False if its messages are used up.
    fn answer_all(&mut self, board: &Board) -> bool {
        while !self.messages.is_empty() {
            let Some(event) = self.connection.session.next() else { return true };
            self.messages.take(1);
            if let Event::Call(call) = event
                && let (Some(ticket), outcome) = serve(call, &self.account, board)
            {
                self.connection.session.answer(ticket, &outcome);
            }
        }
        false
    }
}

/// A moment and the peer that is paused until then; the earliest is the greatest.
type Pause = std::cmp::Reverse<(Instant, u64)>;

/// How many turns an agent that is being removed gets to be heard out.
const LAST_TURNS: usize = 16;

/// What the broker's thread owns.
struct Floor {
    poller: Poller,
    inbox: mpsc::Receiver<Order>,
    board: Arc<Board>,
    rate: Rate,
    peers: HashMap<u64, Peer>,
    agents: HashMap<AgentId, u64>,
    paused: BinaryHeap<Pause>,
    seen: u64,
}

impl Floor {
    fn run(mut self) {
        let mut ready = Vec::new();
        loop {
            let pause = self.paused.peek().map(|pause| pause.0.0.saturating_duration_since(Instant::now()));
            if let Err(error) = self.poller.wait(pause, &mut ready) {
                eprintln!("maxwell: the agents' broker cannot wait for sockets and ends: {error}");
                return;
            }
            loop {
                match self.inbox.try_recv() {
                    Ok(Order::Quit) | Err(mpsc::TryRecvError::Disconnected) => return self.close_all(),
                    Ok(order) => self.carry_out(order),
                    Err(mpsc::TryRecvError::Empty) => break,
                }
            }
            let now = Instant::now();
            while let Some(std::cmp::Reverse((at, number))) = self.paused.peek().copied()
                && at <= now
            {
                self.paused.pop();
                if let Some(peer) = self.peers.get_mut(&number) {
                    peer.scheduled = false;
                    ready.push(number);
                }
            }
            for number in &ready {
                self.serve(*number, now);
            }
        }
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Add(socket, account) => self.add(socket, account),
            Order::Remove(agent) => {
                let Some(number) = self.agents.get(&agent).copied() else { return };
                for _ in 0..LAST_TURNS {
                    let Some(peer) = self.peers.get_mut(&number) else { break };
                    match peer.serve(&self.board, Instant::now()) {
                        Next::Wait(Interest { read: true, .. }) => {}
                        Next::Close(departure) => return self.close(number, departure),
                        Next::Wait(_) | Next::Pause(..) => break,
                    }
                }
                self.close(number, Departure::Removed);
            }
            Order::Notify(agent, method, params) => {
                let Some(number) = self.agents.get(&agent).copied() else { return };
                if let Some(peer) = self.peers.get_mut(&number) {
                    peer.connection.session.notify(method, &params);
                    self.serve(number, Instant::now());
                }
            }
            Order::Quit => {}
        }
    }

    fn add(&mut self, socket: OwnedFd, account: Arc<Account>) {
        let agent = account.agent();
        if let Some(number) = self.agents.get(&agent).copied() {
            self.close(number, Departure::Removed);
        }
        let (number, now) = (self.seen, Instant::now());
        self.seen += 1;
        if let Err(error) = self.poller.add(socket.as_fd(), number, Interest::READ) {
            account.set_link(Link::Closed(Departure::Failed(error.raw_os_error().unwrap_or(0))));
            return;
        }
        account.set_link(Link::Open);
        let peer = Peer {
            connection: Connection::new(socket, Limits::AGENT),
            account,
            messages: Bucket::new(self.rate.messages_per_s, self.rate.message_burst, now),
            bytes: Bucket::new(self.rate.bytes_per_s, self.rate.byte_burst, now),
            scheduled: false,
        };
        self.agents.insert(agent, number);
        self.peers.insert(number, peer);
    }

    fn serve(&mut self, number: u64, now: Instant) {
        // It may have gone since it was found ready.
        let Some(peer) = self.peers.get_mut(&number) else { return };
        let interest = match peer.serve(&self.board, now) {
            Next::Close(departure) => return self.close(number, departure),
            Next::Wait(interest) => interest,
            Next::Pause(interest, until) => {
                if !peer.scheduled {
                    peer.scheduled = true;
                    self.paused.push(std::cmp::Reverse((until, number)));
                }
                interest
            }
        };
        if (interest.read || interest.write)
            && let Err(error) = self.poller.arm(peer.connection.stream.as_fd(), number, interest)
        {
            self.close(number, Departure::Failed(error.raw_os_error().unwrap_or(0)));
        }
    }

    /// Closing the socket takes it out of the epoll set: nobody else holds our end.
    fn close(&mut self, number: u64, departure: Departure) {
        if let Some(peer) = self.peers.remove(&number) {
            self.agents.remove(&peer.account.agent());
            peer.account.set_link(Link::Closed(departure));
        }
    }

    fn close_all(&mut self) {
        for number in self.peers.keys().copied().collect::<Vec<_>>() {
            self.close(number, Departure::Removed);
        }
    }
}
