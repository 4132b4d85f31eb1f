//! Parameters of a prepared statement: from a client's batches to values of the engine.
//!
//! Binding is by ordinal; column names are ignored. A column may be a dense union, where each row
//! says its own type. Every row is one execution. Values keep the type they came with; the engine
//! converts them to what the statement expects.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow_flight::FlightData;
use bytes::Bytes;
use datafusion_common::ScalarValue;
use futures::{Stream, StreamExt, TryStreamExt, future, stream};
use tonic::Status;

use super::incoming::Incoming;

/// The most bytes of bound parameters. They travel inside handles and tickets.
pub(crate) const MOST_BYTES: usize = 1024 * 1024;

/// The most rows of bound parameters. Each is a plan of its own, and rows without bytes cost a client
/// nothing.
const MOST_ROWS: usize = 10_000;

/// The most rows of an update, and their bytes: they run as one, and travel nowhere else.
const MOST_UPDATE_ROWS: usize = 1_000_000;
const MOST_UPDATE_BYTES: usize = 64 * 1024 * 1024;

/// Bound parameters: zero or more rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameters {
    batches: Vec<RecordBatch>,
    /// The most bytes of the values together. Encodings name one value many times, and each becomes a
    /// copy.
    most_bytes: usize,
}

impl Parameters {
    /// Reads what a client put after its descriptor. None when it put nothing at all.
    ///
    /// # Errors
    /// The messages are not Arrow data, or too large.
    pub(crate) async fn receive<S>(first: FlightData, rest: S) -> Result<Option<Self>, Status>
    where
        S: Stream<Item = Result<FlightData, Status>> + Send + 'static,
    {
        Self::receive_within(first, rest, (MOST_ROWS, MOST_BYTES)).await
    }

    /// The same for an update that runs at once: its rows may be many.
    ///
    /// # Errors
    /// As [`Parameters::receive`].
    pub(crate) async fn receive_many<S>(first: FlightData, rest: S) -> Result<Option<Self>, Status>
    where
        S: Stream<Item = Result<FlightData, Status>> + Send + 'static,
    {
        Self::receive_within(first, rest, (MOST_UPDATE_ROWS, MOST_UPDATE_BYTES)).await
    }

    async fn receive_within<S>(
        first: FlightData,
        rest: S,
        (most_rows, most): (usize, usize),
    ) -> Result<Option<Self>, Status>
    where
        S: Stream<Item = Result<FlightData, Status>> + Send + 'static,
    {
        // Some clients send the descriptor in a message of its own.
        let head = (!first.data_header.is_empty()).then_some(Ok(first));
        let mut received = 0;
        let limited = stream::iter(head).chain(rest).and_then(move |message| {
            received += message.data_header.len() + message.data_body.len();
            future::ready(if received > most {
                Err(too_large(most))
            } else {
                Ok(message)
            })
        });
        let mut incoming = Incoming::new(limited);
        let mut batches = Vec::new();
        let mut rows = 0;
        while let Some(batch) = incoming.next().await? {
            rows += batch.num_rows();
            if rows > most_rows {
                return Err(Status::resource_exhausted(format!(
                    "more than {most_rows} rows of parameters were bound; bind fewer at a time"
                )));
            }
            batches.push(batch);
        }
        match (incoming.schema(), batches.is_empty()) {
            (None, _) => Ok(None),
            // A schema without rows: no execution at all.
            (Some(schema), true) => guarded(|| {
                Ok(Some(Self {
                    batches: vec![RecordBatch::new_empty(schema.clone())],
                    most_bytes: 16 * most,
                }))
            }),
            (Some(_), false) => Ok(Some(Self {
                batches,
                most_bytes: 16 * most,
            })),
        }
    }

    /// Reads what [`Parameters::to_bytes`] wrote.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, ArrowError> {
        let reader = StreamReader::try_new(bytes, None)?;
        let schema = reader.schema();
        let mut batches = reader.collect::<Result<Vec<_>, _>>()?;
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(schema));
        }
        Ok(Self {
            batches,
            most_bytes: 16 * MOST_BYTES,
        })
    }

    /// The parameters as an Arrow IPC stream, which can be read again.
    pub(crate) fn to_bytes(&self) -> Result<Bytes, Status> {
        let write = || {
            let mut bytes = Vec::new();
            if let Some(first) = self.batches.first() {
                let mut writer = StreamWriter::try_new(&mut bytes, &first.schema())?;
                for batch in &self.batches {
                    writer.write(batch)?;
                }
                writer.finish()?;
            }
            Self::from_bytes(&bytes)?;
            Ok::<_, ArrowError>(bytes)
        };
        let bytes = guarded(|| write().map_err(|_| unreadable()))?;
        if bytes.len() > 2 * MOST_BYTES {
            return Err(too_large(MOST_BYTES));
        }
        Ok(bytes.into())
    }

    /// How many parameters each row has.
    pub(crate) fn width(&self) -> usize {
        self.batches.first().map_or(0, RecordBatch::num_columns)
    }

    /// The rows, each in the order of the statement's parameters.
    ///
    /// # Errors
    /// A value is of a type that no parameter can have; the values together are too large.
    pub(crate) fn rows(&self) -> Result<Vec<Vec<ScalarValue>>, Status> {
        guarded(|| self.values())
    }

    fn values(&self) -> Result<Vec<Vec<ScalarValue>>, Status> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        for batch in &self.batches {
            for row in 0..batch.num_rows() {
                let mut values = Vec::with_capacity(batch.num_columns());
                for (ordinal, column) in batch.columns().iter().enumerate() {
                    let value = ScalarValue::try_from_array(column, row).map_err(|_| {
                        Status::invalid_argument(format!(
                            "parameter {} has a type that cannot be bound: {}",
                            ordinal + 1,
                            column.data_type()
                        ))
                    })?;
                    let value = plain(value);
                    bytes += copied_bytes(&value);
                    if bytes > self.most_bytes {
                        return Err(too_large(self.most_bytes));
                    }
                    values.push(value);
                }
                rows.push(values);
            }
        }
        Ok(rows)
    }
}

