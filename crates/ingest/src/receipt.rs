//! What a landing did, to the row: for the sender, for scripts, and for `meta.delivery`.
//!
//! A receipt counts, names rules, columns and row numbers, and never shows a value of a row. The
//! same file with the same contract gives the same receipt, but for its time. To add a fact: a
//! field here, a line in `Display`, and the goldens of `testdata` blessed and read.

use std::fmt;

use serde::{Deserialize, Serialize};
use tietopohja_contract::{Action, FileFinding, Reject, rules};

/// How a landing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The first revision of the delivery is in the lake.
    Landed,
    /// A correction took the place of the earlier revision.
    Replaced,
    /// These very bytes are in the lake already; nothing was changed.
    AlreadyLanded,
    /// The delivery waits for a person's approval; nothing was changed.
    Held,
    /// The contract refuses the delivery; nothing was changed.
    Refused,
    /// A dry run that would have landed a first revision.
    WouldLand,
    /// A dry run that would have replaced an earlier revision.
    WouldReplace,
}

impl Outcome {
    /// The outcome in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Landed => "landed",
            Outcome::Replaced => "landed as a correction",
            Outcome::AlreadyLanded => "already landed, nothing changed",
            Outcome::Held => "held for approval, nothing landed",
            Outcome::Refused => "refused, nothing landed",
            Outcome::WouldLand => "would land (dry run)",
            Outcome::WouldReplace => "would land as a correction (dry run)",
        }
    }
}

/// The account of one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The file's name, without its folder.
    pub file: String,
    /// The contract's name, which is also the raw table's.
    pub contract: String,
    /// The contract's version.
    pub contract_version: String,
    /// `<contract>.<organiser>.<period>.r<revision>`.
    pub delivery_id: String,
    /// Organiser code.
    pub county: String,
    /// Period as `2024-03` or `2024`.
    pub period: String,
    /// How the landing ended.
    pub outcome: Outcome,
    /// Data rows in the file, without header and blank lines.
    pub received: u64,
    /// Rows in the raw table.
    pub accepted: u64,
    /// Rows kept apart; each has its reasons in the reject table.
    pub quarantined: u64,
    /// Broken row rules by rule and column. A row may break several.
    pub rules: Vec<RuleCount>,
    /// Findings about the delivery as a whole.
    pub findings: Vec<Finding>,
    /// Sums of the amount columns.
    pub control_sums: Vec<ControlSum>,
    /// The first rejected rows.
    pub rejected_rows: Vec<RejectedRow>,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file's bytes.
    pub content_hash: String,
    /// Version of the pseudonym key.
    pub key_version: i32,
    /// The revision this one took the place of.
    pub replaces: Option<i64>,
    /// Version of the raw table that holds the delivery.
    pub table_version: Option<i64>,
    /// Time from start to end by the caller's clock.
    pub seconds: f64,
}

/// Rows that broke one rule in one column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCount {
    /// Rule id.
    pub rule: String,
    /// Column header; empty when the whole row is concerned.
    pub field: String,
    /// Number of rows.
    pub rows: u64,
}

/// A finding about the delivery as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Rule id.
    pub rule: String,
    /// `reject`, `hold` or `warn`.
    pub action: String,
    /// Column header, when one column is concerned.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// What was found.
    pub message: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub help: Option<String>,
}

impl From<&FileFinding> for Finding {
    fn from(finding: &FileFinding) -> Self {
        Finding {
            rule: finding.rule.to_string(),
            action: finding.action.to_string(),
            field: finding.field.as_ref().map(ToString::to_string),
            message: finding.message.clone(),
            help: finding.help.clone(),
        }
    }
}

/// The sum of an amount column, as decimal text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlSum {
    /// English name of the column.
    pub column: String,
    /// Sum over every row whose amount could be read.
    pub received: String,
    /// Sum over the accepted rows.
    pub accepted: String,
    /// The sum the sender stated.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stated: Option<String>,
}

/// One reason of one rejected row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedRow {
    /// Row number; the header is row 1.
    pub row: i64,
    /// Rule id.
    pub rule: String,
    /// Column header; empty when the whole row is concerned.
    pub field: String,
    /// What is wrong, without the value.
    pub message: String,
}

impl From<&Reject> for RejectedRow {
    fn from(reject: &Reject) -> Self {
        RejectedRow {
            row: reject.row_no,
            rule: reject.rule.to_string(),
            field: reject.field.to_string(),
            message: reject.message.clone(),
        }
    }
}

impl Receipt {
    /// Findings that stopped the delivery: those whose action is `reject`, or `hold` when it is held.
    pub fn reasons(&self) -> impl Iterator<Item = &Finding> {
        let stops = match self.outcome {
            Outcome::Held => Action::Hold,
            _ => Action::Reject,
        };
        self.findings
            .iter()
            .filter(move |finding| finding.action == stops.as_str())
    }

    /// The header was refused, so that no row was looked at.
    fn is_unread(&self) -> bool {
        let header = [rules::COLUMN_MISSING, rules::COLUMN_DUPLICATE];
        self.outcome == Outcome::Refused
            && self.received == 0
            && self
                .reasons()
                .any(|finding| header.contains(&finding.rule.as_str()))
    }

