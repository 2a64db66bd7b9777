//! The agent protocol as far as these agents need it (docs/agent-protocol.md): claims that nobody waits for.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

/// The variable that holds the socket's number.
const VARIABLE: &str = "MAXWELL_SOCKET";
/// Claims in a message; a batch of the protocol holds 16.
const TOGETHER: usize = 16;
/// Answers beyond this that are no line are not kept.
const MOST_HEARD: usize = 1 << 20;

/// The connection to Maxwell.
#[derive(Debug)]
pub struct Market {
    socket: UnixStream,
    claims: Vec<Value>,
    asked: u64,
    heard: Vec<u8>,
    /// Claims that somebody pays for.
    pub accepted: u64,
    /// Claims that nobody pays for.
    pub refused: u64,
}

impl Market {
    /// The connection, or none without Maxwell.
    #[must_use]
    pub fn connect() -> Option<Self> {
        let number: RawFd = std::env::var(VARIABLE).ok()?.parse().ok().filter(|number| *number > 2)?;
        // SAFETY: Maxwell opened this descriptor for us, by the protocol, and nothing in this program has used it; it is taken
        // once, at the start. A number that is not open gives errors, which are told apart below.
        let socket = unsafe { UnixStream::from_raw_fd(number) };
        Some(Self { socket, claims: Vec::new(), asked: 0, heard: Vec::new(), accepted: 0, refused: 0 })
    }

    /// Claims a prime. Claims are sent when there are several, or by [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// Maxwell is gone.
    pub fn claim_prime(&mut self, prime: u64, together: usize) -> std::io::Result<()> {
        self.asked += 1;
        let params = json!({ "kind": "prime", "unit": prime.to_string() });
        self.claims.push(json!({ "jsonrpc": "2.0", "id": self.asked, "method": "submit", "params": params }));
        if self.claims.len() >= together.clamp(1, TOGETHER) { self.send() } else { Ok(()) }
    }

    /// Sends what was claimed, and hears what was answered to earlier ones.
    ///
    /// # Errors
    ///
    /// Maxwell is gone.
    pub fn send(&mut self) -> std::io::Result<()> {
        if !self.claims.is_empty() {
            let mut line = serde_json::to_vec(&self.claims)?;
            line.push(b'\n');
            self.claims.clear();
            self.socket.set_nonblocking(false)?;
            self.socket.write_all(&line)?;
        }
        self.hear()
    }

    /// The spot price in milliwatts. Waits for the answer.
    ///
    /// # Errors
    ///
    /// Maxwell is gone, or says nothing that can be understood.
    pub fn price(&mut self) -> std::io::Result<u64> {
        self.send()?;
        self.asked += 1;
        let request = json!({ "jsonrpc": "2.0", "id": self.asked, "method": "price" }).to_string() + "\n";
        self.socket.set_nonblocking(false)?;
        self.socket.write_all(request.as_bytes())?;
        loop {
            while let Some(message) = self.next_line() {
                if message["id"] == self.asked {
                    return message["result"]["spot"].as_u64().ok_or_else(|| ErrorKind::InvalidData.into());
                }
                self.note(&message);
            }
            self.receive()?;
        }
    }

    fn hear(&mut self) -> std::io::Result<()> {
        self.socket.set_nonblocking(true)?;
        let end = loop {
            match self.receive() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        while let Some(message) = self.next_line() {
            self.note(&message);
        }
        end
    }

    fn receive(&mut self) -> std::io::Result<()> {
        let mut bytes = [0u8; 16 << 10];
        match self.socket.read(&mut bytes) {
            Ok(0) => Err(ErrorKind::ConnectionReset.into()),
            Ok(length) => {
                self.heard.extend_from_slice(&bytes[..length]);
                if self.heard.len() > MOST_HEARD { Err(ErrorKind::InvalidData.into()) } else { Ok(()) }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn next_line(&mut self) -> Option<Value> {
        let end = self.heard.iter().position(|byte| *byte == b'\n')?;
        let rest = self.heard.split_off(end + 1);
        let line = std::mem::replace(&mut self.heard, rest);
        Some(serde_json::from_slice(&line).unwrap_or(Value::Null))
    }

    fn note(&mut self, message: &Value) {
        let one = std::slice::from_ref(message);
        for answer in message.as_array().map_or(one, Vec::as_slice) {
            self.accepted += u64::from(answer.get("result").is_some());
            self.refused += u64::from(answer.get("error").is_some());
        }
    }
}
