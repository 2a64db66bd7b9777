//! A program that misbehaves in every way that the process cell must survive. `hostile MODE [ARGUMENT...]`.

#![allow(
    clippy::unwrap_used,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "a test program"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

#[path = "hostile/attempts.rs"]
mod attempts;
#[path = "hostile/count.rs"]
mod count;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let word = |place: usize| arguments.get(place).map_or("", String::as_str);
    let number = |place: usize| word(place).parse::<u64>().unwrap_or(0);
    match word(0) {
        "spin" => spin(number(1).max(1)),
        "sleep" => forever(),
        "syscalls" => loop {
            std::hint::black_box(std::fs::metadata("/").unwrap());
        },
        "count" => count::count(word(1), number(2), number(3), word(4) == "syscalls"),
        "stuck" => stuck(),
        "fork-bomb" => fork_bomb(number(1)),
        "exec-storm" => exec_storm(),
        "ignore-term" => ignore_signals(),
        "stop-self" => {
            // SAFETY: stops this process.
            unsafe { libc::raise(libc::SIGSTOP) };
            forever()
        }
        "new-session" => {
            // SAFETY: begins a session; in a child, because the leader of a group cannot.
            unsafe {
                if libc::fork() == 0 {
                    libc::setsid();
                    spin(1);
                }
            }
            forever()
        }
        "daemonise" => daemonise(),
        "close-all" => {
            // SAFETY: closes descriptors that nobody uses any more.
            unsafe { libc::syscall(libc::SYS_close_range, 0u32, u32::MAX, 0u32) };
            spin(1)
        }
        "orphans" => orphans(number(1)),
        "env" => println!("{}", std::env::var(word(1)).unwrap_or_default()),
        "fds" => list_descriptors(),
        "status" => print!("{}", std::fs::read_to_string("/proc/self/status").unwrap()),
        "signals" => print_signals(),
        "serve" => serve(),
        "allocate" => allocate(number(1)),
        "burn-ms" => burn(Duration::from_millis(number(1))),
        "family" => family(number(1)),
        "own" => own(word(1)),
        "attempt" => println!("{}", attempts::attempt(word(1), word(2))),
        other => {
            eprintln!("hostile: no mode `{other}`");
            std::process::exit(64);
        }
    }
}

fn forever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn spin(threads: u64) -> ! {
    for _ in 1..threads {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
    loop {
        std::hint::spin_loop();
    }
}

/// A thread waits in the kernel where only death ends the wait: `read` copies into a page that a userfaultfd handles, and
/// nobody does.
fn stuck() -> ! {
    // SAFETY: a userfaultfd that handles the faults of the kernel too.
    let uffd = unsafe { rustix::mm::userfaultfd(rustix::mm::UserfaultfdFlags::CLOEXEC) }.unwrap();
    let page = unsafe_page();
    // `struct uffdio_api`, `struct uffdio_register`, and their requests, from `linux/userfaultfd.h`.
    let mut api = [0xaau64, 0, 0];
    let mut register = [page as u64, 4096, 1, 0];
    let fd = std::os::fd::AsRawFd::as_raw_fd(&uffd);
    // SAFETY: both structures live during the calls, and the page is ours.
    unsafe {
        assert_eq!(libc::ioctl(fd, 0xc018_aa3f, api.as_mut_ptr()), 0);
        assert_eq!(libc::ioctl(fd, 0xc020_aa00, register.as_mut_ptr()), 0);
    }
    std::thread::spawn(move || {
        let zero = std::fs::File::open("/dev/zero").unwrap();
        // SAFETY: the page is ours; the call never returns.
        unsafe { libc::read(std::os::fd::AsRawFd::as_raw_fd(&zero), page as *mut libc::c_void, 64) };
    });
    std::thread::sleep(Duration::from_millis(50));
    say("stuck");
    forever()
}

fn unsafe_page() -> usize {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
    // SAFETY: a new mapping.
    unsafe { mmap_anonymous(std::ptr::null_mut(), 4096, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) }
        .unwrap() as usize
}

/// Doubles until there are about `most` processes, or no more are allowed; they all spin.
fn fork_bomb(most: u64) -> ! {
    let mut generations = 0;
    while 1u64 << generations < most.max(2) {
        // SAFETY: this process has one thread.
        if unsafe { libc::fork() } < 0 {
            say("no more");
        }
        generations += 1;
    }
    spin(1)
}

/// Replaces itself and its children without pause.
fn exec_storm() -> ! {
    let itself = std::env::current_exe().unwrap();
    for _ in 0..4 {
        let _ = std::process::Command::new("/bin/true").spawn();
    }
    let error = std::os::unix::process::CommandExt::exec(std::process::Command::new(itself).arg("exec-storm"));
    panic!("{error}");
}

fn ignore_signals() -> ! {
    for signal in 1..32 {
        // SAFETY: ignores a signal; those that cannot be ignored refuse.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    say("ignoring");
    spin(1)
}

/// The way of daemons: fork, session, fork, no descriptors; the first process ends.
fn daemonise() {
    // SAFETY: this process has one thread.
    unsafe {
        if libc::fork() == 0 {
            libc::setsid();
            if libc::fork() == 0 {
                libc::syscall(libc::SYS_close_range, 0u32, u32::MAX, 0u32);
                spin(1);
            }
            libc::_exit(0);
        }
        let mut status = 0;
        libc::wait(&raw mut status);
    }
}

/// Leaves children behind, each with a session of its own.
fn orphans(number: u64) {
    for _ in 0..number {
        // SAFETY: this process has one thread.
        unsafe {
            if libc::fork() == 0 {
                libc::setsid();
                forever();
            }
        }
    }
    say("left");
}

/// Descriptors that are open, without the one that lists them.
fn list_descriptors() {
    let mut open: Vec<i32> = (0..1024)
        // SAFETY: only asks.
        .filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0)
        .collect();
    open.sort_unstable();
    println!("{open:?}");
}

/// Signals that are ignored or blocked.
fn print_signals() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    for line in status.lines().filter(|line| line.starts_with("Sig") || line.starts_with("NoNewPrivs")) {
        println!("{line}");
    }
}

