//! `maxwell exec` as its hostile new user meets it: streams, codes, budgets, trees of processes that do not want to end.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tests work with small numbers, and a failure to unwrap is a failure of the test"
)]

mod maxwell;

use std::process::Command;
use std::time::{Duration, Instant};

use maxwell::alone;
use maxwell::exec::{Done, Started, cannot, has, order, order_of, run};
use rustix::process::{Signal, kill_process, kill_process_group};

const RICH: &str = "500J";
/// Keeps as many cores busy as there are.
const SPIN: &str = "while :; do :; done & while :; do :; done & while :; do :; done & wait";

#[test]
fn streams_pass_through_and_nothing_of_ours_is_on_stdout() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let bytes: Vec<u8> = (0..8_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let done = order(&["--budget", RICH], &["cat"]).input(&bytes).start().end();
    assert_eq!((done.code, done.stdout.len()), (0, bytes.len()), "{}", done.stderr);
    assert!(done.stdout == bytes, "the bytes differ");

    let done = run(&["--budget", RICH, "-q"], &["sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((done.text().as_str(), done.stderr.as_str()), ("out\n", "err\n"));
    // The summary goes to stderr, and as JSON if asked.
    let done = run(&["--budget", RICH, "--json", "-"], &["echo", "out"]);
    let summary: serde_json::Value = serde_json::from_str(&done.stderr).unwrap();
    assert_eq!((done.text().as_str(), summary["ended"].as_str()), ("out\n", Some("finished")));
    assert_eq!(summary["command"], serde_json::json!(["echo", "out"]));
    assert_eq!(run(&["--budget", RICH], &["true"]).summary["exit_code"], 0);
}

#[test]
fn closed_streams_and_readers_that_go_away_are_as_without_us() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let shell = |script: &str| {
        let mut shell = Command::new("bash");
        shell.args(["-c", script, env!("CARGO_BIN_EXE_maxwell")]);
        order_of(shell, &["--budget", RICH, "-q"], &["cat"]).start().end()
    };
    // `cat` of a closed descriptor, and of one that ends at once.
    let done = shell("\"$0\" \"$@\" <&-");
    assert_eq!((done.code, done.text().as_str()), (0, ""), "{}", done.stderr);
    let done = shell("\"$0\" exec --budget 500J -q -- yes | head -1; exit ${PIPESTATUS[0]}");
    assert_eq!((done.code, done.text().as_str()), (128 + 13, "y\n"), "{}", done.stderr);
    // Words that are no text, and words that look like ours, arrive.
    let done = shell("\"$0\" exec --budget 500J -q printf '%s|' $'\\xff' -- --budget");
    assert_eq!(done.stdout, b"\xff|--|--budget|", "{}", done.stderr);
}

#[test]
fn exit_codes_are_those_of_the_command_and_of_env() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let code = |words: &[&str]| run(&["--budget", RICH, "-q"], words).code;
    for given in [0, 1, 2, 75, 125, 127, 128, 255] {
        assert_eq!(code(&["sh", "-c", &format!("exit {given}")]), given);
    }
    for signal in [1, 2, 9, 11, 13, 15] {
        assert_eq!(code(&["sh", "-c", &format!("kill -{signal} $$")]), 128 + signal);
    }
    for (words, expected, why) in [
        (&["/no/such"][..], 127, "'/no/such': No such file"),
        (&["no-such-program"], 127, "'no-such-program': No such file"),
        (&["/etc/passwd"], 126, "'/etc/passwd': Permission denied"),
        (&["/"], 126, "'/': Permission denied"),
    ] {
        let done = run(&["--budget", RICH], words);
        assert_eq!(done.code, expected, "{}", done.stderr);
        assert!(done.stderr.contains(why) && done.stderr.lines().count() == 1, "{}", done.stderr);
    }
}

