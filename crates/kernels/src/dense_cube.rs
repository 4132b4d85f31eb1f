//! Counts and sums by several dimensions at once, without hashing: the dense cube.
//!
//! A dimension is a column of codes below its size (code 0: unknown, a category of its own). With
//! sizes d₁ … dₙ the cell of a row is (…(c₁·d₂ + c₂)·d₃ + …) + cₙ, so it is found by arithmetic and
//! not by comparing keys (perfect addressing, as multidimensional array stores do). A cell holds
//! the number of its rows and any number of sums of 64-bit integers; a weighted sum is the sum of
//! products that the caller computes. Several cubes over the same columns are counted together,
//! and the cells of leading dimensions that they have in common are computed once.
//!
//! Time: O(rows · (dimensions + sums)), in chunks whose cells stay in the nearest cache. Memory:
//! 8 bytes · (1 + sums) for each possible cell, within the bound that the caller gives; a cube
//! beyond it keeps only the cells that exist, found by hashing, with the same results. Nulls: a
//! null measure adds nothing, a null dimension is code 0, an unselected row is not looked at.
//! Errors: a code that is not below its dimension's size, or columns of unequal length, are
//! refused before anything is counted. Sums never wrap: they are exact to 128 bits. A cell without
//! rows does not exist, and no rows give no cells. Merging adds cell by cell; cubes of one shape
//! merge whichever way they are stored, and order and number of parts do not matter.

use arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion_common::{Result, exec_err, plan_err};

use crate::codes::{Codes, check_codes, check_length, with_codes};
use crate::sum_table::{Carries, SumTable, dense_bytes};

/// Rows worked on at a time: their cells and measures stay in the nearest cache.
const CHUNK: usize = 2_048;

/// The sizes of a cube's dimensions, and how many sums each cell holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CubeShape {
    sizes: Vec<u32>,
    sums: usize,
    cells: u64,
}

impl CubeShape {
    /// A shape; every dimension has at least the unknown value.
    pub fn new(sizes: &[u32], sums: usize) -> Result<Self> {
        if sizes.contains(&0) {
            return plan_err!("a dimension of a cube has no values, not even the unknown one");
        }
        let cells = sizes
            .iter()
            .try_fold(1u64, |cells, size| cells.checked_mul(u64::from(*size)));
        match cells {
            Some(cells) => Ok(Self {
                sizes: sizes.to_vec(),
                sums,
                cells,
            }),
            None => plan_err!(
                "a cube of {} dimensions has more than 2^64 cells: use fewer at once",
                sizes.len()
            ),
        }
    }

    /// The number of possible cells.
    pub fn cells(&self) -> u64 {
        self.cells
    }

    /// The sizes of the dimensions.
    pub fn sizes(&self) -> &[u32] {
        &self.sizes
    }

    /// The codes of a cell, one per dimension.
    pub fn codes(&self, cell: u64) -> Vec<u32> {
        let mut rest = cell;
        let mut codes: Vec<u32> = self
            .sizes
            .iter()
            .rev()
            .map(|size| {
                let size = u64::from(*size);
                let code = rest % size;
                rest /= size;
                code as u32
            })
            .collect();
        codes.reverse();
        codes
    }

    /// Cells that follow each other when the code of a dimension grows by one.
    fn stride(&self, dimension: usize) -> u64 {
        self.sizes
            .iter()
            .skip(dimension + 1)
            .map(|size| u64::from(*size))
            .product()
    }

    fn width(&self) -> usize {
        1 + self.sums
    }
}

/// Counts and sums by cell.
#[derive(Debug, Clone)]
pub struct Cube {
    shape: CubeShape,
    memory_bytes: usize,
    table: SumTable,
}

/// The cells of a cube that have rows, in ascending order, as columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CubeCells {
    /// The codes of each dimension.
    pub dimensions: Vec<Vec<u32>>,
    /// The number of rows.
    pub counts: Vec<u64>,
    /// The sums, each in full.
    pub sums: Vec<Vec<i128>>,
}

impl Cube {
    /// An empty cube that is dense when it takes no more than `memory_bytes`.
    pub fn new(shape: CubeShape, memory_bytes: usize) -> Self {
        Self {
            table: SumTable::new(shape.cells, shape.width(), memory_bytes),
            memory_bytes,
            shape,
        }
    }

    /// The shape.
    pub fn shape(&self) -> &CubeShape {
        &self.shape
    }

    /// True when cells are found by their place and not by hashing.
    pub fn is_dense(&self) -> bool {
        self.table.is_dense()
    }

