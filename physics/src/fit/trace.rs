//! What a machine was seen to burn: rows of a CSV file.
//!
//! Two formats are understood; the header decides.
//!
//! * **Maxwell's**: `seconds`, `watts`, and either `utilisation` (share of the whole machine, 0 to 1) or a column for each
//!   hardware thread, `core0`, `core1`, … Optional: `active_cores` (how many threads the work of `utilisation` ran on),
//!   `celsius`, `mhz`. A row's watts and utilisation are means since the row before, which is what the difference of two
//!   readings of a counter gives.
//! * **CodeCarbon's** load profiles: `timestamp`, `cpu_load` (percent), `cores_used`, `load_type`, and `rapl_energy` with
//!   `duration`, or `rapl_power`. There `all_cores` means that every thread was busy for `cpu_load`, and `some_cores` that
//!   `cores_used` threads were busy all the time.
//!
//! In CodeCarbon's files the energy is what counts: `rapl_power` is what the tracker had read when the row's task *began*,
//! so it is the mean of the row before (the first row's is next to nothing, because nothing came before). Without an
//! energy column the power is taken as it stands, and an absurd first row is dropped.
//!
//! A file is data from outside: every number is checked, and every error names the line and the remedy.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord};
use maxwell_core::units::{Celsius, Watts};

use crate::power::{Cores, Megahertz};

/// The most rows of one trace: a week at one row a second is 600,000.
pub const MOST_ROWS: usize = 1_000_000;
/// The most bytes of one trace.
pub const MOST_BYTES: u64 = 256 << 20;
/// No first line is longer: a column for each of 4,096 threads takes less.
const MOST_LINE: u64 = 128 << 10;
/// The most hardware threads of a machine.
pub const MOST_THREADS: u16 = 4_096;
/// The most utilisations of single threads in one trace, rows times threads.
const MOST_VALUES: usize = 16 << 20;
/// Loggers round: this little above 1 still counts as 1.
const SLACK: f64 = 0.01;

/// Why a trace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file could not be read.
    #[error("{path}: {source}. Give a CSV file with the columns `seconds`, `utilisation` and `watts`")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is wrong.
    #[error("{path}:{line}: {message}")]
    Row {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What, and what to do.
        message: String,
    },
    /// The file is wrong as a whole.
    #[error("{path}: {message}")]
    Whole {
        /// Which file.
        path: PathBuf,
        /// What, and what to do.
        message: String,
    },
}

/// How busy a machine's threads were.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// Each thread by itself.
    Each(Vec<f64>),
    /// Every thread as busy as the machine.
    Even(f64),
    /// A share of the machine, spread over so many threads; the others slept.
    Spread {
        /// Share of the whole machine.
        utilisation: f64,
        /// How many threads.
        active: u16,
    },
    /// So many threads busy all the time; the others slept.
    Full(u16),
}

impl Load {
    /// The load as groups of equally busy threads of a machine that has `threads`, the busiest first.
    #[must_use]
    pub fn cores(&self, threads: u16) -> Vec<Cores> {
        let some = |active: u16, utilisation: f64| {
            let active = active.min(threads);
            vec![Cores { count: active, utilisation }, Cores { count: threads - active, utilisation: 0.0 }]
        };
        match self {
            Self::Each(each) => {
                let mut cores: Vec<Cores> =
                    each.iter().map(|utilisation| Cores { count: 1, utilisation: *utilisation }).collect();
                cores.sort_by(|a, b| b.utilisation.total_cmp(&a.utilisation));
                cores
            }
            Self::Even(utilisation) => some(threads, *utilisation),
            Self::Spread { active: 0, .. } => some(0, 0.0),
            Self::Spread { utilisation, active } => {
                some(*active, (utilisation * f64::from(threads) / f64::from(*active)).min(1.0))
            }
            Self::Full(active) => some(*active, 1.0),
        }
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// When the row ended, in seconds of any epoch.
    pub seconds: f64,
    /// How busy the machine was since the row before.
    pub load: Load,
    /// What it burned since the row before.
    pub watts: Watts,
    /// Die temperature at the row's end.
    pub celsius: Option<Celsius>,
    /// Mean clock.
    pub clock: Option<Megahertz>,
}

/// A trace: rows in the order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Its file.
    pub path: PathBuf,
    /// What machine it is of, if the file says so.
    pub machine: Option<String>,
    /// The machine's hardware threads, if the file says so.
    pub threads: Option<u16>,
    /// The rows.
    pub rows: Vec<Row>,
    /// What was done to them that a reader should know.
    pub notes: Vec<String>,
}

