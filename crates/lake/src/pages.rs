//! What a column of a row group holds, as codes and as plain values, without a detour through rows.
//!
//! A column whose pages are codes of a dictionary is read as what it is: one code a row, in the
//! narrowest type that the dictionary needs, and the values of the dictionary once. Numbers that have
//! no dictionary are copied, or added up where differences are stored. What is written in any other way
//! is left to the Parquet library's own reader ([`column`] gives `None`); pages are found, and unpacked
//! where they are compressed, by the library too. The layout of pages, levels, runs and differences is
//! that of the Apache Parquet format, "Data Pages", "Run Length Encoding / Bit-Packing Hybrid" and
//! "Delta Encoding".
//!
//! - *Result*: `Dictionary(UInt8, UInt16 or UInt32, values)`, where every row has a code and one of
//!   them may stand for null; or an array of values, where rows without one are null. Values are
//!   `Utf8`, `Int32`, `Int64` or `Date32`.
//! - *Time*: about a nanosecond a row.
//! - *Memory*: that of the result, of buffers that are no longer needed where there are some
//!   ([`Spare`]): the first touch of new memory takes longer than what is then written there.
//!
//! Loops over all rows are compiled twice, for any processor and for those with AVX2 and BMI2, from one
//! text; which of them runs is found out when it is called.
//!
//! What may not live here: which files and columns are read (`coded_scan.rs`). To read another
//! encoding: an arm of [`Chunk::page`].

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, StringArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowNativeType, DataType, Date32Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
};
use bytes::Bytes;
use multiversion::multiversion;
use parquet::basic::{Encoding, Type as PhysicalType};
use parquet::column::page::{Page, PageReader};

use crate::LakeError;

/// A column of a row group: the values of its rows, or their codes and the values that these stand for.
#[derive(Debug, Clone)]
pub struct StoredColumn {
    /// `UInt8`, `UInt16`, `UInt32` or `Int32` from zero, each with a value; `None` where rows have values
    /// of their own.
    pub codes: Option<ArrayRef>,
    /// The values.
    pub values: ArrayRef,
}

impl StoredColumn {
    /// How many rows it has.
    pub(crate) fn rows(&self) -> usize {
        self.codes.as_ref().unwrap_or(&self.values).len()
    }
}

impl From<ArrayRef> for StoredColumn {
    /// Rows that have values of their own.
    fn from(values: ArrayRef) -> Self {
        Self {
            codes: None,
            values,
        }
    }
}

/// The rows of a column of a row group; `None` when it holds something that is not read here.
///
/// `stored` is the type in the file and `data_type` that of the values; the column is flat and may have
/// nulls when `nullable`.
///
/// # Errors
/// When the pages contradict themselves, or cannot be read.
pub(crate) fn column(
    pages: &mut dyn PageReader,
    stored: PhysicalType,
    nullable: bool,
    data_type: &DataType,
    rows: usize,
    spare: &mut Spare,
) -> Result<Option<StoredColumn>, LakeError> {
    let kind = match (stored, data_type) {
        (PhysicalType::INT32, DataType::Int32) => Kind::Int32,
        (PhysicalType::INT32, DataType::Date32) => Kind::Date32,
        (PhysicalType::INT64, DataType::Int64) => Kind::Int64,
        (PhysicalType::BYTE_ARRAY, DataType::Utf8 | DataType::Utf8View) => Kind::Text,
        _ => return Ok(None),
    };
    let mut chunk = Chunk::of(rows, nullable, kind, spare);
    let failed = |error| LakeError::parquet("read a column of a data file")(error);
    while let Some(page) = pages.get_next_page().map_err(failed)? {
        if chunk.page(page)?.is_none() {
            return Ok(None);
        }
    }
    chunk.finish(rows)
}

/// Rows that room is made for at once.
const MOST_ROOM: usize = 1 << 20;

/// Buffers of one kind that are kept: columns that the Parquet library has read are given back too, and
/// nobody may ask for as many.
const MOST_SPARE: usize = 32;

/// Buffers of columns that are no longer needed, for those that are read next.
#[derive(Debug, Default)]
pub struct Spare {
    bytes: Vec<Vec<u8>>,
    shorts: Vec<Vec<u16>>,
    words: Vec<Vec<u32>>,
    narrow: Vec<Vec<i32>>,
    wide: Vec<Vec<i64>>,
    /// Of files, with what was read before.
    raw: Vec<Vec<u8>>,
}

impl Spare {
    /// A buffer to read a part of a file into; what is in it means nothing.
    pub fn raw(&mut self) -> Vec<u8> {
        self.raw.pop().unwrap_or_default()
    }

    pub(crate) fn put_raw(&mut self, buffer: Vec<u8>) {
        if self.raw.len() < MOST_SPARE {
            self.raw.push(buffer);
        }
    }

    /// Takes the buffer of a column that was read, unless somebody else still holds it.
    pub fn take_back(&mut self, column: StoredColumn) {
        let rows = column.codes.unwrap_or(column.values);
        match rows.data_type() {
            DataType::UInt8 => self.keep::<UInt8Type>(rows),
            DataType::UInt16 => self.keep::<UInt16Type>(rows),
            DataType::UInt32 => self.keep::<UInt32Type>(rows),
            DataType::Int32 => self.keep::<Int32Type>(rows),
            DataType::Date32 => self.keep::<Date32Type>(rows),
            DataType::Int64 => self.keep::<Int64Type>(rows),
            _ => {}
        }
    }

    fn keep<T>(&mut self, rows: ArrayRef)
    where
        T: ArrowPrimitiveType<Native: Reused>,
    {
        let Some(values) = rows.as_primitive_opt::<T>().cloned() else {
            return;
        };
        // Let go of, so that the values hold the buffer alone.
        drop(rows);
        let (_, values, _) = values.into_parts();
        if let Ok(values) = values.into_inner().into_vec::<T::Native>() {
            self.put(values);
        }
    }

    fn put<T: Reused>(&mut self, buffer: Vec<T>) {
        let kept = T::spare(self);
        if kept.len() < MOST_SPARE {
            kept.push(buffer);
        }
    }

    /// An empty buffer with room for so many.
    fn buffer<T: Reused>(&mut self, room: usize) -> Vec<T> {
        let mut buffer = T::spare(self).pop().unwrap_or_default();
        buffer.clear();
        buffer.reserve(room);
        buffer
    }
}

