//! Real programs, with the meter and without.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use maxwell_ebpf::{ErasureMeter, Released};

use crate::group::Group;
use crate::median;

const ROUNDS: usize = 30;

/// 8 k T ln 2 · 10¹² at 300 K, in joules: the default tax on a byte.
pub(crate) const TAX: f64 = 8.0 * 1.380_649e-23 * 300.0 * std::f64::consts::LN_2 * 1e12;

/// Allocates and drops objects of all sizes, small ones from its own pools and large ones from the kernel.
pub(crate) const PYTHON: &str = "
import random
random.seed(1)
kept = []
for turn in range(60):
    kept.append([bytes(random.randrange(10, 4000)) for _ in range(4000)])
    kept.append(bytearray(random.randrange(1, 8) << 20))
    kept.append({n: str(n) for n in range(20000)})
    if len(kept) > 12:
        random.shuffle(kept)
        del kept[:6]
";

struct Program {
    name: &'static str,
    path: PathBuf,
    arguments: Vec<String>,
}

fn program(name: &'static str, path: &str, arguments: &[&str]) -> Program {
    Program { name, path: path.into(), arguments: arguments.iter().map(|&word| word.to_owned()).collect() }
}

/// What a run took and erased.
#[derive(Clone, Copy)]
struct Run {
    processor_s: f64,
    wall_s: f64,
    erased: u64,
    frees: u64,
}

fn processor_s() -> f64 {
    // SAFETY: a structure of numbers, filled by the call.
    let usage = unsafe {
        let mut usage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

impl Program {
    fn run(&self, group: &Group, metered: bool) -> Run {
        let meter = metered.then(|| ErasureMeter::open(group.level()).unwrap());
        let watched = meter.as_ref().map(|meter| meter.watch(group.id()).unwrap());
        let mut command: Command = group.command(&self.path);
        command.args(&self.arguments).stdout(Stdio::null()).env("LC_ALL", "C");
        let (from, before) = (Instant::now(), processor_s());
        assert!(command.status().unwrap().success(), "{}", self.name);
        let (wall_s, processor_s) = (from.elapsed().as_secs_f64(), processor_s() - before);
        let released = watched.map_or_else(Released::default, |watched| watched.read().unwrap());
        Run { processor_s, wall_s, erased: released.bytes, frees: released.frees }
    }
}

/// Names that sort into another order, and a C program of some hundred functions.
fn inputs(folder: &Path) -> (String, String) {
    let (mut lines, mut source, mut number) = (String::new(), String::from("#include <stdio.h>\n"), 1u64);
    for _ in 0..700_000 {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        writeln!(lines, "{:016x} {}", number, number % 1000).unwrap();
    }
    for n in 0..200 {
        writeln!(
            source,
            "int f{n}(int *a, int n) {{ int s = {n}; for (int i = 0; i < n; i++) {{ if (a[i] % {} == 0) s += a[i] * i; \
             else s ^= a[i] << (i & 7); }} printf(\"%d\\n\", s); return s; }}",
            n + 2
        )
        .unwrap();
    }
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    (write("lines", &lines), write("functions.c", &source))
}

/// What real programs lose; `page_ns` is what counting a page costs where nothing else happens.
pub(crate) fn programs(group: &Group, page_ns: f64) {
    let folder = std::env::temp_dir().join(format!("maxwell-bench-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let (lines, source) = inputs(&folder);
    let object = folder.join("functions.o").display().to_string();
    let me = std::env::current_exe().unwrap().display().to_string();
    let all = [
        program("`cc -O2`, 200 functions", "/usr/bin/cc", &["-O2", "-c", &source, "-o", &object]),
        program("`sort`, 700,000 lines", "/usr/bin/sort", &["--parallel=1", &lines]),
        program("`python3`, objects of all sizes", "/usr/bin/python3", &["-c", PYTHON]),
        program("worst case: touch 16 MiB, release, again", &me, &["churn"]),
    ];
    println!("### Erasure meter: real programs\n");
    println!(
        "{ROUNDS} rounds, in each the program three times in changing order: with the meter, without, and without again. Slower: \
         median processor time with the meter over that without; noise: the same of the two without. Expected: the \
         times that something was released × {page_ns:.0} ns (`munmap 4096` above). Tax: at 300 K and the default \
         inefficiency, {:.2} nJ a byte.\n",
        TAX * 1e9
    );
    println!(
        "| program | processor time | slower | noise | expected | erased | erased a second | tax |\n|---|---|---|---|---|---|---|---|"
    );
    for program in all.iter().filter(|program| program.path.exists()) {
        row(program, group, page_ns);
    }
    println!();
    std::fs::remove_dir_all(&folder).unwrap();
}

fn row(program: &Program, group: &Group, page_ns: f64) {
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let mut runs = [None; 3];
        for turn in 0..3 {
            let which = (turn + round) % 3;
            runs[which] = Some(program.run(group, which == 0));
        }
        // The first round warms up.
        if round > 0 {
            rounds.push(runs.map(Option::unwrap));
        }
    }
    let of = |value: &dyn Fn(&[Run; 3]) -> f64| median(rounds.iter().map(value).collect());
    let processor_s = of(&|[_, without, _]| without.processor_s);
    let slower = of(&|[with, ..]| with.processor_s) / processor_s;
    let noise = of(&|[.., again]| again.processor_s) / processor_s;
    let expected = of(&|[with, ..]| with.frees as f64) * page_ns / 1e9 / processor_s;
    let (erased, wall_s) = (of(&|[with, ..]| with.erased as f64), of(&|[with, ..]| with.wall_s));
    println!(
        "| {} | {:.0} ms | {:+.1} % | {:+.1} % | {:+.2} % | {:.0} MB | {:.0} MB/s | {:.2} W |",
        program.name,
        processor_s * 1e3,
        (slower - 1.0) * 100.0,
        (noise - 1.0) * 100.0,
        expected * 100.0,
        erased / 1e6,
        erased / wall_s / 1e6,
        erased / wall_s * TAX
    );
}
