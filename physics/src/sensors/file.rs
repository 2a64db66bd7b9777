//! A file in which a host tells a guest about energy and temperature.
//!
//! A virtual machine has no sensors; its host has. The host writes a small text to a place that the guest sees (a virtio-fs
//! share, a tmpfs), some ten times a second:
//!
//! ```text
//!  maxwell-sensor 1                  what this is, and the version of the format
//!  sequence=4711                     differs from write to write: a writer that died is seen as age
//!  interval_ms=100                   how often it is written
//!  energy_uj=73500123456             a count of microjoules that only rises and wraps …
//!  max_energy_range_uj=262143328850  … to zero after this; without the line it does not wrap
//!  max_power_w=280                   more than that power is a reset (default 4000)
//!  celsius=54.5                      the hottest die
//!  quality=measured                  or filtered, or modelled
//! ```
//!
//! `energy_uj` and `celsius` may be missing, not both. Order is free, unknown keys are ignored so that the format can
//! grow, a key twice or a value that is no number makes the file unreadable. The writer replaces the file by renaming a
//! new one over it, so a reader sees the old text or the new, never half; the reader notices that the name leads to
//! another file and opens it anew. The text is at most a kilobyte.
//!
//! The share is read on the tick: it must answer at once. A network file system that can hang must not be used.

use std::ffi::CString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use maxwell_core::sensor::{Counter, CounterSpec, Domain, Quality, Source};
use maxwell_core::units::{Celsius, Watts};
use rustix::fs::{Mode, OFlags};
use rustix::io::pread;

use super::bank::{Bank, Channel, Port};
use super::finding::{Attempt, Item, Obstacle};
use super::root::ReadError;
use super::thermometer::{Eye, Thermometer};
use super::trued_up::TruedUp;

const HEADER: &str = "maxwell-sensor 1";
const MOST_BYTES: usize = 1_024;
const DEFAULT_INTERVAL_MS: u32 = 100;
const DEFAULT_MAX_POWER: f64 = 4_000.0;

/// What a host tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostReport {
    /// Differs from write to write.
    pub sequence: u64,
    /// How often it is written, in milliseconds.
    pub interval_ms: u32,
    /// The count of microjoules.
    pub energy_uj: Option<u64>,
    /// The count wraps to zero after this.
    pub max_energy_range_uj: u64,
    /// More power than the machine can draw.
    pub max_power: Watts,
    /// The hottest die.
    pub celsius: Option<Celsius>,
    /// How far the host trusts its own sensors.
    pub quality: Quality,
}

impl Default for HostReport {
    fn default() -> Self {
        Self {
            sequence: 0,
            interval_ms: DEFAULT_INTERVAL_MS,
            energy_uj: None,
            max_energy_range_uj: u64::MAX,
            max_power: Watts(DEFAULT_MAX_POWER),
            celsius: None,
            quality: Quality::Measured,
        }
    }
}

/// Replaces `path` with a report: writes a file beside it and renames it over.
///
/// # Errors
///
/// The folder cannot be written to.
pub fn write(path: &Path, report: &HostReport) -> std::io::Result<()> {
    let HostReport { sequence, interval_ms, energy_uj, max_energy_range_uj, max_power, celsius, quality } = report;
    let mut text = format!("{HEADER}\nsequence={sequence}\ninterval_ms={interval_ms}\nmax_power_w={}\n", max_power.0);
    if let Some(energy_uj) = energy_uj {
        writeln!(text, "energy_uj={energy_uj}\nmax_energy_range_uj={max_energy_range_uj}")
            .expect("writing to a string");
    }
    if let Some(celsius) = celsius {
        writeln!(text, "celsius={}", celsius.0).expect("writing to a string");
    }
    writeln!(text, "quality={}", quality.name()).expect("writing to a string");
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, path)
}

impl HostReport {
    /// Reads the text of a report. Allocates nothing.
    ///
    /// # Errors
    ///
    /// [`ReadError::Malformed`] for anything that is not such a text.
    pub fn parse(text: &[u8]) -> Result<Self, ReadError> {
        let text = std::str::from_utf8(text).map_err(|_| ReadError::Malformed)?;
        let mut lines = text.lines();
        if lines.next().map(str::trim_end) != Some(HEADER) {
            return Err(ReadError::Malformed);
        }
        let mut report = Self::default();
        let mut seen = 0_u8;
        for line in lines.filter(|line| !line.trim().is_empty()) {
            let (key, value) = line.split_once('=').ok_or(ReadError::Malformed)?;
            let (key, value) = (key.trim(), value.trim());
            let place = match key {
                "sequence" => 0,
                "interval_ms" => 1,
                "energy_uj" => 2,
                "max_energy_range_uj" => 3,
                "max_power_w" => 4,
                "celsius" => 5,
                "quality" => 6,
                _ => continue,
            };
            if seen >> place & 1 == 1 {
                return Err(ReadError::Malformed);
            }
            seen |= 1 << place;
            let count = || value.parse::<u64>().map_err(|_| ReadError::Malformed);
            let real = || value.parse::<f64>().ok().filter(|value| value.is_finite()).ok_or(ReadError::Malformed);
            match place {
                0 => report.sequence = count()?,
                1 => report.interval_ms = u32::try_from(count()?).map_err(|_| ReadError::Impossible)?.max(1),
                2 => report.energy_uj = Some(count()?),
                3 => report.max_energy_range_uj = count()?,
                4 => report.max_power = Watts(real()?),
                5 => report.celsius = Some(Celsius(real()?)),
                _ => report.quality = quality(value).ok_or(ReadError::Malformed)?,
            }
        }
        let told = report.energy_uj.is_some() || report.celsius.is_some();
        // Without a sequence, a writer that died could not be told from one that lives.
        if seen & 1 == 1 && told { Ok(report) } else { Err(ReadError::Malformed) }
    }
}

