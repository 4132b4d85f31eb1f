//! What leaves the engine: plain column types, plans without file names, clean errors, in time.
//!
//! Inside, text and bytes are views and may be dictionaries, because grouping them is faster that
//! way. Clients are promised `Utf8` and `Binary`, which every Arrow reader knows. Every stream that
//! a session hands out goes through [`guard`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::{EngineError, Result};

/// The type a client sees for a type of the engine.
pub(crate) fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, value) => plain_type(value),
        DataType::List(item) => DataType::List(plain_field(item)),
        DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
            DataType::List(plain_field(item))
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        other => other.clone(),
    }
}

fn plain_field(field: &FieldRef) -> FieldRef {
    let plain = Field::new(
        field.name(),
        plain_type(field.data_type()),
        field.is_nullable(),
    );
    Arc::new(plain.with_metadata(field.metadata().clone()))
}

/// The schema a client sees.
pub(crate) fn plain_schema(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(
        schema.fields().iter().map(plain_field).collect::<Vec<_>>(),
    ))
}

/// The batch with the columns of `schema`, in order, cast where the type differs.
///
/// # Errors
/// [`EngineError::Internal`] when the columns cannot be those of `schema`.
pub(crate) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let columns = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| to_type(column, field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| EngineError::internal_because("a batch does not fit its schema", error))
}

/// The column in another type; exact or an error.
pub(crate) fn to_type(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if column.data_type() == data_type {
        return Ok(Arc::clone(column));
    }
    decoded(column, data_type).map_err(|error| {
        EngineError::internal_because(
            format!(
                "a column of type {} does not become {data_type}",
                column.data_type()
            ),
            error,
        )
    })
}

/// A cast, which for codes is one of their few words. The cast of codes to views takes a value that is
/// null for an empty text, so codes with such a value never go through it.
fn decoded(column: &ArrayRef, data_type: &DataType) -> std::result::Result<ArrayRef, ArrowError> {
    match column.as_any_dictionary_opt() {
        Some(codes)
            if *data_type == DataType::Utf8View
                && (codes.values().len() < codes.len() || codes.values().null_count() > 0) =>
        {
            let words = cast(codes.values(), data_type)?;
            take(&words, codes.keys(), None)
        }
        _ => cast(column, data_type),
    }
}

/// How a stream is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// As it is.
    Rows,
    /// Text of plans: places of files are cut out.
    Plans,
}

/// Wraps a stream of the engine for a client: plain types, clean errors, and an end in time.
pub(crate) fn guard(
    inner: SendableRecordBatchStream,
    shown: Shown,
    deadline: Option<Deadline>,
) -> SendableRecordBatchStream {
    let schema = plain_schema(&inner.schema());
    let timer = deadline.map(|deadline| (Box::pin(sleep_until(deadline.at)), deadline.limit));
    Box::pin(Guarded {
        inner: Some(inner),
        schema,
        shown,
        timer,
    })
}

/// A moment after which a statement must have ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    /// `limit` from now on. Measures a length of time; no result depends on it.
    pub(crate) fn after(limit: Duration) -> Self {
        Self {
            at: Instant::now() + limit,
            limit,
        }
    }

    pub(crate) fn error(self) -> EngineError {
        EngineError::Timeout {
            seconds: self.limit.as_secs().max(1),
        }
    }

    pub(crate) fn at(self) -> Instant {
        self.at
    }
}

struct Guarded {
    /// Dropped at the first error, so that the query stops working for nobody.
    inner: Option<SendableRecordBatchStream>,
    schema: SchemaRef,
    shown: Shown,
    timer: Option<(Pin<Box<Sleep>>, Duration)>,
}

impl Guarded {
    fn fail(&mut self, error: EngineError) -> Poll<Option<Result<RecordBatch, DataFusionError>>> {
        self.inner = None;
        self.timer = None;
        Poll::Ready(Some(Err(error.into())))
    }

    fn show(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let batch = conform(batch, &self.schema)?;
        match self.shown {
            Shown::Rows => Ok(batch),
            Shown::Plans => without_places(&batch),
        }
    }
}

impl Stream for Guarded {
    type Item = Result<RecordBatch, DataFusionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some((timer, limit)) = &mut self.timer
            && timer.as_mut().poll(context).is_ready()
        {
            let seconds = limit.as_secs().max(1);
            return self.fail(EngineError::Timeout { seconds });
        }
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        match inner.as_mut().poll_next(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.inner = None;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                let error = EngineError::from(error);
                self.fail(error)
            }
            Poll::Ready(Some(Ok(batch))) => match self.show(&batch) {
                Ok(batch) => Poll::Ready(Some(Ok(batch))),
                Err(error) => self.fail(error),
            },
        }
    }
}

