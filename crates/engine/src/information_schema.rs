//! `information_schema`: the list of what a principal can name, as tables.
//!
//! The words and columns are those of the SQL standard: types by their SQL names, positions from 1,
//! `YES` and `NO`. The rows are made from the same list as the answers of Flight SQL, already cut
//! for the principal. Settings and functions are the query engine's own tables. To add a table: its
//! columns in [`columns_of`], its rows in [`rows_of`], its name in [`NAMES`].

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::view::ViewTable;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{LogicalPlanBuilder, col, lit};
use tietopohja_policy::{INFORMATION_SCHEMA, WORKSPACE};

use crate::CATALOG;
use crate::catalog::{OneCatalog, PrincipalCatalog};
use crate::error::{EngineError, Result};
use crate::keys::Keys;
use crate::plain::plain_schema;
use crate::session::{TableInfo, TableKind};
use crate::sql_type::SqlType;

/// The tables, in name order.
const NAMES: [&str; 10] = [
    "columns",
    "df_settings",
    "key_column_usage",
    "parameters",
    "referential_constraints",
    "routines",
    "schemata",
    "table_constraints",
    "tables",
    "views",
];

/// `information_schema` over a principal's catalog.
#[derive(Debug)]
pub(crate) struct InformationSchema {
    catalog: Arc<PrincipalCatalog>,
}

impl InformationSchema {
    pub(crate) fn new(catalog: Arc<PrincipalCatalog>) -> Self {
        Self { catalog }
    }
}

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        NAMES.map(str::to_owned).into()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let name = name.to_ascii_lowercase();
        if !NAMES.contains(&name.as_str()) {
            return Ok(None);
        }
        let Some(columns) = columns_of(&name) else {
            return of_the_query_engine(&name).await;
        };
        let tables = Box::pin(self.catalog.listed()).await?;
        let rows = rows_of(&name, &tables, &columns)?;
        Ok(Some(Arc::new(MemTable::try_new(
            columns,
            vec![vec![rows]],
        )?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        NAMES.contains(&name.to_ascii_lowercase().as_str())
    }
}

/// The tables of this schema as the list of tables shows them.
pub(crate) async fn tables() -> Result<Vec<TableInfo>> {
    let mut tables = Vec::new();
    for name in NAMES {
        let columns = match columns_of(name) {
            Some(columns) => Some(columns),
            None => {
                let table = of_the_query_engine(name).await?;
                table.map(|table| plain_schema(&table.schema()))
            }
        };
        tables.extend(columns.map(|columns| TableInfo {
            schema: INFORMATION_SCHEMA.to_owned(),
            name: name.to_owned(),
            kind: TableKind::System,
            columns,
            comment: comment_of(name).map(str::to_owned),
            column_comments: BTreeMap::new(),
            keys: Keys::default(),
            definition: None,
        }));
    }
    Ok(tables)
}

fn comment_of(name: &str) -> Option<&'static str> {
    Some(match name {
        "columns" => "one row per column of each table that you can name",
        "df_settings" => "one row per setting of the query engine",
        "key_column_usage" => "one row per column of each key and foreign key",
        "parameters" => "one row per parameter of each function",
        "referential_constraints" => "one row per foreign key",
        "routines" => "one row per function",
        "schemata" => "one row per schema in which you can name a table",
        "table_constraints" => "one row per key and foreign key; nothing enforces them",
        "tables" => "one row per table that you can name",
        "views" => "one row per view that you can name",
        _ => return None,
    })
}

