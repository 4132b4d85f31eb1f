//! The judgement of a whole delivery once its rows are counted: the limits
//! that the contract sets, and the row rules that stop a delivery.

use crate::block::{Action, FileFinding, Totals};
use crate::contract::{CheckUnit, Contract, Limit, Measure, PropertyType, SetCheck};
use crate::rules;
use crate::validator::HOME_ROWS;

impl Contract {
    /// What the counts of a delivery mean. An empty list lets it pass; the
    /// strongest action of the findings is the outcome. Duplicate keys are
    /// judged by the landing, which alone sees the table.
    pub fn conclude(&self, totals: &Totals) -> Vec<FileFinding> {
        let mut findings = Vec::new();
        for check in &self.set_checks {
            findings.extend(judge(check, totals));
        }
        for check in &self.cross_checks {
            let (rows, action) = match check.action {
                Action::Quarantine => continue,
                Action::Reject => (totals.rule_count(&check.rule), Action::Reject),
                action @ (Action::Warn | Action::Hold) => (
                    totals.findings.get(&check.rule).copied().unwrap_or(0),
                    action,
                ),
            };
            if rows > 0 {
                findings.push(FileFinding {
                    rule: check.rule.clone(),
                    action,
                    field: self
                        .properties
                        .get(check.field)
                        .map(|property| property.header.clone()),
                    message: format!("{} in {}", check.message, counted(rows)),
                    help: None,
                });
            }
        }
        for property in &self.properties {
            let PropertyType::Text {
                scan: Some(Action::Reject),
                ..
            } = property.kind
            else {
                continue;
            };
            let rule = rules::shared(rules::IDENTITY_CODE_IN_TEXT);
            let rows = totals
                .rejects
                .get(&(rule.clone(), property.header.clone()))
                .copied()
                .unwrap_or(0);
            if rows > 0 {
                findings.push(FileFinding {
                    rule,
                    action: Action::Reject,
                    field: Some(property.header.clone()),
                    message: format!(
                        "the column `{}` holds personal identity codes in {}",
                        property.header,
                        counted(rows)
                    ),
                    help: Some(
                        "remove the codes in the source system and deliver the file again"
                            .to_owned(),
                    ),
                });
            }
        }
        findings
    }
}

fn judge(check: &SetCheck, totals: &Totals) -> Option<FileFinding> {
    let SetCheck {
        id,
        field,
        measure,
        limit,
        unit,
        min_rows,
        action,
        description,
    } = check;
    if totals.received < *min_rows {
        return None;
    }
    let (rows, of) = match measure {
        Measure::Received => (totals.received, totals.received),
        Measure::Quarantined => (totals.quarantined, totals.received),
        Measure::Rule(rule) => (totals.rule_count(rule), totals.received),
        Measure::Invalid(header) => (invalid(totals, header), totals.received),
        Measure::Missing(name) => {
            let nulls = totals.findings.get(name).copied().unwrap_or(0);
            let refused = field.as_ref().map_or(0, |field| missing(totals, field));
            (nulls + refused, totals.received)
        }
        Measure::HomeCounty => (
            totals.findings.get(HOME_ROWS).copied().unwrap_or(0),
            totals.accepted,
        ),
    };
    let value = match unit {
        CheckUnit::Rows => rows as f64,
        // There is no share of nothing.
        CheckUnit::Percent if of == 0 => return None,
        CheckUnit::Percent => rows as f64 * 100.0 / of as f64,
    };
    if limit.holds(value) {
        return None;
    }
    Some(FileFinding {
        rule: id.clone(),
        action: *action,
        field: field.clone(),
        message: message(measure, rows, of, *unit, *limit),
        help: description.clone(),
    })
}

fn message(measure: &Measure, rows: u64, of: u64, unit: CheckUnit, limit: Limit) -> String {
    let what = match measure {
        Measure::Received => "were received".to_owned(),
        Measure::Quarantined => "break rules".to_owned(),
        Measure::Rule(rule) => format!("break the rule {rule}"),
        Measure::Invalid(header) => format!("have an invalid `{header}`"),
        Measure::Missing(_) => "have no value".to_owned(),
        Measure::HomeCounty => "have a home municipality of the delivering county".to_owned(),
    };
    match unit {
        CheckUnit::Rows => format!(
            "{rows} rows {what}; the contract requires {}",
            limit.words()
        ),
        CheckUnit::Percent => {
            let share = rows as f64 * 100.0 / of.max(1) as f64;
            format!(
                "{rows} of {of} rows ({share:.1} %) {what}; the contract requires {} %",
                limit.words()
            )
        }
    }
}

