//! Faults: what an error object says.
//!
//! The first five codes are JSON-RPC's own. Where the WebAssembly imports have an answer −n for the same thing, the code
//! here is −32000 − n, so that one table serves both.

use serde_json::{Value, json};

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The line is not JSON.
    Parse,
    /// It is JSON, but no request; or a limit of the framing is exceeded.
    InvalidRequest,
    /// There is no such verb.
    MethodNotFound,
    /// The verb's parameters are wrong.
    InvalidParams,
    /// The fault is Maxwell's.
    Internal,
    /// There is nothing: no sponsor for that kind of work. The imports' −2.
    Nothing,
    /// No such agent, or it is gone. The imports' −4.
    UnknownAgent,
    /// The sponsor's verifier rejects the claim. The imports' −5.
    Rejected,
    /// Too many in this slot. The imports' −6.
    TooMany,
    /// A version of the protocol that is not spoken here.
    Version,
    /// More requests wait for the market than it takes: ask again later.
    Busy,
    /// The market ended before it decided.
    Undecided,
    /// The market decided against it.
    Refused,
}

impl Code {
    /// The number that is sent.
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            Self::Parse => -32_700,
            Self::InvalidRequest => -32_600,
            Self::MethodNotFound => -32_601,
            Self::InvalidParams => -32_602,
            Self::Internal => -32_603,
            Self::Nothing => -32_002,
            Self::UnknownAgent => -32_004,
            Self::Rejected => -32_005,
            Self::TooMany => -32_006,
            Self::Version => -32_007,
            Self::Busy => -32_010,
            Self::Undecided => -32_011,
            Self::Refused => -32_012,
        }
    }

    /// Whether the code is ours: then `data.reason` says more.
    const fn is_ours(self) -> bool {
        self.number() > -32_100
    }
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What kind of fault.
    pub code: Code,
    /// A stable word for programs; sent as `data.reason` with codes of our own.
    pub reason: &'static str,
    /// What failed, on what, and what to do: for people.
    pub message: String,
}

impl Fault {
    /// A fault with one of JSON-RPC's own codes.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, reason: "", message: message.into() }
    }

    /// A fault with a code of our own.
    pub fn ours(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into() }
    }

    /// Wrong parameters.
    pub fn params(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidParams, message)
    }

    /// The error object.
    #[must_use]
    pub fn object(&self) -> Value {
        if self.code.is_ours() {
            json!({"code": self.code.number(), "message": self.message, "data": {"reason": self.reason}})
        } else {
            json!({"code": self.code.number(), "message": self.message})
        }
    }
}

/// At most the first forty characters of what a peer sent, printable: enough to recognise it in a message.
#[must_use]
pub fn quoted(text: &str) -> String {
    const SHOWN: usize = 40;
    let mut short: String = text.chars().take(SHOWN).map(|c| if c.is_control() { '·' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        short.push('…');
    }
    short
}
