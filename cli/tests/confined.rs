//! What a command may do under `maxwell exec`, and how it speaks to Maxwell.

#![allow(clippy::unwrap_used, reason = "a failure to unwrap is a failure of the test")]

mod maxwell;

use maxwell::exec::{cannot, order, run};
use maxwell::{alone, root};

const RICH: &str = "500J";

fn landlocked() -> bool {
    let there = std::fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|lsm| lsm.contains("landlock"));
    if !there {
        println!("skipped in part: no Landlock");
    }
    there
}

#[test]
fn it_writes_where_it_runs_and_nowhere_else_unless_told_otherwise() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let elsewhere = tempfile::Builder::new().tempdir_in("/var/tmp").unwrap();
    let file = elsewhere.path().join("file");
    let write = format!(
        "echo x > here && echo x > /tmp/maxwell-test-$$ && rm /tmp/maxwell-test-$$ && echo x > {}",
        file.display()
    );
    let words = ["sh", "-c", &write];
    let allowed = format!("write={}", elsewhere.path().display());
    for sandbox in [allowed.as_str(), "off", "no-landlock"] {
        let done = run(&["--budget", RICH, "--sandbox", sandbox], &words);
        assert_eq!((done.code, file.exists()), (0, true), "{sandbox}: {}", done.stderr);
        std::fs::remove_file(&file).unwrap();
    }
    if landlocked() {
        let done = run(&["--budget", RICH], &words);
        assert!(done.code != 0 && !file.exists(), "{}", done.stderr);
    }
    let done =
        run(&["--budget", RICH, "-C", &elsewhere.path().display().to_string()], &["sh", "-c", "pwd; echo x > file"]);
    assert_eq!((done.code, file.exists()), (0, true), "{}", done.stderr);
    assert_eq!(done.text().trim(), elsewhere.path().canonicalize().unwrap().display().to_string());
}

#[test]
fn it_cannot_stop_who_meters_it() {
    let _alone = alone();
    if cannot() || !landlocked() {
        return;
    }
    // Scoped signals came with Landlock's sixth version (Linux 6.12).
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    if (numbers.next().unwrap(), numbers.next().unwrap()) < (6, 12) {
        println!("skipped: before Linux 6.12 a command may signal whoever runs as the same user");
        return;
    }
    let done = run(&["--budget", RICH], &["sh", "-c", "kill -STOP $PPID || kill -9 $PPID || echo refused"]);
    assert_eq!((done.code, done.text().as_str()), (0, "refused\n"), "{}", done.stderr);
    // Its groups are not its to change.
    let escape = "for g in /sys/fs/cgroup /sys/fs/cgroup/unified; do (echo $$ > $g/cgroup.procs) 2>/dev/null && echo out; done; true";
    let done = run(&["--budget", RICH], &["sh", "-c", escape]);
    assert_eq!((done.code, done.text().as_str()), (0, ""), "{}", done.stderr);
}

#[test]
fn user_and_environment_are_as_told() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let done = order(&["--budget", RICH, "--user", "nobody"], &["sh", "-c", "id -u; echo $GIVEN; echo x > here"])
        .with(|command| {
            command.env("GIVEN", "a b");
        })
        .start()
        .end();
    assert_eq!((done.code, done.text().as_str()), (0, "65534\na b\n"), "{}", done.stderr);
    assert_eq!(run(&["--budget", RICH, "--user", "65534"], &["id", "-u"]).text(), "65534\n");
}

#[test]
fn it_asks_for_the_price_over_its_socket() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let ask = "import json, os, socket\ns = socket.socket(fileno=int(os.environ['MAXWELL_SOCKET']))\n\
               s.sendall(b'{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"price\"}\\n')\nprint(json.loads(s.makefile().readline())['result'])";
    let done = run(&["--budget", RICH], &["python3", "-c", ask]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.text().contains("spot"), "{}", done.text());
}

#[test]
fn the_frugal_agent_runs_and_ends_when_nobody_buys() {
    let _alone = alone();
    if cannot() {
        return;
    }
    let agent = root().join("agents/frugal.py").display().to_string();
    let done = run(&["--budget", RICH], &["python3", &agent, "--state", "state.json"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
}
