//! A session: one peer's JSON-RPC conversation without its socket. No clock, no thread, no I/O.
//!
//! ```text
//!   bytes ─► receive ─► lines ─► requests ─► next ─► whoever answers
//!                                  │ invalid            │
//!   bytes ◄─ output ◄── queue ◄────┴─────── answer ◄────┘ now or later
//!                         ▲                 notify
//!                         └ full: the session is broken, the peer is to be disconnected
//! ```
//!
//! Everything is bounded: what waits to be read, how many requests are open, what waits to be sent. A peer that sends
//! without reading breaks its own session and costs nobody else anything.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use super::fault::{Code, Fault};
use super::lines::{LINE_MAX, Lines};
use super::message::{self, Id, Invalid, Message, Params, Request};

/// Bounds of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most requests in a batch.
    pub batch: usize,
    /// The most requests taken and not answered; no more are taken until one is.
    pub open: usize,
    /// The most bytes that wait to be sent.
    pub output: usize,
}

impl Limits {
    /// For agents. A batch of the longest answers (`sponsors`, [`super::account::SPONSORS_MAX`] of them) fits into the
    /// output four times; an agent that is frozen does not read, and must be able to find some answers waiting.
    pub const AGENT: Self = Self { batch: 16, open: 16, output: 512 * 1024 };
    /// For the control socket: its answers are lists of agents, and it is trusted a little more.
    pub const CONTROL: Self = Self { batch: 16, open: 16, output: 4 * 1024 * 1024 };
}

/// The right to answer a request, once.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    id: Id,
    batch: Option<u64>,
}

/// A request to be carried out.
#[derive(Debug, PartialEq)]
pub struct Call {
    /// How to answer; nothing for notifications, which are not answered.
    pub ticket: Option<Ticket>,
    /// The verb.
    pub method: String,
    /// Its parameters.
    pub params: Params,
}

/// What was found in the input.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// A request. Every [`Ticket`] must be answered.
    Call(Call),
    /// A line that needs nothing done: invalid and answered, or blank.
    Settled,
}

/// A batch whose answers are being gathered.
#[derive(Debug)]
struct Batch {
    answers: Vec<String>,
    missing: usize,
}

/// A conversation. See the [module documentation](self).
#[derive(Debug)]
pub struct Session {
    limits: Limits,
    lines: Lines,
    /// The rest of the batch that is being taken.
    queue: VecDeque<Call>,
    batches: HashMap<u64, Batch>,
    batches_seen: u64,
    open: usize,
    output: Vec<u8>,
    sent: usize,
    broken: bool,
}

impl Session {
    /// A conversation that has not begun.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            lines: Lines::default(),
            queue: VecDeque::new(),
            batches: HashMap::new(),
            batches_seen: 0,
            open: 0,
            output: Vec::new(),
            sent: 0,
            broken: false,
        }
    }

    /// Takes bytes from the peer, as many as there is room for, and says how many. There is always room for a transport's
    /// read once [`Session::next`] has said `None` and nothing is open.
    #[must_use]
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        if self.broken { bytes.len() } else { self.lines.push(bytes) }
    }

    /// The next thing in the input; `None` if there is nothing more, or too many requests are open.
    #[allow(clippy::should_implement_trait, reason = "more may come after `None`: an iterator would promise otherwise")]
    pub fn next(&mut self) -> Option<Event> {
        if self.broken || self.is_full() {
            return None;
        }
        if let Some(call) = self.queue.pop_front() {
            return Some(self.hand_out(call));
        }
        let message = match self.lines.next()? {
            Ok(line) => message::parse(line, self.limits.batch),
            Err(super::lines::TooLong) => {
                let text = format!("a line longer than {LINE_MAX} bytes; it was thrown away");
                Message::Single(Err(Invalid::new(Fault::new(Code::InvalidRequest, text))))
            }
        };
        match message {
            Message::Blank => Some(Event::Settled),
            Message::Single(Err(invalid)) => {
                self.send(&message::response(&invalid.id, &Err(invalid.fault)));
                Some(Event::Settled)
            }
            Message::Single(Ok(request)) => Some(self.hand_out(call(request, None))),
            Message::Batch(items) => {
                self.gather(items);
                match self.queue.pop_front() {
                    Some(call) => Some(self.hand_out(call)),
                    None => Some(Event::Settled),
                }
            }
        }
    }

    fn hand_out(&mut self, call: Call) -> Event {
        self.open += usize::from(call.ticket.is_some());
        Event::Call(call)
    }

    /// Puts the requests of a batch in the queue, and their answers' place aside.
    fn gather(&mut self, items: Vec<Result<Request, Invalid>>) {
        let number = self.batches_seen;
        self.batches_seen += 1;
        let mut batch = Batch { answers: Vec::new(), missing: 0 };
        for item in items {
            match item {
                Ok(request) => {
                    batch.missing += usize::from(request.id.is_some());
                    self.queue.push_back(call(request, Some(number)));
                }
                Err(invalid) => batch.answers.push(message::response(&invalid.id, &Err(invalid.fault))),
            }
        }
        self.batches.insert(number, batch);
        self.finish(number);
    }

    /// Sends a batch's answers if none is missing.
    fn finish(&mut self, number: u64) {
        if self.batches.get(&number).is_some_and(|batch| batch.missing == 0)
            && let Some(batch) = self.batches.remove(&number)
            && !batch.answers.is_empty()
        {
            self.send(&format!("[{}]", batch.answers.join(",")));
        }
    }

    /// Answers a request.
    pub fn answer(&mut self, ticket: Ticket, outcome: &Result<Value, Fault>) {
        self.open = self.open.saturating_sub(1);
        let text = message::response(&ticket.id, outcome);
        let Some(number) = ticket.batch else { return self.send(&text) };
        if let Some(batch) = self.batches.get_mut(&number) {
            batch.answers.push(text);
            batch.missing -= 1;
        }
        self.finish(number);
    }

    /// Tells the peer something that it did not ask for. `params` is an object.
    pub fn notify(&mut self, method: &str, params: &Value) {
        self.send(&message::outgoing(None, method, params));
    }

    fn send(&mut self, line: &str) {
        if self.broken {
            return;
        }
        if self.output.len() - self.sent + line.len() + 1 > self.limits.output {
            self.broken = true;
            (self.output, self.sent) = (Vec::new(), 0);
            return;
        }
        if self.sent > 0 {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
        self.output.extend_from_slice(line.as_bytes());
        self.output.push(b'\n');
    }

    /// What waits to be sent.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output[self.sent..]
    }

    /// Notes that the first `count` bytes of [`Session::output`] were sent.
    pub fn sent(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.output.len());
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
        }
    }

    /// Whether requests were taken that are not answered yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.open > 0
    }

    /// Whether so many are that no more are taken until one is answered.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.open >= self.limits.open
    }

    /// Whether the peer left more unread than it may: it is to be disconnected. Nothing is taken or sent any more.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }
}

fn call(request: Request, batch: Option<u64>) -> Call {
    Call { ticket: request.id.map(|id| Ticket { id, batch }), method: request.method, params: request.params }
}
