//! Types as tools read them: the column metadata of `GetTables`, and `GetXdbcTypeInfo`.
//!
//! The names and sizes of types are the engine's [`SqlType`], so that they agree with
//! `information_schema`. To add a type that SQL text can name: a line in [`type_info`].

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::error::Result;
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode};
use tietopohja_engine::{CATALOG, SqlType, TableInfo};

use super::wire::wire_type;

/// The schema of a table with what tools need to know of each column.
///
/// Comments are here and nowhere else: in the schema of a result, tools would read the comment of a
/// column as its label. That of the table is in the schema's own metadata.
pub(crate) fn described(table: &TableInfo) -> Schema {
    let fields: Vec<Field> = table
        .columns
        .fields()
        .iter()
        .map(|field| {
            let metadata = column_metadata(table, field);
            // The type its rows will come in; whether it may be null is what the table says.
            Field::new(
                field.name(),
                wire_type(field.data_type()),
                field.is_nullable(),
            )
            .with_metadata(metadata)
        })
        .collect();
    let remarks = table.comment.iter();
    let metadata = remarks.map(|text| ("ARROW:FLIGHT:SQL:REMARKS".to_owned(), text.clone()));
    Schema::new(fields).with_metadata(metadata.collect())
}

fn column_metadata(table: &TableInfo, field: &Arc<Field>) -> HashMap<String, String> {
    let sql = SqlType::of(field.data_type());
    let text = matches!(
        field.data_type(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    );
    let mut entries = vec![
        ("CATALOG_NAME", CATALOG.to_owned()),
        ("DB_SCHEMA_NAME", table.schema.clone()),
        ("TABLE_NAME", table.name.clone()),
        ("TYPE_NAME", sql.name.to_owned()),
        ("IS_AUTO_INCREMENT", "0".to_owned()),
        ("IS_CASE_SENSITIVE", flag(text)),
        ("IS_READ_ONLY", "1".to_owned()),
        ("IS_SEARCHABLE", "1".to_owned()),
    ];
    entries.extend(
        sql.precision
            .map(|precision| ("PRECISION", precision.to_string())),
    );
    entries.extend(sql.scale.map(|scale| ("SCALE", scale.to_string())));
    let comment = table.column_comments.get(field.name());
    entries.extend(comment.map(|comment| ("REMARKS", comment.clone())));
    entries
        .into_iter()
        .map(|(key, value)| (format!("ARROW:FLIGHT:SQL:{key}"), value))
        .collect()
}

fn flag(yes: bool) -> String {
    if yes { "1" } else { "0" }.to_owned()
}

/// The types that SQL text can name, with their limits.
///
/// # Errors
/// The builder of the Flight SQL library refused them.
pub(crate) fn type_info() -> Result<XdbcTypeInfoData> {
    let mut builder = XdbcTypeInfoDataBuilder::new();
    let mut add = |info: XdbcTypeInfo| builder.append(info);

    add(XdbcTypeInfo {
        column_size: Some(1),
        ..base("BOOLEAN", XdbcDataType::XdbcBit)
    });
    for (name, data_type, digits, unsigned) in [
        ("TINYINT", XdbcDataType::XdbcTinyint, 3, false),
        ("SMALLINT", XdbcDataType::XdbcSmallint, 5, false),
        ("INTEGER", XdbcDataType::XdbcInteger, 10, false),
        ("BIGINT", XdbcDataType::XdbcBigint, 19, false),
        ("TINYINT UNSIGNED", XdbcDataType::XdbcTinyint, 3, true),
        ("SMALLINT UNSIGNED", XdbcDataType::XdbcSmallint, 5, true),
        ("INTEGER UNSIGNED", XdbcDataType::XdbcInteger, 10, true),
        ("BIGINT UNSIGNED", XdbcDataType::XdbcBigint, 20, true),
    ] {
        add(XdbcTypeInfo {
            unsigned_attribute: Some(unsigned),
            minimum_scale: Some(0),
            maximum_scale: Some(0),
            ..number(name, data_type, digits, 10)
        });
    }
    add(number("REAL", XdbcDataType::XdbcReal, 24, 2));
    add(number("FLOAT", XdbcDataType::XdbcFloat, 24, 2));
    add(number("DOUBLE", XdbcDataType::XdbcDouble, 53, 2));
    for (name, data_type) in [
        ("DECIMAL", XdbcDataType::XdbcDecimal),
        ("NUMERIC", XdbcDataType::XdbcNumeric),
    ] {
        add(XdbcTypeInfo {
            create_params: Some(vec!["precision".to_owned(), "scale".to_owned()]),
            minimum_scale: Some(0),
            maximum_scale: Some(38),
            ..number(name, data_type, 38, 10)
        });
    }
    for (name, data_type) in [
        ("CHAR", XdbcDataType::XdbcChar),
        ("VARCHAR", XdbcDataType::XdbcVarchar),
        ("TEXT", XdbcDataType::XdbcLongvarchar),
    ] {
        add(XdbcTypeInfo {
            column_size: Some(i32::MAX),
            literal_prefix: Some("'".to_owned()),
            literal_suffix: Some("'".to_owned()),
            case_sensitive: true,
            ..base(name, data_type)
        });
    }
    add(XdbcTypeInfo {
        column_size: Some(i32::MAX),
        literal_prefix: Some("X'".to_owned()),
        literal_suffix: Some("'".to_owned()),
        searchable: Searchable::Basic,
        // The standard's name for tools, ours for SQL text.
        local_type_name: Some("BYTEA".to_owned()),
        ..base("VARBINARY", XdbcDataType::XdbcVarbinary)
    });
    for (name, data_type, size, digits, subcode) in [
        (
            "DATE",
            XdbcDataType::XdbcDate,
            10,
            None,
            XdbcDatetimeSubcode::XdbcSubcodeYear,
        ),
        (
            "TIME",
            XdbcDataType::XdbcTime,
            18,
            Some(9),
            XdbcDatetimeSubcode::XdbcSubcodeTime,
        ),
        (
            "TIMESTAMP",
            XdbcDataType::XdbcTimestamp,
            29,
            Some(9),
            XdbcDatetimeSubcode::XdbcSubcodeTimestamp,
        ),
    ] {
        add(XdbcTypeInfo {
            column_size: Some(size),
            literal_prefix: Some(format!("{name} '")),
            literal_suffix: Some("'".to_owned()),
            minimum_scale: digits.map(|_| 0),
            maximum_scale: digits,
            sql_data_type: XdbcDataType::XdbcDatetime,
            datetime_subcode: Some(subcode),
            ..base(name, data_type)
        });
    }
    add(XdbcTypeInfo {
        column_size: Some(i32::MAX),
        literal_prefix: Some("INTERVAL '".to_owned()),
        literal_suffix: Some("'".to_owned()),
        datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeDayToSecond),
        interval_precision: Some(9),
        ..base("INTERVAL", XdbcDataType::XdbcInterval)
    });
    builder.build()
}

