//! Contacts of primary health care, by month of the visit.
//!
//! About three contacts per inhabitant and year; a tenth of people has two
//! fifths of them. Six in ten follow an assessment of need, from which the wait
//! is counted. Waits follow the published shares of visits within 7 and 14 days:
//! physicians 59 and 71 % in March 2022, all professionals 82 and 89 % in
//! October 2023.

use super::columns;
use crate::days::{Month, day, months_of, weekday};
use crate::defects::Fault::*;
use crate::defects::{defect, defect_without};
use crate::draw::Draw;
use crate::error::SynthError;
use crate::extract::{Dataset, Form};
use crate::population::tag;
use crate::sink::{Period, Sink};
use crate::world::World;

static DATASET: Dataset = Dataset {
    name: "primary_care_contact",
    columns: columns![
        contact_no "tapahtumanumero",
        client_id "henkilotunnus",
        municipality "kotikunta",
        assessed_on "hta_pvm",
        visit_on "kayntipvm",
        urgency "kiireellisyys",
        contact_mode "yhteystapa",
        profession "ammattiryhma",
        unit_code "yksikko",
        realised "toteutunut",
    ],
    form: Form::Utf8,
    defects: &[
        defect(
            "end before start",
            "visit_on",
            Before("assessed_on"),
            "assessed_not_after_visit",
        ),
        defect(
            "identity code with a wrong control character",
            "client_id",
            HetuControl,
            "hetu_control",
        ),
        defect("unknown code", "urgency", Text("5"), "code_unknown"),
        defect("repeated key", "contact_no", Repeat, "duplicate_key"),
        defect_without(
            "date outside the delivered period",
            "visit_on",
            EarlierPeriod,
            "wrong_period",
            "assessed_on",
        ),
        defect(
            "municipality that has ended",
            "municipality",
            EndedMunicipality,
            "code_expired",
        ),
        defect(
            "date that does not exist",
            "assessed_on",
            Text("31.04.2024"),
            "date_impossible",
        ),
        defect(
            "identity code with a sign not in use",
            "client_id",
            HetuSign,
            "hetu_sign",
        ),
        defect(
            "date in another form",
            "visit_on",
            Text("2024/05/02"),
            "date_form",
        ),
        defect(
            "required value missing",
            "visit_on",
            Missing,
            "required_missing",
        ),
        defect(
            "yes or no in another form",
            "realised",
            Text("kyllä"),
            "boolean_form",
        ),
        defect("date in the future", "assessed_on", Future, "date_future"),
        defect("row with a cell missing", "realised", ShortRow, "row_width"),
        defect(
            "text after a closing quote",
            "unit_code",
            Text("\"YKSIKKÖ\" 7"),
            "row_quote",
        ),
    ],
    defects_per_file: 3,
    set_defects: &[],
};

const PHYSICIAN: &str = "LAAK";
/// Contacts per inhabitant and year.
const CONTACTS: f64 = 3.0;
const SEASON: [f64; 12] = [
    1.1, 1.04, 1.1, 1.03, 1.05, 0.9, 0.72, 0.96, 1.06, 1.1, 1.08, 0.86,
];

/// How a person's use of care differs from others of the age.
pub(crate) fn use_of_care(latent: f64) -> f64 {
    match latent {
        latent if latent < 0.1 => 3.9,
        latent if latent < 0.35 => 1.4,
        latent if latent < 0.75 => 0.55,
        _ => 0.16,
    }
}

