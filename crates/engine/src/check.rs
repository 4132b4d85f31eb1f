//! Every indicator twice: the computed values against a query written by hand.
//!
//! `sql/checks/<id>.sql` gives the expected rows: the key columns it has (`output`, `area_level`,
//! `area`, `period_grain`, `period_start` or `period`, breakdowns) and any of `value`, `lower`,
//! `upper`, `numerator`, `denominator`. A key column it leaves out stands for the total (null). A
//! check may cover a part: only combinations of output, level and grain that it speaks of are asked
//! to be complete. Counts must be equal; other numbers may differ by one part in 10¹², because a
//! sum of fractions may be added in another order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float64Type};
use arrow::row::{OwnedRow, RowConverter, SortField};
use arrow::util::display::array_value_to_string;
use serde::Serialize;
use tietopohja_indicators::Indicator;
use tietopohja_lake::CommitInfo;

use crate::calc::run_parts::{chosen, stamp_of};
use crate::catalog::Resolver;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::explain::literal;
use crate::plain::{conform, plain_schema, to_type};
use crate::tables::{check_schema, table};

/// Relative difference that numbers other than counts may have.
pub const TOLERANCE: f64 = 1e-12;

/// Differences shown of one indicator; all are counted.
const MOST_SHOWN: usize = 10;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// Every compared number agrees.
    Agrees,
    /// Some number, or the presence of a row, differs.
    Differs,
    /// There is no file `sql/checks/<id>.sql`.
    NoCheck,
    /// The check could not be run.
    Failed,
}

impl CheckStatus {
    /// The word in `meta.check_result`.
    pub fn as_str(self) -> &'static str {
        match self {
            CheckStatus::Agrees => "agrees",
            CheckStatus::Differs => "differs",
            CheckStatus::NoCheck => "no_check",
            CheckStatus::Failed => "failed",
        }
    }
}

/// One number that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mismatch {
    /// The row: output, area, period and breakdowns.
    pub key: String,
    /// Which number; `row` when one side has no such row.
    pub column: String,
    /// What the check query gives.
    pub expected: Option<f64>,
    /// What was computed.
    pub computed: Option<f64>,
}

/// The check of one indicator.
#[derive(Debug, Clone, Serialize)]
pub struct CheckOutcome {
    /// The indicator.
    pub indicator: String,
    /// How it ended.
    pub status: CheckStatus,
    /// Rows that both sides have.
    pub compared: u64,
    /// Of those, rows in which some number differs.
    pub mismatched: u64,
    /// Rows of the check that were not computed.
    pub missing: u64,
    /// Values that were computed and that the check does not have.
    pub unexpected: u64,
    /// The first differences.
    pub mismatches: Vec<Mismatch>,
    /// Why it failed, without row values.
    pub message: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

impl CheckOutcome {
    /// Whether the check was run and everything agrees.
    pub fn agrees(&self) -> bool {
        self.status == CheckStatus::Agrees
    }

    fn new(indicator: &Indicator) -> Self {
        Self {
            indicator: indicator.id().to_owned(),
            status: CheckStatus::NoCheck,
            compared: 0,
            mismatched: 0,
            missing: 0,
            unexpected: 0,
            mismatches: Vec::new(),
            message: None,
            seconds: 0.0,
        }
    }

    fn show(&mut self, mismatch: Mismatch) {
        if self.mismatches.len() < MOST_SHOWN {
            self.mismatches.push(mismatch);
        }
    }
}

impl Engine {
    /// Checks indicators (none means all) against their check queries and records the outcome in
    /// `meta.check_result`.
    ///
    /// # Errors
    /// [`EngineError::Definitions`] when the definitions have problems, [`EngineError::NotFound`] for
    /// an unknown id, [`EngineError::Lake`]. A check that cannot be run is an outcome.
    pub async fn check(self: &Arc<Self>, ids: &[String]) -> Result<Vec<CheckOutcome>> {
        let catalogue = self.catalogue().await?;
        let resolver = self.plain_resolver();
        let mut outcomes = Vec::new();
        for indicator in chosen(&catalogue, ids)? {
            let started = Instant::now();
            let mut outcome = CheckOutcome::new(indicator);
            let ended = Box::pin(self.check_one(
                &resolver,
                indicator,
                catalogue.breakdowns(),
                &mut outcome,
            ))
            .await;
            if let Err(error) = ended {
                outcome.status = CheckStatus::Failed;
                outcome.message = Some(error.to_string());
            }
            outcome.seconds = started.elapsed().as_secs_f64();
            outcomes.push(outcome);
        }
        self.record_checks(&resolver, &outcomes).await?;
        Ok(outcomes)
    }