/// What buffers are kept of.
trait Reused: ArrowNativeType {
    fn spare(spare: &mut Spare) -> &mut Vec<Vec<Self>>;
}

macro_rules! reused {
    ($($number:ty => $spare:ident),+) => {
        $(impl Reused for $number {
            fn spare(spare: &mut Spare) -> &mut Vec<Vec<Self>> {
                &mut spare.$spare
            }
        })+
    };
}

reused!(u8 => bytes, u16 => shorts, u32 => words, i32 => narrow, i64 => wide);

/// What a column is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Int32,
    Date32,
    Int64,
    Text,
}

/// Values of a dictionary, or of rows.
#[derive(Debug)]
enum Numbers {
    None,
    Narrow(Vec<i32>),
    Wide(Vec<i64>),
}

/// Codes of the rows that have a value.
#[derive(Debug)]
enum Codes {
    None,
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
}

/// Which rows have a value.
#[derive(Debug, Default)]
struct Levels {
    rows: usize,
    /// By row; empty as long as all have one.
    known: Vec<u8>,
}

impl Levels {
    fn all(&mut self, rows: usize) {
        if !self.known.is_empty() {
            self.known.resize(self.known.len() + rows, 1);
        }
        self.rows += rows;
    }
}

#[derive(Debug)]
enum Dictionary {
    Numbers(Numbers),
    Texts(StringArray),
}

impl Dictionary {
    fn len(&self) -> usize {
        match self {
            Dictionary::Texts(texts) => texts.len(),
            Dictionary::Numbers(Numbers::Narrow(numbers)) => numbers.len(),
            Dictionary::Numbers(Numbers::Wide(numbers)) => numbers.len(),
            Dictionary::Numbers(Numbers::None) => 0,
        }
    }

    /// The values; a null behind them where it is needed.
    fn values(self, kind: Kind, with_null: bool) -> Result<ArrayRef, LakeError> {
        fn all<T: ArrowPrimitiveType>(
            mut numbers: Vec<T::Native>,
            with_null: bool,
        ) -> Result<ArrayRef, LakeError> {
            let known = numbers.len();
            let nulls = with_null.then(|| {
                numbers.push(T::default_value());
                NullBuffer::new(BooleanBuffer::collect_bool(known + 1, |place| {
                    place < known
                }))
            });
            Ok(Arc::new(primitive::<T>(numbers.into(), nulls)?))
        }
        Ok(match self {
            Dictionary::Texts(texts) => match with_null {
                false => Arc::new(texts),
                true => Arc::new(texts.iter().chain([None]).collect::<StringArray>()),
            },
            Dictionary::Numbers(Numbers::Wide(numbers)) => all::<Int64Type>(numbers, with_null)?,
            Dictionary::Numbers(Numbers::Narrow(numbers)) => match kind {
                Kind::Date32 => all::<Date32Type>(numbers, with_null)?,
                _ => all::<Int32Type>(numbers, with_null)?,
            },
            Dictionary::Numbers(Numbers::None) => return Err(damaged()),
        })
    }
}

/// A column of a row group that is being read.
#[derive(Debug)]
struct Chunk<'a> {
    spare: &'a mut Spare,
    rows: usize,
    nullable: bool,
    kind: Kind,
    dictionary: Option<Dictionary>,
    codes: Codes,
    /// Values of rows that have no code; those of codes lie before them.
    numbers: Numbers,
    levels: Levels,
}

impl<'a> Chunk<'a> {
    fn of(rows: usize, nullable: bool, kind: Kind, spare: &'a mut Spare) -> Self {
        Self {
            spare,
            rows,
            nullable,
            kind,
            dictionary: None,
            codes: Codes::None,
            numbers: Numbers::None,
            levels: Levels::default(),
        }
    }

    /// Rows that room is made for at once: a file may say anything.
    fn room(&self) -> usize {
        self.rows.min(MOST_ROOM)
    }

