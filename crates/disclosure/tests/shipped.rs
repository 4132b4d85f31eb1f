//! The shipped profiles are read without problems and protect what they say.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use tietopohja_disclosure::{Cell, Decision, Profiles, Reason};

fn shipped() -> Profiles {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../definitions/disclosure/profiles.toml");
    let text = std::fs::read_to_string(path).unwrap();
    Profiles::parse(&[("profiles.toml".to_owned(), text)])
        .unwrap_or_else(|problems| panic!("{}", tietopohja_domain::render_problems(&problems)))
}

fn decide(profile: &str, contributors: i64) -> Decision {
    let cell = Cell {
        contributors: Some(contributors),
        denominator: Some(1_000_000.0),
        has_value: true,
    };
    shipped().get(profile).unwrap().decide(&cell)
}

#[test]
fn each_shipped_profile_has_its_least_count() {
    assert_eq!(
        shipped().names(),
        ["person_count", "public_money", "staff_health"]
    );
    for (profile, hidden_up_to) in [
        ("person_count", 4),
        ("staff_health", 9),
        ("public_money", 0),
    ] {
        for count in 0..=12 {
            let expected = if (1..=hidden_up_to).contains(&count) {
                Decision::Suppressed(Reason::SmallCount)
            } else {
                Decision::Free
            };
            assert_eq!(decide(profile, count), expected, "{profile} {count}");
        }
    }
}
