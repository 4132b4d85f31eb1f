//! Numbers of persons: the list that gives each pseudonym of the stored relations a small number.
//!
//! A stored relation ([`facts`](super::facts)) has, beside each column of pseudonyms, a column with
//! their numbers, whose name ends with the id of the list: `person_pid#3f2a…`. A shared scan counts
//! and keeps persons by number, which takes a quarter of the bytes and no look at a table. The list is
//! the table `fact.person`: rows are added and never changed, so that a number is right for good, and
//! a list that is made anew has another id, which makes the facts and kept cells of the one before
//! stale. It lies in the schema `fact`, which no principal can name, and nothing that leaves a
//! calculation holds a number.
//!
//! What may not live here: how slices are computed (`facts.rs`), what is counted (`kernels`).

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use tietopohja_lake::{LakeError, Slice, TableName};

use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::plain::to_type;
use crate::tables::table;

const TABLE: (&str, &str) = ("fact", "person");
const NUMBER: &str = "number";
const MEMBER: &str = "member";

/// Bytes of a pseudonym.
const WIDTH: usize = 16;

/// Bytes that a table of persons takes for each one it has room for.
const ENTRY_BYTES: usize = 24;

/// Bytes that a person takes who is being added: beside the others, and in the rows of the list.
const NEW_BYTES: usize = 48;

/// How often the list is read again because another calculation added to it.
const ATTEMPTS: usize = 5;

/// The id of a list.
pub(super) type ListId = u64;

/// The list in memory.
#[derive(Debug)]
pub(super) struct PersonList {
    list: ListId,
    numbers: HashMap<[u8; WIDTH], i32>,
    _memory: MemoryReservation,
}

/// Pseudonyms that were met, each with the organiser in whose rows it came first.
#[derive(Debug)]
pub(super) struct Met {
    of: HashMap<[u8; WIDTH], i32>,
    memory: MemoryReservation,
}

/// The column of the numbers of a column's pseudonyms.
pub(super) fn number_column(column: &str, list: ListId) -> String {
    format!("{column}#{list:016x}")
}

/// The numbers of a column's pseudonyms among these columns, and the list that they are of.
pub(super) fn numbers_of<'a>(columns: &'a Schema, column: &str) -> Option<(&'a str, ListId)> {
    columns.fields().iter().find_map(|field| {
        let id = field.name().strip_prefix(column)?.strip_prefix('#')?;
        let list = ListId::from_str_radix(id, 16).ok()?;
        (*field.data_type() == DataType::Int32).then_some((field.name().as_str(), list))
    })
}

/// The columns of a relation that hold pseudonyms.
pub(super) fn person_columns(columns: &Schema) -> Vec<&str> {
    let fields = columns.fields().iter();
    let fields = fields.filter(|field| *field.data_type() == DataType::Binary);
    fields.map(|field| field.name().as_str()).collect()
}