    /// The number of cells that have rows.
    pub fn occupied(&self) -> usize {
        self.table.rows().len()
    }

    /// The cells that have rows, in ascending order.
    pub fn cells(&self) -> CubeCells {
        let rows = self.table.rows();
        let word = |place: usize| {
            rows.iter()
                .map(move |(_, slot)| self.table.value(*slot, place))
        };
        let dimensions = self
            .shape
            .sizes
            .iter()
            .enumerate()
            .map(|(dimension, size)| {
                let stride = self.shape.stride(dimension);
                rows.iter()
                    .map(|(cell, _)| (cell / stride % u64::from(*size)) as u32)
                    .collect()
            })
            .collect();
        CubeCells {
            dimensions,
            counts: word(0).map(|count| count as u64).collect(),
            sums: (1..self.shape.width())
                .map(|place| word(place).collect())
                .collect(),
        }
    }

    /// Adds another cube of the same shape.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.shape != other.shape {
            return exec_err!("only cubes of the same dimensions and measures can be merged");
        }
        self.table.absorb(&other.table, |cell| cell)
    }

    /// The cube with the codes of one dimension replaced by those of their parents: `parents` has
    /// the parent of every code, below `size`. The unknown code stays the unknown code.
    pub fn roll_up(&self, dimension: usize, parents: &[u32], size: u32) -> Result<Self> {
        let Some(held) = self.shape.sizes.get(dimension).copied() else {
            return plan_err!("the cube has no dimension {dimension} to roll up");
        };
        check_parents(parents, held, size)?;
        let mut sizes = self.shape.sizes.clone();
        if let Some(replaced) = sizes.get_mut(dimension) {
            *replaced = size;
        }
        let shape = CubeShape::new(&sizes, self.shape.sums)?;
        self.regroup(shape, dimension, |code| {
            parents.get(code as usize).copied().unwrap_or_default()
        })
    }

    /// The cube without one dimension: totals over all its codes, the unknown one included.
    pub fn total_over(&self, dimension: usize) -> Result<Self> {
        if dimension >= self.shape.sizes.len() {
            return plan_err!("the cube has no dimension {dimension} to total over");
        }
        let mut sizes = self.shape.sizes.clone();
        sizes.remove(dimension);
        let shape = CubeShape::new(&sizes, self.shape.sums)?;
        self.regroup(shape, dimension, |_| 0)
    }

    /// Adds every cell to that of another shape, in which one dimension has other codes or is gone.
    fn regroup(
        &self,
        shape: CubeShape,
        dimension: usize,
        parent: impl Fn(u32) -> u32,
    ) -> Result<Self> {
        let stride = self.shape.stride(dimension);
        let size = self.shape.sizes.get(dimension).copied().unwrap_or(1);
        let parent_size = if shape.sizes.len() == self.shape.sizes.len() {
            shape.sizes.get(dimension).copied().unwrap_or(1)
        } else {
            1
        };
        let mut rolled = Self::new(shape, self.memory_bytes);
        rolled.table.absorb(&self.table, |cell| {
            let (outer, inner) = (cell / stride, cell % stride);
            let (before, code) = (outer / u64::from(size), outer % u64::from(size));
            (before * u64::from(parent_size) + u64::from(parent(code as u32))) * stride + inner
        })?;
        Ok(rolled)
    }

    /// Bytes held on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.table.heap_bytes()
    }
}

/// Refuses a map that does not give each of `size` codes a parent below `parent_size`, or that
/// makes something known of the unknown.
pub(crate) fn check_parents(parents: &[u32], size: u32, parent_size: u32) -> Result<()> {
    if parents.len() != size as usize {
        return plan_err!(
            "a roll-up names the parents of {} codes, and there are {size}",
            parents.len()
        );
    }
    if parents.iter().any(|parent| *parent >= parent_size) {
        return plan_err!("a roll-up names a parent that is not below {parent_size}");
    }
    if parents.first().is_some_and(|parent| *parent != 0) {
        return plan_err!("a roll-up must leave code 0, the unknown, as it is");
    }
    Ok(())
}

/// One cube of several over the same columns.
#[derive(Debug, Clone, Copy)]
pub struct CubeSpec<'a> {
    /// Which dimensions, outermost first. Cubes that begin alike share the work.
    pub dimensions: &'a [usize],
    /// Which measures are summed.
    pub sums: &'a [usize],
}

/// A column that is summed.
#[derive(Debug, Clone, Copy)]
pub struct Measure<'a> {
    /// The values.
    pub values: &'a [i64],
    /// Which of them are there; a null adds nothing.
    pub nulls: Option<&'a NullBuffer>,
}

