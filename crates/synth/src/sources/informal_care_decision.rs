//! Decisions on informal-care support, by calendar year.

use super::columns;
use crate::days::day;
use crate::defects::Fault::*;
use crate::defects::{defect, defect_without};
use crate::error::SynthError;
use crate::extract::{Dataset, Form};
use crate::set_defects::{Cell, SetDefect};
use crate::sink::{Period, Sink};
use crate::staff::overlaps_year;
use crate::world::World;

static DATASET: Dataset = Dataset {
    name: "informal_care_decision",
    columns: columns![
        decision_no "paatosnumero",
        client_id "hoidettava_henkilotunnus",
        carer_id "hoitaja_henkilotunnus",
        municipality "kotikunta",
        fee_class "palkkioluokka",
        valid_from "alkupvm",
        valid_to "loppupvm",
    ],
    form: Form::Utf8,
    defects: &[
        defect(
            "end before start",
            "valid_to",
            Before("valid_from"),
            "valid_to_not_before_valid_from",
        ),
        defect(
            "identity code with a wrong control character",
            "carer_id",
            HetuControl,
            "hetu_control",
        ),
        defect("unknown code", "fee_class", Text("X"), "code_unknown"),
        defect("repeated key", "decision_no", Repeat, "duplicate_key"),
        defect(
            "required value missing",
            "carer_id",
            Missing,
            "required_missing",
        ),
        defect_without(
            "date outside the delivered period",
            "valid_from",
            LaterPeriod,
            "wrong_period",
            "valid_to",
        ),
        defect(
            "identity code with an impossible birth date",
            "client_id",
            HetuDate,
            "hetu_date",
        ),
    ],
    defects_per_file: 5,
    set_defects: &[SetDefect {
        kind: "carer who is the client",
        rule: "carer_is_not_the_client",
        suits: &[],
        copies: false,
        changes: &[("carer_id", Cell::SameAs("client_id"))],
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
    for decision in world
        .care
        .decisions
        .iter()
        .filter(|decision| overlaps_year(decision.from, decision.to, year))
    {
        file.label(
            &format!("OH{}-", world.county),
            u64::from(decision.number),
            6,
        );
        file.identity_code(&people.identity_code(decision.client));
        file.identity_code(&people.identity_code(decision.carer));
        file.municipality(people.municipality(decision.client, year));
        file.number(u64::from(decision.fee_class));
        file.date(decision.from);
        file.end_date(decision.to, last);
        file.end_row()?;
    }
    sink.finish(file)
}
