//! Names and values that every other crate shares.
//!
//! Here live identity codes, organisers, areas, periods, hashes and the clock trait: small values
//! with one constructor each, so that a value that exists is a value that was checked. No I/O, no
//! Arrow, no settings. To add one: a new file, private fields, a `parse` that says what is wrong
//! without repeating personal data, and its tests beside it.

mod business_id;
mod clock;
mod content_hash;
mod county;
mod hetu;
mod period;
mod problem;

pub use business_id::{BusinessId, BusinessIdError};
pub use clock::{Clock, FinnishOffset, FixedClock, end_of_finnish_day, finnish_day};
pub use content_hash::ContentHash;
pub use county::{County, UnknownCounty};
pub use hetu::{Hetu, HetuError, Sex};
pub use period::{DeliveryPeriod, PeriodError};
pub use problem::{Problem, did_you_mean, render_problems};

/// A length of time in the calendar.
pub use jiff::Span;
/// The instant type of the whole project.
pub use jiff::Timestamp;
/// The calendar date type of the whole project.
pub use jiff::civil::Date;
