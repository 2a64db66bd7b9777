//! The server's thread: takes connections, checks who it is, and carries requests to the market and answers back.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Answer, ControlError, Directory, QUEUE, Request};
use crate::protocol::connection::{Connection, Departure};
use crate::protocol::fault::{Code, Fault};
use crate::protocol::poll::{Interest, Poller, Waker};
use crate::protocol::session::{Event, Limits, Ticket};
use crate::protocol::verb::VERSION;

/// How many people may be connected. More are turned away: they try again.
const CONNECTIONS: usize = 32;
const LISTENER: u64 = 0;

/// A request that waits for the market's decision. Dropped without one, it is answered with [`Code::Undecided`].
#[derive(Debug)]
pub struct Ask {
    /// What is asked.
    pub request: Request,
    reply: Option<Reply>,
}

#[derive(Debug)]
struct Reply {
    connection: u64,
    ticket: Option<Ticket>,
    decisions: mpsc::Sender<Decision>,
    waker: Waker,
}

/// For which connection, which request, and what.
type Decision = (u64, Option<Ticket>, Result<Value, Fault>);

impl Ask {
    /// Answers it. Never blocks.
    pub fn answer(mut self, decision: Result<Answer, Fault>) {
        if let Some(reply) = self.reply.take() {
            reply.send(decision.map(Answer::value));
        }
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            reply.send(Err(Fault::ours(Code::Undecided, "ended", "the market ended before it decided")));
        }
    }
}

impl Reply {
    fn send(self, outcome: Result<Value, Fault>) {
        // A server that is gone has closed the connection: nobody waits.
        let _ = self.decisions.send((self.connection, self.ticket, outcome));
        self.waker.wake();
    }
}

/// A control socket. Dropping it ends its thread and removes the socket.
#[derive(Debug)]
pub struct Server {
    directory: Directory,
    path: PathBuf,
    quit: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<UnixListener>>,
}

impl Server {
    /// Listens as the instance `id`. What is asked comes out of the receiver: at most [`QUEUE`] requests wait there, and
    /// each is to be answered.
    ///
    /// # Errors
    ///
    /// [`ControlError::Running`], [`ControlError::BadName`] or [`ControlError::Io`].
    pub fn start(directory: Directory, id: &str) -> Result<(Self, mpsc::Receiver<Ask>), ControlError> {
        let (listener, path) = directory.listen(id)?;
        let (asks, receiver) = mpsc::sync_channel(QUEUE);
        let quit = Arc::new(AtomicBool::new(false));
        let (stop, name) = (Arc::clone(&quit), id.to_owned());
        let started = (|| {
            listener.set_nonblocking(true)?;
            let poller = Poller::new()?;
            poller.add(listener.as_fd(), LISTENER, Interest::READ)?;
            let (waker, (decisions, decided)) = (poller.waker(), mpsc::channel());
            let hall =
                Hall { name, poller, listener, asks, decisions, decided, connections: HashMap::new(), seen: LISTENER };
            let thread = std::thread::Builder::new().name("maxwell-control".into()).spawn(move || hall.run(&stop))?;
            Ok((waker, thread))
        })();
        let (waker, thread) = started.map_err(ControlError::io(&path))?;
        Ok((Self { directory, path, quit, waker, thread: Some(thread) }, receiver))
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.quit.store(true, Ordering::Release);
        self.waker.wake();
        if let Some(Ok(listener)) = self.thread.take().map(JoinHandle::join) {
            self.directory.leave(&self.path, listener);
        }
    }
}

/// What the thread owns.
struct Hall {
    name: String,
    poller: Poller,
    listener: UnixListener,
    asks: mpsc::SyncSender<Ask>,
    decisions: mpsc::Sender<Decision>,
    decided: mpsc::Receiver<Decision>,
    connections: HashMap<u64, Connection>,
    seen: u64,
}

