//! Separated text: where records end, and where the cells in them are.
//!
//! The reader thread only finds record ends, so that blocks can be cut; worker threads cut the
//! cells. Both follow one rule for quotes: a quote opens a cell only as its first character, and a
//! doubled quote inside stands for one. A quote elsewhere is text, as source systems write it.
//! What a cell means is the contract's business.

use tietopohja_contract::{Dialect, TextBlock};

use super::bytes::ByteStream;
use super::encoding::{EncodingChoice, TextEncoding, to_utf8};
use super::scan::{Needles, mask64};
use crate::error::{FaultAt, SourceFault};
use crate::limits::LandLimits;

const QUOTE: u8 = b'"';
/// Separators that files are seen with, and their names in messages.
const SEPARATORS: [(u8, &str); 4] = [(b';', "`;`"), (b',', "`,`"), (b'\t', "tab"), (b'|', "`|`")];

/// A run of whole records as they stand in the file.
#[derive(Debug)]
pub(crate) struct TextChunk {
    pub(crate) bytes: Vec<u8>,
    /// Row number of the first record.
    pub(crate) first_row: i64,
    /// Place of the first byte in the unpacked file.
    pub(crate) offset: u64,
    pub(crate) encoding: Option<TextEncoding>,
}

/// What workers need to cut cells.
#[derive(Debug, Clone)]
pub(crate) struct CsvShape {
    pub(crate) separator: u8,
    pub(crate) columns: usize,
    pub(crate) dialect: Dialect,
    pub(crate) max_field: usize,
}

/// A record that cannot be cut into the header's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Other than the header's number of cells.
    Width {
        /// Cells found.
        found: usize,
    },
    /// Text after a closing quote.
    Quote,
}

/// Cut records, and those that could not be cut.
#[derive(Debug)]
pub(crate) struct Split {
    pub(crate) block: TextBlock,
    pub(crate) malformed: Vec<(i64, Malformed)>,
    /// Records seen, blank lines included.
    pub(crate) records: i64,
}

/// Finds record ends.
pub(crate) struct CsvReader {
    stream: ByteStream,
    buffer: Vec<u8>,
    /// Place of the buffer's first byte in the unpacked file.
    offset: u64,
    /// Row number of the buffer's first record.
    row: i64,
    more: bool,
    separator: u8,
    encoding: EncodingChoice,
    block_bytes: usize,
    max_field: usize,
    max_record: usize,
}

/// What the contract agrees about separated text.
#[derive(Debug, Clone)]
pub(crate) struct CsvAgreement {
    pub(crate) separators: Vec<u8>,
    pub(crate) encodings: Vec<TextEncoding>,
    /// A title and a blank line may stand before the header, as in StatFin's files. Off for a
    /// file of one column, whose header looks like a title.
    pub(crate) title: bool,
}

impl CsvReader {
    /// Reads up to the end of the header and gives its names.
    pub(crate) fn open(
        stream: ByteStream,
        agreement: &CsvAgreement,
        limits: &LandLimits,
    ) -> Result<(CsvReader, Vec<String>), FaultAt> {
        let mut reader = CsvReader {
            stream,
            buffer: Vec::new(),
            offset: 0,
            row: 1,
            more: true,
            separator: agreement.separators.first().copied().unwrap_or(b';'),
            encoding: EncodingChoice::new(agreement.encodings.clone()),
            block_bytes: limits.block_bytes.clamp(4 << 10, 256 << 20),
            max_field: limits.max_field_bytes,
            max_record: limits.max_record_bytes.max(limits.max_field_bytes),
        };
        reader.fill(reader.block_bytes)?;
        reader.byte_order_mark()?;
        if reader.buffer.trim_ascii().is_empty() && !reader.more {
            return Err(SourceFault::Empty.into());
        }
        let header = reader.header(agreement, limits)?;
        Ok((reader, header))
    }

    /// The separator found.
    pub(crate) fn separator(&self) -> u8 {
        self.separator
    }

