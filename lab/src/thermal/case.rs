//! What is tried: plants, thermometers and loads.

use maxwell_core::thermal::{FosterNode, PlantModel, ThermalPolicy};
use maxwell_core::units::{Price, Watts};

/// Cores of the machine under test.
pub(super) const SLOTS: u16 = 8;
/// Agents that may want them: twice as many.
pub const AGENTS: u16 = 16;

/// What the operator told both governors: an eight-core machine of 95 W in a case made for 65 W.
pub(super) fn policy() -> ThermalPolicy {
    ThermalPolicy { slots: SLOTS, idle: Watts(15.0), par: Price(10_000), ..ThermalPolicy::default() }
}

/// How the die's temperature is seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Thermometer {
    /// Whole degrees, at every look: what `x86_pkg_temp` shows.
    Whole,
    /// Whole degrees, renewed once in this many milliseconds: `coretemp` does so every 1,000.
    Slow {
        /// Milliseconds between values.
        refresh_ms: u32,
    },
    /// Shows the same value for ever from this second on, and calls it new.
    Frozen {
        /// When it freezes.
        at: f64,
    },
    /// Wrong by as many kelvin from this second on.
    Off {
        /// When it begins.
        at: f64,
        /// By how much.
        by: f64,
    },
    /// Wrong by up to ten kelvin, another error whenever it likes: the worst of them, or any between.
    Lies {
        /// The seed of its lies.
        seed: u64,
        /// How long each lasts at most, in ticks.
        hold: u32,
    },
    /// Jumps to nonsense (−40 °C, 0 °C, 127 °C, not a number) now and then.
    Jumps {
        /// The seed of its jumps.
        seed: u64,
    },
    /// Gives nothing from this second on.
    Dead {
        /// When it dies.
        at: f64,
    },
}

/// How many agents want a core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// One, and from this second on all of them: 10 % to 100 %.
    Step {
        /// When.
        at: f64,
    },
    /// From none to all, evenly.
    Ramp {
        /// From when.
        from: f64,
        /// Until when.
        to: f64,
    },
    /// From none to all within a period, then none again.
    Sawtooth {
        /// The period in seconds.
        period: f64,
    },
    /// All until this second, then two.
    Burst {
        /// From when.
        from: f64,
        /// Until when.
        to: f64,
    },
}

impl Load {
    /// Agents that want a core at second `t`.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and AGENTS")]
    pub fn active(&self, t: f64) -> u16 {
        let share = |x: f64| (x.clamp(0.0, 1.0) * f64::from(AGENTS)).round() as u16;
        match *self {
            Self::Step { at } => {
                if t < at {
                    1
                } else {
                    AGENTS
                }
            }
            Self::Ramp { from, to } => share((t - from) / (to - from)),
            Self::Sawtooth { period } => share((t / period).fract()),
            Self::Burst { from, to } => {
                if (from..to).contains(&t) {
                    AGENTS
                } else {
                    2
                }
            }
        }
    }

    /// When the machine is first asked for more than it can bear.
    #[must_use]
    pub fn begins(&self) -> f64 {
        match *self {
            Self::Step { at } => at,
            Self::Ramp { from, .. } | Self::Burst { from, .. } => from,
            Self::Sawtooth { .. } => 0.0,
        }
    }
}

/// One trial to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// A short name, usable as a file name.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// Resistances and time constants of the plant beside the model that governors are given.
    pub resistance: f64,
    /// See `resistance`.
    pub tau: f64,
    /// The thermometer.
    pub thermometer: Thermometer,
    /// The load.
    pub load: Load,
    /// Whether agents stop asking when the price is beyond their limit; otherwise they pay anything.
    pub elastic: bool,
    /// The fan fails: the sink's resistance doubles, and so does its time constant.
    pub fan_fails: Option<f64>,
    /// How long it lasts, in seconds.
    pub seconds: f64,
}

impl Case {
    fn new(name: &str, title: &str) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            resistance: 1.0,
            tau: 1.0,
            thermometer: Thermometer::Whole,
            load: Load::Step { at: 30.0 },
            elastic: true,
            fan_fails: None,
            seconds: 330.0,
        }
    }

    /// The plant as it is.
    #[must_use]
    pub fn plant(&self) -> PlantModel {
        let nominal = policy().model;
        let node =
            |node: FosterNode| FosterNode { resistance: node.resistance * self.resistance, tau: node.tau * self.tau };
        PlantModel { fast: node(nominal.fast), slow: node(nominal.slow), ..nominal }
    }

    /// The plant after the fan has failed.
    #[must_use]
    pub fn plant_without_fan(&self) -> PlantModel {
        let plant = self.plant();
        let FosterNode { resistance, tau } = plant.slow;
        PlantModel { slow: FosterNode { resistance: 2.0 * resistance, tau: 2.0 * tau }, ..plant }
    }

    /// Every case of the standard comparison.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut cases = vec![
            Self::new("step", "load step from 10 % to 100 %"),
            Self { load: Load::Ramp { from: 30.0, to: 150.0 }, ..Self::new("ramp", "load ramp over two minutes") },
            Self {
                load: Load::Sawtooth { period: 60.0 },
                ..Self::new("sawtooth", "load sawtooth with a period of one minute")
            },
            Self { elastic: false, ..Self::new("inelastic", "load step, agents who pay anything") },
            Self {
                elastic: false,
                load: Load::Burst { from: 30.0, to: 90.0 },
                seconds: 150.0,
                ..Self::new("burst", "a minute of saturation by agents who pay anything, then two modest ones")
            },
            Self { fan_fails: Some(180.0), ..Self::new("fan", "the fan fails after three minutes") },
            Self {
                thermometer: Thermometer::Slow { refresh_ms: 1_000 },
                ..Self::new("stale", "load step, thermometer renewed once a second")
            },
        ];
        for (r, tau) in grid() {
            for elastic in [true, false] {
                let kind = if elastic { "elastic" } else { "inelastic" };
                let name = format!("grid-r{}-t{}-{kind}", word(r), word(tau));
                let title = format!("load step, {kind}; resistances {}, time constants {}", times(r), times(tau));
                // Slow sinks need longer to show what they do.
                let seconds = 30.0 + 300.0 * tau.max(1.0);
                cases.push(Self { resistance: r, tau, elastic, seconds, ..Self::new(&name, &title) });
            }
        }
        cases
    }
}

/// The plants that differ from the model: each factor ⅓, 1 and 3, without the nominal one.
fn grid() -> impl Iterator<Item = (f64, f64)> {
    let factors = [1.0 / 3.0, 1.0, 3.0];
    factors
        .into_iter()
        .flat_map(move |r| factors.into_iter().map(move |tau| (r, tau)))
        .filter(|plant| *plant != (1.0, 1.0))
}

fn word(factor: f64) -> &'static str {
    if factor < 1.0 {
        "third"
    } else if factor > 1.0 {
        "3"
    } else {
        "1"
    }
}

fn times(factor: f64) -> &'static str {
    if factor < 1.0 {
        "×⅓"
    } else if factor > 1.0 {
        "×3"
    } else {
        "×1"
    }
}
