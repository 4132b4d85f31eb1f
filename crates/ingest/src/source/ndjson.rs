//! One flat JSON object on each line.
//!
//! Numbers keep the digits they were written with, so that no amount passes through a float. A
//! missing key and `null` are both an empty cell. What may not live here: the meaning of a value.

use tietopohja_contract::{Dialect, TextBlock};

use super::Names;
use super::bytes::ByteStream;
use super::csv::{Split, TextChunk};
use super::encoding::{EncodingChoice, TextEncoding, to_utf8};
use crate::error::{FaultAt, SourceFault};
use crate::limits::LandLimits;

/// Records looked at to learn which keys the file has.
const HEADER_RECORDS: usize = 1_000;

/// Finds line ends.
pub(crate) struct NdjsonReader {
    stream: ByteStream,
    buffer: Vec<u8>,
    offset: u64,
    row: i64,
    more: bool,
    encoding: EncodingChoice,
    block_bytes: usize,
    max_record: usize,
}

/// What workers need to cut lines into cells.
#[derive(Debug, Clone)]
pub(crate) struct NdjsonShape {
    /// Key of each column, as the file writes it.
    pub(crate) keys: Vec<String>,
    pub(crate) max_field: usize,
}

impl NdjsonReader {
    /// Looks at the first records. Gives the columns as the contract names them, and the keys they
    /// have in the file: those of the contract that are seen or may be left out, then others.
    pub(crate) fn open(
        stream: ByteStream,
        names: &Names,
        limits: &LandLimits,
    ) -> Result<(NdjsonReader, Vec<String>, Vec<String>), FaultAt> {
        let mut reader = NdjsonReader {
            stream,
            buffer: Vec::new(),
            offset: 0,
            row: 1,
            more: true,
            encoding: EncodingChoice::new(vec![TextEncoding::Utf8]),
            block_bytes: limits.block_bytes.clamp(4 << 10, 256 << 20),
            max_record: limits.max_record_bytes,
        };
        reader.more = reader.stream.fill(&mut reader.buffer, reader.block_bytes)?;
        if reader.buffer.starts_with(b"\xef\xbb\xbf") {
            reader.buffer.drain(..3);
            reader.offset = 3;
        }
        if reader.buffer.trim_ascii().is_empty() && !reader.more {
            return Err(SourceFault::Empty.into());
        }
        let seen = reader.seen_keys(limits)?;
        let (mut header, mut keys) = (Vec::new(), Vec::new());
        for column in names.columns() {
            match seen.iter().find(|key| column.is_called(key)) {
                Some(key) => {
                    header.push(column.header.clone());
                    keys.push(key.clone());
                }
                None if column.optional => {
                    header.push(column.header.clone());
                    keys.push(column.header.clone());
                }
                None => {}
            }
        }
        for key in seen {
            if !keys.contains(&key) {
                header.push(key.clone());
                keys.push(key);
            }
        }
        Ok((reader, header, keys))
    }

    fn seen_keys(&mut self, limits: &LandLimits) -> Result<Vec<String>, FaultAt> {
        let mut seen: Vec<String> = Vec::new();
        let whole = loop {
            if !self.more {
                break self.buffer.len();
            }
            if let Some(end) = memchr::memrchr(b'\n', &self.buffer) {
                break end;
            }
            if self.buffer.len() > self.max_record {
                return Err(FaultAt::row(
                    self.row,
                    SourceFault::RecordTooLong {
                        limit: self.max_record,
                    },
                ));
            }
            let wanted = self.buffer.len() + self.block_bytes;
            self.more = self.stream.fill(&mut self.buffer, wanted)?;
        };
        let lines = self.buffer.get(..whole).unwrap_or_default();
        if memchr::memchr(0, lines).is_some() {
            return Err(FaultAt::row(
                row_at(lines, memchr::memchr(0, lines).unwrap_or_default(), 1),
                SourceFault::NulByte,
            ));
        }
        let mut row = self.row;
        for line in lines.split(|byte| *byte == b'\n').take(HEADER_RECORDS) {
            let mut line = line.to_vec();
            if !line.trim_ascii().is_empty() {
                let mut object = Object {
                    text: &mut line,
                    at: 0,
                };
                object
                    .read(&mut |text, key, _| {
                        let key = text.get(key.0..key.1).unwrap_or_default();
                        if !seen.iter().any(|known| known.as_bytes() == key) {
                            seen.push(String::from_utf8_lossy(key).into_owned());
                        }
                    })
                    .map_err(|why| FaultAt::row(row, SourceFault::Json(why)))?;
            }
            if seen.len() > limits.max_columns {
                return Err(FaultAt::row(
                    row,
                    SourceFault::TooManyColumns {
                        found: seen.len(),
                        limit: limits.max_columns,
                    },
                ));
            }
            row += 1;
        }
        Ok(seen)
    }