    /// Takes in a page; `None` when it is of a kind that is not read here.
    fn page(&mut self, page: Page) -> Result<Option<()>, LakeError> {
        if let Page::DataPage { num_values, .. } | Page::DataPageV2 { num_values, .. } = &page
            && *num_values as usize > self.rows.saturating_sub(self.levels.rows)
        {
            return Err(damaged());
        }
        match page {
            Page::DictionaryPage {
                buf, num_values, ..
            } => self.dictionary_page(&buf, num_values as usize).map(Some),
            Page::DataPage {
                buf,
                num_values,
                encoding,
                def_level_encoding,
                ..
            } => {
                let rows = num_values as usize;
                if !self.nullable {
                    self.levels.all(rows);
                    return self.data(&buf, encoding, rows);
                }
                if def_level_encoding != Encoding::RLE {
                    return Ok(None);
                }
                let length = buf.get(..4).and_then(|length| length.try_into().ok());
                let length = u32::from_le_bytes(length.ok_or_else(damaged)?) as usize;
                let end = length.checked_add(4).ok_or_else(damaged)?;
                let present = self.level_runs(buf.get(4..end).ok_or_else(damaged)?, rows)?;
                self.data(&buf.slice(end..), encoding, present)
            }
            Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                def_levels_byte_len,
                rep_levels_byte_len,
                ..
            } => {
                let rows = num_values as usize;
                let from = rep_levels_byte_len as usize;
                let end = from.checked_add(def_levels_byte_len as usize);
                let end = end.ok_or_else(damaged)?;
                let levels = buf.get(from..end).ok_or_else(damaged)?;
                let present = match self.nullable {
                    true => self.level_runs(levels, rows)?,
                    false => {
                        self.levels.all(rows);
                        rows
                    }
                };
                self.data(&buf.slice(end..), encoding, present)
            }
        }
    }

    /// Which rows of a page have a value; gives how many do.
    fn level_runs(&mut self, levels: &[u8], rows: usize) -> Result<usize, LakeError> {
        let mut runs = Runs::new(levels, 1);
        // Nearly always all of them.
        if let Some(Run::Same(1, length)) = runs.next_run()?
            && length >= rows
        {
            self.levels.all(rows);
            return Ok(rows);
        }
        if self.levels.known.is_empty() {
            self.levels.known = self.spare.buffer(self.room());
            self.levels.known.resize(self.levels.rows, 1);
        }
        let known = &mut self.levels.known;
        let before = known.len();
        unpack_runs(levels, 1, rows, known)?;
        let own = known.get(before..).unwrap_or_default();
        if own.iter().fold(0, |all, level| all | *level) > 1 {
            return Err(damaged());
        }
        self.levels.rows += rows;
        Ok(own.iter().map(|level| usize::from(*level)).sum())
    }

    fn dictionary_page(&mut self, bytes: &Bytes, values: usize) -> Result<(), LakeError> {
        // Each value takes four bytes at least.
        if self.dictionary.is_some() || values > bytes.len() / 4 {
            return Err(damaged());
        }
        let dictionary = match self.kind {
            Kind::Text => Dictionary::Texts(texts(bytes, values)?),
            Kind::Int32 | Kind::Date32 => {
                let mut numbers = Vec::with_capacity(values);
                put_numbers(bytes, values, &mut numbers, i32::from_le_bytes)?;
                Dictionary::Numbers(Numbers::Narrow(numbers))
            }
            Kind::Int64 => {
                let mut numbers = Vec::with_capacity(values);
                put_numbers(bytes, values, &mut numbers, i64::from_le_bytes)?;
                Dictionary::Numbers(Numbers::Wide(numbers))
            }
        };
        let room = self.room();
        self.codes = match dictionary.len() {
            0..=0x100 => Codes::U8(self.spare.buffer(room)),
            0x101..=0x1_0000 => Codes::U16(self.spare.buffer(room)),
            _ => Codes::U32(self.spare.buffer(room)),
        };
        self.dictionary = Some(dictionary);
        Ok(())
    }

    /// The values of so many rows.
    fn data(
        &mut self,
        bytes: &[u8],
        encoding: Encoding,
        present: usize,
    ) -> Result<Option<()>, LakeError> {
        match encoding {
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => {
                if !matches!(self.numbers, Numbers::None) {
                    return Ok(None);
                }
                if present == 0 {
                    return Ok(Some(()));
                }
                let (width, bytes) = bytes.split_first().ok_or_else(damaged)?;
                let width = u32::from(*width);
                match &mut self.codes {
                    Codes::U8(codes) => unpack_runs(bytes, width, present, codes)?,
                    Codes::U16(codes) => unpack_runs(bytes, width, present, codes)?,
                    Codes::U32(codes) => unpack_runs(bytes, width, present, codes)?,
                    Codes::None => return Err(damaged()),
                }
                Ok(Some(()))
            }
            // A dictionary that became too large is given up in the middle.
            Encoding::PLAIN if self.kind != Kind::Text => {
                self.leave_codes()?;
                match &mut self.numbers {
                    Numbers::Wide(numbers) => {
                        put_numbers(bytes, present, numbers, i64::from_le_bytes)?;
                    }
                    Numbers::Narrow(numbers) => {
                        put_numbers(bytes, present, numbers, i32::from_le_bytes)?;
                    }
                    Numbers::None => return Err(damaged()),
                }
                Ok(Some(()))
            }
            Encoding::DELTA_BINARY_PACKED if self.kind != Kind::Text => {
                self.leave_codes()?;
                match &mut self.numbers {
                    Numbers::Wide(numbers) => put_sums(bytes, present, numbers, |sum| sum)?,
                    // Differences of narrow numbers wrap around as these do.
                    Numbers::Narrow(numbers) => {
                        put_sums(bytes, present, numbers, |sum| sum as i32)?;
                    }
                    Numbers::None => return Err(damaged()),
                }
                Ok(Some(()))
            }
            _ => Ok(None),
        }
    }

    /// Goes on with values in the place of codes.
    fn leave_codes(&mut self) -> Result<(), LakeError> {
        if !matches!(self.numbers, Numbers::None) {
            return Ok(());
        }
        let codes = std::mem::replace(&mut self.codes, Codes::None);
        let dictionary = match &self.dictionary {
            Some(Dictionary::Numbers(numbers)) => numbers,
            Some(Dictionary::Texts(_)) => return Err(damaged()),
            None => &Numbers::None,
        };
        let room = self.rows.min(MOST_ROOM);
        self.numbers = match (self.kind, dictionary) {
            (Kind::Text, _) => return Err(damaged()),
            (Kind::Int64, Numbers::Wide(values)) => {
                let mut numbers = self.spare.buffer(room);
                codes.look_up(values, &mut numbers)?;
                Numbers::Wide(numbers)
            }
            (_, Numbers::Narrow(values)) => {
                let mut numbers = self.spare.buffer(room);
                codes.look_up(values, &mut numbers)?;
                Numbers::Narrow(numbers)
            }
            (Kind::Int64, _) => Numbers::Wide(self.spare.buffer(room)),
            (_, _) => Numbers::Narrow(self.spare.buffer(room)),
        };
        match codes {
            Codes::U8(codes) => self.spare.put(codes),
            Codes::U16(codes) => self.spare.put(codes),
            Codes::U32(codes) => self.spare.put(codes),
            Codes::None => {}
        }
        Ok(())
    }

    fn finish(mut self, rows: usize) -> Result<Option<StoredColumn>, LakeError> {
        if self.levels.rows != rows {
            return Err(damaged());
        }
        // So many values are no fewer than the rows' own, nearly; and rows without any have no codes.
        if self.kind != Kind::Text
            && (matches!(self.codes, Codes::U32(_)) || self.dictionary.is_none())
        {
            self.leave_codes()?;
        }
        let levels = std::mem::take(&mut self.levels.known);
        let column = self.column(&levels);
        self.spare.put(levels);
        column
    }

    /// The column of rows of which these have a value; all where there are no levels.
    fn column(&mut self, known: &[u8]) -> Result<Option<StoredColumn>, LakeError> {
        let nulls = || (!known.is_empty()).then(|| NullBuffer::new(bits(known)));
        match std::mem::replace(&mut self.numbers, Numbers::None) {
            Numbers::Narrow(numbers) => {
                let numbers = ScalarBuffer::from(spread(numbers, known, 0, self.spare)?);
                return Ok(Some(match self.kind {
                    Kind::Date32 => primitive::<Date32Type>(numbers, nulls())?.into(),
                    _ => primitive::<Int32Type>(numbers, nulls())?.into(),
                }));
            }
            Numbers::Wide(numbers) => {
                let numbers = ScalarBuffer::from(spread(numbers, known, 0, self.spare)?);
                return Ok(Some(primitive::<Int64Type>(numbers, nulls())?.into()));
            }
            Numbers::None => {}
        }
        let Some(dictionary) = self.dictionary.take() else {
            return Ok(None);
        };
        // The code of no value is behind the others, where it is needed.
        let has_nulls = !known.is_empty();
        let none = if has_nulls { dictionary.len() } else { 0 };
        let values = dictionary.values(self.kind, has_nulls)?;
        let codes = std::mem::replace(&mut self.codes, Codes::None);
        Ok(Some(
            match (codes, u8::try_from(none), u16::try_from(none)) {
                (Codes::U8(codes), Ok(none), _) => {
                    coded::<UInt8Type>(spread(codes, known, none, self.spare)?, values)?
                }
                (Codes::U8(codes), Err(_), Ok(none)) => {
                    let codes = widened(codes, self.spare);
                    coded::<UInt16Type>(spread(codes, known, none, self.spare)?, values)?
                }
                (Codes::U16(codes), _, Ok(none)) => {
                    coded::<UInt16Type>(spread(codes, known, none, self.spare)?, values)?
                }
                (Codes::U16(codes), _, Err(_)) => {
                    let codes = widened(codes, self.spare);
                    coded::<UInt32Type>(spread(codes, known, none as u32, self.spare)?, values)?
                }
                (Codes::U32(codes), _, _) => {
                    coded::<UInt32Type>(spread(codes, known, none as u32, self.spare)?, values)?
                }
                (Codes::None, _, _) | (Codes::U8(_), Err(_), Err(_)) => return Err(damaged()),
            },
        ))
    }
}

