//! A recording: every fact that the market was told, and what it decided.
//!
//! ```text
//! "MAXWREC1" | block: policy | frame … frame | u32 zero, state hash (32 bytes)
//!                              frame: block: tick input | chain (32 bytes)
//!              block: u32 length, bytes, first 8 bytes of their BLAKE3 hash
//! ```
//!
//! Integers are little-endian; policy and inputs are [postcard](https://postcard.jamesmunns.com/wire-format). The chain
//! after each frame is the market's hash over all decisions so far, so a replay names the first tick that differs.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use maxwell_core::market::{Market, MarketPolicy, Outcome, TickInput};

const MAGIC: &[u8; 8] = b"MAXWREC3";
/// The largest policy or tick input that is believed: a recording is a hostile file.
const MOST: u32 = 64 << 20;
/// Frames that may wait for the disk. A second's worth of ticks is 100.
const QUEUE: usize = 1_000;

/// What went wrong with a recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file could not be written.
    #[error("the recording {path} could not be written: {source}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file could not be read.
    #[error("the recording {path} could not be read: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a recording, or damaged.
    #[error("{path} is not a whole recording: {what}. Was it made by `maxwell run --record`, and did that run end?")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The disk was slower than the market.
    #[error("the recording {path} is incomplete: the disk could not keep up; record to a faster one")]
    TooSlow {
        /// Which file.
        path: PathBuf,
    },
    /// The market decided otherwise than recorded.
    #[error("the replay differs from the recording at tick {tick}: decisions {replayed}, recorded {recorded}")]
    Differs {
        /// The first tick that differs.
        tick: u64,
        /// The replayed chain.
        replayed: String,
        /// The recorded chain.
        recorded: String,
    },
    /// All decisions are equal but the final state is not.
    #[error("every decision is as recorded, but the final state hash is {replayed}, recorded {recorded}")]
    StateDiffers {
        /// The replayed hash.
        replayed: String,
        /// The recorded hash.
        recorded: String,
    },
}

/// Writes a recording on a thread of its own.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    frames: Option<SyncSender<Vec<u8>>>,
    writer: Option<JoinHandle<std::io::Result<()>>>,
    overflowed: bool,
}

impl Recorder {
    /// Starts a recording.
    ///
    /// # Errors
    ///
    /// [`RecordingError::Write`] if the file cannot be made.
    pub fn create(path: &Path, policy: &MarketPolicy) -> Result<Self, RecordingError> {
        let write = |source| RecordingError::Write { path: path.to_owned(), source };
        let mut file = BufWriter::new(File::create(path).map_err(write)?);
        let policy = postcard::to_stdvec(policy).expect("a policy is plain data");
        let mut header = MAGIC.to_vec();
        write_block(&mut header, &policy);
        file.write_all(&header).map_err(write)?;
        let (frames, queue) = sync_channel::<Vec<u8>>(QUEUE);
        let writer = std::thread::Builder::new()
            .name("maxwell-recorder".into())
            .spawn(move || {
                for frame in queue {
                    file.write_all(&frame)?;
                }
                file.flush()?;
                file.get_ref().sync_all()
            })
            .map_err(write)?;
        Ok(Self { path: path.to_owned(), frames: Some(frames), writer: Some(writer), overflowed: false })
    }

    /// Adds a tick: its input, and the chain after it. Never waits.
    pub fn tick(&mut self, input: &TickInput, chain: &[u8; 32]) {
        let input = postcard::to_stdvec(input).expect("an input is plain data");
        let mut frame = Vec::with_capacity(input.len() + 48);
        write_block(&mut frame, &input);
        frame.extend_from_slice(chain);
        self.send(frame);
    }

    fn send(&mut self, frame: Vec<u8>) {
        let sent = self.frames.as_ref().map(|frames| frames.try_send(frame));
        if let Some(Err(TrySendError::Full(_))) = sent {
            // A recording with a hole is worthless; end it here and say so at the end.
            self.overflowed = true;
            self.frames = None;
        }
    }

