//! Spells of round-the-clock housing, institutional care and family care, by calendar year.

use super::columns;
use crate::care::Service;
use crate::days::day;
use crate::defects::Fault::*;
use crate::defects::{defect, defect_without};
use crate::error::SynthError;
use crate::extract::{Dataset, Form};
use crate::set_defects::{Cell, SetDefect, Suits};
use crate::sink::{Period, Sink};
use crate::world::World;

static DATASET: Dataset = Dataset {
    name: "care_spell",
    columns: columns![
        spell_no "jaksonumero",
        client_id "henkilotunnus",
        municipality "kotikunta",
        service_code "palvelu",
        started_on "tulopvm",
        ended_on "lahtopvm",
        long_term "pitkaaikainen",
        production_mode "tuotantotapa",
        provider_business_id "tuottaja_ytunnus",
        unit_code "yksikko",
    ],
    form: Form::Utf8,
    defects: &[
        defect(
            "end before start",
            "ended_on",
            Before("started_on"),
            "ended_not_before_started",
        ),
        defect(
            "identity code with a wrong control character",
            "client_id",
            HetuControl,
            "hetu_control",
        ),
        defect("unknown code", "service_code", Text("ABC"), "code_unknown"),
        defect("repeated key", "spell_no", Repeat, "duplicate_key"),
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
        defect(
            "business id with a wrong check digit",
            "provider_business_id",
            CheckDigit,
            "business_id",
        ),
        defect_without(
            "date in the future",
            "started_on",
            Future,
            "date_future",
            "ended_on",
        ),
        defect(
            "yes or no in another form",
            "long_term",
            Text("?"),
            "boolean_form",
        ),
        defect(
            "required value missing",
            "started_on",
            Missing,
            "required_missing",
        ),
    ],
    defects_per_file: 10,
    set_defects: &[SetDefect {
        kind: "second open spell of round-the-clock care",
        rule: "one_open_spell",
        suits: &[
            ("ended_on", Suits::Open),
            ("service_code", Suits::OneOf(&["YPA", "LAI"])),
        ],
        copies: true,
        changes: &[("spell_no", Cell::Prefixed("2-"))],
        every: 1,
    }],
};

pub(crate) fn write(world: &World<'_>, year: i32, sink: &Sink<'_>) -> Result<(), SynthError> {
    if !sink.is_over(Period::Year(year)) {
        return Ok(());
    }
    let people = &world.people;
    let (first, last) = (day(year, 1, 1), day(year, 12, 31));
    let mut file = sink.extract(world.reference, &DATASET, world.county, Period::Year(year))?;
    for spell in world
        .care
        .spells
        .iter()
        .filter(|spell| spell.service != Service::HomeCare && spell.overlaps(first, last))
    {
        file.label(&format!("J{}-", world.county), u64::from(spell.number), 7);
        file.identity_code(&people.identity_code(spell.person));
        file.municipality(people.municipality(spell.person, year));
        file.text(spell.service.code());
        file.date(spell.from);
        file.end_date(spell.to, last);
        file.flag(spell.long_term);
        file.number(spell.mode as u64);
        match world.providers.get(spell.provider) {
            Some(provider) => file.ascii(&provider.id),
            None => file.blank(),
        }
        file.label("HOIVA-", u64::from(spell.unit), 3);
        file.end_row()?;
    }
    sink.finish(file)
}
