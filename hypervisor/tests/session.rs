//! The protocol without sockets: what JSON-RPC says, for any bytes, in any pieces, within its bounds.

#![allow(clippy::unwrap_used, reason = "a failure to unwrap is a failure of the test")]

use std::collections::VecDeque;

use maxwell_hypervisor::protocol::fault::{Code, Fault};
use maxwell_hypervisor::protocol::message::{Id, outgoing};
use maxwell_hypervisor::protocol::session::{Call, Event, Limits, Session, Ticket};
use proptest::prelude::*;
use serde_json::{Value, json};

const SMALL: Limits = Limits { batch: 4, open: 3, output: 1 << 20 };

/// What the peers of these tests ask for: `echo` gives its parameters back, everything else is unknown.
fn outcome(call: &Call) -> Result<Value, Fault> {
    match call.method.as_str() {
        "echo" => call.params.clone().fields(["text"]).map(|[text]| text.unwrap_or(Value::Null)),
        _ => Err(Fault::new(Code::MethodNotFound, "unknown")),
    }
}

/// Feeds pieces to a session and answers each request after `delay` further events; returns all calls and all output.
fn converse(pieces: &[&[u8]], delay: usize) -> (Vec<String>, Vec<u8>) {
    let mut session = Session::new(SMALL);
    let (mut calls, mut output) = (Vec::new(), Vec::new());
    let mut waiting: VecDeque<(Ticket, Result<Value, Fault>)> = VecDeque::new();
    for piece in pieces.iter().copied() {
        let mut rest = piece;
        loop {
            rest = &rest[session.receive(rest)..];
            loop {
                let event = session.next();
                // Either nothing more is there, or too much is open.
                let stuck = event.is_none();
                if let Some(Event::Call(call)) = event {
                    calls.push(format!("{} {:?}", call.method, call.params));
                    let outcome = outcome(&call);
                    waiting.extend(call.ticket.map(|ticket| (ticket, outcome)));
                }
                let turn = if waiting.len() > delay {
                    waiting.pop_front()
                } else if stuck {
                    waiting.pop_back()
                } else {
                    None
                };
                match turn {
                    Some((ticket, outcome)) => session.answer(ticket, &outcome),
                    None if stuck => break,
                    None => {}
                }
                output.extend_from_slice(session.output());
                let sent = session.output().len();
                session.sent(sent);
            }
            if rest.is_empty() {
                break;
            }
        }
    }
    assert!(!session.is_waiting() && !session.is_broken());
    (calls, output)
}

