//! Spells as marks: where they begin to count and where they end, and not a row for each month between.
//!
//! A spell counts in months that follow each other. So what spells add to a month is a running sum (a
//! difference array): a mark adds in the first month, and one takes away in the month after the last;
//! where months are missing between them, each stretch without gaps has its own. Marks of many spells
//! are added up month by month, and become months at the end
//! ([`rows_of_marks`](crate::FinishedCells::rows_of_marks)).
//!
//! - *Formula*: a spell has the change c of +1, −1 or 0 at each mark. With weights w, months of n days and
//!   C(m) = Σ w·c over the marks up to m, what spells count in month m is C(m), and their days
//!   are n(m)·C(m) + Σ w·p over the marks of m, where p is the days of the spell in the month less n: in
//!   any month but the first and the last it is zero.
//! - *Null*: spells without months have no marks. A null weight changes nothing, and how many spells with
//!   a weight a month has is counted by marks as well.
//! - *Time*: as that of the rows of months, but O(1) a stretch: at most three marks.
//!
//! What may not live here: how marks are added up (`cells`).

use arrow::array::{Array, Int64Array, UInt32Array};
use datafusion_common::Result;

use super::{DeliveredMonths, Month, Reach, ReachedMonths, weighted};
use crate::cells::InputColumn;
use crate::codes::check_length;

/// What a spell changes from a month on.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// The month, by the place of its first day among those of all months.
    code: u32,
    /// The change, where any day of a month is enough, and where its last is asked for.
    any_day: i8,
    last_day: i8,
    /// The days of the spell in this month less those of the month.
    part: i64,
}

impl Mark {
    fn change(self, reach: Reach) -> i64 {
        i64::from(match reach {
            Reach::AnyDay => self.any_day,
            Reach::LastDay => self.last_day,
        })
    }

    fn part(self, reach: Reach) -> i64 {
        match reach {
            Reach::LastDay if self.last_day < 1 => 0,
            Reach::AnyDay | Reach::LastDay => self.part,
        }
    }
}

/// Marks of spells. Columns of the spells are gathered by [`SpellMarks::rows`].
#[derive(Debug)]
pub struct SpellMarks<'a> {
    of: &'a DeliveredMonths,
    spells: usize,
    rows: UInt32Array,
    marks: Vec<Mark>,
}

impl<'a> ReachedMonths<'a> {
    /// The marks of the next spells, some `most` of them or what is left; `None` when nothing is left.
    pub fn next_marks(&mut self, most: usize) -> Option<SpellMarks<'a>> {
        let spells = self.spells.organisers.len();
        let likely = most.min(2 * spells);
        let (mut rows, mut marks) = (Vec::with_capacity(likely), Vec::with_capacity(likely));
        while marks.len() < most && self.row < spells {
            let counts = self.spells.selection;
            if counts.is_none_or(|selection| selection.value(self.row)) {
                self.mark(&mut marks);
                rows.resize(marks.len(), self.row as u32);
            }
            self.row += 1;
        }
        (!marks.is_empty()).then(|| SpellMarks {
            of: self.months,
            spells,
            rows: UInt32Array::from(rows),
            marks,
        })
    }

    /// Adds the marks of the spell in hand.
    fn mark(&mut self, marks: &mut Vec<Mark>) {
        let mut rest = self.of_spell(self.row);
        let days = (
            self.spells.first.values().get(self.row),
            self.last.get(self.row),
        );
        let (Some(first), Some(last)) = days else {
            return;
        };
        let covers = |month: &Month| month.end <= *last;
        while let Some(from) = rest.first() {
            let months = rest.partition_point(|month| month.skipped == from.skipped);
            let (stretch, others) = rest.split_at(months);
            let to = stretch.last().unwrap_or(from);
            rest = others;
            marks.push(Mark {
                code: from.code,
                any_day: 1,
                last_day: i8::from(covers(from)),
                part: from.days(*first, *last) - from.length(),
            });
            if to != from && !covers(to) {
                marks.push(Mark {
                    code: to.code,
                    any_day: 0,
                    last_day: -1,
                    part: to.days(*first, *last) - to.length(),
                });
            }
            let next = to.code + 1;
            if (next as usize) < self.months.starts.len() {
                marks.push(Mark {
                    code: next,
                    any_day: -1,
                    last_day: -i8::from(covers(to)),
                    part: 0,
                });
            }
        }
    }
}

