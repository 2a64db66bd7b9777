//! The demo's outcome follows from the mechanism: who is paid lives, who is not dies, and swapping who is paid swaps who
//! lives. Real agents, real time, the real binary; the machine's heat follows Maxwell's own load only, so that whatever
//! else runs beside the test does not decide it.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests work with small numbers, and a failure to unwrap is a failure of the test"
)]

mod maxwell;

use maxwell::{Run, agent, scenario};

/// The demo with small wallets, so that lives are short.
fn demo(change: impl Fn(String) -> String) -> String {
    let demo = std::fs::read_to_string(maxwell::root().join("scenarios/demo.toml")).unwrap();
    change(demo.replace("wallet = \"300J\"", "wallet = \"60J\""))
}

/// Cuts a table out of a scenario.
fn without(text: &str, from: &str, to: &str) -> String {
    let start = text.find(from).expect("the table is there");
    let end = start + text[start..].find(to).expect("something follows it");
    format!("{}{}", &text[..start], &text[end..])
}

fn check_books(report: &serde_json::Value) {
    assert_eq!(report["money"]["error_nj"], 0, "{}", report["money"]);
    assert_eq!(report["energy"]["error_nj"], 0, "{}", report["energy"]);
    let money = |name: &str| report["money"][name].as_u64().unwrap();
    assert_eq!(money("minted_nj") - money("burned_nj"), money("balances_nj") + money("escrow_nj"));
    assert_eq!(report["sensor"]["quality"], "modelled", "modelled joules are never shown as measured");
}

#[test]
fn the_scientist_lives_and_the_unpaid_miner_dies() {
    let run = Run::scenario(&scenario(&demo(|text| text)), 14, &[]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report = run.report();
    check_books(&report);
    let (scientist, miner) = (agent(&report, "scientist"), agent(&report, "miner"));
    assert_eq!(miner["state"], "dead", "{miner}");
    assert!(["insolvent", "rent_unpaid"].contains(&miner["reason"].as_str().unwrap()), "{miner}");
    assert_eq!(miner["work_verified"], 0);
    assert!(["running", "waiting"].contains(&scientist["state"].as_str().unwrap()), "{scientist}");
    assert!(scientist["work_verified"].as_u64().unwrap() > 100, "{scientist}");
    // The price rose past par because of heat, and fell again.
    let price = |name: &str| report["price_mw"][name].as_u64().unwrap();
    assert!(price("peak") > 2 * price("par") && price("final") < price("peak"), "{}", report["price_mw"]);
    let peak = report["temp_c"]["peak"].as_f64().unwrap();
    assert!(peak <= 63.0, "the die peaked at {peak}");
}

#[test]
fn give_the_miner_a_bounty_of_its_own_and_it_lives() {
    let text = demo(|text| {
        text + "\n[[sponsor]]\nname = \"hash fund\"\nverifier = \"hash\"\nbits = 12\nreward = \"1J\"\nbudget = \"100kJ\"\n"
    });
    let run = Run::scenario(&scenario(&text), 14, &[]);
    let report = run.report();
    check_books(&report);
    let miner = agent(&report, "miner");
    assert!(["running", "waiting"].contains(&miner["state"].as_str().unwrap()), "{miner}");
    assert!(miner["work_verified"].as_u64().unwrap() > 100, "{miner}");
}

#[test]
fn give_the_scientist_no_sponsor_and_it_dies() {
    let text = demo(|text| {
        let text = without(&text, "[[sponsor]]", "[[agent]]");
        // Alone, so that it is not the miner's heat that starves it.
        let miner = text.rfind("[[agent]]").unwrap();
        text[..miner].replace("wallet = \"60J\"", "wallet = \"8J\"")
    });
    let run = Run::scenario(&scenario(&text), 14, &[]);
    let report = run.report();
    check_books(&report);
    let scientist = agent(&report, "scientist");
    assert_eq!(
        (scientist["state"].as_str(), scientist["reason"].as_str()),
        (Some("dead"), Some("insolvent")),
        "{scientist}"
    );
    assert_eq!(scientist["earned_nj"], 0);
}

#[test]
fn the_last_words_of_the_dead_are_shown() {
    let text = demo(|text| text.replace("wallet = \"60J\"", "wallet = \"15J\""));
    let run = Run::shown(&scenario(&text), 10);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("miner must die"), "{}", run.stdout);
    assert!(run.stdout.contains("last words: “I hashed"), "{}", run.stdout);
    assert!(run.stdout.contains("miner DIED (insolvent)"), "{}", run.stdout);
    assert!(!run.stdout.contains('\u{1b}'), "no escape sequences where stdout is not a terminal");
}