    /// The next run of whole records, about `block_bytes` long; `spare` is a buffer to reuse.
    pub(crate) fn next_chunk(&mut self, mut spare: Vec<u8>) -> Result<Option<TextChunk>, FaultAt> {
        let mut ends = RecordEnds::default();
        let mut wanted = self.block_bytes;
        let mut looked_at = self.max_field;
        loop {
            self.fill(wanted)?;
            ends.scan(&self.buffer, self.separator, !self.more);
            if !self.more {
                if ends.in_quotes {
                    return Err(FaultAt::row(
                        self.row + ends.quote_record,
                        SourceFault::UnclosedQuote,
                    ));
                }
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                // The last record needs no line end.
                if ends.end < self.buffer.len() {
                    ends.records += 1;
                }
                ends.end = self.buffer.len();
            }
            // A record in progress is looked at each time it has doubled.
            let unfinished = self.buffer.len() - ends.end;
            if unfinished > looked_at.min(self.max_record) {
                self.check_long_record(&ends)?;
                looked_at = unfinished.saturating_mul(2);
            }
            if ends.end > 0 {
                break;
            }
            wanted = self.buffer.len() + self.block_bytes;
        }
        spare.clear();
        spare.extend_from_slice(self.buffer.get(ends.end..).unwrap_or_default());
        self.buffer.truncate(ends.end);
        let bytes = std::mem::replace(&mut self.buffer, spare);
        let chunk = TextChunk {
            first_row: self.row,
            offset: self.offset,
            encoding: None,
            bytes,
        };
        self.offset += chunk.bytes.len() as u64;
        self.row += ends.records;
        let separator = self.separator;
        let encoding = self.encoding.next(&chunk.bytes, &|place| {
            row_at(&chunk.bytes, place, chunk.first_row, separator)
        })?;
        Ok(Some(TextChunk { encoding, ..chunk }))
    }

    fn fill(&mut self, wanted: usize) -> Result<(), FaultAt> {
        if self.more {
            self.more = self.stream.fill(&mut self.buffer, wanted)?;
        }
        Ok(())
    }

    fn byte_order_mark(&mut self) -> Result<(), FaultAt> {
        if self.buffer.starts_with(b"\xef\xbb\xbf") {
            self.encoding.byte_order_mark()?;
            self.drop_front(3);
        }
        Ok(())
    }

    fn drop_front(&mut self, bytes: usize) {
        self.buffer.drain(..bytes.min(self.buffer.len()));
        self.offset += bytes as u64;
    }

    /// Takes title lines, blank lines and the header off the buffer.
    fn header(
        &mut self,
        agreement: &CsvAgreement,
        limits: &LandLimits,
    ) -> Result<Vec<String>, FaultAt> {
        self.blank_lines(limits)?;
        if agreement.title {
            // A title is not cut by a separator, or is one quoted text, and a blank line follows.
            let end = self.line_end(limits)?;
            let line = self.buffer.get(..end).unwrap_or_default();
            let cut = agreement
                .separators
                .iter()
                .any(|separator| count_outside_quotes(line, *separator) > 0);
            let rest = self.buffer.get(end..).unwrap_or_default();
            if !cut && (rest.starts_with(b"\n") || rest.starts_with(b"\r\n")) {
                self.drop_front(end);
                self.row += 1;
                self.blank_lines(limits)?;
            }
        }
        let first_line = self.line_end(limits)?;
        self.choose_separator(first_line, agreement)?;
        let mut ends = RecordEnds {
            only_one: true,
            ..RecordEnds::default()
        };
        let end = loop {
            ends.scan(&self.buffer, self.separator, !self.more);
            match (ends.end, self.more) {
                (0, true) if self.buffer.len() > limits.max_record_bytes => {
                    return Err(FaultAt::row(
                        self.row,
                        SourceFault::RecordTooLong {
                            limit: limits.max_record_bytes,
                        },
                    ));
                }
                (0, true) => self.fill(self.buffer.len() + self.block_bytes)?,
                (0, false) if ends.in_quotes => {
                    return Err(FaultAt::row(self.row, SourceFault::UnclosedQuote));
                }
                (0, false) => break self.buffer.len(),
                (end, _) => break end,
            }
        };
        let line: Vec<u8> = self.buffer.get(..end).unwrap_or_default().to_vec();
        let found = 1 + memchr::memchr_iter(self.separator, &line).count();
        if found > limits.max_columns {
            return Err(FaultAt::row(
                self.row,
                SourceFault::TooManyColumns {
                    found,
                    limit: limits.max_columns,
                },
            ));
        }
        let inner = line.trim_ascii_end();
        if memchr::memchr(b'\r', inner).is_some() && memchr::memchr(b'\n', inner).is_none() {
            return Err(SourceFault::OldLineEnds.into());
        }
        let (row, offset) = (self.row, self.offset);
        let encoding = self.encoding.next(&line, &|_| row)?;
        let text = to_utf8(line, encoding, offset, &|_, _| row)?;
        self.drop_front(end);
        self.row += 1;
        let mut names = header_names(&text, self.separator);
        // A separator after the last name gives no column.
        while names.len() > 1 && names.last().is_some_and(String::is_empty) {
            names.pop();
        }
        Ok(names)
    }

