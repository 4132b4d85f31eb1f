//! Totals that the sender states apart from the file: rows, and sums of amount columns.
//!
//! They come as an argument or as `<file>.control.json` beside the file. What they are compared
//! with is what was received, not what was accepted: the sender knows nothing of our rules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tietopohja_contract::{Action, Contract, FileFinding, PropertyType, Totals};

use crate::error::RequestError;
use crate::receipt::decimal_text;

/// Rule id of a total that does not match.
pub(crate) const CONTROL_TOTAL: &str = "control_total";
/// Totals are a few lines; anything larger is another file.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Stated totals. What is left out is not compared.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlTotals {
    /// Data rows in the file.
    #[serde(default)]
    pub rows: Option<u64>,
    /// Sums by column, named as in the contract or as in the file; decimal text, point or comma.
    #[serde(default)]
    pub sums: BTreeMap<String, Amount>,
}

/// A decimal number as text, or as a JSON number of at most 15 digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "serde_json::Value", into = "String")]
pub struct Amount(String);

impl Amount {
    /// A sum written as decimal text; what it must look like is checked against the column.
    pub fn new(text: impl Into<String>) -> Self {
        Amount(text.into())
    }
}

impl From<Amount> for String {
    fn from(amount: Amount) -> String {
        amount.0
    }
}

impl TryFrom<serde_json::Value> for Amount {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, Self::Error> {
        match value {
            serde_json::Value::String(text) => Ok(Amount(text)),
            // A longer number may have lost digits before it came here.
            serde_json::Value::Number(number)
                if number
                    .to_string()
                    .bytes()
                    .filter(u8::is_ascii_digit)
                    .count()
                    <= 15 =>
            {
                Ok(Amount(number.to_string()))
            }
            serde_json::Value::Number(_) => {
                Err("a sum of more than 15 digits must be written as text".to_owned())
            }
            _ => Err("a sum is neither a number nor text".to_owned()),
        }
    }
}

impl ControlTotals {
    /// Reads `<file>.control.json` when there is one.
    pub fn beside(file: &Path) -> Result<Option<ControlTotals>, RequestError> {
        let mut name = file.as_os_str().to_owned();
        name.push(".control.json");
        let path = PathBuf::from(name);
        let shown = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let wrong = |message: String| RequestError::ControlTotals {
            file: crate::source::mask_identity_codes(&shown),
            message,
        };
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(wrong(format!(
                    "the control totals cannot be read: {}",
                    error.kind()
                )));
            }
            Ok(metadata) if metadata.len() > MAX_FILE_BYTES => {
                return Err(wrong("the file of control totals is too large".to_owned()));
            }
            Ok(_) => {}
        }
        let text = std::fs::read_to_string(&path).map_err(|error| {
            wrong(format!(
                "the control totals cannot be read: {}",
                error.kind()
            ))
        })?;
        serde_json::from_str(&text).map(Some).map_err(|error| {
            wrong(format!(
                "line {}: the control totals are not as agreed",
                error.line()
            ))
        })
    }

    /// The stated sum of a column in units of its last decimal; `None` when none is stated.
    pub(crate) fn stated(&self, name: &str, header: &str, scale: u8) -> Option<Result<i128, ()>> {
        let amount = self.sums.get(name).or_else(|| self.sums.get(header))?;
        Some(parse_units(&amount.0, scale).ok_or(()))
    }

    /// Compares with what was received. Every difference is a finding that refuses the delivery.
    pub(crate) fn compare(&self, contract: &Contract, totals: &Totals) -> Vec<FileFinding> {
        let finding = |field: Option<Arc<str>>, message: String, help: &str| FileFinding {
            rule: Arc::from(CONTROL_TOTAL),
            action: Action::Reject,
            field,
            message,
            help: Some(help.to_owned()),
        };
        let ask = "ask the sender for the whole file, or for totals of this one";
        let mut findings = Vec::new();
        if let Some(rows) = self.rows.filter(|rows| *rows != totals.received) {
            findings.push(finding(
                None,
                format!(
                    "the sender states {rows} rows and the file has {}",
                    totals.received
                ),
                ask,
            ));
        }
        for (name, amount) in &self.sums {
            let column = contract
                .amount_columns()
                .find(|property| property.name() == name || property.header().as_ref() == name);
            let Some(property) = column else {
                let known: Vec<&str> = contract
                    .amount_columns()
                    .map(|property| property.name())
                    .collect();
                let known = if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                };
                findings.push(finding(
                    None,
                    format!("the sender states a sum of `{name}`, which is not an amount column"),
                    &format!("amount columns of this contract: {known}"),
                ));
                continue;
            };
            let PropertyType::Decimal { scale, .. } = property.kind() else {
                continue;
            };
            let received = totals
                .sums_received
                .get(property.name())
                .copied()
                .unwrap_or_default();
            match parse_units(&amount.0, *scale) {
                Some(stated) if stated == received => {}
                Some(stated) => findings.push(finding(
                    Some(Arc::clone(property.header())),
                    format!(
                        "the sender states {} and the rows sum to {}",
                        decimal_text(stated, *scale),
                        decimal_text(received, *scale)
                    ),
                    ask,
                )),
                None => findings.push(finding(
                    Some(Arc::clone(property.header())),
                    format!("the stated sum is not a number with at most {scale} decimals"),
                    "write it as text, such as \"-1234.50\"",
                )),
            }
        }
        findings
    }
}

