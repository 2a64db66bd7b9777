//! A connection: a socket and the session on it. Nothing here blocks.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::lines::READ_MAX;
use super::session::{Limits, Session};

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The peer closed it, and everything that it had sent was heard.
    Ended,
    /// The peer left too much unread.
    Overflow,
    /// The socket failed, with this error number.
    Failed(i32),
    /// It was taken away from the broker, or replaced.
    Removed,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Bytes(usize),
    Nothing,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: OwnedFd,
    pub(super) session: Session,
    /// The peer sends nothing more.
    pub(super) ended: bool,
}

impl Connection {
    pub(super) fn new(stream: OwnedFd, limits: Limits) -> Self {
        Self { stream, session: Session::new(limits), ended: false }
    }

    /// Reads once, at most [`READ_MAX`] bytes. Descriptors that the peer sends along are closed by the kernel, because
    /// no room is offered for them (`scm_destroy` in net/core/scm.c).
    pub(super) fn read(&mut self) -> Result<Heard, Departure> {
        if self.ended {
            return Ok(Heard::Nothing);
        }
        let mut buffer = [0u8; READ_MAX];
        match recv(self.stream.as_fd(), &mut buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => {
                self.ended = true;
                Ok(Heard::Nothing)
            }
            Ok((count, _)) => {
                let taken = self.session.receive(&buffer[..count]);
                debug_assert_eq!(taken, count, "read although lines were waiting");
                Ok(Heard::Bytes(count))
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Heard::Nothing),
            // The peer is gone and left answers unread; what it had sent has been read before this is told.
            Err(Errno::CONNRESET) => {
                self.ended = true;
                Ok(Heard::Nothing)
            }
            Err(error) => Err(Departure::Failed(error.raw_os_error())),
        }
    }

    /// Writes as much as the socket takes.
    pub(super) fn write(&mut self) -> Result<(), Departure> {
        if self.session.is_broken() {
            return Err(Departure::Overflow);
        }
        while !self.session.output().is_empty() {
            match send(self.stream.as_fd(), self.session.output(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => self.session.sent(count),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                // Nobody will read it. What the peer sent before it left is still to be heard.
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    let unread = self.session.output().len();
                    self.session.sent(unread);
                }
                Err(error) => return Err(Departure::Failed(error.raw_os_error())),
            }
        }
        Ok(())
    }
}
