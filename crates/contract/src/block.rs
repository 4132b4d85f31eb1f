//! The shapes that cross the border between a reader and the validator: a
//! block of source text goes in, accepted columns and rejected rows come out.
//!
//! Nothing here parses or judges a value; see `validator` and `checks`. To
//! carry a new fact about a block, add a field to `TextBlock` (facts of the
//! source) or `Checked` (facts found).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use tietopohja_domain::{County, Date, DeliveryPeriod};

/// What happens when a rule is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// The delivery passes; the finding is recorded and counted.
    Warn,
    /// The row is kept apart with its rule; the rest of the delivery passes.
    Quarantine,
    /// The delivery waits for a person's approval.
    Hold,
    /// The whole delivery is refused and nothing of it becomes visible.
    Reject,
}

impl Action {
    /// The word used in contracts and receipts.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Warn => "warn",
            Action::Quarantine => "quarantine",
            Action::Hold => "hold",
            Action::Reject => "reject",
        }
    }

    /// Reads the word used in contracts; `None` for any other text.
    pub fn parse(text: &str) -> Option<Action> {
        match text {
            "warn" => Some(Action::Warn),
            "quarantine" => Some(Action::Quarantine),
            "hold" => Some(Action::Hold),
            "reject" => Some(Action::Reject),
            _ => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The decimal sign of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DecimalMark {
    /// `1 234,50`, as Finnish systems write.
    Comma,
    /// `1234.50`, as national open data and spreadsheets write.
    Point,
}

/// How the numbers and dates of one block are written.
///
/// For a CSV file this follows the contract ([`Dialect::agreed`]); a reader of
/// a typed file (Parquet, XLSX, NDJSON) prints its cells with [`Dialect::TYPED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dialect {
    /// The decimal sign. The other sign is an error, never a guess.
    pub decimal: DecimalMark,
    /// ISO dates (`2024-03-31`) are accepted.
    pub iso: bool,
    /// Finnish dates (`31.3.2024`, `31.03.2024`) are accepted.
    pub finnish: bool,
}

impl Dialect {
    /// Cells printed by a reader of a typed format: decimal point, ISO dates.
    pub const TYPED: Dialect = Dialect {
        decimal: DecimalMark::Point,
        iso: true,
        finnish: false,
    };
}

/// A run of records as text, cut into cells by a reader.
///
/// `cells` holds `rows * columns` pairs of start and end into `text`,
/// row by row, quotes removed. A pair that does not lie inside `text` is read
/// as an empty cell.
#[derive(Debug, Clone)]
pub struct TextBlock {
    /// Source row number of the first record. The header is row 1, so the
    /// first record of a file is row 2.
    pub first_row: i64,
    /// Number of records.
    pub rows: usize,
    /// Cells in each record: as many as the header has columns.
    pub columns: usize,
    /// The bytes the cells point into, decoded to UTF-8.
    pub text: Vec<u8>,
    /// Start and end of each cell, row-major.
    pub cells: Vec<(u32, u32)>,
    /// How numbers and dates are written.
    pub dialect: Dialect,
    /// The row number of each record, when they are not consecutive because
    /// the reader left records out. `None`: `first_row`, `first_row + 1`, ...
    pub row_lines: Option<Vec<i64>>,
}

impl TextBlock {
    /// Source row number of the record at `index` (0 = first of the block).
    pub fn row_no(&self, index: usize) -> i64 {
        match &self.row_lines {
            Some(lines) => lines.get(index).copied().unwrap_or(0),
            None => self
                .first_row
                .saturating_add(i64::try_from(index).unwrap_or(i64::MAX)),
        }
    }
}

/// Turns an identity code into a keyed pseudonym. Implemented by the key ring.
pub trait Pseudonymise: Send + Sync {
    /// The pseudonym of a canonical code (11 bytes, upper case) in a domain
    /// such as `hr` or `client`. The same code gives unrelated pseudonyms in
    /// two domains.
    fn pseudonym(&self, domain: &str, canonical: &[u8; 11]) -> [u8; 16];
}

/// Which identity codes a warehouse may receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IdentityCodes {
    /// Only codes with the individual number 900-999. A real code is refused
    /// with the rule `hetu_real`: the safe setting of demos and tests.
    #[default]
    ArtificialOnly,
    /// Only real codes. An artificial code is refused with the rule
    /// `hetu_artificial`: the setting of production.
    RealOnly,
    /// Both kinds, for a trial with mixed material.
    Any,
}

/// The facts of one delivery that row checks need.
#[derive(Debug, Clone)]
pub struct DeliveryContext {
    /// The organiser that delivers; `County::NATIONAL` for national files.
    pub county: County,
    /// The month or year delivered.
    pub period: DeliveryPeriod,
    /// Today's date in Finland. Later dates are refused.
    pub today: Date,
    /// Which identity codes are received.
    pub identity_codes: IdentityCodes,
}