fn quality(word: &str) -> Option<Quality> {
    [Quality::Measured, Quality::Filtered, Quality::Modelled].into_iter().find(|quality| quality.name() == word)
}

/// The file, as a reader sees it.
#[derive(Debug)]
struct HostFile {
    path: CString,
    /// The open file, and which file that is.
    open: Option<(rustix::fd::OwnedFd, u64, u64)>,
    /// The last report, and when it came.
    last: Option<(HostReport, u64)>,
}

impl HostFile {
    fn at(path: &Path) -> Result<Self, ReadError> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| ReadError::Missing)?;
        Ok(Self { path, open: None, last: None })
    }

    /// Looks at the file and answers its report, and whether it is another than last time.
    fn poll(&mut self, now_us: u64) -> Result<(HostReport, bool), ReadError> {
        let stat = rustix::fs::stat(&*self.path)?;
        if self.open.as_ref().is_none_or(|(_, device, inode)| (*device, *inode) != (stat.st_dev, stat.st_ino)) {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
            self.open = Some((rustix::fs::open(&*self.path, flags, Mode::empty())?, stat.st_dev, stat.st_ino));
        }
        let Some((file, ..)) = &self.open else { return Err(ReadError::Missing) };
        let mut buffer = [0; MOST_BYTES];
        let length = pread(file, &mut buffer, 0)?;
        if length == MOST_BYTES {
            return Err(ReadError::Malformed);
        }
        let report = HostReport::parse(&buffer[..length])?;
        let new = self.last.is_none_or(|(last, _)| last.sequence != report.sequence);
        if new {
            self.last = Some((report, now_us));
        }
        Ok((report, new))
    }

    fn age_us(&self, now_us: u64) -> u64 {
        self.last.map_or(u64::MAX, |(_, at_us)| now_us.saturating_sub(at_us))
    }
}

/// The energy in a host's file.
#[derive(Debug)]
pub(crate) struct HostEnergy {
    file: HostFile,
    smooth: TruedUp,
    quality: Quality,
}

impl HostEnergy {
    /// The count at `now_us`, in nanojoules.
    pub(crate) fn count(&mut self, now_us: u64) -> Result<u64, ReadError> {
        let (report, new) = self.file.poll(now_us)?;
        if report.quality != self.quality {
            // What was measured must not go on as measured when it is not.
            return Err(ReadError::Gone);
        }
        let raw = report.energy_uj.ok_or(ReadError::Missing)?;
        if new && !self.smooth.observe(raw, None, now_us) {
            return Err(ReadError::Impossible);
        }
        Ok(self.smooth.shown(now_us))
    }

    pub(crate) fn age_us(&self, now_us: u64) -> u64 {
        self.file.age_us(now_us)
    }
}

/// The temperature in a host's file.
#[derive(Debug)]
pub(crate) struct HostTemperature {
    file: HostFile,
    quality: Quality,
}

impl HostTemperature {
    /// Whether something new is written within so many milliseconds.
    pub(crate) fn is_written(&mut self, patience_ms: u32) -> bool {
        let sequence = |host: &mut Self| host.file.poll(0).ok().map(|(report, _)| report.sequence);
        let first = sequence(self);
        let written = (0..patience_ms).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            sequence(self) != first
        });
        // The first look of the reader is the first report.
        self.file.last = None;
        written
    }

    pub(crate) fn celsius(&mut self, now_us: u64) -> Result<f64, ReadError> {
        let (report, _) = self.file.poll(now_us)?;
        if report.quality != self.quality {
            return Err(ReadError::Gone);
        }
        report.celsius.map(|celsius| celsius.0).ok_or(ReadError::Missing)
    }

    pub(crate) fn age_us(&self, now_us: u64) -> u64 {
        self.file.age_us(now_us)
    }
}

