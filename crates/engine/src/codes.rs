//! Code lists in memory: `reference.code` as a table, and as a function from code and day to word.
//!
//! The lists of a warehouse are a few thousand rows that nearly every query of conformed relations
//! joins with. [`CodeTable`] holds them decoded. [`CodeWord`] is what the optimizer puts in the place
//! of such a join (see `lookups.rs`): the word that one list has for a code on a day, null where it
//! has none. It is not registered: no query can name it.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, RecordBatch, StringArray, StringBuilder,
    StringViewBuilder,
};
use arrow::datatypes::{DataType, Date32Type, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::exec_err;
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TableProviderFilterPushDown, TableType, Volatility,
};
use datafusion::physical_plan::ExecutionPlan;

use crate::plain::to_type;

/// A version of a code: its first day and the first day it is no longer valid, and its word.
type Version = (Option<i32>, Option<i32>, Option<Arc<str>>);

/// The versions of each code of a list.
type Words = HashMap<String, Vec<Version>>;

/// `reference.code`, decoded.
#[derive(Debug)]
pub(crate) struct CodeTable {
    rows: MemTable,
    lists: HashMap<String, Arc<Words>>,
}

impl CodeTable {
    /// A table of these rows.
    ///
    /// # Errors
    /// When a column of codes is missing or has another type.
    pub(crate) fn new(schema: SchemaRef, rows: Vec<RecordBatch>) -> crate::error::Result<Self> {
        let mut lists: HashMap<String, Words> = HashMap::new();
        for batch in &rows {
            let column = |name: &str, of: &DataType| match batch.column_by_name(name) {
                Some(column) => to_type(column, of),
                None => Err(crate::error::EngineError::internal(format!(
                    "`reference.code` has no column `{name}`"
                ))),
            };
            let text = |name: &str| column(name, &DataType::Utf8);
            let day = |name: &str| column(name, &DataType::Date32);
            let (list, code, word) = (text("list")?, text("code")?, text("maps_to")?);
            let (from, to) = (day("valid_from")?, day("valid_to")?);
            let (list, code) = (list.as_string::<i32>(), code.as_string::<i32>());
            let word = word.as_string::<i32>();
            let at = |days: &Date32Array, row: usize| days.is_valid(row).then(|| days.value(row));
            for row in 0..batch.num_rows() {
                if list.is_null(row) || code.is_null(row) {
                    continue;
                }
                let version = (
                    at(from.as_primitive::<Date32Type>(), row),
                    at(to.as_primitive::<Date32Type>(), row),
                    word.is_valid(row).then(|| word.value(row).into()),
                );
                let words = lists.entry(list.value(row).to_owned()).or_default();
                let versions = words.entry(code.value(row).to_owned()).or_default();
                versions.push(version);
            }
        }
        let lists = lists
            .into_iter()
            .map(|(list, words)| (list, Arc::new(words)));
        Ok(Self {
            lists: lists.collect(),
            rows: MemTable::try_new(schema, vec![rows])?,
        })
    }

    /// The word of a list for a code on a day, as an expression. A list that does not exist has no
    /// words.
    pub(crate) fn word(&self, list: &str, code: Expr, day: Expr, result: DataType) -> Expr {
        let words = self.lists.get(list).cloned().unwrap_or_default();
        ScalarUDF::new_from_impl(CodeWord {
            list: list.to_owned(),
            words,
            result,
            signature: Signature::any(2, Volatility::Immutable),
        })
        .call(vec![code, day])
    }
}

#[async_trait]
impl TableProvider for CodeTable {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        self.rows.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.rows.scan(state, projection, filters, limit).await
    }
}

/// From code and day to word, for one list.
#[derive(Debug, Clone)]
struct CodeWord {
    list: String,
    words: Arc<Words>,
    result: DataType,
    signature: Signature,
}

impl PartialEq for CodeWord {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
            && self.result == other.result
            && Arc::ptr_eq(&self.words, &other.words)
    }
}

impl Eq for CodeWord {}

impl Hash for CodeWord {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.list.hash(state);
        self.result.hash(state);
    }
}

impl ScalarUDFImpl for CodeWord {
    fn name(&self) -> &str {
        "code_word"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(self.result.clone())
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        Ok(format!("code_word({}, {})", self.list, args.join(", ")))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [code, day] = args.args.as_slice() else {
            return exec_err!("a lookup takes a code and a day");
        };
        let code = to_type(
            &code.clone().into_array(args.number_rows)?,
            &DataType::Utf8View,
        )?;
        let day = to_type(
            &day.clone().into_array(args.number_rows)?,
            &DataType::Date32,
        )?;
        let (codes, days) = (code.as_string_view(), day.as_primitive::<Date32Type>());
        // Few codes stand in many rows: the versions of the last ones need no hashing.
        let mut recent: [Option<(u128, &[Version])>; RECENT] = [None; RECENT];
        let words = (0..codes.len()).map(|row| {
            if codes.is_null(row) {
                return None;
            }
            let view = *codes.views().get(row)?;
            let place = recent.get_mut(slot_of(view))?;
            let versions = match place {
                Some((known, versions)) if *known == view => *versions,
                _ => {
                    let found = self.words.get(codes.value(row));
                    let versions = found.map_or(&[][..], Vec::as_slice);
                    *place = Some((view, versions));
                    versions
                }
            };
            let day = days.is_valid(row).then(|| days.value(row));
            valid_on(versions, day)
        });
        let words: ArrayRef = match &self.result {
            DataType::Utf8View => {
                let mut builder = StringViewBuilder::with_capacity(codes.len());
                words.for_each(|word| builder.append_option(word));
                Arc::new(builder.finish())
            }
            DataType::Utf8 => {
                let mut builder = StringBuilder::with_capacity(codes.len(), codes.len() * 8);
                words.for_each(|word| builder.append_option(word));
                Arc::new(builder.finish())
            }
            other => to_type(
                &(Arc::new(words.collect::<StringArray>()) as ArrayRef),
                other,
            )?,
        };
        Ok(ColumnarValue::Array(words))
    }
}

/// Codes remembered while a batch is looked up.
const RECENT: usize = 64;

/// The same text in one batch often has the same view; another text in its place only costs a hash.
fn slot_of(view: u128) -> usize {
    let mixed = (view as u64 ^ (view >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 58) as usize % RECENT
}

/// The word of the version that is valid on the day. Without a day only an open bound is met.
fn valid_on(versions: &[Version], day: Option<i32>) -> Option<&str> {
    let version = versions.iter().find(|(from, to, _)| {
        from.is_none_or(|from| day.is_some_and(|day| from <= day))
            && to.is_none_or(|to| day.is_some_and(|day| day < to))
    });
    version.and_then(|(_, _, word)| word.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_that_of_the_version_valid_on_the_day() {
        let word = |text: &str| Some(Arc::from(text));
        let versions = [
            (None, Some(100), word("old")),
            (Some(100), Some(200), word("new")),
            (Some(300), None, None),
        ];
        for (day, expected) in [
            (Some(i32::MIN), Some("old")),
            (Some(99), Some("old")),
            (Some(100), Some("new")),
            (Some(199), Some("new")),
            (Some(200), None),
            (Some(300), None),
            (None, None),
        ] {
            assert_eq!(valid_on(&versions, day), expected, "{day:?}");
        }
        assert_eq!(
            valid_on(&[(None, None, word("always"))], None),
            Some("always")
        );
        assert_eq!(valid_on(&[], Some(1)), None);
    }
}
