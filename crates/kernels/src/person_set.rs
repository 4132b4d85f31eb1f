//! Exact sets of persons: `person_set(pid)`, `person_set_union(state)`, `person_set_count(state)`.
//!
//! A person is a 16-byte pseudonym, or its number in a list of pseudonyms. Equal sets of one form have
//! equal bytes, a union is a merge, and the number of persons at any roll-up is exact without reading
//! the rows again. Nulls are nobody; the set of no rows is empty (zero bytes, in both forms). Time
//! n log n, memory 16 bytes a person and group. A state is personal data: it stays in the restricted
//! component table, and only counts leave it.
//!
//! - *Pseudonyms*: the sorted list of the distinct pseudonyms, 16 bytes each. `person_set` makes it.
//! - *Numbers*: a byte 1, the id of the list (8 bytes, lowest first), how many numbers there are, the
//!   first of them, and how many numbers lie between each and the next, all of these as in `varint`;
//!   then a zero byte, if the length would be a multiple of 16 without it: so the length tells the
//!   form. [`Cells`](crate::Cells) makes it where persons come as numbers. It takes about two bytes a
//!   person. Numbers of different lists, or numbers and pseudonyms, cannot be united: that is an error.

use std::collections::BTreeMap;

use arrow::array::BinaryArray;
use datafusion_common::{Result, exec_err};
use datafusion_expr::{AggregateUDF, ScalarUDF};

use crate::aggregate::{CellAggregate, Takes};
use crate::cell::{Cell, Finish, Given, InputType, Value};
use crate::scalar::{Body, PlainFunction};
use crate::sliding::{Frame, Tally, Way};
use crate::varint;

const WIDTH: usize = 16;
/// Unsorted arrivals are folded in when they outnumber this and the sorted part.
const FOLD_AT: usize = 64;

/// The first byte of a set of numbers.
const NUMBERED: u8 = 1;

/// An encoded set.
#[derive(Debug)]
pub(crate) enum State<'a> {
    Pseudonyms(&'a [[u8; WIDTH]]),
    Numbers(Numbers<'a>),
}

/// An encoded set of numbers.
#[derive(Debug)]
pub(crate) struct Numbers<'a> {
    /// The list that they are numbers of.
    pub(crate) list: u64,
    pub(crate) count: usize,
    gaps: &'a [u8],
}

impl<'a> State<'a> {
    /// What the bytes are; the numbers themselves are looked at by [`Numbers::try_each`].
    pub(crate) fn of(bytes: &'a [u8]) -> Result<Self> {
        let (members, rest) = bytes.as_chunks::<WIDTH>();
        if rest.is_empty() {
            return Ok(State::Pseudonyms(members));
        }
        let numbers = bytes.strip_prefix(&[NUMBERED]).and_then(|bytes| {
            let (list, mut gaps) = bytes.split_first_chunk::<8>()?;
            let count = usize::try_from(varint::take(&mut gaps)?).ok()?;
            // Each takes a byte at least.
            (0 < count && count <= gaps.len()).then_some(Numbers {
                list: u64::from_le_bytes(*list),
                count,
                gaps,
            })
        });
        match numbers {
            Some(numbers) => Ok(State::Numbers(numbers)),
            None => broken(),
        }
    }

    /// How many persons there are.
    pub(crate) fn count(&self) -> usize {
        match self {
            State::Pseudonyms(members) => members.len(),
            State::Numbers(numbers) => numbers.count,
        }
    }
}

/// The list that the members of the first set that is not empty are numbers of, `Some(None)` where they
/// are pseudonyms; `None` when all sets are empty.
///
/// # Errors
/// When it is not a set.
pub fn list_of_sets(sets: &BinaryArray) -> Result<Option<Option<u64>>> {
    match sets.iter().flatten().find(|set| !set.is_empty()) {
        None => Ok(None),
        Some(set) => Ok(Some(match State::of(set)? {
            State::Pseudonyms(_) => None,
            State::Numbers(numbers) => Some(numbers.list),
        })),
    }
}

impl<'a> Numbers<'a> {
    /// Calls with every number, in order, until it fails.
    ///
    /// # Errors
    /// When there are not as many numbers as the set says: those that there are have been given then.
    pub(crate) fn try_each(&self, mut with: impl FnMut(u32) -> Result<()>) -> Result<()> {
        let mut gaps = self.gaps();
        for _ in 0..self.count {
            let Some(number) = gaps.next() else {
                return broken();
            };
            with(number)?;
        }
        match gaps.rest {
            [] | [0] => Ok(()),
            _ => broken(),
        }
    }

    /// The numbers as they are written; others may seem to follow.
    pub(crate) fn gaps(&self) -> Gaps<'a> {
        Gaps::new(self.gaps)
    }
}