    /// Ends the recording and waits until it is on disk.
    ///
    /// # Errors
    ///
    /// [`RecordingError::TooSlow`] or [`RecordingError::Write`]: the file is not a whole recording.
    pub fn finish(mut self, state_hash: &[u8; 32]) -> Result<(), RecordingError> {
        let mut end = vec![0; 4];
        end.extend_from_slice(state_hash);
        self.send(end);
        self.frames = None;
        let written = self.writer.take().map(JoinHandle::join);
        if self.overflowed {
            return Err(RecordingError::TooSlow { path: self.path.clone() });
        }
        match written {
            Some(Ok(Err(source))) => Err(RecordingError::Write { path: self.path.clone(), source }),
            _ => Ok(()),
        }
    }
}

fn write_block(to: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("a block is far below 4 GiB");
    to.extend_from_slice(&length.to_le_bytes());
    to.extend_from_slice(bytes);
    to.extend_from_slice(&checksum(bytes));
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    let hash = blake3::hash(bytes);
    hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes")
}

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Ticks carried out.
    pub ticks: u64,
    /// The final state, equal to the recorded one.
    pub state_hash: String,
}

/// Runs a recording through the market again and compares every decision.
///
/// # Errors
///
/// What is wrong with the file, or the first tick whose decisions differ.
pub fn replay(path: &Path) -> Result<Replayed, RecordingError> {
    let read = |source| RecordingError::Read { path: path.to_owned(), source };
    let damaged = |what: String| RecordingError::Damaged { path: path.to_owned(), what };
    let mut file = BufReader::new(File::open(path).map_err(read)?);
    let mut magic = [0; 8];
    file.read_exact(&mut magic).map_err(|_| damaged("it is too short".into()))?;
    if &magic != MAGIC {
        return Err(damaged("it does not begin with `MAXWREC1`".into()));
    }
    let policy = block(&mut file).map_err(&damaged)?.ok_or_else(|| damaged("it has no policy".into()))?;
    let policy: MarketPolicy =
        postcard::from_bytes(&policy).map_err(|error| damaged(format!("its policy cannot be read ({error})")))?;
    policy.check().map_err(|error| damaged(error.to_string()))?;
    let mut market = Market::new(policy);
    let mut out = Outcome::default();
    let mut ticks = 0;
    while let Some(input) = block(&mut file).map_err(&damaged)? {
        let input: TickInput = postcard::from_bytes(&input)
            .map_err(|error| damaged(format!("the input after {ticks} ticks cannot be read ({error})")))?;
        let recorded = hash(&mut file).map_err(&damaged)?;
        market.tick(&input, &mut out).map_err(|error| damaged(error.to_string()))?;
        ticks += 1;
        if out.chain != recorded {
            let (replayed, recorded) = (crate::report::hex(&out.chain), crate::report::hex(&recorded));
            return Err(RecordingError::Differs { tick: input.tick.0, replayed, recorded });
        }
    }
    let recorded = hash(&mut file).map_err(&damaged)?;
    let state = market.state_hash();
    let (replayed, recorded_hex) = (crate::report::hex(&state), crate::report::hex(&recorded));
    if state != recorded {
        return Err(RecordingError::StateDiffers { replayed, recorded: recorded_hex });
    }
    Ok(Replayed { ticks, state_hash: replayed })
}

/// A block's bytes; `None` for a length of zero.
fn block(file: &mut impl Read) -> Result<Option<Vec<u8>>, String> {
    let mut length = [0; 4];
    file.read_exact(&mut length).map_err(|_| "it ends in the middle".to_owned())?;
    let length = u32::from_le_bytes(length);
    if length == 0 {
        return Ok(None);
    }
    if length > MOST {
        return Err(format!("a part of it claims to be {length} bytes long"));
    }
    let mut bytes = Vec::new();
    let got = file.take(u64::from(length)).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if got < length as usize {
        return Err("it ends in the middle".into());
    }
    let mut expected = [0; 8];
    file.read_exact(&mut expected).map_err(|_| "it ends in the middle".to_owned())?;
    if checksum(&bytes) != expected {
        return Err("a checksum is wrong".into());
    }
    Ok(Some(bytes))
}

fn hash(file: &mut impl Read) -> Result<[u8; 32], String> {
    let mut hash = [0; 32];
    file.read_exact(&mut hash).map_err(|_| "it ends in the middle".to_owned())?;
    Ok(hash)
}
