//! Referrals to specialised care, by month of arrival, with what has happened to them since.

use super::columns;
use super::primary_care_contact::use_of_care;
use crate::days::months_of;
use crate::defects::Fault::*;
use crate::defects::{defect, defect_without};
use crate::error::SynthError;
use crate::extract::{Dataset, Form};
use crate::population::tag;
use crate::sink::{Period, Sink};
use crate::world::World;

static DATASET: Dataset = Dataset {
    name: "specialised_referral",
    columns: columns![
        referral_no "lahetenumero",
        client_id "henkilotunnus",
        municipality "kotikunta",
        arrived_on "saapunut",
        processed_on "kasitelty",
        queued_on "jonoon",
        treated_on "hoidettu",
        specialty "erikoisala",
        urgency "kiireellisyys",
    ],
    form: Form::Utf8,
    defects: &[
        defect_without(
            "end before start",
            "processed_on",
            Before("arrived_on"),
            "processed_not_before_arrived",
            "queued_on",
        ),
        defect("unknown code", "specialty", Text("99"), "code_unknown"),
        defect(
            "identity code with a wrong control character",
            "client_id",
            HetuControl,
            "hetu_control",
        ),
        defect("repeated key", "referral_no", Repeat, "duplicate_key"),
        defect(
            "date that does not exist",
            "arrived_on",
            NoLeapDay,
            "date_impossible",
        ),
        defect("date in the future", "treated_on", Future, "date_future"),
        defect(
            "municipality that has ended",
            "municipality",
            EndedMunicipality,
            "code_expired",
        ),
        defect(
            "date outside the delivered period",
            "arrived_on",
            EarlierPeriod,
            "wrong_period",
        ),
        defect(
            "required value missing",
            "specialty",
            Missing,
            "required_missing",
        ),
        defect(
            "identity code too short",
            "client_id",
            HetuForm,
            "hetu_form",
        ),
    ],
    defects_per_file: 1,
    set_defects: &[],
};

/// Referrals per inhabitant and year.
const REFERRALS: f64 = 0.15;
const SEASON: [f64; 12] = [
    1.06, 1.02, 1.1, 1.04, 1.08, 0.95, 0.68, 0.95, 1.05, 1.1, 1.1, 0.87,
];

pub(crate) fn write(world: &World<'_>, year: i32, sink: &Sink<'_>) -> Result<(), SynthError> {
    let people = &world.people;
    let pace = people.county_factor(tag::REFERRAL, 0.25);
    for month in months_of(year) {
        if !sink.is_over(Period::Month(month)) {
            continue;
        }
        let mut draw = people.stream(tag::REFERRAL, &[month.number() as u64]);
        let mut file = sink.extract(
            world.reference,
            &DATASET,
            world.county,
            Period::Month(month),
        )?;
        let level = REFERRALS / 12.0 * SEASON[month.month as usize - 1];
        let mut number = 0;
        for (id, person) in people.iter() {
            let age = person.age_in(year);
            let by_age = match age {
                ..=17 => 0.6,
                18..=44 => 0.75,
                45..=64 => 1.05,
                65..=74 => 1.4,
                _ => 1.75,
            };
            if !draw.chance(
                level * by_age * use_of_care(people.latent(id, tag::PRIMARY_CARE)).min(2.6) * 1.08,
            ) {
                continue;
            }
            let arrived = draw.office_day(month.first, month.last);
            let urgent = draw.chance(0.14);
            let known = |on: &i32| *on <= world.today;
            let processed = if urgent {
                Some(arrived + draw.between(0, 3))
            } else if draw.chance(0.985) {
                let late = draw.chance(0.05 * pace);
                Some(
                    arrived
                        + if late {
                            22 + draw.exponential(12.0).min(120.0) as i32
                        } else {
                            draw.between(0, 20).min(draw.between(0, 21))
                        },
                )
            } else {
                None
            };
            let processed = processed.filter(known);
            // A part is sent back with advice and never queued.
            let queued = processed
                .filter(|_| draw.chance(0.88))
                .map(|on| on + draw.between(0, 4))
                .filter(known);
            let treated = queued
                .filter(|_| draw.chance(0.95))
                .map(|on| {
                    on + if urgent {
                        draw.between(0, 20)
                    } else {
                        (5.0 + draw.exponential(70.0 * pace)).min(500.0) as i32
                    }
                })
                .filter(known);
            let specialty = match (age, person.sex()) {
                (..=15, _) => draw.pick(&[(40, 55), (20, 12), (50, 8), (70, 17), (80, 8)]),
                (16..=59, 0) => draw.pick(&[
                    (10, 21),
                    (20, 23),
                    (25, 2),
                    (30, 22),
                    (50, 9),
                    (70, 12),
                    (80, 11),
                ]),
                (16..=59, _) => {
                    draw.pick(&[(10, 27), (20, 32), (25, 3), (50, 11), (70, 12), (80, 15)])
                }
                _ => draw.pick(&[(10, 32), (20, 26), (25, 3), (50, 24), (70, 3), (80, 12)]),
            };
            if !person.lives_here_on(arrived) {
                continue;
            }
            number += 1;
            file.running(world.county.number(), month.number(), number, 6);
            file.identity_code(&people.identity_code(id));
            file.municipality(people.municipality(id, year));
            file.date(arrived);
            file.maybe_date(processed);
            file.maybe_date(queued);
            file.maybe_date(treated);
            file.number(specialty);
            file.number(if urgent { 1 } else { 2 });
            file.end_row()?;
        }
        sink.finish(file)?;
    }
    Ok(())
}