    fn blank_lines(&mut self, limits: &LandLimits) -> Result<(), FaultAt> {
        loop {
            let end = self.line_end(limits)?;
            if !self
                .buffer
                .get(..end)
                .unwrap_or_default()
                .trim_ascii()
                .is_empty()
            {
                return Ok(());
            }
            if self.buffer.len() <= end && !self.more {
                return Err(SourceFault::Empty.into());
            }
            self.drop_front(end);
            self.row += 1;
        }
    }

    /// Place after the first line end; the whole buffer when it is the last line.
    fn line_end(&mut self, limits: &LandLimits) -> Result<usize, FaultAt> {
        loop {
            if let Some(place) = memchr::memchr(b'\n', &self.buffer) {
                return Ok(place + 1);
            }
            if !self.more {
                return Ok(self.buffer.len());
            }
            let widest = SEPARATORS
                .iter()
                .map(|(separator, _)| memchr::memchr_iter(*separator, &self.buffer).count())
                .max();
            if let Some(cuts) = widest.filter(|cuts| *cuts >= limits.max_columns) {
                return Err(FaultAt::row(
                    self.row,
                    SourceFault::TooManyColumns {
                        found: cuts + 1,
                        limit: limits.max_columns,
                    },
                ));
            }
            if memchr::memchr(0, &self.buffer).is_some() {
                return Err(FaultAt::row(self.row, SourceFault::NulByte));
            }
            if self.buffer.len() > self.max_field {
                return Err(FaultAt::row(
                    self.row,
                    SourceFault::FieldTooLong {
                        limit: self.max_field,
                    },
                ));
            }
            self.fill(self.buffer.len() + self.block_bytes)?;
        }
    }

    fn choose_separator(
        &mut self,
        line_end: usize,
        agreement: &CsvAgreement,
    ) -> Result<(), FaultAt> {
        let line = self.buffer.get(..line_end).unwrap_or_default();
        let cuts = |separator: u8| count_outside_quotes(line, separator);
        let agreed = agreement
            .separators
            .iter()
            .copied()
            .max_by_key(|separator| cuts(*separator));
        match agreed {
            Some(separator) if cuts(separator) > 0 => self.separator = separator,
            _ => {
                let other = SEPARATORS
                    .iter()
                    .filter(|(separator, _)| cuts(*separator) > 0)
                    .max_by_key(|(separator, _)| cuts(*separator));
                if let Some((_, found)) = other {
                    let agreed = agreement
                        .separators
                        .iter()
                        .map(|separator| separator_name(*separator))
                        .collect::<Vec<_>>()
                        .join(" or ");
                    return Err(FaultAt::row(
                        self.row,
                        SourceFault::SeparatorNotAgreed { found, agreed },
                    ));
                }
            }
        }
        Ok(())
    }

    /// Refuses an unfinished record whose cell, or which itself, is too long.
    fn check_long_record(&self, ends: &RecordEnds) -> Result<(), FaultAt> {
        let record = self.buffer.get(ends.end..).unwrap_or_default();
        let row = self.row + ends.records;
        if ends.in_quotes && ends.scanned.saturating_sub(ends.quote_place) > self.max_field {
            return Err(FaultAt::row(
                row,
                SourceFault::LongQuote {
                    limit: self.max_field,
                },
            ));
        }
        let longest = match ends.in_quotes {
            // The open quote was looked at; what is before it is cut by separators.
            true => longest_cell(
                self.buffer
                    .get(ends.end..ends.quote_place)
                    .unwrap_or_default(),
                self.separator,
            ),
            false => longest_cell(record, self.separator),
        };
        if longest > self.max_field {
            return Err(FaultAt::row(
                row,
                SourceFault::FieldTooLong {
                    limit: self.max_field,
                },
            ));
        }
        if record.len() > self.max_record {
            return Err(FaultAt::row(
                row,
                SourceFault::RecordTooLong {
                    limit: self.max_record,
                },
            ));
        }
        Ok(())
    }
}

/// Where records end in a buffer that grows at its end.
#[derive(Debug, Default)]
struct RecordEnds {
    scanned: usize,
    /// Place after the last record end found.
    end: usize,
    /// Records up to `end`.
    records: i64,
    in_quotes: bool,
    /// Record in which the open quote stands, counted from the buffer's start.
    quote_record: i64,
    quote_place: usize,
    /// Stop after the first record.
    only_one: bool,
}