/// A server on loopback, and its client.
fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"ping").unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        answer
    });
    let (mut stream, _) = listener.accept().unwrap();
    let mut question = [0; 4];
    stream.read_exact(&mut question).unwrap();
    stream.write_all(&question).unwrap();
    assert_eq!(&client.join().unwrap(), b"ping");
    say("served");
}

/// Takes and touches memory, and says when it has it.
fn allocate(mebibytes: u64) {
    let memory = vec![1u8; usize::try_from(mebibytes << 20).unwrap()];
    std::hint::black_box(&memory);
    say("allocated");
}

/// Uses this much core time.
fn burn(time: Duration) {
    let used = || {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the structure lives during the call.
        unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now) };
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    while used() < time {
        std::hint::spin_loop();
    }
    say(&format!("{}", used().as_nanos()));
}

/// Burns `ms` in a child that is waited for, in an orphan, and in itself; then waits.
fn family(ms: u64) -> ! {
    // SAFETY: this process has one thread.
    unsafe {
        for waits in [true, false] {
            if libc::fork() == 0 {
                burn(Duration::from_millis(ms));
                if waits { libc::_exit(0) } else { forever() }
            }
            if waits {
                let mut status = 0;
                libc::wait(&raw mut status);
            }
        }
    }
    burn(Duration::from_millis(ms));
    forever()
}

/// A Maxwell that waits to be killed: a subtree with a running, a frozen and a born-frozen agent.
fn own(parent: &str) -> ! {
    use maxwell_hypervisor::process::cgroup::{Hierarchy, Limits, Subtree};
    use maxwell_hypervisor::process::sandbox::{Sandbox, Surroundings};
    use maxwell_hypervisor::process::spawn::{Program, spawn};

    let root = Path::new("/");
    let hierarchy =
        if parent.is_empty() { Hierarchy::find(root) } else { Hierarchy::below(root, Path::new(parent)) }.unwrap();
    let subtree = Subtree::new(&hierarchy).unwrap();
    let around =
        Surroundings { directory: Path::new("/tmp"), temporary: Path::new("/tmp"), forbidden: &[], streams: &[] };
    let program = Program { argv: vec![std::env::current_exe().unwrap().into(), "spin".into()], ..Program::default() };
    let mut pids = Vec::new();
    let mut agents = Vec::new();
    for name in ["running", "frozen", "born-frozen"] {
        let limits = Limits { tasks: Some(64), ..Limits::default() };
        let group = subtree.group(name, &limits).unwrap();
        if name == "born-frozen" {
            group.freezer().freeze(Duration::from_secs(20)).unwrap();
        }
        let child = spawn(&program, &[], &Sandbox::default().prepare(&around).unwrap(), Some(&group)).unwrap();
        if name == "frozen" {
            std::thread::sleep(Duration::from_millis(20));
            group.freezer().freeze(Duration::from_secs(20)).unwrap();
        }
        pids.push(child.pid().as_raw_nonzero().to_string());
        agents.push((group, child));
    }
    say(&format!(
        "{} {} {}",
        subtree.path().display(),
        subtree.keeper().unwrap().pid().as_raw_nonzero(),
        pids.join(" ")
    ));
    forever()
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