    async fn check_one(
        &self,
        resolver: &Arc<Resolver>,
        indicator: &Indicator,
        breakdowns: &[String],
        outcome: &mut CheckOutcome,
    ) -> Result<()> {
        let file = format!("sql/checks/{}.sql", indicator.id());
        let sql = match std::fs::read_to_string(self.options.root.join(&file)) {
            Ok(sql) => sql,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(EngineError::NotFound {
                    message: format!("`{file}` cannot be read: {}", error.kind()),
                });
            }
        };
        let in_file = |error: EngineError| match error {
            EngineError::UserSql { message } => EngineError::UserSql {
                message: format!("{file}: {message}"),
            },
            other => other,
        };
        let expected = self.run(resolver, &sql).await.map_err(in_file)?;
        let computed = format!(
            "SELECT * FROM result.indicator_value WHERE indicator = {}",
            literal(indicator.id())
        );
        let computed = self.run(resolver, &computed).await?;
        outcome.status = CheckStatus::Agrees;
        compare(&whole(&expected)?, &whole(&computed)?, breakdowns, outcome)?;
        if outcome.mismatched + outcome.missing + outcome.unexpected > 0 {
            outcome.status = CheckStatus::Differs;
        }
        Ok(())
    }

    async fn record_checks(
        &self,
        resolver: &Arc<Resolver>,
        outcomes: &[CheckOutcome],
    ) -> Result<()> {
        let stamp = stamp_of(self.now());
        let now = stamp.at.as_microsecond();
        let names: Vec<String> = outcomes
            .iter()
            .map(|outcome| literal(&outcome.indicator))
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        let kept = format!(
            "SELECT * FROM meta.check_result WHERE indicator NOT IN ({})",
            names.join(", ")
        );
        let schema = check_schema();
        let mut batches = Vec::new();
        for batch in self.run(resolver, &kept).await? {
            batches.push(conform(&batch, &schema)?);
        }
        let count = |of: fn(&CheckOutcome) -> u64| {
            let values = outcomes
                .iter()
                .map(|outcome| i64::try_from(of(outcome)).ok());
            Arc::new(values.collect::<Int64Array>()) as ArrayRef
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(
                outcomes
                    .iter()
                    .map(|outcome| Some(outcome.indicator.as_str()))
                    .collect::<StringArray>(),
            ),
            Arc::new(
                outcomes
                    .iter()
                    .map(|outcome| Some(outcome.status.as_str()))
                    .collect::<StringArray>(),
            ),
            count(|outcome| outcome.compared),
            count(|outcome| outcome.mismatched),
            count(|outcome| outcome.missing),
            count(|outcome| outcome.unexpected),
            Arc::new(
                outcomes
                    .iter()
                    .map(|outcome| outcome.message.as_deref())
                    .collect::<StringArray>(),
            ),
            Arc::new(
                TimestampMicrosecondArray::from(vec![now; outcomes.len()]).with_timezone("UTC"),
            ),
            Arc::new(StringArray::from(vec![
                stamp.run_id.as_str();
                outcomes.len()
            ])),
        ];
        batches.push(
            RecordBatch::try_new(Arc::clone(&schema), columns).map_err(|error| {
                EngineError::internal_because("rows of `meta.check_result`", error)
            })?,
        );
        let name = table("meta", "check_result")?;
        self.overwrite(&name, schema, batches, CommitInfo::default())
            .await?;
        Ok(())
    }
}

