//! What watchers are told.

use std::sync::mpsc::Sender;
use std::time::Duration;

use maxwell_core::agent::Life;
use maxwell_core::market::Event;
use maxwell_core::sensor::Source;
use maxwell_core::{Joule, Price};

use super::Machine;
use crate::notice::{Notice, Row, Snapshot};

/// Snapshots for watchers: one in this many ticks, and in a crowd one in that many.
const SNAPSHOT_TICKS: (u64, u64) = (10, 50);
/// More agents than this are shown by group.
const CROWD: usize = 20;

impl Machine {
    pub(super) fn tell(&mut self, watcher: &Sender<Notice>, since: Duration) {
        let tick = self.out.tick;
        let sources = (self.sensor.energy_source(), self.sensor.thermometer_source());
        if self.told_sources.replace(sources) != Some(sources) {
            let _ = watcher.send(Notice::Sensors { tick, words: self.sensors_in_words() });
        }
        // A watcher that has gone away misses nothing that matters. What agents said, they said before they were judged.
        for utterance in self.report.utterances.drain(..) {
            let _ = watcher.send(Notice::Said { tick, utterance });
        }
        for (agent, why) in self.report.failures.drain(..) {
            let _ = watcher.send(Notice::Failed { tick, agent, why });
        }
        // Payments and changes of slots come by the thousand; snapshots tell their sum.
        let by_the_thousand = |event: &&Event| {
            !matches!(event, Event::Paid { .. } | Event::Born { .. } | Event::Frozen { .. } | Event::Thawed { .. })
        };
        for event in self.out.events.iter().filter(by_the_thousand) {
            let _ = watcher.send(Notice::Happened { tick, event: *event });
        }
        let every = if self.names.len() > CROWD { SNAPSHOT_TICKS.1 } else { SNAPSHOT_TICKS.0 };
        if tick.0.is_multiple_of(every) {
            let _ = watcher.send(Notice::Snapshot(Box::new(self.snapshot(since.as_secs_f64()))));
        }
    }

    /// Which sensors are used, and why they are others than before.
    fn sensors_in_words(&self) -> String {
        let word =
            |source: Source| if source == Source::Model { "a model (nothing is measured)" } else { source.name() };
        let (energy, temperature) = (self.sensor.energy_source(), self.sensor.thermometer_source());
        let now = format!("energy from {}, temperature from {}", word(energy), word(temperature));
        match self.sensor.last_change() {
            None => now,
            Some(change) => {
                format!("{now}; {} came from {} until now ({})", change.part, change.from.name(), change.why)
            }
        }
    }

    fn snapshot(&self, seconds: f64) -> Snapshot {
        let thermal = &self.market.policy().thermal;
        let crowd = self.names.len() > CROWD;
        let mut rows: Vec<Row> = Vec::new();
        for ((id, agent), group) in self.market.agents().zip(&self.group_of) {
            let at = if crowd { *group as usize } else { rows.len() };
            if at >= rows.len() {
                let name = if crowd { self.groups[at].clone() } else { self.names[at].0.clone() };
                rows.push(empty_row(name, self.market.reason(id).expect("an agent that is listed exists"), agent));
            }
            let row = &mut rows[at];
            row.count += 1;
            match agent.state() {
                "running" => row.running += 1,
                "waiting" => row.waiting += 1,
                "parked" => row.parked += 1,
                _ => row.gone += 1,
            }
            let tally = &agent.tally;
            let escrow = agent.lease().map_or(Joule::ZERO, |lease| lease.reserved);
            row.wallet = row.wallet.saturating_add(self.market.balance(id)).saturating_add(escrow);
            row.core_us += tally.core.0;
            row.spent = row.spent.saturating_add(tally.paid).saturating_add(tally.rent).saturating_add(tally.tax);
            row.earned = row.earned.saturating_add(tally.earned);
            row.work += tally.work_verified;
        }
        Snapshot {
            tick: self.out.tick,
            seconds,
            temperature: self.out.control.estimate,
            set: thermal.set,
            power: self.out.power,
            reserve: self.out.control.reserve,
            spot: self.out.spot,
            par: thermal.par,
            lit: self.out.control.slots,
            slots: thermal.slots,
            tripped: self.out.control.tripped,
            rows,
        }
    }
}

fn empty_row(name: String, reason: maxwell_core::reason::Reason, agent: &maxwell_core::agent::Agent) -> Row {
    let limit = if matches!(agent.life, Life::Dead { .. }) { Price::ZERO } else { agent.spec.order.limit };
    Row {
        name,
        count: 0,
        running: 0,
        waiting: 0,
        parked: 0,
        gone: 0,
        reason,
        wallet: Joule::ZERO,
        limit,
        core_us: 0,
        spent: Joule::ZERO,
        earned: Joule::ZERO,
        work: 0,
    }
}
