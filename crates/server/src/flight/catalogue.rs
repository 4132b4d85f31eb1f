//! Answers about catalogs, schemas, tables and keys.
//!
//! Everything is computed from one list of the tables that the caller may name: what policy hides
//! is absent here as it is in SQL, a key to a hidden table included. Schemas of the answers are those
//! of the Flight SQL library where it has a builder, and the protocol's own for keys.

use std::cmp::Reverse;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray, UInt8Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::error::Result;
use arrow_flight::sql::metadata::{GetCatalogsBuilder, GetDbSchemasBuilder, GetTablesBuilder};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys,
    CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetTableTypes, CommandGetTables,
    UpdateDeleteRules,
};
use tietopohja_engine::{CATALOG, ForeignKey, TableInfo, TableKind};

use super::like;
use super::session::TableWord;
use super::sql_type::described;

/// Tables that one message describes.
const TABLES_A_BATCH: usize = 200;

/// The catalogs: there is one.
pub(crate) fn catalogs(_: CommandGetCatalogs) -> Result<RecordBatch> {
    let mut builder = GetCatalogsBuilder::new();
    builder.append(CATALOG);
    builder.build()
}

/// The schemas that have at least one table for the caller.
pub(crate) fn schemas(command: &CommandGetDbSchemas, tables: &[TableInfo]) -> Result<RecordBatch> {
    // The builder would read the pattern without its escapes: the filtering is done here.
    let mut builder = GetDbSchemasBuilder::new(None::<String>, None::<String>);
    let mut last = None;
    for table in tables {
        if last != Some(&table.schema)
            && catalog_fits(command.catalog.as_deref())
            && pattern_fits(command.db_schema_filter_pattern.as_deref(), &table.schema)
        {
            builder.append(CATALOG, &table.schema);
        }
        last = Some(&table.schema);
    }
    builder.build()
}

/// The kinds of table, with the word that the client wants for tables that hold rows.
pub(crate) fn table_types(command: CommandGetTableTypes, word: TableWord) -> Result<RecordBatch> {
    let mut builder = command.into_builder();
    for kind in [TableKind::Table, TableKind::View, TableKind::System] {
        builder.append(kind_word(kind, word));
    }
    builder.build()
}

/// The schema of the answer to `GetTables`: it depends on `include_schema` alone.
pub(crate) fn tables_schema(command: &CommandGetTables) -> SchemaRef {
    tables_builder(command).schema()
}

/// The tables that fit, in batches. Those whose name is exactly the pattern come first, in a batch
/// of their own, because a client that asks for one table reads the first batch only, and sends the
/// name without escaping its underscores.
pub(crate) fn tables(
    command: &CommandGetTables,
    all: &[TableInfo],
    word: TableWord,
) -> Result<Vec<RecordBatch>> {
    let pattern = command.table_name_filter_pattern.as_deref();
    let exact = |table: &TableInfo| pattern.is_some_and(|p| like::is_exactly(&table.name, p));
    let mut fitting: Vec<&TableInfo> = all
        .iter()
        .filter(|table| {
            catalog_fits(command.catalog.as_deref())
                && pattern_fits(command.db_schema_filter_pattern.as_deref(), &table.schema)
                && pattern_fits(pattern, &table.name)
                && kind_fits(&command.table_types, table.kind)
        })
        .collect();
    fitting.sort_by_key(|table| (Reverse(exact(table)), &table.schema, &table.name));
    let (first, rest) = fitting.split_at(fitting.partition_point(|table| exact(table)));
    let batches = [first].into_iter().chain(rest.chunks(TABLES_A_BATCH));
    batches
        .filter(|tables| !tables.is_empty())
        .map(|tables| {
            let mut builder = tables_builder(command);
            for table in tables {
                let (schema, kind) = (described(table), kind_word(table.kind, word));
                builder.append(CATALOG, &table.schema, &table.name, kind, &schema)?;
            }
            builder.build()
        })
        .collect()
}

fn tables_builder(command: &CommandGetTables) -> GetTablesBuilder {
    let none = None::<String>;
    GetTablesBuilder::new(
        none.clone(),
        none.clone(),
        none,
        [""; 0],
        command.include_schema,
    )
}

/// No catalog asked means any; an empty one means tables without a catalog, and there are none.
fn catalog_fits(asked: Option<&str>) -> bool {
    asked.is_none_or(|asked| asked == CATALOG)
}

