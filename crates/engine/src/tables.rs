//! The tables that the engine itself keeps: their names, columns and partitions, in one place.
//!
//! Raw and reject tables belong to landing, `meta.delivery` to the lake's ledger; their columns are
//! here only so far as a reader must see an empty table before anything has landed. To add a table:
//! a name, its columns with a comment each, a line in [`known_schema`] and one in [`KNOWN_TABLES`]
//! with its key; then policy decides who sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tietopohja_lake::{LakeError, LedgerRow, TableName};

use crate::error::{EngineError, Result};
use crate::keys::{Declared, KeyColumn, parse_key, parse_reference};

/// The partition column of components and values; users do not see it.
pub(crate) const INDICATOR_NO: &str = "indicator_no";

/// Columns that landing puts before those of a contract.
const LANDING_COLUMNS: [(&str, DataType); 4] = [
    ("county", DataType::Int32),
    ("period", DataType::Int32),
    ("delivery_id", DataType::Utf8),
    ("row_no", DataType::Int64),
];

/// A checked table name of ours.
pub(crate) fn table(schema: &str, name: &str) -> Result<TableName> {
    TableName::new(schema, name)
        .map_err(|error| EngineError::internal_because(format!("`{schema}.{name}`"), error))
}

/// The error of a table of ours that cannot be written.
pub(crate) fn not_written(name: &TableName, error: LakeError) -> EngineError {
    EngineError::lake(format!("the table `{name}` could not be written"), error)
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn long(name: &str) -> Field {
    Field::new(name, DataType::Int64, true)
}

fn float(name: &str) -> Field {
    Field::new(name, DataType::Float64, true)
}

fn date(name: &str) -> Field {
    Field::new(name, DataType::Date32, true)
}

fn moment(name: &str) -> Field {
    Field::new(
        name,
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        true,
    )
}

fn schema(fields: Vec<Field>) -> SchemaRef {
    Arc::new(Schema::new(fields))
}

/// A raw table before its first delivery.
pub(crate) fn raw_schema(contract: &Schema) -> SchemaRef {
    let given = |name: &str| contract.fields().iter().any(|field| field.name() == name);
    let before = LANDING_COLUMNS
        .into_iter()
        .filter(|(name, _)| !given(name))
        .map(|(name, data_type)| Field::new(name, data_type, true));
    let columns = contract.fields().iter().map(|field| field.as_ref().clone());
    schema(before.chain(columns).collect())
}

/// A reject table before its first delivery.
pub(crate) fn reject_schema() -> SchemaRef {
    schema(vec![
        Field::new("county", DataType::Int32, true),
        Field::new("period", DataType::Int32, true),
        text("delivery_id"),
        text("contract"),
        long("row_no"),
        text("rule"),
        text("field"),
        text("message"),
    ])
}

/// `component.cell`: one row per component, area, finest period, breakdown and delivery.
pub(crate) fn component_schema(breakdowns: &[String]) -> SchemaRef {
    let mut fields = vec![
        Field::new(INDICATOR_NO, DataType::Int32, true),
        text("indicator"),
        text("component"),
        text("area"),
        text("area_base"),
        date("period_start"),
    ];
    fields.extend(breakdowns.iter().map(|name| text(name)));
    fields.extend([
        Field::new("age", DataType::Int32, true),
        text("delivery_id"),
        long("n"),
        Field::new("persons", DataType::Binary, true),
        Field::new("hist", DataType::Binary, true),
        float("x"),
    ]);
    schema(fields)
}

/// `result.indicator_value` and `published.indicator_value`: one row per value.
pub(crate) fn value_schema(breakdowns: &[String]) -> SchemaRef {
    let mut fields = vec![
        Field::new(INDICATOR_NO, DataType::Int32, true),
        text("indicator"),
        text("version"),
        text("output"),
        text("area_level"),
        text("area"),
        text("period_grain"),
        date("period_start"),
        text("period"),
    ];
    fields.extend(breakdowns.iter().map(|name| text(name)));
    fields.extend([
        float("value"),
        float("lower"),
        float("upper"),
        float("numerator"),
        float("denominator"),
        text("unit"),
        text("obs_status"),
        text("conf_status"),
        float("quality"),
        text("run_id"),
        moment("published_at"),
    ]);
    schema(fields)
}

/// `meta.run`: one row per calculation.
pub(crate) fn run_schema() -> SchemaRef {
    schema(vec![
        text("run_id"),
        moment("started_at"),
        moment("finished_at"),
        text("trigger"),
        text("indicators"),
        text("status"),
        text("engine_version"),
        text("table_versions"),
    ])
}

/// `meta.indicator`: one row per output of each indicator.
pub(crate) fn indicator_schema() -> SchemaRef {
    schema(
        [
            "id", "version", "kind", "title_fi", "title_sv", "title_en", "output", "unit",
            "mandate", "status", "levels", "grains",
        ]
        .map(text)
        .into(),
    )
}

/// `meta.calculation`: what each indicator was last computed from.
pub(crate) fn calculation_schema() -> SchemaRef {
    schema(vec![
        text("indicator"),
        Field::new("number", DataType::Int32, true),
        text("version"),
        text("fingerprint"),
        text("run_id"),
        moment("calculated_at"),
        long("component_rows"),
        long("value_rows"),
        long("suppressed"),
        float("seconds"),
        // From what the cells of components were computed, as JSON; null where nothing of them can
        // be kept: the digest of each component's query, the mark of each slice of the stored
        // relations, the files that the cells lie in.
        text("component_digests"),
        text("component_slices"),
        text("component_files"),
    ])
}

/// `meta.reference`: which file or query each reference table holds, and whom to thank for it.
pub(crate) fn reference_schema() -> SchemaRef {
    schema(vec![
        text("name"),
        text("kind"),
        text("file"),
        text("digest"),
        long("rows"),
        text("comment"),
        text("source"),
        text("licence"),
        text("attribution"),
        moment("loaded_at"),
        text("engine_version"),
    ])
}

/// `meta.check_result`: the last check of each indicator.
pub(crate) fn check_schema() -> SchemaRef {
    schema(vec![
        text("indicator"),
        text("status"),
        long("compared"),
        long("mismatched"),
        long("missing"),
        long("unexpected"),
        text("message"),
        moment("checked_at"),
        text("run_id"),
    ])
}

/// The columns of a table of the engine or the ledger that may not have been made yet.
pub(crate) fn known_schema(schema: &str, table: &str, breakdowns: &[String]) -> Option<SchemaRef> {
    match (schema, table) {
        ("component", "cell") => Some(component_schema(breakdowns)),
        ("result" | "published", "indicator_value") => Some(value_schema(breakdowns)),
        ("meta", "delivery") => Some(LedgerRow::schema()),
        ("meta", "run") => Some(run_schema()),
        ("meta", "indicator") => Some(indicator_schema()),
        ("meta", "calculation") => Some(calculation_schema()),
        ("meta", "reference") => Some(reference_schema()),
        ("meta", "check_result") => Some(check_schema()),
        _ => None,
    }
}

/// The tables that [`known_schema`] knows, with what one row is.
pub(crate) const KNOWN_TABLES: [(&str, &str, &str); 9] = [
    (
        "component",
        "cell",
        "one row per component, area, finest period, breakdown and delivery",
    ),
    (
        "result",
        "indicator_value",
        "one row per value before protection",
    ),
    (
        "published",
        "indicator_value",
        "one row per value after protection",
    ),
    (
        "meta",
        "delivery",
        "one row per accepted revision of each delivery",
    ),
    ("meta", "run", "one row per calculation"),
    ("meta", "indicator", "one row per output of each indicator"),
    (
        "meta",
        "calculation",
        "one row per indicator: what it was last computed from",
    ),
    (
        "meta",
        "reference",
        "one row per reference table: its file, digest and attribution",
    ),
    (
        "meta",
        "check_result",
        "one row per indicator: its last check",
    ),
];

/// Key and references of the tables that have them, in the words of [`crate::keys`]. The key of
/// values goes on with the breakdowns, which are null where a value is not broken down.
const KNOWN_KEYS: [(&str, &str, &str, &[&str]); 8] = [
    ("result", "indicator_value", VALUE_KEY, &VALUE_REFERENCES),
    ("published", "indicator_value", VALUE_KEY, &VALUE_REFERENCES),
    ("meta", "delivery", "delivery_id", &[]),
    ("meta", "run", "run_id", &[]),
    ("meta", "indicator", "id, output", &[]),
    (
        "meta",
        "calculation",
        "indicator",
        &["run_id -> meta.run(run_id)"],
    ),
    ("meta", "reference", "name", &[]),
    ("meta", "check_result", "indicator", &[]),
];

const VALUE_KEY: &str = "indicator, output, area_level, area, period_grain, period_start";

const VALUE_REFERENCES: [&str; 3] = [
    "indicator, output -> meta.indicator(id, output)",
    "period_grain, period_start -> reference.period(grain, period_start)",
    "run_id -> meta.run(run_id)",
];

/// What a table of the engine, of landing or of the ledger says about its rows. Which breakdowns it
/// has is told by its columns.
pub(crate) fn declared(schema: &str, table: &str, columns: &Schema) -> Declared {
    let breakdowns = &breakdowns_of(schema, table, columns);
    let mut declared = Declared::default();
    let known = KNOWN_KEYS
        .iter()
        .find(|(of, name, _, _)| (*of, *name) == (schema, table));
    if let Some((_, _, key, references)) = known {
        // A test reads every one of them.
        declared.key = parse_key(key).unwrap_or_default();
        declared.references = references
            .iter()
            .filter_map(|text| parse_reference(text, None).ok())
            .collect();
        if matches!(schema, "result" | "published") {
            declared.key.extend(breakdowns.iter().map(|name| KeyColumn {
                name: name.clone(),
                nullable: true,
            }));
        }
    }
    declared.comments = comments(schema, table, breakdowns);
    declared
}

/// The columns that a table of values or cells has beyond those of every warehouse.
fn breakdowns_of(schema: &str, table: &str, columns: &Schema) -> Vec<String> {
    let fixed = match (schema, table) {
        ("component", "cell") => component_schema(&[]),
        ("result" | "published", "indicator_value") => value_schema(&[]),
        _ => return Vec::new(),
    };
    let names = columns.fields().iter().map(|field| field.name());
    names
        .filter(|name| fixed.index_of(name).is_err())
        .cloned()
        .collect()
}

fn comments(schema: &str, table: &str, breakdowns: &[String]) -> BTreeMap<String, String> {
    let own = format!("{schema}.{table}");
    let mut comments: BTreeMap<String, String> = COLUMN_COMMENTS
        .iter()
        .filter(|(of, _, _)| match *of {
            "raw" | "reject" => *of == schema,
            "value" => matches!(schema, "result" | "published"),
            of => of == own,
        })
        .map(|(_, column, comment)| ((*column).to_owned(), (*comment).to_owned()))
        .collect();
    if matches!(schema, "result" | "published" | "component") {
        for name in breakdowns {
            let comment = format!(
                "breakdown by {}; null: all together",
                name.replace('_', " ")
            );
            comments.insert(name.clone(), comment);
        }
    }
    comments
}

/// What each column is: `raw` and `reject` stand for every table of the schema, `value` for both
/// tables of values.
const COLUMN_COMMENTS: &[(&str, &str, &str)] = &[
    (
        "raw",
        "county",
        "number of the organiser that delivered the row",
    ),
    (
        "raw",
        "period",
        "period of the delivery: yyyymm, or yyyy00 for a year",
    ),
    ("raw", "delivery_id", "the delivery that brought the row"),
    ("raw", "row_no", "number of the row in the delivered file"),
    (
        "reject",
        "county",
        "number of the organiser that delivered the row",
    ),
    (
        "reject",
        "period",
        "period of the delivery: yyyymm, or yyyy00 for a year",
    ),
    ("reject", "delivery_id", "the delivery that brought the row"),
    (
        "reject",
        "contract",
        "the contract that the row does not fit",
    ),
    (
        "reject",
        "row_no",
        "number of the row in the delivered file",
    ),
    ("reject", "rule", "the rule that the row breaks"),
    (
        "reject",
        "field",
        "the field that breaks it; null: the row as a whole",
    ),
    ("reject", "message", "what is wrong, without values"),
    ("value", "indicator", "id of the indicator"),
    ("value", "version", "version of its definition"),
    ("value", "output", "which number of the indicator this is"),
    (
        "value",
        "area_level",
        "municipality, county, collaboration_area or country",
    ),
    ("value", "area", "code of the area at its level"),
    (
        "value",
        "period_grain",
        "length of the period: month, quarter, year and so on",
    ),
    ("value", "period_start", "first day of the period"),
    ("value", "period", "name of the period, such as 2024Q1"),
    (
        "value",
        "value",
        "the value in its unit; null with a status that says why",
    ),
    ("value", "lower", "lower limit of the value"),
    ("value", "upper", "upper limit of the value"),
    ("value", "numerator", "what was counted or summed"),
    ("value", "denominator", "what it was divided by"),
    ("value", "unit", "unit of the value"),
    (
        "value",
        "obs_status",
        "A normal, E estimated, L not delivered, M cannot be computed",
    ),
    ("value", "conf_status", "F free, C hidden: too few persons"),
    (
        "value",
        "quality",
        "share of the rows that the value could use",
    ),
    ("value", "run_id", "the calculation that made the value"),
    ("value", "published_at", "when it was published"),
    ("component.cell", "indicator_no", "number of the indicator"),
    ("component.cell", "indicator", "id of the indicator"),
    ("component.cell", "component", "name of the component"),
    ("component.cell", "area", "code of the smallest area"),
    (
        "component.cell",
        "area_base",
        "what the code of the area is a code of",
    ),
    (
        "component.cell",
        "period_start",
        "first day of the finest period",
    ),
    ("component.cell", "age", "age in years, where it is kept"),
    (
        "component.cell",
        "delivery_id",
        "the delivery behind the cell",
    ),
    ("component.cell", "n", "count or sum of whole units"),
    ("component.cell", "persons", "the set of persons, coded"),
    ("component.cell", "hist", "the histogram of days, coded"),
    ("component.cell", "x", "sum of a measure"),
    ("meta.delivery", "delivery_id", "id of the delivery"),
    ("meta.delivery", "contract", "the contract it was judged by"),
    (
        "meta.delivery",
        "contract_version",
        "version of the contract",
    ),
    ("meta.delivery", "county_code", "code of the organiser"),
    ("meta.delivery", "county", "number of the organiser"),
    (
        "meta.delivery",
        "period",
        "period of the delivery: yyyymm, or yyyy00 for a year",
    ),
    (
        "meta.delivery",
        "covers_from",
        "first day that it speaks for",
    ),
    ("meta.delivery", "covers_to", "last day that it speaks for"),
    (
        "meta.delivery",
        "revision",
        "1 for the first, more for corrections",
    ),
    ("meta.delivery", "content_hash", "digest of the file"),
    ("meta.delivery", "file_name", "name of the file"),
    ("meta.delivery", "file_bytes", "size of the file"),
    ("meta.delivery", "received", "rows in the file"),
    ("meta.delivery", "accepted", "rows in the raw table"),
    (
        "meta.delivery",
        "quarantined",
        "rows set aside with reasons",
    ),
    (
        "meta.delivery",
        "control_sums",
        "sums of the amount columns, as JSON",
    ),
    (
        "meta.delivery",
        "key_version",
        "version of the pseudonym key",
    ),
    ("meta.delivery", "status", "accepted"),
    (
        "meta.delivery",
        "table_version",
        "version of the raw table that holds it",
    ),
    ("meta.delivery", "landed_at", "when it landed"),
    (
        "meta.delivery",
        "engine_version",
        "version of the program that landed it",
    ),
    (
        "meta.delivery",
        "findings",
        "warnings with rule and count, as JSON",
    ),
    ("meta.run", "run_id", "id of the calculation"),
    ("meta.run", "started_at", "when it began"),
    ("meta.run", "finished_at", "when it ended"),
    ("meta.run", "trigger", "what started it"),
    ("meta.run", "indicators", "the indicators it was asked for"),
    ("meta.run", "status", "how it ended"),
    ("meta.run", "engine_version", "version of the program"),
    (
        "meta.run",
        "table_versions",
        "version of each table that it read, as JSON",
    ),
    ("meta.indicator", "id", "id of the indicator"),
    ("meta.indicator", "version", "version of its definition"),
    ("meta.indicator", "kind", "kind of statistic"),
    ("meta.indicator", "title_fi", "title in Finnish"),
    ("meta.indicator", "title_sv", "title in Swedish"),
    ("meta.indicator", "title_en", "title in English"),
    (
        "meta.indicator",
        "output",
        "which number of the indicator this is",
    ),
    ("meta.indicator", "unit", "unit of its values"),
    (
        "meta.indicator",
        "mandate",
        "why it is followed: statutory, national or regional",
    ),
    (
        "meta.indicator",
        "status",
        "whether the definition is in use",
    ),
    (
        "meta.indicator",
        "levels",
        "levels of area it has values for",
    ),
    (
        "meta.indicator",
        "grains",
        "lengths of period it has values for",
    ),
    ("meta.calculation", "indicator", "id of the indicator"),
    (
        "meta.calculation",
        "number",
        "number of the indicator in stored tables",
    ),
    ("meta.calculation", "version", "version of its definition"),
    (
        "meta.calculation",
        "fingerprint",
        "digest of everything it was computed from",
    ),
    (
        "meta.calculation",
        "run_id",
        "the calculation that computed it last",
    ),
    ("meta.calculation", "calculated_at", "when it was computed"),
    (
        "meta.calculation",
        "component_rows",
        "cells of its components",
    ),
    ("meta.calculation", "value_rows", "its values"),
    (
        "meta.calculation",
        "suppressed",
        "values that protection hides",
    ),
    ("meta.calculation", "seconds", "time it took"),
    (
        "meta.calculation",
        "component_digests",
        "digest of each component's query, as JSON",
    ),
    (
        "meta.calculation",
        "component_slices",
        "mark of each slice that was read, as JSON",
    ),
    (
        "meta.calculation",
        "component_files",
        "files that the cells lie in, as JSON",
    ),
    ("meta.reference", "name", "name of the reference table"),
    (
        "meta.reference",
        "kind",
        "whether a file or a query fills it",
    ),
    ("meta.reference", "file", "the file"),
    ("meta.reference", "digest", "digest of what fills it"),
    ("meta.reference", "rows", "rows in the table"),
    ("meta.reference", "comment", "what one row is"),
    ("meta.reference", "source", "who published it"),
    ("meta.reference", "licence", "licence of the data"),
    ("meta.reference", "attribution", "how to name the source"),
    ("meta.reference", "loaded_at", "when it was loaded"),
    (
        "meta.reference",
        "engine_version",
        "version of the program that loaded it",
    ),
    ("meta.check_result", "indicator", "id of the indicator"),
    (
        "meta.check_result",
        "status",
        "whether the check query agrees",
    ),
    ("meta.check_result", "compared", "values compared"),
    ("meta.check_result", "mismatched", "values that differ"),
    (
        "meta.check_result",
        "missing",
        "values that only the check query has",
    ),
    (
        "meta.check_result",
        "unexpected",
        "values that only the definition has",
    ),
    ("meta.check_result", "message", "what went wrong"),
    ("meta.check_result", "checked_at", "when it was checked"),
    (
        "meta.check_result",
        "run_id",
        "the calculation that was checked",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_table_has_columns() {
        for (schema, table, comment) in KNOWN_TABLES {
            assert!(
                known_schema(schema, table, &[]).is_some(),
                "{schema}.{table}"
            );
            assert!(!comment.is_empty());
        }
        assert!(known_schema("meta", "nothing", &[]).is_none());
    }

    #[test]
    fn every_column_of_a_known_table_has_a_comment_and_every_key_can_be_read() {
        let breakdowns = ["sex".to_owned()];
        for (schema, table, _) in KNOWN_TABLES {
            let columns = known_schema(schema, table, &breakdowns).unwrap();
            let declared = declared(schema, table, &columns);
            let shown = columns
                .fields()
                .iter()
                .map(|field| field.name().as_str())
                .filter(|name| schema == "component" || *name != INDICATOR_NO);
            for column in shown {
                assert!(
                    declared.comments.contains_key(column),
                    "{schema}.{table}.{column}"
                );
            }
            assert_eq!(declared.key.is_empty(), schema == "component", "{table}");
            for column in &declared.key {
                assert!(columns.index_of(&column.name).is_ok(), "{table}");
            }
        }
        for (_, table, _, references) in KNOWN_KEYS {
            for text in references {
                assert!(parse_reference(text, None).is_ok(), "{table}: {text}");
            }
        }
        let other = Schema::empty();
        assert_eq!(declared("reject", "x", &other).comments.len(), 8);
        assert_eq!(declared("raw", "x", &other).comments.len(), 4);
        let values = value_schema(&breakdowns);
        let key = declared("published", "indicator_value", &values).key;
        assert_eq!((key.len(), key[6].nullable), (7, true));
    }

    #[test]
    fn a_raw_table_has_the_landing_columns_once() {
        let contract = Schema::new(vec![text("unit_code"), long("row_no")]);
        let raw = raw_schema(&contract);
        let names: Vec<&str> = raw
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        assert_eq!(
            names,
            ["county", "period", "delivery_id", "unit_code", "row_no"]
        );
    }

    #[test]
    fn breakdowns_stand_between_key_and_values() {
        let breakdowns = ["age_group".to_owned(), "sex".to_owned()];
        let values = value_schema(&breakdowns);
        assert_eq!(values.index_of("age_group").ok(), Some(9));
        assert_eq!(values.index_of("value").ok(), Some(11));
        assert!(component_schema(&breakdowns).index_of("sex").is_ok());
    }
}