/// Ascending numbers, each as how many lie between it and the one before. Ends where a number would be
/// beyond 32 bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gaps<'a> {
    rest: &'a [u8],
    /// The next number is this at least; there is none when it would be beyond 32 bits.
    next: Option<u32>,
}

impl<'a> Gaps<'a> {
    pub(crate) fn new(gaps: &'a [u8]) -> Self {
        Self {
            rest: gaps,
            next: Some(0),
        }
    }
}

impl Iterator for Gaps<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        let gap = varint::take_small(&mut self.rest)?;
        let number = self.next?.checked_add(gap)?;
        self.next = number.checked_add(1);
        Some(number)
    }
}

/// Writes a set of numbers of a list. They are in order, each once.
pub(crate) fn put_numbers(list: u64, numbers: &[u32], out: &mut Vec<u8>) {
    let mut next = 0u32;
    put_set(list, numbers.len(), out, |out| {
        for number in numbers {
            varint::put(out, u128::from(number.saturating_sub(next)));
            next = number.saturating_add(1);
        }
    });
}

/// Writes a set of so many numbers of a list, whose gaps are written by `put`.
pub(crate) fn put_set(list: u64, count: usize, out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    if count == 0 {
        return;
    }
    let start = out.len();
    out.push(NUMBERED);
    out.extend_from_slice(&list.to_le_bytes());
    varint::put(out, count as u128);
    put(out);
    if (out.len() - start).is_multiple_of(WIDTH) {
        out.push(0);
    }
}

fn broken<T>() -> Result<T> {
    exec_err!("a set of persons has a broken state")
}

/// A set of persons being built.
#[derive(Debug, Default, Clone)]
pub(crate) struct PersonSet {
    /// The list that members are numbers of; without one they are pseudonyms.
    list: Option<u64>,
    /// Sorted and distinct up to `sorted`; later entries are in order of arrival.
    members: Vec<u128>,
    sorted: usize,
}

impl PersonSet {
    fn insert(&mut self, member: u128) {
        if self.members.last() == Some(&member) {
            return;
        }
        self.members.push(member);
        if self.members.len() - self.sorted > FOLD_AT.max(self.sorted) {
            self.fold();
        }
    }

    /// Members are numbers of this list, or pseudonyms, from the first on.
    fn is_of(&mut self, list: Option<u64>) -> Result<()> {
        if self.members.is_empty() {
            self.list = list;
        }
        if self.list == list {
            Ok(())
        } else {
            different_lists()
        }
    }

    /// The number of distinct persons.
    #[cfg(test)]
    fn count(&mut self) -> usize {
        self.fold();
        self.members.len()
    }

    fn fold(&mut self) {
        if self.sorted < self.members.len() {
            self.members.sort_unstable();
            self.members.dedup();
            self.sorted = self.members.len();
        }
    }
}

impl Cell for PersonSet {
    fn add(&mut self, value: Value<'_>) -> Result<()> {
        let pseudonym = pseudonym_of(value)?;
        self.is_of(None)?;
        self.insert(pseudonym);
        Ok(())
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        match State::of(state)? {
            State::Pseudonyms([]) => Ok(()),
            State::Pseudonyms(members) => {
                self.is_of(None)?;
                let members = members.iter().map(|member| u128::from_be_bytes(*member));
                if self.members.is_empty() {
                    self.members.extend(members);
                    // An encoded set is sorted and distinct; bytes from elsewhere may not be.
                    let is_in_order = self.members.is_sorted_by(|a, b| a < b);
                    self.sorted = if is_in_order { self.members.len() } else { 0 };
                } else {
                    members.for_each(|member| self.insert(member));
                }
                Ok(())
            }
            State::Numbers(numbers) => {
                self.is_of(Some(numbers.list))?;
                if !self.members.is_empty() {
                    return numbers.try_each(|number| {
                        self.insert(u128::from(number));
                        Ok(())
                    });
                }
                self.members.reserve(numbers.count);
                numbers.try_each(|number| {
                    self.members.push(u128::from(number));
                    Ok(())
                })?;
                self.sorted = self.members.len();
                Ok(())
            }
        }
    }

