//! The live view: a table that is refreshed in place, and above it a line for each thing that happened, and why. Where
//! stdout is not a terminal: plain lines.

use std::io::Write;
use std::sync::mpsc::Receiver;

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use crossterm::{QueueableCommand, cursor, terminal};
use maxwell_core::AgentId;
use maxwell_core::market::Event;
use maxwell_core::units::Tick;
use maxwell_daemon::notice::{Notice, Row, Snapshot};

/// An agent must have been frozen, or running, for this many seconds before it is news: at a price at the edge of its
/// limit it changes many times a second.
const SETTLED: f64 = 0.6;
/// Without a terminal, a line on the state of the machine in this many seconds.
const PLAIN_EVERY: f64 = 2.0;
/// In a crowd only the first few deaths and failures are told one by one.
const TOLD: usize = 40;

/// What a row was last said to be, and since when it differs.
#[derive(Clone, Copy, Debug, Default)]
struct News {
    told_running: Option<bool>,
    since: Option<f64>,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct View {
    title: String,
    names: Vec<String>,
    terminal: bool,
    /// Lines of the table that stands on the screen.
    drawn: u16,
    pending: Vec<String>,
    news: Vec<News>,
    told: usize,
    next_plain: f64,
    tick_us: f64,
    rejected: u64,
}

impl View {
    pub(crate) fn new(title: String, names: Vec<String>, terminal: bool) -> Self {
        Self {
            title,
            names,
            terminal,
            drawn: 0,
            pending: Vec::new(),
            news: Vec::new(),
            told: 0,
            next_plain: 0.0,
            tick_us: 10_000.0,
            rejected: 0,
        }
    }

    /// Shows notices until nobody sends any more.
    pub(crate) fn watch(mut self, notices: &Receiver<Notice>) {
        if !self.title.is_empty() {
            crate::run::say(&format!("{}\n", self.title));
        }
        for notice in notices {
            match notice {
                Notice::Snapshot(snapshot) => self.show(&snapshot),
                Notice::Happened { tick, event } => self.happened(tick, &event),
                Notice::Said { tick, utterance } => {
                    let last = if utterance.last { "last words: " } else { "" };
                    let line = format!("{} says {last}“{}”", self.name(utterance.agent), utterance.text);
                    self.tell(tick, &line);
                }
                Notice::Sensors { tick, words } => self.tell(tick, &words),
                Notice::Failed { tick, agent, why } => {
                    let line = format!("{} failed: {why}", self.name(agent));
                    self.tell(tick, &line);
                }
            }
        }
        self.flush(None);
    }

    fn name(&self, agent: AgentId) -> String {
        usize::try_from(agent.0).ok().and_then(|at| self.names.get(at)).cloned().unwrap_or_else(|| agent.to_string())
    }

    fn tell(&mut self, tick: Tick, line: &str) {
        self.told += 1;
        match self.told {
            n if n < TOLD || self.names.len() <= TOLD => {
                let seconds = tick.0 as f64 * self.tick_us * 1e-6;
                self.pending.push(format!("{seconds:7.2} s  {line}"));
            }
            TOLD => self.pending.push("           … and more of the kind: the summary counts them".to_owned()),
            _ => {}
        }
    }

    fn happened(&mut self, tick: Tick, event: &Event) {
        let line = match event {
            // Which sensors there are now, the machine says in words.
            Event::SensorsChanged => return,
            Event::Born { .. } | Event::Paid { .. } | Event::Frozen { .. } | Event::Thawed { .. } => return,
            Event::ClaimRejected { agent, fault, .. } => {
                // The first of a kind is news, the ten thousandth is not.
                self.rejected += 1;
                if self.rejected > 3 {
                    return;
                }
                format!("{}: a claim pays nothing, {fault}", self.name(*agent))
            }
            Event::Overran { agent, arrears } => {
                format!("{} ran beyond its reservation and owes {arrears}", self.name(*agent))
            }
            Event::Condemned { agent, reason } => format!("{} must die: it {reason}", self.name(*agent)),
            Event::Died { agent, reason } => format!("{} is dead: it {reason}", self.name(*agent)),
            Event::Parked { agent, reason } => format!("{} is parked: it {reason}", self.name(*agent)),
            Event::Revived { agent } => format!("{} is revived", self.name(*agent)),
            Event::Funded { agent, amount } => format!("{} is given {amount}", self.name(*agent)),
            Event::Refused { agent: Some(agent), why } => format!("{}: refused, {why}", self.name(*agent)),
            Event::Refused { agent: None, why } => format!("refused: {why}"),
            Event::Tripped => "the die is too hot or its sensor silent: everything freezes".to_owned(),
            Event::TripCleared => "the die has cooled: the market is open again".to_owned(),
            Event::EnergyGap => "an energy counter was reset; some energy is unaccounted for".to_owned(),
            Event::PowerUnknown => {
                "an energy counter stopped: power is a cautious guess until it moves again".to_owned()
            }
            Event::PowerKnown => "all energy counters move again".to_owned(),
        };
        self.tell(tick, &line);
    }

