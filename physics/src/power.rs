//! Watts from how busy each core is.
//!
//! ```text
//!  P = idle + (f/f_ref)^γ · ( awake · A  +  class · Σ_threads w · curve(u) )
//!
//!  A = 1 − Π_threads (1 − u)    share of time that at least one is awake
//!  w = 1 for as many threads as there are physical cores, the busiest first; `share` for the rest
//! ```
//!
//! * `curve` is piecewise linear in a core's own utilisation, because clocks and voltages follow load.
//! * `awake` is what the package burns before any work is done: caches, fabric and memory controller leave their sleep
//!   when the first core does. On an idle server the first busy core costs tens of watts, the second two.
//! * `share` is what a second hardware thread adds to a core that is busy already.
//! * `class` is the power of this kind of work beside ordinary work.
//! * The clock counts only where both the model and the caller know it.
//!
//! Every term but the first is optional; which ones a machine gets is decided by [`fit`](crate::fit), by error on rows
//! that the fit has not seen.

use maxwell_core::units::Watts;

/// A clock frequency.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Megahertz(pub f64);

impl std::fmt::Display for Megahertz {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0}MHz", self.0)
    }
}

/// Some cores (hardware threads) that are equally busy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cores {
    /// How many.
    pub count: u16,
    /// Share of the time that each of them is busy, 0 to 1.
    pub utilisation: f64,
}

/// A point of a core's curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knot {
    /// Share of the time that the core is busy.
    pub utilisation: f64,
    /// Power that it adds then.
    pub watts: Watts,
}

/// Hardware threads that share cores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Siblings {
    /// How many physical cores there are: so many threads are busy before two must share one.
    pub cores: u16,
    /// What a second thread adds to a busy core, beside what the first added.
    pub share: f64,
}

impl Siblings {
    /// How many of the threads `seen` to `seen + count` have a core to themselves.
    fn alone(self, seen: u32, count: u16) -> u16 {
        let free = u32::from(self.cores).saturating_sub(seen);
        count.min(u16::try_from(free).unwrap_or(u16::MAX))
    }
}

/// How power follows the clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frequency {
    /// The clock at which the other numbers hold.
    pub reference: Megahertz,
    /// Power goes with this power of the clock.
    pub gamma: f64,
}

impl Frequency {
    /// The factor on everything but idle power.
    pub(crate) fn factor(self, clock: Megahertz) -> f64 {
        (clock.0 / self.reference.0).max(0.0).powf(self.gamma)
    }
}

/// A machine's power as a function of its load.
#[derive(Clone, Debug, PartialEq)]
pub struct PowerModel {
    /// Power of the idle machine.
    pub idle: Watts,
    /// Power added while any core is awake.
    pub awake: Watts,
    /// Power of one core by its utilisation: piecewise linear from an implied (0, 0W), rising, up to utilisation 1.
    pub curve: Vec<Knot>,
    /// Hardware threads that share cores, where that matters.
    pub siblings: Option<Siblings>,
    /// How power follows the clock, where that is known.
    pub frequency: Option<Frequency>,
}

/// Teads' generic curve: idle, 10, 50 and 100 % load at 0.12, 0.32, 0.75 and 1.02 of TDP (Benjamin Davy, *Building an
/// AWS EC2 carbon emissions dataset*, 2021), with idle taken off and full load as 1. Rounded as its source's figures.
const TEADS: [(f64, f64); 3] = [(0.1, 0.227), (0.5, 0.716), (1.0, 1.0)];

impl PowerModel {
    /// A machine of which only the power when idle, and of one fully busy core, is known: between them, Teads' generic
    /// shape.
    #[must_use]
    pub fn generic(idle: Watts, core: Watts) -> Self {
        let knot = |(utilisation, share): (f64, f64)| Knot { utilisation, watts: Watts(core.0 * share) };
        Self { idle, awake: Watts(0.0), curve: TEADS.map(knot).to_vec(), siblings: None, frequency: None }
    }

    /// Power that one core adds at a utilisation, beside the terms that the machine shares.
    #[must_use]
    pub fn core(&self, utilisation: f64) -> Watts {
        let mut from = Knot { utilisation: 0.0, watts: Watts(0.0) };
        for to in &self.curve {
            if utilisation <= to.utilisation {
                return Watts(
                    from.watts.0 + (to.watts.0 - from.watts.0) * ramp(utilisation, from.utilisation, to.utilisation),
                );
            }
            from = *to;
        }
        from.watts
    }

