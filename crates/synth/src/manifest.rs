//! What was written and what is wrong in it: the answer sheet of a synthetic delivery.
//!
//! A test that lands the files demands exactly the rejects and findings listed
//! here. The manifest never repeats row values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of the manifest's form.
pub const MANIFEST_FORMAT: u32 = 2;

/// Everything one generation wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_FORMAT`].
    pub format: u32,
    /// The plan's scale.
    pub scale: f64,
    /// The plan's seed.
    pub seed: u64,
    /// The plan's today, `yyyy-mm-dd`: land with a clock that shows this day or a later one.
    pub today: String,
    /// First year of the extracts.
    pub first_year: i16,
    /// Last year of the extracts.
    pub last_year: i16,
    /// Codes of the counties whose person-level sources were written. Ledgers and providers are
    /// written of all 22 organisers.
    pub counties: Vec<String>,
    /// Good deliveries, by path.
    pub files: Vec<FileEntry>,
    /// Deliveries that must be refused whole, by path.
    pub rejected_files: Vec<RejectedFile>,
}

impl Manifest {
    /// Rows of all good deliveries.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// Bytes of all good deliveries.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Planted row defects of all good deliveries.
    pub fn defects(&self) -> usize {
        self.files.iter().map(|file| file.defects.len()).sum()
    }

    /// Planted findings of all good deliveries.
    pub fn findings(&self) -> usize {
        self.files.iter().map(|file| file.findings.len()).sum()
    }
}

/// One good delivery.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path below the output folder, with `/`.
    pub path: String,
    /// Contract name.
    pub dataset: String,
    /// The sending county's code, `FI` for national documents.
    pub county: String,
    /// Period number: `yyyymm`, or `yyyy00` for a year.
    pub period: i32,
    /// Data rows, the header not counted.
    pub rows: u64,
    /// Rows that must be accepted: `rows` less the planted defects.
    pub accepted: u64,
    /// Size.
    pub bytes: u64,
    /// Sum of each decimal column over the rows to be accepted, with a decimal point.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sums: BTreeMap<String, String>,
    /// Rows that must be quarantined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub defects: Vec<PlantedDefect>,
    /// What must be found in the rows as a set: their own rows break no rule and are accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<PlantedFinding>,
}

/// One bad row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlantedDefect {
    /// Row number in the file: the header is row 1, the first data row 2.
    pub row: u64,
    /// The column's English name; empty when the row as a whole is wrong (a repeated key, a missing
    /// cell).
    pub field: String,
    /// The column's header in the file, as rejects name it; empty with `field`.
    pub header: String,
    /// The rule that must catch it.
    pub rule: String,
    /// What was done to the row.
    pub kind: String,
}

/// One fault that only the rows together show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlantedFinding {
    /// The SQL check of the contract that must find it.
    pub rule: String,
    /// What was done.
    pub kind: String,
    /// The rows that have it, numbered as in [`PlantedDefect`]; none when rows were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<u64>,
}

/// One delivery that must be refused whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedFile {
    /// Path below the output folder, with `/`.
    pub path: String,
    /// Contract name.
    pub dataset: String,
    /// The county's code in the file name.
    pub county: String,
    /// The period number in the file name.
    pub period: i32,
    /// What must happen: `refused`.
    pub outcome: String,
    /// Why: the rule id of a finding or of the rejects that lead to it, or the kind of fault that
    /// stops the reader, such as `separator_not_agreed`.
    pub rule: String,
    /// What is wrong with the file.
    pub kind: String,
}

/// An unscaled decimal as text with a decimal point.
pub(crate) fn decimal_text(unscaled: i128, scale: u32) -> String {
    let unit = 10i128.pow(scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    let (whole, part) = (unscaled.abs() / unit, unscaled.abs() % unit);
    format!("{sign}{whole}.{part:0width$}", width = scale as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_written_with_a_point_and_all_decimals() {
        for (unscaled, scale, text) in [
            (0, 2, "0.00"),
            (-5, 2, "-0.05"),
            (123_456, 3, "123.456"),
            (-123_456, 2, "-1234.56"),
        ] {
            assert_eq!(decimal_text(unscaled, scale), text);
        }
    }
}
