//! Quantities and identities, each with its own type.
//!
//! | type | unit | why that unit |
//! |---|---|---|
//! | [`Joule`] | nanojoule | exact integer money; 2⁶⁴ nJ is 5 MWh |
//! | [`Price`] | milliwatt | $JOULE per core-second is a power; 1 mW = 1 nJ/µs, so price × time needs no scaling |
//! | [`Micros`] | microsecond | core time |
//! | [`Bytes`] | byte | memory held or erased |
//! | [`Tick`] | tick | position in the market's own time |
//!
//! People write quantities with a unit (`4.5W`, `300J`, `10ms`, `64MiB`). Parsing is exact decimal arithmetic: a value
//! that is not a whole number of the type's unit is refused, never rounded.
//!
//! ```
//! use maxwell_core::{Joule, Micros, Price};
//! let price: Price = "4.5W".parse()?;
//! assert_eq!(price.cost(Micros(10_000)), Joule(45_000_000)); // 4.5 W for 10 ms = 45 mJ
//! assert_eq!("45mJ".parse::<Joule>()?, Joule(45_000_000));
//! # Ok::<(), maxwell_core::units::ParseQuantityError>(())
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl $name {
            /// Nothing of it.
            pub const ZERO: Self = Self(0);
            /// The largest amount that can be represented.
            pub const MAX: Self = Self(u64::MAX);

            /// `self + other`, or the maximum where that does not fit.
            #[must_use]
            pub const fn saturating_add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// `self - other`, or zero where `other` is larger.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }
    };
}

quantity! {
    /// An amount of $JOULE, or of energy, in nanojoules. At par one $JOULE buys one joule of electricity.
    Joule
}
quantity! {
    /// A price of core time in milliwatts: $JOULE per core-second. 1 mW = 1 nJ/µs.
    Price
}
quantity! {
    /// Core time or a duration, in microseconds.
    Micros
}
quantity! {
    /// An amount of memory, in bytes.
    Bytes
}
quantity! {
    /// The number of a tick since the market opened.
    Tick
}

impl Price {
    /// What `time` costs at this price, in nanojoules, saturating at [`Joule::MAX`].
    #[must_use]
    pub const fn cost(self, time: Micros) -> Joule {
        Joule(self.0.saturating_mul(time.0))
    }

    /// The longest time that costs no more than `budget` at this price. [`Micros::MAX`] at price zero.
    #[must_use]
    pub const fn lasts(self, budget: Joule) -> Micros {
        match budget.0.checked_div(self.0) {
            Some(time) => Micros(time),
            None => Micros::MAX,
        }
    }

    /// The highest price at which `time` costs no more than `budget`. [`Price::MAX`] when `time` is zero.
    #[must_use]
    pub const fn affordable(budget: Joule, time: Micros) -> Self {
        match budget.0.checked_div(time.0) {
            Some(price) => Self(price),
            None => Self::MAX,
        }
    }
}

impl Tick {
    /// The tick `ticks` later, saturating.
    #[must_use]
    pub const fn after(self, ticks: u64) -> Self {
        Self(self.0.saturating_add(ticks))
    }

    /// Ticks elapsed since `earlier`; zero where `earlier` is in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A temperature in degrees Celsius. Control only; never enters money except through the rounded tax rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Celsius(pub f64);

impl Celsius {
    /// The same temperature in kelvin.
    #[must_use]
    pub fn kelvin(self) -> f64 {
        self.0 + 273.15
    }
}

/// A physical power in watts. Control only; prices are [`Price`].
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Watts(pub f64);

impl From<Price> for Watts {
    #[allow(clippy::cast_precision_loss, reason = "a price is far below 2^53 mW wherever it is compared with physics")]
    fn from(price: Price) -> Self {
        Self(price.0 as f64 / 1000.0)
    }
}

/// The name of an agent, unique for the life of a market and never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AgentId(pub u64);

/// Who owns agents and receives income: an Ed25519 public key, or any 32 bytes that name an owner on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PrincipalId(pub [u8; 32]);

impl PrincipalId {
    /// The local principal called `name`: the BLAKE3 hash of the name, which no Ed25519 key can be made to match.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(*blake3::hash(name.as_bytes()).as_bytes())
    }
}

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseQuantityError {
    /// No number at the start.
    #[error("`{text}` does not start with a number: write a number and a unit, such as `{example}`")]
    NoNumber {
        /// What was given.
        text: String,
        /// A value that would have been understood.
        example: &'static str,
    },
    /// The unit is missing or belongs to something else.
    #[error("`{text}` has {found}: known units are {known}, for instance `{example}`")]
    Unit {
        /// What was given.
        text: String,
        /// What stood where the unit should be.
        found: String,
        /// The units that this quantity knows.
        known: String,
        /// A value that would have been understood.
        example: &'static str,
    },
    /// Finer than the type's unit, or too large for it.
    #[error("`{text}` is {problem}: the smallest step is 1 {smallest} and the largest value is {max} {smallest}")]
    Range {
        /// What was given.
        text: String,
        /// `too fine` or `too large`.
        problem: &'static str,
        /// The unit that is stored.
        smallest: &'static str,
        /// The largest count of that unit.
        max: u64,
    },
}

