//! Entry points that a fuzzer feeds with bytes, shared with the test that mutates the corpus.
//!
//! Each takes any bytes, may refuse them, and asserts what must hold whatever they are. To add one:
//! a function here, a target in `fuzz/`, a line in the mutation test.

use tietopohja_contract::Contract;

use crate::error::SourceFault;
use crate::limits::LandLimits;
use crate::source::{Agreement, open_bytes};

/// What came of reading bytes as a source file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOutcome {
    /// Rows cut into cells.
    pub rows: u64,
    /// Records that could not be cut.
    pub malformed: u64,
    /// The fault that ended the reading.
    pub fault: Option<SourceFault>,
}

/// Reads bytes as a file of the contract, in any form, and cuts every record.
///
/// # Panics
/// When cells lie outside their text, text is not UTF-8, or rows do not come in order: our bugs.
pub fn read_source(bytes: &[u8], contract: &Contract) -> ReadOutcome {
    let limits = LandLimits {
        block_bytes: 4 << 10,
        max_field_bytes: 16 << 10,
        max_record_bytes: 64 << 10,
        max_unpacked_bytes: 8 << 20,
        unpacked_grace_bytes: 1 << 20,
        max_workbook_bytes: 1 << 20,
        max_workbook_unpacked_bytes: 8 << 20,
        max_row_group_bytes: 8 << 20,
        ..LandLimits::default()
    };
    let mut outcome = ReadOutcome {
        rows: 0,
        malformed: 0,
        fault: None,
    };
    let source = match open_bytes(bytes.to_vec(), &Agreement::of(contract), &limits) {
        Ok(source) => source,
        Err(at) => {
            outcome.fault = Some(at.fault);
            return outcome;
        }
    };
    let columns = source.header.len();
    assert!(
        (1..=limits.max_columns).contains(&columns),
        "a header has columns, and not too many"
    );
    let splitter = source.splitter;
    let mut last_row = 0i64;
    let mut fault = None;
    let read = source.reader.run(&mut Vec::new, &mut |work| {
        let split = match splitter.split(work, Vec::new()) {
            Ok(split) => split,
            Err(at) => {
                fault = Some(at.fault);
                return false;
            }
        };
        let block = &split.block;
        assert_eq!(
            block.columns, columns,
            "every block has the header's columns"
        );
        assert_eq!(
            block.cells.len(),
            block.rows * columns,
            "every row has a cell for each column"
        );
        for (start, end) in &block.cells {
            let cell = block.text.get(*start as usize..*end as usize);
            assert!(
                cell.is_some_and(|cell| std::str::from_utf8(cell).is_ok()),
                "a cell is UTF-8 text inside its block"
            );
        }
        for row in 0..block.rows {
            let row = block.row_no(row);
            assert!(row > last_row, "rows come in order");
            last_row = row;
        }
        assert!(
            split.records >= (block.rows + split.malformed.len()) as i64,
            "no record is made up"
        );
        outcome.rows += block.rows as u64;
        outcome.malformed += split.malformed.len() as u64;
        true
    });
    outcome.fault = fault.or(read.err().map(|at| at.fault));
    outcome
}
