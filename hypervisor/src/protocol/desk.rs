//! Answers to agents: what a verb means for an agent's account. Nothing here blocks.

use maxwell_core::bounty::Verifier;
use serde_json::{Value, json};

use super::account::{Account, Board, CLAIMS_PER_SLOT, SPONSORS_MAX};
use super::fault::{Code, Fault};
use super::lines::LINE_MAX;
use super::session::{Call, Limits, Ticket};
use super::verb::{Payer, VERSION, Verb};
use crate::offers::{LOG_LINE, LOG_LINES_PER_SLOT, Offer};

/// Carries out a call; what to answer, and the right to do so. A notification has no such right, and is carried out too.
pub fn serve(call: Call, account: &Account, board: &Board) -> (Option<Ticket>, Result<Value, Fault>) {
    let Call { ticket, method, params } = call;
    (ticket, Verb::parse(&method, params).and_then(|verb| carry_out(verb, account, board)))
}

fn carry_out(verb: Verb, account: &Account, board: &Board) -> Result<Value, Fault> {
    match verb {
        Verb::Hello => Ok(json!({
            "protocol": VERSION,
            "maxwell": env!("CARGO_PKG_VERSION"),
            "agent": account.agent().0,
            "verbs": Verb::NAMES,
            "limits": {
                "line_bytes": LINE_MAX,
                "batch": Limits::AGENT.batch,
                "log_bytes": LOG_LINE,
                "logs_per_slot": LOG_LINES_PER_SLOT,
                "claims_per_slot": CLAIMS_PER_SLOT,
            },
        })),
        Verb::Price => Ok(price(board)),
        Verb::Balance => {
            let balance = account.standing().balance;
            Ok(json!({"balance": balance.0, "text": balance.to_string()}))
        }
        Verb::Bid { limit } => {
            account.bid(limit);
            Ok(json!({"limit": limit.0, "text": limit.to_string()}))
        }
        Verb::Submit { payer, unit } => submit(payer, unit, account, board),
        Verb::Log { text } => account.say(&text).map(|left| json!({"left": left})),
        Verb::Sponsors => {
            Ok(json!({"sponsors": board.offers().first(SPONSORS_MAX).iter().map(shown).collect::<Vec<_>>()}))
        }
        Verb::Status => {
            let standing = account.standing();
            Ok(json!({
                "state": standing.state,
                "reason": standing.reason.code(),
                "text": standing.reason.to_string(),
                "limit": standing.limit.0,
                "balance": standing.balance.0,
            }))
        }
    }
}

fn price(board: &Board) -> Value {
    let notice = board.notice();
    let mut answer = json!({
        "spot": notice.quote.spot.0,
        "tick": notice.quote.tick.0,
        "now_us": notice.quote.now_us,
        "text": format!("{} for each core", notice.quote.spot),
    });
    if let Some(reserve) = notice.reserve {
        answer["reserve"] = reserve.0.into();
    }
    answer
}

fn submit(payer: Payer, unit: u64, account: &Account, board: &Board) -> Result<Value, Fault> {
    let offer = match payer {
        Payer::Sponsor(sponsor) => board.offers().of(sponsor),
        Payer::Kind(kind) => board.offers().for_kind(kind),
    };
    let Some(offer) = offer else {
        return Err(Fault::ours(Code::Nothing, "no_sponsor", "nobody pays for this; ask `sponsors` who pays for what"));
    };
    account.claim(&offer, unit)?;
    board.note_claim(account.agent());
    Ok(json!({"sponsor": offer.sponsor.0, "reward": offer.reward.0, "text": offer.reward.to_string()}))
}

fn shown(offer: &Offer) -> Value {
    let (kind, bound, value) = match offer.verifier {
        Verifier::Prime { least } => ("prime", "least", least),
        Verifier::Hash { bits } => ("hash", "bits", u64::from(bits)),
    };
    json!({"sponsor": offer.sponsor.0, "kind": kind, bound: value, "reward": offer.reward.0, "funded": offer.funded})
}