fn obstacle(path: &Path, error: ReadError) -> Obstacle {
    let remedy = match error {
        ReadError::Missing => "let the host write it, or name another: --sensor file:/path",
        ReadError::Denied => "let the host make it readable: chmod a+r",
        _ => "let the host write the format of docs/sensors.md, version 1",
    };
    Obstacle::new(format!("{} {error}", path.display()), Some(remedy))
}

fn none(source: Source) -> Obstacle {
    debug_assert_eq!(source, Source::File);
    Obstacle::new("no file of a host was named", Some("--sensor file:/path, with a file that the host writes"))
}

/// Opens the host's file for its energy.
pub(crate) fn attempt(path: Option<&Path>) -> Attempt<Bank> {
    let (source, kind) = (Source::File, "file");
    let Some(path) = path else { return Attempt::absent(source, kind, none(source)) };
    let open = || -> Result<Bank, ReadError> {
        let mut file = HostFile::at(path)?;
        let (report, _) = file.poll(0)?;
        let raw = report.energy_uj.ok_or(ReadError::Missing)?;
        // The first look of the bank is the first report.
        file.last = None;
        let spec = CounterSpec::microjoules(report.max_energy_range_uj.max(raw));
        let smooth = TruedUp::new(spec, report.max_power, report.interval_ms);
        let counter = Counter {
            domain: Domain::Machine,
            source,
            quality: report.quality,
            spec: CounterSpec::NANOJOULES,
            // What is shown catches up at once with what it was behind.
            max_power: Watts(report.max_power.0 * 2.0),
            refresh_ms: report.interval_ms,
        };
        let host = HostEnergy { file, smooth, quality: report.quality };
        Ok(Bank::new(source, vec![Channel::new(counter, Port::Host)]).with_host(host))
    };
    match open() {
        Ok(bank) => Attempt::usable(source, kind, vec![item(path, "energy_uj")], bank),
        Err(error) => Attempt::unusable(source, kind, Vec::new(), obstacle(path, error)),
    }
}

/// Opens the host's file for its temperature.
pub(crate) fn thermometer(path: Option<&Path>) -> Attempt<Thermometer> {
    let (source, kind) = (Source::File, "file");
    let Some(path) = path else { return Attempt::absent(source, kind, none(source)) };
    let open = || -> Result<Thermometer, ReadError> {
        let mut file = HostFile::at(path)?;
        let (report, _) = file.poll(0)?;
        report.celsius.ok_or(ReadError::Missing)?;
        file.last = None;
        let eye = Eye::Host(HostTemperature { file, quality: report.quality });
        Ok(Thermometer::new(source, kind, report.quality, report.interval_ms, vec![eye]))
    };
    match open() {
        Ok(thermometer) => Attempt::usable(source, kind, vec![item(path, "celsius")], thermometer),
        Err(error) => Attempt::unusable(source, kind, Vec::new(), obstacle(path, error)),
    }
}

fn item(path: &Path, name: &str) -> Item {
    Item { name: name.to_owned(), path: path.display().to_string(), counted: true, note: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host");
        let report = HostReport {
            sequence: 7,
            interval_ms: 50,
            energy_uj: Some(123_456),
            max_energy_range_uj: 262_143_328_850,
            max_power: Watts(280.0),
            celsius: Some(Celsius(54.5)),
            quality: Quality::Filtered,
        };
        write(&path, &report).unwrap();
        assert_eq!(HostReport::parse(&std::fs::read(&path).unwrap()), Ok(report));
        let little = HostReport { sequence: 1, celsius: Some(Celsius(-3.0)), ..HostReport::default() };
        write(&path, &little).unwrap();
        assert_eq!(HostReport::parse(&std::fs::read(&path).unwrap()), Ok(little));
    }

    #[test]
    fn anything_else_is_refused() {
        let good = "maxwell-sensor 1\nsequence=1\ncelsius=50\n";
        assert!(HostReport::parse(good.as_bytes()).is_ok());
        assert!(HostReport::parse(format!("{good}later_key=x y z\n").as_bytes()).is_ok(), "the format can grow");
        for bad in [
            "",
            "maxwell-sensor 2\nsequence=1\ncelsius=50\n",
            "maxwell-sensor 1\nsequence=1\n",
            "maxwell-sensor 1\ncelsius=50\n",
            "maxwell-sensor 1\nsequence=1\ncelsius=NaN\n",
            "maxwell-sensor 1\nsequence=1\ncelsius=50\ncelsius=51\n",
            "maxwell-sensor 1\nsequence=-1\ncelsius=50\n",
            "maxwell-sensor 1\nsequence=1\nenergy_uj=1e9\n",
            "maxwell-sensor 1\nsequence=1\ncelsius=50\nquality=good\n",
            "maxwell-sensor 1\nsequence=1\ncelsius=50\nhalf a li",
        ] {
            assert_eq!(HostReport::parse(bad.as_bytes()), Err(ReadError::Malformed), "{bad:?}");
        }
        assert_eq!(HostReport::parse(b"maxwell-sensor 1\n\xff\xfe"), Err(ReadError::Malformed));
    }
}
