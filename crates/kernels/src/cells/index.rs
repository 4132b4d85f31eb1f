//! Cell numbers for combinations of codes: one look at a table for each row, however many columns.
//!
//! The codes of a row are digits of one number, its *place*: every column has a width, more than its
//! highest code, and places are counted with them. Columns that change seldom or never in the first rows
//! (the month, the area) are the highest digits, so that rows that lie together have places that do.
//! Places are looked up in pages of an array, made where a place is met; where places are too far
//! apart for that, in a hash table. A code beyond its column's width widens the column, and the
//! places of the known cells are counted anew. Cells are numbered in the order of their arrival. What
//! may not live here: where codes come from (`keys.rs`), what is counted (`groups.rs`).

use multiversion::multiversion;

use super::coded::{Digits, InHand, Place};

/// Bits of a place that lie within a page.
const PAGE_BITS: u32 = 9;
const PAGE: usize = 1 << PAGE_BITS;
/// There are fewer pages than this for places to fall into.
const MOST_PAGES: u64 = 1 << 22;
/// So many pages may be made without asking how full they are.
const FREE_PAGES: usize = 2048;
/// Cells that a page has at least, in the mean: with fewer a hash table takes less memory.
const LEAST_IN_PAGE: usize = PAGE / 32;
/// Rows whose places are counted at a time: so many stay near.
const BLOCK_ROWS: usize = 2048;
/// A column that keeps its code for so many rows, in the mean, tells rows apart that lie apart.
const SLOW_ROWS: usize = 64;
/// No cell, and no page.
const NONE: u32 = u32::MAX;

/// Cells of rows, by the codes of their columns.
#[derive(Debug)]
pub(super) struct CellIndex {
    /// The codes of each cell, column by column.
    codes: Vec<Vec<u32>>,
    cells: usize,
    widths: Vec<u64>,
    /// The columns, that of the lowest digit first.
    order: Vec<usize>,
    table: Table,
    /// Places of the rows in hand: those of pages are below 2³².
    near: Vec<u32>,
    far: Vec<u64>,
}

/// Cells by place.
#[derive(Debug)]
enum Table {
    Paged(Paged),
    Hashed(Hashed),
}

