//! Coded columns: what value of a dimension each row has, as a small whole number.
//!
//! Code 0 is the unknown value, a category of its own; how many codes there are is said beside the
//! column. Only selected rows count: what an unselected row holds is never looked at. To take a
//! new width, add a variant and its arm in `with_codes`.

use arrow::buffer::BooleanBuffer;
use datafusion_common::{Result, exec_err};

/// The codes of one dimension, one per row.
#[derive(Debug, Clone, Copy)]
pub enum Codes<'a> {
    /// Up to 256 codes.
    U8(&'a [u8]),
    /// Up to 65 536 codes.
    U16(&'a [u16]),
    /// Any number of codes.
    U32(&'a [u32]),
}

/// Runs the same code over the slice of whichever width a column has.
macro_rules! with_codes {
    ($codes:expr, $slice:ident => $body:expr) => {
        match $codes {
            $crate::codes::Codes::U8($slice) => $body,
            $crate::codes::Codes::U16($slice) => $body,
            $crate::codes::Codes::U32($slice) => $body,
        }
    };
}
pub(crate) use with_codes;

impl Codes<'_> {
    /// The number of rows.
    pub fn len(&self) -> usize {
        with_codes!(self, codes => codes.len())
    }

    /// True when there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Refuses a column that has not one value for each row.
pub(crate) fn check_length(what: &str, length: usize, rows: usize) -> Result<()> {
    if length == rows {
        Ok(())
    } else {
        exec_err!("{what} has {length} values for {rows} rows")
    }
}

/// Refuses a column of which a selected row is outside `0..size`; the message says the row only.
pub(crate) fn check_codes(
    what: &str,
    codes: Codes<'_>,
    size: u32,
    selection: Option<&BooleanBuffer>,
) -> Result<()> {
    with_codes!(codes, codes => check_each(what, codes, size, selection))
}

fn check_each<T: Copy + Into<u32>>(
    what: &str,
    codes: &[T],
    size: u32,
    selection: Option<&BooleanBuffer>,
) -> Result<()> {
    // One pass without branches; the row is looked for only when there is one.
    let outside = |code: &T| (*code).into() >= size;
    if !codes.iter().fold(false, |any, code| any | outside(code)) {
        return Ok(());
    }
    let found = codes.iter().enumerate().position(|(row, code)| {
        outside(code) && selection.is_none_or(|selection| selection.value(row))
    });
    match found {
        Some(row) => exec_err!(
            "{what} has a code in row {row} of the batch that is not below its number of values, {size}"
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(codes: Codes<'_>, size: u32, selection: Option<&[bool]>, expected: Option<&str>) {
        let selection = selection.map(|rows| BooleanBuffer::from(rows.to_vec()));
        let found = check_codes("dimension 2", codes, size, selection.as_ref())
            .err()
            .map(|error| error.strip_backtrace());
        match (found, expected) {
            (None, None) => {}
            (Some(found), Some(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => panic!("{found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn a_code_of_the_dimension_passes() {
        check(Codes::U8(&[0, 255]), 256, None, None);
        check(Codes::U16(&[0, 9]), 10, None, None);
        check(Codes::U32(&[]), 1, None, None);
    }

    #[test]
    fn a_code_outside_is_named_by_its_row() {
        check(
            Codes::U8(&[0, 3]),
            3,
            None,
            Some("dimension 2 has a code in row 1"),
        );
        check(Codes::U32(&[u32::MAX]), 3, None, Some("row 0"));
    }

    #[test]
    fn unselected_rows_are_not_looked_at() {
        check(Codes::U16(&[9, 1]), 3, Some(&[false, true]), None);
        check(Codes::U16(&[9, 9]), 3, Some(&[false, true]), Some("row 1"));
    }
}