fn answers(text: &str) -> Vec<Value> {
    let (_, output) = converse(&[text.as_bytes()], 0);
    String::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The examples of the specification's section 7, with our verb in place of theirs.
#[test]
fn the_specifications_examples_are_answered_as_it_says() {
    let error = |code: i64| move |value: &Value| value["error"]["code"] == code && value["id"].is_null();
    assert_eq!(
        answers("{\"jsonrpc\": \"2.0\", \"method\": \"echo\", \"params\": [42], \"id\": 1}\n"),
        [json!({"jsonrpc": "2.0", "result": 42, "id": 1})]
    );
    assert_eq!(
        answers("{\"jsonrpc\": \"2.0\", \"method\": \"echo\", \"params\": {\"text\": \"x\"}, \"id\": \"a\"}\r\n"),
        [json!({"jsonrpc": "2.0", "result": "x", "id": "a"})]
    );
    assert!(answers("{\"jsonrpc\": \"2.0\", \"method\": \"echo\", \"params\": [1]}\n").is_empty(), "a notification");
    assert!(answers("{\"jsonrpc\": \"2.0\", \"method\": \"foobar\"}\n").is_empty(), "not even of an unknown verb");
    assert!(answers("\n  \r\n\t\n").is_empty(), "blank lines");
    assert!(error(-32_700)(&answers("{\"jsonrpc\": \"2.0\", \"method\": \"foobar, \"params\": \"bar\", \"baz]\n")[0]));
    assert!(error(-32_600)(&answers("{\"jsonrpc\": \"2.0\", \"method\": 1, \"params\": \"bar\"}\n")[0]));
    assert!(error(-32_700)(&answers("[{\"jsonrpc\": \"2.0\", \"method\"\n")[0]));
    assert!(error(-32_600)(&answers("[]\n")[0]));
    let batch = answers("[1,2,3]\n");
    assert_eq!(batch.len(), 1, "one line");
    assert!(batch[0].as_array().unwrap().len() == 3 && batch[0].as_array().unwrap().iter().all(error(-32_600)));
    let mixed = answers(
        "[{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"params\":[1],\"id\":\"1\"},{\"jsonrpc\":\"2.0\",\"method\":\"echo\"},\
         {\"foo\":\"boo\"},{\"jsonrpc\":\"2.0\",\"method\":\"foo.get\",\"id\":\"5\"}]\n",
    );
    let mixed = mixed[0].as_array().unwrap();
    assert_eq!(mixed.len(), 3, "the notification has no answer: {mixed:?}");
    assert!(mixed.iter().any(|answer| answer["id"] == "1" && answer["result"] == 1));
    assert!(mixed.iter().any(|answer| answer["id"] == "5" && answer["error"]["code"] == -32_601));
    assert!(mixed.iter().any(error(-32_600)));
    let silent = "[{\"jsonrpc\":\"2.0\",\"method\":\"echo\"},{\"jsonrpc\":\"2.0\",\"method\":\"echo\"}]\n";
    assert!(answers(silent).is_empty(), "a batch of notifications has no answer");
    assert!(error(-32_600)(&answers("[1,2,3,4,5]\n")[0]), "beyond the bound one error, not five");
}

#[test]
fn a_line_too_long_is_told_once_and_the_next_is_heard() {
    let text = format!("{}\n{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}}\n", "x".repeat(1_000_000));
    let answers = answers(&text);
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0]["error"]["code"], -32_600);
    assert_eq!(answers[1]["id"], 1);
}

#[test]
fn who_does_not_read_breaks_its_own_session_within_the_bound() {
    let mut session = Session::new(Limits::AGENT);
    let mut asked = 0u64;
    while !session.is_broken() {
        asked += 1;
        assert!(asked < 100_000, "never broken");
        let line = outgoing(Some(&Id::Number(asked)), "price", &Value::Null) + "\n";
        assert_eq!(session.receive(line.as_bytes()), line.len());
        while let Some(event) = session.next() {
            let Event::Call(call) = event else { panic!() };
            session.answer(call.ticket.unwrap(), &Ok(json!({"spot": 4500})));
        }
        assert!(session.output().len() <= Limits::AGENT.output);
    }
    assert!(asked > 1_000, "a peer may be slow: {asked}");
    assert!(session.output().is_empty(), "its memory is given back");
    assert_eq!(session.next(), None);
    session.notify("apoptosis", &json!({}));
    assert!(session.output().is_empty());
}

#[test]
fn only_so_many_requests_are_open() {
    let mut session = Session::new(SMALL);
    let line = outgoing(Some(&Id::Null), "echo", &Value::Null) + "\n";
    let mut stuffed = 0;
    while session.receive(line.as_bytes()) == line.len() {
        stuffed += 1;
        assert!(stuffed < 10_000, "input is not bounded");
    }
    let mut tickets = Vec::new();
    while let Some(Event::Call(call)) = session.next() {
        tickets.extend(call.ticket);
    }
    assert_eq!(tickets.len(), SMALL.open);
    session.answer(tickets.pop().unwrap(), &Ok(Value::Null));
    assert!(matches!(session.next(), Some(Event::Call(_))));
    assert_eq!(session.next(), None);
}

