//! Personal identity codes (henkilötunnus) in files: only artificial ones.
//!
//! A code whose individual number is 900–999 is given to nobody; one of
//! 002–899 with the right control character may be a living person. Finds the
//! forms that systems write: any century sign, lower case, an en dash.

use super::Finding;
use crate::tree::Tree;

/// Control characters by the remainder of date and individual number by 31.
const CONTROL: &[u8; 31] = b"0123456789ABCDEFHJKLMNPRSTUVWXY";

/// Official statistics as published: long numbers, never people.
const PUBLIC_DATA: &str = "reference/";

/// No file holds a code that may belong to a person.
pub(super) fn no_real_codes(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        if file.path.starts_with(PUBLIC_DATA) {
            continue;
        }
        for (index, line) in file.bytes.split(|byte| *byte == b'\n').enumerate() {
            if holds_real_code(line) {
                findings.push(Finding::new(
                    &file.path,
                    index + 1,
                    "an identity code that may belong to a person",
                    "use an artificial code: an individual number of 900 to 999",
                ));
            }
        }
    }
    findings
}

fn holds_real_code(line: &[u8]) -> bool {
    (0..line.len()).any(|at| {
        let begins = at == 0 || !line[at - 1].is_ascii_alphanumeric();
        begins && is_real_code(&line[at..])
    })
}

/// Whether the text begins with a valid code of a non-artificial number.
fn is_real_code(text: &[u8]) -> bool {
    let Some(date) = digits(text, 0, 6) else {
        return false;
    };
    let Some(sign_length) = sign_length(&text[6..]) else {
        return false;
    };
    let rest = 6 + sign_length;
    let Some(individual) = digits(text, rest, 3) else {
        return false;
    };
    let Some(control) = text.get(rest + 3) else {
        return false;
    };
    let ends = !text
        .get(rest + 4)
        .is_some_and(|next| next.is_ascii_alphanumeric());
    let (day, month) = (date / 10_000, date / 100 % 100);
    let expected = CONTROL[(date * 1000 + individual) as usize % CONTROL.len()];
    ends && (1..=31).contains(&day)
        && (1..=12).contains(&month)
        && (2..=899).contains(&individual)
        && control.to_ascii_uppercase() == expected
}

fn digits(text: &[u8], from: usize, count: usize) -> Option<u64> {
    let part = text.get(from..from + count)?;
    part.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + u64::from(byte - b'0'))
    })
}

/// Bytes of the century sign the text begins with.
fn sign_length(text: &[u8]) -> Option<usize> {
    const EN_DASH: &[u8] = "–".as_bytes();
    match text.first()?.to_ascii_uppercase() {
        b'+' | b'-' | b'A'..=b'F' | b'U'..=b'Y' => Some(1),
        _ if text.starts_with(EN_DASH) => Some(EN_DASH.len()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A valid code composed here, so that this file holds none.
    fn code(date: u64, sign: &str, individual: u64) -> String {
        let control = CONTROL[(date * 1000 + individual) as usize % CONTROL.len()] as char;
        format!("{date:06}{sign}{individual:03}{control}")
    }

    #[track_caller]
    fn check(text: &str, found: bool) {
        assert_eq!(holds_real_code(text.as_bytes()), found, "{text}");
    }

    #[test]
    fn codes_of_possible_people_are_found_in_every_form() {
        for sign in ["-", "+", "A", "Y", "–", "a"] {
            check(&format!("x;{};y", code(10_190, sign, 123)), true);
        }
        check(&code(311_299, "-", 899).to_lowercase(), true);
    }

    #[test]
    fn artificial_and_invalid_codes_are_left_alone() {
        check(&code(10_190, "-", 900), false);
        check(&code(10_190, "A", 999), false);
        check("020516C903K 010594Y9032 020516C903L", false);
        check(&code(320_190, "-", 123), false);
        check(&code(11_390, "-", 123), false);
        let valid = code(10_190, "-", 123);
        check(&format!("7{valid}"), false);
        check(&format!("{valid}7"), false);
        let mut wrong = valid;
        wrong.pop();
        check(&format!("{wrong}G"), false);
    }

    #[test]
    fn the_place_is_told_but_not_the_code() {
        let secret = code(10_190, "-", 123);
        let text = format!("a\n{secret}\n");
        let tree = Tree::of(&[("docs/a.md", &text), ("reference/a.csv", &text)]);
        let found = no_real_codes(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, ("docs/a.md".to_owned(), 2));
        assert!(!found[0].to_string().contains(&secret));
    }
}
