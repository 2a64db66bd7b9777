//! The client's side: one request at a time, and a timeout on everything.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde_json::{Value, json};

use super::{AgentRow, ControlError};
use crate::protocol::message::{Id, outgoing};

/// The longest answer that is read: a page of agents with long names is some tens of kilobytes.
const ANSWER_MAX: usize = 1024 * 1024;
/// The most pages that are asked for.
const PAGES: usize = 100_000;

/// A connection to an instance.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    path: PathBuf,
    timeout: Duration,
    asked: u64,
    /// What has arrived after the last answer.
    heard: Vec<u8>,
}

impl Client {
    /// Connects. `timeout` is for this, and for every call.
    ///
    /// # Errors
    ///
    /// [`ControlError::Gone`], [`ControlError::Timeout`] or [`ControlError::Io`].
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self, ControlError> {
        let until = Instant::now() + timeout;
        let address = SocketAddrUnix::new(path).map_err(|error| ControlError::io(path)(error.into()))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|error| ControlError::io(path)(error.into()))?;
        loop {
            match connect(&socket, &address) {
                Ok(()) => break,
                // Its queue of connections is full. Connecting again is right for unix sockets: nothing is in progress.
                Err(Errno::AGAIN | Errno::INTR) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(Errno::AGAIN | Errno::INTR) => return Err(ControlError::Timeout { path: path.into() }),
                Err(Errno::CONNREFUSED | Errno::NOENT) => return Err(ControlError::Gone { path: path.into() }),
                Err(error) => return Err(ControlError::io(path)(error.into())),
            }
        }
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false).map_err(ControlError::io(path))?;
        Ok(Self { stream, path: path.into(), timeout, asked: 0, heard: Vec::new() })
    }

    /// Asks, and waits for the market's decision.
    ///
    /// # Errors
    ///
    /// [`ControlError::Refused`] with the market's reason, or what went wrong on the way. After any other error than
    /// `Refused` the connection is of no more use.
    pub fn call(&mut self, verb: &str, params: &Value) -> Result<Value, ControlError> {
        let until = Instant::now() + self.timeout;
        self.asked += 1;
        let line = outgoing(Some(&Id::Number(self.asked)), verb, params) + "\n";
        self.stream.set_write_timeout(Some(self.timeout)).map_err(ControlError::io(&self.path))?;
        self.stream.write_all(line.as_bytes()).map_err(|error| self.failed(error))?;
        loop {
            let answer = self.hear(until)?;
            let mut answer: Value =
                serde_json::from_slice(&answer).map_err(|error| self.garbled(format!("not JSON: {error}")))?;
            if answer["id"] != self.asked {
                // A notification, or an answer to a line that could not be read.
                if answer.get("id").is_some_and(|id| !id.is_null()) {
                    return Err(self.garbled("it answers what was not asked".to_owned()));
                }
                continue;
            }
            if let Some(error) = answer.get("error") {
                return Err(ControlError::Refused {
                    code: error["code"].as_i64().unwrap_or(0),
                    reason: error["data"]["reason"].as_str().map(str::to_owned),
                    message: error["message"].as_str().unwrap_or("no reason was given").to_owned(),
                });
            }
            return Ok(answer["result"].take());
        }
    }

    /// All agents.
    ///
    /// # Errors
    ///
    /// As [`Client::call`].
    pub fn list(&mut self) -> Result<Vec<AgentRow>, ControlError> {
        let (mut all, mut from) = (Vec::new(), 0);
        for _ in 0..PAGES {
            let mut page = self.call("list", &json!({"from": from}))?;
            let rows: Vec<AgentRow> = self.read(page["agents"].take())?;
            all.extend(rows);
            match page["next"].as_u64() {
                Some(next) if next > from => from = next,
                _ => break,
            }
        }
        Ok(all)
    }

    /// Any verb that is about one agent; the agent as it is afterwards.
    ///
    /// # Errors
    ///
    /// As [`Client::call`].
    pub fn agent(&mut self, verb: &str, params: &Value) -> Result<AgentRow, ControlError> {
        let mut answer = self.call(verb, params)?;
        self.read(answer["agent"].take())
    }

    fn read<T: serde::de::DeserializeOwned>(&self, value: Value) -> Result<T, ControlError> {
        serde_json::from_value(value).map_err(|error| self.garbled(error.to_string()))
    }

    /// The next line without its newline.
    fn hear(&mut self, until: Instant) -> Result<Vec<u8>, ControlError> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.heard[searched..].iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.heard.drain(..=searched + at).collect();
                line.pop();
                return Ok(line);
            }
            searched = self.heard.len();
            if searched > ANSWER_MAX {
                return Err(self.garbled(format!("a line longer than {ANSWER_MAX} bytes")));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ControlError::Timeout { path: self.path.clone() });
            }
            self.stream.set_read_timeout(Some(left)).map_err(ControlError::io(&self.path))?;
            let mut buffer = [0u8; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ControlError::Gone { path: self.path.clone() }),
                Ok(count) => self.heard.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    fn failed(&self, error: io::Error) -> ControlError {
        let path = self.path.clone();
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ControlError::Timeout { path },
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ControlError::Gone { path },
            _ => ControlError::Io { path, source: error },
        }
    }

    fn garbled(&self, what: String) -> ControlError {
        ControlError::Garbled { path: self.path.clone(), what }
    }
}