impl Codes {
    /// Puts the value of each behind `out`.
    fn look_up<V: Copy>(&self, values: &[V], out: &mut Vec<V>) -> Result<(), LakeError> {
        fn each<C: Copy + Into<u32>, V: Copy>(
            codes: &[C],
            values: &[V],
            out: &mut Vec<V>,
        ) -> Result<(), LakeError> {
            out.reserve(codes.len());
            for code in codes {
                let code: u32 = (*code).into();
                out.push(*values.get(code as usize).ok_or_else(damaged)?);
            }
            Ok(())
        }
        match self {
            Codes::None => Ok(()),
            Codes::U8(codes) => each(codes, values, out),
            Codes::U16(codes) => each(codes, values, out),
            Codes::U32(codes) => each(codes, values, out),
        }
    }
}

fn primitive<T: ArrowPrimitiveType>(
    values: ScalarBuffer<T::Native>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, LakeError> {
    let numbers = PrimitiveArray::<T>::try_new(values, nulls).map_err(|_| damaged())?;
    Ok(Arc::new(numbers))
}

/// Codes of rows; it is checked that each has a value.
fn coded<K: ArrowPrimitiveType<Native: Ord>>(
    codes: Vec<K::Native>,
    values: ArrayRef,
) -> Result<StoredColumn, LakeError> {
    // The highest is found in wide registers; Arrow's own check looks at one after the other.
    let highest = codes.iter().copied().max();
    if highest.is_some_and(|highest| highest.as_usize() >= values.len()) {
        return Err(damaged());
    }
    Ok(StoredColumn {
        codes: Some(primitive::<K>(ScalarBuffer::from(codes), None)?),
        values,
    })
}

/// The same codes with more room for each.
fn widened<A: Reused, B: Reused + From<A>>(codes: Vec<A>, spare: &mut Spare) -> Vec<B> {
    let mut wide = spare.buffer(codes.len());
    wide.extend(codes.iter().map(|code| B::from(*code)));
    spare.put(codes);
    wide
}

/// One value for each row, where only rows with a value brought one.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+lzcnt"))]
fn spread<T: Reused>(
    values: Vec<T>,
    levels: &[u8],
    none: T,
    spare: &mut Spare,
) -> Result<Vec<T>, LakeError> {
    if levels.is_empty() {
        return Ok(values);
    }
    let mut rows = spare.buffer(levels.len());
    rows.resize(levels.len(), none);
    let mut left = values.as_slice();
    let mut eight = |levels: [u8; 8]| {
        let levels = u64::from_le_bytes(levels);
        // Each byte of the product is the sum of the levels up to its own.
        let sums = levels.wrapping_mul(0x0101_0101_0101_0101);
        let before = sums - levels;
        let near = match left.first_chunk::<8>() {
            Some(near) => *near,
            None => std::array::from_fn(|place| left.get(place).copied().unwrap_or(none)),
        };
        left = left.get((sums >> 56) as usize..).ok_or_else(damaged)?;
        // No branch for each row: which of them have a value is as good as random.
        Ok(std::array::from_fn::<T, 8, _>(|place| {
            let value = near[(before >> (place * 8)) as usize & 7];
            match (levels >> (place * 8)) & 1 {
                1 => value,
                _ => none,
            }
        }))
    };
    let (eights, last) = rows.as_chunks_mut::<8>();
    let (levels, last_levels) = levels.as_chunks::<8>();
    for (rows, levels) in eights.iter_mut().zip(levels) {
        *rows = eight(*levels)?;
    }
    let mut levels = [0; 8];
    let known = levels.iter_mut().zip(last_levels);
    known.for_each(|(to, from)| *to = *from);
    let known = last.iter_mut().zip(eight(levels)?);
    known.for_each(|(to, from)| *to = from);
    match left.is_empty() {
        true => {
            spare.put(values);
            Ok(rows)
        }
        false => Err(damaged()),
    }
}

/// A bit for each level, which is 0 or 1.
fn bits(levels: &[u8]) -> BooleanBuffer {
    let eights = levels.chunks(8).map(|levels| {
        let mut eight = [0; 8];
        for (to, from) in eight.iter_mut().zip(levels) {
            *to = *from;
        }
        // The product's highest byte has the lowest bit of each, in order.
        (u64::from_le_bytes(eight).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
    });
    BooleanBuffer::new(eights.collect::<Vec<u8>>().into(), 0, levels.len())
}

/// Numbers of `W` bytes each.
fn put_numbers<T, const W: usize>(
    bytes: &[u8],
    count: usize,
    out: &mut Vec<T>,
    of: fn([u8; W]) -> T,
) -> Result<(), LakeError> {
    let length = count.checked_mul(W).ok_or_else(damaged)?;
    let (numbers, _) = bytes.get(..length).ok_or_else(damaged)?.as_chunks::<W>();
    out.extend(numbers.iter().map(|number| of(*number)));
    Ok(())
}

/// A number of seven bits a byte, the lowest first.
fn varint(bytes: &mut &[u8]) -> Result<u64, LakeError> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or_else(damaged)?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(damaged())
}

/// The same, where every other number is below zero.
fn zigzag(bytes: &mut &[u8]) -> Result<i64, LakeError> {
    let number = varint(bytes)?;
    Ok((number >> 1) as i64 ^ -((number & 1) as i64))
}

/// Numbers of which the first is stored, and of each of the others how much more it is than the one
/// before; all wrap around. Differences lie in blocks, each with its least one, and these in parts with
/// so many bits a difference for what is above the least.
fn put_sums<T: Copy + Default>(
    mut bytes: &[u8],
    count: usize,
    out: &mut Vec<T>,
    of: impl Fn(i64) -> T,
) -> Result<(), LakeError> {
    let bytes = &mut bytes;
    let length = |bytes: &mut &[u8]| usize::try_from(varint(bytes)?).map_err(|_| damaged());
    let (block, parts) = (length(bytes)?, length(bytes)?);
    let stored = length(bytes)?;
    let mut sum = zigzag(bytes)?;
    let of_part = block.checked_div(parts).ok_or_else(damaged)?;
    if of_part == 0 || of_part % 8 != 0 || of_part * parts != block || stored != count {
        return Err(damaged());
    }
    let Some(mut left) = count.checked_sub(1) else {
        return Ok(());
    };
    out.reserve(count.min(MOST_ROOM));
    out.push(of(sum));
    while left > 0 {
        let least = zigzag(bytes)?;
        let (widths, rest) = bytes.split_at_checked(parts).ok_or_else(damaged)?;
        *bytes = rest;
        for width in widths {
            if left == 0 {
                break;
            }
            let (width, taken) = (usize::from(*width), of_part.min(left));
            let needed = taken.checked_mul(width).ok_or_else(damaged)?.div_ceil(8);
            if width > 64 || needed > bytes.len() {
                return Err(damaged());
            }
            let next = |above: u64| {
                sum = sum.wrapping_add(least).wrapping_add(above as i64);
                of(sum)
            };
            unpack_each(bytes, width, taken, next, out);
            left -= taken;
            let whole = of_part.checked_mul(width).ok_or_else(damaged)? / 8;
            *bytes = bytes.get(whole..).unwrap_or_default();
        }
    }
    Ok(())
}

/// Texts, each behind its length in four bytes.
fn texts(bytes: &[u8], count: usize) -> Result<StringArray, LakeError> {
    let mut left = bytes;
    let mut texts = Vec::new();
    for _ in 0..count {
        let (length, rest) = left.split_first_chunk::<4>().ok_or_else(damaged)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (text, rest) = rest.split_at_checked(length).ok_or_else(damaged)?;
        texts.push(std::str::from_utf8(text).map_err(|_| damaged())?);
        left = rest;
    }
    Ok(StringArray::from(texts))
}

pub(crate) fn damaged() -> LakeError {
    LakeError::parquet("read a column of a data file")(parquet::errors::ParquetError::General(
        "a page does not hold what it says".to_owned(),
    ))
}

/// A code, or a level.
trait Code: Copy + Default {
    fn of(number: u64) -> Self;
}

impl Code for u8 {
    #[inline]
    fn of(number: u64) -> Self {
        number as u8
    }
}

impl Code for u16 {
    #[inline]
    fn of(number: u64) -> Self {
        number as u16
    }
}

impl Code for u32 {
    #[inline]
    fn of(number: u64) -> Self {
        number as u32
    }
}

/// A run of numbers.
#[derive(Debug, PartialEq, Eq)]
enum Run<'a> {
    /// The same number so many times.
    Same(u32, usize),
    /// Groups of eight numbers, bit by bit.
    Packed(&'a [u8], usize),
}

/// Runs of numbers of so many bits.
struct Runs<'a> {
    left: &'a [u8],
    width: u32,
}

