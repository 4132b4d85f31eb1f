//! The keys of rows that are stored already, equal to those that the validator
//! gives the same rows when they arrive. A landing compares the two to find a
//! key that another delivery of the table has.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;

use crate::checks::key::KeyHasher;
use crate::contract::{Contract, Property};

impl Contract {
    /// The raw columns that hold the key, in key order.
    pub fn key_columns(&self) -> Vec<String> {
        self.key_properties()
            .filter_map(|property| property.fields().first().map(|field| field.name().clone()))
            .collect()
    }

    /// The key of each row of a batch that has at least `key_columns()`, as
    /// xxh3-128. Empty when a key column is missing or of another type.
    pub fn stored_keys(&self, batch: &RecordBatch) -> Vec<u128> {
        let columns: Option<Vec<&dyn Array>> = self
            .key_columns()
            .iter()
            .map(|name| batch.column_by_name(name).map(AsRef::as_ref))
            .collect();
        let Some(columns) = columns else {
            return Vec::new();
        };
        let mut hasher = KeyHasher::default();
        (0..batch.num_rows())
            .map(|row| {
                for column in &columns {
                    add(*column, row, &mut hasher)?;
                }
                Some(hasher.finish())
            })
            .collect::<Option<Vec<u128>>>()
            .unwrap_or_default()
    }

    fn key_properties(&self) -> impl Iterator<Item = &Property> {
        self.key.iter().filter_map(|at| self.properties.get(*at))
    }
}

/// A null adds what an empty cell adds when it arrives: an empty text or zero.
fn add(column: &dyn Array, row: usize, hasher: &mut KeyHasher) -> Option<()> {
    let null = column.is_null(row);
    match column.data_type() {
        DataType::Utf8 => hasher.text(if null {
            b""
        } else {
            column.as_string_opt::<i32>()?.value(row).as_bytes()
        }),
        DataType::Binary => hasher.text(if null {
            b""
        } else {
            column.as_binary_opt::<i32>()?.value(row)
        }),
        DataType::Date32 => hasher.integer(if null {
            0
        } else {
            column.as_primitive_opt::<Date32Type>()?.value(row).into()
        }),
        DataType::Int32 => hasher.integer(if null {
            0
        } else {
            column.as_primitive_opt::<Int32Type>()?.value(row).into()
        }),
        DataType::Int64 => hasher.integer(if null {
            0
        } else {
            column.as_primitive_opt::<Int64Type>()?.value(row)
        }),
        DataType::Decimal128(_, _) => hasher.decimal(if null {
            0
        } else {
            column.as_primitive_opt::<Decimal128Type>()?.value(row)
        }),
        DataType::Boolean => hasher.integer(if null {
            0
        } else {
            column.as_boolean_opt()?.value(row).into()
        }),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use crate::testing;

    #[test]
    fn a_stored_row_has_the_key_it_arrived_with() {
        let (validator, checked) = testing::check_lines(
            "T1;010190-900P;A;05.03.2024;06.03.2024;10,00;x\nT2;010190-900P;A;05.03.2024;;10,00;\n",
        );
        assert_eq!(checked.rejects, []);
        assert_eq!(checked.keys.len(), 2);
        assert_eq!(
            validator.contract().stored_keys(&checked.batch),
            checked.keys
        );
        assert_eq!(testing::contract().key_columns(), ["case_no"]);
    }
}
