//! Physical quantities in a profile: a number and its unit, `14.4W`.
//!
//! Unlike money these are floating point, and what is written reads back as the same number, bit for bit: a quantity is
//! written in its base unit, in as many digits as tell it from its neighbours.

use std::fmt;
use std::marker::PhantomData;

use maxwell_core::units::{Celsius, Watts};
use serde::de::{Deserialize, Deserializer, Visitor};

use crate::power::Megahertz;

/// A quantity that has units.
pub(super) trait Unit: Sized {
    /// Each unit's name, and the number of base units in it as a fraction. The base unit comes first.
    const UNITS: &'static [(&'static str, f64, f64)];
    /// What would have been understood.
    const EXAMPLE: &'static str;

    fn of(value: f64) -> Self;
    fn value(&self) -> f64;

    /// As it is written in a file.
    fn text(&self) -> String {
        format!("{}{}", self.value(), Self::UNITS.first().map_or("", |unit| unit.0))
    }
}

macro_rules! units {
    ($($name:ident: $units:expr, $example:literal;)*) => {$(
        impl Unit for $name {
            const UNITS: &'static [(&'static str, f64, f64)] = &$units;
            const EXAMPLE: &'static str = $example;

            fn of(value: f64) -> Self {
                Self(value)
            }

            fn value(&self) -> f64 {
                self.0
            }
        }
    )*};
}
units! {
    Watts: [("W", 1.0, 1.0), ("mW", 1.0, 1e3), ("kW", 1e3, 1.0)], "14.4W";
    Celsius: [("C", 1.0, 1.0), ("°C", 1.0, 1.0)], "35C";
    Megahertz: [("MHz", 1.0, 1.0), ("GHz", 1e3, 1.0)], "3600MHz";
    Seconds: [("s", 1.0, 1.0), ("ms", 1.0, 1e3), ("us", 1.0, 1e6), ("min", 60.0, 1.0)], "800ms";
}

/// A duration in seconds, finer than any clock's step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Seconds(pub(super) f64);

/// A quantity as it stands in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantity<T>(pub(super) T);

fn parse<T: Unit>(text: &str) -> Option<T> {
    T::UNITS.iter().find_map(|(unit, times, over)| {
        let number = text.trim().strip_suffix(unit)?.trim_end().parse::<f64>().ok()?;
        Some(T::of(number * times / over))
    })
}

impl<'de, T: Unit> Deserialize<'de> for Quantity<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<T>(PhantomData<T>);
        impl<T: Unit> Visitor<'_> for Text<T> {
            type Value = Quantity<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number with its unit in quotes, such as \"{}\"", T::EXAMPLE)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                parse(text).map(Quantity).ok_or_else(|| {
                    let known: Vec<String> = T::UNITS.iter().map(|unit| format!("`{}`", unit.0)).collect();
                    let (known, example) = (known.join(", "), T::EXAMPLE);
                    E::custom(format!(
                        "`{text}` is not a number with a unit out of {known}: write, for instance, `{example}`"
                    ))
                })
            }
        }
        deserializer.deserialize_str(Text(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_told_apart() {
        assert_eq!(parse("14.4W"), Some(Watts(14.4)));
        assert_eq!(parse(" 500 mW "), Some(Watts(0.5)));
        assert_eq!(parse("800ms"), Some(Seconds(0.8)));
        assert_eq!(parse("2min"), Some(Seconds(120.0)));
        assert_eq!(parse("-5°C"), Some(Celsius(-5.0)));
        assert_eq!(parse("3.6GHz"), Some(Megahertz(3_600.0)));
        for wrong in ["", "W", "5", "5J", "five W", "5 kmW"] {
            assert_eq!(parse::<Watts>(wrong), None, "{wrong}");
        }
    }
}