impl CellIndex {
    /// No cells yet, of so many columns.
    pub(super) fn new(columns: usize) -> Self {
        Self {
            codes: vec![Vec::new(); columns],
            cells: 0,
            widths: vec![1; columns],
            order: (0..columns).collect(),
            table: Table::Paged(Paged::of(1, 0)),
            near: Vec::new(),
            far: Vec::new(),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.cells
    }

    /// The codes of a column, cell by cell.
    pub(super) fn codes(&self, column: usize) -> &[u32] {
        self.codes.get(column).map_or(&[], Vec::as_slice)
    }

    /// The cells of rows, written over `out`; false, and nothing is known of the rows, when there are
    /// more combinations than can be counted.
    ///
    /// `columns` are as many columns as this index has, all of `rows` rows.
    pub(super) fn cells(
        &mut self,
        columns: &[InHand<'_>],
        rows: usize,
        out: &mut Vec<u32>,
    ) -> bool {
        out.clear();
        if !self.fit(columns, rows) {
            return false;
        }
        out.reserve(rows);
        let mut first = 0;
        while first < rows {
            first = match self.table {
                Table::Paged(_) => self.paged_cells(columns, first, rows, out),
                Table::Hashed(_) => self.hashed_cells(columns, first, rows, out),
            };
        }
        true
    }

    /// The cells of rows from `first` on, put behind `out`, as long as the table has pages; gives the row
    /// that comes next.
    fn paged_cells(
        &mut self,
        columns: &[InHand<'_>],
        mut first: usize,
        rows: usize,
        out: &mut Vec<u32>,
    ) -> usize {
        let mut places = std::mem::take(&mut self.near);
        let digits = self.digits(columns);
        while first < rows {
            let Table::Paged(table) = &mut self.table else {
                break;
            };
            let block = BLOCK_ROWS.min(rows - first);
            count_places(&digits, first, block, &mut places);
            let known = out.len();
            if !table.put_known(&places, out) {
                let found = out.get_mut(known..).unwrap_or_default();
                for ((row, place), found) in (first..).zip(&places).zip(found) {
                    if *found != NONE {
                        continue;
                    }
                    let Some(cell) = table.made(*place) else {
                        continue;
                    };
                    if *cell == NONE {
                        *cell = self.cells as u32;
                        self.cells += 1;
                        put_codes(&mut self.codes, columns, row);
                    }
                    *found = *cell;
                }
                if table.is_sparse(self.cells) {
                    self.rebuild(false);
                }
            }
            first += block;
        }
        self.near = places;
        first
    }

    /// The same of a hash table.
    fn hashed_cells(
        &mut self,
        columns: &[InHand<'_>],
        mut first: usize,
        rows: usize,
        out: &mut Vec<u32>,
    ) -> usize {
        let mut places = std::mem::take(&mut self.far);
        let digits = self.digits(columns);
        while first < rows {
            let Table::Hashed(table) = &mut self.table else {
                break;
            };
            let block = BLOCK_ROWS.min(rows - first);
            count_places(&digits, first, block, &mut places);
            for (row, place) in (first..).zip(&places) {
                let next = self.cells as u32;
                let cell = table.cell(*place, next);
                if cell == next {
                    self.cells += 1;
                    put_codes(&mut self.codes, columns, row);
                }
                out.push(cell);
            }
            first += block;
        }
        self.far = places;
        first
    }

    /// Makes room for the codes; false when there is none.
    fn fit(&mut self, columns: &[InHand<'_>], rows: usize) -> bool {
        let mut widths = self.widths.clone();
        for (width, codes) in widths.iter_mut().zip(columns) {
            let needed = codes.highest().map_or(0, |code| u64::from(code) + 1);
            if needed > *width {
                // Room for some more, so that columns are not widened for every new code.
                *width = needed + needed / 4;
            }
        }
        if widths == self.widths && self.cells > 0 {
            return true;
        }
        let places = widths
            .iter()
            .try_fold(1u64, |all, width| all.checked_mul(*width));
        // One number stands for no place.
        let Some(places) = places.filter(|places| *places < u64::MAX) else {
            return false;
        };
        if self.cells == 0 {
            let paces = columns.iter().map(|codes| pace(codes, rows));
            let paces: Vec<Pace> = paces.collect();
            self.order.sort_by_key(|column| paces.get(*column).copied());
        }
        self.widths = widths;
        self.rebuild(places.div_ceil(PAGE as u64) < MOST_PAGES);
        true
    }

    /// Makes the table anew from the known cells.
    fn rebuild(&mut self, paged: bool) {
        let codes = self.codes.iter().map(|codes| InHand::Rows(codes));
        let codes: Vec<InHand<'_>> = codes.collect();
        if paged {
            let mut known: Vec<u32> = Vec::new();
            count_places(&self.digits(&codes), 0, self.cells, &mut known);
            if let Some(pages) = pages_for(&known) {
                let mut table = Paged::of(self.widths.iter().product(), pages);
                for (number, place) in (0u32..).zip(&known) {
                    if let Some(cell) = table.made(*place) {
                        *cell = number;
                    }
                }
                self.table = Table::Paged(table);
                return;
            }
        }
        let mut known = Vec::new();
        count_places(&self.digits(&codes), 0, self.cells, &mut known);
        let mut table = Hashed::with_room_for(known.len());
        for (cell, place) in (0u32..).zip(&known) {
            table.cell(*place, cell);
        }
        self.table = Table::Hashed(table);
    }

    /// What rows add to their places, by each column in which codes differ.
    fn digits<'a, P: Place>(&self, columns: &'a [InHand<'_>]) -> Vec<Digits<'a, P>> {
        let mut digits = Vec::with_capacity(columns.len());
        let mut stride = 1u64;
        for column in &self.order {
            if let (Some(width), Some(codes)) = (self.widths.get(*column), columns.get(*column)) {
                if *width > 1 {
                    digits.push(codes.digits(P::wide(stride)));
                }
                stride = stride.saturating_mul(*width);
            }
        }
        digits
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let codes: usize = self.codes.iter().map(|codes| codes.capacity() * 4).sum();
        codes
            + match &self.table {
                Table::Paged(table) => (table.pages.capacity() + table.cells.capacity()) * 4,
                Table::Hashed(table) => table.slots.capacity() * size_of::<(u64, u32)>(),
            }
    }
}

/// Cells by place, where places lie together: pages are made where a place is met.
#[derive(Debug)]
struct Paged {
    /// By number of a page, where it begins among the cells: at the first one, as long as it is not made.
    pages: Vec<u32>,
    /// A page of no cells, then those that were made, one after the other.
    cells: Vec<u32>,
}

/// As [`Paged::put_known`].
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+lzcnt"))]
fn put_known(pages: &[u32], cells: &[u32], places: &[u32], out: &mut Vec<u32>) -> bool {
    let mut all_known = true;
    out.extend(places.iter().map(|place| {
        let page = pages.get((place >> PAGE_BITS) as usize);
        let within = place & (PAGE as u32 - 1);
        let cell = cells.get((page.copied().unwrap_or_default() | within) as usize);
        let cell = cell.copied().unwrap_or(NONE);
        all_known &= cell != NONE;
        cell
    }));
    all_known
}

impl Paged {
    /// For so many places, with room for so many pages.
    fn of(places: u64, room: usize) -> Self {
        let mut cells = Vec::with_capacity((1 + room) * PAGE);
        cells.resize(PAGE, NONE);
        Self {
            pages: vec![0; places.div_ceil(PAGE as u64) as usize],
            cells,
        }
    }

    /// Puts the cells of places behind `out`, or no cell where there is none yet; whether all have one.
    /// A row is two looks at memory and no decision: places of rows do not come in order.
    fn put_known(&self, places: &[u32], out: &mut Vec<u32>) -> bool {
        put_known(&self.pages, &self.cells, places, out)
    }

    /// The cell of a place, in its page, which is made when it is not there.
    fn made(&mut self, place: u32) -> Option<&mut u32> {
        let number = (place >> PAGE_BITS) as usize;
        let page = self.pages.get_mut(number)?;
        if *page == 0 {
            let made = self.cells.len();
            *page = made as u32;
            // Where there are many, those that are not there yet take less room.
            if made == self.cells.capacity() && made >= FREE_PAGES * PAGE {
                self.cells.reserve_exact((made / 4).max(PAGE));
            }
            self.cells.resize(made + PAGE, NONE);
        }
        self.cells
            .get_mut((*page | (place & (PAGE as u32 - 1))) as usize)
    }

    /// Whether pages are so empty that a hash table takes less.
    fn is_sparse(&self, cells: usize) -> bool {
        are_sparse(self.cells.len() / PAGE - 1, cells)
    }
}

fn are_sparse(pages: usize, cells: usize) -> bool {
    pages > FREE_PAGES && cells < pages * LEAST_IN_PAGE
}

/// How many pages cells at these places lie in; `None` where a hash table takes less. No page is made to
/// know that: places that are far apart have a page each.
fn pages_for(places: &[u32]) -> Option<usize> {
    let mut pages: Vec<u32> = places.iter().map(|place| place >> PAGE_BITS).collect();
    // Cells that came together lie together.
    pages.dedup();
    pages.sort_unstable();
    pages.dedup();
    (!are_sparse(pages.len(), places.len())).then_some(pages.len())
}

/// The places of so many rows from `first` on, written over `places`.
fn count_places<P: Place>(
    digits: &[Digits<'_, P>],
    first: usize,
    rows: usize,
    places: &mut Vec<P>,
) {
    let same = digits.iter().filter_map(Digits::same);
    let same = same.fold(P::default(), P::plus);
    let mut others = digits.iter().filter(|digits| digits.same().is_none());
    places.clear();
    if let Some(digits) = others.next() {
        digits.put_to(places, first, rows, same);
    }
    places.resize(rows, same);
    others.for_each(|digits| digits.add_to(places, first));
}

/// How often a column changes from row to row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pace {
    Fast,
    Slow,
    Never,
}

/// The pace of a column in the first rows.
fn pace(codes: &InHand<'_>, rows: usize) -> Pace {
    let rows = rows.min(BLOCK_ROWS);
    let changes = (1..rows).filter(|row| codes.code(*row) != codes.code(row - 1));
    match changes.count() {
        0 => Pace::Never,
        changes if changes * SLOW_ROWS < rows => Pace::Slow,
        _ => Pace::Fast,
    }
}

fn put_codes(known: &mut [Vec<u32>], columns: &[InHand<'_>], row: usize) {
    for (known, codes) in known.iter_mut().zip(columns) {
        known.push(codes.code(row));
    }
}

/// Cells by place, where places are far apart: open addressing, half empty at least.
#[derive(Debug)]
struct Hashed {
    slots: Vec<(u64, u32)>,
    taken: usize,
    shift: u32,
}

impl Hashed {
    fn with_room_for(cells: usize) -> Self {
        let slots = (cells * 4).next_power_of_two().max(1 << 10);
        Self {
            slots: vec![(u64::MAX, NONE); slots],
            taken: 0,
            shift: u64::BITS - slots.trailing_zeros(),
        }
    }

    /// The cell of a place; it is `next` when the place was not known.
    #[inline]
    fn cell(&mut self, place: u64, next: u32) -> u32 {
        let mut slot = (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize;
        loop {
            let Some((known, cell)) = self.slots.get_mut(slot) else {
                slot = 0;
                continue;
            };
            if *known == place {
                return *cell;
            }
            if *cell == NONE {
                *known = place;
                *cell = next;
                self.taken += 1;
                if self.taken * 2 > self.slots.len() {
                    self.enlarge();
                }
                return next;
            }
            slot += 1;
        }
    }

    #[cold]
    fn enlarge(&mut self) {
        let mut larger = Self::with_room_for(self.taken);
        for (place, cell) in self.slots.iter().filter(|(_, cell)| *cell != NONE) {
            larger.cell(*place, *cell);
        }
        *self = larger;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::numbers;

    /// Rows of codes below the bounds, and the cells that a map gives them.
    fn checked(bounds: &[u64], batches: &[usize]) -> CellIndex {
        let mut index = CellIndex::new(bounds.len());
        let mut known: BTreeMap<Vec<u32>, u32> = BTreeMap::new();
        let mut draws = numbers(bounds.len() * batches.iter().sum::<usize>(), u64::MAX);
        let mut out = Vec::new();
        for rows in batches {
            let columns: Vec<Vec<u32>> = bounds
                .iter()
                .map(|bound| {
                    let codes = draws.by_ref().take(*rows);
                    codes.map(|draw| (draw % bound) as u32).collect()
                })
                .collect();
            let in_hand: Vec<InHand<'_>> =
                columns.iter().map(|codes| InHand::Rows(codes)).collect();
            assert!(index.cells(&in_hand, *rows, &mut out));
            assert_eq!(out.len(), *rows);
            for row in 0..*rows {
                let codes: Vec<u32> = columns.iter().map(|codes| codes[row]).collect();
                let next = known.len() as u32;
                assert_eq!(*known.entry(codes).or_insert(next), out[row]);
            }
        }
        assert_eq!(index.len(), known.len());
        for (codes, cell) in known {
            for (column, code) in codes.iter().enumerate() {
                assert_eq!(index.codes(column)[cell as usize], *code);
            }
        }
        index
    }

    #[test]
    fn rows_of_the_same_codes_have_the_same_cell() {
        for (bounds, paged) in [
            (vec![1], true),
            (vec![5], true),
            (vec![30, 36, 3, 20], true),
            (vec![300, 36, 3, 20], true),
            (vec![7, 1, 100_000, 100_000], false),
            (vec![1 << 30, 1 << 30], false),
            (vec![400, 400, 300], false),
        ] {
            for batches in [vec![10_000], vec![1, 0, 10, 1_000, 20_000], vec![0]] {
                let index = checked(&bounds, &batches);
                if batches.iter().sum::<usize>() > 0 {
                    let is_paged = matches!(index.table, Table::Paged(_));
                    assert_eq!(is_paged, paged, "{bounds:?}");
                }
                assert!(index.heap_bytes() > 0);
            }
        }
    }

    #[test]
    fn cells_that_lie_apart_are_known_before_pages_are_made() {
        let apart =
            |cells: u32, by: u32| -> Vec<u32> { (0..cells).map(|cell| cell * by).collect() };
        let page = PAGE as u32;
        for (places, pages) in [
            (vec![], Some(0)),
            (apart(100_000, 1), Some(100_000usize.div_ceil(PAGE))),
            // So many may be as empty as they are, and more must have cells enough.
            (apart(FREE_PAGES as u32, page), Some(FREE_PAGES)),
            (apart(5_000, page), None),
            (
                apart(102_400, page / LEAST_IN_PAGE as u32),
                Some(102_400 / LEAST_IN_PAGE),
            ),
            (apart(102_400, page / LEAST_IN_PAGE as u32 + 1), None),
        ] {
            assert_eq!(pages_for(&places), pages, "{} places", places.len());
            let backwards: Vec<u32> = places.into_iter().rev().collect();
            assert_eq!(pages_for(&backwards), pages);
        }
    }

    #[test]
    fn columns_that_are_constant_at_first_are_the_highest_digits() {
        let mut index = CellIndex::new(3);
        let mut out = Vec::new();
        let first = [&[0, 0, 0], &[0, 1, 2], &[0, 1, 0]].map(|codes| InHand::Rows(codes));
        assert!(index.cells(&first, 3, &mut out));
        assert_eq!(index.order, [1, 2, 0]);
        let more = [&[1, 0], &[0, 1], &[0, 1]].map(|codes| InHand::Rows(codes));
        assert!(index.cells(&more, 2, &mut out));
        assert_eq!(out, [3, 1]);
    }

    #[test]
    fn more_combinations_than_can_be_counted_are_refused() {
        let mut index = CellIndex::new(3);
        let mut out = Vec::new();
        let near = [&[1], &[2], &[3]].map(|codes| InHand::Rows(codes));
        assert!(index.cells(&near, 1, &mut out));
        let far = [u32::MAX - 1];
        assert!(!index.cells(&[InHand::Rows(&far); 3], 1, &mut out));
        assert!(out.is_empty());
        assert!(index.cells(&near, 1, &mut out));
        assert_eq!((out.as_slice(), index.len()), ([0].as_slice(), 1));
    }
}
