//! The journal as tables: `meta.query` and `meta.session`.
//!
//! Only how records become columns lives here. To show another field, add it to the schema and to
//! the columns of its table, in the same place.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tietopohja_domain::Timestamp;
use tietopohja_engine::{EngineError, LiveRows};

use crate::journal::{Journal, SessionRecord, StatementRecord};

/// The running and the recent statements.
#[derive(Debug)]
pub(crate) struct Queries(pub(crate) Arc<Journal>);

/// The sessions that have asked for something.
#[derive(Debug)]
pub(crate) struct Sessions(pub(crate) Arc<Journal>);

impl LiveRows for Queries {
    fn schema(&self) -> SchemaRef {
        schema(&[
            ("number", DataType::Int64),
            ("principal", DataType::Utf8),
            ("role", DataType::Utf8),
            ("session", DataType::Utf8),
            ("client", DataType::Utf8),
            ("state", DataType::Utf8),
            ("asked_at", moment()),
            ("started_at", moment()),
            ("ended_at", moment()),
            ("statement", DataType::Utf8),
            ("statement_hash", DataType::Utf8),
            ("tables", DataType::Utf8),
            ("release", DataType::Utf8),
            ("rows", DataType::Int64),
            ("bytes", DataType::Int64),
            ("memory_peak_bytes", DataType::Int64),
            ("code", DataType::Utf8),
            ("trace_id", DataType::Utf8),
        ])
    }

    fn comment(&self) -> &'static str {
        "one row per statement that runs or has lately ended"
    }

    fn rows(&self) -> Result<RecordBatch, EngineError> {
        let all = self.0.statements();
        let text = |of: fn(&StatementRecord) -> Option<&str>| texts(all.iter().map(of));
        let count = |of: fn(&StatementRecord) -> u64| counts(all.iter().map(of));
        let at = |of: fn(&StatementRecord) -> Option<Timestamp>| moments(all.iter().map(of));
        let tables = all.iter().map(|record| record.tables.join(", "));
        let traces = all
            .iter()
            .map(|record| record.trace.map(|trace| trace.trace_id()));
        batch(
            self.schema(),
            vec![
                count(|record| record.number),
                text(|record| Some(&record.principal)),
                text(|record| Some(&record.role)),
                text(|record| record.session.as_deref()),
                text(|record| record.client.as_deref()),
                text(|record| Some(record.state.as_str())),
                at(|record| Some(record.asked_at)),
                at(|record| record.started_at),
                at(|record| record.ended_at),
                text(|record| record.statement.as_deref()),
                text(|record| Some(&record.statement_hash)),
                Arc::new(StringArray::from_iter_values(tables)),
                text(|record| record.release.as_deref()),
                count(|record| record.rows),
                count(|record| record.bytes),
                count(|record| record.memory_peak_bytes),
                text(|record| record.code),
                Arc::new(StringArray::from_iter(traces)),
            ],
        )
    }
}

impl LiveRows for Sessions {
    fn schema(&self) -> SchemaRef {
        schema(&[
            ("session", DataType::Utf8),
            ("principal", DataType::Utf8),
            ("role", DataType::Utf8),
            ("client", DataType::Utf8),
            ("first_used_at", moment()),
            ("last_used_at", moment()),
            ("statements", DataType::Int64),
        ])
    }

    fn comment(&self) -> &'static str {
        "one row per session that has asked for something"
    }

    fn rows(&self) -> Result<RecordBatch, EngineError> {
        let all = self.0.sessions();
        let text = |of: fn(&SessionRecord) -> Option<&str>| texts(all.iter().map(of));
        let at = |of: fn(&SessionRecord) -> Option<Timestamp>| moments(all.iter().map(of));
        batch(
            self.schema(),
            vec![
                text(|record| Some(&record.session)),
                text(|record| Some(&record.principal)),
                text(|record| Some(&record.role)),
                text(|record| record.client.as_deref()),
                at(|record| Some(record.first_used_at)),
                at(|record| Some(record.last_used_at)),
                counts(all.iter().map(|record| record.statements)),
            ],
        )
    }
}

fn moment() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let fields = columns
        .iter()
        .map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn counts(values: impl Iterator<Item = u64>) -> ArrayRef {
    let values = values.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
    Arc::new(Int64Array::from_iter_values(values))
}

fn moments(values: impl Iterator<Item = Option<Timestamp>>) -> ArrayRef {
    let values = values.map(|value| value.map(|moment| moment.as_microsecond()));
    Arc::new(
        values
            .collect::<TimestampMicrosecondArray>()
            .with_timezone("UTC"),
    )
}

fn batch(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch, EngineError> {
    RecordBatch::try_new(schema, columns).map_err(|error| EngineError::Internal {
        message: "the journal could not be shown as a table".to_owned(),
        source: Some(Box::new(error)),
    })
}