impl<'a> Runs<'a> {
    fn new(bytes: &'a [u8], width: u32) -> Self {
        Self { left: bytes, width }
    }

    /// The next run; `None` when there is none.
    fn next_run(&mut self) -> Result<Option<Run<'a>>, LakeError> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let mut header = 0u64;
        let mut shift = 0;
        loop {
            let (byte, rest) = self.left.split_first().ok_or_else(damaged)?;
            self.left = rest;
            header |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 35 {
                return Err(damaged());
            }
        }
        let length = usize::try_from(header >> 1).map_err(|_| damaged())?;
        if header & 1 == 1 {
            let bytes = length.checked_mul(self.width as usize);
            // The last group may be cut off where no number is.
            let bytes = bytes.ok_or_else(damaged)?.min(self.left.len());
            let (packed, rest) = self.left.split_at(bytes);
            self.left = rest;
            let numbers = length.checked_mul(8).ok_or_else(damaged)?;
            return Ok(Some(Run::Packed(packed, numbers)));
        }
        let bytes = self.width.div_ceil(8) as usize;
        let (number, rest) = self.left.split_at_checked(bytes).ok_or_else(damaged)?;
        self.left = rest;
        let number = number
            .iter()
            .rev()
            .fold(0u32, |number, byte| (number << 8) | u32::from(*byte));
        Ok(Some(Run::Same(number, length)))
    }
}

/// So many numbers of `width` bits, put behind `out`.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+lzcnt"))]
fn unpack_runs<T: Code>(
    bytes: &[u8],
    width: u32,
    count: usize,
    out: &mut Vec<T>,
) -> Result<(), LakeError> {
    if width > 32 || width as usize > size_of::<T>() * 8 {
        return Err(damaged());
    }
    let end = out.len().checked_add(count).ok_or_else(damaged)?;
    if width == 0 {
        out.resize(end, T::default());
        return Ok(());
    }
    let mut runs = Runs::new(bytes, width);
    while out.len() < end {
        let wanted = end - out.len();
        match runs.next_run()?.ok_or_else(damaged)? {
            Run::Same(number, length) => {
                let number = T::of(u64::from(number));
                out.resize(out.len() + length.min(wanted), number);
            }
            Run::Packed(packed, numbers) => {
                let numbers = numbers.min(wanted);
                if (numbers * width as usize).div_ceil(8) > packed.len() {
                    return Err(damaged());
                }
                unpack(packed, width, numbers, out);
            }
        }
    }
    Ok(())
}

