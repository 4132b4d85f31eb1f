//! Passes over stored facts without a query: file by file, column by column, as they are stored.
//!
//! A pass over all rows of a relation needs nothing that a query planner does. Where the relation is
//! stored ([`facts`](super::facts)), each core takes one file after the other, and of it the columns
//! that the pass's expressions read. An expression over a column of codes is evaluated once for each
//! value of a file's dictionary and not for each row; one over several columns, or over a column
//! without codes, row by row. The rows are those of the query `SELECT expressions FROM relation`, in
//! another order.
//!
//! Each core holds the columns of two row groups, which have some megabytes each, and the rows of one.
//! They do not count among the memory of queries, as those of a query's scan do not.
//!
//! What may not live here: what an expression is for (`scan.rs`), how a file is read (the lake).

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use tietopohja_kernels::InputColumn;
use tietopohja_lake::{CodedFiles, FetchedGroup, LakeError, OpenedFile, Spare, StoredColumn};
use tokio::task::JoinSet;

use super::facts::FactFiles;
use super::scan::found_or_added;
use crate::error::{EngineError, Result};
use crate::plain::to_type;

/// Rows that are handed on at a time: their codes stay near.
const BATCH_ROWS: usize = 16 * 1024;

/// An expression over a few columns, ready to be evaluated.
#[derive(Debug, Clone)]
struct Read {
    expression: Arc<dyn PhysicalExpr>,
    /// The columns that it reads and no others.
    schema: SchemaRef,
}

impl Read {
    /// The expression over columns of these types; `None` where it means nothing without its query.
    fn of(state: &SessionState, sql: &str, columns: &Schema) -> Option<Self> {
        let all = DFSchema::try_from(columns.clone()).ok()?;
        let expression = state.create_logical_expr(sql, &all).ok()?.unalias();
        if expression.is_volatile() {
            return None;
        }
        let read = expression.column_refs();
        let read = read.iter().map(|column| column.name.as_str());
        let read: BTreeSet<&str> = read.collect();
        let fields = columns.fields().iter();
        let fields = fields.filter(|field| read.contains(field.name().as_str()));
        let schema = Schema::new(fields.cloned().collect::<Vec<_>>());
        let of_columns = DFSchema::try_from(schema.clone()).ok()?;
        // Some functions exist only until they are simplified.
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(of_columns.clone()))
            .with_config_options(Arc::clone(state.config_options()))
            .with_query_execution_start_time(state.execution_props().query_execution_start_time)
            .build();
        let simplifier = ExprSimplifier::new(context);
        let expression = simplifier.coerce(expression, &of_columns).ok()?;
        let expression = simplifier.simplify(expression).ok()?;
        let expression = state.create_physical_expr(expression, &of_columns).ok()?;
        Some(Self {
            expression,
            schema: Arc::new(schema),
        })
    }

    /// Its column over the columns that it reads.
    fn evaluated(&self, columns: &[InputColumn], rows: usize) -> Result<ArrayRef> {
        let schema: &SchemaRef = &self.schema;
        let columns = columns.iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| decoded(column, field.data_type()));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(
            Arc::clone(schema),
            columns.collect::<Result<_>>()?,
            &options,
        );
        let batch =
            batch.map_err(|error| EngineError::internal_because("rows of a scan", error))?;
        Ok(self.expression.evaluate(&batch)?.into_array(rows)?)
    }
}

/// The values of rows, in a type. The fewer are turned: values, or those that the rows have.
pub(super) fn decoded(column: &InputColumn, data_type: &DataType) -> Result<ArrayRef> {
    let values = column.values();
    let Some(codes) = column.codes() else {
        return to_type(values, data_type);
    };
    let of_rows = |values: &ArrayRef| {
        take(values, codes, None)
            .map_err(|error| EngineError::internal_because("codes of a scan", error))
    };
    match values.len() > codes.len() {
        true => to_type(&of_rows(values)?, data_type),
        false => of_rows(&to_type(values, data_type)?),
    }
}

