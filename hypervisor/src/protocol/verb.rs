//! What agents ask for: the verbs of the WebAssembly imports, read from JSON.
//!
//! Quantities are whole numbers of the base unit (mW, nJ) or texts with a unit (`"4.5W"`). Numbers beyond 2⁵³ are not
//! exact in every language's JSON, so that units of work may be texts as well, decimal or `0x…`.

use std::str::FromStr;

use maxwell_core::bounty::SponsorId;
use maxwell_core::units::ParseQuantityError;
use maxwell_core::{Joule, Price};
use serde_json::Value;

use super::fault::{Code, Fault, quoted};
use super::message::Params;

/// The version of the protocol that is spoken here.
pub const VERSION: u64 = 1;

/// The longest text that is read as a number: twenty digits, a unit, and some spaces and underscores.
const NUMBER_MAX: usize = 48;

/// Whom a claim is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payer {
    /// Any sponsor of this kind of work, as the WebAssembly import has it: one that can pay, if there is one.
    Kind(u32),
    /// This one.
    Sponsor(SponsorId),
}

/// What an agent asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Who are you, and what are the limits?
    Hello,
    /// What does a core-second cost?
    Price,
    /// What can I spend?
    Balance,
    /// A new limit for the standing order; zero withdraws it.
    Bid {
        /// The most it will pay for a core-second.
        limit: Price,
    },
    /// A claim for a bounty.
    Submit {
        /// Who is to pay.
        payer: Payer,
        /// The work: a prime, or the number whose eight little-endian bytes were hashed.
        unit: u64,
    },
    /// A line for whoever watches.
    Log {
        /// What.
        text: String,
    },
    /// Who pays for what?
    Sponsors,
    /// Why am I where I am?
    Status,
}

impl Verb {
    /// The verbs' names.
    pub const NAMES: [&str; 8] = ["hello", "price", "balance", "bid", "submit", "log", "sponsors", "status"];

    /// Reads a verb.
    ///
    /// # Errors
    ///
    /// [`Code::MethodNotFound`], [`Code::InvalidParams`], or [`Code::Version`].
    pub fn parse(method: &str, params: Params) -> Result<Self, Fault> {
        let none = |params: Params, verb| params.fields([]).map(|[]| verb);
        match method {
            "hello" => hello(params),
            "price" => none(params, Self::Price),
            "balance" => none(params, Self::Balance),
            "sponsors" => none(params, Self::Sponsors),
            "status" => none(params, Self::Status),
            "bid" => {
                let [limit] = params.fields(["limit"])?;
                Ok(Self::Bid { limit: price("limit", limit)? })
            }
            "submit" => submit(params),
            "log" => match params.fields(["text"])? {
                [Some(Value::String(text))] => Ok(Self::Log { text }),
                _ => Err(Fault::params("`text` must be a string")),
            },
            other => {
                let text = format!("no verb `{}`; known: {}", quoted(other), Self::NAMES.join(", "));
                Err(Fault::new(Code::MethodNotFound, text))
            }
        }
    }
}

fn hello(params: Params) -> Result<Verb, Fault> {
    let [protocol] = params.fields(["protocol"])?;
    match protocol.map(|version| version.as_u64()) {
        None | Some(Some(VERSION)) => Ok(Verb::Hello),
        Some(Some(other)) => {
            let text = format!("protocol {other} is not spoken here, only {VERSION}");
            Err(Fault::ours(Code::Version, "unsupported_version", text))
        }
        Some(None) => Err(Fault::params("`protocol` must be a whole number")),
    }
}