/// Columns of the tables that are made here.
fn columns_of(name: &str) -> Option<SchemaRef> {
    let (texts, numbers): (&[&str], &[&str]) = match name {
        "columns" => (
            &[
                "table_catalog",
                "table_schema",
                "table_name",
                "column_name",
                "ordinal_position",
                "column_default?",
                "is_nullable",
                "data_type",
                "character_maximum_length?",
                "character_octet_length?",
                "numeric_precision?",
                "numeric_precision_radix?",
                "numeric_scale?",
                "datetime_precision?",
                "interval_type?",
                "is_updatable",
                "column_comment?",
            ],
            &[
                "ordinal_position",
                "character_maximum_length",
                "character_octet_length",
                "numeric_precision",
                "numeric_precision_radix",
                "numeric_scale",
                "datetime_precision",
            ],
        ),
        "key_column_usage" => (
            &[
                "constraint_catalog",
                "constraint_schema",
                "constraint_name",
                "table_catalog",
                "table_schema",
                "table_name",
                "column_name",
                "ordinal_position",
                "position_in_unique_constraint?",
            ],
            &["ordinal_position", "position_in_unique_constraint"],
        ),
        "referential_constraints" => (
            &[
                "constraint_catalog",
                "constraint_schema",
                "constraint_name",
                "unique_constraint_catalog",
                "unique_constraint_schema",
                "unique_constraint_name",
                "match_option",
                "update_rule",
                "delete_rule",
            ],
            &[],
        ),
        "schemata" => (
            &[
                "catalog_name",
                "schema_name",
                "schema_owner?",
                "default_character_set_catalog?",
                "default_character_set_schema?",
                "default_character_set_name?",
                "sql_path?",
            ],
            &[],
        ),
        "table_constraints" => (
            &[
                "constraint_catalog",
                "constraint_schema",
                "constraint_name",
                "table_catalog",
                "table_schema",
                "table_name",
                "constraint_type",
                "is_deferrable",
                "initially_deferred",
                "enforced",
            ],
            &[],
        ),
        "tables" => (
            &[
                "table_catalog",
                "table_schema",
                "table_name",
                "table_type",
                "is_insertable_into",
                "table_comment?",
            ],
            &[],
        ),
        "views" => (
            &[
                "table_catalog",
                "table_schema",
                "table_name",
                "view_definition?",
                "check_option",
                "is_updatable",
                "is_insertable_into",
            ],
            &[],
        ),
        _ => return None,
    };
    let fields = texts.iter().map(|written| {
        let name = written.trim_end_matches('?');
        let data_type = if numbers.contains(&name) {
            DataType::Int32
        } else {
            DataType::Utf8
        };
        Field::new(name, data_type, written.ends_with('?'))
    });
    Some(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// One cell.
enum Cell {
    Text(String),
    Number(i32),
    Null,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(text.to_owned())
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        Cell::Text(text.clone())
    }
}

impl From<i32> for Cell {
    fn from(number: i32) -> Self {
        Cell::Number(number)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Cell::Null, Into::into)
    }
}

fn rows_of(name: &str, tables: &[TableInfo], columns: &SchemaRef) -> Result<RecordBatch> {
    let rows = match name {
        "columns" => tables.iter().flat_map(column_rows).collect(),
        "key_column_usage" => tables.iter().flat_map(usage_rows).collect(),
        "referential_constraints" => tables.iter().flat_map(referential_rows).collect(),
        "schemata" => schema_rows(tables),
        "table_constraints" => tables.iter().flat_map(constraint_rows).collect(),
        "views" => tables
            .iter()
            .filter(|table| table.kind == TableKind::View)
            .map(view_row)
            .collect(),
        _ => tables.iter().map(table_row).collect(),
    };
    let arrays = columns.fields().iter().enumerate().map(|(at, field)| {
        let cells = rows.iter().map(|row: &Vec<Cell>| row.get(at));
        match field.data_type() {
            DataType::Int32 => Arc::new(Int32Array::from_iter(cells.map(|cell| match cell {
                Some(Cell::Number(number)) => Some(*number),
                _ => None,
            }))) as ArrayRef,
            _ => Arc::new(StringArray::from_iter(cells.map(|cell| match cell {
                Some(Cell::Text(text)) => Some(text.as_str()),
                _ => None,
            }))),
        }
    });
    RecordBatch::try_new(Arc::clone(columns), arrays.collect())
        .map_err(|error| EngineError::internal_because(format!("rows of `{name}`"), error))
}

fn place(table: &TableInfo) -> Vec<Cell> {
    vec![CATALOG.into(), (&table.schema).into(), (&table.name).into()]
}

fn constraint(schema: &str, name: &str) -> Vec<Cell> {
    vec![CATALOG.into(), schema.into(), name.into()]
}

fn table_row(table: &TableInfo) -> Vec<Cell> {
    let kind = match table.kind {
        TableKind::Table => "BASE TABLE",
        TableKind::View | TableKind::System => "VIEW",
    };
    let mut row = place(table);
    let changes = changes(table).into();
    row.extend([kind.into(), changes, table.comment.as_ref().into()]);
    row
}

/// Whether statements change the rows of a table.
fn changes(table: &TableInfo) -> &'static str {
    match table.schema.as_str() {
        WORKSPACE => "YES",
        _ => "NO",
    }
}

