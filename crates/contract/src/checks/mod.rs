//! The checks of a row. Each file is one check with its rules and its tests.
//!
//! A check of one cell is a [`Reader`]: it gets trimmed, non-empty cells of
//! one column and keeps their values. [`read_column`] does what is common:
//! cutting the cell out of the block, nulls, required cells, control
//! characters and the reject. Checks between cells (`period`, `cross_field`)
//! work on the values read. A message never contains a value.
//!
//! To add a check of a cell: a file with a `Reader`, a variant of
//! `PropertyType`, and a line in `validator`.

pub(crate) mod boolean;
pub(crate) mod business_id;
pub(crate) mod code;
pub(crate) mod cross_field;
pub(crate) mod date;
pub(crate) mod decimal;
pub(crate) mod header;
pub(crate) mod hetu;
pub(crate) mod identity_code_scan;
pub(crate) mod integer;
pub(crate) mod key;
pub(crate) mod month;
pub(crate) mod number;
pub(crate) mod period;
pub(crate) mod text;

use std::sync::Arc;

use crate::block::{Reject, TextBlock};
use crate::rules;

/// A broken rule of a cell. The message says what is wrong and what is
/// expected, in words that fit after the column's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) rule: &'static str,
    pub(crate) message: &'static str,
}

/// One column of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column<'a> {
    pub(crate) block: &'a TextBlock,
    /// Position of the column in the header.
    pub(crate) position: usize,
    pub(crate) header: &'a Arc<str>,
    pub(crate) required: bool,
    pub(crate) null_when: &'a [String],
}

impl<'a> Column<'a> {
    #[inline]
    fn cell(&self, row: usize) -> &'a [u8] {
        let block = self.block;
        match block.cells.get(row * block.columns + self.position) {
            Some(&(start, end)) => block
                .text
                .get(start as usize..end as usize)
                .unwrap_or_default(),
            None => b"",
        }
    }
}

/// Reads the cells of one column into values.
pub(crate) trait Reader {
    /// Keeps the value of a trimmed, non-empty cell. On a fault nothing is
    /// kept; `skip` follows.
    fn read(&mut self, row: usize, cell: &[u8]) -> Result<(), Fault>;

    /// Keeps a placeholder for an empty or refused cell.
    fn skip(&mut self);

    /// The agreed limits behind a rule, to end its message.
    fn limits(&self, _rule: &str) -> Option<String> {
        None
    }
}

/// Rejects of a block while its columns are read one after another.
#[derive(Debug)]
pub(crate) struct Rejects<'a> {
    block: &'a TextBlock,
    bad: Vec<bool>,
    list: Vec<(usize, Reject)>,
}

impl<'a> Rejects<'a> {
    pub(crate) fn new(block: &'a TextBlock) -> Self {
        Rejects {
            block,
            bad: vec![false; block.rows],
            list: Vec::new(),
        }
    }

    #[cold]
    pub(crate) fn add(&mut self, row: usize, rule: Arc<str>, field: &Arc<str>, message: String) {
        if let Some(bad) = self.bad.get_mut(row) {
            *bad = true;
        }
        let row_no = self.block.row_no(row);
        self.list.push((
            row,
            Reject {
                row_no,
                rule,
                field: field.clone(),
                message,
            },
        ));
    }

    #[cold]
    fn add_fault(
        &mut self,
        row: usize,
        cell: &[u8],
        fault: Fault,
        limits: Option<String>,
        field: &Arc<str>,
    ) {
        // A control character explains the fault better than the type does.
        let fault = text::unreadable(cell).unwrap_or(fault);
        let message = match limits {
            Some(limits) => format!("{} ({limits})", fault.message),
            None => fault.message.to_owned(),
        };
        self.add(row, rules::shared(fault.rule), field, message);
    }

    /// True where a row has at least one reject.
    pub(crate) fn bad(&self) -> &[bool] {
        &self.bad
    }

    /// The rejects in row order; within a row in the order of finding.
    pub(crate) fn into_sorted(mut self) -> Vec<Reject> {
        self.list.sort_by_key(|(row, _)| *row);
        self.list.into_iter().map(|(_, reject)| reject).collect()
    }
}

/// Which cells of a column hold a value: not empty and not refused.
#[derive(Debug, Clone, Default)]
pub(crate) struct Present(Option<Vec<bool>>);

impl Present {
    #[inline]
    pub(crate) fn at(&self, row: usize) -> bool {
        match &self.0 {
            None => true,
            Some(flags) => flags.get(row).copied().unwrap_or(false),
        }
    }

    /// `None` when every cell holds a value.
    pub(crate) fn flags(&self) -> Option<&[bool]> {
        self.0.as_deref()
    }

    fn clear(&mut self, row: usize, rows: usize) {
        let flags = self.0.get_or_insert_with(|| vec![true; rows]);
        if let Some(flag) = flags.get_mut(row) {
            *flag = false;
        }
    }
}