fn pattern_fits(pattern: Option<&str>, name: &str) -> bool {
    pattern.is_none_or(|pattern| like::matches(name, pattern))
}

fn kind_word(kind: TableKind, word: TableWord) -> &'static str {
    match kind {
        TableKind::Table => word.as_str(),
        TableKind::View | TableKind::System => kind.as_str(),
    }
}

/// Tools disagree on the word for a table, and on its case.
fn kind_fits(asked: &[String], kind: TableKind) -> bool {
    asked.is_empty()
        || asked.iter().any(|asked| {
            asked.eq_ignore_ascii_case(kind.as_str())
                || (kind == TableKind::Table && asked.eq_ignore_ascii_case("BASE TABLE"))
        })
}

/// Columns of the answer about primary keys.
pub(crate) static PRIMARY_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
});

/// Columns of the answers about exported, imported and cross-referenced keys.
pub(crate) static FOREIGN_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
});

/// A table as a request about keys names it: exactly, not by a pattern.
#[derive(Clone, Copy)]
struct Named<'a> {
    catalog: Option<&'a str>,
    schema: Option<&'a str>,
    table: &'a str,
}

impl Named<'_> {
    fn is(&self, schema: &str, table: &str) -> bool {
        catalog_fits(self.catalog)
            && self.schema.is_none_or(|asked| asked == schema)
            && self.table == table
    }
}

/// The primary key of a table: keys with columns that may be null are none.
pub(crate) fn primary_keys(
    command: &CommandGetPrimaryKeys,
    tables: &[TableInfo],
) -> Result<RecordBatch> {
    let named = Named {
        catalog: command.catalog.as_deref(),
        schema: command.db_schema.as_deref(),
        table: &command.table,
    };
    let mut rows = Vec::new();
    for table in tables {
        let own = table.keys.own.iter().filter(|key| key.primary);
        for key in own.filter(|_| named.is(&table.schema, &table.name)) {
            for (column, at) in key.columns.iter().zip(1..) {
                rows.push((table, column, &key.name, at));
            }
        }
    }
    let text = |of: fn(&(&TableInfo, &String, &String, i32)) -> String| {
        Arc::new(StringArray::from_iter_values(rows.iter().map(of))) as ArrayRef
    };
    let columns = vec![
        text(|_| CATALOG.to_owned()),
        text(|(table, ..)| table.schema.clone()),
        text(|(table, ..)| table.name.clone()),
        text(|(_, column, ..)| (*column).clone()),
        text(|(_, _, name, _)| (*name).clone()),
        Arc::new(Int32Array::from_iter_values(
            rows.iter().map(|(_, _, _, at)| *at),
        )),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&PRIMARY_KEYS), columns)?)
}

/// The foreign keys of other tables that refer to a table.
pub(crate) fn exported_keys(
    command: &CommandGetExportedKeys,
    tables: &[TableInfo],
) -> Result<RecordBatch> {
    let named = Named {
        catalog: command.catalog.as_deref(),
        schema: command.db_schema.as_deref(),
        table: &command.table,
    };
    let mut found = foreign_keys(tables, |_, key| named.is(&key.schema, &key.table));
    found.sort_by(|(a, x), (b, y)| {
        (&a.schema, &a.name, &x.name).cmp(&(&b.schema, &b.name, &y.name))
    });
    foreign_rows(&found)
}

/// The foreign keys of a table.
pub(crate) fn imported_keys(
    command: &CommandGetImportedKeys,
    tables: &[TableInfo],
) -> Result<RecordBatch> {
    let named = Named {
        catalog: command.catalog.as_deref(),
        schema: command.db_schema.as_deref(),
        table: &command.table,
    };
    let mut found = foreign_keys(tables, |table, _| named.is(&table.schema, &table.name));
    found.sort_by(by_referred);
    foreign_rows(&found)
}

/// The foreign keys of one table that refer to another.
pub(crate) fn cross_reference(
    command: &CommandGetCrossReference,
    tables: &[TableInfo],
) -> Result<RecordBatch> {
    let referred = Named {
        catalog: command.pk_catalog.as_deref(),
        schema: command.pk_db_schema.as_deref(),
        table: &command.pk_table,
    };
    let referring = Named {
        catalog: command.fk_catalog.as_deref(),
        schema: command.fk_db_schema.as_deref(),
        table: &command.fk_table,
    };
    let mut found = foreign_keys(tables, |table, key| {
        referred.is(&key.schema, &key.table) && referring.is(&table.schema, &table.name)
    });
    found.sort_by(by_referred);
    foreign_rows(&found)
}

