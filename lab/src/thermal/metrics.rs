//! What makes one trial better than another.

use serde::Serialize;

use super::case::{Case, SLOTS, policy};
use super::rig::TICK_US;
use super::trial::Sample;

/// The figures of one trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Metrics {
    /// The furthest that the die went above the set point, in kelvin.
    pub overshoot: f64,
    /// Seconds from the load until the die stays within 1 K of the set point, while work is refused; `None` if it never
    /// does, or if nothing was refused.
    pub settling: Option<f64>,
    /// The furthest from the set point in the last minute, while work is refused (0 if nothing is); `None` where the load
    /// does not stand still.
    pub band: Option<f64>,
    /// Integral of the absolute error in kelvin-seconds. Being cooler than the set point is an error only while work is
    /// refused; being hotter always is.
    pub iae: f64,
    /// How often the die reached the temperature at which hardware throttles.
    pub throttle_events: u32,
    /// How often everything was frozen.
    pub trips: u32,
    /// Peak to peak of the price in the last half minute, as a share of its mean; `None` where the load does not stand
    /// still.
    pub price_amplitude: Option<f64>,
    /// Seconds from the end of a burst until everybody who stayed is served.
    pub recovery: Option<f64>,
    /// The slope of the die (kelvin per second for a watt) as it was learnt, beside the true one: 1 is exact. `None` if
    /// nothing was learnt, because the given plant explains what was seen or nothing moved.
    pub slope_learnt: Option<f64>,
    /// Core-seconds of work done.
    pub work: f64,
    /// The highest temperature, in degrees Celsius.
    pub peak: f64,
}

/// Gathers the figures tick by tick.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    metrics: Metrics,
    last_outside: f64,
    refused_ever: bool,
    band: f64,
    hot: bool,
    tripped: bool,
    price: (f64, f64, f64, u32),
    /// Smoothed share of demand that is refused: supply is dithered, so one tick says nothing.
    refused: f64,
}

impl Gauge {
    pub(super) fn tick(&mut self, case: &Case, sample: &Sample) {
        let policy = policy();
        let dt = TICK_US as f64 * 1e-6;
        let t = sample.seconds;
        let begins = case.load.begins();
        let metrics = &mut self.metrics;
        metrics.work += sample.busy * dt;
        let wanted = f64::from(sample.active.min(SLOTS));
        self.refused += ((wanted - sample.busy) - self.refused) * 0.05;
        if t < begins {
            return;
        }
        let error = sample.celsius - policy.set.0;
        metrics.peak = metrics.peak.max(sample.celsius);
        metrics.overshoot = metrics.overshoot.max(error);
        let refused = self.refused > 0.05;
        self.refused_ever |= refused;
        if error > 0.0 || refused {
            metrics.iae += error.abs() * dt;
        }
        if error > 1.0 || (refused && error < -1.0) {
            self.last_outside = t;
        }
        let end = case.seconds;
        if t >= end - 60.0 && (error > 0.0 || refused) {
            self.band = self.band.max(error.abs());
        }
        let hot = sample.celsius >= policy.critical.0 - 5.0;
        metrics.throttle_events += u32::from(hot && !self.hot);
        metrics.trips += u32::from(sample.tripped && !self.tripped);
        (self.hot, self.tripped) = (hot, sample.tripped);
        if let Some(price) = sample.price
            && t >= end - 30.0
        {
            let price = price.0 as f64;
            let (low, high, sum, n) = if self.price.3 == 0 { (price, price, 0.0, 0) } else { self.price };
            self.price = (low.min(price), high.max(price), sum + price, n + 1);
        }
        if let super::case::Load::Burst { to, .. } = case.load
            && t >= to
            && metrics.recovery.is_none()
            && sample.busy >= wanted
        {
            metrics.recovery = Some(t - to);
        }
    }

    pub(super) fn finish(mut self, case: &Case) -> Metrics {
        let settled = self.last_outside - case.load.begins();
        let steady = matches!(case.load, super::case::Load::Step { .. }) && self.refused_ever;
        self.metrics.settling = (steady && self.last_outside < case.seconds - 10.0).then_some(settled.max(0.0));
        let still = matches!(case.load, super::case::Load::Step { .. } | super::case::Load::Ramp { .. });
        self.metrics.band = still.then_some(self.band);
        if self.price.3 > 0 && still {
            let (low, high, sum, n) = self.price;
            self.metrics.price_amplitude = Some((high - low) / (sum / f64::from(n)));
        }
        self.metrics
    }
}