    fn show(&mut self, snapshot: &Snapshot) {
        if snapshot.tick.0 > 0 {
            self.tick_us = snapshot.seconds / snapshot.tick.0 as f64 * 1e6;
        }
        self.note_changes(snapshot);
        if self.terminal {
            self.flush(Some(snapshot));
        } else {
            if snapshot.seconds >= self.next_plain {
                self.next_plain = snapshot.seconds + PLAIN_EVERY;
                self.pending.push(format!("{:7.2} s  {}", snapshot.seconds, plain(snapshot)));
            }
            self.flush(None);
        }
    }

    /// Tells who has been waiting, or running, for long enough that it is news.
    fn note_changes(&mut self, snapshot: &Snapshot) {
        self.news.resize(snapshot.rows.len(), News::default());
        for (at, row) in snapshot.rows.iter().enumerate().filter(|(_, row)| row.count == 1) {
            let running = row.running == 1;
            if !running && row.waiting == 0 {
                continue;
            }
            let news = &mut self.news[at];
            if news.told_running == Some(running) {
                news.since = None;
                continue;
            }
            let since = *news.since.get_or_insert(snapshot.seconds);
            if snapshot.seconds - since >= SETTLED || (news.told_running.is_none() && running) {
                let first = news.told_running.is_none();
                *news = News { told_running: Some(running), since: None };
                let line = match (running, first) {
                    (true, true) => format!("{} runs, at {}", row.name, snapshot.spot),
                    (true, false) => format!("{} runs again, at {}", row.name, snapshot.spot),
                    (false, _) => format!("{} waits, frozen: it {}", row.name, row.reason),
                };
                self.tell(snapshot.tick, &line);
            }
        }
    }

    /// Prints what is pending, and the table below it.
    fn flush(&mut self, snapshot: Option<&Snapshot>) {
        let mut out = std::io::stdout().lock();
        // A closed pipe is the reader's wish; there is nobody left to tell.
        let _ = self.draw(&mut out, snapshot);
    }

    fn draw(&mut self, out: &mut impl Write, snapshot: Option<&Snapshot>) -> std::io::Result<()> {
        if self.terminal && (snapshot.is_some() || !self.pending.is_empty()) && self.drawn > 0 {
            out.queue(cursor::MoveToPreviousLine(self.drawn))?;
            out.queue(terminal::Clear(terminal::ClearType::FromCursorDown))?;
            self.drawn = 0;
        }
        for line in self.pending.drain(..) {
            writeln!(out, "{line}")?;
        }
        if let Some(snapshot) = snapshot {
            let (width, height) = terminal::size().unwrap_or((100, 40));
            let text = table(snapshot, width);
            let lines: Vec<&str> = text.lines().take(usize::from(height.saturating_sub(2))).collect();
            for line in &lines {
                writeln!(out, "{line}")?;
            }
            self.drawn = u16::try_from(lines.len()).unwrap_or(0);
        }
        out.flush()
    }
}

/// One line on the state of the machine.
fn machine(snapshot: &Snapshot) -> String {
    let trip = if snapshot.tripped { "  TRIPPED" } else { "" };
    format!(
        "die {} (holds {})  power {}  price {}  reserve {}  par {}  slots {}/{}{trip}",
        snapshot.temperature,
        snapshot.set,
        snapshot.power,
        snapshot.spot,
        snapshot.reserve,
        snapshot.par,
        snapshot.lit,
        snapshot.slots,
    )
}

fn plain(snapshot: &Snapshot) -> String {
    let agents: Vec<String> =
        snapshot.rows.iter().take(6).map(|row| format!("{} {} {}", row.name, state(row), row.wallet)).collect();
    format!("{}  |  {}", machine(snapshot), agents.join(", "))
}

fn state(row: &Row) -> String {
    if row.count == 1 {
        let state = [(row.running, "running"), (row.waiting, "waiting"), (row.parked, "parked")];
        return state.iter().find(|(n, _)| *n == 1).map_or("dead", |(_, word)| word).to_owned();
    }
    format!("{} run, {} wait, {} parked, {} dead", row.running, row.waiting, row.parked, row.gone)
}

fn table(snapshot: &Snapshot, width: u16) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    table.set_header(["agent", "state", "wallet", "bids up to", "core time", "spent", "earned", "work", "why"]);
    for row in &snapshot.rows {
        let (word, color) = (
            state(row),
            if row.running > 0 {
                Color::Green
            } else if row.waiting > 0 {
                Color::Cyan
            } else {
                Color::DarkGrey
            },
        );
        let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.add_row([
            Cell::new(if row.count == 1 { row.name.clone() } else { format!("{} ×{}", row.name, row.count) }),
            Cell::new(word).fg(color),
            number(row.wallet.to_string()),
            number(row.limit.to_string()),
            number(format!("{:.2}s", row.core_us as f64 * 1e-6)),
            number(row.spent.to_string()),
            number(row.earned.to_string()),
            number(row.work.to_string()),
            Cell::new(row.reason.to_string()),
        ]);
    }
    // The line on the machine is cut, not wrapped: the view counts its lines to redraw them.
    let line = format!("{:7.2} s  {}  (modelled)", snapshot.seconds, machine(snapshot));
    let line: String = line.chars().take(usize::from(width)).collect();
    format!("\n{line}\n\n{table}")
}
