//! Linux's `power_allocator` thermal governor, written anew from its published equations.
//!
//! ```text
//!  e = T_control − T                                              (millikelvin)
//!  P = clamp(S + k_p·e + k_i·Σe, 0, Σ max power)                  k_p = k_pu below the set point, k_po above
//!  k_po = S/(T_control − T_switch_on)   k_pu = 2·k_po   k_i = k_pu/10   k_d = 0
//! ```
//!
//! `S` is the sustainable power. The error is summed only while it is below `integral_cutoff` (0: only above the set
//! point) and only as long as the integral term stays within the allocatable power. Below `T_switch_on` the governor is
//! off: every device may draw its maximum, and the integral is forgotten. Then the budget is divided: each device gets the share of
//! its request, capped at its maximum, and what is left over goes to whoever has room. Arithmetic is fixed point with ten
//! fractional bits, as in the kernel.
//!
//! Source of equations and defaults: Linux, `drivers/thermal/gov_power_allocator.c`, and
//! `Documentation/driver-api/thermal/power_allocator.rst`.

use maxwell_core::units::{Celsius, Watts};

const FRACTION_BITS: u32 = 10;

fn times(gain: i64, value: i64) -> i64 {
    (gain * value) >> FRACTION_BITS
}

#[allow(clippy::cast_possible_truncation, reason = "temperatures and powers of machines are far below 2^53")]
fn milli(value: f64) -> i64 {
    (value * 1_000.0) as i64
}

/// The governor of one thermal zone.
#[derive(Clone, Debug)]
pub struct PowerAllocator {
    control: i64,
    switch_on: i64,
    sustainable: i64,
    max_power: i64,
    k_po: i64,
    k_pu: i64,
    k_i: i64,
    err_integral: i64,
}

impl PowerAllocator {
    /// A governor with the kernel's default gains. `sustainable` is the power that its devices may draw for ever,
    /// `max_power` the most they can.
    #[must_use]
    pub fn new(control: Celsius, switch_on: Celsius, sustainable: Watts, max_power: Watts) -> Self {
        let (control, switch_on) = (milli(control.0), milli(switch_on.0));
        let (sustainable, max_power) = (milli(sustainable.0), milli(max_power.0));
        let range = (control - switch_on).max(1);
        let k_pu = ((2 * sustainable) << FRACTION_BITS) / range;
        Self {
            control,
            switch_on,
            sustainable,
            max_power,
            k_po: (sustainable << FRACTION_BITS) / range,
            k_pu,
            k_i: (k_pu / 10).max(1),
            err_integral: 0,
        }
    }

    /// One poll of the zone: the power that its devices may draw until the next.
    pub fn poll(&mut self, shown: Celsius) -> Watts {
        let temperature = milli(shown.0);
        if temperature < self.switch_on {
            self.err_integral = 0;
            return Watts(self.max_power as f64 / 1_000.0);
        }
        let err = (self.control - temperature) << FRACTION_BITS;
        let p = times(if err < 0 { self.k_po } else { self.k_pu }, err);
        let mut i = times(self.k_i, self.err_integral);
        // integral_cutoff is 0.
        if err < 0 {
            let next = i + times(self.k_i, err);
            if next.abs() < self.max_power << FRACTION_BITS {
                i = next;
                self.err_integral += err;
            }
        }
        let budget = self.sustainable + ((p + i) >> FRACTION_BITS);
        Watts(budget.clamp(0, self.max_power) as f64 / 1_000.0)
    }

    /// Divides `budget` among devices by what they request; returns what each may draw.
    #[must_use]
    pub fn divide(budget: Watts, requests: &[Watts], max: Watts) -> Vec<Watts> {
        let total: f64 = requests.iter().map(|request| request.0).sum();
        if total <= 0.0 {
            return vec![Watts(0.0); requests.len()];
        }
        let asked: Vec<f64> = requests.iter().map(|request| budget.0 * request.0 / total).collect();
        let extra: f64 = asked.iter().map(|granted| (granted - max.0).max(0.0)).sum();
        let room: f64 = asked.iter().map(|granted| (max.0 - granted).max(0.0)).sum();
        let share = if room > 0.0 { extra.min(room) / room } else { 0.0 };
        asked.iter().map(|granted| Watts(granted.min(max.0) + share * (max.0 - granted).max(0.0))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn governor() -> PowerAllocator {
        PowerAllocator::new(Celsius(75.0), Celsius(65.0), Watts(40.0), Watts(80.0))
    }

    #[test]
    fn the_default_gains_are_the_kernels() {
        // k_po = S/(T_control − T_switch_on) = 40 W / 10 K, k_pu twice that.
        let mut governor = governor();
        assert!((governor.poll(Celsius(60.0)).0 - 80.0).abs() < 1e-9, "off below the first trip point");
        assert!((governor.poll(Celsius(75.0)).0 - 40.0).abs() < 0.01);
        assert!((governor.poll(Celsius(74.0)).0 - 48.0).abs() < 0.01, "8 W/K below");
        // Above: 4 W/K, and 0.8 W/K more with every poll from the integral.
        assert!((governor.poll(Celsius(77.0)).0 - (40.0 - 8.0 - 1.6)).abs() < 0.02);
        assert!((governor.poll(Celsius(77.0)).0 - (40.0 - 8.0 - 3.2)).abs() < 0.02);
        // The sum never shrinks below the set point: integral_cutoff is 0.
        assert!((governor.poll(Celsius(74.0)).0 - (48.0 - 3.2)).abs() < 0.02);
        governor.poll(Celsius(60.0));
        assert!((governor.poll(Celsius(75.0)).0 - 40.0).abs() < 0.01, "switching off forgets the integral");
    }

    #[test]
    fn proportional_division_rewards_demand() {
        let watts = |values: &[f64]| values.iter().map(|v| Watts(*v)).collect::<Vec<_>>();
        let granted = PowerAllocator::divide(Watts(12.0), &watts(&[2.0, 10.0]), Watts(10.0));
        assert!((granted[0].0 - 2.0).abs() < 1e-9 && (granted[1].0 - 10.0).abs() < 1e-9);
        let granted = PowerAllocator::divide(Watts(18.0), &watts(&[1.0, 9.0]), Watts(10.0));
        assert!((granted[1].0 - 10.0).abs() < 1e-9, "capped at its maximum");
        assert!((granted[0].0 - 8.0).abs() < 1e-9, "the surplus goes to whoever has room");
        assert!(PowerAllocator::divide(Watts(18.0), &watts(&[0.0, 0.0]), Watts(10.0)).iter().all(|w| w.0 == 0.0));
    }
}