    fn show_counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  rows      {} received = {} accepted + {} quarantined",
            Grouped(self.received),
            Grouped(self.accepted),
            Grouped(self.quarantined)
        )?;
        for sum in &self.control_sums {
            write!(f, "  sum       {}: {} accepted", sum.column, sum.accepted)?;
            if sum.received != sum.accepted {
                write!(f, " of {} received", sum.received)?;
            }
            match &sum.stated {
                Some(stated) if *stated == sum.received => writeln!(f, ", as stated")?,
                Some(stated) => writeln!(f, ", {stated} stated")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

/// The receipt as a person reads it. A receipt without time, as from a clock that stands still,
/// shows no speed.
impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.delivery_id, self.outcome.as_str())?;
        let short = self.content_hash.get(..12).unwrap_or(&self.content_hash);
        writeln!(
            f,
            "  file      {}, {} bytes, sha-256 {short}",
            self.file,
            Grouped(self.bytes)
        )?;
        if self.is_unread() {
            writeln!(f, "  rows      not read: the header is refused")?;
        } else {
            self.show_counts(f)?;
        }
        for RuleCount { rule, field, rows } in &self.rules {
            let place = if field.is_empty() {
                String::new()
            } else {
                format!(" in `{field}`")
            };
            writeln!(
                f,
                "  rule      {rule}{place}: {} {}",
                Grouped(*rows),
                if *rows == 1 { "row" } else { "rows" }
            )?;
        }
        for RejectedRow {
            row,
            rule,
            field,
            message,
        } in &self.rejected_rows
        {
            let place = if field.is_empty() {
                String::new()
            } else {
                format!(" `{field}`")
            };
            writeln!(f, "  row {row}:{place} {message} ({rule})")?;
        }
        let listed = self.rules.iter().map(|rule| rule.rows).sum::<u64>();
        if listed > self.rejected_rows.len() as u64 && !self.rejected_rows.is_empty() {
            let rest = Grouped(listed - self.rejected_rows.len() as u64);
            match self.outcome {
                Outcome::Landed | Outcome::Replaced => {
                    writeln!(f, "  ... and {rest} more in reject.{}", self.contract)?
                }
                _ => writeln!(f, "  ... and {rest} more")?,
            }
        }
        for Finding {
            rule,
            action,
            field: _,
            message,
            help,
        } in &self.findings
        {
            writeln!(f, "  {action:<9} {message} ({rule})")?;
            if let Some(help) = help {
                writeln!(f, "            help: {help}")?;
            }
        }
        if let Some(revision) = self.replaces {
            writeln!(f, "  replaces  revision {revision}")?;
        }
        if let Some(version) = self.table_version {
            writeln!(f, "  table     raw.{} version {version}", self.contract)?;
        }
        if self.seconds > 0.0 {
            let rate = |amount: f64| amount / self.seconds;
            writeln!(
                f,
                "  time      {:.2} s, {} rows/s, {:.0} MB/s",
                self.seconds,
                Grouped(rate(self.received as f64) as u64),
                rate(self.bytes as f64) / 1e6
            )?;
        }
        Ok(())
    }
}

/// A number with its thousands apart.
struct Grouped(u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                f.write_str(" ")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// An amount in units of its last decimal, as decimal text.
pub(crate) fn decimal_text(units: i128, scale: u8) -> String {
    let digits = format!(
        "{:0width$}",
        units.unsigned_abs(),
        width = usize::from(scale) + 1
    );
    let (whole, part) = digits.split_at(digits.len() - usize::from(scale));
    let sign = if units < 0 { "-" } else { "" };
    if part.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{part}")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_with_their_decimals() {
        for (units, scale, text) in [
            (0, 2, "0.00"),
            (5, 2, "0.05"),
            (-5, 2, "-0.05"),
            (-123_450, 2, "-1234.50"),
            (12, 0, "12"),
            (1_234, 3, "1.234"),
        ] {
            assert_eq!(decimal_text(units, scale), text);
        }
    }

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1 000"),
            (12_345_678, "12 345 678"),
        ] {
            assert_eq!(Grouped(number).to_string(), text);
        }
    }

    #[test]
    fn a_receipt_reads_back_from_json() {
        let receipt = Receipt {
            file: "a.csv".to_owned(),
            contract: "a".to_owned(),
            contract_version: "1.0.0".to_owned(),
            delivery_id: "a.07.202401.r2".to_owned(),
            county: "07".to_owned(),
            period: "2024-01".to_owned(),
            outcome: Outcome::Replaced,
            received: 1_003,
            accepted: 1_000,
            quarantined: 3,
            rules: vec![RuleCount {
                rule: "date_form".to_owned(),
                field: "alkupvm".to_owned(),
                rows: 3,
            }],
            findings: vec![],
            control_sums: vec![ControlSum {
                column: "amount".to_owned(),
                received: "12.50".to_owned(),
                accepted: "10.00".to_owned(),
                stated: Some("12.50".to_owned()),
            }],
            rejected_rows: vec![RejectedRow {
                row: 7,
                rule: "date_form".to_owned(),
                field: "alkupvm".to_owned(),
                message: "is not a date".to_owned(),
            }],
            bytes: 45_678,
            content_hash: "ab".repeat(32),
            key_version: 1,
            replaces: Some(1),
            table_version: Some(4),
            seconds: 0.5,
        };
        let json = serde_json::to_string(&receipt).unwrap();
        assert_eq!(serde_json::from_str::<Receipt>(&json).unwrap(), receipt);
        assert_eq!(
            receipt.to_string(),
            "a.07.202401.r2: landed as a correction\n  \
               file      a.csv, 45 678 bytes, sha-256 abababababab\n  \
               rows      1 003 received = 1 000 accepted + 3 quarantined\n  \
               sum       amount: 10.00 accepted of 12.50 received, as stated\n  \
               rule      date_form in `alkupvm`: 3 rows\n  \
               row 7: `alkupvm` is not a date (date_form)\n  \
               ... and 2 more in reject.a\n  \
               replaces  revision 1\n  \
               table     raw.a version 4\n  \
               time      0.50 s, 2 006 rows/s, 0 MB/s\n"
        );
    }
}
