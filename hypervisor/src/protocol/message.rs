//! Messages: one line of JSON, as JSON-RPC 2.0 (<https://www.jsonrpc.org/specification>) defines requests, notifications
//! and batches. Pure functions of the line's bytes.
//!
//! Stricter than the specification in two places. Identifiers that are numbers must be integers of 64 bits: others could
//! not be echoed digit by digit. Batches have a bound, and a batch beyond it is refused as a whole.

use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fault::{Code, Fault, quoted};

/// How deep arrays and objects may nest. Our own messages need four; parsing recurses, and its stack is ours.
pub const DEPTH_MAX: usize = 16;

/// What tells an answer's request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// `null`: unusual, and the identifier of answers to what could not be read.
    Null,
    /// A number that is not negative.
    Number(u64),
    /// A negative number.
    Negative(i64),
    /// A text.
    Text(String),
}

impl Id {
    fn of(value: Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::Null),
            Value::String(text) => Some(Self::Text(text)),
            Value::Number(number) => number.as_u64().map(Self::Number).or_else(|| number.as_i64().map(Self::Negative)),
            _ => None,
        }
    }
}

/// A request's parameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Params {
    /// None were sent.
    #[default]
    None,
    /// By name.
    Named(Map<String, Value>),
    /// By position.
    Listed(Vec<Value>),
}

impl Params {
    /// The parameters called `names`, in that order; by position they have the same order. One that is `null` counts as
    /// absent.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidParams`] if there are others.
    pub fn fields<const N: usize>(self, names: [&'static str; N]) -> Result<[Option<Value>; N], Fault> {
        let known = || if N == 0 { "none are known".to_owned() } else { format!("known: {}", names.join(", ")) };
        let mut fields = [const { None }; N];
        match self {
            Self::None => {}
            Self::Named(mut map) => {
                for (field, name) in fields.iter_mut().zip(names) {
                    *field = map.remove(name).filter(|value| !value.is_null());
                }
                if let Some(name) = map.keys().next() {
                    return Err(Fault::params(format!("unknown parameter `{}`; {}", quoted(name), known())));
                }
            }
            Self::Listed(list) if list.len() > N => {
                return Err(Fault::params(format!("{} parameters, but {N} at most; {}", list.len(), known())));
            }
            Self::Listed(list) => {
                for (field, value) in fields.iter_mut().zip(list) {
                    *field = Some(value).filter(|value| !value.is_null());
                }
            }
        }
        Ok(fields)
    }
}

/// A request; without an identifier it is a notification, which is never answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Tells the answer; `None` for a notification.
    pub id: Option<Id>,
    /// The verb.
    pub method: String,
    /// Its parameters.
    pub params: Params,
}

/// Something that is no request, with the answer it gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Invalid {
    /// Its identifier as far as one could be made out.
    pub id: Id,
    /// What is wrong.
    pub fault: Fault,
}

impl Invalid {
    pub(super) fn new(fault: Fault) -> Self {
        Self { id: Id::Null, fault }
    }
}

/// What a line holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// White space only.
    Blank,
    /// One request.
    Single(Result<Request, Invalid>),
    /// Several, to be answered with one array.
    Batch(Vec<Result<Request, Invalid>>),
}

/// Reads a line; `batch` is the most requests that it may hold.
#[must_use]
pub fn parse(line: &[u8], batch: usize) -> Message {
    let refuse = |code, text: String| Message::Single(Err(Invalid::new(Fault::new(code, text))));
    if line.iter().all(u8::is_ascii_whitespace) {
        return Message::Blank;
    }
    if nests_too_deep(line) {
        return refuse(Code::InvalidRequest, format!("nested deeper than {DEPTH_MAX}"));
    }
    match serde_json::from_slice(line) {
        Err(error) => refuse(Code::Parse, format!("not JSON: {error}")),
        Ok(Value::Array(items)) if items.is_empty() => {
            refuse(Code::InvalidRequest, "an empty batch asks nothing".to_owned())
        }
        Ok(Value::Array(items)) if items.len() > batch => {
            refuse(Code::InvalidRequest, format!("a batch of {}; at most {batch} are taken", items.len()))
        }
        Ok(Value::Array(items)) => Message::Batch(items.into_iter().map(request).collect()),
        Ok(value) => Message::Single(request(value)),
    }
}

/// Whether brackets outside of strings nest deeper than [`DEPTH_MAX`]. A line that is not JSON may be told either way.
fn nests_too_deep(line: &[u8]) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return true;
                }
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

fn request(value: Value) -> Result<Request, Invalid> {
    let Value::Object(mut object) = value else {
        return Err(Invalid::new(Fault::new(Code::InvalidRequest, "a request is an object")));
    };
    let id = match object.remove("id").map(Id::of) {
        None => None,
        Some(Some(id)) => Some(id),
        Some(None) => {
            let text = "`id` must be a string, a whole number of 64 bits, or null";
            return Err(Invalid::new(Fault::new(Code::InvalidRequest, text)));
        }
    };
    let refuse = |id: Option<Id>, text: &str| {
        Err(Invalid { id: id.unwrap_or(Id::Null), fault: Fault::new(Code::InvalidRequest, text) })
    };
    if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return refuse(id, "`jsonrpc` must be \"2.0\"");
    }
    let Some(Value::String(method)) = object.remove("method") else {
        return refuse(id, "`method` must be a string");
    };
    let params = match object.remove("params") {
        None => Params::None,
        Some(Value::Object(map)) => Params::Named(map),
        Some(Value::Array(list)) => Params::Listed(list),
        Some(_) => return refuse(id, "`params` must be an object or an array"),
    };
    Ok(Request { id, method, params })
}