impl Trace {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// What is wrong, where, and what to do.
    pub fn load(path: &Path) -> Result<Self, TraceError> {
        let unreadable = |source| TraceError::Unreadable { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        if length > MOST_BYTES {
            return Err(too_long(path));
        }
        Self::read(path, file)
    }

    /// Reads a trace from anywhere. `path` is for errors.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn read(path: &Path, from: impl Read) -> Result<Self, TraceError> {
        Reader::new(path, from)?.trace()
    }
}

/// The first line, which has been looked at, and the rest of the file, as far as it is read.
type Bounded<R> = std::io::Take<std::io::Chain<std::io::Cursor<Vec<u8>>, R>>;

/// A file that is being read.
struct Reader<'a, R> {
    path: &'a Path,
    csv: csv::Reader<Bounded<R>>,
    header: Vec<String>,
    /// The record in hand, and its line.
    record: StringRecord,
    line: u64,
}

impl<'a, R: Read> Reader<'a, R> {
    fn new(path: &'a Path, mut from: R) -> Result<Self, TraceError> {
        let mut beginning = Vec::new();
        from.by_ref()
            .take(MOST_LINE)
            .read_to_end(&mut beginning)
            .map_err(|source| TraceError::Unreadable { path: path.to_owned(), source })?;
        if beginning.len() as u64 == MOST_LINE && !beginning.contains(&b'\n') {
            let message = format!("this is no CSV file: its first {} KiB hold no end of a line", MOST_LINE >> 10);
            return Err(TraceError::Whole { path: path.to_owned(), message });
        }
        let from = std::io::Cursor::new(beginning).chain(from).take(MOST_BYTES + 1);
        let mut csv = ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(from);
        let header = csv.headers().map_err(|error| broken(path, error))?;
        let header: Vec<String> =
            header.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_ascii_lowercase()).collect();
        let mut reader = Self { path, csv, header, record: StringRecord::new(), line: 1 };
        if reader.header.iter().all(String::is_empty) {
            return Err(reader.whole(
                "the file is empty: the first line must name the columns `seconds`, `utilisation` and `watts`",
            ));
        }
        for (at, name) in reader.header.iter().enumerate() {
            if reader.header.iter().skip(at + 1).any(|other| other == name) && !name.is_empty() {
                let message = format!("there are two columns `{name}`: rename one");
                return Err(reader.row(message));
            }
        }
        reader.line = 0;
        Ok(reader)
    }

    fn trace(mut self) -> Result<Trace, TraceError> {
        let codecarbon = self.column("cpu_load").is_some() && self.column("seconds").is_none();
        let trace = if codecarbon { self.codecarbon()? } else { self.maxwell()? };
        if self.csv.get_ref().limit() == 0 {
            return Err(too_long(self.path));
        }
        match trace.rows.len() {
            0 => Err(self.whole("there are no rows below the header")),
            _ => Ok(trace),
        }
    }

    fn maxwell(&mut self) -> Result<Trace, TraceError> {
        let seconds = self.required("seconds")?;
        let watts = self.required("watts")?;
        let each = self.cores()?;
        let utilisation = if each.is_empty() { Some(self.required("utilisation")?) } else { None };
        let active = self.column("active_cores");
        let (celsius, mhz) = (self.column("celsius"), self.column("mhz"));
        let mut rows: Vec<Row> = Vec::new();
        while self.next()? {
            if rows.len() * each.len() > MOST_VALUES {
                let message = format!("rows times threads are more than {MOST_VALUES}: thin the trace out");
                return Err(self.row(message));
            }
            let load = match utilisation {
                None => Load::Each(each.iter().map(|at| self.share(*at)).collect::<Result<_, _>>()?),
                Some(at) => {
                    let utilisation = self.share(at)?;
                    match active.map(|at| self.count(at)).transpose()? {
                        Some(0) if utilisation > 0.05 => {
                            let message =
                                format!("utilisation is {utilisation} with no active core: fix one of the two");
                            return Err(self.row(message));
                        }
                        Some(active) => Load::Spread { utilisation, active },
                        None => Load::Even(utilisation),
                    }
                }
            };
            let row = Row {
                seconds: self.number(seconds, -1e12..=1e12)?,
                load,
                watts: Watts(self.number(watts, 0.0..=100_000.0)?),
                celsius: self.optional(celsius, -50.0..=200.0)?.map(Celsius),
                clock: self.optional(mhz, 1.0..=20_000.0)?.map(Megahertz),
            };
            self.in_order(&rows, &row)?;
            rows.push(row);
        }
        let threads = u16::try_from(each.len()).ok().filter(|threads| *threads > 0);
        Ok(Trace { path: self.path.to_owned(), machine: None, threads, rows, notes: Vec::new() })
    }

    fn codecarbon(&mut self) -> Result<Trace, TraceError> {
        let timestamp = self.required("timestamp")?;
        let load = self.required("cpu_load")?;
        let used = self.required("cores_used")?;
        let kind = self.required("load_type")?;
        let energy = self.column("rapl_energy").zip(self.column("duration"));
        let power = if energy.is_none() { Some(self.required("rapl_power")?) } else { None };
        let (celsius, mhz) = (self.column("temperature"), self.column("cpu_freq"));
        let name = self.column("cpu_name");
        let (mut rows, mut threads, mut machine): (Vec<Row>, u16, Option<String>) = (Vec::new(), 0, None);
        while self.next()? {
            let used = self.count(used)?;
            threads = threads.max(used);
            let percent = self.number(load, 0.0..=100.0 * (1.0 + SLACK))?;
            let load = match self.record.get(kind) {
                Some("all_cores") => Load::Even((percent / 100.0).min(1.0)),
                Some("some_cores") => Load::Full(used),
                other => {
                    let other = other.unwrap_or("");
                    let message = format!("load_type is `{other}`, but only `all_cores` and `some_cores` are known");
                    return Err(self.row(message));
                }
            };
            let watts = match (energy, power) {
                (Some((energy, duration)), _) => {
                    let joules = self.number(energy, 0.0..=1e9)? * 3.6e6;
                    joules / self.number(duration, 0.001..=1e9)?
                }
                (None, Some(power)) => self.number(power, 0.0..=100_000.0)?,
                (None, None) => 0.0,
            };
            // These files write 0 for a sensor that the machine did not have.
            let row = Row {
                seconds: self.number(timestamp, -1e12..=1e12)?,
                load,
                watts: Watts(watts),
                celsius: self.optional(celsius, -50.0..=200.0)?.filter(|t| *t != 0.0).map(Celsius),
                clock: self.optional(mhz, 0.0..=20_000.0)?.filter(|f| *f >= 1.0).map(Megahertz),
            };
            self.in_order(&rows, &row)?;
            if machine.is_none() {
                let text = name.and_then(|at| self.record.get(at)).unwrap_or("");
                machine = Some(text.chars().filter(|c| !c.is_control()).take(128).collect::<String>());
            }
            rows.push(row);
        }
        let mut notes = Vec::new();
        if energy.is_some() {
            notes.push("watts are rapl_energy / duration; rapl_power would be the mean of the row before".to_owned());
        } else if drop_artefact(&mut rows) {
            notes.push("the first row was dropped: its rapl_power is below a tenth of every other".to_owned());
        }
        let machine = machine.filter(|name| !name.is_empty());
        let threads = Some(threads).filter(|threads| *threads > 0);
        Ok(Trace { path: self.path.to_owned(), machine, threads, rows, notes })
    }

    /// Reads the next record that is not blank.
    fn next(&mut self) -> Result<bool, TraceError> {
        let more = self.csv.read_record(&mut self.record).map_err(|error| broken(self.path, error))?;
        self.line = self.record.position().map_or(0, csv::Position::line);
        let read = self.csv.position().record().saturating_sub(1);
        if more && read > MOST_ROWS as u64 {
            let message = format!("a trace may have {MOST_ROWS} rows: thin it out, or fit parts of it");
            return Err(self.row(message));
        }
        Ok(more)
    }

    /// The columns `core0`, `core1`, … in the order of their numbers.
    fn cores(&self) -> Result<Vec<usize>, TraceError> {
        let number = |name: &String| name.strip_prefix("core").and_then(|number| number.parse::<usize>().ok());
        let count = self.header.iter().filter_map(number).count();
        if count > usize::from(MOST_THREADS) {
            return Err(self.whole(format!("{count} cores are more than the {MOST_THREADS} that a machine may have")));
        }
        (0..count).map(|at| self.required(&format!("core{at}"))).collect()
    }

    fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    fn required(&self, name: &str) -> Result<usize, TraceError> {
        self.column(name).ok_or_else(|| {
            let there: Vec<String> = self.header.iter().take(20).map(|name| format!("`{}`", name.chars().take(40).collect::<String>())).collect();
            self.whole(format!(
                "there is no column `{name}`: the first line names {}. A trace needs `seconds`, `watts`, and `utilisation` or `core0`, `core1`, …",
                there.join(", ")
            ))
        })
    }

    fn name(&self, column: usize) -> &str {
        self.header.get(column).map_or("", String::as_str)
    }

    fn number(&self, column: usize, range: std::ops::RangeInclusive<f64>) -> Result<f64, TraceError> {
        let text = self.record.get(column).unwrap_or("");
        let name = self.name(column);
        let Ok(value) = text.parse::<f64>() else {
            let text: String = text.chars().take(40).collect();
            let message = if text.is_empty() {
                format!("`{name}` is empty: every row needs it; delete the row if it was not measured")
            } else {
                format!("`{name}` is `{text}`, which is no number: write digits with a point, without a unit")
            };
            return Err(self.row(message));
        };
        if range.contains(&value) {
            return Ok(value);
        }
        let message = if value.is_finite() {
            format!("`{name}` is {value}, but must lie between {} and {}", range.start(), range.end())
        } else {
            format!("`{name}` is {value}: delete the row if it was not measured")
        };
        Err(self.row(message))
    }

    /// An empty field of an optional column is not there.
    fn optional(&self, column: Option<usize>, range: std::ops::RangeInclusive<f64>) -> Result<Option<f64>, TraceError> {
        let given = column.filter(|at| self.record.get(*at).is_some_and(|text| !text.is_empty()));
        given.map(|at| self.number(at, range)).transpose()
    }

    fn share(&self, column: usize) -> Result<f64, TraceError> {
        let value = self.number(column, 0.0..=f64::MAX)?;
        if value <= 1.0 + SLACK {
            return Ok(value.min(1.0));
        }
        let name = self.name(column);
        Err(self.row(format!("`{name}` is {value}, but is a share from 0 to 1: divide percentages by 100")))
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number that fits was asked for"
    )]
    fn count(&self, column: usize) -> Result<u16, TraceError> {
        let value = self.number(column, 0.0..=f64::from(MOST_THREADS))?;
        if value.fract() == 0.0 {
            return Ok(value as u16);
        }
        Err(self.row(format!("`{}` is {value}, but must be a whole number of cores", self.name(column))))
    }

    fn in_order(&self, rows: &[Row], row: &Row) -> Result<(), TraceError> {
        match rows.last() {
            Some(before) if row.seconds <= before.seconds => Err(self.row(format!(
                "time goes from {} to {}: sort the rows, delete repeated ones, and give each run of the logger a file of its own",
                before.seconds, row.seconds
            ))),
            _ => Ok(()),
        }
    }

    fn row(&self, message: impl Into<String>) -> TraceError {
        TraceError::Row { path: self.path.to_owned(), line: self.line, message: message.into() }
    }

    fn whole(&self, message: impl Into<String>) -> TraceError {
        TraceError::Whole { path: self.path.to_owned(), message: message.into() }
    }
}