    /// Power of the machine while `cores` are busy (the busiest first) with work of a power class (1 is ordinary), at a
    /// clock if known.
    ///
    /// ```
    /// use maxwell_core::units::Watts;
    /// use maxwell_physics::power::{Cores, PowerModel};
    /// let model = PowerModel::generic(Watts(10.0), Watts(4.0));
    /// let two_busy = [Cores { count: 2, utilisation: 1.0 }];
    /// assert_eq!(model.at(&two_busy, 1.0, None), Watts(18.0));
    /// ```
    #[must_use]
    pub fn at(&self, cores: &[Cores], class: f64, clock: Option<Megahertz>) -> Watts {
        let own: f64 =
            weighted(self.siblings, cores).map(|(weight, utilisation)| weight * self.core(utilisation).0).sum();
        let clocked = match (self.frequency, clock) {
            (Some(frequency), Some(clock)) => frequency.factor(clock),
            _ => 1.0,
        };
        Watts(self.idle.0 + clocked * (self.awake.0 * awake(cores) + class * own))
    }
}

/// The weight and the utilisation of each group of cores.
pub(crate) fn weighted(siblings: Option<Siblings>, cores: &[Cores]) -> impl Iterator<Item = (f64, f64)> {
    let mut seen = 0u32;
    cores.iter().map(move |group| {
        let weight = siblings.map_or_else(
            || f64::from(group.count),
            |siblings| {
                let alone = siblings.alone(seen, group.count);
                f64::from(alone) + siblings.share * f64::from(group.count - alone)
            },
        );
        seen = seen.saturating_add(u32::from(group.count));
        (weight, group.utilisation)
    })
}

/// How far `utilisation` lies between two knots, 0 to 1.
pub(crate) fn ramp(utilisation: f64, from: f64, to: f64) -> f64 {
    if to > from { ((utilisation - from) / (to - from)).clamp(0.0, 1.0) } else { 1.0 }
}

/// Share of time that at least one core is awake, if they wake independently of each other.
pub(crate) fn awake(cores: &[Cores]) -> f64 {
    let asleep = |group: &Cores| (1.0 - group.utilisation).clamp(0.0, 1.0).powi(i32::from(group.count));
    1.0 - cores.iter().map(asleep).product::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn model() -> PowerModel {
        PowerModel {
            idle: Watts(10.0),
            awake: Watts(6.0),
            curve: [(0.5, 1.0), (1.0, 4.0)].map(|(utilisation, w)| Knot { utilisation, watts: Watts(w) }).to_vec(),
            siblings: Some(Siblings { cores: 4, share: 0.25 }),
            frequency: Some(Frequency { reference: Megahertz(3_000.0), gamma: 2.0 }),
        }
    }

    fn at(count: u16, utilisation: f64) -> f64 {
        model().at(&[Cores { count, utilisation }], 1.0, None).0
    }

    #[test]
    fn each_term_does_what_its_name_says() {
        assert!((at(0, 1.0) - 10.0).abs() < 1e-12, "idle");
        assert!((at(1, 1.0) - 20.0).abs() < 1e-12, "idle, awake and one core");
        assert!((at(4, 1.0) - 32.0).abs() < 1e-12, "a core each");
        assert!((at(8, 1.0) - 36.0).abs() < 1e-12, "four cores, and four threads at a quarter of one");
        assert!((at(1, 0.5) - 14.0).abs() < 1e-12, "awake half of the time, 1 W in the middle of the curve");
        assert!((at(2, 0.5) - (10.0 + 6.0 * 0.75 + 2.0)).abs() < 1e-12, "one of two sleepers is awake 3/4 of the time");
        let slow = model().at(&[Cores { count: 1, utilisation: 1.0 }], 1.0, Some(Megahertz(1_500.0))).0;
        assert!((slow - 12.5).abs() < 1e-12, "half the clock, a quarter of the power: {slow}");
        let hot = model().at(&[Cores { count: 1, utilisation: 1.0 }], 2.0, None).0;
        assert!((hot - 24.0).abs() < 1e-12, "work of twice the power, in the same package");
    }

    #[test]
    fn a_curve_is_followed_between_its_knots_and_held_outside_of_them() {
        let model = PowerModel::generic(Watts(0.0), Watts(10.0));
        for (utilisation, watts) in [(-1.0, 0.0), (0.0, 0.0), (0.05, 1.135), (0.3, 4.715), (1.0, 10.0), (3.0, 10.0)] {
            assert!((model.core(utilisation).0 - watts).abs() < 1e-12, "{utilisation}");
        }
        let bare = PowerModel { curve: Vec::new(), ..model };
        assert_eq!(bare.core(0.5), Watts(0.0));
    }

    proptest! {
        #[test]
        fn more_load_never_burns_less(a in 0.0..=1.0f64, b in 0.0..=1.0f64, count in 0u16..64) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(at(count, low) <= at(count, high) + 1e-9);
            prop_assert!(at(count, low) <= at(count + 1, low) + 1e-9);
        }
    }
}
