//! One county's world: everything that its sources tell of, built once and shared by them.

use std::ops::RangeInclusive;

use tietopohja_domain::County;

use crate::care::Care;
use crate::children::{Placement, placements};
use crate::days::Day;
use crate::error::SynthError;
use crate::inputs::Reference;
use crate::population::People;
use crate::providers::Providers;
use crate::staff::{Absence, Staff};

/// The people of a county and what happens to them. Events that are not kept (visits, contacts)
/// are drawn by the sources from streams of their own.
pub(crate) struct World<'a> {
    pub(crate) county: County,
    pub(crate) reference: &'a Reference,
    pub(crate) people: People,
    pub(crate) providers: Providers,
    pub(crate) care: Care,
    pub(crate) placements: Vec<Placement>,
    pub(crate) staff: Staff,
    /// By month from January of `first_year`.
    pub(crate) absences: Vec<Vec<Absence>>,
    pub(crate) first_year: i32,
    /// The day of extraction: nothing later is known.
    pub(crate) today: Day,
}

impl<'a> World<'a> {
    pub(crate) fn build(
        reference: &'a Reference,
        county: County,
        years: RangeInclusive<i32>,
        today: Day,
        seed: u64,
    ) -> Result<World<'a>, SynthError> {
        let (first, last) = years.into_inner();
        let people = People::build(reference, county, first, last, seed)?;
        let providers = Providers::build(reference, county, first, last, seed);
        let care = Care::build(&people, &providers, first, last);
        let placements = placements(&people, reference, &providers, first, last);
        let staff = Staff::build(&people, reference.residents(county), first, last);
        let absences = staff.absences(&people, first, last);
        Ok(World {
            county,
            reference,
            people,
            providers,
            care,
            placements,
            staff,
            absences,
            first_year: first,
            today,
        })
    }
}