pub(crate) fn write(world: &World<'_>, year: i32, sink: &Sink<'_>) -> Result<(), SynthError> {
    let people = &world.people;
    // By age in the year; the mean over the population is near 1.
    let by_age: Vec<f64> = (0..=120)
        .map(|age| match age {
            0..=6 => 1.1,
            7..=17 => 0.7,
            18..=64 => 0.85,
            65..=74 => 1.3,
            _ => 1.8,
        })
        .collect();
    let pace = people.county_factor(tag::WAITING, 0.25);
    for month in months_of(year) {
        if !sink.is_over(Period::Month(month)) {
            continue;
        }
        let mut draw = people.stream(tag::PRIMARY_CARE, &[month.number() as u64]);
        let mut file = sink.extract(
            world.reference,
            &DATASET,
            world.county,
            Period::Month(month),
        )?;
        let level = CONTACTS / 12.0 * SEASON[month.month as usize - 1];
        let wait = Wait::new(month, pace);
        let mut number = 0;
        for (id, person) in people.iter() {
            if person.from() > month.last
                || person.to() <= month.first
                || person.birth() > month.last
            {
                continue;
            }
            let age = person.age_in(year).clamp(0, 120);
            let mean =
                level * by_age[age as usize] * use_of_care(people.latent(id, tag::PRIMARY_CARE));
            let contacts = draw.poisson(mean);
            if contacts == 0 {
                continue;
            }
            let code = people.identity_code(id);
            let municipality = people.municipality(id, year);
            for _ in 0..contacts {
                let urgent = draw.chance(0.18);
                let visit_on = if urgent {
                    draw.day(month.first, month.last)
                } else {
                    draw.office_day(month.first, month.last)
                };
                let mode = draw.pick(&[(1, 56), (2, 41), (3, 3)]);
                let profession =
                    draw.pick(&[("HOIT", 50), (PHYSICIAN, 32), ("TERA", 10), ("LHOI", 8)]);
                let assessed = draw.chance(0.62).then(|| {
                    let days = if urgent {
                        draw.between(0, 1)
                    } else {
                        wait.days(age, profession == PHYSICIAN, &mut draw)
                    };
                    let on = visit_on - days;
                    // Assessments of what can wait are made on weekdays.
                    if urgent {
                        on
                    } else {
                        on - (weekday(on) - 4).max(0)
                    }
                });
                let unit = draw.below(7) + 1;
                let realised = !draw.chance(0.035);
                if !person.lives_here_on(visit_on) {
                    continue;
                }
                number += 1;
                file.running(world.county.number(), month.number(), number, 7);
                file.identity_code(&code);
                file.municipality(municipality);
                file.maybe_date(assessed);
                file.date(visit_on);
                file.number(if urgent { 1 } else { 2 });
                file.number(mode);
                file.text(profession);
                file.label("TERVEYSASEMA-", u64::from(unit), 2);
                file.flag(realised);
                file.end_row()?;
            }
        }
        sink.finish(file)?;
    }
    Ok(())
}

/// How long non-urgent visits wait in a month.
struct Wait {
    /// The county's pace around 1.
    pace: f64,
    /// 14 days bound everyone from 1.9.2023 to 31.12.2024, and since then those under 23.
    strict: bool,
    strict_under_23: bool,
    /// The looser limit since 2025 let waits grow again, but not to what they were.
    loosened: bool,
}

impl Wait {
    fn new(month: Month, pace: f64) -> Wait {
        let loosened = month.first >= day(2025, 1, 1);
        Wait {
            pace,
            strict: month.first >= day(2023, 9, 1) && !loosened,
            strict_under_23: loosened,
            loosened,
        }
    }

    /// The days from assessment to visit: within a week, some weeks, or long.
    fn days(&self, age: i32, physician: bool, draw: &mut Draw) -> i32 {
        let strict = self.strict || (self.strict_under_23 && age < 23);
        let shares = match (strict, self.loosened, physician) {
            (true, _, true) => [56, 35, 9],
            (true, _, false) => [80, 15, 5],
            (false, true, true) => [51, 32, 17],
            (false, true, false) => [72, 18, 10],
            (false, false, true) => [47, 27, 26],
            (false, false, false) => [66, 20, 14],
        };
        let days = match draw.pick(&[(0, shares[0]), (1, shares[1]), (2, shares[2])]) {
            0 => f64::from(draw.between(0, 7)),
            1 => 3.0 + draw.exponential(7.5),
            _ => 15.0 + draw.exponential(28.0),
        };
        (days * self.pace).min(360.0) as i32
    }
}