/// Work on what a client sent. More types can be sent than the library makes, writes and reads; it panics
/// over some of the others.
fn guarded<T>(work: impl FnOnce() -> Result<T, Status>) -> Result<T, Status> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_panic| Err(unreadable()))
}

fn unreadable() -> Status {
    Status::invalid_argument("the parameters are not readable Arrow data")
}

fn too_large(most: usize) -> Status {
    Status::resource_exhausted(format!(
        "the bound parameters take more than {most} bytes; bind fewer rows at a time"
    ))
}

/// What a value takes of its own. Nested values share the memory of their batch.
fn copied_bytes(value: &ScalarValue) -> usize {
    let content = match value {
        ScalarValue::Utf8(Some(text)) => text.len(),
        ScalarValue::Binary(Some(bytes)) => bytes.len(),
        _ => 0,
    };
    size_of::<ScalarValue>() + content
}

/// The value without wrapping: of a union its present member, of an encoding the encoded value, of
/// several widths of one type the common one.
fn plain(value: ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::Union(Some((_, inner)), _, _)
        | ScalarValue::Dictionary(_, inner)
        | ScalarValue::RunEndEncoded(_, _, inner) => plain(*inner),
        ScalarValue::Union(None, _, _) => ScalarValue::Null,
        ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text) => ScalarValue::Utf8(text),
        ScalarValue::BinaryView(bytes)
        | ScalarValue::LargeBinary(bytes)
        | ScalarValue::FixedSizeBinary(_, bytes) => ScalarValue::Binary(bytes),
        ScalarValue::Decimal32(number, precision, scale) => {
            ScalarValue::Decimal128(number.map(i128::from), precision, scale)
        }
        ScalarValue::Decimal64(number, precision, scale) => {
            ScalarValue::Decimal128(number.map(i128::from), precision, scale)
        }
        ScalarValue::Decimal256(number, precision, scale) if precision <= 38 => {
            match number.map(|number| number.to_i128()) {
                None => ScalarValue::Decimal128(None, precision, scale),
                Some(Some(number)) => ScalarValue::Decimal128(Some(number), precision, scale),
                Some(None) => ScalarValue::Decimal256(number, precision, scale),
            }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryViewArray, Decimal32Array, DictionaryArray, Int64Array, NullArray,
        StringArray, StringViewArray, UnionArray,
    };
    use arrow::buffer::ScalarBuffer;
    use arrow::datatypes::{DataType, Field, Int32Type, Schema, UnionFields, UnionMode};
    use arrow::ipc::writer::IpcWriteOptions;
    use arrow_flight::SchemaAsIpc;
    use arrow_flight::encode::FlightDataEncoderBuilder;
    use tonic::Code;

    use super::*;

    fn bound(columns: Vec<ArrayRef>) -> Parameters {
        // Two columns may have one name: names mean nothing here.
        let fields: Vec<_> = columns
            .iter()
            .map(|column| Field::new("p", column.data_type().clone(), true))
            .collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        Parameters {
            batches: vec![batch],
            most_bytes: 16 * MOST_BYTES,
        }
    }

    fn rows(parameters: &Parameters) -> Vec<Vec<ScalarValue>> {
        let read = Parameters::from_bytes(&parameters.to_bytes().unwrap()).unwrap();
        assert_eq!(read, *parameters);
        read.rows().unwrap()
    }

    #[test]
    fn each_row_is_bound_by_ordinal() {
        let parameters = bound(vec![
            Arc::new(Int64Array::from(vec![1, 2])),
            Arc::new(StringViewArray::from(vec![Some("a"), None])),
        ]);
        assert_eq!(parameters.width(), 2);
        assert_eq!(
            rows(&parameters),
            [
                vec![
                    ScalarValue::Int64(Some(1)),
                    ScalarValue::Utf8(Some("a".into()))
                ],
                vec![ScalarValue::Int64(Some(2)), ScalarValue::Utf8(None)],
            ]
        );
    }

    #[test]
    fn a_dense_union_gives_each_row_its_own_type() {
        let fields = UnionFields::from_fields(vec![
            Field::new("int", DataType::Int64, true),
            Field::new("text", DataType::Utf8, true),
        ]);
        let union = UnionArray::try_new(
            fields,
            ScalarBuffer::from(vec![1_i8, 0, 1]),
            Some(ScalarBuffer::from(vec![0_i32, 0, 1])),
            vec![
                Arc::new(Int64Array::from(vec![7])),
                Arc::new(StringArray::from(vec![Some("a"), None])),
            ],
        )
        .unwrap();
        assert_eq!(
            rows(&bound(vec![Arc::new(union)])),
            [
                vec![ScalarValue::Utf8(Some("a".into()))],
                vec![ScalarValue::Int64(Some(7))],
                vec![ScalarValue::Utf8(None)],
            ]
        );
    }

    #[test]
    fn a_value_has_one_type_whatever_its_encoding() {
        let cases: [(ArrayRef, ScalarValue); 4] = [
            (
                Arc::new(
                    Decimal32Array::from(vec![125])
                        .with_precision_and_scale(5, 2)
                        .unwrap(),
                ),
                ScalarValue::Decimal128(Some(125), 5, 2),
            ),
            (
                Arc::new(
                    vec!["a"]
                        .into_iter()
                        .collect::<DictionaryArray<Int32Type>>(),
                ),
                ScalarValue::Utf8(Some("a".into())),
            ),
            (
                Arc::new(BinaryViewArray::from_iter_values([b"a"])),
                ScalarValue::Binary(Some(b"a".to_vec())),
            ),
            (Arc::new(NullArray::new(1)), ScalarValue::Null),
        ];
        for (column, value) in cases {
            assert_eq!(rows(&bound(vec![column])), [[value]]);
        }
    }

    async fn receive(
        parameters: &[RecordBatch],
        apart: bool,
    ) -> Result<Option<Parameters>, Status> {
        let schema = parameters.first().map(RecordBatch::schema);
        let encoder = FlightDataEncoderBuilder::new();
        let encoder = match schema {
            Some(schema) => encoder.with_schema(schema),
            None => encoder,
        };
        let batches = parameters.to_vec();
        let messages: Vec<FlightData> = encoder
            .build(stream::iter(batches.into_iter().map(Ok)))
            .try_collect()
            .await
            .unwrap();
        let mut messages = messages.into_iter();
        let first = if apart { None } else { messages.next() };
        let rest = stream::iter(messages.collect::<Vec<_>>()).map(Ok);
        Parameters::receive(first.unwrap_or_default(), rest).await
    }

    #[tokio::test]
    async fn parameters_are_received_with_or_after_the_descriptor() {
        let sent = bound(vec![Arc::new(Int64Array::from(vec![1, 2, 3]))]);
        for apart in [false, true] {
            assert_eq!(
                receive(&sent.batches, apart).await.unwrap(),
                Some(sent.clone())
            );
        }
    }

    #[tokio::test]
    async fn nothing_bound_differs_from_no_rows_bound() {
        assert_eq!(receive(&[], true).await.unwrap(), None);
        let none = bound(vec![Arc::new(Int64Array::from(Vec::<i64>::new()))]);
        let received = receive(&none.batches, false).await.unwrap().unwrap();
        assert_eq!(received.width(), 1);
        assert!(rows(&received).is_empty());
    }

    #[tokio::test]
    async fn too_many_parameters_are_refused() {
        let sent = bound(vec![Arc::new(Int64Array::from(vec![0; 200_000]))]);
        let status = receive(&sent.batches, false).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn rows_without_bytes_are_counted() {
        let nulls = |rows| bound(vec![Arc::new(NullArray::new(rows)) as ArrayRef]);
        assert!(receive(&nulls(MOST_ROWS).batches, false).await.is_ok());
        let status = receive(&nulls(MOST_ROWS + 1).batches, false).await;
        assert_eq!(status.unwrap_err().code(), Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn a_type_that_cannot_be_made_is_refused() {
        let nothing = DataType::Union(UnionFields::empty(), UnionMode::Dense);
        let schema = Schema::new(vec![Field::new("p", nothing, true)]);
        let message = SchemaAsIpc::new(&schema, &IpcWriteOptions::default()).into();
        let status = Parameters::receive(message, stream::empty()).await;
        assert_eq!(status.unwrap_err().code(), Code::InvalidArgument);
    }

    #[test]
    fn one_value_named_many_times_is_counted_each_time() {
        let word = "x".repeat(MOST_BYTES / 2);
        let named = |times| {
            let words = std::iter::repeat_n(word.as_str(), times);
            let coded: DictionaryArray<Int32Type> = words.collect();
            bound(vec![Arc::new(coded) as ArrayRef])
        };
        assert_eq!(named(30).rows().unwrap().len(), 30);
        let status = named(40).rows().unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn rubbish_is_refused_without_a_panic() {
        for header in [
            &b"\0"[..],
            b"not arrow at all, but long enough to look like something",
        ] {
            let first = FlightData {
                data_header: Bytes::from_static(header),
                data_body: Bytes::from_static(b"rubbish"),
                ..FlightData::default()
            };
            let status = Parameters::receive(first, stream::empty())
                .await
                .unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
        }
    }
}