/// One quantity's units: name and how many of the stored unit one of it is.
struct UnitTable {
    units: &'static [(&'static str, u64)],
    smallest: &'static str,
    example: &'static str,
}

impl UnitTable {
    fn parse(&self, text: &str) -> Result<u64, ParseQuantityError> {
        let trimmed = text.trim();
        let digits_end = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits_end);
        let unit = unit.trim_start();
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || !whole.starts_with(|c: char| c.is_ascii_digit()) || fraction.contains('.') {
            return Err(ParseQuantityError::NoNumber { text: text.to_owned(), example: self.example });
        }
        let Some(&(_, scale)) = self.units.iter().find(|(name, _)| *name == unit) else {
            let found = if unit.is_empty() { "no unit".to_owned() } else { format!("the unknown unit `{unit}`") };
            let known = self.units.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return Err(ParseQuantityError::Unit { text: text.to_owned(), found, known, example: self.example });
        };
        let range = |problem| ParseQuantityError::Range {
            text: text.to_owned(),
            problem,
            smallest: self.smallest,
            max: u64::MAX,
        };
        let mut value: u128 = 0;
        for digit in whole.bytes().filter(u8::is_ascii_digit) {
            value = value * 10 + u128::from(digit - b'0');
            if value > u128::from(u64::MAX) {
                return Err(range("too large"));
            }
        }
        value *= u128::from(scale);
        let fraction = fraction.trim_end_matches(['0', '_']);
        let (mut numerator, mut denominator) = (0u128, 1u128);
        for digit in fraction.bytes().filter(u8::is_ascii_digit) {
            if denominator > 1_000_000_000_000_000_000 {
                return Err(range("too fine"));
            }
            numerator = numerator * 10 + u128::from(digit - b'0');
            denominator *= 10;
        }
        if !(numerator * u128::from(scale)).is_multiple_of(denominator) {
            return Err(range("too fine"));
        }
        value += numerator * u128::from(scale) / denominator;
        u64::try_from(value).map_err(|_| range("too large"))
    }
}

const JOULE: UnitTable = UnitTable {
    units: &[
        ("nJ", 1),
        ("uJ", 1_000),
        ("µJ", 1_000),
        ("mJ", 1_000_000),
        ("J", 1_000_000_000),
        ("kJ", 1_000_000_000_000),
        ("MJ", 1_000_000_000_000_000),
        ("Wh", 3_600_000_000_000),
        ("kWh", 3_600_000_000_000_000),
    ],
    smallest: "nJ",
    example: "300J",
};
const PRICE: UnitTable =
    UnitTable { units: &[("mW", 1), ("W", 1_000), ("kW", 1_000_000)], smallest: "mW", example: "4.5W" };
const MICROS: UnitTable = UnitTable {
    units: &[("us", 1), ("µs", 1), ("ms", 1_000), ("s", 1_000_000), ("min", 60_000_000), ("h", 3_600_000_000)],
    smallest: "us",
    example: "10ms",
};
const BYTES: UnitTable = UnitTable {
    units: &[
        ("B", 1),
        ("kB", 1_000),
        ("KiB", 1 << 10),
        ("MB", 1_000_000),
        ("MiB", 1 << 20),
        ("GB", 1_000_000_000),
        ("GiB", 1 << 30),
    ],
    smallest: "B",
    example: "64MiB",
};

macro_rules! parse_with {
    ($($name:ident: $table:ident),*) => {$(
        impl FromStr for $name {
            type Err = ParseQuantityError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $table.parse(text).map(Self)
            }
        }
    )*};
}
parse_with!(Joule: JOULE, Price: PRICE, Micros: MICROS, Bytes: BYTES);

