//! What the server says about itself: every `SqlInfo` the protocol knows, each with a true answer.
//!
//! A tool asks for these before anything else and takes a missing one for a failure. What the
//! server does not do is said with false, none or zero. To change what the server can do, change
//! the line here in the same commit; `tests/` compare the answers with what really happens.

use std::collections::BTreeMap;

use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use arrow_flight::error::Result;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity,
    SqlSupportedGroupBy, SqlSupportedResultSetConcurrency, SqlSupportedResultSetType,
    SqlSupportedSubqueries, SqlSupportedTransaction, SqlSupportedUnions, SqlSupportsConvert,
    SqlTransactionIsolationLevel, SupportedSqlGrammar,
};

/// Set in a bitmask for the value `of` an enumeration.
fn bit(of: i32) -> i32 {
    1 << of
}

/// The answers. `writes`: whether anyone who may connect can make tables.
///
/// # Errors
/// The builder of the Flight SQL library refused them.
pub(crate) fn sql_info(writes: bool) -> Result<SqlInfoData> {
    let mut builder = SqlInfoDataBuilder::new();
    server(&mut builder, writes);
    syntax(&mut builder, writes);
    limits(&mut builder);
    transactions(&mut builder);
    results(&mut builder, writes);
    builder.build()
}

fn server(builder: &mut SqlInfoDataBuilder, writes: bool) {
    builder.append(SqlInfo::FlightSqlServerName, "Tietopohja");
    builder.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    builder.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    builder.append(SqlInfo::FlightSqlServerReadOnly, !writes);
    builder.append(SqlInfo::FlightSqlServerSql, true);
    builder.append(SqlInfo::FlightSqlServerSubstrait, false);
    builder.append(SqlInfo::FlightSqlServerSubstraitMinVersion, "");
    builder.append(SqlInfo::FlightSqlServerSubstraitMaxVersion, "");
    builder.append(
        SqlInfo::FlightSqlServerTransaction,
        SqlSupportedTransaction::None as i32,
    );
    builder.append(SqlInfo::FlightSqlServerCancel, true);
    builder.append(SqlInfo::FlightSqlServerBulkIngestion, writes);
    builder.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    // Statement handles carry their own state and never expire.
    builder.append(SqlInfo::FlightSqlServerStatementTimeout, 0_i32);
    builder.append(SqlInfo::FlightSqlServerTransactionTimeout, 0_i32);
}

