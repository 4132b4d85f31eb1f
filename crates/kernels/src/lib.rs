//! Aggregates and functions over Arrow arrays that indicators are computed with.
//!
//! One file per function: what it computes, the formula and its source, null and empty behaviour,
//! memory, laws and tests. Here are no tables, settings, clocks or sessions. Every aggregate obeys
//! three laws: merging the states of parts gives the state of the whole; order and partition count
//! do not matter, to the bit; the empty input has a defined value. In a window it gives what it
//! gives over a group of the frame's rows, or refuses when it is planned (`sliding.rs`). To add one:
//! implement [`cell::Cell`] in a file of its own and name it in [`aggregate_functions`], or write a
//! plain function over values and name it in [`scalar_functions`].

mod age;
mod aggregate;
mod calendar;
mod care_day_set;
mod care_days;
mod cell;
mod cells;
mod codes;
mod contributors;
mod day_histogram;
mod dense_cube;
mod distinct_cube;
pub mod episodes;
mod intervals;
mod kaplan_meier;
mod person_set;
mod person_time;
mod refusal;
mod rollup;
mod running_sum;
mod scalar;
mod sliding;
mod spell_months;
mod standardised_rate;
mod sum_exact;
mod sum_table;
#[cfg(test)]
mod testing;
mod varint;

use datafusion_expr::{AggregateUDF, ScalarUDF};

pub use age::age_years;
pub use cells::{
    CellColumn, CellSpec, Cells, DaysOf, FinishedCells, GroupRows, GroupSpec, InputColumn,
    MarkedGroup, MarkedSum, passing,
};
pub use codes::Codes;
pub use contributors::{ContributorCells, Contributors, Dominance};
pub use day_histogram::{DayHistogram, QuantileRule};
pub use dense_cube::{Cube, CubeCells, CubeRows, CubeSet, CubeShape, CubeSpec, Measure};
pub use distinct_cube::{
    Buckets, DistinctByGroup, DistinctByPerson, DistinctCounts, DistinctSets, Levels, PersonNumbers,
};
pub use intervals::{byar, poisson_exact, rate_limits, wilson};
pub use kaplan_meier::{SurvivalCurve, SurvivalStep, WaitQuantile};
pub use person_set::list_of_sets;
pub use person_time::{PeriodTime, Periods, PersonTime, SpellTally, Spells};
pub use refusal::Refusal;
pub use rollup::{CareDayCounts, CellKeys, CellTargets, Lists, MemberNumbers};
pub use running_sum::{PeriodSums, Restarts, running_sum};
pub use spell_months::{
    AgeDay, DeliveredMonths, Reach, ReachedMonths, SpellMarks, SpellMonths, SpellRows,
};
pub use standardised_rate::{
    LEAST_EVENTS, StandardisedRate, Stratum, StratumCounts, standardised_rate,
};
pub use sum_exact::ExactSum;

/// Every aggregate of this crate, for a session to register.
pub fn aggregate_functions() -> Vec<AggregateUDF> {
    [
        person_set::aggregates(),
        person_time::aggregates(),
        care_days::aggregates(),
        care_day_set::aggregates(),
        day_histogram::aggregates(),
        distinct_cube::aggregates(),
        sum_exact::aggregates(),
        contributors::aggregates(),
        standardised_rate::aggregates(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Every scalar function of this crate, for a session to register.
pub fn scalar_functions() -> Vec<ScalarUDF> {
    [
        person_set::scalars(),
        care_day_set::scalars(),
        day_histogram::scalars(),
        distinct_cube::scalars(),
        age::scalars(),
        intervals::scalars(),
        kaplan_meier::scalars(),
        contributors::scalars(),
        standardised_rate::scalars(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod reference {
    use super::*;

    #[test]
    fn every_function_stands_in_the_reference() {
        let page = include_str!("../../../docs/reference/functions.md");
        let scalars = scalar_functions();
        let aggregates = aggregate_functions();
        let names = scalars.iter().map(ScalarUDF::name);
        for name in names.chain(aggregates.iter().map(AggregateUDF::name)) {
            let call = format!("`{name}(");
            assert!(
                page.contains(&call),
                "docs/reference/functions.md lacks {name}"
            );
        }
    }
}