#[test]
fn mistakes_are_told_in_a_line() {
    let _alone = alone();
    if cannot() {
        return;
    }
    for (options, code, why) in [
        (&["--budget", "1J", "--user", "nonesuch"][..], 125, "no user `nonesuch`"),
        (&["--budget", "1J", "-C", "/no/such"], 125, "cannot enter its working directory"),
        (&["--budget", "1J", "--sandbox", "bananas"], 125, "`bananas` is no sandbox word"),
        (&["--budget", "1J", "--json", "/no/such"], 125, "/no/such could not be written"),
        (&["--budget", "1J", "--name", "a/b"], 125, "`a/b` is no name"),
        (&["--budget", "1uJ"], 125, "does not cover one slot"),
        (&["--budget", "1J", "--bid", "1mW"], 125, "nothing ever runs here"),
        (&["--budget", "1"], 2, "has no unit"),
        (&["--budget", "1J", "--cores", "0"], 2, "0 is not in 1..=1024"),
        (&[], 2, "--budget"),
    ] {
        let done = run(options, &["true"]);
        assert_eq!(done.code, code, "{options:?}: {}", done.stderr);
        assert!(done.stderr.contains(why) && done.stdout.is_empty(), "{options:?}: {}", done.stderr);
    }
}

/// It spent all that it had and no more, and no more core time than it paid for.
fn within_budget(done: &Done, budget: f64, what: &str) {
    assert_eq!((done.code, done.summary["ended"].as_str()), (75, Some("out_of_funds")), "{what}: {done:?}");
    let (spent, left) = (done.spent(), done.joules("balance_nj"));
    assert!(
        spent <= budget + 1e-9 && (spent + left - budget).abs() < 1e-6,
        "{what}: spent {spent}, left {left}: {done:?}"
    );
    // Every core-second costs par here: nobody else bids. What could not be paid any more is told.
    let (core, arrears) = (done.core_seconds() * done.par(), done.joules("arrears_nj"));
    assert!((done.joules("paid_nj") - core).abs() < arrears + 0.01 * budget, "{what}: {done:?}");
}

/// The most that can be used beyond what was bought: all cores, from a slot's end until the market wakes and the group is
/// frozen. How late it woke was measured; some ticks of 10 ms more are for the freezing.
fn one_look(done: &Done) -> f64 {
    let late = done.summary["tick_lateness_us"]["max"].as_f64().unwrap() * 1e-6;
    let cores = std::thread::available_parallelism().unwrap().get() as f64;
    cores * done.par() * (late + 0.05)
}

#[test]
fn no_budget_is_exceeded_by_spinning() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let threads = "import hashlib, threading\nb = bytes(1 << 20)\ndef f():\n  while 1: hashlib.sha256(b).digest()\n\
                   for i in range(3): threading.Thread(target=f).start()";
    let programs: [(&str, &[&str]); 4] = [
        ("a loop", &["sh", "-c", "while :; do :; done"]),
        ("processes", &["sh", "-c", SPIN]),
        ("threads", &["python3", "-c", threads]),
        ("system calls", &["dd", "if=/dev/zero", "of=/dev/null", "bs=1"]),
    ];
    for (what, words) in programs {
        let done = run(&["--budget", "1.5J"], words);
        within_budget(&done, 1.5, what);
        let arrears = done.joules("arrears_nj");
        assert!(arrears <= one_look(&done), "{what}: {arrears} J: {done:?}");
    }
}

#[test]
fn no_budget_is_exceeded_by_forking_and_erasing() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let churn = "while 1:\n  b = bytearray(b'x' * (1 << 22)); del b";
    let programs: [(&str, &[&str]); 3] = [
        ("exec loop", &["sh", "-c", "while :; do /bin/true; done"]),
        ("fork loop", &["python3", "-c", "import os\nwhile 1:\n  if os.fork() == 0: os._exit(0)\n  os.wait()"]),
        ("churn", &["python3", "-c", churn]),
    ];
    for (what, words) in programs {
        let done = run(&["--budget", "3J"], words);
        within_budget(&done, 3.0, what);
        // A core that erases 8 GiB a second owes 128 times what it burns.
        let arrears = done.joules("arrears_nj");
        assert!(arrears <= 128.0 * one_look(&done), "{what}: {arrears} J: {done:?}");
    }
    // Who sleeps, pays next to nothing, and ends by itself.
    let done = run(&["--budget", "1J"], &["sleep", "1"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.spent() < 0.1, "{done:?}");
}

