//! Arrow data that a client sends: looked at before it is decoded.
//!
//! The library's decoder believes what a message says of itself: it makes room for as many bytes as a
//! packed body claims to hold, copies what is named twice, counts as many rows as are declared, and
//! panics over schemas that it does not know. Here stands what a message must be like before the decoder
//! sees it, so that its cost follows from its length; a panic that is left is the client's mistake, told
//! as such. Everything that decodes what a client sends goes through [`Incoming`].

use std::panic::AssertUnwindSafe;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc;
use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt, future};
use tonic::Status;

/// The most rows, or values of a nested column, that one message may declare.
const MOST_VALUES: i64 = 1 << 24;

/// The most bytes that a schema may take once decoded. A message can name one column many times.
const MOST_SCHEMA_BYTES: usize = 4 << 20;

/// What a column takes besides its name and metadata.
const FIELD_BYTES: usize = 128;

/// The batches of a client.
pub(crate) struct Incoming {
    decoder: FlightRecordBatchStream,
}

impl Incoming {
    /// Batches out of messages.
    pub(crate) fn new<S>(messages: S) -> Self
    where
        S: Stream<Item = Result<FlightData, Status>> + Send + 'static,
    {
        let checked = messages.and_then(|message| {
            let sound = is_sound(&message);
            future::ready(sound.then_some(message).ok_or_else(unreadable))
        });
        Self {
            decoder: FlightRecordBatchStream::new_from_flight_data(checked.err_into()),
        }
    }

    /// The next batch.
    ///
    /// # Errors
    /// The messages are not Arrow data that can be read here, or the client's stream failed.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>, Status> {
        match AssertUnwindSafe(self.decoder.next()).catch_unwind().await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(batch))) => Ok(Some(batch)),
            Ok(Some(Err(FlightError::Tonic(status)))) => Err(*status),
            Ok(Some(Err(_))) | Err(_) => Err(unreadable()),
        }
    }

    /// The schema, once it has come.
    pub(crate) fn schema(&self) -> Option<&SchemaRef> {
        self.decoder.schema()
    }
}

fn unreadable() -> Status {
    Status::invalid_argument(
        "the rows are not readable Arrow data; send them as an Arrow stream without compression",
    )
}

/// Whether the decoder can be trusted with a message.
fn is_sound(message: &FlightData) -> bool {
    // This checks that the parts of the header lie within it, and no deeper than 64 levels.
    let Ok(header) = ipc::root_as_message(&message.data_header) else {
        return false;
    };
    let body = message.data_body.len();
    match header.header_type() {
        ipc::MessageHeader::Schema => header
            .header_as_schema()
            .is_some_and(|schema| is_small(&schema)),
        ipc::MessageHeader::RecordBatch => header
            .header_as_record_batch()
            .is_some_and(|batch| is_within(&batch, body)),
        ipc::MessageHeader::DictionaryBatch => header
            .header_as_dictionary_batch()
            .and_then(|dictionary| dictionary.data())
            .is_some_and(|batch| is_within(&batch, body)),
        // The decoder passes over those without a header, and refuses others.
        _ => true,
    }
}

/// Whether the values of a batch lie in its body, each byte once and as it is.
fn is_within(batch: &ipc::RecordBatch<'_>, body: usize) -> bool {
    let mut left = body;
    let mut fits = |buffer: &ipc::Buffer| {
        let (Ok(start), Ok(length)) = (
            usize::try_from(buffer.offset()),
            usize::try_from(buffer.length()),
        ) else {
            return false;
        };
        let inside = start.checked_add(length).is_some_and(|end| end <= body);
        match left.checked_sub(length) {
            Some(rest) if inside => {
                left = rest;
                true
            }
            _ => false,
        }
    };
    batch.compression().is_none()
        && (0..=MOST_VALUES).contains(&batch.length())
        && batch.nodes().into_iter().flatten().all(|node| {
            (0..=MOST_VALUES).contains(&node.length())
                && (0..=node.length()).contains(&node.null_count())
        })
        && batch
            .buffers()
            .into_iter()
            .flatten()
            .all(|buffer| fits(buffer))
}

