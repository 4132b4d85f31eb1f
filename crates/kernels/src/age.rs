//! Age in completed years on a day, and as SQL `age_years(birth_date, day)`.
//!
//! - *Formula*: the difference of the calendar years, less one before the birthday. Who is born on
//!   29 February completes a year on 1 March of a year without that day. With
//!   e = 512 · year + 32 · month + day of the month, the age is ⌊(e(day) − e(birth)) / 512⌋, because
//!   month and day together stay below 512.
//! - *Types*: two dates (`Date32`; other date and time types are taken for their day); gives `Int32`.
//! - *Null*: null when either is null. A birth after the day gives a negative number.
//! - *Time*: a few operations a row; no memory but the result.
//!
//! What may not live here: age groups, which definitions name themselves.

use std::sync::Arc;

use arrow::array::{AsArray, Int32Array};
use arrow::compute::binary;
use arrow::datatypes::{DataType, Date32Type};
use datafusion_common::{Result, plan_err};
use datafusion_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::calendar::date_of;

const NAME: &str = "age_years";

pub(crate) fn scalars() -> Vec<ScalarUDF> {
    vec![ScalarUDF::from(AgeYears {
        signature: Signature::user_defined(Volatility::Immutable),
    })]
}

/// The age in completed years on a day, both dates as days since 1970-01-01.
pub fn age_years(birth: i32, day: i32) -> i32 {
    let years = (calendar(day) - calendar(birth)) >> 9;
    // Days of 32 bits span less than twelve million years.
    years as i32
}

/// 512 · year + 32 · month + day of the month.
fn calendar(day: i32) -> i64 {
    let (year, month, of_month) = date_of(day);
    512 * year + 32 * month + of_month
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AgeYears {
    signature: Signature,
}

impl ScalarUDFImpl for AgeYears {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let is_day = |given: &DataType| {
            matches!(
                given,
                DataType::Null
                    | DataType::Date32
                    | DataType::Date64
                    | DataType::Timestamp(_, _)
                    | DataType::Utf8
                    | DataType::LargeUtf8
                    | DataType::Utf8View
            )
        };
        match given {
            [birth, day] if is_day(birth) && is_day(day) => Ok(vec![DataType::Date32; 2]),
            [_, _] => plan_err!("{NAME} takes two dates"),
            _ => plan_err!(
                "{NAME} takes a birth date and a day, not {} arguments",
                given.len()
            ),
        }
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [birth, day] = arrays.as_slice() else {
            return plan_err!("{NAME} takes two dates");
        };
        let days = |array: &'_ arrow::array::ArrayRef| -> Result<_> {
            match array.as_primitive_opt::<Date32Type>() {
                Some(days) => Ok(days.clone()),
                None => plan_err!("{NAME} takes two dates"),
            }
        };
        let ages: Int32Array = binary(&days(birth)?, &days(day)?, age_years)?;
        Ok(ColumnarValue::Array(Arc::new(ages)))
    }
}

#[cfg(test)]
mod tests {
    use arrow::temporal_conversions::date32_to_datetime;

    use super::*;
    use crate::testing::numbers;

    fn day(text: &str) -> i32 {
        let parsed = arrow::compute::cast(
            &arrow::array::StringArray::from(vec![text]),
            &DataType::Date32,
        );
        parsed.unwrap().as_primitive::<Date32Type>().value(0)
    }

    #[test]
    fn a_year_is_completed_on_the_birthday() {
        for (birth, on, age) in [
            ("1950-06-15", "2025-06-14", 74),
            ("1950-06-15", "2025-06-15", 75),
            ("2024-12-31", "2025-01-01", 0),
            ("2000-02-29", "2018-02-28", 17),
            ("2000-02-29", "2018-03-01", 18),
            ("2000-02-29", "2020-02-28", 19),
            ("2000-02-29", "2020-02-29", 20),
            ("2002-02-28", "2020-02-29", 18),
            ("2002-03-01", "2020-02-29", 17),
            ("1899-12-31", "2000-01-01", 100),
            ("2025-06-15", "2025-06-15", 0),
            ("2025-06-16", "2025-06-15", -1),
            ("2026-06-15", "2025-06-15", -1),
            ("2026-06-16", "2025-06-15", -2),
        ] {
            assert_eq!(age_years(day(birth), day(on)), age, "{birth} on {on}");
        }
    }

    #[test]
    fn the_age_is_that_of_calendar_fields() {
        let mut draws = numbers(20_000, 120_000);
        while let (Some(birth), Some(on)) = (draws.next(), draws.next()) {
            let (birth, on) = (birth as i32 - 60_000, on as i32 - 60_000);
            let fields = |day: i32| -> (i32, String) {
                let text = date32_to_datetime(day).unwrap().date().to_string();
                (text[..4].parse().unwrap(), text[5..].to_owned())
            };
            let ((born, birthday), (year, today)) = (fields(birth), fields(on));
            let expected = year - born - i32::from(today < birthday);
            assert_eq!(age_years(birth, on), expected, "{birth} on {on}");
        }
    }

    #[test]
    fn the_ends_of_the_calendar_do_not_overflow() {
        assert!(age_years(i32::MIN, i32::MAX) > 11_000_000);
        assert!(age_years(i32::MAX, i32::MIN) < -11_000_000);
    }
}
