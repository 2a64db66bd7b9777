use super::*;
use crate::power::Megahertz;
use maxwell_core::units::Celsius;
use proptest::prelude::*;

fn full() -> Profile {
    Profile {
        title: "a \"quoted\" machine".into(),
        threads: 8,
        provenance: Some(Provenance {
            source: "a.csv, b.csv".into(),
            date: "2026-11-21".into(),
            peak: Some(Watts(49.65)),
            in_sample: Some(Watts(1.0 / 3.0)),
            held_out: Some(Watts(2.0)),
        }),
        power: PowerModel {
            idle: Watts(5.7),
            awake: Watts(7.9),
            curve: vec![Knot { utilisation: 0.1, watts: Watts(0.0) }, Knot { utilisation: 1.0, watts: Watts(7.6) }],
            siblings: Some(Siblings { cores: 4, share: 0.15 }),
            frequency: Some(Frequency { reference: Megahertz(3_591.7), gamma: 1.5 }),
        },
        plant: Some(PlantModel {
            ambient: Celsius(31.25),
            fast: FosterNode { resistance: 0.35, tau: 0.8 },
            slow: FosterNode { resistance: 0.34, tau: 40.0 },
        }),
        delay: Some(0.02),
    }
}

fn parse(text: &str) -> Result<Profile, ProfileError> {
    Profile::parse(Path::new("dir/p.toml"), text)
}

const SMALL: &str =
    "title = \"t\"\nthreads = 2\n[power]\nidle = \"1W\"\ncurve = [{ utilisation = 1.0, watts = \"2W\" }]\n";

#[test]
fn what_is_saved_reads_back_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.toml");
    full().save(&path, Existing::Keep).unwrap();
    assert_eq!(Profile::load(&path).unwrap(), full());
    assert!(matches!(full().save(&path, Existing::Keep), Err(ProfileError::Exists { .. })));
    let small = parse(SMALL).unwrap();
    small.save(&path, Existing::Replace).unwrap();
    assert_eq!(Profile::load(&path).unwrap(), small);
    assert_eq!((small.plant, small.delay, small.power.awake), (None, None, Watts(0.0)));
}

#[test]
fn a_profile_that_would_be_refused_is_not_written() {
    let bare = Profile { power: PowerModel { curve: Vec::new(), ..full().power }, ..full() };
    let endless = Profile { delay: Some(f64::INFINITY), ..full() };
    let hidden = Profile { title: "\u{1b}[2J".into(), ..full() };
    for wrong in [bare, endless, hidden, Profile { threads: 0, ..full() }] {
        assert!(matches!(wrong.text(), Err(ProfileError::Wrong { .. })));
    }
}