/// An answer to be sent: the members in the order people expect.
struct Response<'a> {
    id: &'a Id,
    outcome: &'a Result<Value, Fault>,
}

impl Serialize for Response<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("jsonrpc", "2.0")?;
        map.serialize_entry("id", self.id)?;
        match self.outcome {
            Ok(result) => map.serialize_entry("result", result)?,
            Err(fault) => map.serialize_entry("error", &fault.object())?,
        }
        map.end()
    }
}

/// A request or notification to be sent.
struct Outgoing<'a> {
    id: Option<&'a Id>,
    method: &'a str,
    params: &'a Value,
}

impl Serialize for Outgoing<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("jsonrpc", "2.0")?;
        if let Some(id) = self.id {
            map.serialize_entry("id", id)?;
        }
        map.serialize_entry("method", self.method)?;
        if !self.params.is_null() {
            map.serialize_entry("params", self.params)?;
        }
        map.end()
    }
}

fn text(message: &impl Serialize) -> String {
    serde_json::to_string(message).expect("maps with text keys always serialize")
}

/// The text of an answer, without its newline.
#[must_use]
pub fn response(id: &Id, outcome: &Result<Value, Fault>) -> String {
    text(&Response { id, outcome })
}

/// The text of a request, or without an identifier of a notification; no newline. `params` is an object, an array or
/// null.
#[must_use]
pub fn outgoing(id: Option<&Id>, method: &str, params: &Value) -> String {
    text(&Outgoing { id, method, params })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(line: &str) -> Result<Request, Invalid> {
        match parse(line.as_bytes(), 4) {
            Message::Single(request) => request,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn every_kind_of_identifier_is_echoed() {
        for id in ["null", "7", "-7", "18446744073709551615", "-9223372036854775808", "\"\"", "\"a\\u0000\\n\""] {
            let request = single(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"price"}}"#)).unwrap();
            let answer = response(&request.id.unwrap(), &Ok(Value::Bool(true)));
            assert_eq!(answer, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":true}}"#));
        }
    }

    #[test]
    fn what_is_no_request_is_told_so_by_its_code() {
        let cases: [(&str, i64, Id); 13] = [
            ("{", -32_700, Id::Null),
            ("\u{1b}[2J", -32_700, Id::Null),
            ("{} {}", -32_700, Id::Null),
            ("[]", -32_600, Id::Null),
            ("[1,2,3,4,5]", -32_600, Id::Null),
            ("true", -32_600, Id::Null),
            (r#"{"id":1,"method":"price"}"#, -32_600, Id::Number(1)),
            (r#"{"jsonrpc":"1.0","id":1,"method":"price"}"#, -32_600, Id::Number(1)),
            (r#"{"jsonrpc":"2.0","id":"x","method":7}"#, -32_600, Id::Text("x".to_owned())),
            (r#"{"jsonrpc":"2.0","id":2,"result":7}"#, -32_600, Id::Number(2)),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"price"}"#, -32_600, Id::Null),
            (r#"{"jsonrpc":"2.0","id":18446744073709551616,"method":"price"}"#, -32_600, Id::Null),
            (r#"{"jsonrpc":"2.0","id":3,"method":"price","params":5}"#, -32_600, Id::Number(3)),
        ];
        for (line, code, id) in cases {
            let invalid = single(line).expect_err(line);
            assert_eq!((invalid.fault.code.number(), invalid.id), (code, id), "{line}");
        }
    }

    #[test]
    fn depth_is_bounded_before_anything_is_parsed() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!nests_too_deep(nested(DEPTH_MAX).as_bytes()));
        assert_eq!(single(&nested(DEPTH_MAX + 1)).unwrap_err().fault.code, Code::InvalidRequest);
        assert_eq!(single(&"[".repeat(60_000)).unwrap_err().fault.code, Code::InvalidRequest);
        assert!(!nests_too_deep(format!("\"{}\\\"{}\"", "[".repeat(50), "{".repeat(50)).as_bytes()), "in a string");
    }

    #[test]
    fn parameters_are_taken_by_name_or_by_position() {
        let params =
            |text: &str| single(&format!(r#"{{"jsonrpc":"2.0","method":"x","params":{text}}}"#)).unwrap().params;
        let fields = |text: &str| params(text).fields(["a", "b"]);
        assert_eq!(fields(r#"{"b":2}"#), Ok([None, Some(2.into())]));
        assert_eq!(fields(r#"{"b":2,"a":null}"#), Ok([None, Some(2.into())]));
        assert_eq!(fields("[1]"), Ok([Some(1.into()), None]));
        assert_eq!(Params::None.fields(["a"]), Ok([None]));
        assert_eq!(fields("[1,2,3]").unwrap_err().code, Code::InvalidParams);
        assert!(fields(r#"{"c":2}"#).unwrap_err().message.contains("known: a, b"));
    }
}