/// Rows to count.
#[derive(Debug, Clone, Copy)]
pub struct CubeRows<'a> {
    /// The number of rows.
    pub rows: usize,
    /// One column of codes per dimension.
    pub dimensions: &'a [Codes<'a>],
    /// The measures.
    pub measures: &'a [Measure<'a>],
    /// The rows that count; all when there is none.
    pub selection: Option<&'a BooleanBuffer>,
}

/// Cell numbers of one chunk. Wide ones are needed only where cells outnumber 32 bits.
#[derive(Debug, Clone)]
enum Cells {
    Narrow(Vec<u32>),
    Wide(Vec<u64>),
}

/// The cells of some leading dimensions, which several cubes may have in common.
#[derive(Debug, Clone)]
struct Prefix {
    parent: Option<usize>,
    dimension: usize,
    size: u32,
    cells: Cells,
}

/// Several cubes over the same columns, counted together.
#[derive(Debug, Clone)]
pub struct CubeSet {
    sizes: Vec<u32>,
    measures: usize,
    prefixes: Vec<Prefix>,
    cubes: Vec<Member>,
    /// Measures of one chunk where they cannot be read from the column as they are.
    buffers: Vec<Vec<i64>>,
    kept: Vec<u32>,
    slots: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Member {
    cube: Cube,
    /// The prefix that is the whole cell; `None` for a grand total.
    prefix: Option<usize>,
    sums: Vec<usize>,
}

impl CubeSet {
    /// Cubes over columns of the given sizes. They are dense in the order given, as long as all
    /// together take no more than `memory_bytes`.
    pub fn new(
        sizes: &[u32],
        measures: usize,
        cubes: &[CubeSpec<'_>],
        memory_bytes: usize,
    ) -> Result<Self> {
        let mut set = Self {
            sizes: sizes.to_vec(),
            measures,
            prefixes: Vec::new(),
            cubes: Vec::new(),
            buffers: vec![Vec::new(); measures],
            kept: Vec::new(),
            slots: Vec::new(),
        };
        let mut left = memory_bytes;
        for spec in cubes {
            if let Some(missing) = spec.sums.iter().find(|sum| **sum >= measures) {
                return plan_err!("a cube sums measure {missing}, and there are {measures}");
            }
            let mut prefix = None;
            let mut own = Vec::with_capacity(spec.dimensions.len());
            for dimension in spec.dimensions {
                let Some(size) = sizes.get(*dimension) else {
                    return plan_err!(
                        "a cube has dimension {dimension}, and there are {}",
                        sizes.len()
                    );
                };
                own.push(*size);
                let so_far = CubeShape::new(&own, 0)?;
                prefix = Some(set.prefix(prefix, *dimension, *size, so_far.cells));
            }
            let shape = CubeShape::new(&own, spec.sums.len())?;
            let mut cube = Cube::new(shape, left);
            // What a cube becomes by roll-up stands alone and may use the whole bound.
            cube.memory_bytes = memory_bytes;
            if cube.is_dense() {
                left -= dense_bytes(cube.shape.cells, cube.shape.width()).unwrap_or(left);
            }
            set.cubes.push(Member {
                cube,
                prefix,
                sums: spec.sums.to_vec(),
            });
        }
        Ok(set)
    }

    /// The place of a prefix, found among those that there are or put after them.
    fn prefix(&mut self, parent: Option<usize>, dimension: usize, size: u32, cells: u64) -> usize {
        let found = self
            .prefixes
            .iter()
            .position(|prefix| prefix.parent == parent && prefix.dimension == dimension);
        found.unwrap_or_else(|| {
            let cells = if cells <= u64::from(u32::MAX) {
                Cells::Narrow(Vec::new())
            } else {
                Cells::Wide(Vec::new())
            };
            self.prefixes.push(Prefix {
                parent,
                dimension,
                size,
                cells,
            });
            self.prefixes.len() - 1
        })
    }

    /// Counts rows into every cube. After an error nothing of them has been counted, unless the
    /// error is that there are too many cells.
    pub fn add(&mut self, rows: &CubeRows<'_>) -> Result<()> {
        self.check(rows)?;
        let mut from = 0;
        while from < rows.rows {
            let to = (from + CHUNK).min(rows.rows);
            self.add_chunk(rows, from, to)?;
            from = to;
        }
        Ok(())
    }

    fn check(&self, rows: &CubeRows<'_>) -> Result<()> {
        check_length(
            "the list of dimensions",
            rows.dimensions.len(),
            self.sizes.len(),
        )?;
        check_length("the list of measures", rows.measures.len(), self.measures)?;
        if let Some(selection) = rows.selection {
            check_length("the selection", selection.len(), rows.rows)?;
        }
        for measure in rows.measures {
            check_length("a measure", measure.values.len(), rows.rows)?;
            if let Some(nulls) = measure.nulls {
                check_length("the nulls of a measure", nulls.len(), rows.rows)?;
            }
        }
        for (dimension, (codes, size)) in rows.dimensions.iter().zip(&self.sizes).enumerate() {
            let what = format!("dimension {dimension}");
            check_length(&what, codes.len(), rows.rows)?;
            if self
                .prefixes
                .iter()
                .any(|prefix| prefix.dimension == dimension)
            {
                check_codes(&what, *codes, *size, rows.selection)?;
            }
        }
        Ok(())
    }

    fn add_chunk(&mut self, rows: &CubeRows<'_>, from: usize, to: usize) -> Result<()> {
        let kept = match rows.selection {
            None => None,
            Some(selection) => {
                let selection = selection.slice(from, to - from);
                match selection.count_set_bits() {
                    0 => return Ok(()),
                    all if all == to - from => None,
                    _ => {
                        self.kept.clear();
                        self.kept.extend(selection.set_indices_u32());
                        Some(self.kept.as_slice())
                    }
                }
            }
        };
        let count = kept.map_or(to - from, <[u32]>::len);

        for at in 0..self.prefixes.len() {
            let (before, after) = self.prefixes.split_at_mut(at);
            let Some(prefix) = after.first_mut() else {
                continue;
            };
            let parent = prefix
                .parent
                .and_then(|parent| before.get(parent))
                .map(|parent| &parent.cells);
            if let Some(codes) = rows.dimensions.get(prefix.dimension) {
                with_codes!(codes, codes => extend(
                    parent,
                    codes.get(from..to).unwrap_or_default(),
                    kept,
                    prefix.size,
                    &mut prefix.cells,
                ));
            }
        }

        for (measure, buffer) in rows.measures.iter().zip(&mut self.buffers) {
            let values = measure.values.get(from..to).unwrap_or_default();
            let nulls = measure
                .nulls
                .filter(|nulls| nulls.null_count() > 0)
                .map(|nulls| nulls.slice(from, to - from));
            fill(buffer, values, nulls.as_ref(), kept);
        }

        for member in &mut self.cubes {
            let sums: Vec<&[i64]> = member
                .sums
                .iter()
                .filter_map(|sum| {
                    let buffer = self.buffers.get(*sum)?;
                    if buffer.is_empty() {
                        rows.measures.get(*sum)?.values.get(from..to)
                    } else {
                        Some(buffer.as_slice())
                    }
                })
                .collect();
            let cells = member
                .prefix
                .and_then(|prefix| self.prefixes.get(prefix))
                .map(|prefix| &prefix.cells);
            let table = &mut member.cube.table;
            let slots = match cells {
                Some(Cells::Narrow(cells)) if table.is_dense() => cells.as_slice(),
                _ => {
                    self.slots.clear();
                    match cells {
                        None => {
                            let slot = table.slot(0)?;
                            self.slots.resize(count, slot);
                        }
                        Some(Cells::Narrow(cells)) => {
                            for cell in cells {
                                self.slots.push(table.slot(u64::from(*cell))?);
                            }
                        }
                        Some(Cells::Wide(cells)) => {
                            for cell in cells {
                                self.slots.push(table.slot(*cell)?);
                            }
                        }
                    }
                    self.slots.as_slice()
                }
            };
            let (words, carries) = table.parts();
            if !scatter(words, carries, slots, &sums) {
                return exec_err!("a row has no cell in the cube");
            }
        }
        Ok(())
    }

    /// Adds cubes that were counted from other rows in the same way.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        check_length(
            "the other list of cubes",
            other.cubes.len(),
            self.cubes.len(),
        )?;
        for (ours, theirs) in self.cubes.iter_mut().zip(&other.cubes) {
            ours.cube.merge(&theirs.cube)?;
        }
        Ok(())
    }