/// Expressions over the files of a stored relation.
#[derive(Debug, Clone)]
pub(super) struct Direct {
    files: FactFiles,
    /// The columns that are read, by their places among those of the files.
    columns: Vec<usize>,
    expressions: Vec<Expression>,
}

/// What was made of the values of the dictionary that was met last.
#[derive(Debug, Clone, Default)]
pub(super) struct OfValues {
    known: Option<(ArrayRef, ArrayRef)>,
}

impl OfValues {
    /// What these values become: as before, or what `make` makes of them.
    pub(super) fn of(
        &mut self,
        values: &ArrayRef,
        make: impl FnOnce(&ArrayRef) -> Result<ArrayRef>,
    ) -> Result<ArrayRef> {
        if let Some((met, made)) = &self.known
            && Arc::ptr_eq(met, values)
        {
            return Ok(Arc::clone(made));
        }
        let made = make(values)?;
        self.known = Some((Arc::clone(values), Arc::clone(&made)));
        Ok(made)
    }
}

#[derive(Debug, Clone)]
struct Expression {
    /// Where its columns are among those that are read.
    places: Vec<usize>,
    read: Read,
    of_values: OfValues,
}

impl Direct {
    /// A pass that evaluates these expressions; `None` where one of them needs a query.
    pub(super) fn of(state: &SessionState, files: FactFiles, selected: &[String]) -> Option<Self> {
        let mut columns = Vec::new();
        let mut expressions = Vec::with_capacity(selected.len());
        for sql in selected {
            let read = Read::of(state, sql, &files.columns)?;
            let places = read.schema.fields().iter().map(|column| {
                let place = files.files.schema().index_of(column.name()).ok()?;
                Some(found_or_added(&mut columns, place))
            });
            expressions.push(Expression {
                places: places.collect::<Option<_>>()?,
                read,
                of_values: OfValues::default(),
            });
        }
        Some(Self {
            files,
            columns,
            expressions,
        })
    }

    /// The types of the expressions.
    pub(super) fn types(&self) -> Result<Schema> {
        let fields = self.expressions.iter().map(|expression| {
            let data_type = expression
                .read
                .expression
                .data_type(&expression.read.schema)?;
            Ok(Field::new("", data_type, true))
        });
        Ok(Schema::new(fields.collect::<Result<Vec<_>>>()?))
    }

    /// So many passes that share the files among them.
    pub(super) fn lanes(self, lanes: usize) -> Vec<Lane> {
        let lanes = lanes.max(1);
        let queue = Arc::new(Queue::of(&self.files.chosen, lanes));
        let lane = |lane| Lane {
            direct: self.clone(),
            queue: Arc::clone(&queue),
            lane,
            ahead: JoinSet::new(),
            group: Group::default(),
            spare: Spare::default(),
        };
        (0..lanes).map(lane).collect()
    }
}

impl Expression {
    /// Its column of so many rows, of which `columns` are those that are read.
    fn column(&mut self, columns: &[InputColumn], rows: usize) -> Result<InputColumn> {
        let own = self.places.iter().map(|place| columns.get(*place).cloned());
        let own = own.collect::<Option<Vec<_>>>().ok_or_else(lost)?;
        let [column] = own.as_slice() else {
            return Ok(self.read.evaluated(&own, rows)?.into());
        };
        // A row without a code has no value that could be asked.
        let codes = column.codes();
        if codes.is_none_or(|codes| codes.null_count() > 0) {
            return Ok(self.read.evaluated(&own, rows)?.into());
        }
        let read = &self.read;
        let found = self.of_values.of(column.values(), |values| {
            read.evaluated(&[InputColumn::from(Arc::clone(values))], values.len())
        })?;
        Ok(column.with_values(found)?)
    }
}

