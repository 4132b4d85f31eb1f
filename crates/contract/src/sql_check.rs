//! Checks written in SQL: the text that is run, what its number means, and how
//! a fault of the query is told.
//!
//! Running queries is the engine's business; here is what a contract says about
//! them. A query is a part of the contract, so a query that cannot be run is a
//! problem of the contract's file, with its line, and never a fault of the
//! delivery. No message here holds a number that could be a value of a row.

use std::sync::Arc;

use tietopohja_domain::Problem;

use crate::block::FileFinding;
use crate::contract::{CheckUnit, Contract, SqlCheck};

/// Stands for the delivery's accepted rows in a query.
pub(crate) const OBJECT: &str = "{object}";
/// Stands for the column of the property that the check belongs to.
pub(crate) const PROPERTY: &str = "{property}";

/// Up to here every whole number has a floating-point number of its own.
const MOST_ROWS: f64 = (1_u64 << 53) as f64;

impl Contract {
    /// The query of a check, with `object` in the place of the delivery's rows.
    pub fn sql_text(&self, check: &SqlCheck, object: &str) -> String {
        let query = check.query.replace(OBJECT, object);
        let property = check
            .property
            .as_deref()
            .and_then(|name| self.property(name));
        let Some(property) = property else {
            return query;
        };
        let fields = property.fields();
        // Of the columns that an identity code becomes, the pseudonym stands for it.
        match fields.first() {
            Some(column) => query.replace(PROPERTY, column.name()),
            None => query,
        }
    }

    /// A problem of a check's query, at its line of the contract.
    pub fn sql_problem(&self, check: &SqlCheck, message: &str) -> Problem {
        let what = format!("the check `{}` cannot be run: {message}", check.id);
        Problem::new(self.file(), what).at(check.line).help(
            "mend its query; it sees the delivery's own rows as `{object}`, with the columns of the raw table, and gives one number",
        )
    }

    /// What the numbers of the SQL checks mean, in the order of
    /// [`Contract::sql_checks`]; `accepted` is the number of rows they were
    /// taken over. An empty list lets the delivery pass.
    ///
    /// # Errors
    /// A number that is no count of rows where the contract says it is one.
    pub fn conclude_sql(
        &self,
        numbers: &[f64],
        accepted: u64,
    ) -> Result<Vec<FileFinding>, Vec<Problem>> {
        let (mut findings, mut problems) = (Vec::new(), Vec::new());
        for (check, number) in self.sql_checks.iter().zip(numbers) {
            match judge(check, *number, accepted) {
                Ok(Some(message)) => findings.push(self.sql_finding(check, message)),
                Ok(None) => {}
                Err(message) => problems.push(self.sql_problem(check, message)),
            }
        }
        if problems.is_empty() {
            Ok(findings)
        } else {
            Err(problems)
        }
    }

    fn sql_finding(&self, check: &SqlCheck, message: String) -> FileFinding {
        let property = check
            .property
            .as_deref()
            .and_then(|name| self.property(name));
        FileFinding {
            rule: Arc::from(check.id.as_str()),
            action: check.action,
            field: property.map(|property| Arc::clone(property.header())),
            message,
            help: check.description.clone(),
        }
    }
}