    /// The cubes, in the order in which they were asked for.
    pub fn into_cubes(self) -> Vec<Cube> {
        self.cubes.into_iter().map(|member| member.cube).collect()
    }

    /// Bytes held on the heap.
    pub fn heap_bytes(&self) -> usize {
        let cubes: usize = self
            .cubes
            .iter()
            .map(|member| member.cube.heap_bytes())
            .sum();
        let chunk = CHUNK * size_of::<u64>();
        cubes + chunk * (self.prefixes.len() + self.buffers.len() + 2)
    }
}

/// Cells of one more dimension. Rows that do not count may hold any code, so nothing is checked
/// here and arithmetic wraps.
fn extend<T: Copy + Into<u32>>(
    parent: Option<&Cells>,
    codes: &[T],
    kept: Option<&[u32]>,
    size: u32,
    cells: &mut Cells,
) {
    let wide = u64::from(size);
    match kept {
        None => {
            let codes = codes.iter().map(|code| -> u32 { (*code).into() });
            join(parent, codes, size, wide, cells);
        }
        Some(kept) => {
            let codes = kept
                .iter()
                .map(|row| codes.get(*row as usize).map_or(0, |code| (*code).into()));
            join(parent, codes, size, wide, cells);
        }
    }
}

fn join(
    parent: Option<&Cells>,
    codes: impl ExactSizeIterator<Item = u32>,
    size: u32,
    wide: u64,
    cells: &mut Cells,
) {
    match cells {
        Cells::Narrow(cells) => {
            cells.clear();
            match parent {
                Some(Cells::Narrow(parent)) => cells.extend(
                    parent
                        .iter()
                        .zip(codes)
                        .map(|(cell, code)| cell.wrapping_mul(size).wrapping_add(code)),
                ),
                // Cells of more dimensions are never narrower than those of fewer.
                Some(Cells::Wide(_)) | None => cells.extend(codes),
            }
        }
        Cells::Wide(cells) => {
            cells.clear();
            let next = |cell: u64, code: u32| cell.wrapping_mul(wide).wrapping_add(u64::from(code));
            match parent {
                Some(Cells::Narrow(parent)) => cells.extend(
                    parent
                        .iter()
                        .zip(codes)
                        .map(|(cell, code)| next(u64::from(*cell), code)),
                ),
                Some(Cells::Wide(parent)) => cells.extend(
                    parent
                        .iter()
                        .zip(codes)
                        .map(|(cell, code)| next(*cell, code)),
                ),
                None => cells.extend(codes.map(u64::from)),
            }
        }
    }
}