#[test]
fn who_holds_much_memory_uses_up_its_budget() {
    let _alone = alone();
    if cannot() {
        return;
    }
    // The tax on what it holds is 2.3 J and more: not owed before it is given back.
    let hold = "b = bytearray(b'x') * (100 << 20)\nprint('held', flush=True)\nwhile 1: pass";
    let done = run(&["--budget", "2J"], &["python3", "-c", hold]);
    within_budget(&done, 2.0, "holds");
    assert!(done.text().contains("held"), "{done:?}");
    // Rent, starting, and what was put aside for last words take the rest.
    assert!(done.core_seconds() * done.par() > 1.0, "{done:?}");
    let slot = done.par() * 0.012;
    assert!(done.joules("balance_nj") < 1.01 * slot + 0.2, "no more than a slot and its last words' deposit: {done:?}");
}

#[test]
fn one_core_is_one_core() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let done = run(&["--budget", "2J", "--cores", "1"], &["sh", "-c", SPIN]);
    within_budget(&done, 2.0, "one core");
    let (core, wall) = (done.core_seconds(), done.summary["seconds"].as_f64().unwrap());
    assert!(core <= 1.05 * wall, "{core} s of core time in {wall} s: {done:?}");
}

#[test]
fn two_budgets_end_in_proportion() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let started = ["1J", "3J"].map(|budget| order(&["--budget", budget, "--no-tax"], &["sh", "-c", SPIN]).start());
    let [small, large] = started.map(|started| started.end());
    within_budget(&small, 1.0, "small");
    within_budget(&large, 3.0, "large");
    // Both keep back what last words and one more slot cost.
    let back = small.joules("balance_nj");
    let (ratio, fair) = (large.core_seconds() / small.core_seconds(), (3.0 - back) / (1.0 - back));
    assert!((ratio / fair - 1.0).abs() < 0.15, "{ratio} instead of {fair}");
}

#[test]
fn erased_memory_is_counted_and_taxed() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let erase = |mebibytes: u32, options: &[&str]| {
        let program = format!(
            "import mmap\nfor i in range({}):\n  m = mmap.mmap(-1, 1 << 22); m.write(b'x' * (1 << 22)); m.close()",
            mebibytes / 4
        );
        run(options, &["python3", "-c", &program])
    };
    let options = ["--budget", RICH];
    let (base, much, untaxed) = (erase(0, &options), erase(128, &options), erase(128, &["--budget", RICH, "--no-tax"]));
    assert_eq!((much.code, untaxed.code, untaxed.joules("tax_nj")), (0, 0, 0.0));
    let (base_bytes, bytes) = (base.number("erased_bytes"), much.number("erased_bytes"));
    if much.summary["processes"]["erased_by"].as_str().unwrap().starts_with("counted") {
        // The same Python, and 32 blocks; the bytes literal of 4 MiB is made and erased once more.
        let extra = (bytes - base_bytes) / f64::from(1 << 20);
        assert!((128.0..=128.0 + 16.0).contains(&extra), "{extra} MiB: {much:?}");
    } else {
        println!("skipped: erased bytes are estimated here");
    }
    // The tax is what the bytes cost, whenever it was paid: 10¹² kT ln 2 a bit.
    let rate = much.joules("tax_nj") / bytes;
    assert!((2.2e-8..2.6e-8).contains(&rate), "{rate} J a byte: {much:?}");
}