fn submit(params: Params) -> Result<Verb, Fault> {
    let [sponsor, unit, kind] = params.fields(["sponsor", "unit", "kind"])?;
    let payer = match (sponsor, kind) {
        (Some(sponsor), None) => {
            let number = sponsor.as_u64().and_then(|number| u16::try_from(number).ok());
            Payer::Sponsor(SponsorId(number.ok_or_else(|| Fault::params("`sponsor` must be a number of `sponsors`"))?))
        }
        (None, Some(kind)) => Payer::Kind(match (kind.as_str(), kind.as_u64()) {
            (Some("prime"), _) | (_, Some(1)) => 1,
            (Some("hash"), _) | (_, Some(2)) => 2,
            _ => return Err(Fault::params("`kind` must be \"prime\" or \"hash\"")),
        }),
        _ => return Err(Fault::params("either `sponsor` or `kind` says who is to pay")),
    };
    let read = |text: &str| match text.strip_prefix("0x") {
        // `from_str_radix` would take a sign.
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => u64::from_str_radix(digits, 16).ok(),
        None if text.bytes().all(|digit| digit.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    let unit = match &unit {
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) if text.len() <= NUMBER_MAX => read(text),
        _ => None,
    };
    let unit = unit.ok_or_else(|| {
        Fault::params("`unit` must be a whole number below 2^64, or one as text, such as \"104729\" or \"0x19919\"")
    })?;
    Ok(Verb::Submit { payer, unit })
}

fn quantity<T: FromStr<Err = ParseQuantityError>>(
    name: &str,
    unit: &str,
    value: Option<Value>,
    base: fn(u64) -> T,
) -> Result<T, Fault> {
    match value {
        Some(Value::Number(number)) if number.is_u64() => Ok(base(number.as_u64().unwrap_or_default())),
        Some(Value::String(text)) if text.len() <= NUMBER_MAX => {
            text.parse().map_err(|error| Fault::params(format!("`{name}`: {error}")))
        }
        _ => Err(Fault::params(format!("`{name}` must be a whole number of {unit}, or a short text with a unit"))),
    }
}

/// A price called `name`.
///
/// # Errors
///
/// [`Code::InvalidParams`].
pub fn price(name: &str, value: Option<Value>) -> Result<Price, Fault> {
    quantity(name, "mW", value, Price)
}

/// An amount called `name`.
///
/// # Errors
///
/// [`Code::InvalidParams`].
pub fn amount(name: &str, value: Option<Value>) -> Result<Joule, Fault> {
    quantity(name, "nJ", value, Joule)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(method: &str, params: Value) -> Result<Verb, Fault> {
        let params = match params {
            Value::Object(map) => Params::Named(map),
            Value::Array(list) => Params::Listed(list),
            _ => Params::None,
        };
        Verb::parse(method, params)
    }

    #[test]
    fn quantities_are_numbers_of_the_base_unit_or_texts_with_a_unit() {
        for (limit, expected) in [
            (json!(4500), 4500),
            (json!("4.5W"), 4500),
            (json!("4500mW"), 4500),
            (json!(0), 0),
            (json!(u64::MAX), u64::MAX),
        ] {
            assert_eq!(parse("bid", json!({"limit": limit})), Ok(Verb::Bid { limit: Price(expected) }));
            assert_eq!(parse("bid", json!([limit])), Ok(Verb::Bid { limit: Price(expected) }));
        }
        for limit in
            [json!(-1), json!(1.5), json!("4.5"), json!("4.5J"), json!([]), json!("9".repeat(60_000)), json!(null)]
        {
            let fault = parse("bid", json!({"limit": limit})).unwrap_err();
            assert_eq!(fault.code, Code::InvalidParams, "{limit}");
            assert!(fault.message.len() < 300, "{}", fault.message);
        }
    }

    #[test]
    fn units_of_work_keep_all_64_bits() {
        let submit = |unit: Value| parse("submit", json!({"kind": "prime", "unit": unit}));
        let all = Ok(Verb::Submit { payer: Payer::Kind(1), unit: u64::MAX });
        assert_eq!(submit(json!(u64::MAX)), all);
        assert_eq!(submit(json!("18446744073709551615")), all);
        assert_eq!(submit(json!("0xffffffffffffffff")), all);
        for bad in
            [json!(-1), json!(1.0), json!("+1"), json!("0x+1"), json!("0x"), json!(""), json!("18446744073709551616")]
        {
            assert_eq!(submit(bad.clone()).unwrap_err().code, Code::InvalidParams, "{bad}");
        }
    }

    #[test]
    fn a_claim_names_its_payer_in_one_way() {
        let submit = |params| parse("submit", params);
        let to = |payer| Ok(Verb::Submit { payer, unit: 7 });
        assert_eq!(submit(json!({"sponsor": 3, "unit": 7})), to(Payer::Sponsor(SponsorId(3))));
        assert_eq!(submit(json!([3, 7])), to(Payer::Sponsor(SponsorId(3))));
        assert_eq!(submit(json!({"kind": 2, "unit": 7})), to(Payer::Kind(2)));
        assert_eq!(submit(json!({"kind": "hash", "unit": 7})), to(Payer::Kind(2)));
        for bad in
            [json!({"unit": 7}), json!({"kind": 1, "sponsor": 1, "unit": 7}), json!({"sponsor": 65_536, "unit": 7})]
        {
            assert_eq!(submit(bad.clone()).unwrap_err().code, Code::InvalidParams, "{bad}");
        }
    }

    #[test]
    fn an_unknown_verb_or_version_is_named_shortly() {
        let fault = parse(&"\u{1b}[2J".repeat(10_000), Value::Null).unwrap_err();
        assert_eq!(fault.code, Code::MethodNotFound);
        assert!(fault.message.len() < 200 && !fault.message.contains('\u{1b}'), "{}", fault.message);
        assert_eq!(parse("hello", json!({"protocol": 2})).unwrap_err().reason, "unsupported_version");
        assert_eq!(parse("hello", json!({"protocol": 1})), Ok(Verb::Hello));
        assert_eq!(parse("price", json!({"x": 1})).unwrap_err().code, Code::InvalidParams);
    }
}