/// Whether a schema stays small when its parts are copied out of the message.
fn is_small(schema: &ipc::Schema<'_>) -> bool {
    let mut left = MOST_SCHEMA_BYTES;
    let metadata = schema.custom_metadata().into_iter().flatten();
    take(&mut left, metadata.map(pair_bytes).sum())
        && schema
            .fields()
            .into_iter()
            .flatten()
            .all(|field| field_fits(&field, &mut left))
}

/// Takes a column and those inside it out of what is left. The header is at most 64 levels deep.
fn field_fits(field: &ipc::Field<'_>, left: &mut usize) -> bool {
    let metadata = field.custom_metadata().into_iter().flatten();
    let own =
        FIELD_BYTES + field.name().map_or(0, str::len) + metadata.map(pair_bytes).sum::<usize>();
    take(left, own)
        && field
            .children()
            .into_iter()
            .flatten()
            .all(|child| field_fits(&child, left))
}

fn pair_bytes(pair: ipc::KeyValue<'_>) -> usize {
    pair.key().map_or(0, str::len) + pair.value().map_or(0, str::len)
}

fn take(left: &mut usize, bytes: usize) -> bool {
    match left.checked_sub(bytes) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, NullArray};
    use arrow::datatypes::{DataType, Field, Int32Type, Schema};
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::IpcWriteOptions;
    use arrow_flight::SchemaAsIpc;
    use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
    use bytes::Bytes;
    use futures::stream;
    use tonic::Code;

    use super::*;

    /// The messages of one column.
    async fn messages(column: ArrayRef, packed: Option<CompressionType>) -> Vec<FlightData> {
        let batch = RecordBatch::try_from_iter_with_nullable([("p", column, true)]).unwrap();
        FlightDataEncoderBuilder::new()
            .with_dictionary_handling(DictionaryHandling::Resend)
            .with_options(
                IpcWriteOptions::default()
                    .try_with_compression(packed)
                    .unwrap(),
            )
            .build(stream::iter([Ok(batch)]))
            .try_collect()
            .await
            .unwrap()
    }

    async fn read(messages: Vec<FlightData>) -> Result<usize, Status> {
        let mut incoming = Incoming::new(stream::iter(messages).map(Ok));
        let mut rows = 0;
        while let Some(batch) = incoming.next().await? {
            rows += batch.num_rows();
        }
        Ok(rows)
    }

    async fn is_refused(messages: Vec<FlightData>, what: &str) {
        let status = read(messages).await.expect_err(what);
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
    }

    /// The bytes with every number `from` of eight bytes made `to`.
    fn patched(bytes: &Bytes, from: i64, to: i64) -> Bytes {
        let mut bytes = bytes.to_vec();
        let (from, to) = (from.to_le_bytes(), to.to_le_bytes());
        let mut changes = 0;
        for at in 0..bytes.len().saturating_sub(7) {
            if bytes[at..at + 8] == from {
                bytes[at..at + 8].copy_from_slice(&to);
                changes += 1;
            }
        }
        assert!(changes > 0, "the number is there");
        bytes.into()
    }

    const ROWS: i64 = 1237;

    fn numbers() -> ArrayRef {
        Arc::new((0..ROWS).collect::<Int64Array>())
    }

    #[tokio::test]
    async fn rows_that_are_not_there_are_not_counted() {
        for column in [numbers(), Arc::new(NullArray::new(1237)) as ArrayRef] {
            let sent = messages(column, None).await;
            assert_eq!(read(sent.clone()).await.unwrap(), 1237);
            for declared in [1_000_000_000, i64::MAX, -1, i64::MIN] {
                let mut changed = sent.clone();
                changed[1].data_header = patched(&changed[1].data_header, ROWS, declared);
                is_refused(changed, "rows are declared").await;
            }
        }
    }

    #[tokio::test]
    async fn values_outside_the_body_are_not_read() {
        let sent = messages(numbers(), None).await;
        let mut cut = sent.clone();
        cut[1].data_body.truncate(100);
        is_refused(cut, "a body that ends early").await;
        let mut long = sent.clone();
        long[1].data_header = patched(&long[1].data_header, ROWS * 8, i64::MAX - 7);
        is_refused(long, "a buffer without an end").await;
    }

    #[tokio::test]
    async fn a_packed_body_is_refused_whatever_it_says_of_its_size() {
        for packed in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
            let sent = messages(numbers(), Some(packed)).await;
            is_refused(sent.clone(), "a packed body").await;
            // As much memory as no machine has: to make room for it would end the process.
            let mut huge = sent;
            huge[1].data_body = patched(&huge[1].data_body, ROWS * 8, 1 << 46);
            is_refused(huge, "a packed body of 64 TiB").await;
        }
    }

    #[tokio::test]
    async fn dictionaries_come_after_their_schema_and_are_their_own() {
        let words: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
        let sent = messages(Arc::new(words), None).await;
        assert_eq!(sent.len(), 3, "schema, dictionary, rows");
        assert_eq!(read(sent.clone()).await.unwrap(), 3);
        let pick = |order: &[usize]| order.iter().map(|at| sent[*at].clone()).collect::<Vec<_>>();
        let orders: [&[usize]; 6] = [
            &[1, 0, 2],
            &[2, 0, 1],
            &[0, 2, 1],
            &[1, 2],
            &[2],
            &[0, 1, 0, 2],
        ];
        for order in orders {
            is_refused(pick(order), "messages out of order").await;
        }
    }

    fn schema_message(schema: &Schema) -> FlightData {
        let options = IpcWriteOptions::default();
        SchemaAsIpc::new(schema, &options).into()
    }

    #[tokio::test]
    async fn a_schema_is_no_deeper_and_no_larger_than_it_may_be() {
        let nested = |depth: usize| {
            (0..depth).fold(Field::new("leaf", DataType::Int64, true), |inner, _| {
                Field::new_list("list", inner, true)
            })
        };
        let wide = |columns: usize| -> Vec<Field> {
            let field = |n: usize| Field::new(format!("p{n}"), DataType::Int64, true);
            (0..columns).map(field).collect()
        };
        let described = |bytes: usize| {
            let text = HashMap::from([("note".to_owned(), "x".repeat(bytes))]);
            Schema::new(wide(1)).with_metadata(text)
        };
        for (schema, taken) in [
            (Schema::new(vec![nested(5)]), true),
            (Schema::new(vec![nested(200)]), false),
            (Schema::new(wide(1000)), true),
            (Schema::new(wide(100_000)), false),
            (described(1000), true),
            (described(5 << 20), false),
        ] {
            let read = read(vec![schema_message(&schema)]).await;
            assert_eq!(read.is_ok(), taken, "{} columns", schema.fields().len());
        }
    }

    #[tokio::test]
    async fn a_panic_of_the_decoder_is_the_mistake_of_the_client() {
        let item = Field::new("item", DataType::Int64, true);
        let schema = Schema::new(vec![Field::new_list("l", item, true)]);
        let sent = schema_message(&schema);
        let mut panics = 0;
        for at in 0..sent.data_header.len() {
            let mut header = sent.data_header.to_vec();
            header[at] = 0;
            let message = FlightData {
                data_header: header.into(),
                ..FlightData::default()
            };
            let decode = || Schema::try_from(&message).is_ok();
            if is_sound(&message) && std::panic::catch_unwind(decode).is_err() {
                panics += 1;
                is_refused(vec![message], "a broken schema").await;
            }
        }
        assert!(panics > 0, "the library panics over some of them");
    }
}
