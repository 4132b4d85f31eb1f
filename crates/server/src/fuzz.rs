//! Entry points that a fuzzer feeds with bytes, shared with the test that changes valid ones.
//!
//! Each takes any bytes, may refuse them, and asserts what must hold whatever they are. To add one: a
//! function here, a target in `fuzz/`, a line in the test below.

use std::sync::LazyLock;

use arrow_flight::FlightData;
use arrow_flight::sql::{
    Any, Command, CommandGetSqlInfo, CommandGetTables, CommandPreparedStatementQuery,
    CommandStatementQuery, ProstMessageExt,
};
use bytes::Bytes;
use futures::stream;
use prost::Message;
use tietopohja_policy::{Principal, Role};
use tonic::{Code, Status};

use crate::auth::Holder;
use crate::flight::message::{StatementPayload, TicketPayload};
use crate::flight::parameters::Parameters;
use crate::flight::ticket::{read_command, read_handle, read_ticket, write_handle, write_ticket};
use crate::seal::Sealer;

/// What this server has handed out: the same in every run.
struct Issued {
    sealer: Sealer,
    holder: Principal,
    ticket: Bytes,
    handle: Bytes,
}

static ISSUED: LazyLock<Option<Issued>> = LazyLock::new(|| {
    let sealer = Sealer::new([7; 32]);
    let holder = Principal::new("aino", Role::Reader).ok()?;
    let ticket = TicketPayload {
        holder: Some(Holder::of(&holder)),
        sql: "SELECT n FROM reference.number WHERE n > 1".to_owned(),
        parameters: Some(Bytes::from_static(b"parameters")),
        expires: 1_700_000_000,
        query_id: Bytes::from_static(b"0123456789abcdef"),
        ..TicketPayload::default()
    };
    let statement = StatementPayload {
        holder: ticket.holder.clone(),
        sql: ticket.sql.clone(),
        parameter_count: 1,
        statement_id: Bytes::from_static(b"fedcba9876543210"),
        ..StatementPayload::default()
    };
    Some(Issued {
        ticket: write_ticket(&sealer, &ticket).ticket,
        handle: write_handle(&sealer, &statement),
        sealer,
        holder,
    })
});

/// Valid commands, tickets and handles: what a fuzzer starts from.
pub fn tokens() -> Vec<Vec<u8>> {
    let Some(issued) = &*ISSUED else {
        return Vec::new();
    };
    let query = CommandStatementQuery {
        query: "SELECT 1".to_owned(),
        transaction_id: None,
    };
    let prepared = CommandPreparedStatementQuery {
        prepared_statement_handle: issued.handle.clone(),
    };
    let tables = CommandGetTables {
        catalog: Some("tietopohja".to_owned()),
        db_schema_filter_pattern: Some("publ%".to_owned()),
        table_name_filter_pattern: Some("a\\_b".to_owned()),
        table_types: vec!["TABLE".to_owned(), "VIEW".to_owned()],
        include_schema: true,
    };
    let info = CommandGetSqlInfo {
        info: vec![0, 8, 504],
    };
    let commands = [
        query.as_any(),
        prepared.as_any(),
        tables.as_any(),
        info.as_any(),
    ];
    let mut tokens: Vec<_> = commands.iter().map(Any::encode_to_vec).collect();
    tokens.extend([issued.ticket.to_vec(), issued.handle.to_vec()]);
    tokens
}

/// Reads bytes as a ticket or command and as a handle.
///
/// # Panics
/// When something opens that was not handed out, or is refused with a code that says it is our mistake.
pub fn token(bytes: &[u8]) {
    let Some(issued) = &*ISSUED else { return };
    let handle = |bytes: &[u8]| {
        let read = read_handle(&issued.sealer, bytes, &issued.holder).map(drop);
        assert_eq!(read.is_ok(), bytes == issued.handle, "a forged handle");
        told(read);
    };
    handle(bytes);
    match read_command(bytes) {
        Ok(Command::TicketStatementQuery(inside)) => {
            let read = read_ticket(&issued.sealer, &inside, &issued.holder).map(drop);
            let ours = read_command(&issued.ticket);
            let ours = matches!(ours, Ok(Command::TicketStatementQuery(ours)) if ours == inside);
            assert_eq!(read.is_ok(), ours, "a forged ticket");
            told(read);
        }
        Ok(Command::CommandPreparedStatementQuery(query)) => {
            handle(&query.prepared_statement_handle);
        }
        Ok(_) => {}
        Err(status) => told(Err(status)),
    }
}

