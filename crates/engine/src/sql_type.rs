//! SQL names and sizes of Arrow types, as tools show and read them.
//!
//! One table for every answer about columns: `information_schema`, `SHOW COLUMNS` and the column
//! metadata of Flight SQL, so that they cannot disagree. To add a type: an arm in [`SqlType::of`].

use arrow::datatypes::{DataType, TimeUnit};

/// A column type in the words of SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlType {
    /// The standard's name of the type, or the nearest to it.
    pub name: &'static str,
    /// Digits of a number, characters of a date or time; none where there is no limit.
    pub precision: Option<u32>,
    /// Digits after the decimal point.
    pub scale: Option<i32>,
}

impl SqlType {
    /// The words for a type.
    pub fn of(data_type: &DataType) -> Self {
        let named = |name| Self {
            name,
            precision: None,
            scale: None,
        };
        let sized = |name, precision| Self {
            name,
            precision: Some(precision),
            scale: None,
        };
        let scaled = |name, precision, scale| Self {
            name,
            precision: Some(precision),
            scale: Some(scale),
        };
        match data_type {
            DataType::Null => named("NULL"),
            DataType::Boolean => sized("BOOLEAN", 1),
            DataType::Int8 => scaled("TINYINT", 3, 0),
            DataType::Int16 => scaled("SMALLINT", 5, 0),
            DataType::Int32 => scaled("INTEGER", 10, 0),
            DataType::Int64 => scaled("BIGINT", 19, 0),
            DataType::UInt8 => scaled("TINYINT UNSIGNED", 3, 0),
            DataType::UInt16 => scaled("SMALLINT UNSIGNED", 5, 0),
            DataType::UInt32 => scaled("INTEGER UNSIGNED", 10, 0),
            DataType::UInt64 => scaled("BIGINT UNSIGNED", 20, 0),
            DataType::Float16 | DataType::Float32 => sized("REAL", 7),
            DataType::Float64 => sized("DOUBLE", 15),
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => {
                scaled("DECIMAL", u32::from(*precision), i32::from(*scale))
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => named("VARCHAR"),
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => named("VARBINARY"),
            DataType::Date32 | DataType::Date64 => sized("DATE", 10),
            DataType::Time32(unit) | DataType::Time64(unit) => {
                scaled("TIME", 8 + point_and_digits(*unit), fraction_digits(*unit))
            }
            DataType::Timestamp(unit, _) => scaled(
                "TIMESTAMP",
                19 + point_and_digits(*unit),
                fraction_digits(*unit),
            ),
            DataType::Interval(_) | DataType::Duration(_) => named("INTERVAL"),
            DataType::List(_)
            | DataType::LargeList(_)
            | DataType::ListView(_)
            | DataType::LargeListView(_)
            | DataType::FixedSizeList(_, _) => named("ARRAY"),
            DataType::Struct(_) => named("STRUCT"),
            DataType::Map(_, _) => named("MAP"),
            DataType::Union(_, _) => named("UNION"),
            DataType::Dictionary(_, values) => Self::of(values),
            DataType::RunEndEncoded(_, values) => Self::of(values.data_type()),
        }
    }

    /// Digits, their base and digits after the point, as `information_schema` counts them; none
    /// where the type is no number.
    pub(crate) fn numeric(&self) -> Option<(i32, i32, Option<i32>)> {
        match self.name {
            "REAL" => Some((24, 2, None)),
            "DOUBLE" => Some((53, 2, None)),
            name if name == "DECIMAL" || name.contains("INT") && name != "INTERVAL" => {
                let digits = i32::try_from(self.precision?).ok()?;
                Some((digits, 10, self.scale))
            }
            _ => None,
        }
    }

    /// Digits after the point of the seconds; none where the type is no date or time.
    pub(crate) fn datetime(&self) -> Option<i32> {
        match self.name {
            "DATE" => Some(0),
            "TIME" | "TIMESTAMP" => self.scale,
            _ => None,
        }
    }
}

fn fraction_digits(unit: TimeUnit) -> i32 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

fn point_and_digits(unit: TimeUnit) -> u32 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 4,
        TimeUnit::Microsecond => 7,
        TimeUnit::Nanosecond => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_as_the_standard_counts_them() {
        let cases = [
            (DataType::Int32, Some((10, 10, Some(0))), None),
            (DataType::UInt64, Some((20, 10, Some(0))), None),
            (DataType::Float64, Some((53, 2, None)), None),
            (DataType::Decimal128(14, 2), Some((14, 10, Some(2))), None),
            (DataType::Utf8, None, None),
            (DataType::Boolean, None, None),
            (DataType::Date32, None, Some(0)),
            (
                DataType::Timestamp(TimeUnit::Microsecond, None),
                None,
                Some(6),
            ),
            (DataType::Duration(TimeUnit::Second), None, None),
        ];
        for (data_type, numeric, datetime) in cases {
            let sql = SqlType::of(&data_type);
            assert_eq!(sql.numeric(), numeric, "{data_type}");
            assert_eq!(sql.datetime(), datetime, "{data_type}");
        }
    }
}