    /// The next run of whole lines.
    pub(crate) fn next_chunk(&mut self, mut spare: Vec<u8>) -> Result<Option<TextChunk>, FaultAt> {
        let mut wanted = self.block_bytes;
        let end = loop {
            if self.more {
                self.more = self.stream.fill(&mut self.buffer, wanted)?;
            }
            if !self.more {
                break self.buffer.len();
            }
            if let Some(place) = memchr::memrchr(b'\n', &self.buffer) {
                break place + 1;
            }
            if self.buffer.len() > self.max_record {
                return Err(FaultAt::row(
                    self.row,
                    SourceFault::RecordTooLong {
                        limit: self.max_record,
                    },
                ));
            }
            wanted = self.buffer.len() + self.block_bytes;
        };
        if self.buffer.is_empty() {
            return Ok(None);
        }
        spare.clear();
        spare.extend_from_slice(self.buffer.get(end..).unwrap_or_default());
        self.buffer.truncate(end);
        let bytes = std::mem::replace(&mut self.buffer, spare);
        let (first_row, offset) = (self.row, self.offset);
        self.offset += bytes.len() as u64;
        self.row += memchr::memchr_iter(b'\n', &bytes).count() as i64
            + i64::from(bytes.last() != Some(&b'\n'));
        let encoding = self
            .encoding
            .next(&bytes, &|place| row_at(&bytes, place, first_row))?;
        Ok(Some(TextChunk {
            bytes,
            first_row,
            offset,
            encoding,
        }))
    }
}

fn row_at(bytes: &[u8], place: usize, first_row: i64) -> i64 {
    first_row + memchr::memchr_iter(b'\n', bytes.get(..place).unwrap_or(bytes)).count() as i64
}

/// Cuts a run of whole lines into cells. A line that is not a flat object stops the landing.
pub(crate) fn split(
    chunk: TextChunk,
    shape: &NdjsonShape,
    mut cells: Vec<(u32, u32)>,
) -> Result<Split, FaultAt> {
    let first_row = chunk.first_row;
    let mut text = to_utf8(
        chunk.bytes,
        chunk.encoding,
        chunk.offset,
        &|bytes, place| row_at(bytes, place, first_row),
    )?;
    let length = text.len();
    // The cells of `true` and `false` point here.
    text.extend_from_slice(b"10");
    let yes = (length as u32, length as u32 + 1);
    let no = (length as u32 + 1, length as u32 + 2);
    let columns = shape.keys.len();
    cells.clear();
    let mut lines: Option<Vec<i64>> = None;
    let (mut rows, mut row, mut start) = (0usize, first_row, 0usize);
    while start < length {
        let end = memchr::memchr(b'\n', text.get(start..length).unwrap_or_default())
            .map_or(length, |found| start + found);
        let blank = text
            .get(start..end)
            .unwrap_or_default()
            .trim_ascii()
            .is_empty();
        if blank {
            lines.get_or_insert_with(|| (first_row..).take(rows).collect());
        } else {
            let first = cells.len();
            cells.resize(first + columns, (0, 0));
            let mut set = vec![false; columns];
            let mut fault = None;
            let mut next = 0usize;
            let line = text.get_mut(start..end).unwrap_or_default();
            let mut object = Object { text: line, at: 0 };
            let outcome = object.read(&mut |line, key, value| {
                let key = line.get(key.0..key.1).unwrap_or_default();
                // Records of one file mostly have their keys in one order.
                let is = |column: &usize| {
                    shape
                        .keys
                        .get(*column)
                        .is_some_and(|known| known.as_bytes() == key)
                };
                let Some(column) = Some(next).filter(is).or_else(|| (0..columns).find(is)) else {
                    return;
                };
                next = column + 1;
                if set.get(column) == Some(&true) {
                    fault = Some(SourceFault::Json("the object has a key twice"));
                }
                let span = match value {
                    Value::Null => (0, 0),
                    Value::Bool(true) => yes,
                    Value::Bool(false) => no,
                    Value::Text(from, to) if to - from > shape.max_field => {
                        fault = Some(SourceFault::FieldTooLong {
                            limit: shape.max_field,
                        });
                        (0, 0)
                    }
                    Value::Text(from, to) => ((start + from) as u32, (start + to) as u32),
                };
                if let (Some(cell), Some(set)) =
                    (cells.get_mut(first + column), set.get_mut(column))
                {
                    *cell = span;
                    *set = true;
                }
            });
            if let Err(why) = outcome {
                fault = Some(SourceFault::Json(why));
            }
            if let Some(fault) = fault {
                return Err(FaultAt::row(row, fault));
            }
            if let Some(lines) = &mut lines {
                lines.push(row);
            }
            rows += 1;
        }
        row += 1;
        start = end + 1;
    }
    let block = TextBlock {
        first_row,
        rows,
        columns,
        text,
        cells,
        dialect: Dialect::TYPED,
        row_lines: lines,
    };
    Ok(Split {
        block,
        malformed: Vec::new(),
        records: row - first_row,
    })
}