impl RecordEnds {
    fn scan(&mut self, buffer: &[u8], separator: u8, last: bool) {
        let fresh = buffer.get(self.scanned..).unwrap_or_default();
        if !self.in_quotes && !self.only_one && memchr::memchr(QUOTE, fresh).is_none() {
            if let Some(place) = memchr::memrchr(b'\n', fresh) {
                self.records += memchr::memchr_iter(b'\n', fresh).count() as i64;
                self.end = self.scanned + place + 1;
            }
            self.scanned = buffer.len();
            return;
        }
        let mut place = self.scanned;
        while let Some(rest) = buffer.get(place..).filter(|rest| !rest.is_empty()) {
            if self.in_quotes {
                let Some(found) = memchr::memchr(QUOTE, rest) else {
                    place = buffer.len();
                    break;
                };
                match rest.get(found + 1) {
                    Some(&QUOTE) => place += found + 2,
                    // The next byte decides, and it is not here yet.
                    None if !last => {
                        place += found;
                        break;
                    }
                    _ => {
                        self.in_quotes = false;
                        place += found + 1;
                    }
                }
            } else {
                let Some(found) = memchr::memchr2(QUOTE, b'\n', rest) else {
                    place = buffer.len();
                    break;
                };
                let at = place + found;
                place = at + 1;
                if rest.get(found) == Some(&b'\n') {
                    self.records += 1;
                    self.end = place;
                    if self.only_one {
                        break;
                    }
                } else if opens(buffer, at, self.end, separator) {
                    self.in_quotes = true;
                    self.quote_record = self.records;
                    self.quote_place = at;
                }
            }
        }
        self.scanned = place;
    }
}

/// A quote opens a cell when it is the cell's first byte.
fn opens(buffer: &[u8], at: usize, record_start: usize, separator: u8) -> bool {
    at == record_start
        || at.checked_sub(1).and_then(|before| buffer.get(before)) == Some(&separator)
}

/// Row number of a place in a run of whole records.
pub(crate) fn row_at(bytes: &[u8], place: usize, first_row: i64, separator: u8) -> i64 {
    let mut ends = RecordEnds::default();
    ends.scan(bytes.get(..place).unwrap_or(bytes), separator, false);
    first_row + ends.records
}

/// Cuts a run of whole records, already UTF-8, into cells. `cells` is a list to reuse.
pub(crate) fn split(
    mut text: Vec<u8>,
    first_row: i64,
    shape: &CsvShape,
    cells: Vec<(u32, u32)>,
) -> Result<Split, FaultAt> {
    let separator = shape.separator;
    let mut rows = Rows::new(first_row, shape, cells, text.len());
    let mut start = 0usize;
    let mut base = 0usize;
    'windows: while base < text.len() {
        let mut mask = mask64(
            text.get(base..).unwrap_or_default(),
            Needles(separator, b'\n', QUOTE),
        );
        while mask != 0 {
            let at = base + mask.trailing_zeros() as usize;
            mask &= mask - 1;
            match text.get(at) {
                Some(byte) if *byte == separator => {
                    rows.cell(start, at);
                    start = at + 1;
                }
                Some(b'\n') => {
                    let end = if at > start && text.get(at - 1) == Some(&b'\r') {
                        at - 1
                    } else {
                        at
                    };
                    rows.cell(start, end);
                    start = at + 1;
                    rows.end_row(start)?;
                }
                Some(_) if at == start => {
                    // A quoted cell; the windows go on after it.
                    start = rows.quoted_cell(&mut text, at, separator)?;
                    base = start;
                    continue 'windows;
                }
                _ => {}
            }
        }
        base += 64;
    }
    // The last record needs no line end.
    if start < text.len() || rows.in_row() {
        let end = if text.len() > start && text.last() == Some(&b'\r') {
            text.len() - 1
        } else {
            text.len()
        };
        rows.cell(start, end);
        rows.end_row(text.len())?;
    }
    Ok(rows.finish(text))
}

/// Cells collected into rows of one width.
struct Rows<'a> {
    shape: &'a CsvShape,
    cells: Vec<(u32, u32)>,
    /// Cells before the row in progress.
    whole: usize,
    rows: usize,
    row: i64,
    first_row: i64,
    row_bytes: usize,
    broken: bool,
    lines: Option<Vec<i64>>,
    malformed: Vec<(i64, Malformed)>,
}

