//! Exact sets of persons: `person_set(pid)`, `person_set_union(state)`, `person_set_count(state)`.
//!
//! A person is a 16-byte pseudonym. The state is the sorted list of the distinct pseudonyms, 16
//! bytes each, so that equal sets have equal bytes, a union is a merge, and the number of persons
//! at any roll-up is exact without reading the rows again. Nulls are nobody; the set of no rows is
//! empty (zero bytes). Time n log n, memory 16 bytes a person and group. A state is personal data:
//! it stays in the restricted component table, and only counts leave it.

use datafusion_common::{Result, exec_err};
use datafusion_expr::{AggregateUDF, ScalarUDF};

use crate::aggregate::{CellAggregate, Takes};
use crate::cell::{Cell, Finish, InputType, Value};
use crate::scalar::{Body, PlainFunction};

const WIDTH: usize = 16;
/// Unsorted arrivals are folded in when they outnumber this and the sorted part.
const FOLD_AT: usize = 64;

/// A set of persons being built.
#[derive(Debug, Default, Clone)]
pub struct PersonSet {
    /// Sorted and distinct up to `sorted`; later entries are in order of arrival.
    members: Vec<u128>,
    sorted: usize,
}

impl PersonSet {
    /// Puts in one person.
    pub fn insert(&mut self, pseudonym: [u8; WIDTH]) {
        let member = u128::from_be_bytes(pseudonym);
        if self.members.last() == Some(&member) {
            return;
        }
        self.members.push(member);
        if self.members.len() - self.sorted > FOLD_AT.max(self.sorted) {
            self.fold();
        }
    }

    /// The number of distinct persons.
    pub fn count(&mut self) -> usize {
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

/// The pseudonyms of an encoded set; an error when the bytes are not one.
fn decode(state: &[u8]) -> Result<impl Iterator<Item = [u8; WIDTH]> + '_> {
    let (members, rest) = state.as_chunks::<WIDTH>();
    if rest.is_empty() {
        Ok(members.iter().copied())
    } else {
        exec_err!("a set of persons has a broken state")
    }
}

impl Cell for PersonSet {
    fn add(&mut self, value: Value<'_>) -> Result<()> {
        match value {
            Value::Bytes(bytes) => match <[u8; WIDTH]>::try_from(bytes) {
                Ok(pseudonym) => {
                    self.insert(pseudonym);
                    Ok(())
                }
                Err(_) => exec_err!("person_set takes pseudonyms of 16 bytes"),
            },
            _ => exec_err!("person_set takes pseudonyms"),
        }
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let members = decode(state)?;
        if self.members.is_empty() {
            self.members.extend(members.map(u128::from_be_bytes));
            // An encoded set is sorted and distinct; bytes from elsewhere may not be.
            self.sorted = if self.members.is_sorted_by(|a, b| a < b) {
                self.members.len()
            } else {
                0
            };
        } else {
            members.for_each(|member| self.insert(member));
        }
        Ok(())
    }

    fn encode(&mut self, out: &mut Vec<u8>) {
        self.fold();
        out.reserve(self.members.len() * WIDTH);
        self.members
            .iter()
            .for_each(|member| out.extend_from_slice(&member.to_be_bytes()));
    }

    fn heap_bytes(&self) -> usize {
        self.members.capacity() * WIDTH
    }
}

impl Finish for PersonSet {
    const RESULT: InputType = InputType::Bytes;
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
        [Value::Bytes(state)] if state.len().is_multiple_of(WIDTH) => {
            Ok(Some((state.len() / WIDTH) as i64))
        }
        _ => exec_err!("person_set_count takes the state of a person_set"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_laws, numbers};

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

    #[test]
    fn other_bytes_are_refused() {
        assert!(PersonSet::default().add(Value::Bytes(b"short")).is_err());
        assert!(PersonSet::default().merge(&[0; 17]).is_err());
        assert!(count(&[Value::Bytes(&[0; 3])]).is_err());
    }
}
