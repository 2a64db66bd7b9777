//! Can the thermometer be believed?
//!
//! ```text
//!             value missing, absurd, or stale > 250 ms                > 1 s
//!   Sound ────────────────────────────────────────────► Doubtful ────────────► Silent ──► everything freezes
//!     ▲  │                                                 │                     │  ▲
//!     │  └── does not move although the die must have ─────┼─────────────────────┼──┘
//!     └────────────── Anew: it shows sensible values again, and moves ◄──────────┘
//! ```
//!
//! A thermometer can fail in ways that look healthy. One that jumps is found out by its jump: no die changes by fifteen
//! kelvin between two looks. One that has frozen is found out by the model: power has moved the die, even if its
//! resistance is a third of what is believed and it is three times as quick or as slow, possibly to where it is too hot, and
//! nothing was shown. Both are trusted again only when they show sensible, moving values for
//! a while.

use serde::{Deserialize, Serialize};

use super::observer::{HYPOTHESES, Observer};
use crate::sensor::Temperature;
use crate::units::Celsius;

/// A value this much older than the thermometer's own refresh is stale, in milliseconds.
const STALE_MS: u32 = 250;
/// Doubt that lasts this long, in seconds, is silence.
const SILENT: f64 = 1.0;
/// No die is hotter, in degrees Celsius, and none is this much colder than its air, in kelvin.
const HOTTEST: f64 = 150.0;
const COLDER_THAN_AIR: f64 = 30.0;
/// A difference from the estimate that no model error explains between two looks, in kelvin.
const JUMP: f64 = 15.0;
/// Every plausible plant has moved this far without the thermometer, in kelvin beyond one of its steps: it has frozen.
const FROZEN: f64 = 1.0;
/// The die may be this far above its set point, in kelvin, by the model.
const TOO_HOT: f64 = 2.0;
/// A thermometer that has moved this often works.
const ALIVE: u32 = 3;
/// It is given this long to show it, in seconds beyond its refresh.
const PATIENCE: f64 = 0.3;
/// A thermometer that jumped is believed anew when it has shown values close together for this long, in seconds.
const PROBATION: f64 = 2.0;
/// How close, in kelvin.
const CLOSE: f64 = 5.0;

/// How far the thermometer is believed, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Trust {
    /// Believed.
    Sound,
    /// Believed again from this value on; what was believed before counts no more.
    Anew,
    /// Not believed at the moment: caution.
    Doubtful,
    /// Not believed for too long, or known to be frozen: nothing may run.
    Silent,
}

/// Judges every value of the thermometer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Guard {
    /// How long nothing could be believed, in seconds.
    doubtful: f64,
    begun: bool,
    /// The last value, the extremes of what each hypothesis said while it was shown, and for how long it should have been
    /// another.
    last: f64,
    low: [f64; HYPOTHESES],
    high: [f64; HYPOTHESES],
    moved: f64,
    unmoved: f64,
    /// How often it has moved, without jumping.
    changes: u32,
    frozen: bool,
    /// A thermometer that jumped: where to, and for how long it has stayed there.
    jumped: Option<f64>,
    stayed: f64,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            doubtful: 0.0,
            begun: false,
            last: f64::NAN,
            low: [0.0; HYPOTHESES],
            high: [0.0; HYPOTHESES],
            moved: 0.0,
            unmoved: 0.0,
            changes: 0,
            frozen: false,
            jumped: None,
            stayed: 0.0,
        }
    }
}

impl Guard {
    /// Judges what is shown now, `dt` seconds after the last look.
    pub(super) fn judge(&mut self, dt: f64, sensor: Option<Temperature>, observer: &Observer, set: Celsius) -> Trust {
        let coldest = observer.ambient().0 - COLDER_THAN_AIR;
        let fresh = sensor.filter(|shown| {
            let value = shown.celsius.0;
            let stale = shown.age_ms > shown.refresh_ms.saturating_add(STALE_MS);
            value.is_finite() && value >= coldest && value <= HOTTEST && !stale
        });
        let Some(shown) = fresh else { return self.doubt(dt) };
        self.watch_for_freezing(dt, shown, observer, set);
        if self.frozen {
            self.doubtful = SILENT;
            return Trust::Silent;
        }
        if !self.begun {
            self.begun = true;
            self.doubtful = 0.0;
            return Trust::Anew;
        }
        let value = shown.celsius.0;
        let slow = f64::from(shown.refresh_ms) * 1e-3;
        // The longer nothing was seen, the further the die may have gone.
        let room = JUMP + 2.0 * shown.resolution + 10.0 * (self.doubtful + slow);
        if (value - observer.temperature().0).abs() <= room && self.jumped.is_none() {
            self.doubtful = 0.0;
            return Trust::Sound;
        }
        match self.jumped {
            Some(place) if (value - place).abs() <= CLOSE => self.stayed += dt,
            _ => self.stayed = 0.0,
        }
        self.jumped = Some(value);
        if self.stayed >= PROBATION {
            self.jumped = None;
            self.doubtful = 0.0;
            return Trust::Anew;
        }
        self.doubt(dt)
    }

    fn doubt(&mut self, dt: f64) -> Trust {
        self.doubtful += dt;
        if self.doubtful > SILENT { Trust::Silent } else { Trust::Doubtful }
    }

    /// A thermometer that stands still although every plausible plant has moved for longer than it needs to show it.
    /// It matters only where the die may be too hot by now: on a well cooled machine an unhurried thermometer is no fault.
    fn watch_for_freezing(&mut self, dt: f64, shown: Temperature, observer: &Observer, set: Celsius) {
        let (value, hypotheses) = (shown.celsius.0, observer.hypotheses());
        if value != self.last {
            let alive = (value - self.last).abs() <= JUMP;
            self.changes = if alive { self.changes.saturating_add(1) } else { 0 };
            (self.last, self.low, self.high) = (value, *hypotheses, *hypotheses);
            self.moved = observer.moved();
            self.unmoved = 0.0;
            self.frozen = false;
            return;
        }
        let mut all = true;
        for ((low, high), now) in self.low.iter_mut().zip(&mut self.high).zip(hypotheses) {
            *low = low.min(*now);
            *high = high.max(*now);
            all &= *high - *low > FROZEN + shown.resolution;
        }
        let feared = value + observer.moved() - self.moved;
        // One that has never moved may have shown nonsense from the beginning.
        let feared = if self.changes >= ALIVE { feared } else { feared.max(observer.uncorrected().0 - JUMP) };
        if all && feared > set.0 + TOO_HOT {
            self.unmoved += dt;
        }
        self.frozen |= self.unmoved > PATIENCE + f64::from(shown.refresh_ms) * 1e-3;
    }
}