/// Decimal text in units of the last decimal.
fn parse_units(text: &str, scale: u8) -> Option<i128> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, part) = digits.split_once(['.', ',']).unwrap_or((digits, ""));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty()
        || !plain(whole)
        || !plain(part)
        || part.trim_end_matches('0').len() > usize::from(scale)
    {
        return None;
    }
    let part: String = part
        .chars()
        .chain(std::iter::repeat('0'))
        .take(usize::from(scale))
        .collect();
    format!("{whole}{part}")
        .parse::<i128>()
        .ok()
        .map(|units| sign * units)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn stated_sums_are_read_exactly() {
        for (text, scale, units) in [
            ("-1234.50", 2, Some(-123_450)),
            ("1234,5", 2, Some(123_450)),
            ("+7", 2, Some(700)),
            ("1.500", 2, Some(150)),
            ("1.505", 2, None),
            ("", 2, None),
            ("-", 2, None),
            ("1e3", 2, None),
            ("1 000", 2, None),
            ("12", 0, Some(12)),
        ] {
            assert_eq!(parse_units(text, scale), units, "{text}");
        }
    }

    #[test]
    fn a_manifest_is_strict_and_keeps_digits() {
        let totals: ControlTotals =
            serde_json::from_str(r#"{"rows": 3, "sums": {"amount": "-0.10", "euro": 12.5}}"#)
                .unwrap();
        assert_eq!(totals.rows, Some(3));
        assert_eq!(totals.stated("amount", "x", 2), Some(Ok(-10)));
        assert_eq!(totals.stated("y", "euro", 2), Some(Ok(1_250)));
        for wrong in [
            r#"{"row": 3}"#,
            r#"{"sums": {"a": true}}"#,
            r#"{"sums": {"a": 1234567890123.456789}}"#,
            "",
        ] {
            assert!(
                serde_json::from_str::<ControlTotals>(wrong).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn the_manifest_beside_a_file_is_found_or_its_fault_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.csv");
        assert_eq!(ControlTotals::beside(&file).unwrap(), None);
        std::fs::write(folder.path().join("a.csv.control.json"), "{\"rows\": 2}").unwrap();
        assert_eq!(ControlTotals::beside(&file).unwrap().unwrap().rows, Some(2));
        std::fs::write(folder.path().join("a.csv.control.json"), "{\n\"rows\": x}").unwrap();
        let error = ControlTotals::beside(&file).unwrap_err().to_string();
        assert!(
            error.starts_with("`a.csv.control.json`: line 2: "),
            "{error}"
        );
    }
}