impl<'a> Rows<'a> {
    fn new(first_row: i64, shape: &'a CsvShape, mut cells: Vec<(u32, u32)>, bytes: usize) -> Self {
        cells.clear();
        // Cells of extracts are rarely shorter than four bytes with their separator.
        cells.reserve(bytes / 4);
        Rows {
            shape,
            cells,
            whole: 0,
            rows: 0,
            row: first_row,
            first_row,
            row_bytes: 0,
            broken: false,
            lines: None,
            malformed: Vec::new(),
        }
    }

    #[inline(always)]
    fn cell(&mut self, start: usize, end: usize) {
        // Blocks are far smaller than 4 GiB: `CsvReader` bounds them.
        self.cells.push((start as u32, end as u32));
    }

    fn in_row(&self) -> bool {
        self.cells.len() > self.whole
    }

    #[inline(always)]
    fn end_row(&mut self, next: usize) -> Result<(), FaultAt> {
        let long = next - self.row_bytes > self.shape.max_field;
        self.row_bytes = next;
        if self.cells.len() - self.whole == self.shape.columns
            && self.shape.columns > 1
            && !self.broken
            && !long
        {
            self.accept();
            return Ok(());
        }
        self.end_odd_row(long)
    }

    #[inline(always)]
    fn accept(&mut self) {
        if let Some(lines) = &mut self.lines {
            lines.push(self.row);
        }
        self.whole = self.cells.len();
        self.rows += 1;
        self.row += 1;
    }

    /// A blank line, extra empty cells, a record of another width, a spoiled quote, a long record.
    #[cold]
    fn end_odd_row(&mut self, long: bool) -> Result<(), FaultAt> {
        let found = self.cells.len() - self.whole;
        let cells = self.cells.get(self.whole..).unwrap_or_default();
        let empty = |cell: &(u32, u32)| cell.0 == cell.1;
        if long
            && cells
                .iter()
                .any(|(start, end)| (*end - *start) as usize > self.shape.max_field)
        {
            return Err(FaultAt::row(
                self.row,
                SourceFault::FieldTooLong {
                    limit: self.shape.max_field,
                },
            ));
        }
        let blank = found == 1 && cells.iter().all(empty);
        let extra_empty =
            found >= self.shape.columns && cells.iter().skip(self.shape.columns).all(empty);
        if extra_empty && !blank && !self.broken {
            self.cells.truncate(self.whole + self.shape.columns);
            self.accept();
            return Ok(());
        }
        if self.broken {
            self.malformed.push((self.row, Malformed::Quote));
        } else if !blank {
            self.malformed.push((self.row, Malformed::Width { found }));
        }
        let (first, rows) = (self.first_row, self.rows);
        // Up to here the accepted rows are consecutive, or `lines` exists already.
        self.lines
            .get_or_insert_with(|| (first..).take(rows).collect());
        self.cells.truncate(self.whole);
        self.broken = false;
        self.row += 1;
        Ok(())
    }

    /// Takes the cell whose opening quote is at `at`, with the separator or line end after it;
    /// gives the place after those.
    fn quoted_cell(&mut self, text: &mut [u8], at: usize, separator: u8) -> Result<usize, FaultAt> {
        let start = at + 1;
        let mut write = start;
        let mut read = start;
        // Doubled quotes are folded in place: what follows moves towards the front of the cell.
        let after = loop {
            let rest = text.get(read..).unwrap_or_default();
            let Some(found) = memchr::memchr(QUOTE, rest) else {
                // The reader hands over whole records, so this is the end of a block of its own.
                return Err(FaultAt::row(self.row, SourceFault::UnclosedQuote));
            };
            let end = read + found;
            let doubled = rest.get(found + 1) == Some(&QUOTE);
            let keep = if doubled { end + 1 } else { end };
            if write != read {
                text.copy_within(read..keep, write);
            }
            write += keep - read;
            if !doubled {
                break end + 1;
            }
            read = end + 2;
        };
        let rest = text.get(after..).unwrap_or_default();
        let gap = memchr::memchr2(separator, b'\n', rest).unwrap_or(rest.len());
        if !rest.get(..gap).unwrap_or_default().trim_ascii().is_empty() {
            // Over a line end, this is a quote that was never closed: rows are swallowed, and
            // where they end is a guess.
            if memchr::memchr(b'\n', text.get(start..write).unwrap_or_default()).is_some() {
                return Err(FaultAt::row(self.row, SourceFault::StrayQuote));
            }
            self.broken = true;
        }
        self.cell(start, write);
        let close = after + gap;
        let next = (close + 1).min(text.len());
        match text.get(close) {
            Some(b'\n') | None => self.end_row(next)?,
            // At the end of the block a separator still has an empty cell after it.
            Some(_) if next == text.len() => {
                self.cell(next, next);
                self.end_row(next)?;
            }
            Some(_) => {}
        }
        Ok(next)
    }

