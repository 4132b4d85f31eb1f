//! The header of a file against the columns of the contract. Order is free;
//! a missing or repeated column refuses the file, an unknown one is told.

use std::sync::Arc;

use tietopohja_domain::did_you_mean;

use crate::block::{Action, FileFinding};
use crate::contract::Contract;
use crate::rules;

/// Where each column of the contract stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderMap {
    pub(crate) positions: Vec<usize>,
    columns: usize,
    warnings: Vec<FileFinding>,
}

impl HeaderMap {
    /// Columns of the file.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Findings that let the file pass, such as columns the contract does not
    /// know.
    pub fn warnings(&self) -> &[FileFinding] {
        &self.warnings
    }
}

/// Names are compared without surrounding spaces and without case. Empty
/// names, which a trailing separator leaves, are passed over.
pub(crate) fn map(contract: &Contract, header: &[String]) -> Result<HeaderMap, Vec<FileFinding>> {
    let names: Vec<String> = header.iter().map(|name| normal(name)).collect();
    let known: Vec<String> = contract
        .properties()
        .iter()
        .map(|p| normal(p.header()))
        .collect();
    let mut errors = Vec::new();
    let mut warnings = Vec::new();
    let mut positions = Vec::with_capacity(known.len());
    for (property, wanted) in contract.properties().iter().zip(&known) {
        let mut found = names
            .iter()
            .enumerate()
            .filter(|(_, name)| *name == wanted)
            .map(|(at, _)| at);
        match (found.next(), found.next()) {
            (Some(at), None) => positions.push(at),
            (Some(_), Some(_)) => errors.push(finding(
                rules::COLUMN_DUPLICATE,
                Action::Reject,
                property.header(),
                format!(
                    "the column `{}` is in the header more than once",
                    property.header()
                ),
                Some("leave one of them in the file".to_owned()),
            )),
            (None, _) => {
                let candidates = names
                    .iter()
                    .filter(|name| !name.is_empty() && !known.contains(name));
                let help = match did_you_mean(wanted, candidates.map(String::as_str)) {
                    Some(near) => format!("the header has `{}`; rename it", shortened(near)),
                    None => format!(
                        "the contract {} {} requires it",
                        contract.name(),
                        contract.version()
                    ),
                };
                errors.push(finding(
                    rules::COLUMN_MISSING,
                    Action::Reject,
                    property.header(),
                    format!("the column `{}` is missing", property.header()),
                    Some(help),
                ));
            }
        }
    }
    for (at, name) in names.iter().enumerate() {
        if name.is_empty()
            || known.contains(name)
            || names.iter().take(at).any(|before| before == name)
        {
            continue;
        }
        let shown: Arc<str> = Arc::from(shortened(name));
        warnings.push(finding(
            rules::COLUMN_EXTRA,
            Action::Warn,
            &shown,
            format!("the column `{shown}` is not in the contract and is left out"),
            None,
        ));
        if warnings.len() == MOST_WARNINGS {
            break;
        }
    }
    if errors.is_empty() {
        Ok(HeaderMap {
            positions,
            columns: header.len(),
            warnings,
        })
    } else {
        // The unknown columns are often the missing ones under another name.
        errors.extend(warnings);
        Err(errors)
    }
}

/// A file that is no table of this kind can have thousands of columns.
const MOST_WARNINGS: usize = 20;

fn finding(
    rule: &'static str,
    action: Action,
    field: &Arc<str>,
    message: String,
    help: Option<String>,
) -> FileFinding {
    FileFinding {
        rule: rules::shared(rule),
        action,
        field: Some(field.clone()),
        message,
        help,
    }
}

fn normal(name: &str) -> String {
    name.trim_start_matches('\u{feff}').trim().to_lowercase()
}

/// A header can be a row of data; what is shown of it is short and has no
/// digits, so that no identity code is printed.
fn shortened(name: &str) -> String {
    let digits = name.chars().filter(char::is_ascii_digit).count();
    if digits >= 6 {
        return "***".to_owned();
    }
    let mut text: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
    if name.chars().count() > 40 {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn check(header: &str, expected: Result<(&[usize], &[&str]), &[&str]>) {
        let contract = testing::contract();
        let header: Vec<String> = header.split(';').map(str::to_owned).collect();
        let show =
            |findings: &[FileFinding]| findings.iter().map(ToString::to_string).collect::<Vec<_>>();
        let found = map(&contract, &header)
            .map(|m| (m.positions.clone(), show(m.warnings())))
            .map_err(|e| show(&e));
        let expected = expected
            .map(|(positions, warnings)| {
                (
                    positions.to_vec(),
                    warnings.iter().map(|w| (*w).to_owned()).collect(),
                )
            })
            .map_err(|errors| errors.iter().map(|e| (*e).to_owned()).collect());
        assert_eq!(found, expected);
    }

    #[test]
    fn columns_are_found_in_any_order_and_case() {
        check(
            "numero;hetu;laji;alkupvm;loppupvm;euro;selite",
            Ok((&[0, 1, 2, 3, 4, 5, 6], &[])),
        );
        check(
            "\u{feff}SELITE; Euro ;loppupvm;alkupvm;laji;hetu;numero",
            Ok((&[6, 5, 4, 3, 2, 1, 0], &[])),
        );
        check(
            "numero;hetu;laji;alkupvm;loppupvm;euro;selite;",
            Ok((&[0, 1, 2, 3, 4, 5, 6], &[])),
        );
    }

    #[test]
    fn an_unknown_column_is_told_and_left_out() {
        check(
            "numero;väri;hetu;laji;alkupvm;loppupvm;euro;selite",
            Ok((
                &[0, 2, 3, 4, 5, 6, 7],
                &["column_extra: the column `väri` is not in the contract and is left out"],
            )),
        );
    }

    #[test]
    fn missing_and_repeated_columns_refuse_the_file() {
        check(
            "numero;hetu;laji;laji;alku;loppupvm;euro;selite",
            Err(&[
                "column_duplicate: the column `laji` is in the header more than once\n  help: leave one of them in the file",
                "column_missing: the column `alkupvm` is missing\n  help: the contract test_case 1.0.0 requires it",
                "column_extra: the column `alku` is not in the contract and is left out",
            ]),
        );
        check(
            "numero;hetu;laji;alkupwm;loppupvm;euro;selite",
            Err(&[
                "column_missing: the column `alkupvm` is missing\n  help: the header has `alkupwm`; rename it",
                "column_extra: the column `alkupwm` is not in the contract and is left out",
            ]),
        );
    }

    #[test]
    fn a_row_of_data_in_place_of_a_header_is_not_printed() {
        assert_eq!(shortened("010190-900P"), "***");
        assert_eq!(shortened(&"a".repeat(50)), format!("{}…", "a".repeat(40)));
    }
}