/// Reads bytes as the messages of an upload of parameters, each after the lengths of its two parts.
/// Gives how many rows were bound.
///
/// # Panics
/// When what was read cannot be carried in a handle, or is refused with a code that says it is our
/// mistake.
pub fn upload(bytes: &[u8]) -> Result<usize, Code> {
    let messages = stream::iter(messages(bytes).into_iter().map(Ok));
    let received = Parameters::receive(FlightData::default(), messages);
    let rows = futures::executor::block_on(received).and_then(|parameters| {
        let Some(parameters) = parameters else {
            return Ok(0);
        };
        let rows = parameters.rows()?.len();
        let carried = Parameters::from_bytes(&parameters.to_bytes()?);
        let again = carried.map(|carried| carried.rows().map(|rows| rows.len()));
        assert!(
            matches!(again, Ok(Ok(again)) if again == rows),
            "{rows} rows are carried: {again:?} of {parameters:?}"
        );
        Ok(rows)
    });
    rows.map_err(|status| {
        let code = status.code();
        told(Err(status));
        code
    })
}

/// The upload of these messages.
pub fn upload_of(messages: &[FlightData]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        for part in [&message.data_header, &message.data_body] {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

fn messages(mut bytes: &[u8]) -> Vec<FlightData> {
    let mut part = || {
        let (length, rest) = bytes.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (part, rest) = rest.split_at_checked(length.min(rest.len()))?;
        bytes = rest;
        Some(Bytes::copy_from_slice(part))
    };
    let mut messages = Vec::new();
    while let Some(data_header) = part() {
        messages.push(FlightData {
            data_header,
            data_body: part().unwrap_or_default(),
            ..FlightData::default()
        });
    }
    messages
}

/// Asserts that a refusal tells of the client's mistake.
fn told(read: Result<(), Status>) {
    if let Err(status) = read {
        let theirs = matches!(
            status.code(),
            Code::InvalidArgument
                | Code::Unauthenticated
                | Code::NotFound
                | Code::PermissionDenied
                | Code::ResourceExhausted
        );
        assert!(theirs, "{status}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Int64Array,
        ListArray, NullArray, RecordBatch, RunArray, StringArray, StringViewArray, StructArray,
        TimestampMicrosecondArray, UnionArray,
    };
    use arrow::buffer::ScalarBuffer;
    use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, UnionFields};
    use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
    use futures::TryStreamExt;

    use super::*;

    /// Changed copies of each sample. `MUTANTS` asks for more.
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever runs the tests may ask for more mutants"
    )]
    fn mutants() -> u64 {
        std::env::var("MUTANTS")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(2000)
    }

    /// Numbers without pattern, the same in every run.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % sides.max(1) as u64) as usize
        }

        /// A changed copy: cut, flipped, with a piece of another sample, or with lengths that lie.
        fn change(&mut self, bytes: &[u8], other: &[u8]) -> Vec<u8> {
            const NUMBERS: [&[u8]; 6] = [
                &[0xFF; 4],
                &[0xFF; 8],
                &[0x7F, 0xFF, 0xFF, 0xFF],
                &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
                &[0, 0xCA, 0x9A, 0x3B, 0, 0, 0, 0],
                &[0; 8],
            ];
            let mut changed = bytes.to_vec();
            for _ in 0..=self.roll(3) {
                let place = self.roll(changed.len() + 1);
                let end = (place + self.roll(24)).min(changed.len());
                match self.roll(7) {
                    0 => changed.truncate(place),
                    1 | 2 => {
                        if let Some(byte) = changed.get_mut(place) {
                            *byte ^= 1 << self.roll(8);
                        }
                    }
                    3 => drop(changed.drain(place..end)),
                    4 => {
                        let from = self.roll(other.len() + 1);
                        let to = (from + self.roll(64)).min(other.len());
                        changed.splice(place..end, other[from..to].iter().copied());
                    }
                    5 => changed.extend_from_within(place..end),
                    _ => {
                        let number = NUMBERS[self.roll(NUMBERS.len())];
                        for (at, byte) in number.iter().enumerate() {
                            if let Some(there) = changed.get_mut(place + at) {
                                *there = *byte;
                            }
                        }
                    }
                }
            }
            changed
        }
    }

    #[test]
    fn a_changed_token_never_opens_and_never_panics() {
        let samples = tokens();
        assert_eq!(samples.len(), 6);
        let mut dice = Dice(0x5EED);
        for sample in &samples {
            token(sample);
            for length in 0..sample.len() {
                token(&sample[..length]);
            }
            for _ in 0..mutants() {
                let other = &samples[dice.roll(samples.len())];
                token(&dice.change(sample, other));
            }
        }
    }

    #[test]
    fn what_was_handed_out_opens() {
        let issued = ISSUED.as_ref().unwrap();
        assert!(read_handle(&issued.sealer, &issued.handle, &issued.holder).is_ok());
        let Ok(Command::TicketStatementQuery(inside)) = read_command(&issued.ticket) else {
            unreachable!("a ticket is a statement ticket")
        };
        assert!(read_ticket(&issued.sealer, &inside, &issued.holder).is_ok());
    }

    /// Columns of every shape that a client may bind.
    fn columns() -> Vec<ArrayRef> {
        let coded: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
        let runs =
            RunArray::<Int32Type>::try_new(&vec![2, 3].into(), &StringArray::from(vec!["a", "b"]));
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
        );
        let lists = vec![Some(vec![Some(1), None]), None, Some(vec![])];
        let pairs = StructArray::from(vec![(
            Arc::new(Field::new("inside", DataType::Int64, true)),
            Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef,
        )]);
        vec![
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])),
            Arc::new(BooleanArray::from(vec![true, false, true])),
            Arc::new(StringArray::from(vec![Some("Äänekoski"), None, Some("")])),
            Arc::new(StringViewArray::from(vec![
                "long enough to be outside",
                "b",
                "c",
            ])),
            Arc::new(Decimal128Array::from(vec![1, 2, 3])),
            Arc::new(TimestampMicrosecondArray::from(vec![1, 2, 3]).with_timezone("+02:00")),
            Arc::new(
                FixedSizeBinaryArray::try_from_iter([b"ab", b"cd", b"ef"].into_iter()).unwrap(),
            ),
            Arc::new(NullArray::new(3)),
            Arc::new(coded),
            Arc::new(runs.unwrap()),
            Arc::new(union.unwrap()),
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)),
            Arc::new(pairs),
        ]
    }

    fn sent(columns: Vec<ArrayRef>) -> Vec<u8> {
        let named = columns.into_iter().map(|column| ("p", column, true));
        let batch = RecordBatch::try_from_iter_with_nullable(named).unwrap();
        let encoded = FlightDataEncoderBuilder::new()
            .with_dictionary_handling(DictionaryHandling::Resend)
            .build(stream::iter([Ok(batch)]))
            .try_collect::<Vec<_>>();
        upload_of(&futures::executor::block_on(encoded).unwrap())
    }

    #[test]
    fn a_changed_upload_is_read_or_refused_and_never_panics() {
        let mut samples: Vec<_> = columns()
            .into_iter()
            .map(|column| sent(vec![column]))
            .collect();
        samples.push(sent(columns()));
        let mut dice = Dice(0x5EED);
        let (mut read, mut refused) = (0, 0);
        for sample in &samples {
            assert_eq!(upload(sample), Ok(3), "the sample itself is read");
            for _ in 0..mutants() {
                let other = &samples[dice.roll(samples.len())];
                match upload(&dice.change(sample, other)) {
                    Ok(_) => read += 1,
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(
            read > 100 && refused > 100,
            "{read} read, {refused} refused"
        );
    }
}