/// The columns with those of the numbers behind them.
pub(super) fn with_number_columns(columns: &SchemaRef, list: ListId) -> SchemaRef {
    let numbers = person_columns(columns).into_iter();
    let numbers = numbers.map(|column| {
        Arc::new(Field::new(
            number_column(column, list),
            DataType::Int32,
            true,
        ))
    });
    let fields = columns.fields().iter().cloned().chain(numbers);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

impl Met {
    pub(super) fn new(engine: &Engine) -> Self {
        Self {
            of: HashMap::new(),
            memory: engine.memory_for("persons of a stored relation"),
        }
    }

    /// Takes in pseudonyms of an organiser's rows.
    ///
    /// # Errors
    /// When they are not 16 bytes, or do not fit in memory.
    pub(super) fn add(&mut self, organisers: &Int32Array, members: &ArrayRef) -> Result<()> {
        let members = to_type(members, &DataType::Binary)?;
        for (organiser, member) in organisers.iter().zip(members.as_binary::<i32>()) {
            if let (Some(organiser), Some(member)) = (organiser, member) {
                self.of.entry(pseudonym(member)?).or_insert(organiser);
            }
        }
        self.memory.try_resize(self.of.capacity() * ENTRY_BYTES)?;
        Ok(())
    }
}

fn pseudonym(bytes: &[u8]) -> Result<[u8; WIDTH]> {
    <[u8; WIDTH]>::try_from(bytes).map_err(|_| EngineError::UserSql {
        message: "a column of bytes of a stored relation holds what is no pseudonym (16 bytes)"
            .to_owned(),
    })
}

impl PersonList {
    /// The numbers of pseudonyms; a null has none.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when a pseudonym is not in the list.
    fn numbers(&self, members: &ArrayRef) -> Result<Int32Array> {
        let members = to_type(members, &DataType::Binary)?;
        let numbers = members.as_binary::<i32>().iter();
        let numbers = numbers.map(|member| member.map(|member| self.number(member)).transpose());
        numbers.collect()
    }

    fn number(&self, member: &[u8]) -> Result<i32> {
        let number = self.numbers.get(&pseudonym(member)?).copied();
        number.ok_or_else(|| EngineError::internal("a person has no number"))
    }
}

/// The function that gives a pseudonym its number, to store and to sort by: new persons are behind the
/// others in the list, and not where their pseudonyms would be.
#[derive(Debug)]
pub(super) struct NumberOf {
    list: Arc<PersonList>,
    signature: Signature,
}

impl NumberOf {
    pub(super) const NAME: &str = "number_of_person";

    pub(super) fn function(list: &Arc<PersonList>) -> ScalarUDF {
        ScalarUDF::from(Self {
            list: Arc::clone(list),
            signature: Signature::any(1, Volatility::Immutable),
        })
    }
}

impl PartialEq for NumberOf {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.list, &other.list)
    }
}

impl Eq for NumberOf {}

impl Hash for NumberOf {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.list.list.hash(hasher);
    }
}

impl ScalarUDFImpl for NumberOf {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let lost = || EngineError::internal("the number of a person is asked for of no column");
        let members = args.args.first().ok_or_else(lost)?;
        let members = members.to_array(args.number_rows)?;
        let numbers = self.list.numbers(&members)?;
        Ok(ColumnarValue::Array(Arc::new(numbers)))
    }
}

impl Engine {
    /// The id of the list as it is now; it is made when there is none and `make` is said.
    pub(super) async fn person_list(&self, make: bool) -> Result<Option<ListId>> {
        let name = table(TABLE.0, TABLE.1)?;
        let failed = |error| unusable(&name, error);
        let lake = &self.options.lake;
        if make {
            lake.ensure_table(&name, list_schema(), &[])
                .await
                .map_err(failed)?;
        }
        let Some(id) = lake.table_id(&name).await.map_err(failed)? else {
            return Ok(None);
        };
        let digits: String = id
            .chars()
            .filter(char::is_ascii_hexdigit)
            .take(16)
            .collect();
        match ListId::from_str_radix(&digits, 16) {
            Ok(list) => Ok(Some(list)),
            Err(_) => Err(EngineError::internal("the list of persons has no id")),
        }
    }

    /// The list with everyone in it that was met. Those who are new get the next numbers, by organiser
    /// and pseudonym, so that the persons of an organiser have numbers that are near each other.
    ///
    /// # Errors
    /// When the list cannot be read or written, or does not fit in memory.
    pub(super) async fn number_persons(&self, list: ListId, met: Met) -> Result<PersonList> {
        let name = table(TABLE.0, TABLE.1)?;
        let failed = |error| unusable(&name, error);
        let lake = &self.options.lake;
        let memory = self.memory_for("numbers of persons");
        memory.try_resize(met.of.len() * NEW_BYTES)?;
        let new = met.of.into_iter();
        let mut new: Vec<(i32, [u8; WIDTH])> =
            new.map(|(member, organiser)| (organiser, member)).collect();
        drop(met.memory);
        new.sort_unstable();
        for _ in 0..ATTEMPTS {
            let version = lake.version(&name).await.map_err(failed)?;
            if self.person_list(false).await? != Some(list) {
                break;
            }
            let Some(version) = version else {
                break;
            };
            let mut numbers = self.numbers_at(&name, version).await?;
            // Whoever is in the list stays in it.
            new.retain(|(_, member)| !numbers.contains_key(member));
            numbers.reserve(new.len());
            memory.try_resize(numbers.capacity() * ENTRY_BYTES + new.len() * NEW_BYTES)?;
            if !new.is_empty() {
                let (first, last) = (numbers.len(), numbers.len() + new.len());
                let (Ok(first), Ok(_)) = (i32::try_from(first), i32::try_from(last)) else {
                    return Err(EngineError::internal(
                        "there are too many persons to number",
                    ));
                };
                let rows = rows_of_list(first, &new)?;
                // The numbers are right only behind the list that was read.
                let added = lake.append_after(&name, vec![rows], version).await;
                if added.map_err(failed)?.is_none() {
                    continue;
                }
                lake.maintain(&name).await.map_err(failed)?;
                let members = new.into_iter().map(|(_, member)| member);
                numbers.extend(members.zip(first..));
                memory.try_resize(numbers.capacity() * ENTRY_BYTES)?;
            }
            return Ok(PersonList {
                list,
                numbers,
                _memory: memory,
            });
        }
        Err(unusable(
            &name,
            LakeError::Busy {
                table: name.clone(),
            },
        ))
    }