fn syntax(builder: &mut SqlInfoDataBuilder, writes: bool) {
    builder.append(SqlInfo::SqlDdlCatalog, false);
    builder.append(SqlInfo::SqlDdlSchema, false);
    builder.append(SqlInfo::SqlDdlTable, writes);
    builder.append(
        SqlInfo::SqlIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32,
    );
    builder.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    builder.append(
        SqlInfo::SqlQuotedIdentifierCase,
        // A quoted name keeps its case; the protocol has no word for that.
        SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i32,
    );
    builder.append(SqlInfo::SqlAllTablesAreSelectable, true);
    builder.append(
        SqlInfo::SqlNullOrdering,
        SqlNullOrdering::SqlNullsSortedHigh as i32,
    );
    builder.append(SqlInfo::SqlKeywords, KEYWORDS);
    builder.append(SqlInfo::SqlNumericFunctions, NUMERIC_FUNCTIONS);
    builder.append(SqlInfo::SqlStringFunctions, STRING_FUNCTIONS);
    builder.append(SqlInfo::SqlSystemFunctions, SYSTEM_FUNCTIONS);
    builder.append(SqlInfo::SqlDatetimeFunctions, DATETIME_FUNCTIONS);
    builder.append(SqlInfo::SqlSearchStringEscape, "\\");
    builder.append(SqlInfo::SqlExtraNameCharacters, "");
    builder.append(SqlInfo::SqlSupportsColumnAliasing, true);
    builder.append(SqlInfo::SqlNullPlusNullIsNull, true);
    builder.append(SqlInfo::SqlSupportsConvert, conversions());
    builder.append(SqlInfo::SqlSupportsTableCorrelationNames, true);
    builder.append(SqlInfo::SqlSupportsDifferentTableCorrelationNames, false);
    builder.append(SqlInfo::SqlSupportsExpressionsInOrderBy, true);
    builder.append(SqlInfo::SqlSupportsOrderByUnrelated, true);
    builder.append(
        SqlInfo::SqlSupportedGroupBy,
        bit(SqlSupportedGroupBy::SqlGroupByUnrelated as i32)
            | bit(SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32),
    );
    builder.append(SqlInfo::SqlSupportsLikeEscapeClause, true);
    builder.append(SqlInfo::SqlSupportsNonNullableColumns, true);
    builder.append(
        SqlInfo::SqlSupportedGrammar,
        bit(SupportedSqlGrammar::SqlMinimumGrammar as i32)
            | bit(SupportedSqlGrammar::SqlCoreGrammar as i32),
    );
    // Entry level: the queries of SQL-92, not its schema definitions.
    builder.append(SqlInfo::SqlAnsi92SupportedLevel, 1_i32);
    builder.append(SqlInfo::SqlSupportsIntegrityEnhancementFacility, false);
    builder.append(
        SqlInfo::SqlOuterJoinsSupportLevel,
        SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32,
    );
    builder.append(SqlInfo::SqlSchemaTerm, "schema");
    builder.append(SqlInfo::SqlProcedureTerm, "");
    builder.append(SqlInfo::SqlCatalogTerm, "catalog");
    builder.append(SqlInfo::SqlCatalogAtStart, true);
    builder.append(SqlInfo::SqlSchemasSupportedActions, 0_i32);
    builder.append(SqlInfo::SqlCatalogsSupportedActions, 0_i32);
    builder.append(SqlInfo::SqlSupportedPositionedCommands, 0_i32);
    builder.append(SqlInfo::SqlSelectForUpdateSupported, false);
    builder.append(SqlInfo::SqlStoredProceduresSupported, false);
    builder.append(
        SqlInfo::SqlSupportedSubqueries,
        bit(SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32)
            | bit(SqlSupportedSubqueries::SqlSubqueriesInExists as i32)
            | bit(SqlSupportedSubqueries::SqlSubqueriesInIns as i32),
    );
    builder.append(SqlInfo::SqlCorrelatedSubqueriesSupported, true);
    builder.append(
        SqlInfo::SqlSupportedUnions,
        bit(SqlSupportedUnions::SqlUnion as i32) | bit(SqlSupportedUnions::SqlUnionAll as i32),
    );
}

/// Zero is the protocol's word for "no limit, or not known".
fn limits(builder: &mut SqlInfoDataBuilder) {
    for unlimited in [
        SqlInfo::SqlMaxBinaryLiteralLength,
        SqlInfo::SqlMaxCharLiteralLength,
        SqlInfo::SqlMaxColumnNameLength,
        SqlInfo::SqlMaxColumnsInGroupBy,
        SqlInfo::SqlMaxColumnsInIndex,
        SqlInfo::SqlMaxColumnsInOrderBy,
        SqlInfo::SqlMaxColumnsInSelect,
        SqlInfo::SqlMaxColumnsInTable,
        SqlInfo::SqlMaxConnections,
        SqlInfo::SqlMaxCursorNameLength,
        SqlInfo::SqlMaxIndexLength,
        SqlInfo::SqlDbSchemaNameLength,
        SqlInfo::SqlMaxProcedureNameLength,
        SqlInfo::SqlMaxCatalogNameLength,
        SqlInfo::SqlMaxRowSize,
        SqlInfo::SqlMaxStatementLength,
        SqlInfo::SqlMaxStatements,
        SqlInfo::SqlMaxTableNameLength,
        SqlInfo::SqlMaxTablesInSelect,
        SqlInfo::SqlMaxUsernameLength,
    ] {
        builder.append(unlimited, 0_i64);
    }
    builder.append(SqlInfo::SqlMaxRowSizeIncludesBlobs, true);
}

