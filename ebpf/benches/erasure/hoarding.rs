//! What the tax and the rent do to a choice: give memory back, or keep it for the next time.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use maxwell_ebpf::{ErasureMeter, Held};

use crate::group::Group;
use crate::programs::{PYTHON, TAX};

/// The default rent in watts for each byte (0.392 W/GB, Cloud Carbon Footprint).
const RENT: f64 = 0.392e-9;
const EVERY: Duration = Duration::from_millis(5);

pub(crate) fn hoarding(group: &Group) {
    let python = Path::new("/usr/bin/python3");
    if !python.exists() {
        return;
    }
    println!("### Erasure meter: to give back or to keep\n");
    println!(
        "The Python program above, once as it is and once with an allocator that keeps everything \
         (`MALLOC_TRIM_THRESHOLD_` and `MALLOC_MMAP_THRESHOLD_` at 1 GiB, `MALLOC_MMAP_MAX_=0`); in the end it drops all it has. The last column is what its \
         allocator keeps then, for a minute. Joules at the default rates and 300 K: a byte held for {:.1} s costs as much as a byte erased. Held: mean, looked at every 5 ms.\n",
        TAX / RENT
    );
    println!(
        "| allocator | erased | held | time | tax | rent | rent of the next minute |\n|---|---|---|---|---|---|---|"
    );
    for keeps in [false, true] {
        row(python, keeps, group);
    }
    println!();
}

fn row(python: &Path, keeps: bool, group: &Group) {
    let meter = ErasureMeter::open(group.level()).unwrap();
    let watched = meter.watch(group.id()).unwrap();
    // In the end it drops all it has, and waits a moment: what it holds then is what its allocator keeps.
    let script = format!("{PYTHON}\nkept.clear()\nimport time\ntime.sleep(0.2)\n");
    let mut command = group.command(python);
    command.args(["-c", &script]).env("PYTHONMALLOC", "malloc").stdout(Stdio::null());
    if keeps {
        let bound = (1u64 << 30).to_string();
        command
            .env("MALLOC_TRIM_THRESHOLD_", &bound)
            .env("MALLOC_MMAP_THRESHOLD_", &bound)
            .env("MALLOC_MMAP_MAX_", "0");
    }
    let mut child = command.spawn().unwrap();
    let (mut held, pid) = (Held::default(), [child.id()]);
    let (from, mut looks, mut erased) = (Instant::now(), Vec::new(), 0);
    while child.try_wait().unwrap().is_none() {
        let bytes = held.bytes(&pid);
        if bytes > 0 {
            // Its end releases everything, whoever it is: what counts here is what it released while it lived.
            erased = watched.read().unwrap().bytes;
            looks.push(bytes as f64);
        }
        std::thread::sleep(EVERY);
    }
    let time_s = from.elapsed().as_secs_f64();
    let mean = looks.iter().sum::<f64>() / looks.len() as f64;
    let kept = looks.last().copied().unwrap_or_default();
    println!(
        "| {} | {:.0} MB | {:.0} MB | {time_s:.2} s | {:.2} J | {:.3} J | {:.2} J |",
        if keeps { "keeps" } else { "gives back" },
        erased as f64 / 1e6,
        mean / 1e6,
        erased as f64 * TAX,
        mean * time_s * RENT,
        kept * 60.0 * RENT
    );
}