/// Reads every cell of a column; the reader then holds one value a row.
#[inline]
pub(crate) fn read_column<R: Reader>(
    column: Column<'_>,
    reader: &mut R,
    rejects: &mut Rejects<'_>,
) -> Present {
    let rows = column.block.rows;
    let mut present = Present::default();
    for row in 0..rows {
        let cell = trim(column.cell(row));
        if cell.is_empty()
            || (!column.null_when.is_empty()
                && column.null_when.iter().any(|n| n.as_bytes() == cell))
        {
            if column.required {
                let message = "the cell is empty, the contract requires a value".to_owned();
                rejects.add(
                    row,
                    rules::shared(rules::REQUIRED_MISSING),
                    column.header,
                    message,
                );
            }
            present.clear(row, rows);
            reader.skip();
        } else if let Err(fault) = reader.read(row, cell) {
            let limits = reader.limits(fault.rule);
            rejects.add_fault(row, cell, fault, limits, column.header);
            present.clear(row, rows);
            reader.skip();
        }
    }
    present
}

/// Without spaces, tabs and no-break spaces at the ends.
#[inline]
fn trim(cell: &[u8]) -> &[u8] {
    match cell {
        [] => cell,
        [first, .., last] | [first @ last] if plain_edge(*first) && plain_edge(*last) => cell,
        _ => trim_slowly(cell),
    }
}

#[inline]
fn plain_edge(byte: u8) -> bool {
    byte > b' ' && byte < 0x80
}

fn trim_slowly(mut cell: &[u8]) -> &[u8] {
    loop {
        cell = match cell {
            [b' ' | b'\t', rest @ ..]
            | [0xC2, 0xA0, rest @ ..]
            | [rest @ .., b' ' | b'\t']
            | [rest @ .., 0xC2, 0xA0] => rest,
            _ => return cell,
        };
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! One column as a list of cells, for the tests of the checks.

    use super::*;
    use crate::block::{DecimalMark, Dialect};

    pub(crate) fn block(cells: &[&[u8]]) -> TextBlock {
        let mut text = Vec::new();
        let mut spans = Vec::new();
        for cell in cells {
            let start = text.len() as u32;
            text.extend_from_slice(cell);
            spans.push((start, text.len() as u32));
        }
        TextBlock {
            first_row: 2,
            rows: cells.len(),
            columns: 1,
            text,
            cells: spans,
            dialect: Dialect {
                decimal: DecimalMark::Comma,
                iso: true,
                finnish: true,
            },
            row_lines: None,
        }
    }

    /// Reads one cell; `Ok(true)` = value kept, `Ok(false)` = null, `Err` = rule.
    pub(crate) fn read_one<R: Reader>(reader: &mut R, cell: &[u8]) -> Result<bool, String> {
        let block = block(&[cell]);
        let header: Arc<str> = Arc::from("sarake");
        let column = Column {
            block: &block,
            position: 0,
            header: &header,
            required: false,
            null_when: &[],
        };
        let mut rejects = Rejects::new(&block);
        let present = read_column(column, reader, &mut rejects);
        match rejects.into_sorted().first() {
            Some(reject) => Err(reject.rule.to_string()),
            None => Ok(present.at(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_and_no_break_spaces_are_cut_from_the_ends() {
        for (cell, expected) in [
            ("", ""),
            (" ", ""),
            ("a", "a"),
            (" a b ", "a b"),
            ("\u{a0}\t12\u{a0}", "12"),
            ("ä", "ä"),
            ("\u{a0}", ""),
        ] {
            assert_eq!(trim(cell.as_bytes()), expected.as_bytes(), "{cell:?}");
        }
    }

    struct Anything;

    impl Reader for Anything {
        fn read(&mut self, _row: usize, _cell: &[u8]) -> Result<(), Fault> {
            Ok(())
        }
        fn skip(&mut self) {}
    }

    #[test]
    fn an_empty_cell_is_null_or_a_broken_rule() {
        let block = testing::block(&[b"x", b"", b"31.12.9999"]);
        let header: Arc<str> = Arc::from("loppupvm");
        let null_when = ["31.12.9999".to_owned()];
        for (required, expected) in [
            (false, vec![]),
            (true, vec![(3, "required_missing"), (4, "required_missing")]),
        ] {
            let column = Column {
                block: &block,
                position: 0,
                header: &header,
                required,
                null_when: &null_when,
            };
            let mut rejects = Rejects::new(&block);
            let present = read_column(column, &mut Anything, &mut rejects);
            assert_eq!(
                (present.at(0), present.at(1), present.at(2)),
                (true, false, false)
            );
            let rejects = rejects.into_sorted();
            let found: Vec<(i64, &str)> = rejects
                .iter()
                .map(|r| (r.row_no, r.rule.as_ref()))
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn cells_outside_the_text_are_empty() {
        let mut block = testing::block(&[b"x"]);
        block.cells = vec![(5, 9)];
        let header: Arc<str> = Arc::from("sarake");
        for position in [0, 7] {
            let column = Column {
                block: &block,
                position,
                header: &header,
                required: false,
                null_when: &[],
            };
            assert_eq!(column.cell(0), b"");
        }
    }
}
