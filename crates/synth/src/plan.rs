//! What to generate: the scale rule and the choices that override it.
//!
//! Scale 1 is one county of about 200 000 residents for three years. A county is
//! always made whole, with all its people, so that rates against the real
//! population are right; scale chooses counties and years:
//!
//! | scale | counties | years |
//! |-|-|-|
//! | under 0.3 | 18 Keski-Pohjanmaa (68 000) | 2024 |
//! | 0.3 to 0.8 | 20 Kainuu (71 000) | 2023–2025 |
//! | from 0.8 | 09 Päijät-Häme (205 000), then others in a fixed order until 600 000 × scale person-years are met | 2023–2025 |
//! | from 28 | all 22 | 2023–2025 |
//! | from 46 | all 22 | 2021–2025 |
//!
//! The ledger and the providers are written of all 22 organisers at every scale.

use std::ops::RangeInclusive;

use jiff::civil::Date;
use tietopohja_domain::County;

use crate::error::SynthError;
use crate::inputs::Reference;

/// What to generate. See [`SynthPlan::new`] for the defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct SynthPlan {
    /// 1 = one county of about 200 000 residents for three years. Above 0.
    pub scale: f64,
    /// Everything random follows from it: the same seed and plan give the same bytes.
    pub seed: u64,
    /// Calendar years instead of those of the scale; 2020 to 2030.
    pub years: Option<RangeInclusive<i16>>,
    /// Counties with person-level sources instead of those of the scale.
    pub counties: Option<Vec<County>>,
    /// Plant defects in rows, and write files that must be rejected.
    pub defects: bool,
    /// The day of extraction: months and years that end before it are delivered, and nothing later
    /// than it is known.
    pub today: Date,
    /// Threads that write; at least 1 is used. The output does not depend on it.
    pub threads: usize,
}

/// Person-years of scale 1.
const PERSON_YEARS: f64 = 600_000.0;

/// The order in which counties are added from scale 0.8 on.
const ORDER: [i32; 22] = [
    9, 7, 10, 12, 6, 14, 16, 13, 15, 8, 5, 19, 21, 17, 11, 1, 2, 4, 3, 90, 20, 18,
];

impl SynthPlan {
    /// A plan with the counties and years of the scale, with defects, on two threads.
    pub fn new(scale: f64, seed: u64, today: Date) -> SynthPlan {
        SynthPlan {
            scale,
            seed,
            years: None,
            counties: None,
            defects: true,
            today,
            threads: 2,
        }
    }

    /// The counties and years that the plan comes to.
    pub(crate) fn scope(&self, reference: &Reference) -> Result<Scope, SynthError> {
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return Err(SynthError::Plan(format!(
                "the scale `{}` is not a number above 0: 0.1 is a small county, 1 a county of 200 000 for three years",
                self.scale
            )));
        }
        let years = match &self.years {
            Some(years) => i32::from(*years.start())..=i32::from(*years.end()),
            None if self.scale < 0.3 => 2024..=2024,
            None if self.scale < 46.0 => 2023..=2025,
            None => 2021..=2025,
        };
        let (known_from, known_to) = (
            *reference.years().start() + 1,
            (*reference.years().end()).min(2030),
        );
        if years.is_empty() || *years.start() < known_from || *years.end() > known_to {
            return Err(SynthError::Plan(format!(
                "the years `{}`–`{}` cannot be made: give a first and last year from {known_from} to {known_to}",
                years.start(),
                years.end()
            )));
        }
        let today_year = i32::from(self.today.year());
        if *years.start() > today_year || (*years.start() == today_year && self.today.month() == 1)
        {
            return Err(SynthError::Plan(format!(
                "no month of {} is over on {}: give earlier years",
                years.start(),
                self.today
            )));
        }
        let counties = match &self.counties {
            Some(chosen) => {
                let mut counties = chosen.clone();
                counties.sort_unstable();
                counties.dedup();
                if counties.is_empty() || counties.contains(&County::NATIONAL) {
                    return Err(SynthError::Plan(
                        "give at least one of the 22 organisers, 01 to 21 or 90".to_owned(),
                    ));
                }
                counties
            }
            None => self.counties_of_scale(reference, years.clone().count() as f64),
        };
        Ok(Scope { counties, years })
    }

    fn counties_of_scale(&self, reference: &Reference, years: f64) -> Vec<County> {
        let one = |number| County::from_number(number).into_iter().collect();
        match self.scale {
            scale if scale < 0.3 => return one(18),
            scale if scale < 0.8 => return one(20),
            scale if scale >= 28.0 => return County::all().collect(),
            _ => {}
        }
        let mut counties = Vec::new();
        let mut person_years = 0.0;
        for county in ORDER.into_iter().filter_map(County::from_number) {
            // A small shortfall does not bring in another county.
            if person_years >= self.scale * PERSON_YEARS * 0.97 {
                break;
            }
            person_years += reference.residents(county) as f64 * years;
            counties.push(county);
        }
        counties.sort_unstable();
        counties
    }
}

/// Counties in code order, and years.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) counties: Vec<County>,
    pub(crate) years: RangeInclusive<i32>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testdata;

    fn scope(scale: f64) -> (Vec<i32>, RangeInclusive<i32>) {
        let reference = Reference::parse(&testdata::inputs()).unwrap();
        let scope = SynthPlan::new(scale, 1, Date::constant(2026, 3, 1))
            .scope(&reference)
            .unwrap();
        (
            scope
                .counties
                .iter()
                .map(|county| county.number())
                .collect(),
            scope.years,
        )
    }

    #[test]
    fn scale_chooses_counties_and_years() {
        assert_eq!(scope(0.01), (vec![18], 2024..=2024));
        assert_eq!(scope(0.1), (vec![18], 2024..=2024));
        assert_eq!(scope(0.35), (vec![20], 2023..=2025));
        assert_eq!(scope(1.0), (vec![9], 2023..=2025));
        assert_eq!(scope(2.0).0, vec![7, 9, 10]);
        assert_eq!(scope(28.0).0.len(), 22);
        let (all, years) = scope(46.0);
        assert_eq!((all.len(), years), (22, 2021..=2025));
    }

    #[test]
    fn every_organiser_is_in_the_order_once() {
        let mut order = ORDER.to_vec();
        order.sort_unstable();
        assert_eq!(order, County::all().map(County::number).collect::<Vec<_>>());
    }

    #[test]
    fn a_plan_that_cannot_be_made_says_what_to_ask() {
        let reference = Reference::parse(&testdata::inputs()).unwrap();
        let plan = |change: &dyn Fn(&mut SynthPlan)| {
            let mut plan = SynthPlan::new(1.0, 1, Date::constant(2026, 3, 1));
            change(&mut plan);
            plan.scope(&reference).unwrap_err().to_string()
        };
        for (message, word) in [
            (plan(&|p| p.scale = 0.0), "scale"),
            (plan(&|p| p.scale = f64::NAN), "scale"),
            (plan(&|p| p.years = Some(2010..=2012)), "2020 to 2030"),
            (
                plan(&|p| p.years = Some(RangeInclusive::new(2025, 2024))),
                "first and last",
            ),
            (plan(&|p| p.years = Some(2027..=2027)), "earlier years"),
            (plan(&|p| p.counties = Some(vec![])), "at least one"),
            (
                plan(&|p| p.counties = Some(vec![County::NATIONAL])),
                "at least one",
            ),
        ] {
            assert!(message.contains(word), "{message}");
        }
    }
}
