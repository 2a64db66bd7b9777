//! A process that takes and gives back memory in every way there is, and knows how much it erased.
//!
//! `eraser fuzz SEED STEPS` does random things and prints the bytes that it erased, to its own exit. The truth is the
//! kernel's, from elsewhere than the meter: what `/proc/self/smaps` shows before and after each step. `eraser sparse` unmaps
//! a tebibyte that was never touched; `eraser hold MIB` holds memory until it is killed; `eraser forks MIB N` holds memory and
//! runs N programs beside it; `eraser churn MIB N` takes and releases memory N times; `eraser available` says whether
//! the meter works.

#![allow(clippy::unwrap_used, reason = "a test program: whatever it does not expect is the end of it")]

mod memory;
mod steps;
mod truth;

use std::ffi::CString;
use std::io::Write;

use memory::{Region, map};
use steps::State;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize| arguments.get(at).map_or(0, |text| text.parse::<u64>().unwrap());
    match arguments.get(1).map(String::as_str) {
        Some("fuzz") => fuzz(number(2), number(3), number(4)),
        Some("sparse") => Region::reserve(1 << 40).unmap(),
        Some("available") => match maxwell_ebpf::available() {
            Ok(attachment) => println!("{}", attachment.name()),
            Err(error) => println!("{error}"),
        },
        Some("hold") => hold(number(2)),
        Some("forks") => forks(number(2), number(3)),
        Some("churn") => {
            for _ in 0..number(3) {
                let region = map(usize::try_from(number(2)).unwrap() * 256);
                region.touch(0, region.pages());
                region.unmap();
            }
        }
        _ => panic!("eraser fuzz SEED STEPS | sparse | hold MIB | forks MIB N | churn MIB N | available"),
    }
}

/// Half of the steps, then it replaces itself by itself for the other half; the last step is followed by the end.
fn fuzz(seed: u64, steps: u64, erased: u64) -> ! {
    let mut state = State::new(seed, erased);
    let now = steps.div_ceil(2);
    for _ in 0..now {
        state.step();
    }
    if steps > now {
        exec(seed.wrapping_add(1), steps - now, state.erased);
    }
    say(state.erased + truth::private());
}

/// Says a number with no more memory than is there already, and leaves without a destructor.
fn say(number: u64) -> ! {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{number}").unwrap();
    out.flush().unwrap();
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}

/// All that this image holds is erased when the next begins.
fn exec(seed: u64, steps: u64, erased: u64) -> ! {
    let [seed, steps] = [seed, steps].map(|number| CString::new(number.to_string()).unwrap());
    // Twenty digits have room for any number, so that the last look is followed by no allocation.
    let mut total = *b"00000000000000000000\0";
    let mut left = erased + truth::private();
    for digit in total[..20].iter_mut().rev() {
        *digit = b'0' + u8::try_from(left % 10).unwrap();
        left /= 10;
    }
    let words = [c"eraser".as_ptr(), c"fuzz".as_ptr(), seed.as_ptr(), steps.as_ptr(), total.as_ptr().cast()];
    let list: [_; 6] = std::array::from_fn(|at| words.get(at).copied().unwrap_or(std::ptr::null()));
    // SAFETY: the strings live and end in zero, the list ends in null.
    unsafe { libc::execv(c"/proc/self/exe".as_ptr(), list.as_ptr()) };
    panic!("exec: {}", std::io::Error::last_os_error());
}

fn hold(mebibytes: u64) {
    let region = map(usize::try_from(mebibytes).unwrap() * 256);
    region.touch(0, region.pages());
    println!("{}", truth::private());
    loop {
        std::thread::sleep(std::time::Duration::from_secs(60));
    }
}

/// The children share everything with this process until they become another program.
fn forks(mebibytes: u64, times: u64) {
    let region = map(usize::try_from(mebibytes).unwrap() * 256);
    region.touch(0, region.pages());
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    for _ in 0..times {
        // SAFETY: one thread; the child only calls the kernel.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let arguments = [c"true".as_ptr(), std::ptr::null()];
            // SAFETY: the list ends in null.
            unsafe {
                libc::execv(c"/bin/true".as_ptr(), arguments.as_ptr());
                libc::_exit(1);
            }
        }
        memory::wait(child);
    }
    println!("done");
    std::io::stdin().read_line(&mut line).unwrap();
}