    fn memory_for(&self, what: &str) -> MemoryReservation {
        let pool = &self.warehouse.template.runtime_env().memory_pool;
        MemoryConsumer::new(what).register(pool)
    }

    async fn numbers_at(
        &self,
        name: &TableName,
        version: i64,
    ) -> Result<HashMap<[u8; WIDTH], i32>> {
        let mut numbers = HashMap::new();
        let mut wrong = None;
        let mut each = |batch: &RecordBatch| {
            if let Err(error) = take_in(batch, &mut numbers) {
                wrong = Some(error);
            }
        };
        let (whole, columns) = (Slice::whole(), [NUMBER, MEMBER]);
        let lake = &self.options.lake;
        let read = lake.read_at(name, version, &whole, &columns, &mut each);
        read.await.map_err(|error| unusable(name, error))?;
        match wrong {
            None => Ok(numbers),
            Some(error) => Err(error),
        }
    }
}

fn take_in(batch: &RecordBatch, numbers: &mut HashMap<[u8; WIDTH], i32>) -> Result<()> {
    let lacks = || EngineError::internal("the list of persons lacks a column");
    let own = batch.column_by_name(NUMBER).ok_or_else(lacks)?;
    let own = to_type(own, &DataType::Int32)?;
    let members = batch.column_by_name(MEMBER).ok_or_else(lacks)?;
    let members = to_type(members, &DataType::Binary)?;
    let rows = own.as_primitive::<Int32Type>().iter();
    for (number, member) in rows.zip(members.as_binary::<i32>()) {
        let (number, member) = number.zip(member).ok_or_else(lacks)?;
        numbers.insert(pseudonym(member)?, number);
    }
    Ok(())
}

/// Rows of the list: members, the first of which has this number.
fn rows_of_list(first: i32, members: &[(i32, [u8; WIDTH])]) -> Result<RecordBatch> {
    let numbers = Int32Array::from_iter_values((first..).take(members.len()));
    let members = BinaryArray::from_iter_values(members.iter().map(|(_, member)| member));
    let columns: Vec<ArrayRef> = vec![Arc::new(numbers), Arc::new(members)];
    RecordBatch::try_new(list_schema(), columns)
        .map_err(|error| EngineError::internal_because("the list of persons", error))
}

fn list_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(NUMBER, DataType::Int32, true),
        Field::new(MEMBER, DataType::Binary, true),
    ]))
}

fn unusable(table: &TableName, error: LakeError) -> EngineError {
    EngineError::lake(format!("the table `{table}` could not be used"), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_numbers_is_known_by_its_name() {
        let list = 0x3f2a_0000_0000_0001;
        let columns = Arc::new(Schema::new(vec![
            Field::new("person_pid", DataType::Binary, true),
            Field::new("person_pid_of_parent", DataType::Binary, true),
            Field::new("sex", DataType::Utf8, true),
        ]));
        assert_eq!(numbers_of(&columns, "person_pid"), None);
        let whole = with_number_columns(&columns, list);
        assert_eq!(
            numbers_of(&whole, "person_pid"),
            Some(("person_pid#3f2a000000000001", list))
        );
        assert_eq!(
            numbers_of(&whole, "person_pid_of_parent"),
            Some(("person_pid_of_parent#3f2a000000000001", list))
        );
        for other in ["sex", "person", "person_pid#3f2a000000000001", ""] {
            assert_eq!(numbers_of(&whole, other), None, "{other}");
        }
    }
}
