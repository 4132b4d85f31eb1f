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
//! What may not live here: how a pass is made (`scan.rs`), what a slice is (`facts.rs`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array};
use arrow::compute::concat;
use tietopohja_kernels::{GroupRows, MemberNumbers};

use super::kept::{Kept, Slices};
use super::scan::{DELIVERY, Pass, SharedScan};
use crate::catalog::Resolver;
use crate::engine::Engine;
use crate::error::{EngineError, Result};

impl Engine {
    /// The cells of a pass, and in how many parts it was made.
    ///
    /// # Errors
    /// [`EngineError::Resource`] when one slice does not fit in memory; else what goes wrong in a pass.
    pub(super) async fn in_parts(
        &self,
        resolver: &Arc<Resolver>,
        scan: &SharedScan,
        kept: &Kept,
    ) -> Result<(Pass, usize)> {
        let halves_of = |slices: &Option<Slices>| match scan.is_by_slice() {
            true => kept.halves_of(&scan.table, slices.as_ref()),
            false => None,
        };
        // The slices of parts that are still to be made, or all; the next part is the last of these.
        let mut waiting = vec![scan.slices.clone()];
        let mut passes: Vec<Pass> = Vec::new();
        while let Some(slices) = waiting.pop() {
            match self.pass(resolver, scan, kept, slices.as_ref()).await {
                Ok(pass) if slices == scan.slices => return Ok((pass, 1)),
                Ok(pass) => {
                    check(&pass, kept, slices.as_ref())?;
                    passes.push(pass);
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
        let parts = passes.len();
        Ok((joined(passes)?, parts))
    }
}

/// A cell with a delivery of another slice may be another part's too.
fn check(pass: &Pass, kept: &Kept, slices: Option<&Slices>) -> Result<()> {
    let are_own = |group: &GroupRows| {
        let deliveries = group.keys.get(DELIVERY)?.as_string_opt::<i32>()?;
        Some(kept.are_of(deliveries, slices?))
    };
    match pass.groups.iter().all(|group| are_own(group) == Some(true)) {
        true => Ok(()),
        false => Err(EngineError::internal(
            "a row is not of the slice that its delivery is of",
        )),
    }
}

/// The cells of several passes of one kind, grouping by grouping; what is joined is let go.
fn joined(passes: Vec<Pass>) -> Result<Pass> {
    let lost = || EngineError::internal("a part of a scan lost a grouping");
    let numbers = passes.first().ok_or_else(lost)?.numbers.clone();
    let groups = passes.first().map_or(0, |pass| pass.groups.len());
    let mut passes: Vec<_> = passes
        .into_iter()
        .map(|pass| pass.groups.into_iter())
        .collect();
    let groups = (0..groups).map(|_| {
        let parts = passes.iter_mut().map(|groups| groups.next());
        one(parts.collect::<Option<Vec<_>>>().ok_or_else(lost)?)
    });
    let groups = groups.collect::<Result<_>>()?;
    Ok(Pass { groups, numbers })
}

/// The cells of one grouping.
fn one(parts: Vec<GroupRows>) -> Result<GroupRows> {
    let columns = |of: fn(&GroupRows) -> usize| parts.first().map_or(0, of);
    let whole = |values: Vec<&dyn Array>| {
        concat(&values).map_err(|error| EngineError::internal_because("parts of a scan", error))
    };
    // Every part has the same columns; a place that one lacks makes the lengths differ.
    let numbers = |values: Vec<&Int64Array>| -> Result<Int64Array> {
        let values = whole(values.into_iter().map(|values| values as _).collect())?;
        Ok(values.as_primitive().clone())
    };
    let keys = (0..columns(|part| part.keys.len())).map(|place| {
        let key = parts.iter().filter_map(|part| part.keys.get(place));
        whole(key.map(|key: &ArrayRef| key.as_ref()).collect())
    });
    let sums = (0..columns(|part| part.sums.len())).map(|place| {
        numbers(
            parts
                .iter()
                .filter_map(|part| part.sums.get(place))
                .collect(),
        )
    });
    let histograms = (0..columns(|part| part.histograms.len())).map(|place| {
        let states = parts.iter().filter_map(|part| part.histograms.get(place));
        let states = whole(states.map(|states: &BinaryArray| states as _).collect())?;
        Ok(states.as_binary::<i32>().clone())
    });
    let sets = (0..columns(|part| part.sets.len())).map(|place| {
        let sets = parts.iter().filter_map(|part| part.sets.get(place));
        let sets: Vec<Arc<MemberNumbers>> = sets.cloned().collect();
        Ok(Arc::new(MemberNumbers::joined(&sets)?))
    });
    Ok(GroupRows {
        counts: numbers(parts.iter().map(|part| &part.counts).collect())?,
        keys: keys.collect::<Result<_>>()?,
        sums: sums.collect::<Result<_>>()?,
        histograms: histograms.collect::<Result<_>>()?,
        sets: sets.collect::<Result<_>>()?,
    })
}