fn view_row(table: &TableInfo) -> Vec<Cell> {
    let mut row = place(table);
    row.extend([
        table.definition.as_ref().into(),
        "NONE".into(),
        "NO".into(),
        "NO".into(),
    ]);
    row
}

fn schema_rows(tables: &[TableInfo]) -> Vec<Vec<Cell>> {
    let mut names: Vec<&String> = tables.iter().map(|table| &table.schema).collect();
    names.dedup();
    let row = |name: &String| vec![CATALOG.into(), name.into()];
    names.into_iter().map(row).collect()
}

fn column_rows(table: &TableInfo) -> Vec<Vec<Cell>> {
    let fields = table.columns.fields().iter().zip(1..);
    let row = |(field, position): (&Arc<Field>, i32)| {
        let sql = SqlType::of(field.data_type());
        let numeric = sql.numeric();
        let mut row = place(table);
        row.extend([
            field.name().into(),
            position.into(),
            Cell::Null,
            if field.is_nullable() { "YES" } else { "NO" }.into(),
            sql.name.into(),
            // A text has no longest length.
            Cell::Null,
            Cell::Null,
            numeric.map(|(digits, _, _)| digits).into(),
            numeric.map(|(_, radix, _)| radix).into(),
            numeric.and_then(|(_, _, scale)| scale).into(),
            sql.datetime().into(),
            Cell::Null,
            changes(table).into(),
            table.column_comments.get(field.name()).into(),
        ]);
        row
    };
    fields.map(row).collect()
}

fn constraint_rows(table: &TableInfo) -> Vec<Vec<Cell>> {
    let own = table.keys.own.iter().map(|key| {
        let kind = if key.primary { "PRIMARY KEY" } else { "UNIQUE" };
        (&key.name, kind)
    });
    let foreign = table.keys.foreign.iter();
    let foreign = foreign.map(|key| (&key.name, "FOREIGN KEY"));
    let row = |(name, kind): (&String, &str)| {
        let mut row = constraint(&table.schema, name);
        row.extend(place(table));
        row.extend([kind.into(), "NO".into(), "NO".into(), "NO".into()]);
        row
    };
    own.chain(foreign).map(row).collect()
}

fn usage_rows(table: &TableInfo) -> Vec<Vec<Cell>> {
    let row = |name: &String, column: &String, position: i32, foreign: bool| {
        let mut row = constraint(&table.schema, name);
        row.extend(place(table));
        // The columns of a foreign key are in the order of the key that they refer to.
        let other = if foreign { position.into() } else { Cell::Null };
        row.extend([column.into(), position.into(), other]);
        row
    };
    let mut rows = Vec::new();
    if let Some(key) = &table.keys.own {
        rows.extend(
            key.columns
                .iter()
                .zip(1..)
                .map(|(column, position)| row(&key.name, column, position, false)),
        );
    }
    for key in &table.keys.foreign {
        rows.extend(
            key.columns
                .iter()
                .zip(1..)
                .map(|(column, position)| row(&key.name, column, position, true)),
        );
    }
    rows
}

fn referential_rows(table: &TableInfo) -> Vec<Vec<Cell>> {
    let foreign = table.keys.foreign.iter();
    foreign
        .map(|key| {
            let mut row = constraint(&table.schema, &key.name);
            row.extend(constraint(&key.schema, &key.key_name));
            row.extend(["NONE".into(), "NO ACTION".into(), "NO ACTION".into()]);
            row
        })
        .collect()
}

/// Settings and functions, which say nothing about tables.
async fn of_the_query_engine(
    name: &str,
) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
    let catalogs = OneCatalog::new(Arc::new(NoSchemas));
    let provider = InformationSchemaProvider::new(Arc::new(catalogs));
    match provider.table(name).await? {
        Some(table) if name == "df_settings" => Ok(Some(without_machine_settings(table)?)),
        other => Ok(other),
    }
}

/// Folders and sizes of this machine are nobody's business but the administrator's, who has the
/// configuration file.
fn without_machine_settings(table: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
    let plan = LogicalPlanBuilder::scan(
        "information_schema.df_settings",
        provider_as_source(table),
        None,
    )?
    .filter(col("name").not_like(lit("datafusion.runtime.%")))?
    .build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// A catalog in which there is nothing.
#[derive(Debug)]
struct NoSchemas;

impl CatalogProvider for NoSchemas {
    fn schema_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn schema(&self, _name: &str) -> Option<Arc<dyn SchemaProvider>> {
        None
    }
}