fn base(name: &str, data_type: XdbcDataType) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type,
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        local_type_name: Some(name.to_owned()),
        sql_data_type: data_type,
        ..XdbcTypeInfo::default()
    }
}

fn number(name: &str, data_type: XdbcDataType, size: i32, radix: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        column_size: Some(size),
        unsigned_attribute: Some(false),
        auto_increment: Some(false),
        num_prec_radix: Some(radix),
        ..base(name, data_type)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::AsArray;
    use arrow::datatypes::{Int32Type, TimeUnit};
    use tietopohja_engine::{Keys, TableKind};

    use super::*;

    #[test]
    fn columns_have_sql_names_and_sizes() {
        let cases = [
            (DataType::Int64, "BIGINT", Some("19"), Some("0")),
            (DataType::Utf8, "VARCHAR", None, None),
            (
                DataType::Decimal128(14, 2),
                "DECIMAL",
                Some("14"),
                Some("2"),
            ),
            (DataType::Date32, "DATE", Some("10"), None),
            (
                DataType::Timestamp(TimeUnit::Microsecond, None),
                "TIMESTAMP",
                Some("26"),
                Some("6"),
            ),
            (DataType::Float64, "DOUBLE", Some("15"), None),
            (DataType::Boolean, "BOOLEAN", Some("1"), None),
            (
                DataType::new_list(DataType::Int32, true),
                "ARRAY",
                None,
                None,
            ),
            (
                DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
                "VARCHAR",
                None,
                None,
            ),
        ];
        for (data_type, name, precision, scale) in cases {
            let table = TableInfo {
                schema: "s".to_owned(),
                name: "t".to_owned(),
                kind: TableKind::Table,
                columns: Arc::new(Schema::new(vec![Field::new("c", data_type.clone(), true)])),
                comment: Some("one row per thing".to_owned()),
                column_comments: BTreeMap::from([("c".to_owned(), "a thing".to_owned())]),
                keys: Keys::default(),
                definition: None,
            };
            let schema = described(&table);
            let get = |key: &str| {
                schema
                    .field(0)
                    .metadata()
                    .get(&format!("ARROW:FLIGHT:SQL:{key}"))
                    .map(String::as_str)
            };
            assert_eq!(get("TYPE_NAME"), Some(name), "{data_type}");
            assert_eq!(get("PRECISION"), precision, "{data_type}");
            assert_eq!(get("SCALE"), scale, "{data_type}");
            assert_eq!(get("DB_SCHEMA_NAME"), Some("s"));
            assert_eq!(get("REMARKS"), Some("a thing"));
            assert_eq!(
                schema.metadata()["ARROW:FLIGHT:SQL:REMARKS"],
                "one row per thing"
            );
        }
    }

    #[test]
    fn types_are_listed_in_order_of_their_code() {
        let batch = type_info().unwrap().record_batch(None).unwrap();
        let codes = batch
            .column(1)
            .as_primitive::<Int32Type>()
            .values()
            .to_vec();
        assert!(codes.is_sorted());
        assert_eq!(batch.num_rows(), 22);
        let only = type_info()
            .unwrap()
            .record_batch(Some(XdbcDataType::XdbcVarchar as i32))
            .unwrap();
        assert_eq!(only.column(0).as_string::<i32>().value(0), "VARCHAR");
    }
}
