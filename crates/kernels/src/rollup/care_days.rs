//! Days of persons of values: each cell has a set of days (`care_day_set`), and a day of a person that
//! several cells of a value have counts once.
//!
//! Sets have their days by month, so that a value is counted month by month: days of a person in one
//! month are bits of one number, and those that are new are counted. A month that only one cell of a
//! value has is what that cell has. Persons are counted on the way: those of a value are the persons of
//! its month, and where it has several, each once. Pseudonyms get numbers first.
//!
//! - *Time*: c cells, v values that a cell counts in, m persons and months in a set: O(c·v·m).
//! - *Memory*: beside the sets, 40 bytes for each cell and month, and on each core 8 for each number
//!   between the least and the greatest of a value; where persons are pseudonyms about 40 for each person
//!   and month more.
//! - *Laws*: as those of all roll-ups.
//!
//! What may not live here: the form of a set (`care_day_set.rs`).

use std::borrow::Cow;

use arrow::array::{Array, BinaryArray, BinaryBuilder, Int64Array};
use datafusion_common::Result;

use super::{CellKeys, CellTargets, LAID_OUT, in_lanes, same_length};
use crate::care_day_set::{DayWriter, MonthSize, NumberedDays, Reader};
use crate::person_set::different_lists;

/// Another lane begins with so many persons and months.
const LANE_MEMBERS: usize = 1 << 17;

/// One month of a cell's set.
#[derive(Debug, Clone, Copy)]
struct Month<'a> {
    month: i32,
    days: NumberedDays<'a>,
    size: MonthSize,
}

/// The months of all cells.
#[derive(Debug, Default)]
struct Months<'a> {
    /// By cell, where its months end.
    ends: Vec<usize>,
    months: Vec<Month<'a>>,
    members: usize,
}

impl<'a> Months<'a> {
    /// Of sets of numbers of one list; a null has no days.
    fn of(states: &'a BinaryArray) -> Result<Self> {
        let mut all = Self::default();
        for cell in 0..states.len() {
            let reader = match states.is_valid(cell) {
                true => Reader::of(states.value(cell))?,
                false => None,
            };
            if let Some(reader) = reader {
                reader.try_each_month(|month, days, size| {
                    all.members += size.members;
                    all.months.push(Month { month, days, size });
                    Ok(())
                })?;
            }
            all.ends.push(all.months.len());
        }
        Ok(all)
    }

    /// The numbers between the least and the greatest.
    fn span(&self) -> usize {
        let least = self.months.iter().map(|month| month.size.first).min();
        let most = self.months.iter().map(|month| month.size.last).max();
        most.zip(least)
            .map_or(0, |(most, least)| (most - least) as usize + 1)
    }

    fn get(&self, cell: usize) -> &[Month<'a>] {
        let before = cell.checked_sub(1).and_then(|before| self.ends.get(before));
        let start = before.copied().unwrap_or_default();
        let end = self.ends.get(cell).copied().unwrap_or_default();
        self.months.get(start..end).unwrap_or_default()
    }
}

/// The days of persons in each value, and how many persons have them.
#[derive(Debug, Clone, PartialEq)]
pub struct CareDayCounts {
    /// Days.
    pub days: Int64Array,
    /// Persons.
    pub persons: Int64Array,
}

/// Days and persons of one value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    days: i64,
    persons: i64,
}

/// Days that were seen: in the upper half when, in the lower which.
#[derive(Debug, Default)]
struct Seen {
    marks: Vec<u64>,
    mark: u32,
}