/// The answer of a block: accepted columns, rejected rows, and counts.
///
/// Every row of the block is either in `batch` or has at least one entry in
/// `rejects`; `batch.num_rows() + rejected_rows = rows`.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Accepted rows in the order of the source, with the contract's
    /// `arrow_schema()`.
    pub batch: RecordBatch,
    /// Source row number of each accepted row.
    pub row_no: Vec<i64>,
    /// xxh3-128 of the declared key of each accepted row.
    pub keys: Vec<u128>,
    /// Broken row rules, in row order. One row may break several, so this can
    /// be longer than `rejected_rows`.
    pub rejects: Vec<Reject>,
    /// Number of distinct rows in `rejects`.
    pub rejected_rows: u64,
    /// Sum of each `amountSum` property over the accepted rows, in units of
    /// the last decimal (cents for two decimals).
    pub sums: Vec<(String, i128)>,
    /// The same sums over every row whose amount could be read, accepted or
    /// not: what a supplier's control total is compared with.
    pub sums_received: Vec<(String, i128)>,
    /// Rows that were accepted although they break a rule whose action is
    /// `warn` or `hold`, and set counts that `Contract::conclude` needs.
    pub findings: Vec<(Arc<str>, u64)>,
}

/// One broken rule of one row. Never contains a value of the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Source row number; the header is row 1.
    pub row_no: i64,
    /// Rule id, see `rules`.
    pub rule: Arc<str>,
    /// The column header as the supplier knows it.
    pub field: Arc<str>,
    /// What is wrong and what is expected.
    pub message: String,
}

/// A finding about the whole delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFinding {
    /// Rule id: one of `rules`, or the id of a quality check of the contract.
    pub rule: Arc<str>,
    /// What the finding does to the delivery. Never `Quarantine`.
    pub action: Action,
    /// The column header, when one column is concerned.
    pub field: Option<Arc<str>>,
    /// What is wrong, without values of rows.
    pub message: String,
    /// What to do next.
    pub help: Option<String>,
}

impl fmt::Display for FileFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.message)?;
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// Running totals of a delivery, fed with each [`Checked`] and closed by
/// `Contract::conclude`. Merging in any order gives the same totals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rows read.
    pub received: u64,
    /// Rows accepted.
    pub accepted: u64,
    /// Rows with at least one reject.
    pub quarantined: u64,
    /// Rejects by rule and field.
    pub rejects: BTreeMap<(Arc<str>, Arc<str>), u64>,
    /// Findings on accepted rows by rule.
    pub findings: BTreeMap<Arc<str>, u64>,
    /// Amount sums of accepted rows, in units of the last decimal.
    pub sums: BTreeMap<String, i128>,
    /// Amount sums of every row whose amount could be read.
    pub sums_received: BTreeMap<String, i128>,
}

impl Totals {
    /// Adds the outcome of one block.
    pub fn add(&mut self, checked: &Checked) {
        let accepted = checked.row_no.len() as u64;
        self.accepted += accepted;
        self.quarantined += checked.rejected_rows;
        self.received += accepted + checked.rejected_rows;
        for reject in &checked.rejects {
            self.count_reject(&reject.rule, &reject.field, 1);
        }
        for (rule, rows) in &checked.findings {
            *self.findings.entry(rule.clone()).or_default() += rows;
        }
        for (name, sum) in &checked.sums {
            add_sum(&mut self.sums, name, *sum);
        }
        for (name, sum) in &checked.sums_received {
            add_sum(&mut self.sums_received, name, *sum);
        }
    }

    /// Adds the totals of another part of the same delivery.
    pub fn merge(&mut self, other: &Totals) {
        let Totals {
            received,
            accepted,
            quarantined,
            rejects,
            findings,
            sums,
            sums_received,
        } = other;
        self.received += received;
        self.accepted += accepted;
        self.quarantined += quarantined;
        for ((rule, field), rows) in rejects {
            self.count_reject(rule, field, *rows);
        }
        for (rule, rows) in findings {
            *self.findings.entry(rule.clone()).or_default() += rows;
        }
        for (name, sum) in sums {
            add_sum(&mut self.sums, name, *sum);
        }
        for (name, sum) in sums_received {
            add_sum(&mut self.sums_received, name, *sum);
        }
    }

    /// Counts one more reject found by the reader itself, for example a record
    /// with too many cells. The caller adds the row to `received` and
    /// `quarantined`.
    pub fn count_reject(&mut self, rule: &Arc<str>, field: &Arc<str>, rows: u64) {
        *self
            .rejects
            .entry((rule.clone(), field.clone()))
            .or_default() += rows;
    }

    /// Rejects of one rule over all fields.
    pub fn rule_count(&self, rule: &str) -> u64 {
        self.rejects
            .iter()
            .filter(|((r, _), _)| r.as_ref() == rule)
            .map(|(_, rows)| rows)
            .sum()
    }
}

// A sum that leaves the range of i128 can only come from billions of rows of
// the largest amount; it stays at the limit and then fails the control total.
fn add_sum(sums: &mut BTreeMap<String, i128>, name: &str, add: i128) {
    match sums.get_mut(name) {
        Some(sum) => *sum = sum.saturating_add(add),
        None => {
            sums.insert(name.to_owned(), add);
        }
    }
}