    fn encode(&mut self, out: &mut Vec<u8>) {
        self.fold();
        match self.list {
            None => {
                out.reserve(self.members.len() * WIDTH);
                self.members
                    .iter()
                    .for_each(|member| out.extend_from_slice(&member.to_be_bytes()));
            }
            Some(list) => {
                let numbers = self.members.iter().map(|member| *member as u32);
                put_numbers(list, &numbers.collect::<Vec<_>>(), out);
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        self.members.capacity() * WIDTH
    }
}

/// Numbers of one list say nothing in another.
pub(crate) fn different_lists<T>() -> Result<T> {
    exec_err!("sets of persons of different lists cannot be united")
}

fn pseudonym_of(value: Value<'_>) -> Result<u128> {
    match value {
        Value::Bytes(bytes) => match <[u8; WIDTH]>::try_from(bytes) {
            Ok(pseudonym) => Ok(u128::from_be_bytes(pseudonym)),
            Err(_) => exec_err!("person_set takes pseudonyms of 16 bytes"),
        },
        _ => exec_err!("person_set takes pseudonyms"),
    }
}

impl Finish for PersonSet {
    const RESULT: InputType = InputType::Bytes;
    type Frame = PersonFrame;
}

/// How many rows or sets of a frame that slides have each person.
#[derive(Debug, Default)]
pub(crate) struct PersonFrame {
    /// By the list that they are numbers of, without those that have none.
    lists: BTreeMap<Option<u64>, Tally<u128, ()>>,
}

impl PersonFrame {
    fn pass_member(&mut self, list: Option<u64>, member: u128, way: Way) -> Result<()> {
        let members = self.lists.entry(list).or_default();
        members.pass(member, (), way)?;
        if members.len() == 0 {
            self.lists.remove(&list);
        }
        Ok(())
    }
}

impl Frame<PersonSet> for PersonFrame {
    fn pass(&mut self, given: Given<'_>, way: Way) -> Result<()> {
        match given {
            Given::Value(value) => self.pass_member(None, pseudonym_of(value)?, way),
            Given::Row(_) => exec_err!("person_set takes one column"),
            Given::State(state) => match State::of(state)? {
                State::Pseudonyms(members) => members.iter().try_for_each(|member| {
                    self.pass_member(None, u128::from_be_bytes(*member), way)
                }),
                State::Numbers(numbers) => numbers.try_each(|number| {
                    self.pass_member(Some(numbers.list), u128::from(number), way)
                }),
            },
        }
    }

    fn cell(&self) -> Result<PersonSet> {
        let mut lists = self.lists.iter();
        match (lists.next(), lists.next()) {
            (None, _) => Ok(PersonSet::default()),
            (Some((list, members)), None) => Ok(PersonSet {
                list: *list,
                members: members.keys().collect(),
                sorted: members.len(),
            }),
            _ => different_lists(),
        }
    }

    fn heap_bytes(&self) -> usize {
        let members: usize = self.lists.values().map(Tally::heap_bytes).sum();
        members + self.lists.len() * size_of::<(Option<u64>, Tally<u128, ()>)>()
    }
}

pub(crate) fn aggregates() -> Vec<AggregateUDF> {
    vec![
        CellAggregate::<PersonSet>::function("person_set", Takes::Values(InputType::Bytes)),
        CellAggregate::<PersonSet>::function("person_set_union", Takes::States),
    ]
}

pub(crate) fn scalars() -> Vec<ScalarUDF> {
    vec![PlainFunction::function(
        "person_set_count",
        &[InputType::Bytes],
        Body::Whole(count),
    )]
}

fn count(values: &[Value<'_>]) -> Result<Option<i64>> {
    match values {
        [Value::Bytes(state)] => Ok(i64::try_from(State::of(state)?.count()).ok()),
        _ => exec_err!("person_set_count takes the state of a person_set"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_laws, check_slides, laws, numbers};
    use arrow::array::ArrayRef;
    use proptest::prelude::*;
    use std::sync::Arc;

    #[test]
    fn merging_parts_in_any_order_gives_the_whole() {
        let persons: Vec<[u8; 16]> = numbers(1_000, 300)
            .map(|n| (u128::from(n) << 100 | u128::from(n)).to_be_bytes())
            .collect();
        let expected: std::collections::BTreeSet<_> = persons.iter().collect();
        let values: Vec<Value<'_>> = persons.iter().map(|person| Value::Bytes(person)).collect();
        let state = check_laws::<PersonSet>(&values);
        assert_eq!(state.len(), expected.len() * 16);
    }

    #[test]
    fn no_rows_are_nobody() {
        let mut bytes = Vec::new();
        PersonSet::default().encode(&mut bytes);
        assert!(bytes.is_empty());
        assert_eq!(count(&[Value::Bytes(&[])]).ok().flatten(), Some(0));
    }

    fn numbered(list: u64, numbers: &[u32]) -> Vec<u8> {
        let mut state = Vec::new();
        put_numbers(list, numbers, &mut state);
        state
    }

    #[test]
    fn numbers_are_written_and_read_back() {
        let many: Vec<u32> = (0..5_000).map(|n| n * n % 9_973 + n * 20_000).collect();
        for numbers in [
            &[][..],
            &[0],
            &[u32::MAX],
            &[0, 1, 2],
            &[5, u32::MAX],
            &many,
        ] {
            for length in 0..=numbers.len().min(40) {
                let numbers = &numbers[numbers.len() - length..];
                let state = numbered(7, numbers);
                assert_eq!(state.is_empty(), numbers.is_empty());
                if numbers.is_empty() {
                    continue;
                }
                assert!(!state.len().is_multiple_of(WIDTH));
                let State::Numbers(found) = State::of(&state).unwrap() else {
                    panic!("a set of numbers is taken for another");
                };
                let mut back = Vec::new();
                let taken = found.try_each(|number| {
                    back.push(number);
                    Ok(())
                });
                taken.unwrap();
                assert_eq!(
                    (found.list, found.count, back.as_slice()),
                    (7, length, numbers)
                );
                assert!(found.gaps().take(length).eq(back));
                assert_eq!(count(&[Value::Bytes(&state)]).unwrap(), Some(length as i64));
            }
        }
        let state = numbered(7, &many);
        assert!(state.len() < many.len() * 3 + 20, "{}", state.len());
    }

    #[test]
    fn numbers_of_one_list_unite_as_sets() {
        let parts: [&[u32]; 4] = [&[3, 9, 200_000], &[], &[0, 9], &[9, 4_000_000_000]];
        let states: Vec<Vec<u8>> = parts.iter().map(|part| numbered(1, part)).collect();
        let whole = numbered(1, &[0, 3, 9, 200_000, 4_000_000_000]);
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
            let mut set = PersonSet::default();
            for part in order {
                set.merge(&states[part]).unwrap();
            }
            assert_eq!(set.count(), 5);
            let mut state = Vec::new();
            set.encode(&mut state);
            assert_eq!(state, whole);
        }
    }

    #[test]
    fn the_list_of_sets_is_that_of_the_first() {
        let (one, other) = (numbered(1, &[4]), numbered(2, &[4]));
        for (sets, list) in [
            (vec![], None),
            (vec![&[][..]], None),
            (vec![&[], &one[..], &other], Some(Some(1))),
            (vec![&[3; WIDTH][..]], Some(None)),
        ] {
            let sets = BinaryArray::from_vec(sets);
            assert_eq!(list_of_sets(&sets).unwrap(), list);
        }
        assert!(list_of_sets(&BinaryArray::from_vec(vec![&[7]])).is_err());
    }

    proptest! {
        #![proptest_config(laws())]

        #[test]
        fn sets_slide_as_sets(rows in prop::collection::vec((0u8..9, 0u8..9, 0u8..9), 1..40)) {
            let [set, union] = &aggregates()[..] else {
                panic!("there are two aggregates");
            };
            let persons: Vec<Option<[u8; WIDTH]>> = rows
                .iter()
                .map(|(one, _, kind)| (*kind > 0).then_some([*one; WIDTH]))
                .collect();
            let persons: BinaryArray = persons.iter().map(|one| one.as_ref()).collect();
            check_slides(set, &[Arc::new(persons) as ArrayRef]);
            // A change of lists is refused where one frame has both, and only there.
            let states: Vec<Option<Vec<u8>>> = (0..)
                .zip(&rows)
                .map(|(row, (one, other, kind))| match kind {
                    0 => None,
                    1 => Some(Vec::new()),
                    2 => Some([[*one; WIDTH], [*one + *other + 1; WIDTH]].concat()),
                    _ => Some(numbered(row / 15, &[u32::from(*one), 9 + u32::from(*other)])),
                })
                .collect();
            let states: BinaryArray = states.iter().map(|state| state.as_deref()).collect();
            check_slides(union, &[Arc::new(states) as ArrayRef]);
        }
    }

    #[test]
    fn different_lists_do_not_unite() {
        let pseudonym = [1u8; WIDTH];
        let (one, other) = (numbered(1, &[4]), numbered(2, &[4]));
        for (first, second) in [
            (&one[..], &other[..]),
            (&one, &pseudonym),
            (&pseudonym, &one),
        ] {
            let mut set = PersonSet::default();
            set.merge(first).unwrap();
            assert!(set.merge(second).is_err());
            assert!(set.merge(&[]).is_ok());
        }
        let mut set = PersonSet::default();
        set.merge(&one).unwrap();
        assert!(set.add(Value::Bytes(&pseudonym)).is_err());
    }

    #[test]
    fn other_bytes_are_refused() {
        assert!(PersonSet::default().add(Value::Bytes(b"short")).is_err());
        assert!(count(&[Value::Bytes(&[0; 3])]).is_err());
        let good = numbered(1, &[3, 300]);
        let mut beyond = numbered(1, &[u32::MAX]);
        beyond[9] = 2;
        beyond.extend([0x85, 1]);
        for bad in [
            &[0; 17][..],
            &[1; 5],
            &good[..good.len() - 1],
            &[good.as_slice(), &[1]].concat(),
            &beyond,
        ] {
            assert!(PersonSet::default().merge(bad).is_err(), "{bad:?}");
        }
    }
}
