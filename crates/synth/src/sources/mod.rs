//! The source systems: one file per dataset, with its columns, form, defects and rows.
//!
//! A source writes the files of one calendar year and draws from streams that
//! are its own, so that sources and years can be written in any order. To add a
//! dataset: a file here with a [`Dataset`] and a `write` function, a line in
//! [`PERSON_LEVEL`] or [`AGGREGATE`], and a contract of the same name.

pub(crate) mod care_spell;
pub(crate) mod child_notification;
pub(crate) mod finance_ledger;
pub(crate) mod homecare_visit;
pub(crate) mod hr_absence;
pub(crate) mod hr_employment;
pub(crate) mod hr_post;
pub(crate) mod informal_care_decision;
pub(crate) mod needs_assessment;
pub(crate) mod placement;
pub(crate) mod primary_care_contact;
pub(crate) mod provider;
pub(crate) mod purchase_invoice_line;
pub(crate) mod specialised_referral;

use crate::error::SynthError;
use crate::sink::Sink;
use crate::world::World;

/// Writes the files of one dataset, county and year.
pub(crate) type Write = fn(&World<'_>, i32, &Sink<'_>) -> Result<(), SynthError>;

/// How often a source delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rhythm {
    Monthly,
    Yearly,
}

/// The sources that need the people of a county, the largest first.
pub(crate) const PERSON_LEVEL: &[(Write, Rhythm)] = &[
    (homecare_visit::write, Rhythm::Monthly),
    (primary_care_contact::write, Rhythm::Monthly),
    (hr_absence::write, Rhythm::Monthly),
    (specialised_referral::write, Rhythm::Monthly),
    (purchase_invoice_line::write, Rhythm::Monthly),
    (hr_employment::write, Rhythm::Yearly),
    (hr_post::write, Rhythm::Yearly),
    (needs_assessment::write, Rhythm::Monthly),
    (child_notification::write, Rhythm::Monthly),
    (care_spell::write, Rhythm::Yearly),
    (informal_care_decision::write, Rhythm::Yearly),
    (placement::write, Rhythm::Yearly),
];

/// The rhythms of the sources written of every organiser: the ledger and the providers.
pub(crate) const AGGREGATE: [Rhythm; 2] = [Rhythm::Monthly, Rhythm::Yearly];

/// Declares the columns of a dataset as `name "header"`.
macro_rules! columns {
    ($($name:ident $header:literal),* $(,)?) => {
        &[$(crate::extract::Column { name: stringify!($name), header: $header }),*]
    };
}
pub(crate) use columns;