/// The files that are still to be read, in a list for each lane. Files that lie together have much in
/// common, so each lane has its part of them; one that is done takes the last of the longest list.
#[derive(Debug)]
struct Queue {
    left: Mutex<Vec<VecDeque<(usize, u64)>>>,
}

impl Queue {
    fn of(files: &[(usize, u64)], lanes: usize) -> Self {
        let all: u64 = files.iter().map(|(_, bytes)| bytes).sum();
        let share = (all / lanes as u64).max(1);
        let mut left = vec![VecDeque::new(); lanes];
        let mut before = 0;
        for file in files {
            let lane = usize::try_from(before / share).unwrap_or(usize::MAX);
            if let Some(list) = left.get_mut(lane.min(lanes - 1)) {
                list.push_back(*file);
            }
            before += file.1;
        }
        Self {
            left: Mutex::new(left),
        }
    }

    /// The next file of a lane.
    fn next(&self, lane: usize) -> Option<usize> {
        let mut left = match self.left.lock() {
            Ok(left) => left,
            Err(poisoned) => poisoned.into_inner(),
        };
        if let Some((file, _)) = left.get_mut(lane)?.pop_front() {
            return Some(file);
        }
        let bytes =
            |list: &VecDeque<(usize, u64)>| list.iter().map(|(_, bytes)| *bytes).sum::<u64>();
        let longest = left.iter_mut().max_by_key(|list| bytes(list))?;
        Some(longest.pop_back()?.0)
    }
}

/// The rows of one core's part of the files.
#[derive(Debug)]
pub(super) struct Lane {
    direct: Direct,
    queue: Arc<Queue>,
    lane: usize,
    /// The row group after this one, which is being fetched meanwhile.
    ahead: JoinSet<std::result::Result<Fetched, LakeError>>,
    group: Group,
    /// What held the rows before.
    spare: Spare,
}

/// A row group in memory; none of a file that has none.
type Fetched = (Arc<OpenedFile>, usize, Option<FetchedGroup>);

/// The row group that is being handed on.
#[derive(Debug, Default)]
struct Group {
    columns: Vec<InputColumn>,
    rows: usize,
    taken: usize,
}

impl Lane {
    /// The next rows: a column for each expression. `None` when there are no more.
    ///
    /// # Errors
    /// When a file cannot be read, or an expression fails.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<InputColumn>>> {
        while self.group.taken == self.group.rows {
            let group = std::mem::take(&mut self.group);
            for column in group.columns {
                let (codes, values) = column.into_parts();
                self.spare.take_back(StoredColumn { codes, values });
            }
            let Some((file, group, fetched)) = self.fetched().await? else {
                return Ok(None);
            };
            self.fetch_after(file, group);
            // What was begun is begun by another core, and who stops the pass gets to do so.
            tokio::task::yield_now().await;
            if let Some(fetched) = fetched {
                let (rows, columns) = fetched.read(&mut self.spare).map_err(unread)?;
                let columns = columns.into_iter().map(|column| match column.codes {
                    Some(codes) => InputColumn::coded(codes, column.values),
                    None => Ok(column.values.into()),
                });
                self.group = Group {
                    columns: columns.collect::<std::result::Result<_, _>>()?,
                    rows,
                    taken: 0,
                };
            }
        }
        let group = &mut self.group;
        let rows = BATCH_ROWS.min(group.rows - group.taken);
        let columns = group.columns.iter();
        let columns: Vec<_> = columns
            .map(|column| column.slice(group.taken, rows))
            .collect();
        group.taken += rows;
        let expressions = self.direct.expressions.iter_mut();
        let found = expressions.map(|expression| expression.column(&columns, rows));
        found.collect::<Result<_>>().map(Some)
    }

    /// The row group that was fetched meanwhile.
    async fn fetched(&mut self) -> Result<Option<Fetched>> {
        if self.ahead.is_empty() {
            self.fetch_file();
        }
        let Some(ended) = self.ahead.join_next().await else {
            return Ok(None);
        };
        let ended =
            ended.map_err(|error| EngineError::internal_because("a part of a scan died", error))?;
        ended.map(Some).map_err(unread)
    }

    /// Begins with what comes after a row group.
    fn fetch_after(&mut self, file: Arc<OpenedFile>, group: usize) {
        let next = group + 1;
        if next >= file.groups() {
            return self.fetch_file();
        }
        let buffer = self.spare.raw();
        self.ahead.spawn(async move {
            let fetched = file.fetch(next, buffer).await?;
            Ok((file, next, Some(fetched)))
        });
    }

    /// Begins with the next file.
    fn fetch_file(&mut self) {
        let Some(file) = self.queue.next(self.lane) else {
            return;
        };
        let files: Arc<CodedFiles> = Arc::clone(&self.direct.files.files);
        let columns = self.direct.columns.clone();
        let buffer = self.spare.raw();
        self.ahead.spawn(async move {
            let file = Arc::new(files.open(file, &columns).await?);
            let fetched = match file.groups() {
                0 => None,
                _ => Some(file.fetch(0, buffer).await?),
            };
            Ok((file, 0, fetched))
        });
    }
}