fn too_long(path: &Path) -> TraceError {
    let message = format!(
        "the file is longer than {} MiB, and a trace may have {MOST_ROWS} rows: thin it out, or fit parts of it",
        MOST_BYTES >> 20
    );
    TraceError::Whole { path: path.to_owned(), message }
}

/// What the CSV reader could not make sense of.
fn broken(path: &Path, error: csv::Error) -> TraceError {
    let line = error.position().map_or(1, csv::Position::line);
    let message = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("this line has {len} fields, but the first has {expected_len}: give every row all columns")
        }
        csv::ErrorKind::Utf8 { .. } => "this is not text in UTF-8: is it a CSV file?".to_owned(),
        _ => match error.into_kind() {
            csv::ErrorKind::Io(source) => return TraceError::Unreadable { path: path.to_owned(), source },
            other => format!("this is not CSV: {other:?}"),
        },
    };
    TraceError::Row { path: path.to_owned(), line, message }
}

/// Drops a first row whose power is below a tenth of every other's.
fn drop_artefact(rows: &mut Vec<Row>) -> bool {
    let others = rows.iter().skip(1).map(|row| row.watts.0).fold(f64::INFINITY, f64::min);
    let absurd = rows.len() > 1 && rows.first().is_some_and(|first| first.watts.0 < 0.1 * others);
    if absurd {
        rows.remove(0);
    }
    absurd
}

#[cfg(test)]
mod tests;
