//! Placements of children and young people outside the home, by calendar year.

use super::columns;
use crate::days::{OPEN, day};
use crate::defects::Fault::*;
use crate::defects::{defect, defect_without};
use crate::error::SynthError;
use crate::extract::{Dataset, Form};
use crate::set_defects::{Cell, SetDefect, Suits};
use crate::sink::{Period, Sink};
use crate::staff::overlaps_year;
use crate::world::World;

static DATASET: Dataset = Dataset {
    name: "placement",
    columns: columns![
        placement_no "sijoitusnumero",
        client_id "henkilotunnus",
        municipality "kotikunta",
        form "muoto",
        basis "peruste",
        started_on "alkupvm",
        ended_on "loppupvm",
        production_mode "tuotantotapa",
        provider_business_id "tuottaja_ytunnus",
    ],
    form: Form::Utf8,
    defects: &[
        defect(
            "end before start",
            "ended_on",
            Before("started_on"),
            "ended_not_before_started",
        ),
        defect("unknown code", "form", Text("7"), "code_unknown"),
        defect(
            "identity code with a wrong control character",
            "client_id",
            HetuControl,
            "hetu_control",
        ),
        defect(
            "business id with a wrong check digit",
            "provider_business_id",
            CheckDigit,
            "business_id",
        ),
        defect("repeated key", "placement_no", Repeat, "duplicate_key"),
        defect_without(
            "date outside the delivered period",
            "started_on",
            LaterPeriod,
            "wrong_period",
            "ended_on",
        ),
        defect(
            "date that does not exist",
            "started_on",
            NoLeapDay,
            "date_impossible",
        ),
    ],
    defects_per_file: 2,
    set_defects: &[SetDefect {
        kind: "second open placement of a child",
        rule: "one_open_placement",
        suits: &[("ended_on", Suits::Open)],
        copies: true,
        changes: &[("placement_no", Cell::Prefixed("2-"))],
        every: 1,
    }],
};

pub(crate) fn write(world: &World<'_>, year: i32, sink: &Sink<'_>) -> Result<(), SynthError> {
    if !sink.is_over(Period::Year(year)) {
        return Ok(());
    }
    let people = &world.people;
    let last = day(year, 12, 31);
    let mut file = sink.extract(world.reference, &DATASET, world.county, Period::Year(year))?;
    for placement in world
        .placements
        .iter()
        .filter(|placement| overlaps_year(placement.from, placement.to, year))
    {
        file.label(
            &format!("SIJ{}-", world.county),
            u64::from(placement.number),
            6,
        );
        file.identity_code(&people.identity_code(placement.person));
        file.municipality(people.municipality(placement.person, year));
        file.number(u64::from(placement.form));
        file.number(u64::from(placement.basis));
        file.date(placement.from);
        file.end_date(
            if placement.to > last {
                OPEN
            } else {
                placement.to
            },
            last,
        );
        file.number(placement.mode as u64);
        match world.providers.get(placement.provider) {
            Some(provider) => file.ascii(&provider.id),
            None => file.blank(),
        }
        file.end_row()?;
    }
    sink.finish(file)
}