fn unread(error: LakeError) -> EngineError {
    EngineError::lake("stored rows could not be read".to_owned(), error)
}

fn lost() -> EngineError {
    EngineError::internal("a pass over files lost a column")
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        AsArray, Date32Array, Int32Array, Int64Array, StringArray, UInt8Array, UInt16Array,
    };
    use datafusion::execution::session_state::SessionStateBuilder;

    use super::*;

    fn state() -> SessionState {
        let mut state = SessionStateBuilder::new().with_default_features().build();
        state.mark_start_execution();
        state
    }

    fn columns() -> Schema {
        Schema::new(vec![
            Field::new("mode", DataType::Utf8View, true),
            Field::new("day", DataType::Date32, true),
            Field::new("units", DataType::Int32, true),
            Field::new("cost", DataType::Int64, true),
        ])
    }

    fn coded(codes: impl Array + 'static, values: impl Array + 'static) -> InputColumn {
        InputColumn::coded(Arc::new(codes), Arc::new(values)).unwrap()
    }

    /// Rows with their columns coded, as files have them; one value stands for null.
    fn rows(own: &str) -> Vec<InputColumn> {
        let modes = StringArray::from(vec![Some(own), Some("bought"), None]);
        let days = Date32Array::from(vec![19_723, 19_754]);
        let units = Int32Array::from(vec![Some(3), Some(-4), None]);
        let costs = Int64Array::from(vec![Some(100), None, Some(7), Some(i64::MAX / 4)]);
        vec![
            coded(UInt8Array::from(vec![0, 1, 2, 0]), modes),
            coded(UInt16Array::from(vec![0, 0, 1, 1]), days),
            coded(UInt8Array::from(vec![2, 1, 0, 0]), units),
            InputColumn::from(Arc::new(costs) as ArrayRef),
        ]
    }

    #[test]
    fn expressions_over_codes_are_those_over_their_values() {
        let columns = columns();
        for (sql, stays_coded) in [
            ("mode", true),
            ("upper(mode)", true),
            ("mode = 'own'", true),
            ("mode IS NULL", true),
            ("coalesce(mode, 'none')", true),
            ("CAST(day AS DATE)", true),
            ("date_trunc('month', day)", true),
            ("CAST(units AS BIGINT) * 2", true),
            ("cost", false),
            ("CAST(cost AS VARCHAR)", false),
            ("cost + units", false),
            ("CASE WHEN mode = 'own' THEN units ELSE cost END", false),
            ("mode = 'own' AND day > DATE '2024-01-15'", false),
            ("'x'", false),
            ("DATE '2024-01-01'", false),
            ("day <= current_date", true),
            ("now() IS NOT NULL", false),
        ] {
            let read = Read::of(&state(), sql, &columns).expect(sql);
            let places = read.schema.fields().iter();
            let places = places.map(|column| columns.index_of(column.name()).unwrap());
            let mut expression = Expression {
                places: places.collect(),
                read,
                of_values: OfValues::default(),
            };
            for own in ["own", "own", "leased"] {
                let coded = rows(own);
                for coded in [
                    coded.clone(),
                    coded.iter().map(|of| of.slice(1, 2)).collect(),
                ] {
                    let plain = coded.iter().zip(columns.fields());
                    let plain = plain.map(|(column, field)| decoded(column, field.data_type()));
                    let plain: Vec<ArrayRef> = plain.collect::<Result<_>>().unwrap();
                    let plain = InputColumn::of_arrays(&plain);
                    let length = coded[0].len();
                    let found = expression.column(&coded, length).unwrap();
                    let wanted = expression.clone().column(&plain, length).unwrap();
                    assert_eq!(found.codes().is_some(), stays_coded, "{sql}");
                    let wanted = wanted.values();
                    let found = decoded(&found, wanted.data_type()).unwrap();
                    assert_eq!(&found, wanted, "{sql}");
                }
            }
        }
    }

    #[test]
    fn a_row_without_a_code_is_one_without_a_value() {
        let modes = StringArray::from(vec!["own", "bought"]);
        let coded = coded(Int32Array::from(vec![Some(1), None, Some(0)]), modes);
        for (sql, wanted) in [
            ("coalesce(mode, 'none')", vec!["bought", "none", "own"]),
            (
                "CASE WHEN mode = 'own' THEN 'a' ELSE 'b' END",
                vec!["b", "b", "a"],
            ),
        ] {
            let mut expression = Expression {
                places: vec![0],
                read: Read::of(&state(), sql, &columns()).unwrap(),
                of_values: OfValues::default(),
            };
            let found = expression.column(std::slice::from_ref(&coded), 3).unwrap();
            let found = decoded(&found, &DataType::Utf8).unwrap();
            let found: Vec<_> = found.as_string::<i32>().iter().flatten().collect();
            assert_eq!(found, wanted, "{sql}");
        }
    }

    #[test]
    fn what_needs_a_query_is_left_to_it() {
        for sql in [
            "no_such_column",
            "random() < 0.5",
            "(SELECT max(cost) FROM other)",
            "mode IN (SELECT mode FROM other)",
            "mode = (",
        ] {
            assert!(Read::of(&state(), sql, &columns()).is_none(), "{sql}");
        }
    }

    #[test]
    fn every_file_is_read_once_whatever_the_lanes() {
        for (files, lanes) in [(0, 2), (1, 2), (5, 1), (7, 2), (7, 3), (3, 8)] {
            let all: Vec<(usize, u64)> =
                (0..files).map(|file| (file, 1 + file as u64 * 3)).collect();
            for order in [vec![0], (0..lanes).collect(), (0..lanes).rev().collect()] {
                let queue = Queue::of(&all, lanes);
                let mut met = Vec::new();
                let mut turns = order.iter().cycle();
                while let Some(file) = turns.next().and_then(|lane| queue.next(*lane)) {
                    met.push(file);
                }
                met.sort_unstable();
                assert_eq!(met, (0..files).collect::<Vec<_>>(), "{files} {lanes}");
            }
        }
    }

    #[test]
    fn a_lane_goes_through_its_part_in_order_and_helps_others_from_their_end() {
        let files: Vec<(usize, u64)> = (0..6).map(|file| (file, 10)).collect();
        let queue = Queue::of(&files, 2);
        let met: Vec<_> = [0, 0, 1, 0, 0, 1].map(|lane| queue.next(lane)).to_vec();
        assert_eq!(met, [Some(0), Some(1), Some(3), Some(2), Some(5), Some(4)]);
    }
}
