//! The transcript in `docs/agent-protocol.md`, line by line against the session.

#![allow(clippy::unwrap_used, reason = "a failure to unwrap is a failure of the test")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use maxwell_core::bounty::{SponsorId, Verifier};
use maxwell_core::reason::Reason;
use maxwell_core::{AgentId, Joule, Price, Tick};
use maxwell_hypervisor::Offer;
use maxwell_hypervisor::Quote;
use maxwell_hypervisor::protocol::account::{Account, Board, Notice, Standing};
use maxwell_hypervisor::protocol::broker::notice_of_death;
use maxwell_hypervisor::protocol::desk::serve;
use maxwell_hypervisor::protocol::session::{Event, Limits, Session};
use maxwell_hypervisor::protocol::verb::Verb;
use serde_json::Value;

fn document() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/agent-protocol.md")).unwrap()
}

fn world() -> (Account, Arc<Board>) {
    let board = Board::default();
    let quote = Quote { tick: Tick(77), spot: Price(4_500), now_us: 770_000 };
    assert!(board.publish(Notice { quote, reserve: Some(Price(4_200)) }));
    let primes = Verifier::Prime { least: 1_000 };
    let hashes = Verifier::Hash { bits: 20 };
    board.offers().add(Offer { sponsor: SponsorId(0), verifier: primes, reward: Joule(2_500_000), funded: true });
    board.offers().add(Offer { sponsor: SponsorId(1), verifier: hashes, reward: Joule(9_000_000), funded: false });
    let account = Account::new(AgentId(3));
    assert!(account.publish(Standing {
        state: "waiting",
        reason: Reason::Outbid { spot: Price(4_500), bid: Price(4_000) },
        limit: Price(4_000),
        balance: Joule(12_500_000_000),
    }));
    (account, Arc::new(board))
}

fn gather(session: &mut Session, unread: &mut Vec<String>) {
    unread.extend(std::str::from_utf8(session.output()).unwrap().lines().map(str::to_owned));
    let sent = session.output().len();
    session.sent(sent);
}

#[test]
fn the_documents_transcript_is_what_happens() {
    let text = document();
    let transcript = text.split("```transcript\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let (account, board) = world();
    let mut session = Session::new(Limits::AGENT);
    let mut unread: Vec<String> = Vec::new();
    let mut exchanged = 0;
    for line in transcript.lines() {
        if let Some(sent) = line.strip_prefix("> ") {
            assert_eq!(unread, Vec::<String>::new(), "not in the document, before {sent}");
            let bytes = format!("{sent}\n");
            assert_eq!(session.receive(bytes.as_bytes()), bytes.len());
            while let Some(event) = session.next() {
                if let Event::Call(call) = event
                    && let (Some(ticket), outcome) = serve(call, &account, &board)
                {
                    session.answer(ticket, &outcome);
                }
            }
        } else if let Some(heard) = line.strip_prefix("< ") {
            if heard.contains("apoptosis") {
                session.notify("apoptosis", &notice_of_death(Reason::Insolvent, Duration::from_secs(2)));
            }
            gather(&mut session, &mut unread);
            assert!(!unread.is_empty(), "never said: {heard}");
            let (said, told): (Value, Value) =
                (serde_json::from_str(&unread.remove(0)).unwrap(), serde_json::from_str(heard).unwrap());
            assert_eq!(said, told);
            exchanged += 1;
        } else {
            panic!("neither sent nor heard: {line}");
        }
        gather(&mut session, &mut unread);
    }
    assert!(unread.is_empty(), "not in the document: {unread:?}");
    assert!(exchanged > 10, "the transcript was found");
}

#[test]
fn the_document_names_every_verb() {
    let text = document();
    for verb in Verb::NAMES {
        assert!(text.contains(&format!("\n| `{verb}` |")), "{verb} is not in the table");
    }
}