    fn finish(self, text: Vec<u8>) -> Split {
        let Rows {
            shape,
            mut cells,
            whole,
            rows,
            row,
            first_row,
            lines,
            malformed,
            row_bytes: _,
            broken: _,
        } = self;
        cells.truncate(whole);
        let block = TextBlock {
            first_row,
            rows,
            columns: shape.columns,
            text,
            cells,
            dialect: shape.dialect,
            row_lines: lines,
        };
        Split {
            block,
            malformed,
            records: row - first_row,
        }
    }
}

fn header_names(line: &[u8], separator: u8) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = line.strip_suffix(b"\n").unwrap_or(line);
    rest = rest.strip_suffix(b"\r").unwrap_or(rest);
    loop {
        let (cell, next) = match rest.strip_prefix(b"\"") {
            Some(quoted) => {
                let mut cell = Vec::new();
                let mut bytes = quoted.iter().enumerate();
                let mut close = quoted.len();
                while let Some((i, byte)) = bytes.next() {
                    if *byte != QUOTE {
                        cell.push(*byte);
                    } else if quoted.get(i + 1) == Some(&QUOTE) {
                        cell.push(QUOTE);
                        bytes.next();
                    } else {
                        close = i + 1;
                        break;
                    }
                }
                let after = quoted.get(close..).unwrap_or_default();
                (
                    cell,
                    memchr::memchr(separator, after).and_then(|at| after.get(at + 1..)),
                )
            }
            None => match memchr::memchr(separator, rest) {
                Some(at) => (
                    rest.get(..at).unwrap_or_default().to_vec(),
                    rest.get(at + 1..),
                ),
                None => (rest.to_vec(), None),
            },
        };
        names.push(String::from_utf8_lossy(&cell).trim().to_owned());
        match next {
            Some(next) => rest = next,
            None => return names,
        }
    }
}

fn count_outside_quotes(line: &[u8], separator: u8) -> usize {
    let mut quoted = false;
    line.iter()
        .filter(|byte| {
            quoted ^= **byte == QUOTE;
            !quoted && **byte == separator
        })
        .count()
}

fn longest_cell(record: &[u8], separator: u8) -> usize {
    let mut longest = 0;
    let mut start = 0;
    for at in memchr::memchr_iter(separator, record) {
        longest = longest.max(at - start);
        start = at + 1;
    }
    longest.max(record.len() - start.min(record.len()))
}

