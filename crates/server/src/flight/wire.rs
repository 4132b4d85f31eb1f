//! The wire schema: what leaves this door, whatever the engine holds inside.
//!
//! A result has one schema, computed here from the planned one, and it is the same in a prepared
//! statement, in `GetFlightInfo`, in `GetSchema`, in `PollFlightInfo` and in every stream; batches
//! are cast to it. It keeps to the types that old drivers read:
//!
//! * text is `Utf8` and bytes are `Binary`: no views, no large or fixed-size variants;
//! * dictionaries and run-end encoding are unpacked, every kind of list is `List`;
//! * decimals are `Decimal128` (`Decimal256` only where 38 digits are not enough);
//! * a timestamp has no zone, and its value is in UTC, in microseconds or a coarser unit;
//! * every column may be null, because planned and executed nullability differ;
//! * no field metadata: comments and type names belong to `GetTables`.
//!
//! A client may ask for another [`TimestampRule`], other [`TypeRule`] or [`Compression`]: its
//! [`Profile`]. To relax a rule for clients, add it there and to the settings of sessions.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, StructArray, UnionArray,
};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{
    DataType, Field, FieldRef, Fields, Int64Type, Schema, SchemaRef, TimeUnit, UnionFields,
    UnionMode,
};
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use tietopohja_domain::FinnishOffset;

/// How a column of moments (timestamps with a zone) is shown. A timestamp without a zone is shown as it
/// is, whatever the rule: nobody knows which moment it means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum TimestampRule {
    /// Without a zone, in UTC.
    #[default]
    Utc,
    /// Without a zone, as clocks in Finland show it. In the hour that the autumn has twice, two moments
    /// look the same.
    Helsinki,
    /// With its zone, UTC.
    Zoned,
}

impl TimestampRule {
    pub(crate) const ALL: [TimestampRule; 3] = [
        TimestampRule::Utc,
        TimestampRule::Helsinki,
        TimestampRule::Zoned,
    ];

    /// The word in settings.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            TimestampRule::Utc => "utc",
            TimestampRule::Helsinki => "helsinki",
            TimestampRule::Zoned => "zoned",
        }
    }

    /// The rule of a word.
    pub(crate) fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == word)
    }
}

/// Which types columns have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum TypeRule {
    /// Those that every driver reads.
    #[default]
    Standard,
    /// For tools without decimals and dates: decimals are floating-point numbers, and a date is the
    /// timestamp of its first moment. Inside lists and structs they stay.
    Simple,
    /// For tools that read all of Arrow: as the engine has them, unpacked from dictionaries and runs.
    Native,
}

impl TypeRule {
    pub(crate) const ALL: [TypeRule; 3] = [TypeRule::Standard, TypeRule::Simple, TypeRule::Native];

    /// The word in settings.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            TypeRule::Standard => "standard",
            TypeRule::Simple => "simple",
            TypeRule::Native => "native",
        }
    }

    /// The rule of a word.
    pub(crate) fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == word)
    }

    /// The type on the wire of a column of the engine.
    fn column_type(self, planned: &DataType) -> DataType {
        match (self, planned) {
            (_, DataType::Dictionary(_, values)) => self.column_type(values),
            (_, DataType::RunEndEncoded(_, values)) => self.column_type(values.data_type()),
            (TypeRule::Native, DataType::Timestamp(unit, Some(_))) => {
                DataType::Timestamp(*unit, None)
            }
            (TypeRule::Native, planned) => planned.clone(),
            (TypeRule::Simple, planned) => match wire_type(planned) {
                DataType::Decimal128(..) | DataType::Decimal256(..) => DataType::Float64,
                DataType::Date32 | DataType::Date64 => {
                    DataType::Timestamp(TimeUnit::Microsecond, None)
                }
                other => other,
            },
            (TypeRule::Standard, planned) => wire_type(planned),
        }
    }
}

/// How the bodies of messages are packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4 frames: quick.
    Lz4,
    /// Zstandard: small.
    Zstd,
}

impl Compression {
    pub(crate) const ALL: [Compression; 3] =
        [Compression::None, Compression::Lz4, Compression::Zstd];

    /// The word in settings.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// The packing of a word.
    pub(crate) fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// What the writer of messages calls it.
    pub(crate) fn codec(self) -> Option<CompressionType> {
        match self {
            Compression::None => None,
            Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
            Compression::Zstd => Some(CompressionType::ZSTD),
        }
    }
}

