//! A slow counter made smooth: monotone always, exact once the counter has caught up, within one percent after ten
//! seconds, across wraps.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a failure to unwrap is a failure of the test"
)]

use maxwell_core::sensor::CounterSpec;
use maxwell_core::units::Watts;
use maxwell_physics::TruedUp;
use proptest::prelude::*;

const MOST_WATTS: f64 = 700.0;
const LEAST_WATTS: f64 = 400.0;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_shown_is_what_was_used(
        // Watts, and for how many ticks of 10 ms.
        powers in prop::collection::vec((LEAST_WATTS..MOST_WATTS, 10..100_u32), 20..60),
        refresh_ms in 20..=100_u64,
        start in any::<u32>(),
        says_power in any::<bool>(),
    ) {
        // Millijoules in a register so narrow that it wraps every two seconds.
        let spec = CounterSpec { max: (1 << 20) - 1, unit_num: 1_000_000, unit_den: 1 };
        let mut it = TruedUp::new(spec, Watts(MOST_WATTS), refresh_ms as u32);
        let (mut used_nj, mut counted_nj, mut renewed_ms, mut now_ms, mut shown) = (0.0_f64, 0.0_f64, 0_u64, 0_u64, 0);
        let raw = |nj: f64| ((nj * 1e-6) as u64 + u64::from(start)) & spec.max;
        it.observe(raw(0.0), None, 0);
        for (watts, ticks) in powers {
            for _ in 0..ticks {
                now_ms += 10;
                used_nj += watts * 1e7;
                if now_ms - renewed_ms >= refresh_ms {
                    (renewed_ms, counted_nj) = (now_ms, used_nj);
                }
                prop_assert!(it.observe(raw(counted_nj), says_power.then_some(Watts(watts)), now_ms * 1_000));
                let next = it.shown(now_ms * 1_000);
                prop_assert!(next >= shown, "it never goes back");
                shown = next;
                prop_assert!(shown >= it.settled());
                prop_assert!((it.settled() as f64 - counted_nj).abs() < 2e6, "settled is the counter, to its unit");
                // Ahead of what was used by at most the power that was wrong, for one renewal and a tick.
                let ahead = shown as f64 - used_nj;
                prop_assert!(ahead <= (MOST_WATTS - LEAST_WATTS) * 1e6 * (refresh_ms + 10) as f64 + 2e6, "{ahead} nJ ahead");
                if now_ms >= 10_000 {
                    if renewed_ms == now_ms {
                        prop_assert!((shown as f64 - counted_nj).abs() <= 0.01 * counted_nj, "{shown} for {counted_nj}");
                    }
                    prop_assert!((shown as f64 - used_nj).abs() <= 0.01 * used_nj, "{shown} for {used_nj}");
                }
            }
        }
        // The load ends: the counter catches up, and both are the same to the nanojoule.
        for _ in 0..100 {
            now_ms += 10;
            used_nj += 50.0 * 1e7;
            prop_assert!(it.observe(raw(used_nj), None, now_ms * 1_000));
            it.shown(now_ms * 1_000);
        }
        it.observe(raw(used_nj), Some(Watts(0.0)), now_ms * 1_000);
        let ahead = it.shown(now_ms * 1_000) - it.settled();
        prop_assert!(ahead as f64 <= 700.0 * 1e6 * 10.0, "{ahead} nJ");
    }

    #[test]
    fn any_sequence_of_values_is_monotone(
        values in prop::collection::vec((any::<u64>(), prop::option::of(-1e12_f64..1e12), 0..10_000_000_u64), 1..100),
        max in any::<u64>(),
        num in 1..u64::from(u32::MAX),
        den in 0..u64::from(u32::MAX),
    ) {
        let mut it = TruedUp::new(CounterSpec { max, unit_num: num, unit_den: den }, Watts(MOST_WATTS), 100);
        let (mut now_us, mut last) = (0, 0);
        for (raw, power, later_us) in values {
            now_us += later_us;
            it.observe(raw, power.map(Watts), now_us);
            let shown = it.shown(now_us);
            prop_assert!(shown >= last);
            // At most what the domain can draw, renewals and jitter included.
            prop_assert!((shown - last) as f64 <= MOST_WATTS * 1e3 * (later_us as f64 + 602_000.0));
            last = shown;
        }
    }
}

#[test]
fn it_is_exact_once_the_counter_has_caught_up() {
    let mut it = TruedUp::new(CounterSpec::microjoules(u64::MAX), Watts(MOST_WATTS), 100);
    it.observe(0, None, 0);
    it.observe(60_000_000, None, 100_000);
    assert_eq!(it.shown(190_000), 114_000_000_000, "600 W go on, provisionally");
    it.observe(61_000_000, None, 200_000);
    assert_eq!(it.shown(200_000), 114_000_000_000, "it was 10 W; nothing is taken back");
    it.observe(114_000_000, None, 5_000_000);
    assert_eq!((it.shown(5_000_000), it.settled()), (114_000_000_000, 114_000_000_000));
    it.observe(114_000_001, None, 5_100_000);
    assert_eq!(it.settled(), 114_000_001_000);
}
