//! The place under which a machine's files are looked for, and descriptors that stay open.
//!
//! ```text
//!  Root "/"          /sys/class/powercap/…   /dev/cpu/3/msr  (a device: pread at the register's number)    perf_event_open
//!  Root "/tmp/tree"  …/sys/class/powercap/…  …/dev/cpu/3/msr/611  (a folder: eight bytes a register)       …/perf/TYPE:CONFIG:CPU
//!                          │                       │                                                          │
//!                          └───────────────────────┴────────── Kept: one descriptor, read by pread ───────────┘
//! ```
//!
//! Everything that looks at hardware takes the root as a parameter, so that a tree of files can stand for any machine.
//! What the files hold is not trusted: reads are bounded, and content that is empty, binary, negative, too long or
//! followed by anything but white space is an error and never a number.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::io::{Errno, pread};
use serde::Serialize;

/// No text file that describes a machine is longer, but for `/proc/cpuinfo` of machines with very many cores, of which the
/// first processor is enough.
const MOST_TEXT: usize = 64 * 1024;
/// No folder of sensors has more entries.
const MOST_ENTRIES: usize = 8_192;
/// Twenty digits, a sign, a line feed, and one byte that tells that there is more.
const MOST_DIGITS: usize = 23;

/// Why a file of the machine gave no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum ReadError {
    /// does not exist
    #[error("does not exist")]
    Missing,
    /// permission denied
    #[error("permission denied")]
    Denied,
    /// the device is gone
    #[error("the device is gone")]
    Gone,
    /// holds no number
    #[error("holds no number")]
    Malformed,
    /// holds an impossible value
    #[error("holds an impossible value")]
    Impossible,
    /// could not be read
    #[error("could not be read (error {0})")]
    Io(i32),
}

impl From<Errno> for ReadError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::Missing,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            Errno::NODEV | Errno::NXIO => Self::Gone,
            other => Self::Io(other.raw_os_error()),
        }
    }
}

impl From<std::io::Error> for ReadError {
    fn from(error: std::io::Error) -> Self {
        Errno::from_io_error(&error).map_or(Self::Io(0), Self::from)
    }
}

/// Where `/sys`, `/dev` and `/proc` are.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
    /// Devices are devices, not files that stand for them.
    real: bool,
}

impl Root {
    /// This machine.
    #[must_use]
    pub fn machine() -> Self {
        Self { path: PathBuf::from("/"), real: true }
    }

    /// A tree of files that stands for a machine.
    #[must_use]
    pub fn tree(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), real: false }
    }

    /// Whether this is a machine, not a tree of files.
    #[must_use]
    pub fn is_machine(&self) -> bool {
        self.real
    }

    /// Where `relative` lies (`sys/class/powercap`).
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.path.join(relative)
    }

    /// Whether there is anything at `relative`.
    #[must_use]
    pub fn exists(&self, relative: &str) -> bool {
        self.path(relative).exists()
    }

    /// The text of a small file, without the white space around it; at most its first 64 KiB.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; text that is not UTF-8 is malformed.
    pub fn text(&self, relative: &str) -> Result<String, ReadError> {
        let file = File::open(self.path(relative))?;
        let mut bytes = vec![0; MOST_TEXT];
        let mut length = 0;
        while length < bytes.len() {
            match pread(&file, &mut bytes[length..], length as u64)? {
                0 => break,
                more => length += more,
            }
        }
        let whole = length < bytes.len();
        bytes.truncate(length);
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            // The bound may have cut a character in two.
            Err(error) if !whole && error.utf8_error().error_len().is_none() => {
                String::from_utf8_lossy(error.as_bytes()).into_owned()
            }
            Err(_) => return Err(ReadError::Malformed),
        };
        Ok(text.trim().to_owned())
    }

    /// The number that a small file holds.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn number(&self, relative: &str) -> Result<u64, ReadError> {
        self.keep(relative)?.number()
    }

    /// The names in a folder, sorted so that `hwmon10` comes after `hwmon9`; nothing if it cannot be read.
    #[must_use]
    pub fn names(&self, relative: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(relative)) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .take(MOST_ENTRIES)
            .filter_map(|entry| entry.ok().and_then(|entry| entry.file_name().into_string().ok()))
            .collect();
        names.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        names
    }

    /// Opens a file and keeps it.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if it cannot be opened; it is not read yet.
    pub fn keep(&self, relative: &str) -> Result<Kept, ReadError> {
        Kept::open(&self.path(relative))
    }

    /// Opens a model-specific register of a processor: on a machine the device, in a tree the register's own file.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; opening the device succeeds for registers that do not exist, reading them fails.
    pub fn register(&self, cpu: u32, register: u32) -> Result<Register, ReadError> {
        let device = format!("dev/cpu/{cpu}/msr");
        let (path, offset) = if self.real { (device, register) } else { (format!("{device}/{register:x}"), 0) };
        Ok(Register { kept: self.keep(&path)?, offset: u64::from(offset) })
    }
}

/// A file that stays open and is read from its beginning each time.
#[derive(Debug)]
pub struct Kept(OwnedFd);

