//! A personal identity code inside a text. Free text is where codes leak, so
//! a text is searched for whole, valid codes: form, date and control
//! character, with no letter or digit on either side. One random text in
//! hundreds of thousands looks the same; a false alarm is told apart by a
//! person, a leak is not taken back.

use tietopohja_domain::Hetu;

use crate::checks::Fault;
use crate::rules;

pub(crate) const FOUND: Fault = Fault {
    rule: rules::IDENTITY_CODE_IN_TEXT,
    message: "the text holds a personal identity code; remove it from the source system's field",
};

const LENGTH: usize = 11;

/// Place of the century sign in a code.
const SIGN: usize = 6;

static IS_SIGN: [bool; 256] = {
    let mut table = [false; 256];
    let signs = b"+-ABCDEFUVWXYabcdefuvwxy";
    let mut i = 0;
    while i < signs.len() {
        table[signs[i] as usize] = true;
        i += 1;
    }
    table
};

/// Whether a valid code, real or artificial, stands in the text. `ascii` says
/// that the text is known to be ASCII, which saves looking for an en dash.
#[inline]
pub(crate) fn finds(text: &[u8], ascii: bool) -> bool {
    let Some(last_sign) = text.len().checked_sub(LENGTH - SIGN) else {
        return false;
    };
    let Some(signs) = text.get(SIGN..=last_sign) else {
        return false;
    };
    signs
        .iter()
        .enumerate()
        .any(|(start, byte)| IS_SIGN[usize::from(*byte)] && is_code_at(text, start))
        || (!ascii && has_en_dash(text))
}

fn is_code_at(text: &[u8], start: usize) -> bool {
    let word = |at: Option<usize>| {
        at.and_then(|at| text.get(at))
            .is_some_and(u8::is_ascii_alphanumeric)
    };
    // Running numbers such as 202403-0001 are met in every row of some columns,
    // so the day and the month are looked at before anything else.
    let Some(code @ [b'0'..=b'3', _, b'0' | b'1', ..]) = text.get(start..start + LENGTH) else {
        return false;
    };
    !word(start.checked_sub(1)) && !word(Some(start + LENGTH)) && Hetu::parse(code).is_ok()
}

// Word processors turn the hyphen of a code into an en dash.
#[cold]
fn has_en_dash(text: &[u8]) -> bool {
    match std::str::from_utf8(text) {
        Ok(text) if text.contains('–') => {
            let text = text.replace('–', "-");
            let text = text.as_bytes();
            (0..text.len()).any(|start| is_code_at(text, start))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: bool) {
        assert_eq!(finds(text.as_bytes(), false), expected, "{text}");
    }

    #[test]
    fn whole_valid_codes_are_found() {
        for text in [
            "010190-900P",
            "asiakas 020516C903K, käynti",
            "(010101a900r)",
            "hetu:010594Y9032.",
            "äö 010190–900P",
        ] {
            check(text, true);
        }
    }

    #[test]
    fn other_texts_are_let_through() {
        for text in [
            "",
            "010190-900",
            "020516C903L",
            "310290-900P",
            "x010190-900P",
            "010190-900P1",
            "2010190-900P",
            "lasku 202403-0001",
            "K072024-00001234",
            "+358 40 1234567",
            "käynti 1.3.2024 – 5.3.2024",
        ] {
            check(text, false);
        }
    }
}