#[test]
fn a_tree_ends_with_its_command_wherever_its_processes_hid() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let daemon = "import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    os.closerange(0, 100); time.sleep(100)\n  os._exit(0)\nos.wait()";
    let orphans = "i=0; while [ $i -lt 500 ]; do (sleep 100 &); i=$((i + 1)); done; echo up";
    for (what, words) in [("daemon", ["python3", "-c", daemon]), ("orphans", ["sh", "-c", orphans])] {
        let done = run(&["--budget", RICH], &words);
        assert_eq!(done.code, 0, "{what}: {done:?}");
    }
    // A fork bomb is held by its limit, and ends with its shell if that comes so far.
    let bomb = "f() { f | f & }; f; sleep 1";
    let done = run(&["--budget", "100J", "--pids", "64"], &["bash", "-c", bomb]);
    assert!(matches!(done.code, 0 | 1 | 75 | 254), "{done:?}");
    // Its descendants go on if that is wished.
    let done = run(&["--budget", RICH, "--wait-all"], &["sh", "-c", "(sleep 0.5; echo late) & echo early"]);
    assert_eq!((done.code, done.text().as_str()), (0, "early\nlate\n"));
}

/// Ignores all that can be ignored; one that stopped itself; one with orphans.
const STUBBORN: [&str; 3] = [
    "trap '' TERM INT HUP QUIT; echo up; while :; do sleep 1; done",
    "echo up; kill -STOP $$; sleep 100",
    "(setsid sleep 100 &); (setsid sleep 100 &); echo up; sleep 100",
];

#[test]
fn a_tree_ends_with_maxwell_however_that_ends() {
    let _alone = alone();
    if cannot() {
        return;
    }
    for script in STUBBORN {
        for signal in [Signal::TERM, Signal::HUP, Signal::KILL] {
            let mut started = order(&["--budget", RICH, "--grace", "300ms"], &["sh", "-c", script]).start();
            started.says("up");
            let since = Instant::now();
            started.signal(signal);
            let done = started.end();
            assert!(since.elapsed() < Duration::from_secs(10));
            let expected: &[i32] = match signal {
                Signal::KILL => &[-9],
                Signal::HUP => &[129, 137],
                _ => &[143, 137],
            };
            assert!(expected.contains(&done.code), "{script}: {signal:?}: {done:?}");
        }
    }
}

#[test]
fn an_interrupt_reaches_the_command_once() {
    let _alone = alone();
    if cannot() {
        return;
    }
    // Without a terminal it is passed on, whether it came to Maxwell alone or to the group; the second ends it.
    let counts = "import time, sys\nn = 0\nwhile True:\n  try:\n    if n == 0: print('up', flush=True)\n    while n == 0: time.sleep(0.01)\n    time.sleep(1); sys.exit(40 + n)\n  except KeyboardInterrupt: n += 1";
    for group in [false, true] {
        let mut started = order(&["--budget", RICH], &["python3", "-c", counts]).start();
        started.says("up");
        if group {
            kill_process_group(started.pid(), Signal::INT).unwrap();
        } else {
            started.signal(Signal::INT);
        }
        assert_eq!(started.end().code, 41, "to the group: {group}");
    }
    // One that uses up its slot early in every tick, and so is frozen often, hears it too.
    let busy = "import hashlib, threading, time, sys\nb = bytes(1 << 20)\ndef f():\n  while 1: hashlib.sha256(b).digest()\n\
                for i in range(3): threading.Thread(target=f, daemon=True).start()\n\
                try:\n  print('up', flush=True)\n  while 1: hashlib.sha256(b).digest()\nexcept KeyboardInterrupt: sys.exit(33)";
    for _ in 0..3 {
        let mut started = order(&["--budget", RICH, "--cores", "1"], &["python3", "-c", busy]).start();
        started.says("up");
        std::thread::sleep(Duration::from_millis(100));
        started.signal(Signal::INT);
        assert_eq!(started.end().code, 33);
    }
    let mut started = order(&["--budget", RICH, "--grace", "200ms"], &["sh", "-c", STUBBORN[0]]).start();
    started.says("up");
    started.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(300));
    started.signal(Signal::INT);
    let done = started.end();
    assert_eq!((done.code, done.summary["ended"].as_str()), (137, Some("ended_by_signal")), "{done:?}");
}