/// Writes `value / 10^decimals` with at most three decimals and no trailing zeros.
fn write_scaled(f: &mut fmt::Formatter<'_>, value: u64, scale: u64, unit: &str) -> fmt::Result {
    let whole = value / scale;
    let milli = u128::from(value % scale) * 1000 / u128::from(scale);
    if milli == 0 {
        write!(f, "{whole}{unit}")
    } else {
        let text = format!("{milli:03}");
        write!(f, "{whole}.{}{unit}", text.trim_end_matches('0'))
    }
}

impl fmt::Display for Joule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "0J"),
            v if v < 1_000 => write!(f, "{v}nJ"),
            v if v < 1_000_000 => write_scaled(f, v, 1_000, "µJ"),
            v if v < 1_000_000_000 => write_scaled(f, v, 1_000_000, "mJ"),
            v if v < 1_000_000_000_000 => write_scaled(f, v, 1_000_000_000, "J"),
            v => write_scaled(f, v, 1_000_000_000_000, "kJ"),
        }
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            v if v < 1_000 => write!(f, "{v}mW"),
            v if v < 1_000_000 => write_scaled(f, v, 1_000, "W"),
            v if v < 1_000_000_000 => write_scaled(f, v, 1_000_000, "kW"),
            v => write_scaled(f, v, 1_000_000_000, "MW"),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            v if v < 1 << 10 => write!(f, "{v}B"),
            v if v < 1 << 20 => write_scaled(f, v, 1 << 10, "KiB"),
            v if v < 1 << 30 => write_scaled(f, v, 1 << 20, "MiB"),
            v => write_scaled(f, v, 1 << 30, "GiB"),
        }
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            v if v < 1_000 => write!(f, "{v}µs"),
            v if v < 1_000_000 => write_scaled(f, v, 1_000, "ms"),
            v => write_scaled(f, v, 1_000_000, "s"),
        }
    }
}

impl fmt::Display for Celsius {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}°C", self.0)
    }
}

impl fmt::Display for Watts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}W", self.0)
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_parse_exactly() {
        assert_eq!("4.5W".parse(), Ok(Price(4_500)));
        assert_eq!("0.001W".parse(), Ok(Price(1)));
        assert_eq!("300 J".parse(), Ok(Joule(300_000_000_000)));
        assert_eq!("1_000J".parse(), Ok(Joule(1_000_000_000_000)));
        assert_eq!("64MiB".parse(), Ok(Bytes(64 << 20)));
        assert_eq!("0.5KiB".parse(), Ok(Bytes(512)));
        assert_eq!("0.25KiB".parse(), Ok(Bytes(256)));
        assert_eq!("10ms".parse(), Ok(Micros(10_000)));
        assert_eq!("18446744073709551615nJ".parse(), Ok(Joule::MAX));
    }

    #[test]
    fn what_is_not_a_whole_number_of_the_unit_is_refused() {
        assert!("0.0001W".parse::<Price>().unwrap_err().to_string().contains("too fine"));
        assert!("0.3B".parse::<Bytes>().unwrap_err().to_string().contains("too fine"));
        assert!("18446744073709551616nJ".parse::<Joule>().unwrap_err().to_string().contains("too large"));
        assert!("99999999999999999999999999999999999999999999kJ".parse::<Joule>().is_err());
        assert!("1e3J".parse::<Joule>().is_err());
        assert!("-1J".parse::<Joule>().is_err());
        assert!("5".parse::<Price>().unwrap_err().to_string().contains("no unit"));
        assert!("5J".parse::<Price>().unwrap_err().to_string().contains("`mW`, `W`, `kW`"));
        assert!(".5W".parse::<Price>().is_err());
        assert!("1.2.3W".parse::<Price>().is_err());
    }

    #[test]
    fn display_is_short_and_readable() {
        assert_eq!(Joule(45_000_000).to_string(), "45mJ");
        assert_eq!(Price(4_500).to_string(), "4.5W");
        assert_eq!(Joule(1_234_567_890).to_string(), "1.234J");
        assert_eq!(Bytes(64 << 20).to_string(), "64MiB");
    }

    #[test]
    fn price_times_time_never_wraps() {
        assert_eq!(Price::MAX.cost(Micros(2)), Joule::MAX);
        assert_eq!(Price::affordable(Joule(99), Micros(10)), Price(9));
        assert_eq!(Price::affordable(Joule(99), Micros(0)), Price::MAX);
    }
}
