//! Commands under `maxwell exec`: started, watched, ended in any case, and looked for afterwards.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Nothing here takes longer, however loaded the machine is.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// Of the environment of everything that is started: by it, what is left is found.
const MARK: &str = "MAXWELL_TEST_MARK";

static MARKS: AtomicU64 = AtomicU64::new(0);

/// Whether these tests can run here; says why not.
pub fn cannot() -> bool {
    let why = if !rustix::process::geteuid().is_root() {
        "not root"
    } else if !has_groups() {
        "no cgroup v2"
    } else if !has("python3") {
        "no python3"
    } else {
        return false;
    };
    println!("skipped: {why}");
    true
}

/// Whether a program is there.
pub fn has(program: &str) -> bool {
    std::env::var("PATH").is_ok_and(|path| path.split(':').any(|folder| Path::new(folder).join(program).exists()))
}

fn has_groups() -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.contains(" - cgroup2 "))
}

/// A command to be.
pub struct Order {
    command: Command,
    mark: String,
    folder: tempfile::TempDir,
    input: Vec<u8>,
}

/// `maxwell exec OPTIONS --json FILE -- WORDS`
pub fn order(options: &[&str], words: &[&str]) -> Order {
    order_of(Command::new(env!("CARGO_BIN_EXE_maxwell")), options, words)
}

/// The same, of a Maxwell that something else starts.
pub fn order_of(mut command: Command, options: &[&str], words: &[&str]) -> Order {
    let mark = format!("{}-{}", std::process::id(), MARKS.fetch_add(1, Ordering::Relaxed));
    let folder = tempfile::tempdir().unwrap();
    // Whoever Maxwell runs as, it can write here.
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    command.arg("exec").args(options);
    if !options.contains(&"--json") && !options.contains(&"-q") {
        command.arg("--json").arg(folder.path().join("summary.json"));
    }
    command.arg("--").args(words);
    command.env(MARK, &mark).current_dir(folder.path()).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Order { command, mark, folder, input: Vec::new() }
}

/// Runs it to its end.
pub fn run(options: &[&str], words: &[&str]) -> Done {
    order(options, words).start().end()
}

impl Order {
    pub fn input(mut self, bytes: &[u8]) -> Self {
        self.command.stdin(Stdio::piped());
        self.input = bytes.to_vec();
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub fn start(self) -> Started {
        let Self { mut command, mark, folder, input } = self;
        let mut child = command.spawn().unwrap();
        if let Some(mut stdin) = child.stdin.take() {
            // It may end without reading.
            std::thread::spawn(move || drop(stdin.write_all(&input)));
        }
        let (stdout, stderr) = (Stream::of(child.stdout.take()), Stream::of(child.stderr.take()));
        Started { child, mark, folder, stdout, stderr, until: Instant::now() + PATIENCE }
    }
}

/// What a process writes, read by a thread.
struct Stream {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Stream {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&text);
        let reader = pipe.map(|mut pipe| {
            std::thread::spawn(move || {
                let mut block = vec![0; 1 << 16];
                while let Ok(length @ 1..) = pipe.read(&mut block) {
                    held(&to).extend(&block[..length]);
                }
            })
        });
        Self { text, reader }
    }

    fn all(mut self) -> Vec<u8> {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        std::mem::take(&mut *held(&self.text))
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A Maxwell that runs. Killed by its number if a test fails.
pub struct Started {
    child: Child,
    mark: String,
    folder: tempfile::TempDir,
    stdout: Stream,
    stderr: Stream,
    until: Instant,
}

impl Started {
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits until it has written `word` to stdout.
    pub fn says(&mut self, word: &str) {
        self.until(word, |all| {
            let text = held(&all.stdout.text);
            text.windows(word.len()).any(|there| there == word.as_bytes())
        });
    }

    /// What it has written to stdout so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&held(&self.stdout.text)).into_owned()
    }

    /// Waits until `done`.
    pub fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let ended = self.child.try_wait().unwrap();
            let stderr = String::from_utf8_lossy(&held(&self.stderr.text)).into_owned();
            assert!(ended.is_none(), "{what}: it ended before, {ended:?}: {stderr}");
            assert!(Instant::now() < self.until, "{what}: not in time: {stderr}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Processes that it started, and itself, without its keeper.
    pub fn processes(&self) -> Vec<Pid> {
        marked(&self.mark)
    }

    /// The process that cleans up when it is killed.
    pub fn keeper(&self) -> Pid {
        let parent = format!("PPid:\t{}\n", self.child.id());
        let is_keeper = |pid: &Pid| {
            let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default();
            status.starts_with("Name:\tmaxwell-keeper") && status.contains(&parent)
        };
        all().into_iter().find(is_keeper).expect("it has a keeper")
    }

    /// Waits for its end.
    pub fn end(mut self) -> Done {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < self.until, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let stream = |stream: &mut Stream| std::mem::replace(stream, Stream::of(None::<std::io::Empty>)).all();
        // What it left behind holds the pipes.
        nothing_left(&self.mark, self.child.id());
        Done {
            code: status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)),
            stdout: stream(&mut self.stdout),
            stderr: String::from_utf8_lossy(&stream(&mut self.stderr)).into_owned(),
            summary: fs::read_to_string(self.folder.path().join("summary.json"))
                .ok()
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or(Value::Null),
        }
    }

    /// Waits for its end, and no longer: it leaves something behind.
    pub fn die(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Nothing of it is left, or will be in a moment.
    pub fn is_gone(&self) {
        nothing_left(&self.mark, self.child.id());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Not waited for yet, so the number is its own.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// One that has ended, with nothing left behind.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub summary: Value,
}

impl Done {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn joules(&self, field: &str) -> f64 {
        self.number(field) * 1e-9
    }

    /// A number about the agent.
    pub fn number(&self, field: &str) -> f64 {
        self.summary["agent"][field].as_f64().unwrap_or_else(|| panic!("no {field} in {self:?}"))
    }

    pub fn spent(&self) -> f64 {
        self.joules("paid_nj") + self.joules("tax_nj") + self.joules("rent_nj")
    }

    pub fn core_seconds(&self) -> f64 {
        self.number("core_us") * 1e-6
    }

    /// What a core burns, in watts.
    pub fn par(&self) -> f64 {
        self.summary["par_mw"].as_f64().unwrap() * 1e-3
    }
}

fn all() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Processes that were started with a mark in their environment, and have not ended.
fn marked(mark: &str) -> Vec<Pid> {
    let line = format!("{MARK}={mark}").into_bytes();
    let has_mark = |pid: &Pid| {
        let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|pair| pair == line)
    };
    all().into_iter().filter(has_mark).collect()
}

/// Directories of groups of the Maxwell with this number.
fn groups(maxwell: u32) -> Vec<PathBuf> {
    let (prefix, mut found) = (format!("{maxwell}-"), Vec::new());
    let mut folders = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with(&prefix) && path.parent().unwrap().ends_with("maxwell") {
                found.push(path.clone());
            }
            if depth < 4 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push((path, depth + 1));
            }
        }
    }
    found
}

/// No process, no group and no socket is left, at the latest in a moment: a keeper needs one.
fn nothing_left(mark: &str, maxwell: u32) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let (processes, groups) = (marked(mark), groups(maxwell));
        if processes.is_empty() && groups.is_empty() {
            break;
        }
        if Instant::now() >= until {
            for pid in &processes {
                let _ = kill_process(*pid, Signal::KILL);
            }
            panic!("left behind: processes {processes:?}, groups {groups:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