impl SpellMarks<'_> {
    /// The spell of each mark, by its number among the spells.
    pub fn rows(&self) -> &UInt32Array {
        &self.rows
    }

    /// The first day of each mark's month, as codes of the days of all months that were delivered.
    ///
    /// # Errors
    /// None that are not a mistake of this module.
    pub fn starts(&self) -> Result<InputColumn> {
        self.of.starts_of(self.marks.iter().map(|mark| mark.code))
    }

    /// By how much each mark changes the number of spells, or the sum of their weights.
    ///
    /// # Errors
    /// When there is not a weight for each spell, or one does not fit 64 bits.
    pub fn changes(&self, reach: Reach, weights: Option<&Int64Array>) -> Result<Int64Array> {
        self.times(self.marks.iter().map(|mark| mark.change(reach)), weights)
    }

    /// By how much each mark changes the number of spells that have a weight.
    ///
    /// # Errors
    /// When there is not a weight for each spell.
    pub fn changes_of_known(&self, reach: Reach, weights: &Int64Array) -> Result<Int64Array> {
        check_length("the weights", weights.len(), self.spells)?;
        let changes = self.marks.iter().map(|mark| mark.change(reach));
        let Some(nulls) = weights.nulls().filter(|nulls| nulls.null_count() > 0) else {
            return Ok(Int64Array::from_iter_values(changes));
        };
        let known = self.rows.values().iter();
        let known = known.map(|row| i64::from(nulls.is_valid(*row as usize)));
        let changes = changes.zip(known);
        Ok(Int64Array::from_iter_values(
            changes.map(|(change, known)| change * known),
        ))
    }

    /// The days, times the weight where there are weights, by which each mark's month has more than all of
    /// its days: none or fewer than none.
    ///
    /// # Errors
    /// When there is not a weight for each spell, or a product does not fit 64 bits.
    pub fn parts(&self, reach: Reach, weights: Option<&Int64Array>) -> Result<Int64Array> {
        self.times(self.marks.iter().map(|mark| mark.part(reach)), weights)
    }

    fn times(
        &self,
        numbers: impl Iterator<Item = i64>,
        weights: Option<&Int64Array>,
    ) -> Result<Int64Array> {
        let Some(weights) = weights else {
            return Ok(Int64Array::from_iter_values(numbers));
        };
        check_length("the weights", weights.len(), self.spells)?;
        Ok(Int64Array::from(weighted(numbers, &self.rows, weights)?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Date32Array, StringViewArray};
    use arrow::buffer::BooleanBuffer;
    use arrow::datatypes::Date32Type;

    use super::super::SpellRows;
    use super::super::tests::{Spell, delivered, months_of, spells};
    use super::*;
    use crate::cells::{CellColumn, CellSpec, Cells, GroupRows, GroupSpec, MarkedGroup, MarkedSum};

    const PLACES: [Option<&str>; 3] = [Some("a"), None, Some("b")];

    /// Columns of spells, and the place of each.
    struct Columns {
        organisers: StringViewArray,
        first: Date32Array,
        last: Date32Array,
        weights: Int64Array,
        selection: BooleanBuffer,
        places: InputColumn,
    }

    impl Columns {
        fn of(spells: &[Spell]) -> Self {
            // Spells without weights lie together, so that some months have none that has.
            let place =
                |spell: &Spell| PLACES[spell.weight.map_or(1, |weight| 2 * (weight & 1) as usize)];
            let places: StringViewArray = spells.iter().map(place).collect();
            Self {
                organisers: spells.iter().map(|spell| spell.organiser).collect(),
                first: spells.iter().map(|spell| spell.first).collect(),
                last: spells.iter().map(|spell| spell.last).collect(),
                weights: spells.iter().map(|spell| spell.weight).collect(),
                selection: spells.iter().map(|spell| spell.counts).collect(),
                places: InputColumn::from(Arc::new(places) as ArrayRef),
            }
        }

        fn rows(&self) -> SpellRows<'_> {
            SpellRows {
                organisers: &self.organisers,
                first: &self.first,
                last: &self.last,
                selection: Some(&self.selection),
            }
        }
    }

    /// Place, first day of the month; spells, weights, days, weighted days.
    type Shown = BTreeMap<(Option<String>, i32), (i64, [Option<i64>; 3])>;

    fn shown(rows: &GroupRows) -> Shown {
        let places = rows.keys[0].as_string::<i32>();
        let months = rows.keys[1].as_primitive::<Date32Type>();
        let all = 0..rows.counts.len();
        let shown: Shown = all
            .clone()
            .map(|row| {
                let key = (
                    places.is_valid(row).then(|| places.value(row).to_owned()),
                    months.value(row),
                );
                let sum = |of: usize| {
                    let sums = &rows.sums[of];
                    sums.is_valid(row).then(|| sums.value(row))
                };
                (key, (rows.counts.value(row), [sum(0), sum(1), sum(2)]))
            })
            .collect();
        assert_eq!(shown.len(), all.len(), "a cell is there twice");
        shown
    }

    fn spec(sums: usize, groups: usize) -> CellSpec {
        let sums: Vec<usize> = (2..2 + sums).collect();
        let keys = [CellColumn::Text, CellColumn::Day].into_iter();
        CellSpec {
            columns: keys.chain(sums.iter().map(|_| CellColumn::Whole)).collect(),
            keys: vec![vec![0, 1]],
            groups: vec![
                GroupSpec {
                    sums,
                    ..GroupSpec::default()
                };
                groups
            ],
        }
    }

    fn whole(numbers: Result<Int64Array>) -> InputColumn {
        InputColumn::from(Arc::new(numbers.unwrap()) as ArrayRef)
    }

    /// From a row for each month.
    fn by_rows(months: &DeliveredMonths, spells: &[Spell], reach: Reach) -> Shown {
        let columns = Columns::of(spells);
        let mut cells = Cells::new(spec(3, 1)).unwrap();
        let mut reached = months.reached(columns.rows(), reach).unwrap();
        while let Some(piece) = reached.next_piece(1_000) {
            let weights = arrow::compute::take(&columns.weights, piece.rows(), None).unwrap();
            let batch = [
                columns.places.take(piece.rows()).unwrap(),
                piece.starts().unwrap(),
                InputColumn::from(weights),
                whole(piece.days(None)),
                whole(piece.days(Some(&columns.weights))),
            ];
            cells.update(&batch).unwrap();
        }
        shown(&cells.finish().unwrap().rows(0).unwrap())
    }

    /// From marks; parts of the spells are merged, the last first.
    fn by_marks(
        months: &DeliveredMonths,
        spells: &[Spell],
        reach: Reach,
        (part, most, groups): (usize, usize, usize),
    ) -> Shown {
        let mut whole_cells = Cells::new(spec(6, groups)).unwrap();
        for spells in spells.chunks(part).rev() {
            let columns = Columns::of(spells);
            let mut cells = Cells::new(spec(6, groups)).unwrap();
            let mut reached = months.reached(columns.rows(), Reach::AnyDay).unwrap();
            while let Some(marks) = reached.next_marks(most) {
                let weights = Some(&columns.weights);
                let batch = [
                    columns.places.take(marks.rows()).unwrap(),
                    marks.starts().unwrap(),
                    whole(marks.changes(reach, None)),
                    whole(marks.changes(reach, weights)),
                    whole(marks.changes_of_known(reach, &columns.weights)),
                    whole(marks.parts(reach, None)),
                    whole(marks.parts(reach, weights)),
                    whole(marks.changes_of_known(reach, &columns.weights)),
                ];
                cells.update(&batch).unwrap();
            }
            whole_cells.merge(cells).unwrap();
        }
        let sum = |change: usize, known: Option<usize>, part: Option<usize>| MarkedSum {
            change,
            known,
            part,
        };
        let marked = MarkedGroup {
            month: 1,
            count: 0,
            sums: vec![
                sum(1, Some(2), None),
                sum(0, None, Some(3)),
                sum(1, Some(5), Some(4)),
            ],
        };
        let cells = whole_cells.finish().unwrap();
        let last = cells.rows_of_marks(groups - 1, &marked, months).unwrap();
        shown(&last)
    }

    #[test]
    fn marks_add_up_to_the_months_that_spells_reach() {
        let months = months_of(&delivered()).unwrap();
        for count in [1, 40, 3_000] {
            let spells = spells(count);
            for reach in [Reach::AnyDay, Reach::LastDay] {
                let expected = by_rows(&months, &spells, reach);
                if count == 3_000 {
                    let weights = expected.values().map(|(_, sums)| sums[0]);
                    assert!(weights.clone().any(|weight| weight.is_none()));
                    assert!(weights.flatten().any(|weight| weight < 0));
                }
                for way in [(count, 1, 1), (count, 4_096, 2), (7, 100, 1), (700, 33, 3)] {
                    let found = by_marks(&months, &spells, reach, way);
                    assert_eq!(found, expected, "{count} spells, {reach:?}, {way:?}");
                }
            }
        }
    }

    #[test]
    fn a_spell_has_at_most_three_marks_in_each_stretch_of_months() {
        let months = months_of(&delivered()).unwrap();
        let spell = |organiser, last| Spell {
            organiser: Some(organiser),
            first: Some(19_360),
            last,
            weight: None,
            birth: None,
            counts: true,
        };
        // From 3.1.2023: one month, to the last day of 2023, to the middle of a month, open.
        for (organiser, last, wanted) in [
            ("05", Some(19_388), 2),
            ("05", Some(19_722), 2),
            ("05", Some(19_700), 3),
            ("05", None, 1),
            // Three months are delivered and two are not, again and again: the last three are not its last.
            ("07", None, 10),
            ("09", None, 0),
        ] {
            let columns = Columns::of(&[spell(organiser, last)]);
            let mut reached = months.reached(columns.rows(), Reach::AnyDay).unwrap();
            let marks = reached.next_marks(usize::MAX);
            let marks = marks.map_or(0, |marks| marks.rows().len());
            assert_eq!(marks, wanted, "{organiser} to {last:?}");
        }
    }

    #[test]
    fn months_of_one_first_day_and_other_last_days_are_refused() {
        let calendars = [
            (vec![("05", 10, 20), ("07", 10, 20)], true),
            (vec![("05", 10, 20), ("07", 12, 30)], true),
            (vec![("05", 10, 20), ("07", 10, 30)], false),
        ];
        for (delivered, is_one) in calendars {
            let months = months_of(&delivered).unwrap();
            assert_eq!(months.have_one_calendar(), is_one, "{delivered:?}");
            let cells = Cells::new(spec(1, 1)).unwrap().finish().unwrap();
            let marked = MarkedGroup {
                month: 1,
                ..MarkedGroup::default()
            };
            let rows = cells.rows_of_marks(0, &marked, &months);
            assert_eq!(rows.is_ok(), is_one, "{delivered:?}");
        }
    }

    #[test]
    fn weights_beyond_64_bits_are_an_error_and_not_a_wrong_number() {
        let months = months_of(&delivered()).unwrap();
        let spell = Spell {
            organiser: Some("05"),
            first: Some(19_360),
            last: Some(19_400),
            weight: Some(i64::MIN),
            birth: None,
            counts: true,
        };
        let columns = Columns::of(&[spell]);
        let mut reached = months.reached(columns.rows(), Reach::AnyDay).unwrap();
        let marks = reached.next_marks(10).unwrap();
        assert!(
            marks
                .changes(Reach::AnyDay, Some(&columns.weights))
                .is_err()
        );
        assert!(marks.parts(Reach::AnyDay, Some(&columns.weights)).is_err());
        let other = Int64Array::from(vec![1, 2]);
        assert!(marks.changes_of_known(Reach::AnyDay, &other).is_err());
        assert!(marks.parts(Reach::AnyDay, Some(&other)).is_err());
    }
}