/// What a number that breaks its limit comes to, `None` when it keeps it.
fn judge(check: &SqlCheck, number: f64, accepted: u64) -> Result<Option<String>, &'static str> {
    if !number.is_finite() {
        return Err("its number is not finite");
    }
    let Some(unit) = check.unit else {
        return Ok((!check.limit.holds(number)).then(|| {
            format!(
                "the number of the query breaks its limit; the contract requires {}",
                check.limit.words()
            )
        }));
    };
    if number.fract() != 0.0 || !(0.0..=MOST_ROWS).contains(&number) {
        return Err(
            "its unit says that it counts rows, and its number is not a whole number from 0 up",
        );
    }
    let rows = number as u64;
    let counted = if rows == 1 { "row" } else { "rows" };
    let limit = check.limit.words();
    Ok(match unit {
        CheckUnit::Rows if check.limit.holds(number) => None,
        CheckUnit::Rows => Some(format!(
            "the query counts {rows} {counted}; the contract requires {limit}"
        )),
        // There is no share of nothing.
        CheckUnit::Percent if accepted == 0 => None,
        CheckUnit::Percent => {
            let share = number * 100.0 / accepted as f64;
            (!check.limit.holds(share)).then(|| {
                format!(
                    "the query counts {rows} {counted} of {accepted} ({share:.1} %); the contract requires {limit} %"
                )
            })
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use crate::testing::{self, CONTRACT};
    use crate::{Contract, PropertyType};

    /// The test contract with another limit for its SQL check, as keys of a mapping in one line.
    fn contract(limit: &str) -> Contract {
        let start = CONTRACT.find("      - id: one_open_case").unwrap();
        let end = CONTRACT.find("slaProperties:").unwrap();
        let check = format!(
            "      - {{ id: one_open_case, type: sql, query: 'select count(*) from {{object}}', {limit} }}\n"
        );
        testing::parse(&[&CONTRACT[..start], &check, &CONTRACT[end..]].concat())
    }

    /// `expected` is what the contract says of a number over `accepted` rows.
    #[track_caller]
    fn check(limit: &str, number: f64, accepted: u64, expected: &str) {
        let said = match contract(limit).conclude_sql(&[number], accepted) {
            Ok(findings) => findings
                .iter()
                .map(|found| format!("{} {}: {}", found.action, found.rule, found.message))
                .collect::<Vec<_>>(),
            Err(problems) => problems.iter().map(|p| p.message.clone()).collect(),
        };
        assert_eq!(said.join("; "), expected, "{limit}");
    }

    #[test]
    fn a_count_of_rows_is_judged_by_its_limit_and_action() {
        check("mustBe: 0, unit: rows, severity: warning", 0.0, 9, "");
        check(
            "mustBe: 0, unit: rows, severity: warning",
            1.0,
            9,
            "warn one_open_case: the query counts 1 row; the contract requires 0",
        );
        check(
            "mustBeLessThan: 3, unit: rows, severity: error",
            3.0,
            9,
            "reject one_open_case: the query counts 3 rows; the contract requires less than 3",
        );
        check(
            "mustBeBetween: [1, 5], unit: rows, customProperties: [{ property: severityAction, value: hold }]",
            5.0,
            9,
            "hold one_open_case: the query counts 5 rows; the contract requires between 1 and 5",
        );
    }

    #[test]
    fn a_share_is_of_the_accepted_rows() {
        let limit = "mustBeLessThan: 5, unit: percent";
        check(limit, 2.0, 41, "");
        check(
            limit,
            2.0,
            40,
            "reject one_open_case: the query counts 2 rows of 40 (5.0 %); the contract requires less than 5 %",
        );
        check(limit, 0.0, 0, "");
    }

    #[test]
    fn a_number_that_may_be_a_value_of_a_row_is_not_shown() {
        check("mustBeLessOrEqualTo: 150", 150.0, 9, "");
        check(
            "mustBeLessOrEqualTo: 150",
            1234.5,
            9,
            "reject one_open_case: the number of the query breaks its limit; the contract requires at most 150",
        );
    }

    #[test]
    fn a_number_that_is_no_count_is_a_problem_of_the_contract() {
        let problem = "the check `one_open_case` cannot be run: its unit says that it counts rows, and its number is not a whole number from 0 up";
        for number in [0.5, -1.0, 1e17] {
            check("mustBe: 0, unit: rows", number, 9, problem);
            check("mustBe: 0, unit: percent", number, 9, problem);
        }
        for number in [f64::NAN, f64::INFINITY] {
            check(
                "mustNotBe: 0",
                number,
                9,
                "the check `one_open_case` cannot be run: its number is not finite",
            );
        }
    }

    #[test]
    fn a_problem_names_the_file_and_the_line_of_the_check() {
        let contract = testing::contract();
        let problem = contract.sql_problem(contract.sql_checks().first().unwrap(), "it is wrong");
        let line = CONTRACT
            .lines()
            .position(|line| line.contains("one_open_case"));
        assert_eq!(problem.file, "test.odcs.yaml");
        assert_eq!(
            problem.line.map(|line| line as usize),
            line.map(|at| at + 1)
        );
    }

    #[test]
    fn a_property_is_named_by_its_column() {
        let of_property = |property: &str, query: &str| {
            let quality = format!(
                "        quality:\n          - id: of_property\n            type: sql\n            query: \"{query}\"\n            mustBe: 0\n"
            );
            let yaml = CONTRACT.replacen(
                &format!("      - name: {property}\n"),
                &format!("      - name: {property}\n{quality}"),
                1,
            );
            let contract = testing::parse(&yaml);
            let check = contract
                .sql_checks()
                .iter()
                .find(|check| check.id == "of_property");
            contract.sql_text(check.unwrap(), "the_rows")
        };
        let query = "select count(*) from {object} where {property} is null";
        assert_eq!(
            of_property("note", query),
            "select count(*) from the_rows where note is null"
        );
        let contract = testing::contract();
        let client = contract.property("client_id").unwrap();
        assert!(matches!(client.kind(), PropertyType::Hetu { .. }));
        assert_eq!(
            of_property("client_id", query),
            "select count(*) from the_rows where client_pid is null"
        );
    }
}
