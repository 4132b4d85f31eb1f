//! Aggregates over frames that slide: with `ROWS BETWEEN 2 PRECEDING AND CURRENT ROW` rows come in at
//! the end of a frame and go out at its beginning.
//!
//! A [`Frame`] keeps its rows in such a way that each can be taken out again exactly, and gives the
//! cell of those that are left: an aggregate over a frame is, to the bit, the same aggregate over a
//! group of the same rows. Most keep a [`Tally`]: how many rows stand for each key, and what they add
//! up to. It takes a search a row, and a pass over the keys for a result that is a state; memory is in
//! proportion to the keys of the frame and not to its rows.
//!
//! The engine takes in the rows that come before it takes out those that go, and where frames jump it
//! takes rows in and out again that no frame has. So a frame may hold for a moment what a cell must
//! not: [`Frame::pass`] refuses only rows that are wrong by themselves, [`Frame::cell`] what is wrong
//! with them together.
//!
//! An aggregate for which no such frame exists refuses to slide when it is planned. What may not live
//! here: what a cell is (`cell.rs`), and the frame of one aggregate, which stands in its own file.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Debug;

use arrow::array::ArrayRef;
use datafusion_common::{Result, ScalarValue, exec_err, plan_err};
use datafusion_expr::Accumulator;

use crate::aggregate::{Takes, columns, finish, rows, with_given};
use crate::cell::{Finish, Given};

/// Whether a row comes into a frame or goes out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

/// The rows of a frame that slides.
pub(crate) trait Frame<C: Finish>: Default + Send + Sync + Debug + 'static {
    /// Takes in a row, or takes out one that was taken in before.
    fn pass(&mut self, given: Given<'_>, way: Way) -> Result<()>;

    /// The cell of the rows that are in the frame.
    fn cell(&self) -> Result<C>;

    /// The result of that cell.
    fn result(&self) -> Result<ScalarValue> {
        finish(&mut self.cell()?)
    }

    /// Bytes held on the heap.
    fn heap_bytes(&self) -> usize;
}

/// What can be added and taken off again.
pub(crate) trait Amount: Copy + Default + Send + Sync + Debug + 'static {
    fn plus(self, added: Self) -> Option<Self>;
    fn minus(self, taken: Self) -> Option<Self>;
}

impl Amount for () {
    fn plus(self, _added: Self) -> Option<Self> {
        Some(())
    }

    fn minus(self, _taken: Self) -> Option<Self> {
        Some(())
    }
}

impl Amount for i128 {
    fn plus(self, added: Self) -> Option<Self> {
        self.checked_add(added)
    }

    fn minus(self, taken: Self) -> Option<Self> {
        self.checked_sub(taken)
    }
}

/// What the rows of a frame add up to by key; a key of which no row is left is gone.
#[derive(Debug)]
pub(crate) struct Tally<K, A> {
    by_key: BTreeMap<K, Held<A>>,
}

/// Rows of one key, and their sum.
#[derive(Debug, Clone, Copy, Default)]
struct Held<A> {
    rows: u64,
    amount: A,
}

impl<K, A> Default for Tally<K, A> {
    fn default() -> Self {
        Self {
            by_key: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Copy, A: Amount> Tally<K, A> {
    pub(crate) fn pass(&mut self, key: K, amount: A, way: Way) -> Result<()> {
        match (way, self.by_key.entry(key)) {
            (Way::In, place) => {
                let held = place.or_default();
                let Some(sum) = held.amount.plus(amount) else {
                    return exec_err!("the amounts of a frame are out of range");
                };
                held.rows += 1;
                held.amount = sum;
                Ok(())
            }
            (Way::Out, Entry::Occupied(mut place)) => {
                let held = place.get_mut();
                held.rows -= 1;
                if held.rows == 0 {
                    place.remove();
                    return Ok(());
                }
                let Some(sum) = held.amount.minus(amount) else {
                    return exec_err!("the amounts of a frame are out of range");
                };
                held.amount = sum;
                Ok(())
            }
            (Way::Out, Entry::Vacant(_)) => {
                exec_err!("a row that goes out of a frame is not in it")
            }
        }
    }

    /// Keys in order, the rows of each and their sum.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, u64, A)> + '_ {
        let entries = self.by_key.iter();
        entries.map(|(key, held)| (*key, held.rows, held.amount))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = K> + '_ {
        self.by_key.keys().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        // Nodes hold eleven entries and are at least about half full.
        self.len().div_ceil(6) * (11 * (size_of::<K>() + size_of::<Held<A>>()) + 32)
    }
}

/// For an aggregate from which rows cannot be taken out again.
pub(crate) fn refuse_to_slide<T>(function: &str) -> Result<T> {
    plan_err!(
        "{function} takes the frames of a window only from UNBOUNDED PRECEDING on: for a frame that \
         slides, join each row with the rows of its frame in a subquery and GROUP BY it"
    )
}

/// An aggregate over frames that slide.
#[derive(Debug)]
pub(crate) struct Slider<C: Finish> {
    takes: Takes,
    frame: C::Frame,
}

impl<C: Finish> Slider<C> {
    pub(crate) fn new(takes: Takes) -> Self {
        Self {
            takes,
            frame: C::Frame::default(),
        }
    }

    fn pass(&mut self, takes: Takes, arrays: &[ArrayRef], way: Way) -> Result<()> {
        let columns = columns(arrays)?;
        (0..rows(arrays)).try_for_each(|row| {
            with_given(takes, &columns, row, |given| self.frame.pass(given, way))
        })
    }
}

impl<C: Finish> Accumulator for Slider<C> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.pass(self.takes, values, Way::In)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.pass(self.takes, values, Way::Out)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.frame.result()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.frame.heap_bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut bytes = Vec::new();
        self.frame.cell()?.encode(&mut bytes);
        Ok(vec![ScalarValue::Binary(Some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.pass(Takes::States, states, Way::In)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn a_tally_without_rows_is_empty_again() {
        let keys: Vec<u32> = numbers(1_000, 90).map(|key| key as u32).collect();
        let mut tally = Tally::<u32, i128>::default();
        for key in &keys {
            tally.pass(*key, i128::from(*key) - 40, Way::In).unwrap();
        }
        assert!(tally.heap_bytes() > 0);
        for (key, rows, amount) in tally.iter() {
            let own = keys.iter().filter(|own| **own == key).count();
            assert_eq!(rows, own as u64);
            assert_eq!(amount, own as i128 * (i128::from(key) - 40));
        }
        // In another order than they came.
        let mut rest = keys.clone();
        rest.sort_unstable();
        for key in rest {
            tally.pass(key, i128::from(key) - 40, Way::Out).unwrap();
        }
        assert_eq!((tally.len(), tally.heap_bytes()), (0, 0));
        assert!(tally.pass(3, 1, Way::Out).is_err());
    }

    #[test]
    fn amounts_out_of_range_are_refused() {
        let mut tally = Tally::<u32, i128>::default();
        tally.pass(1, i128::MAX, Way::In).unwrap();
        assert!(tally.pass(1, 1, Way::In).is_err());
        tally.pass(1, -1, Way::In).unwrap();
        tally.pass(1, i128::MAX, Way::Out).unwrap();
        assert_eq!(tally.iter().collect::<Vec<_>>(), [(1, 1, -1)]);
    }
}
