//! Resource limits of a process (`setrlimit(2)`), hard and soft alike. They never go above what we have ourselves.

use rustix::process::{Resource, Rlimit, getrlimit};

/// What a process may use; none leaves a limit as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimits {
    /// Bytes of a core file. 0 unless asked for: a crash must not fill the disk.
    pub core: Option<u64>,
    /// Descriptors. 65,536 at most unless asked for.
    pub nofile: Option<u64>,
    /// Processes of the *user*, wherever they run.
    pub nproc: Option<u64>,
    /// Bytes of a file.
    pub fsize: Option<u64>,
    /// Bytes of address space.
    pub r#as: Option<u64>,
}

impl Default for Rlimits {
    fn default() -> Self {
        Self { core: Some(0), nofile: Some(65_536), nproc: None, fsize: None, r#as: None }
    }
}

impl Rlimits {
    /// The limit with this name.
    pub(super) fn named(&mut self, name: &str) -> Option<&mut Option<u64>> {
        match name {
            "core" => Some(&mut self.core),
            "nofile" => Some(&mut self.nofile),
            "nproc" => Some(&mut self.nproc),
            "fsize" => Some(&mut self.fsize),
            "as" => Some(&mut self.r#as),
            _ => None,
        }
    }

    /// As the kernel takes them, with their names.
    pub(super) fn resolve(&self) -> Vec<(&'static str, Resource, Rlimit)> {
        let asked = [
            ("core", Resource::Core, self.core),
            ("nofile", Resource::Nofile, self.nofile),
            ("nproc", Resource::Nproc, self.nproc),
            ("fsize", Resource::Fsize, self.fsize),
            ("as", Resource::As, self.r#as),
        ];
        let lower = |ours: Option<u64>, most: u64| {
            if most == u64::MAX { ours } else { Some(ours.map_or(most, |o| o.min(most))) }
        };
        asked
            .into_iter()
            .filter_map(|(name, resource, most)| {
                let (most, ours) = (most?, getrlimit(resource));
                // The soft limit stays lower if it is, but for those that were asked for: nobody asks for 4096 and wants 1024.
                let maximum = lower(ours.maximum, most);
                let current = if name == "nofile" && most == 65_536 { lower(ours.current, most) } else { maximum };
                Some((name, resource, Rlimit { current, maximum }))
            })
            .collect()
    }
}