fn whole(batches: &[RecordBatch]) -> Result<RecordBatch> {
    let Some(first) = batches.first() else {
        return Ok(RecordBatch::new_empty(Arc::new(
            arrow::datatypes::Schema::empty(),
        )));
    };
    let schema = plain_schema(&first.schema());
    let plain = batches
        .iter()
        .map(|batch| conform(batch, &schema))
        .collect::<Result<Vec<_>>>()?;
    concat_batches(&schema, &plain)
        .map_err(|error| EngineError::internal_because("rows do not fit together", error))
}

/// Key columns and their types.
fn key_columns(breakdowns: &[String]) -> Vec<(String, DataType)> {
    let text = |name: &str| (name.to_owned(), DataType::Utf8);
    let mut key: Vec<(String, DataType)> = ["output", "area_level", "area", "period_grain"]
        .map(text)
        .into();
    key.push(("period_start".to_owned(), DataType::Date32));
    key.extend(breakdowns.iter().map(|name| text(name)));
    key
}

const COUNTS: [&str; 2] = ["numerator", "denominator"];
const NUMBERS: [&str; 5] = ["value", "lower", "upper", "numerator", "denominator"];

/// One side of a comparison.
struct Side {
    keys: Vec<OwnedRow>,
    texts: Vec<ArrayRef>,
    numbers: BTreeMap<&'static str, Float64Array>,
    scope: Vec<(Option<String>, Option<String>, Option<String>)>,
}

impl Side {
    fn new(
        batch: &RecordBatch,
        key: &[(String, DataType)],
        converter: &RowConverter,
    ) -> Result<Side> {
        let rows = batch.num_rows();
        let texts = key
            .iter()
            .map(|(name, data_type)| match batch.column_by_name(name) {
                Some(column) => to_type(column, data_type),
                None => Ok(arrow::array::new_null_array(data_type, rows)),
            })
            .collect::<Result<Vec<_>>>()?;
        let converted = converter
            .convert_columns(&texts)
            .map_err(|error| EngineError::internal_because("comparing keys", error))?;
        let mut numbers = BTreeMap::new();
        for name in NUMBERS {
            if let Some(column) = batch.column_by_name(name) {
                numbers.insert(
                    name,
                    to_type(column, &DataType::Float64)?
                        .as_primitive::<Float64Type>()
                        .clone(),
                );
            }
        }
        let text_at = |name: &str, row: usize| {
            let at = key.iter().position(|(known, _)| known == name)?;
            let column = texts.get(at)?.as_string_opt::<i32>()?;
            column.is_valid(row).then(|| column.value(row).to_owned())
        };
        let scope = (0..rows)
            .map(|row| {
                (
                    text_at("output", row),
                    text_at("area_level", row),
                    text_at("period_grain", row),
                )
            })
            .collect();
        let keys = converted.iter().map(|row| row.owned()).collect();
        Ok(Side {
            keys,
            texts,
            numbers,
            scope,
        })
    }