impl Kept {
    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Ok(Self(File::open(path)?.into()))
    }

    /// Reads from the beginning into `buffer` and answers how many bytes there were. Allocates nothing.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn bytes<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a [u8], ReadError> {
        let length = pread(&self.0, &mut *buffer, 0)?;
        Ok(&buffer[..length])
    }

    /// The decimal number that the file holds now.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn number(&self) -> Result<u64, ReadError> {
        digits(trimmed(self.bytes(&mut [0; MOST_DIGITS])?)?)
    }

    /// The decimal number, which may be negative, that the file holds now.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn signed(&self) -> Result<i64, ReadError> {
        let mut buffer = [0; MOST_DIGITS];
        let text = trimmed(self.bytes(&mut buffer)?)?;
        let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
        let number = i64::try_from(digits(text)?).map_err(|_| ReadError::Impossible)?;
        Ok(if negative { -number } else { number })
    }

    /// Eight bytes at `offset`, the lowest first.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; fewer than eight bytes are malformed.
    pub fn word(&self, offset: u64) -> Result<u64, ReadError> {
        let mut bytes = [0; 8];
        match pread(&self.0, &mut bytes, offset)? {
            8 => Ok(u64::from_le_bytes(bytes)),
            _ => Err(ReadError::Malformed),
        }
    }
}

/// A model-specific register that stays open.
#[derive(Debug)]
pub struct Register {
    kept: Kept,
    offset: u64,
}

impl Register {
    /// What it holds now.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; `Io` is what the device answers for a register that the processor does not have.
    pub fn read(&self) -> Result<u64, ReadError> {
        self.kept.word(self.offset)
    }
}

/// A whole text without white space at its end. A buffer that is full did not hold all of it.
fn trimmed(text: &[u8]) -> Result<&[u8], ReadError> {
    if text.len() == MOST_DIGITS { Err(ReadError::Malformed) } else { Ok(text.trim_ascii()) }
}

fn digits(text: &[u8]) -> Result<u64, ReadError> {
    if text.is_empty() {
        return Err(ReadError::Malformed);
    }
    text.iter().try_fold(0_u64, |number, byte| match byte {
        b'0'..=b'9' => number
            .checked_mul(10)
            .and_then(|number| number.checked_add(u64::from(byte - b'0')))
            .ok_or(ReadError::Impossible),
        _ => Err(ReadError::Malformed),
    })
}

/// A list of processors as the kernel writes it: `0,2-4`. At most `most` of them.
pub(crate) fn cpu_list(text: &str, most: usize) -> Result<Vec<u32>, ReadError> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let parse = |text: &str| text.trim().parse::<u32>().map_err(|_| ReadError::Malformed);
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        for cpu in parse(first)?..=parse(last)? {
            if cpus.len() == most {
                return Err(ReadError::Impossible);
            }
            cpus.push(cpu);
        }
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(content: &[u8]) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("it"), content).unwrap();
        let root = Root::tree(folder.path());
        (folder, root)
    }

    #[test]
    fn only_a_number_is_a_number() {
        let cases: [(&[u8], Result<u64, ReadError>); 12] = [
            (b"42\n", Ok(42)),
            (b"0", Ok(0)),
            (b"  7 \n", Ok(7)),
            (b"18446744073709551615\n", Ok(u64::MAX)),
            (b"18446744073709551616\n", Err(ReadError::Impossible)),
            (b"", Err(ReadError::Malformed)),
            (b"\n", Err(ReadError::Malformed)),
            (b"-1\n", Err(ReadError::Malformed)),
            (b"12 J\n", Err(ReadError::Malformed)),
            (b"\x00\xff\x12", Err(ReadError::Malformed)),
            (b"0x12", Err(ReadError::Malformed)),
            (b"00000000000000000000000000000000000000007", Err(ReadError::Malformed)),
        ];
        for (content, number) in cases {
            let (_folder, root) = holding(content);
            assert_eq!(root.number("it"), number, "{content:?}");
        }
    }

    #[test]
    fn a_temperature_may_be_negative() {
        for (content, number) in [("-40000\n", Ok(-40_000)), ("51000", Ok(51_000)), ("--1", Err(ReadError::Malformed))]
        {
            let (_folder, root) = holding(content.as_bytes());
            assert_eq!(root.keep("it").unwrap().signed(), number);
        }
    }

    #[test]
    fn a_kept_file_shows_what_was_written_since() {
        let (folder, root) = holding(b"1\n");
        let kept = root.keep("it").unwrap();
        assert_eq!(kept.number(), Ok(1));
        std::fs::write(folder.path().join("it"), "2\n").unwrap();
        assert_eq!(kept.number(), Ok(2));
        std::fs::write(folder.path().join("it"), "").unwrap();
        assert_eq!(kept.number(), Err(ReadError::Malformed));
    }

    #[test]
    fn a_register_of_a_tree_is_a_file_of_eight_bytes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("dev/cpu/3/msr")).unwrap();
        std::fs::write(folder.path().join("dev/cpu/3/msr/611"), 0x1234_5678_9abc_u64.to_le_bytes()).unwrap();
        std::fs::write(folder.path().join("dev/cpu/3/msr/619"), [1, 2, 3]).unwrap();
        let root = Root::tree(folder.path());
        assert_eq!(root.register(3, 0x611).unwrap().read(), Ok(0x1234_5678_9abc));
        assert_eq!(root.register(3, 0x619).unwrap().read(), Err(ReadError::Malformed));
        assert_eq!(root.register(3, 0x606).unwrap_err(), ReadError::Missing);
    }

    #[test]
    fn lists_of_processors() {
        assert_eq!(cpu_list("0,2-4\n", 16), Ok(vec![0, 2, 3, 4]));
        assert_eq!(cpu_list("", 16), Ok(vec![]));
        assert_eq!(cpu_list("0-4000000000", 16), Err(ReadError::Impossible));
        assert_eq!(cpu_list("a", 16), Err(ReadError::Malformed));
    }
}