impl Seen {
    /// The days of a value, whose months are in order.
    fn of_value(&mut self, months: &[Month<'_>]) -> Counts {
        let mut counts = Counts::default();
        let mut of_months = 0;
        for of_month in months.chunk_by(|a, b| a.month == b.month) {
            let own = self.of_month(of_month, |days| days);
            counts.days += own.days;
            counts.persons = own.persons;
            of_months += 1;
        }
        if of_months > 1 {
            // Who has a day at all, as if it were the same in every month.
            counts.persons = self.of_month(months, |_| 1).days;
        }
        counts
    }

    /// The days that are in any of these sets of one month, and who has them.
    fn of_month(&mut self, months: &[Month<'_>], of: impl Fn(u32) -> u32) -> Counts {
        if let [one] = months {
            return Counts {
                days: one.size.days,
                persons: one.size.members as i64,
            };
        }
        let least = months.iter().map(|month| month.size.first).min();
        let least = least.unwrap_or_default();
        let most = months.iter().map(|month| month.size.last).max();
        let wanted = (most.unwrap_or_default() - least) as usize + 1;
        if self.marks.len() < wanted {
            self.marks.resize(wanted, 0);
        }
        self.mark = match self.mark.checked_add(1) {
            Some(mark) => mark,
            None => {
                self.marks.fill(0);
                1
            }
        };
        let mut counts = Counts::default();
        for month in months {
            for (number, days) in month.days {
                let days = of(days);
                let Some(known) = self.marks.get_mut((number - least) as usize) else {
                    continue;
                };
                let before = match *known >> 32 == u64::from(self.mark) {
                    true => *known as u32,
                    false => 0,
                };
                counts.days += i64::from((days & !before).count_ones());
                counts.persons += i64::from(before == 0);
                *known = u64::from(self.mark) << 32 | u64::from(days | before);
            }
        }
        counts
    }
}

impl CellTargets {
    /// The days of persons in each value, and how many persons have them, counted on up to so many cores;
    /// a null is a cell without days. `reserve` is told of memory before it is taken.
    ///
    /// # Errors
    /// When memory is refused, a state is not a set of days, sets are of different lists, or there are not
    /// as many states as cells.
    pub fn care_days(
        &self,
        cells: CellKeys<'_>,
        states: &BinaryArray,
        lanes: usize,
        mut reserve: impl FnMut(usize) -> Result<()>,
    ) -> Result<CareDayCounts> {
        same_length(cells, states.len())?;
        let states = numbered(states, &mut reserve)?;
        reserve(states.len() * (size_of::<Month<'_>>() + size_of::<usize>()))?;
        let months = Months::of(&states)?;
        let lanes = lanes.min(months.members / LANE_MEMBERS).max(1);
        reserve(lanes * (months.span() * size_of::<u64>() + self.values() * size_of::<Counts>()))?;
        let count = |lane: usize| self.count_days(cells, &months, lane, lanes);
        let found = in_lanes(1..lanes, count, |all, own| {
            all.days += own.days;
            all.persons += own.persons;
        })?;
        let each = |of: fn(&Counts) -> i64| Int64Array::from_iter_values(found.iter().map(of));
        Ok(CareDayCounts {
            days: each(|counts| counts.days),
            persons: each(|counts| counts.persons),
        })
    }

    /// The days of the values in those rows that are a lane's; 0 for the others.
    fn count_days(
        &self,
        cells: CellKeys<'_>,
        months: &Months<'_>,
        lane: usize,
        lanes: usize,
    ) -> Result<Vec<Counts>> {
        let mut found = vec![Counts::default(); self.values()];
        let mut seen = Seen::default();
        let mut own: Vec<Month<'_>> = Vec::new();
        self.by_value(
            cells,
            LAID_OUT / lanes,
            |cell| !months.get(cell).is_empty(),
            |value, cells| {
                // Totals are most of the work, and every row has some.
                if value / self.combinations.max(1) % lanes != lane {
                    return Ok(());
                }
                own.clear();
                own.extend(cells.iter().flat_map(|cell| months.get(*cell as usize)));
                own.sort_by_key(|month| month.month);
                if let Some(found) = found.get_mut(value) {
                    *found = seen.of_value(&own);
                }
                Ok(())
            },
        )?;
        Ok(found)
    }
}

/// Sets of numbers as they are; those of pseudonyms with numbers in the order of these.
fn numbered(
    states: &BinaryArray,
    mut reserve: impl FnMut(usize) -> Result<()>,
) -> Result<Cow<'_, BinaryArray>> {
    let mut list = None;
    let mut members: Vec<u128> = Vec::new();
    for state in states.iter().flatten() {
        let Some(reader) = Reader::of(state)? else {
            continue;
        };
        if *list.get_or_insert(reader.list) != reader.list {
            return different_lists();
        }
        if reader.list.is_none() {
            // A pseudonym and its days are 17 bytes at least, and become less than two pseudonyms.
            reserve(state.len() * 2)?;
            reader.try_each(|_, member, _| {
                members.push(member);
                Ok(())
            })?;
        }
    }
    if list != Some(None) {
        return Ok(Cow::Borrowed(states));
    }
    members.sort_unstable();
    members.dedup();
    let mut built = BinaryBuilder::with_capacity(states.len(), states.value_data().len() / 4);
    let mut state = Vec::new();
    let mut entries: Vec<(i32, u32, u32)> = Vec::new();
    for own in states.iter() {
        state.clear();
        entries.clear();
        if let Some(reader) = own.map(Reader::of).transpose()?.flatten() {
            reader.try_each(|month, member, days| {
                let place = members.partition_point(|known| *known < member);
                entries.push((month, u32::try_from(place).unwrap_or(u32::MAX), days));
                Ok(())
            })?;
            let mut writer = DayWriter::new(&mut state, Some(0));
            for of_month in entries.chunk_by(|a, b| a.0 == b.0) {
                writer.month(
                    of_month.first().map_or(0, |(month, ..)| *month),
                    of_month.len(),
                );
                for (_, number, days) in of_month {
                    writer.number(*number, *days);
                }
            }
        }
        built.append_value(&state);
    }
    Ok(Cow::Owned(built.finish()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use datafusion_common::exec_err;

    use super::super::Lists;
    use super::*;
    use crate::care_day_set::CareDaySet;
    use crate::cell::{Cell as _, Value};
    use crate::testing::numbers;

    const PLACES: usize = 5;
    const MEMBERS: usize = 3;

    /// Places count in some of four rows, members in themselves and in total.
    fn targets() -> CellTargets {
        let (mut places, mut members) = (Lists::default(), Lists::default());
        for rows in [&[0, 2][..], &[1, 2], &[2], &[], &[0, 1, 2, 3]] {
            places.push(rows.iter().copied());
        }
        (0..MEMBERS as u32).for_each(|member| members.push([member, MEMBERS as u32]));
        CellTargets::new(places, members, 4, MEMBERS + 1).unwrap()
    }

    type Days = BTreeSet<(u8, i32)>;

    /// Places, members, and the days of each cell, of one month or of several.
    fn made(cells: usize) -> (Vec<u32>, Vec<u32>, Vec<Option<Days>>) {
        let mut draws = numbers(cells * 60 + 1, u64::MAX);
        let mut draw = |bound: u64| draws.next().unwrap_or_default() % bound;
        let mut made = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..cells {
            made.0.push(draw(PLACES as u64) as u32);
            made.1.push(draw(MEMBERS as u64) as u32);
            let days = (0..draw(9)).flat_map(|_| {
                let (person, first) = (draw(20) as u8 * 5, 19_700 + draw(70) as i32);
                (first..first + draw(40) as i32).map(move |day| (person, day))
            });
            let days = days.collect();
            made.2.push((draw(8) > 0).then_some(days));
        }
        made
    }

    fn state(days: &Days, list: Option<u64>) -> Vec<u8> {
        let mut set = CareDaySet::default();
        for (person, day) in days {
            let person = [*person; 16];
            let day = Some(Value::Whole(i64::from(*day)));
            set.add_row(&[Some(Value::Bytes(&person)), day, day])
                .unwrap();
        }
        let mut state = Vec::new();
        set.encode(&mut state);
        let Some(list) = list else {
            return state;
        };
        let mut entries: Vec<(i32, u32, u32)> = Vec::new();
        if let Some(reader) = Reader::of(&state).unwrap() {
            let each = reader.try_each(|month, member, days| {
                entries.push((month, (member >> 120) as u32 * 9 + 70, days));
                Ok(())
            });
            each.unwrap();
        }
        let mut numbers = Vec::new();
        if !entries.is_empty() {
            let mut writer = DayWriter::new(&mut numbers, Some(list));
            for of_month in entries.chunk_by(|a, b| a.0 == b.0) {
                writer.month(of_month[0].0, of_month.len());
                for (_, number, days) in of_month {
                    writer.number(*number, *days);
                }
            }
        }
        numbers
    }

    fn states(days: &[Option<Days>], list: Option<u64>) -> BinaryArray {
        let states = days
            .iter()
            .map(|days| days.as_ref().map(|days| state(days, list)));
        let states: Vec<Option<Vec<u8>>> = states.collect();
        states.iter().map(|state| state.as_deref()).collect()
    }

    #[test]
    fn a_day_of_a_person_counts_once_in_each_value() {
        let targets = targets();
        for cells in [0, 1, 7, 200] {
            let (places, members, days) = made(cells);
            let keys = CellKeys {
                places: &places,
                members: &members,
            };
            let mut wanted = vec![Days::new(); targets.values()];
            for (cell, days) in days.iter().enumerate() {
                for row in targets.places.get(places[cell]) {
                    for combination in targets.members.get(members[cell]) {
                        let value = *row as usize * (MEMBERS + 1) + *combination as usize;
                        wanted[value].extend(days.iter().flatten());
                    }
                }
            }
            let wanted = wanted.iter().map(|days| Counts {
                days: days.len() as i64,
                persons: days
                    .iter()
                    .map(|(person, _)| person)
                    .collect::<BTreeSet<_>>()
                    .len() as i64,
            });
            let wanted: Vec<Counts> = wanted.collect();
            for list in [None, Some(7)] {
                let states = states(&days, list);
                let found = targets.care_days(keys, &states, 2, |_| Ok(())).unwrap();
                let counts = found.days.values().iter().zip(found.persons.values());
                let counts = counts.map(|(days, persons)| Counts {
                    days: *days,
                    persons: *persons,
                });
                assert!(counts.eq(wanted.iter().copied()), "{cells} cells, {list:?}");
                let known = numbered(&states, |_| Ok(())).unwrap();
                let months = Months::of(&known).unwrap();
                for lanes in [1, 2, 5] {
                    let mut found = vec![Counts::default(); wanted.len()];
                    for lane in 0..lanes {
                        let own = targets.count_days(keys, &months, lane, lanes).unwrap();
                        for (all, own) in found.iter_mut().zip(own) {
                            all.days += own.days;
                            all.persons += own.persons;
                        }
                    }
                    assert_eq!(found, wanted, "{lanes} lanes");
                }
            }
        }
    }

    #[test]
    fn marks_that_have_run_out_begin_anew() {
        let days: Days = [(1, 19_700), (2, 19_700), (2, 19_701)].into();
        let state = states(&[Some(days.clone()), Some(days)], Some(1));
        let months = Months::of(&state).unwrap();
        let mut seen = Seen {
            mark: u32::MAX - 1,
            ..Seen::default()
        };
        for _ in 0..4 {
            let counts = seen.of_value(&months.months);
            assert_eq!((counts.days, counts.persons), (3, 2));
        }
    }

    #[test]
    fn what_is_no_set_of_days_is_an_error() {
        let targets = targets();
        let days: Days = [(1, 19_700)].into();
        let (one, other, named) = (
            state(&days, Some(1)),
            state(&days, Some(2)),
            state(&days, None),
        );
        let keys = CellKeys {
            places: &[0, 1],
            members: &[0, 0],
        };
        for pair in [
            [&one, &other],
            [&one, &named],
            [&named, &one],
            [&one, &vec![9, 9]],
        ] {
            let states = BinaryArray::from_iter_values(pair);
            assert!(
                targets.care_days(keys, &states, 1, |_| Ok(())).is_err(),
                "{pair:?}"
            );
        }
        let states = BinaryArray::from_iter_values([&one, &one]);
        let refuses = |_| exec_err!("no memory");
        assert!(targets.care_days(keys, &states, 1, refuses).is_err());
        let few = BinaryArray::from_iter_values([&one]);
        assert!(targets.care_days(keys, &few, 1, |_| Ok(())).is_err());
    }
}
