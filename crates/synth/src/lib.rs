//! Synthetic source extracts of any size from a seed.
//!
//! [`generate`] writes what the source systems of wellbeing services counties
//! would send: personnel, finance, social care, purchased services and health
//! care, about the same consistent people, calibrated to public totals
//! ([`ReferenceInputs`]), with a known set of defects ([`Manifest`]). Identity
//! codes are artificial only (individual numbers 900–999) and business ids are
//! test numbers.
//!
//! The same plan and seed give the same bytes. Nothing here reads a clock, a
//! global generator or reference files: they come in as arguments. How data is
//! landed, checked or counted is no business of this crate.
//!
//! To add a source: a file in `sources` (see there). To add people's traits:
//! `population` for who lives where, `care`, `children` and `staff` for what
//! happens to them.

mod bench;
mod care;
mod children;
mod days;
mod defects;
mod documents;
mod draw;
mod error;
mod extract;
mod generate;
mod inputs;
mod manifest;
mod plan;
mod population;
mod providers;
mod rejected;
mod set_defects;
mod sink;
mod sources;
mod staff;
#[cfg(test)]
mod testdata;
mod world;

pub use bench::bench_care_events;
pub use error::SynthError;
pub use generate::{generate, planned_files};
pub use inputs::ReferenceInputs;
pub use manifest::{
    FileEntry, MANIFEST_FORMAT, Manifest, PlantedDefect, PlantedFinding, RejectedFile,
};
pub use plan::SynthPlan;