/// The values of the kept rows with nulls as nothing; empty when the column can be read as it is.
fn fill(buffer: &mut Vec<i64>, values: &[i64], nulls: Option<&NullBuffer>, kept: Option<&[u32]>) {
    buffer.clear();
    let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
    let there = |row: usize, value: i64| match nulls {
        Some(nulls) if nulls.is_null(row) => 0,
        _ => value,
    };
    match kept {
        Some(kept) => buffer.extend(kept.iter().map(|row| {
            let row = *row as usize;
            there(row, values.get(row).copied().unwrap_or_default())
        })),
        None if nulls.is_some() => buffer.extend(
            values
                .iter()
                .enumerate()
                .map(|(row, value)| there(row, *value)),
        ),
        None => {}
    }
}

/// Adds one to the count and each measure to its sum, row by row. False when a slot does not exist.
fn scatter(words: &mut [i64], carries: &mut Carries, slots: &[u32], sums: &[&[i64]]) -> bool {
    match *sums {
        [] => scatter_each::<0, 1>(words, carries, slots, []),
        [a] => scatter_each::<1, 2>(words, carries, slots, [a]),
        [a, b] => scatter_each::<2, 3>(words, carries, slots, [a, b]),
        [a, b, c] => scatter_each::<3, 4>(words, carries, slots, [a, b, c]),
        [a, b, c, d] => scatter_each::<4, 5>(words, carries, slots, [a, b, c, d]),
        _ => scatter_many(words, carries, slots, sums),
    }
}

/// The words of a cell lie side by side, so that a row touches one place in memory, not several.
fn scatter_each<const SUMS: usize, const WIDTH: usize>(
    words: &mut [i64],
    carries: &mut Carries,
    slots: &[u32],
    sums: [&[i64]; SUMS],
) -> bool {
    let (cells, _) = words.as_chunks_mut::<WIDTH>();
    let rows = slots.len();
    if sums.iter().any(|values| values.len() < rows) {
        return false;
    }
    let mut found = true;
    for (row, slot) in slots.iter().enumerate() {
        let Some([count, held @ ..]) = cells.get_mut(*slot as usize).map(|cell| &mut cell[..])
        else {
            found = false;
            continue;
        };
        *count += 1;
        for (place, (held, values)) in held.iter_mut().zip(&sums).enumerate() {
            let value = values[row];
            let (sum, over) = held.overflowing_add(value);
            *held = sum;
            if over {
                carries.note(*slot as usize * WIDTH + 1 + place, value);
            }
        }
    }
    found
}

