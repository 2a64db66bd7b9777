//! The clock that the cores run at, for models that know how power follows it.
//!
//! Linux shows it per core in `cpufreq/scaling_cur_freq`, in kilohertz. A read may ask another core, so one core is asked
//! a tick, in turns, and the mean of the last answers is what counts. Virtual machines show nothing.

use crate::power::Megahertz;
use crate::sensors::{Kept, Root};

/// No more cores than this are asked: their mean says enough.
const MOST: usize = 16;

/// The mean clock of the machine's cores.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    cores: Vec<(Kept, Option<f64>)>,
    next: usize,
}

impl Clock {
    /// Opens the clocks of a machine, as many as it shows.
    pub(crate) fn open(root: &Root) -> Self {
        let folder = "sys/devices/system/cpu";
        let mut cores: Vec<u32> = root
            .names(folder)
            .iter()
            .filter_map(|name| name.strip_prefix("cpu").and_then(|number| number.parse().ok()))
            .collect();
        cores.sort_unstable();
        let every = cores.len().div_ceil(MOST).max(1);
        let cores = cores
            .into_iter()
            .step_by(every)
            .filter_map(|core| root.keep(&format!("{folder}/cpu{core}/cpufreq/scaling_cur_freq")).ok())
            .map(|file| (file, None))
            .collect();
        Self { cores, next: 0 }
    }

    /// Asks the next core; returns the mean of all that have answered last time they were asked. Allocates nothing.
    pub(crate) fn read(&mut self) -> Option<Megahertz> {
        let count = self.cores.len();
        let (file, last) = self.cores.get_mut(self.next)?;
        *last = file.number().ok().filter(|khz| *khz > 0).map(|khz| khz as f64 / 1_000.0);
        self.next = (self.next + 1) % count;
        let (sum, answers) = self
            .cores
            .iter()
            .filter_map(|(_, mhz)| *mhz)
            .fold((0.0, 0u32), |(sum, answers), mhz| (sum + mhz, answers + 1));
        (answers > 0).then(|| Megahertz(sum / f64::from(answers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_the_cores_follows_them_in_turns() {
        let folder = tempfile::tempdir().unwrap();
        let file = |core: u32| folder.path().join(format!("sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq"));
        for (core, khz) in [(0, "2000000\n"), (1, "4000000\n"), (2, "junk")] {
            std::fs::create_dir_all(file(core).parent().unwrap()).unwrap();
            std::fs::write(file(core), khz).unwrap();
        }
        let mut clock = Clock::open(&Root::tree(folder.path()));
        assert_eq!(clock.read(), Some(Megahertz(2_000.0)));
        assert_eq!(clock.read(), Some(Megahertz(3_000.0)));
        assert_eq!(clock.read(), Some(Megahertz(3_000.0)), "junk is no clock");
        std::fs::write(file(0), "1000000\n").unwrap();
        assert_eq!(clock.read(), Some(Megahertz(2_500.0)));
        assert_eq!(Clock::open(&Root::tree(folder.path().join("nothing"))).read(), None);
    }
}