/// What rows look like to one client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Profile {
    pub(crate) timestamps: TimestampRule,
    pub(crate) types: TypeRule,
    pub(crate) compression: Compression,
}

impl Profile {
    /// The words of the rules, as a ticket carries them.
    pub(crate) fn words(self) -> Vec<String> {
        [
            self.timestamps.as_str(),
            self.types.as_str(),
            self.compression.as_str(),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// The profile of such words; what is not said is as by default.
    pub(crate) fn of_words(words: &[String]) -> Self {
        let word = |place: usize| words.get(place).map(String::as_str).unwrap_or_default();
        Self {
            timestamps: TimestampRule::named(word(0)).unwrap_or_default(),
            types: TypeRule::named(word(1)).unwrap_or_default(),
            compression: Compression::named(word(2)).unwrap_or_default(),
        }
    }
}

/// The schema of one result on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wire {
    schema: SchemaRef,
    profile: Profile,
}

impl Wire {
    /// The wire schema of a planned schema. Applying it twice changes nothing.
    pub(crate) fn of(planned: &Schema, profile: Profile) -> Self {
        let column = |field: &FieldRef| {
            let plain = profile.types.column_type(field.data_type());
            let shown = match (field.data_type(), plain, profile.timestamps) {
                (
                    DataType::Timestamp(_, Some(_)),
                    DataType::Timestamp(unit, None),
                    TimestampRule::Zoned,
                ) => DataType::Timestamp(unit, Some("UTC".into())),
                (_, plain, _) => plain,
            };
            Arc::new(Field::new(field.name(), shown, true))
        };
        let fields: Fields = planned.fields().iter().map(column).collect();
        Self {
            schema: Arc::new(Schema::new(fields)),
            profile,
        }
    }

    /// How the bodies of messages are packed.
    pub(crate) fn compression(&self) -> Compression {
        self.profile.compression
    }

    /// The schema itself.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The batch with the wire's types.
    ///
    /// # Errors
    /// The batch has other columns than were planned, or a value does not fit the wire type.
    pub(crate) fn cast(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let wanted = self.schema.fields();
        if batch.num_columns() != wanted.len() {
            return Err(ArrowError::SchemaError(format!(
                "a batch of {} columns came for a result of {}",
                batch.num_columns(),
                wanted.len()
            )));
        }
        let columns = batch
            .columns()
            .iter()
            .zip(wanted)
            .map(|(column, field)| match column.data_type() {
                DataType::Timestamp(_, Some(_)) => moments(column, field.data_type(), self.profile),
                _ => wire_array(column, field.data_type(), self.profile.types),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
    }
}

/// Moments as the rule shows them.
fn moments(column: &ArrayRef, wanted: &DataType, profile: Profile) -> Result<ArrayRef, ArrowError> {
    match profile.timestamps {
        TimestampRule::Utc => wire_array(column, wanted, profile.types),
        // The zone is a label: the values are in UTC already.
        TimestampRule::Zoned => cast(column, wanted),
        TimestampRule::Helsinki => {
            let plain = wire_array(column, wanted, profile.types)?;
            let DataType::Timestamp(unit, None) = wanted else {
                return Ok(plain);
            };
            let a_second: i64 = match unit {
                TimeUnit::Second => 1,
                TimeUnit::Millisecond => 1_000,
                TimeUnit::Microsecond => 1_000_000,
                TimeUnit::Nanosecond => 1_000_000_000,
            };
            let numbers = cast(&plain, &DataType::Int64)?;
            let mut offset = FinnishOffset::default();
            let shifted = numbers.as_primitive::<Int64Type>().iter().map(|moment| {
                let Some(moment) = moment else {
                    return Ok(None);
                };
                let ahead = offset.at(moment.div_euclid(a_second));
                let ahead = ahead.and_then(|ahead| ahead.checked_mul(a_second));
                let shown = ahead.and_then(|ahead| moment.checked_add(ahead));
                shown
                    .map(Some)
                    .ok_or_else(|| ArrowError::ArithmeticOverflow(String::new()))
            });
            let shifted: ArrayRef = Arc::new(shifted.collect::<Result<Int64Array, _>>()?);
            cast(&shifted, wanted)
        }
    }
}

fn wire_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), wire_type(field.data_type()), true))
}