    /// The key of a row as people read it.
    fn shown(&self, row: usize) -> String {
        let cells = self.texts.iter().filter(|column| column.is_valid(row));
        cells
            .map(|column| array_value_to_string(column, row).unwrap_or_default())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn number(&self, name: &str, row: usize) -> Option<f64> {
        let column = self.numbers.get(name)?;
        column.is_valid(row).then(|| column.value(row))
    }
}

fn compare(
    expected: &RecordBatch,
    computed: &RecordBatch,
    breakdowns: &[String],
    outcome: &mut CheckOutcome,
) -> Result<()> {
    let mut key = key_columns(breakdowns);
    // A check may name the period by its label instead of its first day.
    if expected.num_rows() > 0
        && expected.column_by_name("period_start").is_none()
        && expected.column_by_name("period").is_some()
    {
        for (name, data_type) in &mut key {
            if name == "period_start" {
                (*name, *data_type) = ("period".to_owned(), DataType::Utf8);
            }
        }
    }
    // An indicator with one output need not name it.
    if expected.num_rows() > 0 && expected.column_by_name("output").is_none() {
        key.retain(|(name, _)| name != "output");
    }
    let given: BTreeSet<String> = expected
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    let fields = key
        .iter()
        .map(|(_, data_type)| SortField::new(data_type.clone()))
        .collect();
    let converter = RowConverter::new(fields)
        .map_err(|error| EngineError::internal_because("comparing keys", error))?;
    let expected = Side::new(expected, &key, &converter)?;
    let computed = Side::new(computed, &key, &converter)?;
    let mut place: HashMap<&OwnedRow, usize> = HashMap::with_capacity(computed.keys.len());
    for (row, key) in computed.keys.iter().enumerate() {
        place.insert(key, row);
    }
    let mut met: BTreeSet<usize> = BTreeSet::new();
    for (row, key) in expected.keys.iter().enumerate() {
        match place.get(key) {
            Some(at) => {
                if !met.insert(*at) {
                    return Err(EngineError::UserSql {
                        message: format!("the check gives the row {} twice", expected.shown(row)),
                    });
                }
                outcome.compared += 1;
                compare_row(&expected, row, &computed, *at, outcome);
            }
            None => {
                outcome.missing += 1;
                let expected_value = expected.number("value", row);
                outcome.show(Mismatch {
                    key: expected.shown(row),
                    column: "row".to_owned(),
                    expected: expected_value,
                    computed: None,
                });
            }
        }
    }
    let scope: BTreeSet<_> = expected.scope.iter().collect();
    // A row of a breakdown that the check does not have is out of its scope.
    let silent: Vec<usize> = key
        .iter()
        .enumerate()
        .filter(|(_, (name, _))| !given.contains(name))
        .map(|(at, _)| at)
        .collect();
    let outside = |row: usize| {
        silent.iter().any(|at| {
            computed
                .texts
                .get(*at)
                .is_some_and(|column| column.is_valid(row))
        })
    };
    for (row, of_row) in computed.scope.iter().enumerate() {
        let value = computed.number("value", row);
        if value.is_some() && scope.contains(of_row) && !outside(row) && !met.contains(&row) {
            outcome.unexpected += 1;
            outcome.show(Mismatch {
                key: computed.shown(row),
                column: "row".to_owned(),
                expected: None,
                computed: value,
            });
        }
    }
    Ok(())
}

fn compare_row(
    expected: &Side,
    row: usize,
    computed: &Side,
    at: usize,
    outcome: &mut CheckOutcome,
) {
    let mut differs = false;
    for name in NUMBERS {
        if !expected.numbers.contains_key(name) {
            continue;
        }
        let (wanted, found) = (expected.number(name, row), computed.number(name, at));
        if !agree(name, wanted, found) {
            differs = true;
            let key = expected.shown(row);
            outcome.show(Mismatch {
                key,
                column: name.to_owned(),
                expected: wanted,
                computed: found,
            });
        }
    }
    outcome.mismatched += u64::from(differs);
}

fn agree(column: &str, wanted: Option<f64>, found: Option<f64>) -> bool {
    match (wanted, found) {
        (None, None) => true,
        (Some(wanted), Some(found)) => {
            let counts = COUNTS.contains(&column) && wanted.fract() == 0.0 && found.fract() == 0.0;
            let size = wanted.abs().max(found.abs());
            if counts {
                wanted == found
            } else {
                (wanted - found).abs() <= TOLERANCE * size.max(1e-3)
            }
        }
        // A check that does not compute a part (null denominator) does not ask for it.
        (None, Some(_)) => column != "value",
        (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Date32Array;

    use super::*;

    fn rows(rows: &[(&str, &str, i32, Option<&str>, Option<f64>, Option<f64>)]) -> RecordBatch {
        let text = |of: Vec<Option<&str>>| Arc::new(StringArray::from(of)) as ArrayRef;
        let numbers = |of: Vec<Option<f64>>| Arc::new(Float64Array::from(of)) as ArrayRef;
        RecordBatch::try_from_iter([
            ("output", text(rows.iter().map(|_| Some("rate")).collect())),
            (
                "area_level",
                text(rows.iter().map(|row| Some(row.0)).collect()),
            ),
            ("area", text(rows.iter().map(|row| Some(row.1)).collect())),
            (
                "period_grain",
                text(rows.iter().map(|_| Some("year")).collect()),
            ),
            (
                "period_start",
                Arc::new(Date32Array::from_iter_values(rows.iter().map(|row| row.2))) as ArrayRef,
            ),
            ("sex", text(rows.iter().map(|row| row.3).collect())),
            ("value", numbers(rows.iter().map(|row| row.4).collect())),
            ("numerator", numbers(rows.iter().map(|row| row.5).collect())),
        ])
        .unwrap()
    }

    fn outcome_of(expected: &RecordBatch, computed: &RecordBatch) -> CheckOutcome {
        let mut outcome = CheckOutcome {
            indicator: "a.b".to_owned(),
            status: CheckStatus::Agrees,
            compared: 0,
            mismatched: 0,
            missing: 0,
            unexpected: 0,
            mismatches: Vec::new(),
            message: None,
            seconds: 0.0,
        };
        compare(expected, computed, &["sex".to_owned()], &mut outcome).unwrap();
        outcome
    }

    #[test]
    fn equal_rows_agree_whatever_their_order() {
        let a = rows(&[
            ("county", "07", 1, None, Some(1.5), Some(3.0)),
            ("county", "08", 1, Some("female"), None, None),
        ]);
        let b = rows(&[
            ("county", "08", 1, Some("female"), None, None),
            ("county", "07", 1, None, Some(1.5), Some(3.0)),
        ]);
        let outcome = outcome_of(&a, &b);
        assert_eq!(
            (
                outcome.compared,
                outcome.mismatched,
                outcome.missing,
                outcome.unexpected
            ),
            (2, 0, 0, 0)
        );
    }

    #[test]
    fn a_count_must_be_equal_and_a_ratio_almost() {
        assert!(agree("value", Some(1.0), Some(1.0 + 1e-13)));
        assert!(!agree("value", Some(1.0), Some(1.0 + 1e-11)));
        assert!(agree("numerator", Some(1e9), Some(1e9)));
        assert!(!agree("numerator", Some(1e15), Some(1e15 + 1.0)));
        assert!(agree("numerator", Some(0.1 + 0.2), Some(0.3)));
        assert!(!agree("value", None, Some(1.0)));
        assert!(!agree("value", Some(1.0), None));
        assert!(agree("denominator", None, Some(1.0)));
    }

    #[test]
    fn missing_and_unexpected_rows_are_counted_within_the_scope_of_the_check() {
        let expected = rows(&[
            ("county", "07", 1, None, Some(1.0), Some(1.0)),
            ("county", "09", 1, None, Some(2.0), Some(2.0)),
        ]);
        let computed = rows(&[
            ("county", "07", 1, None, Some(9.0), Some(1.0)),
            ("county", "08", 1, None, Some(1.0), Some(1.0)),
            ("county", "10", 1, None, None, None),
            ("country", "FI", 1, None, Some(1.0), Some(1.0)),
        ]);
        let outcome = outcome_of(&expected, &computed);
        assert_eq!(
            (
                outcome.compared,
                outcome.mismatched,
                outcome.missing,
                outcome.unexpected
            ),
            (1, 1, 1, 1)
        );
        assert_eq!(outcome.mismatches[0].key, "rate county 07 year 1970-01-02");
        assert_eq!(outcome.mismatches[0].expected, Some(1.0));
    }

    #[test]
    fn a_check_without_a_breakdown_speaks_of_totals() {
        let computed = rows(&[
            ("county", "07", 1, None, Some(3.0), Some(3.0)),
            ("county", "07", 1, Some("female"), Some(2.0), Some(2.0)),
        ]);
        let totals = computed
            .slice(0, 1)
            .project(&[0, 1, 2, 3, 4, 6, 7])
            .unwrap();
        let outcome = outcome_of(&totals, &computed);
        assert_eq!(
            (
                outcome.compared,
                outcome.mismatched,
                outcome.missing,
                outcome.unexpected
            ),
            (1, 0, 0, 0)
        );
    }
}