fn separator_name(separator: u8) -> String {
    match SEPARATORS.iter().find(|(known, _)| *known == separator) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("`{}`", char::from(separator)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tietopohja_contract::{DecimalMark, Dialect};

    fn limits() -> LandLimits {
        LandLimits {
            block_bytes: 4 << 10,
            ..LandLimits::default()
        }
    }

    fn shape(separator: u8, columns: usize, limits: &LandLimits) -> CsvShape {
        let dialect = Dialect {
            decimal: DecimalMark::Comma,
            iso: true,
            finnish: true,
        };
        CsvShape {
            separator,
            columns,
            dialect,
            max_field: limits.max_field_bytes,
        }
    }

    type Table = (Vec<String>, Vec<(i64, Vec<String>)>, Vec<(i64, Malformed)>);

    /// Header, rows with their numbers, and malformed rows of a whole file.
    fn read_with(bytes: &[u8], limits: &LandLimits, title: bool) -> Result<Table, FaultAt> {
        let agreement = CsvAgreement {
            separators: vec![b';', b',', b'\t'],
            encodings: vec![TextEncoding::Utf8, TextEncoding::Latin1],
            title,
        };
        let stream = ByteStream::open(
            Box::new(std::io::Cursor::new(bytes.to_vec())),
            bytes,
            Default::default(),
            limits,
        )?;
        let (mut reader, header) = CsvReader::open(stream, &agreement, limits)?;
        let shape = shape(reader.separator(), header.len(), limits);
        let (mut rows, mut malformed) = (Vec::new(), Vec::new());
        let mut expected_row = reader.row;
        while let Some(chunk) = reader.next_chunk(Vec::new())? {
            assert_eq!(chunk.first_row, expected_row);
            let (first_row, separator) = (chunk.first_row, shape.separator);
            let text = to_utf8(chunk.bytes, chunk.encoding, chunk.offset, &|bytes, at| {
                row_at(bytes, at, first_row, separator)
            })?;
            let cut = split(text, chunk.first_row, &shape, Vec::new())?;
            expected_row += cut.records;
            assert_eq!(reader.row, expected_row, "reader and splitter count alike");
            for index in 0..cut.block.rows {
                let cells = &cut.block.cells[index * shape.columns..(index + 1) * shape.columns];
                let row = cells
                    .iter()
                    .map(|(a, b)| {
                        String::from_utf8(cut.block.text[*a as usize..*b as usize].to_vec())
                            .unwrap()
                    })
                    .collect();
                rows.push((cut.block.row_no(index), row));
            }
            malformed.extend(cut.malformed);
        }
        Ok((header, rows, malformed))
    }

    fn read(text: &str) -> Table {
        read_with(text.as_bytes(), &limits(), false).unwrap()
    }

    fn check(text: &str, rows: &[(i64, &[&str])]) {
        let (_, found, malformed) = read(text);
        let want: Vec<(i64, Vec<String>)> = rows
            .iter()
            .map(|(n, cells)| (*n, cells.iter().map(|c| (*c).to_owned()).collect()))
            .collect();
        assert_eq!(found, want, "{text:?}");
        assert_eq!(malformed, [], "{text:?}");
    }

    #[test]
    fn cells_are_cut_in_the_forms_systems_write() {
        check("a;b\n1;2\n3;4\n", &[(2, &["1", "2"]), (3, &["3", "4"])]);
        check(
            "a;b\r\n1;2\r\n3;4\r\n",
            &[(2, &["1", "2"]), (3, &["3", "4"])],
        );
        check("a;b\n1;2", &[(2, &["1", "2"])]);
        check("a;b\n1;", &[(2, &["1", ""])]);
        check("a;b\n;\n", &[(2, &["", ""])]);
        check("a,b\n1,2\n", &[(2, &["1", "2"])]);
        check("a\tb\n1\t\"2\t3\"\n", &[(2, &["1", "2\t3"])]);
        check("\u{feff}a;b\n1;ä\n", &[(2, &["1", "ä"])]);
    }

    #[test]
    fn trailing_separators_and_blank_lines_are_no_data() {
        check("a;b;\n1;2;\n3;4\n", &[(2, &["1", "2"]), (3, &["3", "4"])]);
        check("a;b\n1;2;\n", &[(2, &["1", "2"])]);
        check(
            "a;b\n1;2\n\n3;4\n\r\n\n",
            &[(2, &["1", "2"]), (4, &["3", "4"])],
        );
        check("\n\na;b\n1;2\n", &[(4, &["1", "2"])]);
    }

    #[test]
    fn quotes_hold_separators_line_ends_and_doubled_quotes() {
        check(
            "a;b\n\"1;x\";\"2\n3\"\n4;5\n",
            &[(2, &["1;x", "2\n3"]), (3, &["4", "5"])],
        );
        check(
            "a;b\n\"say \"\"hi\"\"\";\"\"\"\"\n",
            &[(2, &["say \"hi\"", "\""])],
        );
        check("a;b\n\"\";\"x\"\r\n", &[(2, &["", "x"])]);
        check("a;b\n\"x\";\"y\"", &[(2, &["x", "y"])]);
        check(
            "a;b\nOy \"Hoiva\" Ab;5\" putki\n",
            &[(2, &["Oy \"Hoiva\" Ab", "5\" putki"])],
        );
        check("\"a\";\"b \"\"c\"\"\"\n1;2\n", &[(2, &["1", "2"])]);
        assert_eq!(read("\"a\";\"b \"\"c\"\"\"\n1;2\n").0, ["a", "b \"c\""]);
    }

    #[test]
    fn a_title_and_an_empty_line_are_skipped_when_agreed() {
        for text in [
            "\"Väestö 31.12.\"\r\n\r\na;b\r\n1;2\r\n",
            "Title\n\na;b\n1;2\n",
        ] {
            let (header, rows, _) = read_with(text.as_bytes(), &limits(), true).unwrap();
            assert_eq!(
                (header.as_slice(), rows[0].0),
                (["a".to_owned(), "b".to_owned()].as_slice(), 4)
            );
        }
        assert_eq!(read_with(b"a;b\n1;2\n", &limits(), true).unwrap().1[0].0, 2);
    }

    #[test]
    fn rows_of_another_width_and_spoiled_quotes_are_named() {
        let (_, rows, malformed) = read("a;b\n1\n1;2;3\n\"x\"y;2\n4;5\n");
        assert_eq!(rows.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [5]);
        assert_eq!(
            malformed,
            [
                (2, Malformed::Width { found: 1 }),
                (3, Malformed::Width { found: 3 }),
                (4, Malformed::Quote)
            ]
        );
    }

    #[test]
    fn an_unclosed_quote_names_the_row_where_it_opened() {
        let at = read_with(b"a;b\n1;2\n3;\"4\n5;6\n", &limits(), false).unwrap_err();
        assert_eq!(at, FaultAt::row(3, SourceFault::UnclosedQuote));
        let at = read_with(b"a;b\n1;2\n3;\"4\n5;\"6\"\n", &limits(), false).unwrap_err();
        assert_eq!(at, FaultAt::row(3, SourceFault::StrayQuote));
        let long = format!("a;b\n1;2\n3;\"4\n{}", "5;6\n".repeat(1 << 19));
        let at = read_with(long.as_bytes(), &limits(), false).unwrap_err();
        assert_eq!(
            at,
            FaultAt::row(3, SourceFault::LongQuote { limit: 1 << 20 })
        );
    }

    #[test]
    fn long_cells_and_records_and_wide_headers_are_refused() {
        let long = format!("a;b\n1;2\n3;{}\n4;5\n", "x".repeat((1 << 20) + 1));
        for text in [
            long.clone(),
            long.replace(";x", ";\"x").replace("x\n", "x\"\n"),
            long[..long.len() - 5].to_owned(),
        ] {
            let at = read_with(text.as_bytes(), &LandLimits::default(), false).unwrap_err();
            assert_eq!(at.row, Some(3));
            assert!(
                matches!(
                    at.fault,
                    SourceFault::FieldTooLong { .. } | SourceFault::LongQuote { .. }
                ),
                "{at:?}"
            );
        }
        let fits = format!("a;b\n3;{}\n", "x".repeat(1 << 20));
        assert_eq!(read(&fits).1.len(), 1);
        let header = format!("{}\n", vec!["c"; 2_000].join(";"));
        let at = read_with(header.as_bytes(), &limits(), false).unwrap_err();
        assert_eq!(
            at,
            FaultAt::row(
                1,
                SourceFault::TooManyColumns {
                    found: 2_000,
                    limit: 1_000
                }
            )
        );
    }

    #[test]
    fn other_separators_and_line_ends_are_named() {
        let at = read_with(b"a|b|c\n1|2|3\n", &limits(), false).unwrap_err();
        assert!(matches!(
            at.fault,
            SourceFault::SeparatorNotAgreed { found: "`|`", .. }
        ));
        assert_eq!(
            read_with(b"a;b\r1;2\r3;4\r", &limits(), false)
                .unwrap_err()
                .fault,
            SourceFault::OldLineEnds
        );
        for empty in [b"".as_slice(), b"\n\n", b"  \r\n", b"\xef\xbb\xbf"] {
            assert_eq!(
                read_with(empty, &limits(), false).unwrap_err().fault,
                SourceFault::Empty
            );
        }
    }

    #[test]
    fn blocks_are_cut_between_records_wherever_they_fall() {
        let mut text = String::from("a;b;c\r\n");
        let mut want = Vec::new();
        for n in 0..3_000 {
            let quoted = if n % 7 == 0 {
                format!("\"x;{n}\r\n\"\"y\"\"\"")
            } else {
                format!("x{n}")
            };
            text.push_str(&format!("{n};{quoted};{}\r\n", "z".repeat(n % 90)));
            want.push(if n % 7 == 0 {
                format!("x;{n}\r\n\"y\"")
            } else {
                format!("x{n}")
            });
        }
        let whole = read_with(text.as_bytes(), &LandLimits::default(), false).unwrap();
        let blocks = read_with(text.as_bytes(), &limits(), false).unwrap();
        assert_eq!(whole, blocks);
        assert_eq!(
            whole
                .1
                .iter()
                .map(|(_, row)| row[1].clone())
                .collect::<Vec<_>>(),
            want
        );
        assert_eq!(whole.1.last().unwrap().0, 3_001);
    }
}