/// So many numbers of `width` bits, one after the other from the lowest bit on, put behind `out`.
#[inline(always)]
fn unpack<T: Code>(packed: &[u8], width: u32, count: usize, out: &mut Vec<T>) {
    match width {
        1 => unpack_eights::<T, 1>(packed, count, out),
        2 => unpack_eights::<T, 2>(packed, count, out),
        3 => unpack_eights::<T, 3>(packed, count, out),
        4 => unpack_eights::<T, 4>(packed, count, out),
        5 => unpack_eights::<T, 5>(packed, count, out),
        6 => unpack_eights::<T, 6>(packed, count, out),
        7 => unpack_eights::<T, 7>(packed, count, out),
        8 => unpack_eights::<T, 8>(packed, count, out),
        9 => unpack_eights::<T, 9>(packed, count, out),
        10 => unpack_eights::<T, 10>(packed, count, out),
        11 => unpack_eights::<T, 11>(packed, count, out),
        12 => unpack_eights::<T, 12>(packed, count, out),
        13 => unpack_eights::<T, 13>(packed, count, out),
        14 => unpack_eights::<T, 14>(packed, count, out),
        15 => unpack_eights::<T, 15>(packed, count, out),
        16 => unpack_eights::<T, 16>(packed, count, out),
        _ => {
            let (width, mask) = (width as usize, (1u64 << width) - 1);
            out.extend((0..count).map(|place| T::of(word(packed, place * width) & mask)));
        }
    }
}

/// Up to 57 bits from a bit on.
fn word(packed: &[u8], bit: usize) -> u64 {
    let from = packed.get(bit / 8..).unwrap_or_default();
    let word = match from.first_chunk::<8>() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => from
            .iter()
            .rev()
            .fold(0, |word, byte| (word << 8) | u64::from(*byte)),
    };
    word >> (bit % 8)
}

/// So many numbers of up to 64 bits, and what `each` makes of one after the other, put behind `out`.
fn unpack_each<T: Copy + Default>(
    packed: &[u8],
    width: usize,
    count: usize,
    mut each: impl FnMut(u64) -> T,
    out: &mut Vec<T>,
) {
    macro_rules! of_width {
        ($($width:literal)+) => {
            match width {
                0 => out.extend((0..count).map(|_| each(0))),
                $($width => each_eight::<T, $width>(packed, count, each, out),)+
                ..=57 => {
                    let mask = (1u64 << width) - 1;
                    out.extend((0..count).map(|place| each(word(packed, place * width) & mask)));
                }
                _ => {
                    let mask = u64::MAX >> 64usize.saturating_sub(width);
                    out.extend((0..count).map(|place| {
                        let bit = place * width;
                        let low = word(packed, bit) & 0xffff_ffff;
                        each((word(packed, bit + 32) << 32 | low) & mask)
                    }));
                }
            }
        };
    }
    of_width!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
}

/// As [`unpack_each`], of a width that the compiler knows. A loop of its own: as one function with
/// [`unpack_eights`], which is given what makes eight numbers, a pass over money took a fifth longer.
fn each_eight<T: Copy + Default, const W: usize>(
    packed: &[u8],
    count: usize,
    mut each: impl FnMut(u64) -> T,
    out: &mut Vec<T>,
) {
    let before = out.len();
    out.resize(before + count, T::default());
    let (eights, last) = out
        .get_mut(before..)
        .unwrap_or_default()
        .as_chunks_mut::<8>();
    let mut left = packed;
    for eight in eights {
        // Where they lie: to be read from a copy, they would have to wait for it.
        *eight = match left.first_chunk() {
            Some(near) => std::array::from_fn(|place| each(number::<W>(near, place))),
            None => {
                let near = padded(left);
                std::array::from_fn(|place| each(number::<W>(&near, place)))
            }
        };
        left = left.get(W..).unwrap_or_default();
    }
    if !last.is_empty() {
        let near = padded(left);
        for (place, to) in last.iter_mut().enumerate() {
            *to = each(number::<W>(&near, place));
        }
    }
}

/// The bytes of eight numbers of up to 32 bits, and what a look at the last of them takes along.
type Near = [u8; 40];

fn padded(packed: &[u8]) -> Near {
    std::array::from_fn(|place| packed.get(place).copied().unwrap_or_default())
}

/// One of eight numbers of `W` bits.
#[inline(always)]
fn number<const W: usize>(near: &Near, place: usize) -> u64 {
    let from = near.get(place * W / 8..).unwrap_or_default();
    let word = from
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes));
    (word >> (place * W % 8)) & ((1 << W) - 1)
}

/// As [`unpack`], of a width that the compiler knows: eight numbers take as many bytes as one takes
/// bits.
#[inline(always)]
fn unpack_eights<T: Code, const W: usize>(packed: &[u8], count: usize, out: &mut Vec<T>) {
    let before = out.len();
    out.resize(before + count, T::default());
    let (eights, last) = out
        .get_mut(before..)
        .unwrap_or_default()
        .as_chunks_mut::<8>();
    let mut left = packed;
    for eight in eights {
        *eight = unpacked::<T, W>(left);
        left = left.get(W..).unwrap_or_default();
    }
    let numbers = unpacked::<T, W>(left);
    last.iter_mut()
        .zip(numbers)
        .for_each(|(to, from)| *to = from);
}