impl RecordBatchStream for Guarded {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// A batch of plan text without the places of files.
fn without_places(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch
        .columns()
        .iter()
        .map(|column| match column.as_string_opt::<i32>() {
            Some(texts) => {
                let cut = texts
                    .iter()
                    .map(|text| text.map(cut_places))
                    .collect::<StringArray>();
                Arc::new(cut) as ArrayRef
            }
            None => Arc::clone(column),
        })
        .collect();
    RecordBatch::try_new(batch.schema(), columns)
        .map_err(|error| EngineError::internal_because("a plan could not be shown", error))
}

/// Replaces what follows `file_groups={` up to its closing brace by the number of groups.
fn cut_places(text: &str) -> String {
    const START: &str = "file_groups={";
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(START) {
        let (before, from) = rest.split_at(start + START.len());
        shown.push_str(before);
        let mut depth = 1usize;
        let end = from.char_indices().find_map(|(at, letter)| {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            (depth == 0).then_some(at)
        });
        let (inside, after) = from.split_at(end.unwrap_or(from.len()));
        shown.push_str(inside.split(':').next().unwrap_or_default());
        rest = after;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Int32Array, StringArray, StringViewArray};
    use arrow::datatypes::Int32Type;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use futures::{StreamExt, stream};

    use super::*;

    fn views() -> RecordBatch {
        let text: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a"), None]));
        let coded: DictionaryArray<Int32Type> = vec!["x", "y"].into_iter().collect();
        RecordBatch::try_from_iter([
            ("text", text),
            ("coded", Arc::new(coded) as ArrayRef),
            ("n", Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef),
        ])
        .unwrap()
    }

    #[test]
    fn a_code_may_stand_for_null() {
        let words = StringArray::from(vec![Some("own"), None, Some(""), Some("other")]);
        for codes in [vec![1, 0, 2], vec![1, 0, 2, 3, 3, 1]] {
            let wanted: Vec<Option<&str>> = codes
                .iter()
                .map(|code| words.iter().nth(*code as usize).flatten())
                .collect();
            let codes = Int32Array::from(codes);
            let coded = DictionaryArray::<Int32Type>::new(codes, Arc::new(words.clone()));
            let coded: ArrayRef = Arc::new(coded);
            let views = to_type(&coded, &DataType::Utf8View).unwrap();
            assert_eq!(views.as_string_view().iter().collect::<Vec<_>>(), wanted);
            let texts = to_type(&coded, &DataType::Utf8).unwrap();
            assert_eq!(texts.as_string::<i32>().iter().collect::<Vec<_>>(), wanted);
        }
    }

    #[test]
    fn clients_see_plain_types() {
        let batch = views();
        let schema = plain_schema(&batch.schema());
        let types: Vec<_> = schema
            .fields()
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        assert_eq!(types, [DataType::Utf8, DataType::Utf8, DataType::Int32]);
        let plain = conform(&batch, &schema).unwrap();
        assert_eq!(
            plain
                .column(0)
                .as_string::<i32>()
                .iter()
                .collect::<Vec<_>>(),
            [Some("a"), None]
        );
        assert_eq!(plain.column(1).as_string::<i32>().value(1), "y");
    }

    #[test]
    fn codes_become_their_words() {
        let texts = [
            Some("a"),
            None,
            Some("a"),
            Some("a long word of the list"),
            None,
        ];
        let codes: DictionaryArray<Int32Type> = texts.into_iter().collect();
        for rows in [0..5, 1..2, 2..5] {
            let codes = codes.slice(rows.start, rows.len());
            let words = to_type(&(Arc::new(codes) as ArrayRef), &DataType::Utf8View).unwrap();
            let words: Vec<Option<&str>> = words.as_string_view().iter().collect();
            assert_eq!(words, texts[rows]);
        }
    }

    #[test]
    fn nested_views_become_plain_too() {
        let item = Arc::new(Field::new_list_field(DataType::Utf8View, true));
        let nested = DataType::Struct(vec![Field::new("l", DataType::List(item), true)].into());
        assert!(!plain_type(&nested).to_string().contains("View"));
    }

    #[test]
    fn a_plan_is_shown_without_the_places_of_files() {
        let plan = "DataSourceExec: file_groups={2 groups: [[home/x/a.parquet:0..9], [home/x/{b}.parquet]]}, \
                    projection=[a], file_type=parquet\n  DataSourceExec: file_groups={1 group: [[home/y]]}";
        assert_eq!(
            cut_places(plan),
            "DataSourceExec: file_groups={2 groups}, projection=[a], file_type=parquet\n  \
             DataSourceExec: file_groups={1 group}"
        );
        assert_eq!(
            cut_places("file_groups={unclosed: home"),
            "file_groups={unclosed"
        );
        assert_eq!(cut_places("no files"), "no files");
    }

    fn guarded(
        batches: impl Stream<Item = Result<RecordBatch, DataFusionError>> + Send + 'static,
        deadline: Option<Deadline>,
    ) -> SendableRecordBatchStream {
        let schema = views().schema();
        guard(
            Box::pin(RecordBatchStreamAdapter::new(schema, batches)),
            Shown::Rows,
            deadline,
        )
    }

    #[tokio::test]
    async fn a_stream_ends_at_its_first_error() {
        let failing = || Err(DataFusionError::Execution("secret".to_owned()));
        let mut stream = guarded(stream::iter([Ok(views()), failing(), Ok(views())]), None);
        assert_eq!(stream.next().await.unwrap().unwrap().num_rows(), 2);
        let error = EngineError::from(stream.next().await.unwrap().unwrap_err());
        assert!(matches!(error, EngineError::UserSql { .. }));
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_statement_that_runs_too_long_is_stopped() {
        let deadline = Deadline::after(Duration::from_millis(20));
        let mut stream = guarded(stream::pending(), Some(deadline));
        let error = EngineError::from(stream.next().await.unwrap().unwrap_err());
        assert!(
            matches!(error, EngineError::Timeout { seconds: 1 }),
            "{error}"
        );
        assert!(stream.next().await.is_none());
    }
}
