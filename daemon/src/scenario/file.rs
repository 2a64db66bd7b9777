//! What a scenario file looks like, before anything about it is checked.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;

use maxwell_core::agent::OnInsolvency;
use maxwell_core::clearing::PricingRule;
use maxwell_core::{Bytes, Joule, Micros, Price};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Visitor};
use toml::Spanned;

use super::Utilisation;

/// A quantity written with its unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantity<T>(pub(super) T);

impl<'de, T> Deserialize<'de> for Quantity<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<T>(PhantomData<T>);
        impl<T> Visitor<'_> for Text<T>
        where
            T: FromStr,
            T::Err: fmt::Display,
        {
            type Value = Quantity<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number with its unit in quotes, such as \"4.5W\", \"300J\", \"10ms\" or \"64MiB\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map(Quantity).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text(PhantomData))
    }
}

/// A temperature, as people write it: `70C`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Degrees(pub(super) f64);

impl FromStr for Degrees {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.trim().strip_suffix("°C").or_else(|| text.trim().strip_suffix('C'));
        match number.map(|number| number.trim().parse::<f64>()) {
            Some(Ok(value)) if (-100.0..=200.0).contains(&value) => Ok(Self(value)),
            _ => Err(format!("`{text}` is not a temperature between -100C and 200C: write, for instance, `70C`")),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) title: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) machine: RawMachine,
    #[serde(default)]
    pub(super) sensors: RawSensors,
    #[serde(default)]
    pub(super) policy: RawPolicy,
    #[serde(default)]
    pub(super) sponsor: Vec<RawSponsor>,
    #[serde(default)]
    pub(super) agent: Vec<RawAgent>,
    #[serde(default)]
    pub(super) grant: Vec<RawGrant>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMachine {
    pub(super) slots: Option<Spanned<u16>>,
    pub(super) quality: Option<Spanned<Vec<f64>>>,
    pub(super) par: Option<Spanned<Quantity<Price>>>,
    pub(super) idle: Option<Quantity<Price>>,
    pub(super) set: Option<Spanned<Quantity<Degrees>>>,
    pub(super) critical: Option<Quantity<Degrees>>,
    pub(super) ambient: Option<Quantity<Degrees>>,
    pub(super) fast: Option<Spanned<RawNode>>,
    pub(super) slow: Option<Spanned<RawNode>>,
    #[serde(default)]
    pub(super) utilisation: Utilisation,
    pub(super) max_memory: Option<Quantity<Bytes>>,
    pub(super) max_module: Option<Quantity<Bytes>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSensors {
    /// The words of `--sensor`.
    pub(super) r#use: Option<Spanned<String>>,
    /// A profile, beside the scenario.
    pub(super) model: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNode {
    /// Kelvin per watt.
    pub(super) resistance: f64,
    pub(super) tau: Quantity<Micros>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPolicy {
    pub(super) tick: Option<Spanned<Quantity<Micros>>>,
    pub(super) pricing: Option<PricingRule>,
    pub(super) grid_factor: Option<Spanned<f64>>,
    pub(super) inefficiency: Option<Spanned<f64>>,
    pub(super) rent_per_gb: Option<Quantity<Price>>,
    pub(super) resting_fee_ppm: Option<u32>,
    pub(super) grace: Option<Quantity<Micros>>,
    pub(super) standby: Option<u16>,
    pub(super) max_stress: Option<Spanned<f64>>,
    pub(super) slew: Option<Spanned<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSponsor {
    pub(super) name: String,
    pub(super) verifier: Spanned<String>,
    pub(super) least: Option<u64>,
    pub(super) bits: Option<u8>,
    pub(super) reward: Spanned<Quantity<Joule>>,
    pub(super) budget: Quantity<Joule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAgent {
    pub(super) name: Spanned<String>,
    pub(super) count: Option<Spanned<u32>>,
    pub(super) cell: Option<CellName>,
    pub(super) module: Option<Spanned<String>>,
    pub(super) command: Option<Spanned<RawCommand>>,
    pub(super) env: Option<Spanned<BTreeMap<String, String>>>,
    pub(super) cwd: Option<Spanned<PathBuf>>,
    pub(super) user: Option<Spanned<String>>,
    pub(super) sandbox: Option<Spanned<String>>,
    pub(super) output: Option<Spanned<PathBuf>>,
    pub(super) limits: Option<Spanned<RawLimits>>,
    pub(super) grace: Option<Spanned<Quantity<Micros>>>,
    pub(super) wait_all: Option<Spanned<bool>>,
    pub(super) wallet: Quantity<Joule>,
    pub(super) order: RawOrder,
    #[serde(default)]
    pub(super) pacing: RawPacing,
    #[serde(default)]
    pub(super) insolvency: OnInsolvency,
    pub(super) principal: Option<Spanned<String>>,
    pub(super) power_class: Option<Spanned<f64>>,
}

/// What an agent runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CellName {
    Wasm,
    Process,
}

/// A command: for the shell, or word by word.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a command: one string for the shell, or a list of words")]
pub(super) enum RawCommand {
    Shell(String),
    Words(Vec<String>),
}

#[derive(Clone, Copy, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) memory: Option<Quantity<Bytes>>,
    pub(super) pids: Option<u32>,
    pub(super) files: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOrder {
    pub(super) limit: Quantity<Price>,
    pub(super) slots: Option<Spanned<u16>>,
    pub(super) hold: Option<Quantity<Micros>>,
}

#[derive(Default)]
pub(super) struct RawPacing(pub(super) Option<Micros>);

impl<'de> Deserialize<'de> for RawPacing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RawPacing;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"fixed\", or { lifetime = \"60s\" }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawPacing, E> {
                if text == "fixed" {
                    Ok(RawPacing(None))
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
                }
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<RawPacing, A::Error> {
                let mut lifetime = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key != "lifetime" {
                        return Err(A::Error::unknown_field(&key, &["lifetime"]));
                    }
                    lifetime = Some(map.next_value::<Quantity<Micros>>()?.0);
                }
                lifetime.map(|lifetime| RawPacing(Some(lifetime))).ok_or_else(|| A::Error::missing_field("lifetime"))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGrant {
    pub(super) at: Quantity<Micros>,
    pub(super) agent: Spanned<String>,
    pub(super) amount: Quantity<Joule>,
}