/// The type on the wire for a type of the engine.
pub(crate) fn wire_type(planned: &DataType) -> DataType {
    match planned {
        DataType::Null
        | DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Duration(_)
        | DataType::Interval(_)
        | DataType::Union(_, _) => planned.clone(),
        DataType::Float16 => DataType::Float32,
        // Many drivers have no nanoseconds, and no source tells them.
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        DataType::Timestamp(unit, _) => DataType::Timestamp(*unit, None),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => DataType::Decimal128(*precision, *scale),
        DataType::Decimal256(precision, scale) if *precision <= 38 => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Decimal256(precision, scale) => DataType::Decimal256(*precision, *scale),
        DataType::Dictionary(_, values) => wire_type(values),
        DataType::RunEndEncoded(_, values) => wire_type(values.data_type()),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => DataType::List(wire_field(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(wire_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(wire_entries(entries), *sorted),
    }
}

/// The entries of a map and their keys are never null, by the format's own rule.
fn wire_entries(entries: &FieldRef) -> FieldRef {
    let fields: Fields = match entries.data_type() {
        DataType::Struct(fields) => fields
            .iter()
            .enumerate()
            .map(|(index, field)| {
                Arc::new(Field::new(
                    field.name(),
                    wire_type(field.data_type()),
                    index > 0,
                ))
            })
            .collect(),
        _ => return Arc::clone(entries),
    };
    Arc::new(Field::new(entries.name(), DataType::Struct(fields), false))
}

fn wire_array(
    array: &ArrayRef,
    wanted: &DataType,
    types: TypeRule,
) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == wanted {
        return Ok(Arc::clone(array));
    }
    // Only what the rule says may change here. Another type was planned wrongly, and a cast would give
    // wrong numbers.
    let came = types.column_type(array.data_type());
    if !came.equals_datatype(wanted) && !is_same_decimal(&came, wanted) {
        return Err(ArrowError::SchemaError(format!(
            "a column of type {} came where {wanted} was planned",
            array.data_type()
        )));
    }
    // A value that does not fit is an error, never a silent null.
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(array, wanted, &options)
}

/// Whether decimals keep their digits in the wanted type. Functions such as `round` say more exactly how
/// many decimals they give once their arguments are computed than when they are planned.
fn is_same_decimal(came: &DataType, wanted: &DataType) -> bool {
    match (came, wanted) {
        (DataType::Decimal128(_, came), DataType::Decimal128(_, wanted))
        | (DataType::Decimal256(_, came), DataType::Decimal256(_, wanted)) => came <= wanted,
        _ => false,
    }
}

/// The pieces of a batch, in order, each about `target` bytes or less on the wire; a single row is
/// never split. The size of a piece is that of its own rows, not of the buffers it is a slice of.
pub(crate) fn split(batch: RecordBatch, target: usize) -> Vec<RecordBatch> {
    let mut pieces = Vec::new();
    let mut waiting = vec![batch];
    while let Some(batch) = waiting.pop() {
        let rows = batch.num_rows();
        if rows <= 1 || batch_bytes(&batch) <= target {
            pieces.push(batch);
        } else {
            let half = rows / 2;
            waiting.push(batch.slice(half, rows - half));
            waiting.push(batch.slice(0, half));
        }
    }
    pieces
}

/// Bytes of the rows of this batch, as they go on the wire.
pub(crate) fn batch_bytes(batch: &RecordBatch) -> usize {
    batch
        .columns()
        .iter()
        .map(|column| sliced_bytes(column.as_ref()))
        .sum()
}

/// Bytes of the rows of this array. Children of lists count only where this slice points at them.
fn sliced_bytes(array: &dyn Array) -> usize {
    let validity = array.nulls().map_or(0, |_| array.len().div_ceil(8));
    match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let offsets = list.value_offsets();
            validity + size_of_val(offsets) + range_bytes(list.values(), offsets)
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            let offsets = map.value_offsets();
            validity + size_of_val(offsets) + struct_range_bytes(map.entries(), offsets)
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns();
            validity
                + columns
                    .iter()
                    .map(|column| sliced_bytes(column.as_ref()))
                    .sum::<usize>()
        }
        DataType::Union(fields, mode) => union_bytes(array, fields, *mode),
        _ => array
            .to_data()
            .get_slice_memory_size()
            .unwrap_or_else(|_| array.get_buffer_memory_size()),
    }
}