type Referring<'a> = (&'a TableInfo, &'a ForeignKey);

fn foreign_keys(
    tables: &[TableInfo],
    wanted: impl Fn(&TableInfo, &ForeignKey) -> bool,
) -> Vec<Referring<'_>> {
    let all = tables
        .iter()
        .flat_map(|table| table.keys.foreign.iter().map(move |key| (table, key)));
    all.filter(|(table, key)| wanted(table, key)).collect()
}

fn by_referred((a, x): &Referring<'_>, (b, y): &Referring<'_>) -> std::cmp::Ordering {
    let order = |table: &TableInfo, key: &ForeignKey| {
        let referred = (key.schema.clone(), key.table.clone());
        (
            referred,
            table.schema.clone(),
            table.name.clone(),
            key.name.clone(),
        )
    };
    order(a, x).cmp(&order(b, y))
}

fn foreign_rows(found: &[Referring<'_>]) -> Result<RecordBatch> {
    let mut rows = Vec::new();
    for (table, key) in found {
        for ((own, other), at) in key.columns.iter().zip(&key.key_columns).zip(1..) {
            rows.push((*table, *key, own, other, at));
        }
    }
    type Row<'a> = (&'a TableInfo, &'a ForeignKey, &'a String, &'a String, i32);
    let text = |of: fn(&Row<'_>) -> String| {
        Arc::new(StringArray::from_iter_values(rows.iter().map(of))) as ArrayRef
    };
    // Nothing changes rows here, so no rule ever applies.
    let rule = UpdateDeleteRules::NoAction as u8;
    let rules = Arc::new(UInt8Array::from_iter_values(rows.iter().map(|_| rule))) as ArrayRef;
    let columns = vec![
        text(|_| CATALOG.to_owned()),
        text(|(_, key, ..)| key.schema.clone()),
        text(|(_, key, ..)| key.table.clone()),
        text(|(_, _, _, other, _)| (*other).clone()),
        text(|_| CATALOG.to_owned()),
        text(|(table, ..)| table.schema.clone()),
        text(|(table, ..)| table.name.clone()),
        text(|(_, _, own, ..)| (*own).clone()),
        Arc::new(Int32Array::from_iter_values(
            rows.iter().map(|(.., at)| *at),
        )),
        text(|(_, key, ..)| key.name.clone()),
        text(|(_, key, ..)| key.key_name.clone()),
        Arc::clone(&rules),
        rules,
    ];
    Ok(RecordBatch::try_new(Arc::clone(&FOREIGN_KEYS), columns)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::AsArray;
    use arrow_flight::IpcMessage;
    use bytes::Bytes;
    use tietopohja_engine::Keys;

    use super::*;

    fn table(schema: &str, name: &str, kind: TableKind) -> TableInfo {
        TableInfo {
            schema: schema.to_owned(),
            name: name.to_owned(),
            kind,
            columns: Arc::new(Schema::new(vec![Field::new(
                "value",
                DataType::Float64,
                true,
            )])),
            comment: None,
            column_comments: BTreeMap::new(),
            keys: Keys::default(),
            definition: None,
        }
    }

    fn warehouse() -> Vec<TableInfo> {
        vec![
            table("published", "indicator_value", TableKind::View),
            table("reference", "county", TableKind::Table),
            table("reference", "countyXcode", TableKind::Table),
            table("reference", "county_code", TableKind::Table),
            table("result", "indicator_value", TableKind::View),
            table("information_schema", "tables", TableKind::System),
        ]
    }

    fn names(batches: &[RecordBatch]) -> Vec<String> {
        let column = |batch: &RecordBatch, at: usize, row: usize| {
            batch.column(at).as_string::<i32>().value(row).to_owned()
        };
        batches
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)))
            .map(|(batch, row)| format!("{}.{}", column(batch, 1, row), column(batch, 2, row)))
            .collect()
    }

    fn check(change: impl FnOnce(&mut CommandGetTables), wanted: &[&str]) {
        let mut command = CommandGetTables::default();
        change(&mut command);
        let batches = tables(&command, &warehouse(), TableWord::Table).unwrap();
        assert_eq!(names(&batches), wanted, "{command:?}");
    }

    #[test]
    fn tables_are_filtered_by_every_part_of_the_request() {
        let all = [
            "information_schema.tables",
            "published.indicator_value",
            "reference.county",
            "reference.countyXcode",
            "reference.county_code",
            "result.indicator_value",
        ];
        check(|_| (), &all);
        check(|c| c.catalog = Some(CATALOG.into()), &all);
        check(|c| c.catalog = Some(String::new()), &[]);
        check(|c| c.catalog = Some("other".into()), &[]);
        check(
            |c| c.db_schema_filter_pattern = Some("res%".into()),
            &["result.indicator_value"],
        );
        check(
            |c| c.table_name_filter_pattern = Some("indicator%".into()),
            &["published.indicator_value", "result.indicator_value"],
        );
        check(
            |c| c.table_name_filter_pattern = Some("county\\_code".into()),
            &["reference.county_code"],
        );
        check(
            |c| c.table_types = vec!["SYSTEM TABLE".into()],
            &["information_schema.tables"],
        );
    }

    #[test]
    fn the_exact_name_comes_first_and_alone() {
        let command = CommandGetTables {
            table_name_filter_pattern: Some("county_code".into()),
            ..CommandGetTables::default()
        };
        let batches = tables(&command, &warehouse(), TableWord::Table).unwrap();
        assert_eq!(
            names(&batches),
            ["reference.county_code", "reference.countyXcode"]
        );
        assert_eq!(batches[0].num_rows(), 1);
    }

    #[test]
    fn table_and_base_table_mean_the_same() {
        for word in ["TABLE", "BASE TABLE", "table", "Base Table"] {
            check(
                |c| c.table_types = vec![word.into()],
                &[
                    "reference.county",
                    "reference.countyXcode",
                    "reference.county_code",
                ],
            );
        }
        check(
            |c| c.table_types = vec!["VIEW".into(), "BASE TABLE".into()],
            &[
                "published.indicator_value",
                "reference.county",
                "reference.countyXcode",
                "reference.county_code",
                "result.indicator_value",
            ],
        );
        check(|c| c.table_types = vec!["ALIAS".into()], &[]);
    }

    #[test]
    fn the_schema_of_the_answer_depends_on_include_schema_alone() {
        for (include_schema, columns) in [(false, 4), (true, 5)] {
            let command = CommandGetTables {
                include_schema,
                ..CommandGetTables::default()
            };
            assert_eq!(tables_schema(&command).fields().len(), columns);
            for batch in tables(&command, &warehouse(), TableWord::Table).unwrap() {
                assert_eq!(batch.schema(), tables_schema(&command));
            }
        }
    }

    #[test]
    fn a_table_schema_is_an_encapsulated_message() {
        let command = CommandGetTables {
            include_schema: true,
            ..CommandGetTables::default()
        };
        let batches = tables(&command, &warehouse(), TableWord::Table).unwrap();
        let bytes = batches[0].column(4).as_binary::<i32>().value(0);
        assert_eq!(&bytes[..4], [0xFF; 4], "the continuation marker");
        let schema = Schema::try_from(IpcMessage(Bytes::copy_from_slice(bytes))).unwrap();
        assert_eq!(schema.field(0).name(), "value");
        assert_eq!(
            schema.field(0).metadata()["ARROW:FLIGHT:SQL:TYPE_NAME"],
            "DOUBLE"
        );
    }

    #[test]
    fn schemas_are_listed_once_and_filtered() {
        let list = |catalog: Option<&str>, pattern: Option<&str>| {
            let command = CommandGetDbSchemas {
                catalog: catalog.map(str::to_owned),
                db_schema_filter_pattern: pattern.map(str::to_owned),
            };
            let batch = schemas(&command, &warehouse()).unwrap();
            let names = batch.column(1).as_string::<i32>();
            names
                .iter()
                .flatten()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let all = ["information_schema", "published", "reference", "result"];
        assert_eq!(list(None, None), all);
        assert_eq!(list(Some(CATALOG), Some("%")), all);
        assert_eq!(list(None, Some("re%")), ["reference", "result"]);
        assert!(list(Some("other"), None).is_empty());
    }
}
