//! A thread that looks for sensors while the market goes on.
//!
//! Looking for a sensor opens files, allocates, and watches counters for milliseconds: nothing for a tick. So the tick
//! asks, goes on with what it has (or with nothing, which it labels), and picks up the answer when it is there.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use super::bank::Bank;
use super::ladder::{Ladder, Search, Standing};
use super::processor::Processor;
use super::thermometer::Thermometer;

/// What to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errand {
    pub(crate) energy: Search,
    pub(crate) thermometer: Search,
}

/// What was found: `None` was not looked for, `Some(None)` nothing that works.
#[derive(Debug)]
pub(crate) struct Catch {
    pub(crate) errand: Errand,
    pub(crate) energy: Option<Option<Standing<Bank>>>,
    pub(crate) thermometer: Option<Option<Standing<Thermometer>>>,
}

/// The asking end.
#[derive(Debug)]
pub(crate) struct Scout {
    errands: SyncSender<Errand>,
    catches: Receiver<Catch>,
    away: bool,
}

impl Scout {
    /// Starts the thread; `None` if the system has none to give. It ends when this is dropped.
    pub(crate) fn start(ladder: Ladder) -> Option<Self> {
        // One errand at a time: with room for one, neither end ever waits or allocates.
        let (errands, requests) = sync_channel::<Errand>(1);
        let (answers, catches) = sync_channel::<Catch>(1);
        let run = move || {
            while let Ok(errand) = requests.recv() {
                let processor = Processor::of(&ladder.root);
                let mut findings = Vec::new();
                let energy = ladder.energy(&processor, errand.energy, &mut findings);
                let thermometer = ladder.thermometer(&processor, errand.thermometer, &mut findings);
                if answers.send(Catch { errand, energy, thermometer }).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("sensor-scout".to_owned()).spawn(run).ok()?;
        Some(Self { errands, catches, away: false })
    }

    /// Sends it out, unless it still is.
    pub(crate) fn send(&mut self, errand: Errand) {
        if !self.away {
            self.away = self.errands.try_send(errand).is_ok();
        }
    }

    pub(crate) fn is_away(&self) -> bool {
        self.away
    }

    /// What it found, once. Never waits.
    pub(crate) fn catch(&mut self) -> Option<Catch> {
        if !self.away {
            return None;
        }
        match self.catches.try_recv() {
            Ok(catch) => {
                self.away = false;
                Some(catch)
            }
            Err(TryRecvError::Empty) => None,
            // It is gone for good: it stays away, and what fails from now on stays unknown.
            Err(TryRecvError::Disconnected) => None,
        }
    }

    /// Waits until it is back.
    pub(crate) fn wait(&mut self) -> Option<Catch> {
        if !self.away {
            return None;
        }
        self.away = false;
        self.catches.recv().ok()
    }
}