#[test]
fn errors_name_the_place_and_the_remedy() {
    let plant = |fast: &str, slow: &str| {
        format!(
            "{SMALL}[plant]\nambient = \"20C\"\nfast = {{ resistance = 1.0, tau = \"{fast}\" }}\nslow = {{ resistance = 1.0, tau = \"{slow}\" }}\n"
        )
    };
    let cases = [
        (SMALL.replace("1W", "1"), "dir/p.toml:4:8: ", "write, for instance, `14.4W`"),
        (SMALL.replace("\"1W\"", "1"), "dir/p.toml:4:8: ", "number with its unit in quotes"),
        (SMALL.replace("1W", "-1W"), "dir/p.toml:4:8: ", "idle is -1W, but must lie between 0W and 100000W"),
        (SMALL.replace("1W", "nanW"), "dir/p.toml:4:8: ", "must lie between"),
        (SMALL.replace("1W", "infW"), "dir/p.toml:4:8: ", "must lie between"),
        (SMALL.replace("idle", "idel"), "dir/p.toml:4:1: ", "unknown field `idel`"),
        (SMALL.replace("threads = 2", "threads = 0"), "dir/p.toml:2:11: ", "between 1 and 4096"),
        (SMALL.replace("threads = 2\n", ""), "dir/p.toml:1:1: ", "missing field `threads`"),
        (SMALL.replace("= 1.0", "= 1.5"), "dir/p.toml:5:10: ", "at most 1"),
        (SMALL.replace("= 1.0", "= 0.5"), "dir/p.toml:5:9: ", "must end at utilisation 1.0"),
        (SMALL.replace("[{ utilisation = 1.0, watts = \"2W\" }]", "[]"), "dir/p.toml:5:9: ", "1 to 64 points"),
        (
            SMALL.replace("[{", "[{ utilisation = 0.5, watts = \"3W\" }, {"),
            "dir/p.toml:5:47: ",
            "at least the 3.00W of the point before",
        ),
        (SMALL.replace("\"t\"", "\"\\u001b[2J\""), "dir/p.toml:1:9: ", "no control characters"),
        (plant("40s", "800ms"), "dir/p.toml:9:34: ", "swap them"),
        (plant("800ms", "0s"), "dir/p.toml:9:34: ", "tau is 0s"),
        (format!("{SMALL}[power.siblings]\ncores = 2\nshare = 2.0\n"), "dir/p.toml:8:9: ", "share is 2"),
        (format!("{SMALL}[controller]\ndelay = \"5 fortnights\"\n"), "dir/p.toml:7:9: ", "`min`"),
        ("[[power]".to_owned(), "dir/p.toml:1:", ""),
        (String::new(), "dir/p.toml:1:1: ", "missing field"),
    ];
    for (text, place, what) in cases {
        let error = parse(&text).expect_err(&text).to_string();
        assert!(error.starts_with(place) && error.contains(what), "{error}\nwanted {place} … {what}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("long.toml");
    std::fs::write(&long, format!("{SMALL}#{}", "x".repeat(1 << 20))).unwrap();
    let error = Profile::load(&long).unwrap_err().to_string();
    assert!(error.contains("long.toml:1:1: ") && error.contains("at most 1 MiB"), "{error}");
    let missing = Profile::load(Path::new("/no/such.toml")).unwrap_err().to_string();
    assert!(missing.contains("/no/such.toml") && missing.contains("physics fit"), "{missing}");
}

prop_compose! {
    fn any_profile()(
        title in "[^\\p{Cc}]{1,40}",
        threads in 1u16..=4096,
        idle in 0.0..1e5f64,
        steps in prop::collection::vec((1e-6..1.0f64, 0.0..100.0f64), 1..10),
        siblings in prop::option::of((1u16..=4096, 0.0..=1.0f64)),
        frequency in prop::option::of((1.0..1e5f64, 0.0..=5.0f64)),
        plant in prop::option::of((-100.0..200.0f64, 1e-4..1e3f64, 1e-3..1e2f64, 1e-4..1e3f64)),
        delay in prop::option::of(0.0..=60.0f64),
    ) -> Profile {
        let width: f64 = steps.iter().map(|step| step.0).sum();
        let (mut at, mut watts) = (0.0, 0.0);
        let mut curve: Vec<Knot> = steps
            .iter()
            .map(|step| {
                at += step.0 / width;
                watts += step.1;
                Knot { utilisation: at, watts: Watts(watts) }
            })
            .collect();
        curve.retain(|knot| knot.utilisation < 0.999);
        curve.push(Knot { utilisation: 1.0, watts: Watts(watts) });
        Profile {
            title,
            threads,
            provenance: None,
            power: PowerModel {
                idle: Watts(idle),
                awake: Watts(idle / 3.0),
                curve,
                siblings: siblings.map(|(cores, share)| Siblings { cores, share }),
                frequency: frequency.map(|(mhz, gamma)| Frequency { reference: Megahertz(mhz), gamma }),
            },
            plant: plant.map(|(ambient, resistance, tau, other)| PlantModel {
                ambient: Celsius(ambient),
                fast: FosterNode { resistance, tau },
                slow: FosterNode { resistance: other, tau: tau * 7.3 },
            }),
            delay,
        }
    }
}

proptest! {
    #[test]
    fn every_profile_reads_back_exactly(profile in any_profile()) {
        let text = profile.text().map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(parse(&text).unwrap(), profile);
    }

    #[test]
    fn a_mangled_profile_is_understood_or_refused_with_a_place(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..4, "\\PC{0,3}|[-+0-9.eW\"{}\\[\\]\n=#]{1,4}"), 1..6)
    ) {
        let mut text: Vec<char> = full().text().unwrap().chars().collect();
        for (at, cut, insert) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + cut).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        match parse(&text) {
            Ok(profile) => prop_assert!(profile.text().is_ok(), "what was read can be written"),
            Err(ProfileError::Wrong { line, column, message, .. }) => {
                prop_assert!(line >= 1 && line <= text.lines().count() + 1 && column >= 1);
                prop_assert!(!message.is_empty());
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
