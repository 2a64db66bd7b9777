//! BPF objects: rebuild them from their sources, and compare.
//!
//! Objects are committed so that building Maxwell takes no clang; this shows that they come from their sources. Compilers of
//! different versions make different instructions, so it compares only with the version that made the committed ones.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const FOLDER: &str = "ebpf/src/bpf";
const PROGRAMS: [&str; 3] = ["entropy", "syscall", "rivals"];
/// The version of clang that made the committed objects.
const VERSION: &str = "clang-version";
/// The paths in an object are relative, so that it is the same wherever it is made.
const FLAGS: [&str; 10] =
    ["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fdebug-compilation-dir=.", "-c"];

/// Compares the committed objects with their sources, or renews them.
pub(crate) fn bpf(write: bool) -> Result<(), String> {
    let folder = crate::root().join(FOLDER);
    let recorded = std::fs::read_to_string(folder.join(VERSION)).map_err(|error| format!("{VERSION}: {error}"))?;
    let recorded = recorded.trim();
    let Some((clang, version)) = ["clang-14", "clang"].into_iter().find_map(|name| Some((name, version_of(name)?)))
    else {
        eprintln!("xtask: skipped: the BPF objects were not compared: no clang. To have it: sudo apt install clang-14");
        return Ok(());
    };
    if version != recorded && !write {
        eprintln!(
            "xtask: skipped: the BPF objects were not compared: they were made by clang {recorded}, this is {version}. \
             To have it: sudo apt install clang-14"
        );
        return Ok(());
    }
    let made = crate::root().join("target/bpf");
    std::fs::create_dir_all(&made).map_err(|error| format!("{}: {error}", made.display()))?;
    for program in PROGRAMS {
        let (source, object) = (format!("{program}.bpf.c"), format!("{program}.bpf.o"));
        let fresh = made.join(&object);
        compile(clang, &folder, &source, &fresh)?;
        if write {
            std::fs::copy(&fresh, folder.join(&object)).map_err(|error| format!("{FOLDER}/{object}: {error}"))?;
        } else {
            compare(&folder.join(&object), &fresh)?;
        }
    }
    if write {
        std::fs::write(folder.join(VERSION), format!("{version}\n")).map_err(|error| format!("{VERSION}: {error}"))?;
        eprintln!("xtask: {FOLDER}: renewed by clang {version}");
    } else {
        eprintln!("xtask: {FOLDER}: the objects come from their sources (clang {version})");
    }
    Ok(())
}

/// `14.0.6` of `Debian clang version 14.0.6`.
fn version_of(clang: &str) -> Option<String> {
    let output = Command::new(clang).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (_, rest) = text.split_once("clang version ")?;
    rest.split(|c: char| c != '.' && !c.is_ascii_digit()).next().map(str::to_owned)
}

fn compile(clang: &str, folder: &Path, source: &str, object: &Path) -> Result<(), String> {
    let status = Command::new(clang)
        .current_dir(folder)
        .args(FLAGS)
        .args([Path::new(source), Path::new("-o"), object])
        .status()
        .map_err(|error| format!("{clang} could not be started: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{clang} cannot compile {FOLDER}/{source}")) }
}

fn compare(committed: &Path, fresh: &Path) -> Result<(), String> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let sections = |path: &Path| {
        let file = read(path)?;
        what_is_loaded(&file).ok_or_else(|| format!("{} is no 64-bit little-endian ELF object", path.display()))
    };
    let (old, new) = (sections(committed)?, sections(fresh)?);
    let differing: Vec<_> = old.keys().chain(new.keys()).filter(|name| old.get(*name) != new.get(*name)).collect();
    match differing.first() {
        None => Ok(()),
        Some(section) => Err(format!(
            "{} is not what its source makes (section {section}). Look at the difference, then `cargo xtask bpf --write`",
            committed.display()
        )),
    }
}

/// Sections by name: instructions, relocations, maps, constants and types; not what only a debugger reads.
fn what_is_loaded(file: &[u8]) -> Option<BTreeMap<String, Vec<u8>>> {
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = file.get(at..at.checked_add(length)?)?;
        usize::try_from(bytes.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte))).ok()
    };
    // `Elf64_Ehdr` and `Elf64_Shdr`, elf(5).
    if file.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, size, count, names) = (number(0x28, 8)?, number(0x3a, 2)?, number(0x3c, 2)?, number(0x3e, 2)?);
    let header = |index: usize| index.checked_mul(size)?.checked_add(table);
    let content = |index: usize| {
        let at = header(index)?;
        let (from, length) = (number(at + 0x18, 8)?, number(at + 0x20, 8)?);
        file.get(from..from.checked_add(length)?)
    };
    let strings = content(names)?;
    let mut sections = BTreeMap::new();
    for index in 1..count {
        let name = strings.get(number(header(index)?, 4)?..)?.split(|&byte| byte == 0).next()?;
        let name = String::from_utf8_lossy(name).into_owned();
        let for_debuggers =
            name.contains(".debug_") || [".strtab", ".symtab", ".llvm_addrsig"].contains(&name.as_str());
        if !for_debuggers {
            sections.insert(name, content(index)?.to_vec());
        }
    }
    Some(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_instruction_is_seen_and_a_cut_off_file_is_refused() {
        let path = crate::root().join(FOLDER).join("entropy.bpf.o");
        let mut file = std::fs::read(path).unwrap();
        let sections = what_is_loaded(&file).unwrap();
        let program = &sections["tp_btf/mm_page_free"];
        assert!(program.len() > 100 && sections.contains_key(".BTF.ext") && !sections.contains_key(".debug_info"));
        let at = file.windows(program.len()).position(|window| window == program).unwrap();
        file[at] ^= 1;
        assert_ne!(what_is_loaded(&file).unwrap(), sections);
        for length in 0..file.len() {
            // No panic, whatever is missing.
            let _ = what_is_loaded(&file[..length]);
        }
    }
}
