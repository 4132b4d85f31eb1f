//! The tables that the engine itself keeps: their names, columns and partitions, in one place.
//!
//! Raw and reject tables belong to landing, `meta.delivery` to the lake's ledger; their columns are
//! here only so far as a reader must see an empty table before anything has landed. To add a table:
//! a name, its columns, and a line in [`known_schema`]; then policy decides who sees it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tietopohja_lake::{LedgerRow, TableName};

use crate::error::{EngineError, Result};

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