fn transactions(builder: &mut SqlInfoDataBuilder) {
    builder.append(
        SqlInfo::SqlDefaultTransactionIsolation,
        SqlTransactionIsolationLevel::SqlTransactionNone as i32,
    );
    builder.append(SqlInfo::SqlTransactionsSupported, false);
    builder.append(
        SqlInfo::SqlSupportedTransactionsIsolationLevels,
        bit(SqlTransactionIsolationLevel::SqlTransactionNone as i32),
    );
    builder.append(SqlInfo::SqlDataDefinitionCausesTransactionCommit, false);
    builder.append(SqlInfo::SqlDataDefinitionsInTransactionsIgnored, false);
    builder.append(SqlInfo::SqlSavepointsSupported, false);
}

fn results(builder: &mut SqlInfoDataBuilder, writes: bool) {
    builder.append(
        SqlInfo::SqlSupportedResultSetTypes,
        bit(SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32),
    );
    let read_only = bit(SqlSupportedResultSetConcurrency::SqlResultSetConcurrencyReadOnly as i32);
    builder.append(
        SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified,
        0_i32,
    );
    builder.append(
        SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly,
        read_only,
    );
    builder.append(
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive,
        0_i32,
    );
    builder.append(
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive,
        0_i32,
    );
    builder.append(SqlInfo::SqlBatchUpdatesSupported, writes);
    builder.append(SqlInfo::SqlNamedParametersSupported, false);
    builder.append(SqlInfo::SqlLocatorsUpdateCopy, false);
    builder.append(SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported, false);
}

/// What `CAST` turns into what, as the cast kernel says.
fn conversions() -> BTreeMap<i32, Vec<i32>> {
    use SqlSupportsConvert as To;
    let types = [
        (To::SqlConvertBigint, DataType::Int64),
        (To::SqlConvertBit, DataType::Boolean),
        (To::SqlConvertChar, DataType::Utf8),
        (To::SqlConvertDate, DataType::Date32),
        (To::SqlConvertDecimal, DataType::Decimal128(38, 10)),
        (To::SqlConvertFloat, DataType::Float32),
        (To::SqlConvertInteger, DataType::Int32),
        (
            To::SqlConvertIntervalDayTime,
            DataType::Interval(IntervalUnit::MonthDayNano),
        ),
        (To::SqlConvertLongvarbinary, DataType::Binary),
        (To::SqlConvertLongvarchar, DataType::Utf8),
        (To::SqlConvertNumeric, DataType::Decimal128(38, 10)),
        (To::SqlConvertReal, DataType::Float32),
        (To::SqlConvertSmallint, DataType::Int16),
        (To::SqlConvertTime, DataType::Time64(TimeUnit::Nanosecond)),
        (
            To::SqlConvertTimestamp,
            DataType::Timestamp(TimeUnit::Nanosecond, None),
        ),
        (To::SqlConvertTinyint, DataType::Int8),
        (To::SqlConvertVarbinary, DataType::Binary),
        (To::SqlConvertVarchar, DataType::Utf8),
    ];
    types
        .iter()
        .map(|(from, held)| {
            let targets = types
                .iter()
                .filter(|(_, wanted)| can_cast_types(held, wanted))
                .map(|(to, _)| *to as i32);
            (*from as i32, targets.collect())
        })
        .collect()
}

