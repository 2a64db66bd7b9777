//! A slow counter made smooth.
//!
//! Some counters are renewed ten times a second or less: NVIDIA's, and a host's file. Inside a 10 ms tick they would show
//! nothing nine times and a tenfold power the tenth. So between true values the power of the last stretch is assumed to go
//! on, and each true value puts the account right:
//!
//! ```text
//!   nJ │                       ●──── a true value: what was shown too much is waited for, never taken back
//!      │                  ,──'─┘
//!      │             ●──'   shown, provisional: last power × time
//!      │        ,──'
//!      │   ●──'          ● true values of the counter
//!      └───────────────────────────────────────────────► time
//!                                     after three renewals without a true value it stops, and only grows old
//! ```
//!
//! What is shown never goes back, and is exactly what the counter says as soon as the counter has caught up. It is ahead
//! by at most the fall of power times the renewals it was wrong about; behind never by more than the counter itself.

use maxwell_core::sensor::CounterSpec;
use maxwell_core::units::Watts;

/// Renewals that are bridged.
const BRIDGED: u64 = 3;
/// A counter of one renewal may hold the energy of so much more time: renewals jitter.
const JITTER_US: u64 = 2_000;

/// A smooth, monotone count of nanojoules over a slow one.
#[derive(Clone, Debug, PartialEq)]
pub struct TruedUp {
    spec: CounterSpec,
    max_power: Watts,
    refresh_us: u64,
    last: Option<u64>,
    /// True counts since the first value, and when they last moved.
    counts: u128,
    moved_us: u64,
    /// The assumed power, in nanojoules a microsecond.
    power: f64,
    shown: u64,
    gaps: u64,
}

impl TruedUp {
    /// Over a counter that is renewed every `refresh_ms` and whose domain draws at most `max_power`.
    #[must_use]
    pub fn new(spec: CounterSpec, max_power: Watts, refresh_ms: u32) -> Self {
        let spec = CounterSpec { unit_den: spec.unit_den.max(1), ..spec };
        let refresh_us = u64::from(refresh_ms.max(1)) * 1_000;
        Self { spec, max_power, refresh_us, last: None, counts: 0, moved_us: 0, power: 0.0, shown: 0, gaps: 0 }
    }

    /// The counter shows `raw` at `now_us`. `power` is what the source says about power right now, if it says anything;
    /// otherwise the power of the last stretch is taken. Answers whether the value could be true: a delta that no domain
    /// could have drawn is a reset, its energy unknown, and the caller must say so.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, which is what a bound wants"
    )]
    pub fn observe(&mut self, raw: u64, power: Option<Watts>, now_us: u64) -> bool {
        let raw = raw.min(self.spec.max);
        if let Some(power) = power.filter(|power| power.0.is_finite()) {
            // A watt is a thousand nanojoules a microsecond.
            self.power = power.0.clamp(0.0, self.max_power.0) * 1_000.0;
        }
        let Some(last) = self.last.replace(raw) else {
            self.moved_us = now_us;
            return true;
        };
        let delta = if raw >= last { raw - last } else { self.spec.max - last + 1 + raw };
        if delta == 0 {
            return true;
        }
        let elapsed_us = now_us.saturating_sub(self.moved_us);
        self.moved_us = now_us;
        let most = self.max_power.0.max(0.0) * 1_000.0 * (elapsed_us + self.refresh_us + JITTER_US) as f64;
        let energy = self.nanojoules(u128::from(delta));
        if energy > most as u128 {
            self.gaps += 1;
            self.power = 0.0;
            return false;
        }
        self.counts += u128::from(delta);
        if power.is_none() && elapsed_us > 0 {
            self.power = energy as f64 / elapsed_us as f64;
        }
        true
    }

    /// What to show at `now_us`, in nanojoules since the first value.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and far below 2^63")]
    pub fn shown(&mut self, now_us: u64) -> u64 {
        let bridged_us = self.age_us(now_us).min(BRIDGED * self.refresh_us);
        let provisional = (self.power * bridged_us as f64) as u64;
        self.shown = self.shown.max(self.settled().saturating_add(provisional));
        self.shown
    }

    /// What the counter itself says, in nanojoules since the first value.
    #[must_use]
    pub fn settled(&self) -> u64 {
        u64::try_from(self.nanojoules(self.counts)).unwrap_or(u64::MAX)
    }

    /// How long ago the counter last moved.
    #[must_use]
    pub fn age_us(&self, now_us: u64) -> u64 {
        if self.last.is_none() { u64::MAX } else { now_us.saturating_sub(self.moved_us) }
    }

    /// How often it was reset.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    fn nanojoules(&self, counts: u128) -> u128 {
        counts * u128::from(self.spec.unit_num) / u128::from(self.spec.unit_den)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smooth() -> TruedUp {
        TruedUp::new(CounterSpec { max: u64::MAX, unit_num: 1_000_000, unit_den: 1 }, Watts(1_000.0), 100)
    }

    #[test]
    fn between_true_values_the_last_power_goes_on() {
        let mut it = smooth();
        it.observe(1_000, None, 0);
        assert_eq!(it.shown(50_000), 0, "nothing is known about power yet");
        // 10 J in 100 ms: 100 W.
        it.observe(11_000, None, 100_000);
        assert_eq!(it.shown(100_000), 10_000_000_000);
        assert_eq!(it.shown(150_000), 15_000_000_000);
        // It fell to 20 W: the 5 J shown were 4 J too many, and are waited for.
        it.observe(12_000, None, 150_000);
        assert_eq!(it.shown(150_000), 15_000_000_000);
        it.observe(22_000, None, 650_000);
        assert_eq!((it.shown(650_000), it.settled()), (21_000_000_000, 21_000_000_000));
    }

    #[test]
    fn it_stops_after_three_renewals_and_grows_old() {
        let mut it = smooth();
        it.observe(0, None, 0);
        it.observe(10_000, None, 100_000);
        assert_eq!(it.shown(400_000), 40_000_000_000);
        assert_eq!(it.shown(900_000), 40_000_000_000);
        assert_eq!(it.age_us(900_000), 800_000);
    }

    #[test]
    fn what_the_source_says_about_power_comes_first() {
        let mut it = smooth();
        it.observe(0, Some(Watts(50.0)), 0);
        assert_eq!(it.shown(20_000), 1_000_000_000);
    }

    #[test]
    fn a_reset_is_no_energy_and_is_told() {
        let mut it = smooth();
        it.observe(5_000_000, None, 0);
        assert!(it.observe(5_001_000, None, 100_000));
        assert!(!it.observe(3, None, 200_000));
        assert_eq!((it.gaps(), it.settled()), (1, 1_000_000_000));
        assert!(it.observe(1_003, None, 300_000), "it goes on from there");
        assert_eq!(it.settled(), 2_000_000_000);
    }
}
