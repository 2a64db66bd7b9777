//! Waiting for many sockets: epoll, and a way to be woken.
//!
//! Every socket is armed for one event at a time (`EPOLLONESHOT`): a peer that is paused, or hangs up while its last
//! words are still being read, cannot keep the thread busy. See epoll_ctl(2).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

/// What to wait for on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interest {
    /// Something to read, or a new connection.
    pub(super) read: bool,
    /// Room to write.
    pub(super) write: bool,
}

impl Interest {
    pub(super) const READ: Self = Self { read: true, write: false };

    fn flags(self) -> epoll::EventFlags {
        let mut flags = epoll::EventFlags::ONESHOT;
        flags.set(epoll::EventFlags::IN, self.read);
        flags.set(epoll::EventFlags::OUT, self.write);
        flags
    }
}

/// Sockets to wait for, each known by a number.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    waker: Waker,
}

/// The number of the waker; sockets have others.
const WAKER: u64 = u64::MAX;
/// How many sockets are told of at once; the others are told of the next time.
const EVENTS: usize = 64;

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        let waker = Waker(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &waker.0, epoll::EventData::new_u64(WAKER), epoll::EventFlags::IN)?;
        Ok(Self { epoll, waker })
    }

    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Begins to wait for a socket, once.
    pub(super) fn add(&self, socket: BorrowedFd<'_>, number: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(number), interest.flags())?)
    }

    /// Waits for a socket once more.
    pub(super) fn arm(&self, socket: BorrowedFd<'_>, number: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, socket, epoll::EventData::new_u64(number), interest.flags())?)
    }

    /// Waits until a socket is ready, the waker is used, or the time is over; `ready` gets the sockets' numbers.
    pub(super) fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<u64>) -> io::Result<()> {
        ready.clear();
        // A day is as good as for ever, and fits the kernel's type.
        let timeout = timeout.map(|time| time.min(Duration::from_secs(86_400)));
        let timeout = timeout.map(|time| Timespec::try_from(time).unwrap_or_default());
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        let events = match epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in events {
            // The kernel's structure is packed: copy, then look.
            match { event.data }.u64() {
                WAKER => self.waker.settle(),
                number => ready.push(number),
            }
        }
        Ok(())
    }
}

/// Wakes a [`Poller`] from another thread. Never blocks.
#[derive(Clone, Debug)]
pub(super) struct Waker(Arc<OwnedFd>);

impl Waker {
    pub(super) fn wake(&self) {
        // The only failure is a counter that is full: then it is awake.
        let _ = rustix::io::write(self.0.as_fd(), &1u64.to_ne_bytes());
    }

    fn settle(&self) {
        let _ = rustix::io::read(self.0.as_fd(), &mut [0u8; 8]);
    }
}
