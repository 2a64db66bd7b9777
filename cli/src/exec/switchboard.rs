//! Signals: passed on to the command, or turned into its end.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use maxwell_core::Joule;
use maxwell_core::market::Command;
use maxwell_daemon::exec::Exec;
use maxwell_daemon::signals::{Came, Signals};
use maxwell_hypervisor::process::ProcessCell;
use rustix::process::Signal;

/// A second Ctrl-C within this time ends a command that ignored the first.
const TWICE: Duration = Duration::from_secs(3);
/// A command stands still if it was not seen running for this long: it is frozen for a moment in every tick in which it has
/// used up what it bought.
const STILL: Duration = Duration::from_millis(60);
/// The longest that Ctrl-Z waits until the command is frozen.
const SUSPEND: Duration = Duration::from_secs(2);

/// Passes signals on to the command, and turns those that ask for an end into one.
pub(super) struct Switchboard {
    pub(super) cell: Arc<ProcessCell>,
    pub(super) commands: Sender<Command>,
    pub(super) grace: Duration,
    /// It has a session of its own: what a terminal sends to our group does not reach it.
    pub(super) apart: bool,
}

impl Switchboard {
    pub(super) fn pass_on(&self, signals: &Signals) {
        let mut interrupted: Option<Instant> = None;
        while let Ok(Came { number, from_terminal }) = signals.next() {
            let reached = from_terminal && !self.apart;
            match number {
                libc::SIGTSTP => self.suspend(reached),
                libc::SIGINT | libc::SIGQUIT => {
                    let twice = interrupted.replace(Instant::now()).is_some_and(|last| last.elapsed() < TWICE);
                    if twice || self.is_frozen() {
                        self.end();
                    } else if !reached {
                        self.send(number);
                    }
                }
                libc::SIGTERM | libc::SIGHUP => {
                    self.send(number);
                    // As `timeout` does: who stopped itself hears it too.
                    self.send(libc::SIGCONT);
                    // Whoever asks us to end is not kept waiting by a command that does not listen.
                    let (commands, grace) = (self.commands.clone(), self.grace);
                    let waits = std::thread::Builder::new().spawn(move || {
                        std::thread::sleep(grace);
                        let _ = commands.send(Command::Kill { agent: Exec::AGENT });
                    });
                    // Nobody can wait for it if there is no thread.
                    if self.is_frozen() || waits.is_err() {
                        self.end();
                    }
                }
                other if !reached => self.send(other),
                _ => {}
            }
        }
    }

    fn send(&self, number: i32) {
        if let Some(signal) = Signal::from_named_raw(number) {
            self.cell.signal(signal);
        }
    }

    /// It hears nothing until it runs again, which may be never.
    fn is_frozen(&self) -> bool {
        let since = Instant::now();
        while self.cell.is_frozen() {
            if since.elapsed() >= STILL {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    fn end(&self) {
        // The market is gone when the command is.
        let _ = self.commands.send(Command::Kill { agent: Exec::AGENT });
    }

    /// Ctrl-Z: the command is frozen, then we stop; when we are continued, it goes on.
    fn suspend(&self, reached: bool) {
        if !reached {
            self.send(libc::SIGTSTP);
        }
        let _ = self.commands.send(Command::Park { agent: Exec::AGENT });
        let until = Instant::now() + SUSPEND;
        while !self.is_frozen() {
            // Nobody stops the command while we stand still.
            if Instant::now() >= until {
                let _ = self.commands.send(Command::Fund { agent: Exec::AGENT, amount: Joule::ZERO });
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP);
        // Here we are again: a top-up of nothing ends its parking.
        let _ = self.commands.send(Command::Fund { agent: Exec::AGENT, amount: Joule::ZERO });
        if !reached {
            self.send(libc::SIGCONT);
        }
    }
}