/// A value of a flat object; text is a place in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Null,
    Bool(bool),
    Text(usize, usize),
}

/// Reads one object. Strings are unescaped in place: an escape is never shorter than its character.
struct Object<'a> {
    text: &'a mut [u8],
    at: usize,
}

type Each<'a> = &'a mut dyn FnMut(&[u8], (usize, usize), Value);

impl Object<'_> {
    fn read(&mut self, each: Each<'_>) -> Result<(), &'static str> {
        self.space();
        if self.next() != Some(b'{') {
            return Err("the line is not a JSON object");
        }
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return self.end();
        }
        loop {
            self.space();
            if self.next() != Some(b'"') {
                return Err("a key of the object is not in quotes");
            }
            let key = self.string()?;
            self.space();
            if self.next() != Some(b':') {
                return Err("a key of the object has no value");
            }
            self.space();
            let value = self.value()?;
            each(self.text, key, value);
            self.space();
            match self.next() {
                Some(b',') => {}
                Some(b'}') => return self.end(),
                None => return Err("the object is not closed: the line is cut"),
                Some(_) => return Err("the values of the object are not separated by commas"),
            }
        }
    }

    fn end(&mut self) -> Result<(), &'static str> {
        self.space();
        if self.at == self.text.len() {
            Ok(())
        } else {
            Err("there is more than one JSON object on the line")
        }
    }

    fn value(&mut self) -> Result<Value, &'static str> {
        let start = self.at;
        match self.next() {
            Some(b'"') => self.string().map(|(from, to)| Value::Text(from, to)),
            Some(b'{' | b'[') => Err("a value of the object is an object or a list"),
            Some(b'-' | b'0'..=b'9') => {
                while let Some(b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-') = self.peek() {
                    self.at += 1;
                }
                Ok(Value::Text(start, self.at))
            }
            Some(b'n') => self.word(b"ull").map(|()| Value::Null),
            Some(b't') => self.word(b"rue").map(|()| Value::Bool(true)),
            Some(b'f') => self.word(b"alse").map(|()| Value::Bool(false)),
            None => Err("the object is not closed: the line is cut"),
            Some(_) => Err("a value of the object is not JSON"),
        }
    }

    fn word(&mut self, rest: &[u8]) -> Result<(), &'static str> {
        if self
            .text
            .get(self.at..)
            .is_some_and(|text| text.starts_with(rest))
        {
            self.at += rest.len();
            Ok(())
        } else {
            Err("a value of the object is not JSON")
        }
    }

    /// A string whose opening quote is read: where its unescaped text is.
    fn string(&mut self) -> Result<(usize, usize), &'static str> {
        let start = self.at;
        let mut write = start;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let plain = memchr::memchr2(b'"', b'\\', rest)
                .ok_or("a text of the object is not closed: the line is cut")?;
            if write != self.at {
                self.text.copy_within(self.at..self.at + plain, write);
            }
            write += plain;
            self.at += plain;
            if self.next() == Some(b'"') {
                return Ok((start, write));
            }
            let character = self.escape()?;
            let mut utf8 = [0u8; 4];
            for byte in character.encode_utf8(&mut utf8).bytes() {
                if let Some(place) = self.text.get_mut(write) {
                    *place = byte;
                }
                write += 1;
            }
        }
    }

    fn escape(&mut self) -> Result<char, &'static str> {
        match self.next() {
            Some(c @ (b'"' | b'\\' | b'/')) => Ok(char::from(c)),
            Some(b'n') => Ok('\n'),
            Some(b't') => Ok('\t'),
            Some(b'r') => Ok('\r'),
            Some(b'b') => Ok('\u{8}'),
            Some(b'f') => Ok('\u{c}'),
            Some(b'u') => self.unicode(),
            _ => Err("a text of the object has an unknown escape"),
        }
    }

    fn unicode(&mut self) -> Result<char, &'static str> {
        const WRONG: &str = "a text of the object has an escape that is no character";
        let first = self.hex4().ok_or(WRONG)?;
        let code = match first {
            0xd800..=0xdbff => {
                if self.next() != Some(b'\\') || self.next() != Some(b'u') {
                    return Err(WRONG);
                }
                let second = self
                    .hex4()
                    .filter(|second| (0xdc00..=0xdfff).contains(second))
                    .ok_or(WRONG)?;
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            other => other,
        };
        char::from_u32(code)
            .filter(|character| *character != '\0')
            .ok_or(WRONG)
    }

    fn hex4(&mut self) -> Option<u32> {
        (0..4).try_fold(0u32, |code, _| {
            let digit = char::from(self.next()?).to_digit(16)?;
            Some(code * 16 + digit)
        })
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += usize::from(byte.is_some());
        byte
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cells(text: &str, keys: &[&str]) -> Result<Vec<(i64, Vec<String>)>, FaultAt> {
        let shape = NdjsonShape {
            keys: keys.iter().map(|k| (*k).to_owned()).collect(),
            max_field: 1 << 20,
        };
        let chunk = TextChunk {
            bytes: text.as_bytes().to_vec(),
            first_row: 1,
            offset: 0,
            encoding: Some(TextEncoding::Utf8),
        };
        let split = split(chunk, &shape, Vec::new())?;
        let block = split.block;
        Ok((0..block.rows)
            .map(|row| {
                let cells = &block.cells[row * block.columns..(row + 1) * block.columns];
                let text = |(a, b): &(u32, u32)| {
                    String::from_utf8(block.text[*a as usize..*b as usize].to_vec()).unwrap()
                };
                (block.row_no(row), cells.iter().map(text).collect())
            })
            .collect())
    }

    fn check(text: &str, keys: &[&str], rows: &[(i64, &[&str])]) {
        let want: Vec<(i64, Vec<String>)> = rows
            .iter()
            .map(|(n, cells)| (*n, cells.iter().map(|c| (*c).to_owned()).collect()))
            .collect();
        assert_eq!(cells(text, keys).unwrap(), want);
    }

    #[test]
    fn values_keep_their_digits_and_missing_ones_are_empty() {
        check(
            "{\"a\": 12.50, \"b\": \"x\"}\n\n{\"b\":null,\"a\":-1e3,\"other\":1}\r\n{\"b\":true}\n{}",
            &["a", "b"],
            &[
                (1, &["12.50", "x"]),
                (3, &["-1e3", ""]),
                (4, &["", "1"]),
                (5, &["", ""]),
            ],
        );
    }

    #[test]
    fn escapes_are_undone() {
        check(
            r#"{"a":"\"\\\/\n\u00e4\ud83d\ude00z","b":"ä\u0041"}"#,
            &["a", "b"],
            &[(1, &["\"\\/\nä😀z", "äA"])],
        );
    }

    #[test]
    fn lines_that_are_not_flat_objects_are_named() {
        for line in [
            "[1]",
            "1",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,}",
            "{\"a\":{}}",
            "{\"a\":[1]}",
            "{a:1}",
            "{\"a\":1}{}",
            "{\"a\":\"x}",
            "{\"a\":nul}",
            "{\"a\":\"\\u00\"}",
            "{\"a\":\"\\ud800x\"}",
            "{\"a\":\"\\u0000\"}",
            "{\"a\":1,\"a\":2}",
            "{\"a\" 1}",
        ] {
            let at = cells(&format!("{{\"a\":1}}\n{line}\n"), &["a"]).unwrap_err();
            assert_eq!(at.row, Some(2), "{line}");
            assert!(matches!(at.fault, SourceFault::Json(_)), "{line}");
        }
    }
}