fn invalid(totals: &Totals, header: &str) -> u64 {
    totals
        .rejects
        .iter()
        .filter(|((rule, field), _)| {
            field.as_ref() == header && rule.as_ref() != rules::REQUIRED_MISSING
        })
        .map(|(_, rows)| rows)
        .sum()
}

fn missing(totals: &Totals, header: &str) -> u64 {
    totals
        .rejects
        .iter()
        .filter(|((rule, field), _)| {
            field.as_ref() == header && rule.as_ref() == rules::REQUIRED_MISSING
        })
        .map(|(_, rows)| rows)
        .sum()
}

fn counted(rows: u64) -> String {
    if rows == 1 {
        "1 row".to_owned()
    } else {
        format!("{rows} rows")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use std::sync::Arc;

    use crate::block::Totals;
    use crate::testing;

    fn totals(
        accepted: u64,
        quarantined: u64,
        rejects: &[(&str, &str, u64)],
        findings: &[(&str, u64)],
    ) -> Totals {
        let mut totals = Totals {
            received: accepted + quarantined,
            accepted,
            quarantined,
            ..Totals::default()
        };
        for (rule, field, rows) in rejects {
            totals.count_reject(&Arc::from(*rule), &Arc::from(*field), *rows);
        }
        for (rule, rows) in findings {
            totals.findings.insert(Arc::from(*rule), *rows);
        }
        totals
    }

    fn check(totals: &Totals, expected: &[&str]) {
        let findings = testing::contract().conclude(totals);
        let shown: Vec<String> = findings
            .iter()
            .map(|f| format!("{} {}: {}", f.action, f.rule, f.message))
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_good_delivery_has_no_findings() {
        check(&totals(10, 0, &[], &[]), &[]);
    }

    #[test]
    fn an_empty_delivery_breaks_the_row_count() {
        check(
            &totals(0, 0, &[], &[]),
            &["reject rows_present: 0 rows were received; the contract requires more than 0"],
        );
    }

    #[test]
    fn a_large_share_of_quarantined_rows_refuses_the_delivery() {
        let rejects = [("date_form", "alkupvm", 2)];
        check(&totals(3, 2, &rejects, &[]), &[]);
        check(
            &totals(2, 2, &rejects, &[]),
            &[
                "reject quarantined_share: 2 of 4 rows (50.0 %) break rules; the contract requires less than 50 %",
            ],
        );
        // A delivery of under four rows is not judged by its share.
        check(&totals(1, 2, &rejects, &[]), &[]);
    }

    #[test]
    fn missing_values_are_counted_among_accepted_rows() {
        check(
            &totals(4, 0, &[], &[("empty_cells.ended_on", 3)]),
            &[
                "warn mostly_ended: 3 of 4 rows (75.0 %) have no value; the contract requires less than 50 %",
            ],
        );
    }

    #[test]
    fn a_row_rule_that_warns_is_told_with_its_count() {
        check(
            &totals(4, 0, &[], &[("large_amount", 1)]),
            &["warn large_amount: the amount is unusually large in 1 row"],
        );
    }

    #[test]
    fn an_identity_code_in_a_text_refuses_the_delivery() {
        check(
            &totals(9, 1, &[("identity_code_in_text", "selite", 1)], &[]),
            &[
                "reject identity_code_in_text: the column `selite` holds personal identity codes in 1 row",
            ],
        );
    }

    #[test]
    fn totals_merge_in_any_order() {
        let a = totals(3, 1, &[("date_form", "alkupvm", 1)], &[("large_amount", 2)]);
        let b = totals(
            5,
            2,
            &[("date_form", "alkupvm", 2), ("too_long", "numero", 1)],
            &[],
        );
        let (mut ab, mut ba) = (a.clone(), b.clone());
        ab.merge(&b);
        ba.merge(&a);
        assert_eq!(ab, ba);
        assert_eq!((ab.received, ab.rule_count("date_form")), (11, 3));
    }
}