impl Hall {
    fn run(mut self, quit: &AtomicBool) -> UnixListener {
        let mut ready = Vec::new();
        while !quit.load(Ordering::Acquire) {
            if let Err(error) = self.poller.wait(None, &mut ready) {
                eprintln!("maxwell: the control socket cannot wait and ends: {error}");
                break;
            }
            while let Ok((number, ticket, outcome)) = self.decided.try_recv() {
                if let (Some(connection), Some(ticket)) = (self.connections.get_mut(&number), ticket) {
                    connection.session.answer(ticket, &outcome);
                    ready.push(number);
                }
            }
            for number in &ready {
                if *number == LISTENER { self.accept() } else { self.serve(*number) }
            }
        }
        self.listener
    }

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((stream, _)) if self.connections.len() < CONNECTIONS && may_command(stream.as_fd()) => {
                self.seen += 1;
                let stream = OwnedFd::from(stream);
                if self.poller.add(stream.as_fd(), self.seen, Interest::READ).is_ok() {
                    self.connections.insert(self.seen, Connection::new(stream, Limits::CONTROL));
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Most likely out of descriptors: it does not become better by asking again at once.
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
        if let Err(error) = self.poller.arm(self.listener.as_fd(), LISTENER, Interest::READ) {
            eprintln!("maxwell: the control socket takes no more connections: {error}");
        }
    }

    fn serve(&mut self, number: u64) {
        let Some(mut connection) = self.connections.remove(&number) else { return };
        let interest = self.take_turn(number, &mut connection);
        let Ok(Some(interest)) = interest else { return };
        let armed = if interest.read || interest.write {
            self.poller.arm(connection.stream.as_fd(), number, interest)
        } else {
            Ok(())
        };
        if armed.is_ok() {
            self.connections.insert(number, connection);
        }
    }

    /// What to wait for next; nothing if the connection is over.
    fn take_turn(&mut self, number: u64, connection: &mut Connection) -> Result<Option<Interest>, Departure> {
        self.take_all(number, connection);
        if !connection.session.is_full() {
            connection.read()?;
            self.take_all(number, connection);
        }
        connection.write()?;
        let session = &connection.session;
        let write = !session.output().is_empty();
        if connection.ended && !session.is_waiting() && !write {
            return Ok(None);
        }
        Ok(Some(Interest { read: !connection.ended && !session.is_full(), write }))
    }

    fn take_all(&mut self, number: u64, connection: &mut Connection) {
        while let Some(event) = connection.session.next() {
            let Event::Call(call) = event else { continue };
            let parsed = if call.method == "hello" {
                call.params.fields([]).map(|[]| None)
            } else {
                Request::parse(&call.method, call.params).map(Some)
            };
            let outcome = match parsed {
                Ok(Some(request)) => match self.ask(number, request, call.ticket) {
                    None => continue,
                    Some((ticket, fault)) => (ticket, Err(fault)),
                },
                Ok(None) => (call.ticket, Ok(self.hello())),
                Err(fault) => (call.ticket, Err(fault)),
            };
            if let (Some(ticket), outcome) = outcome {
                connection.session.answer(ticket, &outcome);
            }
        }
    }

    fn hello(&self) -> Value {
        let pid = std::process::id();
        json!({"protocol": VERSION, "maxwell": env!("CARGO_PKG_VERSION"), "instance": self.name, "pid": pid})
    }

    /// Puts a request into the market's queue; gives the ticket back if that fails.
    fn ask(&self, connection: u64, request: Request, ticket: Option<Ticket>) -> Option<(Option<Ticket>, Fault)> {
        let reply = Reply { connection, ticket, decisions: self.decisions.clone(), waker: self.poller.waker() };
        let (mut ask, fault) = match self.asks.try_send(Ask { request, reply: Some(reply) }) {
            Ok(()) => return None,
            Err(mpsc::TrySendError::Full(ask)) => {
                let text = format!("{QUEUE} requests wait for the market already; try again");
                (ask, Fault::ours(Code::Busy, "busy", text))
            }
            Err(mpsc::TrySendError::Disconnected(ask)) => {
                (ask, Fault::ours(Code::Undecided, "ended", "the market has ended"))
            }
        };
        ask.reply.take().map(|reply| (reply.ticket, fault))
    }
}

/// Whether a connection was made by this user or by root. The kernel noted who it was when connecting: unix(7).
fn may_command(stream: BorrowedFd<'_>) -> bool {
    // Not rustix::net::socket_peercred: its pid is never zero, and the pid of a peer in another pid namespace is.
    let mut credentials = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).expect("twelve bytes");
    // SAFETY: the descriptor is open as long as it is borrowed; the pointers are to a structure of `length` bytes and to
    // that length, and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    result == 0 && (credentials.uid == 0 || credentials.uid == rustix::process::geteuid().as_raw())
}