/// Words that are not names unless quoted, beyond those of SQL-92.
const KEYWORDS: &[&str] = &[
    "ANALYZE",
    "ANTI",
    "ARRAY",
    "CUBE",
    "DESCRIBE",
    "EXPLAIN",
    "FILTER",
    "FORMAT",
    "ILIKE",
    "LATERAL",
    "LIMIT",
    "OFFSET",
    "OVER",
    "PARTITION",
    "QUALIFY",
    "RECURSIVE",
    "ROLLUP",
    "SEMI",
    "SHOW",
    "STRUCT",
    "TABLESAMPLE",
    "TRY_CAST",
    "UNNEST",
    "WINDOW",
    "WITHIN",
];

const NUMERIC_FUNCTIONS: &[&str] = &[
    "abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "cot", "degrees", "exp", "floor", "ln",
    "log", "log10", "log2", "pi", "pow", "power", "radians", "random", "round", "signum", "sin",
    "sqrt", "tan", "trunc",
];

const STRING_FUNCTIONS: &[&str] = &[
    "ascii",
    "bit_length",
    "btrim",
    "char_length",
    "character_length",
    "chr",
    "concat",
    "concat_ws",
    "initcap",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "octet_length",
    "position",
    "regexp_like",
    "regexp_match",
    "regexp_replace",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "substring",
    "translate",
    "trim",
    "upper",
];

const SYSTEM_FUNCTIONS: &[&str] = &[
    "arrow_typeof",
    "coalesce",
    "greatest",
    "ifnull",
    "least",
    "nullif",
    "nvl",
    "version",
];

const DATETIME_FUNCTIONS: &[&str] = &[
    "current_date",
    "current_time",
    "current_timestamp",
    "date_bin",
    "date_part",
    "date_trunc",
    "from_unixtime",
    "make_date",
    "now",
    "to_date",
    "to_timestamp",
    "to_unixtime",
];

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, RecordBatch};
    use arrow::datatypes::UInt32Type;

    use super::*;

    fn ids(batch: &RecordBatch) -> Vec<u32> {
        batch
            .column(0)
            .as_primitive::<UInt32Type>()
            .values()
            .to_vec()
    }

    #[test]
    fn every_id_of_the_protocol_is_answered() {
        let batch = sql_info(true).unwrap().record_batch([]).unwrap();
        let answered = ids(&batch);
        let known: Vec<u32> = (0..10_000_u32)
            .filter(|id| SqlInfo::try_from(id.cast_signed()).is_ok())
            .collect();
        assert!(known.len() > 80);
        assert_eq!(answered, known);
    }

    #[test]
    fn an_id_has_the_kind_of_value_that_the_protocol_asks() {
        let batch = sql_info(true).unwrap().record_batch([]).unwrap();
        let values = batch.column(1).as_union();
        let kinds = ids(&batch)
            .into_iter()
            .zip(values.type_ids().iter().copied());
        // Text 0, yes or no 1, 64-bit 2, 32-bit 3, list of texts 4, map 5.
        for (id, kind) in kinds {
            let wanted = match id {
                0..=2 | 6 | 7 | 504 | 513 | 514 | 529..=531 => 0,
                3..=5 | 9..=11 => 1,
                500..=502 | 506 | 515 | 516 | 518..=521 | 523 | 524 | 527 | 532 => 1,
                536 | 537 | 539 | 556 | 563 | 565 | 566 | 572..=576 => 1,
                541..=555 | 557..=561 => 2,
                508..=512 => 4,
                517 => 5,
                _ => 3,
            };
            assert_eq!(kind, wanted, "SqlInfo {id}");
        }
    }

    #[test]
    fn conversions_say_what_the_cast_kernel_does() {
        let conversions = conversions();
        let from_text = &conversions[&(SqlSupportsConvert::SqlConvertVarchar as i32)];
        assert!(from_text.contains(&(SqlSupportsConvert::SqlConvertDate as i32)));
        let from_date = &conversions[&(SqlSupportsConvert::SqlConvertDate as i32)];
        assert!(!from_date.contains(&(SqlSupportsConvert::SqlConvertBit as i32)));
    }
}