/// Lines that are requests, nearly requests, or noise.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let id = prop_oneof![
        Just(Value::Null),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        Just(json!(1.5)),
        Just(json!([])),
    ];
    let method = prop_oneof![Just("echo"), Just("other"), Just("")];
    let params = prop_oneof![Just(json!({"text": "a\nb"})), Just(json!([1])), Just(json!([1, 2])), Just(json!(3))];
    let request = (proptest::option::of(id), method, proptest::option::of(params)).prop_map(|(id, method, params)| {
        let mut object = json!({"jsonrpc": "2.0", "method": method});
        if let Some(id) = id {
            object["id"] = id;
        }
        if let Some(params) = params {
            object["params"] = params;
        }
        object
    });
    prop_oneof![
        4 => request.clone().prop_map(|request| request.to_string().into_bytes()),
        2 => proptest::collection::vec(request, 0..6).prop_map(|batch| Value::from(batch).to_string().into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => "[\\[\\]{}\",:0-9a-z\\\\]{0,40}".prop_map(String::into_bytes),
    ]
}

/// How many answers a line must get: read off the specification with `serde_json` alone.
fn naive_answers(line: &[u8]) -> usize {
    if line.iter().all(u8::is_ascii_whitespace) {
        return 0;
    }
    let valid = |item: &Value| {
        let id = item.get("id");
        item["jsonrpc"] == "2.0"
            && item["method"].is_string()
            && id.is_none_or(|id| id.is_null() || id.is_string() || id.is_i64() || id.is_u64())
            && item.get("params").is_none_or(|params| params.is_array() || params.is_object())
    };
    let answered = |item: &Value| usize::from(!valid(item) || item.get("id").is_some());
    match serde_json::from_slice::<Value>(line) {
        Ok(Value::Array(items)) if items.is_empty() || items.len() > SMALL.batch => 1,
        Ok(Value::Array(items)) => items.iter().map(answered).sum(),
        Ok(item) => answered(&item),
        Err(_) => 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_in_any_pieces_give_the_same_calls_and_answers(
        lines in proptest::collection::vec(line(), 0..12),
        cuts in proptest::collection::vec(1usize..60, 1..20),
        delay in 0usize..4,
    ) {
        let mut bytes = Vec::new();
        for line in &lines {
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
        }
        let (mut pieces, mut rest, mut sizes) = (Vec::new(), &bytes[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            pieces.push(piece);
            rest = tail;
        }
        let whole = converse(&[&bytes], 0);
        let split = converse(&pieces, 0);
        prop_assert_eq!(&whole.0, &split.0);
        prop_assert_eq!(&whole.1, &split.1);
        let late = converse(&pieces, delay);
        prop_assert_eq!(&whole.0, &late.0, "answers' order does not change requests");
        // Noise may hold newlines of its own.
        let expected: usize = bytes.split(|byte| *byte == b'\n').map(naive_answers).sum();
        for (_, output) in [whole, late] {
            let text = String::from_utf8(output).unwrap();
            let mut found = 0;
            for answer in text.lines() {
                let answer: Value = serde_json::from_str(answer).unwrap();
                for answer in answer.as_array().map_or_else(|| std::slice::from_ref(&answer), Vec::as_slice) {
                    prop_assert_eq!(&answer["jsonrpc"], "2.0");
                    prop_assert!(answer.get("id").is_some());
                    prop_assert!(answer.get("result").is_some() != answer.get("error").is_some());
                    found += 1;
                }
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_sent_is_what_is_heard(id in any::<u64>(), method in ".{0,20}", text in ".{0,200}") {
        let line = outgoing(Some(&Id::Number(id)), &method, &json!({"text": text})) + "\n";
        let mut session = Session::new(SMALL);
        prop_assert_eq!(session.receive(line.as_bytes()), line.len());
        let Some(Event::Call(call)) = session.next() else { panic!("{line}") };
        prop_assert_eq!(&call.method, &method);
        prop_assert_eq!(call.params.fields(["text"]).unwrap(), [Some(Value::from(text))]);
        session.answer(call.ticket.unwrap(), &Ok(json!(id)));
        let answer: Value = serde_json::from_slice(session.output()).unwrap();
        prop_assert_eq!(answer, json!({"jsonrpc": "2.0", "id": id, "result": id}));
    }
}
