//! Programs that tests use. As root on Debian they are installed if they are missing; elsewhere tests that need them say
//! `skipped: …`.

use std::path::Path;
use std::process::Command;

/// A program, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 5] =
    [("clang-14", "clang-14"), ("python3", "python3"), ("make", "make"), ("cc", "gcc"), ("setpriv", "util-linux")];

/// Installs what is missing. Not having it is no failure.
pub(crate) fn install() {
    let missing: Vec<&str> =
        PROGRAMS.into_iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| package).collect();
    if missing.is_empty() {
        return;
    }
    let all = missing.join(" ");
    if !rustix::process::geteuid().is_root() || !is_there("apt-get") {
        eprintln!("xtask: some tests will be skipped. To have them all: sudo apt install {all}");
        return;
    }
    eprintln!("xtask: apt-get install {all}");
    let apt = |arguments: &[&str]| {
        let status = Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").status();
        status.is_ok_and(|status| status.success())
    };
    let mut install = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    install.extend(&missing);
    let installed = apt(&install) || (apt(&["update", "--quiet"]) && apt(&install));
    if !installed {
        eprintln!("xtask: {all} could not be installed: tests that need it will be skipped");
    }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).is_file())
}
