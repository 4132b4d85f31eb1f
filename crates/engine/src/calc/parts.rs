//! Scans in parts: a pass whose cells do not fit in memory at once is made of several.
//!
//! A row belongs to one delivery and a delivery to one slice of a stored relation. So where every
//! component of a pass keeps the delivery of its cells, passes over some slices each give cells that
//! no other gives, and all of them together are the cells of one pass, to the bit. When memory is
//! refused, what is still to be read is halved, by rows, until it fits. Each row is read by one part
//! that ends well, and what a refused part has read is lost: with n parts that is about half a pass,
//! however large n is, since a refused part ends when memory does.
//!
//! Where cells cannot be told apart by slice, or one slice alone is refused, the components are left
//! to queries of their own, which spill.
//!
//! What a part has found waits on disk ([`found`](super::found)), so that the next has all the memory
//! and memory does not grow with the parts.
//!
//! What may not live here: how a pass is made (`scan.rs`), what a slice is (`facts.rs`).

use std::collections::btree_map::Entry;
use std::sync::Arc;

use arrow::array::AsArray;
use tietopohja_kernels::GroupRows;

use super::found::Prepared;
use super::kept::{Kept, Slices};
use super::scan::{DELIVERY, ScanRun};
use crate::catalog::Resolver;
use crate::engine::Engine;
use crate::error::{EngineError, Result};

impl Engine {
    /// What a scan finds, and in how many parts it was made.
    ///
    /// # Errors
    /// [`EngineError::Resource`] when one slice does not fit in memory; else what goes wrong in a pass.
    pub(super) async fn in_parts(
        &self,
        resolver: &Arc<Resolver>,
        run: &Arc<ScanRun>,
    ) -> Result<(Prepared, usize)> {
        let (scan, kept) = (&run.scan, &run.kept);
        let halves_of = |slices: &Option<Slices>| match scan.is_by_slice() {
            true => kept.halves_of(&scan.table, slices.as_ref()),
            false => None,
        };
        // The slices of parts that are still to be made, or all; the next part is the last of these.
        let mut waiting = vec![scan.slices.clone()];
        let mut found = Prepared::new();
        let mut parts = 0;
        while let Some(slices) = waiting.pop() {
            let part = slices.clone().filter(|_| slices != scan.slices);
            match self.pass(resolver, run, part).await {
                Ok(pass) => {
                    parts += 1;
                    add(&mut found, pass)?;
                }
                Err(refused @ EngineError::Resource { .. }) => {
                    if halves_of(&slices).is_none() {
                        return Err(refused);
                    }
                    // The others are as large.
                    waiting.push(slices);
                    let halved = waiting
                        .into_iter()
                        .flat_map(|slices| match halves_of(&slices) {
                            Some([first, second]) => vec![Some(second), Some(first)],
                            None => vec![slices],
                        });
                    waiting = halved.collect();
                }
                Err(error) => return Err(error),
            }
        }
        Ok((found, parts))
    }
}

/// A cell with a delivery of another slice than the part's may be another part's too.
pub(super) fn check(group: &GroupRows, kept: &Kept, slices: &Slices) -> Result<()> {
    let deliveries = group.keys.get(DELIVERY);
    let deliveries = deliveries.and_then(|deliveries| deliveries.as_string_opt::<i32>());
    match deliveries.is_some_and(|deliveries| kept.are_of(deliveries, slices)) {
        true => Ok(()),
        false => Err(EngineError::internal(
            "a row is not of the slice that its delivery is of",
        )),
    }
}

/// Adds what another part has found.
fn add(found: &mut Prepared, part: Prepared) -> Result<()> {
    for (component, cells) in part {
        match found.entry(component) {
            Entry::Vacant(place) => {
                place.insert(cells);
            }
            Entry::Occupied(mut known) => known.get_mut().append(cells)?,
        }
    }
    Ok(())
}
