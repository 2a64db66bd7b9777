//! Files that come from outside: whatever their bytes, the answer is a value or an error, never a panic.

#![allow(clippy::unwrap_used, reason = "a failure to unwrap is a failure of the test")]

use std::path::Path;

use maxwell_core::market::{Market, MarketPolicy, Outcome, TickInput};
use maxwell_core::units::{Micros, Tick};
use maxwell_daemon::recording::{Recorder, RecordingError, replay};
use maxwell_daemon::scenario::Scenario;
use proptest::prelude::*;

const DEMO: &str = include_str!("../../scenarios/demo.toml");

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    /// A scenario with some bytes replaced, removed or repeated.
    #[test]
    fn a_mangled_scenario_is_a_scenario_or_an_error(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..4u8, any::<char>()), 1..6)
    ) {
        let mut text: Vec<char> = DEMO.chars().collect();
        for (at, kind, with) in edits {
            if text.len() < 2 {
                break;
            }
            let at = at.index(text.len());
            match kind {
                0 => text[at] = with,
                1 => drop(text.remove(at)),
                2 => text.insert(at, with),
                _ => text.truncate(at.max(1)),
            }
        }
        let text: String = text.into_iter().collect();
        if let Err(error) = Scenario::parse(Path::new("x.toml"), &text) {
            prop_assert!(error.to_string().starts_with("x.toml:"), "{}", error);
        }
    }

    /// A whole recording, checksums and all, of a market under a policy that was changed byte by byte.
    #[test]
    fn a_mangled_policy_is_refused_or_runs(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = postcard::to_stdvec(&MarketPolicy::default()).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(policy) = postcard::from_bytes::<MarketPolicy>(&bytes)
            && policy.check().is_ok()
        {
            let mut market = Market::new(policy);
            market.tick(&TickInput { tick: Tick(1), ..TickInput::default() }, &mut Outcome::default()).unwrap();
        }
    }
}

#[test]
fn a_policy_out_of_range_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("absurd");
    let policy = MarketPolicy { tick: Micros(0), ..MarketPolicy::default() };
    Recorder::create(&path, &policy).unwrap().finish(&[0; 32]).unwrap();
    let error = replay(&path).unwrap_err();
    assert!(matches!(error, RecordingError::Damaged { .. }));
    assert!(error.to_string().contains("tick is out of range: 1 ms to 1 s"), "{error}");
}
