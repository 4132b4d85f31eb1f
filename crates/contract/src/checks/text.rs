//! Text: readable characters, at most the declared number of them, and no
//! identity code among them.

use crate::checks::{Fault, Reader, identity_code_scan};
use crate::rules;

/// Texts of a column one after another; `ends[i]..ends[i + 1]` is row `i`.
#[derive(Debug, Clone)]
pub(crate) struct Texts {
    pub(crate) ends: Vec<i32>,
    pub(crate) bytes: Vec<u8>,
}

impl Texts {
    pub(crate) fn new(rows: usize, bytes_a_row: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Texts {
            ends,
            bytes: Vec::with_capacity(rows.saturating_mul(bytes_a_row)),
        }
    }

    /// Keeps a text, or says that the column is full (2 GiB).
    #[inline]
    pub(crate) fn push(&mut self, text: &[u8]) -> Result<(), Fault> {
        let Ok(end) = i32::try_from(self.bytes.len() + text.len()) else {
            return Err(TOO_LONG);
        };
        self.bytes.extend_from_slice(text);
        self.ends.push(end);
        Ok(())
    }

    #[inline]
    pub(crate) fn push_empty(&mut self) {
        let end = self.ends.last().copied().unwrap_or_default();
        self.ends.push(end);
    }

    #[inline]
    pub(crate) fn get(&self, row: usize) -> &[u8] {
        match self.ends.get(row..row + 2) {
            Some([start, end]) => self
                .bytes
                .get(*start as usize..*end as usize)
                .unwrap_or_default(),
            _ => b"",
        }
    }
}

#[derive(Debug)]
pub(crate) struct TextReader {
    max_length: usize,
    scan: bool,
    pub(crate) texts: Texts,
}

impl TextReader {
    pub(crate) fn new(max_length: usize, scan: bool, rows: usize) -> Self {
        TextReader {
            max_length,
            scan,
            texts: Texts::new(rows, 12),
        }
    }
}

impl Reader for TextReader {
    #[inline]
    fn read(&mut self, _row: usize, cell: &[u8]) -> Result<(), Fault> {
        let plain = is_plain(cell);
        if !plain {
            check_unusual(cell)?;
        }
        if cell.len() > self.max_length && characters(cell) > self.max_length {
            return Err(TOO_LONG);
        }
        if self.scan && identity_code_scan::finds(cell, plain) {
            return Err(identity_code_scan::FOUND);
        }
        self.texts.push(cell)
    }

    fn skip(&mut self) {
        self.texts.push_empty();
    }

    fn limits(&self, rule: &str) -> Option<String> {
        (rule == rules::TOO_LONG).then(|| format!("at most {} characters", self.max_length))
    }
}

const TOO_LONG: Fault = Fault {
    rule: rules::TOO_LONG,
    message: "the text is longer than agreed",
};
const CONTROL: Fault = Fault {
    rule: rules::CONTROL_CHARACTER,
    message: "the cell holds a control character",
};
const MARK: Fault = Fault {
    rule: rules::CONTROL_CHARACTER,
    message: "the cell holds a byte order mark",
};
const ENCODING: Fault = Fault {
    rule: rules::ENCODING,
    message: "the cell is not text in the agreed encoding",
};

/// Only printable ASCII: no branch a byte, so that it is done many at a time.
#[inline]
fn is_plain(cell: &[u8]) -> bool {
    cell.iter()
        .fold(true, |plain, byte| plain & (byte.wrapping_sub(0x20) < 0x5F))
}

#[cold]
fn check_unusual(cell: &[u8]) -> Result<(), Fault> {
    match unreadable(cell) {
        // Line ends and tabs are part of a quoted text.
        Some(CONTROL)
            if !cell
                .iter()
                .any(|b| is_control(*b) && !matches!(b, b'\t' | b'\r' | b'\n'))
                && !has_c1(cell) =>
        {
            Ok(())
        }
        Some(fault) => Err(fault),
        None => Ok(()),
    }
}

fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7F
}

/// U+0080-U+009F, which appear when Windows-1252 is read as ISO-8859-1.
fn has_c1(cell: &[u8]) -> bool {
    cell.windows(2)
        .any(|pair| matches!(pair, [0xC2, 0x80..=0x9F]))
}

/// The fault of a cell that is no readable text, whatever its type.
pub(crate) fn unreadable(cell: &[u8]) -> Option<Fault> {
    if is_plain(cell) {
        return None;
    }
    if std::str::from_utf8(cell).is_err()
        || cell.windows(3).any(|three| three == "\u{fffd}".as_bytes())
    {
        return Some(ENCODING);
    }
    if cell.windows(3).any(|three| three == "\u{feff}".as_bytes()) {
        return Some(MARK);
    }
    (cell.iter().any(|byte| is_control(*byte)) || has_c1(cell)).then_some(CONTROL)
}

fn characters(cell: &[u8]) -> usize {
    cell.iter()
        .filter(|byte| !matches!(byte, 0x80..=0xBF))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::testing::read_one;

    fn check(cell: &[u8], expected: Result<&str, &str>) {
        let mut reader = TextReader::new(20, true, 1);
        let found = read_one(&mut reader, cell)
            .map(|_| String::from_utf8_lossy(reader.texts.get(0)).into_owned());
        assert_eq!(
            found,
            expected.map(str::to_owned).map_err(str::to_owned),
            "{cell:?}"
        );
    }

    #[test]
    fn readable_text_is_kept_trimmed() {
        check(b" yksikk\xC3\xB6 7 ", Ok("yksikkö 7"));
        check(b"rivi 1\nrivi 2\tx", Ok("rivi 1\nrivi 2\tx"));
        check("Hämeenlinna – itä".as_bytes(), Ok("Hämeenlinna – itä"));
        check(b"", Ok(""));
    }

    #[test]
    fn unreadable_text_is_refused() {
        check(b"a\0b", Err("control_character"));
        check(b"a\x7Fb", Err("control_character"));
        check(b"a\n\x01", Err("control_character"));
        check("a\u{80}b".as_bytes(), Err("control_character"));
        check("a\n\u{80}b".as_bytes(), Err("control_character"));
        check("\u{feff}a".as_bytes(), Err("control_character"));
        check("a\u{fffd}".as_bytes(), Err("encoding"));
        check(b"a\xE4b", Err("encoding"));
        check(b"a\xE4\n", Err("encoding"));
    }

    #[test]
    fn length_is_counted_in_characters() {
        check("ä".repeat(20).as_bytes(), Ok("ääääääääääääääääääää"));
        check("ä".repeat(21).as_bytes(), Err("too_long"));
        check(&[b'a'; 21], Err("too_long"));
    }

    #[test]
    fn an_identity_code_in_a_text_is_found() {
        check(b"as. 010190-900P", Err("identity_code_in_text"));
    }
}