fn scatter_many(words: &mut [i64], carries: &mut Carries, slots: &[u32], sums: &[&[i64]]) -> bool {
    let width = 1 + sums.len();
    let mut found = true;
    for (row, slot) in slots.iter().enumerate() {
        let first = *slot as usize * width;
        let Some([count, held @ ..]) = words.get_mut(first..first + width) else {
            found = false;
            continue;
        };
        *count += 1;
        for (place, (held, values)) in held.iter_mut().zip(sums).enumerate() {
            let value = values.get(row).copied().unwrap_or_default();
            let (sum, over) = held.overflowing_add(value);
            *held = sum;
            if over {
                carries.note(first + 1 + place, value);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::laws;

    /// Codes of three dimensions, two measures of which the second may be null, whether selected.
    type Row = ([u32; 3], i64, Option<i64>, bool);

    #[derive(Debug, Clone)]
    struct Table {
        sizes: [u32; 3],
        rows: Vec<Row>,
    }

    const SPECS: &[CubeSpec<'_>] = &[
        CubeSpec {
            dimensions: &[0, 1, 2],
            sums: &[0, 1],
        },
        CubeSpec {
            dimensions: &[0, 1],
            sums: &[1],
        },
        CubeSpec {
            dimensions: &[2, 0],
            sums: &[],
        },
        CubeSpec {
            dimensions: &[],
            sums: &[1, 0, 1, 0, 1],
        },
        CubeSpec {
            dimensions: &[1],
            sums: &[0, 0, 1],
        },
        CubeSpec {
            dimensions: &[0, 1],
            sums: &[1, 1, 0, 0],
        },
    ];

    fn set(sizes: &[u32], memory_bytes: usize) -> CubeSet {
        CubeSet::new(sizes, 2, SPECS, memory_bytes).unwrap()
    }

    fn add(set: &mut CubeSet, rows: &[Row]) -> Result<()> {
        let first: Vec<u8> = rows.iter().map(|row| row.0[0] as u8).collect();
        let second: Vec<u16> = rows.iter().map(|row| row.0[1] as u16).collect();
        let third: Vec<u32> = rows.iter().map(|row| row.0[2]).collect();
        let a: Vec<i64> = rows.iter().map(|row| row.1).collect();
        // What stands in the place of a null is never read.
        let b: Vec<i64> = rows.iter().map(|row| row.2.unwrap_or(77)).collect();
        let nulls: NullBuffer = rows.iter().map(|row| row.2.is_some()).collect();
        let selection: BooleanBuffer = rows.iter().map(|row| row.3).collect();
        set.add(&CubeRows {
            rows: rows.len(),
            dimensions: &[Codes::U8(&first), Codes::U16(&second), Codes::U32(&third)],
            measures: &[
                Measure {
                    values: &a,
                    nulls: None,
                },
                Measure {
                    values: &b,
                    nulls: Some(&nulls),
                },
            ],
            selection: rows.iter().any(|row| !row.3).then_some(&selection),
        })
    }

    fn counted(table: &Table, parts: usize, memory_bytes: usize) -> Vec<CubeCells> {
        let mut whole = set(&table.sizes, memory_bytes);
        for part in (0..parts).rev() {
            let rows: Vec<Row> = table
                .rows
                .iter()
                .skip(part)
                .step_by(parts)
                .copied()
                .collect();
            // Parts are stored both ways, and still merge.
            let mut own = set(&table.sizes, if part % 2 == 0 { memory_bytes } else { 0 });
            add(&mut own, &rows).unwrap();
            whole.merge(&own).unwrap();
        }
        whole.into_cubes().iter().map(Cube::cells).collect()
    }

    /// The definition itself: rows gathered under their codes.
    fn naive(table: &Table, spec: &CubeSpec<'_>) -> CubeCells {
        let mut cells: BTreeMap<Vec<u32>, (u64, Vec<i128>)> = BTreeMap::new();
        for (codes, a, b, selected) in &table.rows {
            if *selected {
                let key = spec.dimensions.iter().map(|d| codes[*d]).collect();
                let (count, sums) = cells
                    .entry(key)
                    .or_insert_with(|| (0, vec![0; spec.sums.len()]));
                *count += 1;
                for (sum, measure) in sums.iter_mut().zip(spec.sums) {
                    *sum += i128::from([*a, b.unwrap_or(0)][*measure]);
                }
            }
        }
        CubeCells {
            dimensions: (0..spec.dimensions.len())
                .map(|d| cells.keys().map(|key| key[d]).collect())
                .collect(),
            counts: cells.values().map(|cell| cell.0).collect(),
            sums: (0..spec.sums.len())
                .map(|s| cells.values().map(|cell| cell.1[s]).collect())
                .collect(),
        }
    }

    fn value() -> impl Strategy<Value = i64> {
        prop_oneof![
            4 => -1_000i64..1_000,
            1 => prop_oneof![Just(i64::MAX), Just(i64::MIN), any::<i64>()],
        ]
    }

    /// Some rows, repeated until they fill several chunks.
    fn table() -> impl Strategy<Value = Table> {
        let row = (
            any::<[u32; 3]>(),
            value(),
            proptest::option::weighted(0.8, value()),
            proptest::bool::weighted(0.8),
        );
        let rows = proptest::collection::vec(row, 0..60);
        (
            (1u32..6, 1u32..6, 1u32..6),
            rows,
            1usize..120,
            any::<bool>(),
        )
            .prop_map(|((a, b, c), rows, times, all)| {
                let sizes = [a, b, c];
                let rows = rows
                    .repeat(times)
                    .into_iter()
                    .map(|(codes, x, y, selected)| {
                        let mut place = 0;
                        let codes = codes.map(|code| {
                            place += 1;
                            code % sizes[place - 1]
                        });
                        // An unselected row may hold any code.
                        let codes = if selected || all {
                            codes
                        } else {
                            [250, 60_000, u32::MAX]
                        };
                        (codes, x, y, selected || all)
                    });
                Table {
                    sizes,
                    rows: rows.collect(),
                }
            })
    }

    proptest! {
        #![proptest_config(laws())]

        #[test]
        fn dense_and_hashed_cubes_in_any_parts_equal_the_definition(table in table(), parts in 1usize..6) {
            let expected: Vec<CubeCells> = SPECS.iter().map(|spec| naive(&table, spec)).collect();
            for memory_bytes in [usize::MAX, 500, 0] {
                prop_assert_eq!(&counted(&table, 1, memory_bytes), &expected);
                prop_assert_eq!(&counted(&table, parts, memory_bytes), &expected);
            }
        }

        #[test]
        fn the_order_of_rows_does_not_matter(table in table()) {
            let mut turned = table.clone();
            turned.rows.reverse();
            prop_assert_eq!(counted(&table, 1, usize::MAX), counted(&turned, 1, usize::MAX));
        }

        #[test]
        fn rolling_up_the_merged_equals_merging_the_rolled_up(
            table in table(),
            parents in proptest::collection::vec(0u32..3, 6),
        ) {
            let mut parents = parents;
            parents.truncate(table.sizes[1] as usize);
            parents[0] = 0;
            let cube = |memory_bytes, rows: &[Row]| {
                let mut set = set(&table.sizes, memory_bytes);
                add(&mut set, rows).unwrap();
                set.into_cubes().swap_remove(0)
            };
            let (left, right) = table.rows.split_at(table.rows.len() / 3);
            for memory_bytes in [usize::MAX, 0] {
                let mut merged = cube(memory_bytes, left);
                merged.merge(&cube(0, right)).unwrap();
                let rolled = merged.roll_up(1, &parents, 3).unwrap();

                let mut other = cube(memory_bytes, left).roll_up(1, &parents, 3).unwrap();
                other.merge(&cube(0, right).roll_up(1, &parents, 3).unwrap()).unwrap();
                prop_assert_eq!(rolled.cells(), other.cells());

                let mut mapped = table.clone();
                mapped.sizes[1] = 3;
                for row in mapped.rows.iter_mut().filter(|row| row.3) {
                    row.0[1] = parents[row.0[1] as usize];
                }
                prop_assert_eq!(rolled.cells(), naive(&mapped, &SPECS[0]));

                let total = rolled.total_over(2).unwrap().total_over(0).unwrap();
                let spec = CubeSpec { dimensions: &[1], sums: &[0, 1] };
                prop_assert_eq!(total.cells(), naive(&mapped, &spec));
            }
        }
    }

    #[test]
    fn no_rows_give_no_cells() {
        let mut set = set(&[3, 2, 4], usize::MAX);
        add(&mut set, &[]).unwrap();
        for cube in set.into_cubes() {
            assert_eq!(cube.occupied(), 0);
            assert!(cube.cells().counts.is_empty());
        }
    }

    #[test]
    fn the_unknown_code_is_a_cell_of_its_own() {
        let mut set = set(&[2, 1, 1], usize::MAX);
        let rows = [([0, 0, 0], 5, None, true), ([1, 0, 0], 7, None, true)];
        add(&mut set, &rows).unwrap();
        let cells = set.into_cubes()[0].cells();
        assert_eq!(cells.dimensions[0], [0, 1]);
        assert_eq!(cells.sums[0], [5, 7]);
    }

    #[test]
    fn a_refused_batch_leaves_the_cubes_as_they_were() {
        let mut set = set(&[2, 2, 2], usize::MAX);
        let mut rows = vec![([1, 1, 1], 1, Some(1), true); 5_000];
        rows.push(([1, 2, 1], 1, Some(1), true));
        let error = add(&mut set, &rows).unwrap_err().strip_backtrace();
        assert!(
            error.contains("dimension 1 has a code in row 5000"),
            "{error}"
        );
        assert_eq!(set.into_cubes()[0].occupied(), 0);
    }

    #[test]
    fn the_bound_decides_how_cells_are_found() {
        // 3 · 2 · 4 cells of three words.
        let cubes = |memory_bytes| -> Vec<bool> {
            set(&[3, 2, 4], memory_bytes)
                .into_cubes()
                .iter()
                .map(Cube::is_dense)
                .collect()
        };
        assert!(cubes(24 * 24)[0]);
        assert!(!cubes(24 * 24 - 1)[0]);
        // What the first takes is not there for the second.
        assert!(!cubes(24 * 24)[1]);
    }

    #[test]
    fn more_cells_than_32_bits_can_number_are_hashed() {
        let sizes = [70_000, 70_000, 3];
        let spec = CubeSpec {
            dimensions: &[0, 1, 2],
            sums: &[],
        };
        let mut set = CubeSet::new(&sizes, 0, &[spec], usize::MAX).unwrap();
        let a = [69_999, 0, 69_999];
        let b = [69_999, 1, 69_999];
        set.add(&CubeRows {
            rows: 3,
            dimensions: &[Codes::U32(&a), Codes::U32(&b), Codes::U8(&[2, 0, 2])],
            measures: &[],
            selection: None,
        })
        .unwrap();
        let cube = set.into_cubes().remove(0);
        assert!(!cube.is_dense());
        assert_eq!(cube.cells().counts, [1, 2]);
        assert_eq!(cube.cells().dimensions, [[0, 69_999], [1, 69_999], [0, 2]]);
        assert_eq!(
            cube.shape().codes(cube.shape().cells() - 1),
            [69_999, 69_999, 2]
        );
    }

    #[test]
    fn shapes_that_cannot_be_are_refused() {
        assert!(CubeShape::new(&[3, 0], 1).is_err());
        assert!(CubeShape::new(&[u32::MAX; 3], 1).is_err());
        let cube = |sizes: &[u32]| Cube::new(CubeShape::new(sizes, 1).unwrap(), 1_024);
        assert!(cube(&[2]).merge(&cube(&[3])).is_err());
        assert!(cube(&[2]).roll_up(1, &[0, 0], 1).is_err());
        assert!(cube(&[2]).roll_up(0, &[0], 1).is_err());
        assert!(cube(&[2]).roll_up(0, &[0, 1], 1).is_err());
        assert!(cube(&[2]).roll_up(0, &[1, 0], 2).is_err());
        assert!(cube(&[2]).total_over(1).is_err());
        let spec = |dimensions, sums| CubeSpec { dimensions, sums };
        assert!(CubeSet::new(&[2], 1, &[spec(&[1], &[])], 0).is_err());
        assert!(CubeSet::new(&[2], 1, &[spec(&[0], &[1])], 0).is_err());
    }

    #[test]
    fn columns_of_unequal_length_are_refused() {
        let spec = CubeSpec {
            dimensions: &[0],
            sums: &[0],
        };
        let mut set = CubeSet::new(&[2], 1, &[spec], 1_024).unwrap();
        let values = [1, 2];
        let measure = Measure {
            values: &values,
            nulls: None,
        };
        let mut add = |codes: &[u8], measures: &[Measure<'_>], selected: usize| {
            set.add(&CubeRows {
                rows: 2,
                dimensions: &[Codes::U8(codes)],
                measures,
                selection: Some(&BooleanBuffer::new_set(selected)),
            })
        };
        assert!(add(&[0], &[measure], 2).is_err());
        assert!(add(&[0, 1], &[], 2).is_err());
        assert!(add(&[0, 1], &[measure], 1).is_err());
        assert!(add(&[0, 1], &[measure], 2).is_ok());
    }
}