#[test]
fn nohup_holds() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let mut nohup = Command::new("nohup");
    nohup.arg(env!("CARGO_BIN_EXE_maxwell"));
    let mut started = order_of(nohup, &["--budget", RICH], &["sh", "-c", "echo up; sleep 1; exit 5"]).start();
    started.says("up");
    started.signal(Signal::HUP);
    assert_eq!(started.end().code, 5);
}

#[test]
fn the_next_start_sweeps_up_after_a_maxwell_and_a_keeper_that_were_killed() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let name = format!("swept-{}", std::process::id());
    let mut started = order(&["--budget", RICH, "--name", &name], &["sh", "-c", STUBBORN[0]]).start();
    started.says("up");
    kill_process(started.keeper(), Signal::KILL).unwrap();
    started.die();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!started.processes().is_empty(), "nobody was left to end it");
    let socket = std::path::PathBuf::from(format!("/run/maxwell/{name}.sock"));
    assert!(socket.exists());
    assert_eq!(run(&["--budget", RICH], &["true"]).code, 0);
    started.is_gone();
    assert!(!socket.exists(), "the socket is swept up too");
}

/// A Maxwell that nobody in particular runs, where others can read it.
struct Nobody(tempfile::TempDir);

impl Nobody {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("maxwell");
        std::fs::copy(env!("CARGO_BIN_EXE_maxwell"), &copy).unwrap();
        for path in [folder.path(), &copy] {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        Self(folder)
    }

    /// `setpriv … maxwell`, started by `command` and its arguments.
    fn start_by(&self, mut command: Command, uid: &str, options: &[&str], words: &[&str]) -> Started {
        command.args(["--reuid", uid, "--regid", uid, "--clear-groups"]).arg(self.0.path().join("maxwell"));
        let order = order_of(command, options, words).with(|command| {
            command.env_remove("XDG_RUNTIME_DIR");
        });
        order.start()
    }

    fn start(&self, options: &[&str], words: &[&str]) -> Started {
        self.start_by(Command::new("setpriv"), "65534", options, words)
    }
}

#[test]
fn an_unprivileged_user_gets_the_weaker_hold_and_is_told() {
    let _alone = alone();
    if cannot() || !has("setpriv") {
        return;
    }
    let place = Nobody::new();
    let nobody = |options: &[&str], words: &[&str]| place.start(options, words).end();
    let done = nobody(&["--budget", RICH], &["sh", "-c", "id -u; exit 3"]);
    assert!((done.code, done.text().as_str()) == (3, "65534\n"), "{done:?}");
    assert!(done.summary["processes"]["held_by"].as_str().unwrap().contains("signals"), "{done:?}");
    // Shells wait in vfork for what they start, and cannot be stopped then.
    let done = nobody(&["--budget", "1J"], &["sh", "-c", "while :; do /bin/true; done"]);
    within_budget(&done, 1.0, "unprivileged");
    let done = nobody(
        &["--budget", RICH],
        &["sh", "-c", "i=0; while [ $i -lt 50 ]; do (setsid sleep 100 &); i=$((i + 1)); done"],
    );
    assert_eq!(done.code, 0, "{done:?}");
    let done = nobody(&["--budget", RICH, "--or-park"], &["true"]);
    assert_eq!(done.code, 125);
    assert!(done.stderr.contains("nobody could top it up"), "{}", done.stderr);
}