fn range_bytes(values: &ArrayRef, offsets: &[i32]) -> usize {
    match bounds(offsets) {
        Some((from, length)) => sliced_bytes(values.slice(from, length).as_ref()),
        None => 0,
    }
}

fn struct_range_bytes(values: &StructArray, offsets: &[i32]) -> usize {
    match bounds(offsets) {
        Some((from, length)) => sliced_bytes(&values.slice(from, length)),
        None => 0,
    }
}

fn bounds(offsets: &[i32]) -> Option<(usize, usize)> {
    let from = usize::try_from(*offsets.first()?).ok()?;
    let to = usize::try_from(*offsets.last()?).ok()?;
    Some((from, to.checked_sub(from)?))
}

/// The writer sends the children of a dense union whole; no piece of it can be made smaller.
fn union_bytes(array: &dyn Array, fields: &UnionFields, mode: UnionMode) -> usize {
    match (mode, array.as_any().downcast_ref::<UnionArray>()) {
        (UnionMode::Sparse, Some(union)) => {
            let children = fields
                .iter()
                .map(|(id, _)| sliced_bytes(union.child(id).as_ref()));
            array.len() + children.sum::<usize>()
        }
        (UnionMode::Dense, Some(_)) => 5 * array.len(),
        (_, None) => array.get_buffer_memory_size(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BinaryViewArray, BooleanArray, Decimal32Array, Decimal64Array, Decimal128Array,
        Decimal256Array, DictionaryArray, FixedSizeBinaryArray, FixedSizeListArray, Float32Array,
        Int32Array, Int64Array, LargeBinaryArray, LargeListArray, LargeStringArray, ListArray,
        MapArray, NullArray, RunArray, StringArray, StringViewArray, TimestampMicrosecondArray,
        TimestampNanosecondArray, UInt64Array,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{Int32Type, TimeUnit, i256};

    use super::*;

    fn through(array: ArrayRef) -> ArrayRef {
        let nullable = array.is_nullable();
        let field = Field::new("c", array.data_type().clone(), nullable)
            .with_metadata([("comment".to_owned(), "not for results".to_owned())].into());
        let schema = Arc::new(Schema::new(vec![field]));
        let wire = Wire::of(&schema, Profile::default());
        let batch = RecordBatch::try_new(schema, vec![array]).unwrap();
        let cast = wire.cast(&batch).unwrap();
        assert_eq!(cast.schema(), *wire.schema());
        assert_eq!(
            Wire::of(wire.schema(), Profile::default()),
            wire,
            "the wire schema of a wire schema is itself"
        );
        assert!(wire.schema().field(0).is_nullable());
        assert!(wire.schema().field(0).metadata().is_empty());
        Arc::clone(cast.column(0))
    }

    fn check(inside: impl Array + 'static, outside: impl Array + 'static) {
        let (inside, outside): (ArrayRef, ArrayRef) = (Arc::new(inside), Arc::new(outside));
        assert_eq!(&through(inside), &outside);
    }

    #[test]
    fn a_decimal_with_fewer_decimals_than_planned_keeps_its_value() {
        let cast = |came: i8, planned: i8| {
            let field = |scale| Field::new("d", DataType::Decimal128(13, scale), true);
            let wire = Wire::of(&Schema::new(vec![field(planned)]), Profile::default());
            let column = Decimal128Array::from(vec![Some(205), None, Some(-33)])
                .with_precision_and_scale(13, came)
                .unwrap();
            let schema = Arc::new(Schema::new(vec![field(came)]));
            wire.cast(&RecordBatch::try_new(schema, vec![Arc::new(column)]).unwrap())
        };
        let wanted = Decimal128Array::from(vec![Some(2050), None, Some(-330)])
            .with_precision_and_scale(13, 2)
            .unwrap();
        assert_eq!(
            cast(1, 2).unwrap().column(0).as_ref(),
            &wanted as &dyn Array
        );
        assert!(cast(2, 1).is_err(), "decimals would be lost");
    }

    #[test]
    fn text_and_bytes_have_one_type_each() {
        let text = || StringArray::from(vec![Some("ä"), None, Some("a longer text than twelve")]);
        check(text(), text());
        check(StringViewArray::from_iter(text().iter()), text());
        check(LargeStringArray::from_iter(text().iter()), text());
        let bytes = || arrow::array::BinaryArray::from_iter(vec![Some(&b"ab"[..]), None]);
        check(BinaryViewArray::from_iter(bytes().iter()), bytes());
        check(LargeBinaryArray::from_iter(bytes().iter()), bytes());
        let fixed =
            FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes().iter(), 2).unwrap();
        check(fixed, bytes());
    }

    #[test]
    fn encodings_are_unpacked() {
        let dictionary: DictionaryArray<Int32Type> =
            vec![Some("x"), None, Some("x")].into_iter().collect();
        check(
            dictionary,
            StringArray::from(vec![Some("x"), None, Some("x")]),
        );
        let runs = RunArray::<Int32Type>::try_new(
            &Int32Array::from(vec![2, 3]),
            &StringViewArray::from(vec!["x", "y"]),
        )
        .unwrap();
        check(runs, StringArray::from(vec!["x", "x", "y"]));
    }

    #[test]
    fn decimals_widen_to_128_bits() {
        let wide = |digits| {
            arrow::array::Decimal128Array::from(vec![Some(12_345), None])
                .with_precision_and_scale(digits, 2)
                .unwrap()
        };
        let narrow = Decimal32Array::from(vec![Some(12_345), None]);
        check(narrow.with_precision_and_scale(9, 2).unwrap(), wide(9));
        let middle = Decimal64Array::from(vec![Some(12_345), None]);
        check(middle.with_precision_and_scale(18, 2).unwrap(), wide(18));
        let fits = Decimal256Array::from(vec![Some(i256::from(12_345)), None]);
        check(fits.with_precision_and_scale(38, 2).unwrap(), wide(38));
        let huge = || {
            Decimal256Array::from(vec![Some(i256::from(1))])
                .with_precision_and_scale(60, 2)
                .unwrap()
        };
        check(huge(), huge());
    }

    #[test]
    fn a_timestamp_keeps_its_moment_and_loses_its_zone() {
        // The two moments around the end of summer time 2024 in Finland, an hour apart.
        let moments = vec![1_729_987_200_000_000, 1_729_990_800_000_000];
        let plain = || TimestampMicrosecondArray::from(moments.clone());
        for zone in ["UTC", "+00:00", "+02:00"] {
            check(plain().with_timezone(zone), plain());
        }
        check(plain(), plain());
        let fine = || TimestampNanosecondArray::from(vec![1_729_987_200_000_000_001]);
        let rounded = TimestampMicrosecondArray::from(vec![1_729_987_200_000_000]);
        check(fine().with_timezone("+03:00"), rounded.clone());
        check(fine(), rounded);
    }

    #[test]
    fn nested_types_follow_the_same_rules() {
        let item = |kind| Arc::new(Field::new("item", kind, true));
        let list = ListArray::new(
            item(DataType::Utf8),
            OffsetBuffer::from_lengths([2, 0]),
            Arc::new(StringArray::from(vec!["a", "b"])),
            None,
        );
        let large = LargeListArray::new(
            item(DataType::Utf8View),
            OffsetBuffer::from_lengths([2, 0]),
            Arc::new(StringViewArray::from(vec!["a", "b"])),
            None,
        );
        check(large, list);
        let fixed = FixedSizeListArray::new(
            item(DataType::Int32),
            2,
            Arc::new(Int32Array::from(vec![1, 2])),
            None,
        );
        let wanted = ListArray::new(
            item(DataType::Int32),
            OffsetBuffer::from_lengths([2]),
            Arc::new(Int32Array::from(vec![1, 2])),
            None,
        );
        check(fixed, wanted);
        let moment = TimestampMicrosecondArray::from(vec![5]).with_timezone("+02:00");
        let inside = StructArray::from(vec![(
            Arc::new(Field::new("at", moment.data_type().clone(), false)),
            Arc::new(moment) as ArrayRef,
        )]);
        let outside = StructArray::from(vec![(
            Arc::new(Field::new(
                "at",
                DataType::Timestamp(TimeUnit::Microsecond, None),
                true,
            )),
            Arc::new(TimestampMicrosecondArray::from(vec![5])) as ArrayRef,
        )]);
        check(inside, outside);
        let map = |text: ArrayRef, nullable| {
            let fields = Fields::from(vec![
                Field::new("key", text.data_type().clone(), false),
                Field::new("value", DataType::Int32, nullable),
            ]);
            let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1]));
            let entries = StructArray::new(fields, vec![text, numbers], None);
            let field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
            MapArray::new(field, OffsetBuffer::from_lengths([1]), entries, None, false)
        };
        check(
            map(Arc::new(StringViewArray::from(vec!["k"])), false),
            map(Arc::new(StringArray::from(vec!["k"])), true),
        );
    }

    #[test]
    fn plain_types_pass_unchanged() {
        check(
            BooleanArray::from(vec![true]),
            BooleanArray::from(vec![true]),
        );
        check(
            UInt64Array::from(vec![u64::MAX]),
            UInt64Array::from(vec![u64::MAX]),
        );
        check(NullArray::new(2), NullArray::new(2));
        let single = Float32Array::from(vec![Some(1.5), None]);
        let half = arrow::compute::cast(&single, &DataType::Float16).unwrap();
        assert_eq!(through(half).as_ref(), &single as &dyn Array);
    }

    #[test]
    fn a_batch_of_another_shape_is_refused() {
        let schema = Schema::new(vec![
            Field::new("a", DataType::Int32, true),
            Field::new("b", DataType::Int32, true),
        ]);
        let wire = Wire::of(&schema, Profile::default());
        let column: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([("a", column)]).unwrap();
        assert!(wire.cast(&batch).is_err());
    }

    #[test]
    fn a_column_of_another_type_is_refused_rather_than_rounded() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, true)]);
        let wire = Wire::of(&schema, Profile::default());
        let column: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![1.5]));
        let batch = RecordBatch::try_from_iter([("a", column)]).unwrap();
        assert!(matches!(wire.cast(&batch), Err(ArrowError::SchemaError(_))));
    }

    fn whole(pieces: &[RecordBatch]) -> RecordBatch {
        arrow::compute::concat_batches(&pieces[0].schema(), pieces).unwrap()
    }

    #[test]
    fn pieces_are_small_whole_and_in_order() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
        let text: ArrayRef = Arc::new(StringArray::from_iter_values(
            (0..100_000).map(|n| "x".repeat(if n % 1_000 == 0 { 5_000 } else { 3 })),
        ));
        let batch = RecordBatch::try_from_iter([("n", numbers), ("t", text)]).unwrap();
        let pieces = split(batch.clone(), 64 * 1024);
        assert!(pieces.len() > 10);
        assert!(pieces.iter().all(|piece| batch_bytes(piece) <= 64 * 1024));
        assert_eq!(whole(&pieces), batch);
    }

    #[test]
    fn a_slice_is_measured_by_its_own_rows() {
        let lengths = std::iter::repeat_n(1_000, 1_000);
        let list = ListArray::new(
            Arc::new(Field::new("item", DataType::Int64, true)),
            OffsetBuffer::from_lengths(lengths),
            Arc::new(Int64Array::from_iter_values(0..1_000_000)),
            None,
        );
        let column: ArrayRef = Arc::new(list);
        let batch = RecordBatch::try_from_iter([("l", column)]).unwrap();
        let slice = batch.slice(10, 5);
        assert!(batch_bytes(&slice) < 50_000, "{}", batch_bytes(&slice));
        assert_eq!(split(slice, 64 * 1024).len(), 1);
        let pieces = split(batch.clone(), 1024 * 1024);
        assert!(pieces.len() < 20, "{}", pieces.len());
        assert_eq!(whole(&pieces), batch);
    }

    #[test]
    fn one_wide_row_stays_whole() {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(100_000), "y".into()]));
        let batch = RecordBatch::try_from_iter([("t", column)]).unwrap();
        let pieces = split(batch, 1_000);
        assert_eq!(
            pieces.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(),
            [1, 1]
        );
        assert_eq!(
            split(pieces[0].slice(0, 0), 1_000).len(),
            1,
            "an empty batch is a piece"
        );
    }

    #[test]
    fn types_are_as_the_client_asks() {
        let amount = arrow::array::Decimal128Array::from(vec![Some(12_345), None])
            .with_precision_and_scale(9, 2)
            .unwrap();
        let day = arrow::array::Date32Array::from(vec![Some(19_782), None]);
        let text = StringViewArray::from(vec![Some("ä"), None]);
        let coded: DictionaryArray<Int32Type> = vec![Some("x"), None].into_iter().collect();
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("amount", Arc::new(amount) as ArrayRef, true),
            ("day", Arc::new(day) as ArrayRef, true),
            ("text", Arc::new(text) as ArrayRef, true),
            ("coded", Arc::new(coded) as ArrayRef, true),
        ])
        .unwrap();
        let moment = DataType::Timestamp(TimeUnit::Microsecond, None);
        for (rule, types, first) in [
            (
                TypeRule::Standard,
                [
                    DataType::Decimal128(9, 2),
                    DataType::Date32,
                    DataType::Utf8,
                    DataType::Utf8,
                ],
                ["123.45", "2024-02-29", "ä", "x"],
            ),
            (
                TypeRule::Simple,
                [DataType::Float64, moment, DataType::Utf8, DataType::Utf8],
                ["123.45", "2024-02-29T00:00:00", "ä", "x"],
            ),
            (
                TypeRule::Native,
                [
                    DataType::Decimal128(9, 2),
                    DataType::Date32,
                    DataType::Utf8View,
                    DataType::Utf8,
                ],
                ["123.45", "2024-02-29", "ä", "x"],
            ),
        ] {
            let profile = Profile {
                types: rule,
                ..Profile::default()
            };
            let wire = Wire::of(&batch.schema(), profile);
            let cast = wire.cast(&batch).unwrap();
            assert_eq!(cast.schema(), *wire.schema());
            for (index, (kind, shown)) in types.iter().zip(first).enumerate() {
                assert_eq!(cast.column(index).data_type(), kind, "{rule:?}");
                let value = arrow::util::display::array_value_to_string(cast.column(index), 0);
                assert_eq!(value.unwrap(), shown, "{rule:?}");
                assert!(cast.column(index).is_null(1), "{rule:?}");
            }
        }
    }

    #[test]
    fn moments_are_shown_by_rule_also_when_clocks_change() {
        let cases = [
            ("2024-03-31T00:59:59.999999Z", "2024-03-31T02:59:59.999999"),
            ("2024-03-31T01:00:00Z", "2024-03-31T04:00:00"),
            ("2024-10-27T00:30:00Z", "2024-10-27T03:30:00"),
            ("2024-10-27T01:30:00Z", "2024-10-27T03:30:00"),
            ("1969-12-31T23:59:59.5Z", "1970-01-01T01:59:59.500"),
        ];
        let micros = |text: &str| {
            let moment: tietopohja_domain::Timestamp = text.parse().unwrap();
            moment.as_microsecond()
        };
        let moments: Vec<Option<i64>> = cases
            .iter()
            .map(|(moment, _)| Some(micros(moment)))
            .chain([None])
            .collect();
        let zoned = TimestampMicrosecondArray::from(moments.clone()).with_timezone("+02:00");
        let unzoned = TimestampMicrosecondArray::from(moments.clone());
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("moment", Arc::new(zoned) as ArrayRef, true),
            ("wall", Arc::new(unzoned.clone()) as ArrayRef, true),
        ])
        .unwrap();
        let shown = |rule: TimestampRule| {
            let profile = Profile {
                timestamps: rule,
                ..Profile::default()
            };
            let wire = Wire::of(&batch.schema(), profile);
            let again = Wire::of(wire.schema(), profile);
            assert_eq!(again.schema(), wire.schema(), "{rule:?}");
            let cast = wire.cast(&batch).unwrap();
            assert_eq!(cast.schema(), *wire.schema());
            assert_eq!(cast.column(1).as_ref(), &unzoned as &dyn Array, "{rule:?}");
            Arc::clone(cast.column(0))
        };
        assert_eq!(shown(TimestampRule::Utc).as_ref(), &unzoned as &dyn Array);
        let utc = TimestampMicrosecondArray::from(moments).with_timezone("UTC");
        assert_eq!(shown(TimestampRule::Zoned).as_ref(), &utc as &dyn Array);
        let helsinki: Vec<Option<i64>> = cases
            .iter()
            .map(|(_, wall)| Some(micros(&format!("{wall}Z"))))
            .chain([None])
            .collect();
        let helsinki = TimestampMicrosecondArray::from(helsinki);
        assert_eq!(
            shown(TimestampRule::Helsinki).as_ref(),
            &helsinki as &dyn Array
        );
    }
}