/// The eight numbers that come first.
#[inline(always)]
fn unpacked<T: Code, const W: usize>(packed: &[u8]) -> [T; 8] {
    let bytes = match packed.first_chunk::<16>() {
        Some(bytes) => *bytes,
        None => std::array::from_fn(|place| packed.get(place).copied().unwrap_or_default()),
    };
    let mask = (1u64 << W) - 1;
    let all = u128::from_le_bytes(bytes);
    // Four of them never have more than 64 bits.
    let (low, high) = (all as u64, (all >> (W * 4)) as u64);
    std::array::from_fn(|place| match place {
        0..4 => T::of((low >> (place * W)) & mask),
        _ => T::of((high >> ((place - 4) * W)) & mask),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Date32Array, Int32Array, Int64Array, RecordBatch};
    use arrow::compute::{cast, concat_batches, take};
    use arrow::datatypes::{Field, Schema};
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::basic::Compression;
    use parquet::file::properties::{WriterProperties, WriterVersion};
    use parquet::file::reader::FileReader;
    use parquet::file::serialized_reader::SerializedFileReader;

    use super::*;

    /// Numbers that look random, below a bound.
    fn draws(bound: u64) -> impl Iterator<Item = u64> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % bound
        })
    }

    fn written(column: ArrayRef, nullable: bool, properties: WriterProperties) -> Bytes {
        let field = Field::new("c", column.data_type().clone(), nullable);
        let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).unwrap();
        let mut writer =
            ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap().into()
    }

    /// The values of rows.
    fn decoded(column: &StoredColumn, data_type: &DataType) -> ArrayRef {
        let values = match &column.codes {
            None => Arc::clone(&column.values),
            Some(codes) => take(&column.values, codes, None).unwrap(),
        };
        cast(&values, data_type).unwrap()
    }

    /// The column of a file as it is read here, and as the library reads it.
    fn read(file: &Bytes, data_type: &DataType) -> (Option<StoredColumn>, ArrayRef) {
        let reader = SerializedFileReader::new(file.clone()).unwrap();
        let group = reader.get_row_group(0).unwrap();
        let leaf = &group.metadata().columns()[0];
        let (stored, nullable) = (leaf.column_type(), leaf.column_descr().max_def_level() == 1);
        let rows = group.metadata().num_rows() as usize;
        let mut pages = group.get_column_page_reader(0).unwrap();
        let spare = &mut Spare::default();
        let own = column(&mut *pages, stored, nullable, data_type, rows, spare).unwrap();
        let theirs = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
        let theirs: Vec<RecordBatch> = theirs.build().unwrap().map(Result::unwrap).collect();
        let theirs = concat_batches(&theirs[0].schema(), &theirs).unwrap();
        (own, cast(theirs.column(0), data_type).unwrap())
    }

    /// Written as differences where that can be done.
    fn as_differences(properties: WriterProperties, data_type: &DataType) -> WriterProperties {
        if *data_type == DataType::Utf8 {
            return properties;
        }
        let properties = properties.into_builder();
        properties
            .set_encoding(Encoding::DELTA_BINARY_PACKED)
            .build()
    }

    fn properties(version: WriterVersion, dictionary_bytes: usize) -> WriterProperties {
        WriterProperties::builder()
            .set_writer_version(version)
            .set_dictionary_enabled(dictionary_bytes > 0)
            .set_dictionary_page_size_limit(dictionary_bytes.max(1))
            .set_data_page_row_count_limit(700)
            .set_write_batch_size(100)
            .set_compression(match dictionary_bytes % 2 {
                0 => Compression::UNCOMPRESSED,
                _ => Compression::SNAPPY,
            })
            .build()
    }

    #[test]
    fn a_column_has_the_values_that_the_library_reads() {
        let mut coded = 0;
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for (rows, values) in [
                (1, 1),
                (5_000, 1),
                (5_000, 2),
                (5_000, 256),
                (9_000, 257),
                (9_000, 3_000),
            ] {
                for (nullable, nulls) in
                    [(false, 0), (true, 0), (true, 3), (true, 1_000), (true, 1)]
                {
                    let mut found = draws(values);
                    // Some lie in runs.
                    let numbers: Vec<Option<i64>> = (0..rows)
                        .map(|row| match (nulls, row / 1_000 % 2) {
                            (nulls, _) if nulls > 0 && row % nulls == 0 => None,
                            (_, 0) => found.next().map(|of| of as i64 - 100),
                            _ => Some(row / 100 % values as i64),
                        })
                        .collect();
                    let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
                    for data_type in [
                        DataType::Int64,
                        DataType::Int32,
                        DataType::Date32,
                        DataType::Utf8,
                    ] {
                        let narrow = cast(&numbers, &DataType::Int32).unwrap();
                        let values = match data_type {
                            DataType::Date32 => cast(&narrow, &data_type).unwrap(),
                            _ => cast(&numbers, &data_type).unwrap(),
                        };
                        let ways = [0, 1 << 20, 1_001].into_iter();
                        let ways = ways.flat_map(|bytes| [(bytes, false), (bytes, true)]);
                        for (bytes, differences) in ways {
                            let mut properties = properties(version, bytes);
                            if differences {
                                properties = as_differences(properties, &data_type);
                            }
                            let file = written(Arc::clone(&values), nullable, properties);
                            let (own, theirs) = read(&file, &data_type);
                            assert!(own.is_some() || data_type == DataType::Utf8);
                            let Some(own) = own else {
                                continue;
                            };
                            coded += usize::from(own.codes.is_some());
                            assert_eq!(own.rows(), rows as usize);
                            assert_eq!(
                                &decoded(&own, &data_type),
                                &theirs,
                                "{data_type} {rows} {nulls} {bytes} {differences}"
                            );
                        }
                    }
                }
            }
        }
        assert!(coded > 200, "{coded}");
    }

    #[test]
    fn differences_of_any_size_are_added_up() {
        let wide = [i64::MIN, i64::MAX, 0, -1, 1 << 57, -(1 << 60), 1 << 31];
        let narrow = [i32::MIN, i32::MAX, 0, -1, 1 << 16];
        for bits in 0..64 {
            for rows in [1, 2, 64, 257, 5_000] {
                let numbers = draws(1 << bits.min(52)).map(|of| of << (bits - bits.min(52)));
                let numbers: Vec<i64> = numbers.take(rows).map(|of| of as i64).collect();
                let extremes = |row: usize| wide[row % wide.len()];
                let of_extremes: Vec<i64> = (0..rows).map(extremes).collect();
                let of_narrow = (0..rows).map(|row| match row % 9 {
                    0..5 => narrow[row % narrow.len()],
                    _ => numbers[row] as i32,
                });
                let columns: [ArrayRef; 3] = [
                    Arc::new(Int64Array::from(numbers.clone())),
                    Arc::new(Int64Array::from(of_extremes)),
                    Arc::new(of_narrow.collect::<Int32Array>()),
                ];
                for column in columns {
                    let data_type = column.data_type().clone();
                    let properties = properties(WriterVersion::PARQUET_2_0, 0);
                    let file = written(column, false, as_differences(properties, &data_type));
                    let (own, theirs) = read(&file, &data_type);
                    let own = decoded(&own.unwrap(), &data_type);
                    assert_eq!(&own, &theirs, "{bits} {rows}");
                }
            }
        }
    }

    #[test]
    fn buffers_are_taken_back_when_nobody_holds_them() {
        let spare = &mut Spare::default();
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let held = numbers.slice(1, 2);
        spare.take_back(numbers.into());
        assert!(spare.wide.is_empty());
        spare.take_back(held.into());
        assert!(spare.wide.is_empty(), "a part of a buffer is not one");
        let days: ArrayRef = Arc::new(Date32Array::from(vec![1, 2]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        let codes = coded::<UInt16Type>(vec![0, 0], Arc::clone(&texts)).unwrap();
        for column in [days.into(), codes, texts.into()] {
            spare.take_back(column);
        }
        assert_eq!((spare.narrow.len(), spare.shorts.len()), (1, 1));
        let again: Vec<i32> = spare.buffer(2);
        assert!(again.is_empty() && again.capacity() >= 2 && spare.narrow.is_empty());
    }

    #[test]
    fn codes_are_as_narrow_as_their_dictionary_and_one_may_stand_for_null() {
        let properties = || properties(WriterVersion::PARQUET_1_0, 1 << 22);
        let kinds = [DataType::UInt8, DataType::UInt16, DataType::UInt32];
        for (values, null, kind) in [
            (1, false, 0),
            (256, false, 0),
            (256, true, 1),
            (257, false, 1),
            (65_536, false, 1),
            (65_536, true, 2),
            (65_537, false, 2),
        ] {
            let texts = (0..values).map(|value| Some(value.to_string()));
            let texts: StringArray = texts.chain(null.then_some(None)).collect();
            let (own, theirs) = read(
                &written(Arc::new(texts), true, properties()),
                &DataType::Utf8,
            );
            let own = own.unwrap();
            let codes = own.codes.as_ref().map(|codes| codes.data_type());
            assert_eq!(codes, Some(&kinds[kind]), "{values}");
            assert_eq!(&decoded(&own, &DataType::Utf8), &theirs);
        }
    }

    #[test]
    fn other_kinds_of_columns_are_left_to_the_library() {
        let bools: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        for (column, dictionary) in [(bools, 1 << 20), (texts, 0)] {
            let data_type = column.data_type().clone();
            let file = written(
                column,
                true,
                properties(WriterVersion::PARQUET_1_0, dictionary),
            );
            assert!(read(&file, &data_type).0.is_none());
        }
    }

    #[test]
    fn a_code_without_a_value_is_damage() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![5, 6]));
        for (codes, is_well) in [(vec![], true), (vec![1, 0], true), (vec![0, 2, 1], false)] {
            let found = coded::<UInt8Type>(codes, Arc::clone(&values));
            assert_eq!(found.is_ok(), is_well);
        }
    }

    /// Numbers bit by bit, from the lowest bit on.
    fn packed(numbers: &[u64], width: u32) -> Vec<u8> {
        let mut bytes = vec![0u8; (numbers.len().next_multiple_of(8) * width as usize).div_ceil(8)];
        for (place, number) in numbers.iter().enumerate() {
            for bit in 0..width as usize {
                let at = place * width as usize + bit;
                bytes[at / 8] |= ((number >> bit & 1) as u8) << (at % 8);
            }
        }
        bytes
    }

    #[test]
    fn numbers_of_any_width_are_unpacked() {
        for width in 1..=32 {
            for count in [0, 1, 7, 8, 9, 64, 1_003] {
                let numbers: Vec<u64> = draws(1 << width).take(count).collect();
                let mut bytes = packed(&numbers, width);
                for cut in [false, true] {
                    if cut {
                        bytes.truncate((count * width as usize).div_ceil(8));
                    }
                    let mut found: Vec<u32> = vec![7];
                    unpack(&bytes, width, count, &mut found);
                    let found: Vec<u64> = found.iter().skip(1).map(|n| u64::from(*n)).collect();
                    assert_eq!(found, numbers, "{width} bits, {count}");
                }
            }
        }
    }

    #[test]
    fn damaged_pages_are_told_and_nothing_panics() {
        let mut refused = 0;
        let mut bytes_of = draws(256);
        for round in 0..4_000 {
            let length = round % 40;
            let bytes: Vec<u8> = bytes_of
                .by_ref()
                .take(length)
                .map(|byte| byte as u8)
                .collect();
            for width in [0, 1, 5, 8, 13, 20, 32, 33] {
                refused +=
                    usize::from(unpack_runs::<u32>(&bytes, width, 100, &mut Vec::new()).is_err());
                refused +=
                    usize::from(unpack_runs::<u8>(&bytes, width, 100, &mut Vec::new()).is_err());
            }
            // A header that is well, and anything after it.
            let mut page = vec![0x80, 0x01, 0x04, 100, 3];
            page.extend(&bytes);
            let summed = put_sums(&page, 100, &mut Vec::new(), |sum| sum);
            refused += usize::from(summed.is_err());
            for (nullable, kind, encoding) in [
                (true, Kind::Int64, Encoding::PLAIN),
                (true, Kind::Text, Encoding::RLE_DICTIONARY),
                (false, Kind::Int32, Encoding::RLE_DICTIONARY),
                (false, Kind::Int64, Encoding::DELTA_BINARY_PACKED),
                (true, Kind::Date32, Encoding::DELTA_BINARY_PACKED),
            ] {
                let spare = &mut Spare::default();
                let mut chunk = Chunk::of(9, nullable, kind, spare);
                let dictionary = Page::DictionaryPage {
                    buf: bytes.clone().into(),
                    num_values: (round % 5) as u32,
                    encoding: Encoding::PLAIN,
                    is_sorted: false,
                };
                let data = Page::DataPage {
                    buf: bytes.clone().into(),
                    num_values: 9,
                    encoding,
                    def_level_encoding: Encoding::RLE,
                    rep_level_encoding: Encoding::RLE,
                    statistics: None,
                };
                let ended = chunk.page(dictionary).and_then(|_| chunk.page(data));
                refused += usize::from(ended.and_then(|_| chunk.finish(9)).is_err());
            }
        }
        assert!(refused > 10_000, "{refused}");
    }
}
