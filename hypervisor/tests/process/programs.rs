//! Ordinary programs notice nothing of the default sandbox.

use std::path::Path;
use std::process::Command;

use maxwell_hypervisor::process::sandbox::Sandbox;
use maxwell_hypervisor::process::spawn::Program;

use crate::arena::{run, run_hostile, start};

/// Runs a script in a new directory; what it said, if it succeeded.
fn shell(script: &str) -> String {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    shell_in(folder.path(), script)
}

fn shell_in(folder: &Path, script: &str) -> String {
    let program = Program { directory: Some(folder.to_owned()), ..run(&["sh", "-ec", script]) };
    let (said, ended) = start(&program, &Sandbox::default(), None).unwrap().finish();
    assert_eq!(ended.exit.code(), 0, "{script}: {said}");
    said
}

/// Whether a tool is there and works without a sandbox.
fn works(words: &[&str]) -> bool {
    let done = Command::new(words[0]).args(&words[1..]).output().is_ok_and(|output| output.status.success());
    if !done {
        println!("skipped: no {words:?}");
    }
    done
}

#[test]
fn shell_pipelines_and_redirections_work() {
    let said = shell(
        "seq 1000 | sort -rn | head -2 > out; cat out; echo to-stdout > /dev/stdout; (sleep 0; echo sub) & wait; mktemp > /dev/null",
    );
    assert_eq!(said, "1000\n999\nto-stdout\nsub");
}

#[test]
fn python_works() {
    if !works(&["python3", "-c", ""]) {
        return;
    }
    let script = r#"cat > p.py <<'END'
import multiprocessing, subprocess, tempfile, threading, socket, os
def square(x): return x * x
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool: print(sum(pool.map(square, range(10))))
    print(subprocess.run(["echo", "child"], capture_output=True, text=True).stdout.strip())
    with tempfile.TemporaryFile() as f: f.write(b"x")
    t = threading.Thread(target=lambda: print("thread")); t.start(); t.join()
    a, b = socket.socketpair(); a.send(b"x"); print(b.recv(1).decode())
END
python3 p.py"#;
    assert_eq!(shell(script), "285\nchild\nthread\nx");
}

#[test]
fn compilers_and_make_work() {
    if !works(&["gcc", "--version"]) || !works(&["make", "--version"]) {
        return;
    }
    let script = r#"for i in 1 2 3 4; do printf 'int f%d(void){return %d;}\n' $i $i > f$i.c; done
printf 'int f1(void),f2(void),f3(void),f4(void);\n#include <stdio.h>\nint main(void){printf("%%d\\n",f1()+f2()+f3()+f4());}\n' > main.c
printf 'all: f1.o f2.o f3.o f4.o main.o\n\tgcc -o all $^\n%%.o: %%.c\n\tgcc -O1 -c -o $@ $<\n' > Makefile
make -s -j 4 && ./all"#;
    assert_eq!(shell(script), "10");
}

#[test]
fn git_works() {
    if !works(&["git", "--version"]) {
        return;
    }
    let script = "git init -q . && git config user.email a@b.c && git config user.name n && echo x > f && git add f && \
                  git commit -qm first && git log --format=%s && git gc -q && git status --short";
    assert_eq!(shell(script), "first");
}

#[test]
fn a_server_on_loopback_works() {
    let (said, ended) = start(&run_hostile(&["serve"]), &Sandbox::default(), None).unwrap().finish();
    assert_eq!((said.as_str(), ended.exit.code()), ("served", 0));
}