#[test]
fn without_groups_too_nothing_stays_when_maxwell_is_killed() {
    let _alone = alone();
    if cannot() || !has("setpriv") {
        return;
    }
    let place = Nobody::new();
    let hidden = "setsid sh -c 'sleep 1000' & (setsid sleep 1000 &); echo up; while :; do :; done";
    let mut started = place.start(&["--budget", RICH], &["sh", "-c", hidden]);
    started.says("up");
    assert!(started.processes().len() >= 4, "{:?}", started.processes());
    started.die();
    started.is_gone();
    // Its keeper was killed first: whoever starts next sweeps up.
    let mut started = place.start(&["--budget", RICH], &["sh", "-c", hidden]);
    started.says("up");
    kill_process(started.keeper(), Signal::KILL).unwrap();
    started.die();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!started.processes().is_empty(), "nobody was left to end it");
    let doctor = Command::new(env!("CARGO_BIN_EXE_maxwell")).arg("doctor").output().unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("processes of dead Maxwells"), "{said}");
    assert_eq!(place.start(&["--budget", RICH], &["true"]).end().code, 0);
    started.is_gone();
}

/// In many containers the session began outside of the PID namespace, and its number is 0.
#[test]
fn a_session_that_began_outside_of_the_pid_namespace_changes_nothing() {
    let _alone = alone();
    if cannot() || !has("unshare") || !has("setpriv") {
        return;
    }
    let place = Nobody::new();
    let script = "i=0; while [ $i -lt 5 ]; do (setsid sleep 100 &); i=$((i + 1)); done; cut -d ' ' -f 6 /proc/$PPID/stat; id -u; exit 3";
    for (uid, held) in [("0", "a cgroup"), ("65534", "signals")] {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "setpriv"]);
        let done = place.start_by(command, uid, &["--budget", RICH], &["sh", "-c", script]).end();
        assert_eq!((done.code, done.text()), (3, format!("0\n{uid}\n")), "{done:?}");
        assert!(done.summary["processes"]["held_by"].as_str().unwrap().contains(held), "{done:?}");
    }
}

#[test]
fn real_programs_run_and_end() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let done = run(&["--budget", RICH], &["sh", "-c", "seq 50000 | sort -r | uniq -c | sort -rn | wc -l"]);
    assert_eq!((done.code, done.text().trim()), (0, "50000"), "{}", done.stderr);

    let server = "import socket, threading, time, sys\n\
        s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], 'up', flush=True)\n\
        for i in range(3):\n  c, _ = s.accept(); c.sendall(c.recv(100)[::-1]); c.close()";
    let mut started = order(&["--budget", RICH], &["python3", "-c", server]).start();
    started.says("up");
    let port: u16 = started.said().split_whitespace().next().unwrap().parse().unwrap();
    for _ in 0..3 {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"abc").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "cba");
    }
    assert_eq!(started.end().code, 0);

    if !has("make") || !has("cc") {
        println!("skipped: no make or no cc");
        return;
    }
    let build = order(&["--budget", RICH], &["make", "-s", "-j4"]);
    let names: Vec<String> = (0..8).map(|at| format!("f{at}")).collect();
    for name in &names {
        std::fs::write(build.folder().join(format!("{name}.c")), format!("int {name}(void) {{ return 5; }}\n"))
            .unwrap();
    }
    let calls: Vec<String> = names.iter().map(|name| format!("{name}()")).collect();
    let declared: Vec<String> = names.iter().map(|name| format!("int {name}(void);")).collect();
    let main = format!("{} int main(void) {{ return {}; }}\n", declared.join(" "), calls.join(" + "));
    std::fs::write(build.folder().join("main.c"), main).unwrap();
    let objects: Vec<String> = names.iter().map(|name| format!("{name}.o")).collect();
    let rules = format!("sum: main.o {0}\n\tcc -o $@ $^\n\t./sum; test $$? = 40\n", objects.join(" "));
    std::fs::write(build.folder().join("Makefile"), rules).unwrap();
    let done = build.start().end();
    assert_eq!(done.code, 0, "{}", done.stderr);
}
