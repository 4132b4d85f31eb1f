//! Home-care visits, by month of the visit.

use super::columns;
use crate::care::{Service, Spell};
use crate::days::{Day, Month, OPEN, months_of};
use crate::defects::Fault::*;
use crate::defects::defect;
use crate::error::SynthError;
use crate::extract::{Dataset, Extract, Form};
use crate::population::{People, tag};
use crate::sink::{Period, Sink};
use crate::world::World;

pub(crate) static DATASET: Dataset = Dataset {
    name: "homecare_visit",
    columns: columns![
        visit_no "kayntinumero",
        client_id "henkilotunnus",
        municipality "kotikunta",
        visit_on "kayntipvm",
        minutes "kesto_min",
        contact_mode "yhteystapa",
        profession "ammattiryhma",
        unit_code "yksikko",
        production_mode "tuotantotapa",
        provider_business_id "tuottaja_ytunnus",
        realised "toteutunut",
    ],
    form: Form::Utf8,
    defects: &[
        defect(
            "identity code with a wrong control character",
            "client_id",
            HetuControl,
            "hetu_control",
        ),
        defect(
            "date that does not exist",
            "visit_on",
            NoLeapDay,
            "date_impossible",
        ),
        defect(
            "number beyond its limits",
            "minutes",
            Text("1441"),
            "number_range",
        ),
        defect("unknown code", "contact_mode", Text("9"), "code_unknown"),
        defect("repeated key", "visit_no", Repeat, "duplicate_key"),
        defect(
            "date outside the delivered period",
            "visit_on",
            EarlierPeriod,
            "wrong_period",
        ),
        defect(
            "municipality that has ended",
            "municipality",
            EndedMunicipality,
            "code_expired",
        ),
        defect(
            "yes or no in another form",
            "realised",
            Text("X"),
            "boolean_form",
        ),
        defect("date in the future", "visit_on", Future, "date_future"),
        defect(
            "required value missing",
            "client_id",
            Missing,
            "required_missing",
        ),
        defect(
            "business id with a wrong check digit",
            "provider_business_id",
            CheckDigit,
            "business_id",
        ),
        defect(
            "text where a number is expected",
            "minutes",
            Text("45 min"),
            "integer_form",
        ),
        defect(
            "identity code with an impossible birth date",
            "client_id",
            HetuDate,
            "hetu_date",
        ),
        defect("unknown code", "municipality", Text("999"), "code_unknown"),
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

/// One visit of a client.
pub(crate) struct Visit {
    pub(crate) on: Day,
    pub(crate) minutes: u32,
    mode: u8,
    profession: &'static str,
    pub(crate) realised: bool,
}

/// Draws the visits of a home-care spell in a month, in order of days. The same spell and month
/// always have the same visits: invoices count them, too.
pub(crate) fn visits(people: &People, spell: &Spell, month: Month, mut each: impl FnMut(Visit)) {
    let (from, to) = (
        spell.from.max(month.first),
        month
            .last
            .min(if spell.to == OPEN { OPEN } else { spell.to - 1 }),
    );
    let mut draw = people.stream(
        tag::HOME_VISITS,
        &[u64::from(spell.number), month.number() as u64],
    );
    // A client in hospital or away has no visits for a part of the month.
    let away = if draw.chance(0.05) {
        draw.day(month.first, month.last)
    } else {
        OPEN
    };
    let level = people.latent(spell.person, tag::HOME_VISITS);
    let a_day = match level {
        level if level < 0.22 => 0.25 + level,
        level if level < 0.62 => 0.7 + (level - 0.22) * 1.5,
        level if level < 0.9 => 1.4 + (level - 0.62) * 3.0,
        level => 2.5 + (level - 0.9) * 12.0,
    };
    for on in from..=to {
        if (away..away.saturating_add(12)).contains(&on) {
            continue;
        }
        for _ in 0..draw.round(a_day) {
            let mode = draw.pick(&[(3, 87), (2, 11), (1, 2)]);
            let minutes = if mode == 2 {
                draw.between(5, 15)
            } else {
                8 + draw.exponential(19.0).min(150.0) as i32
            };
            let profession = draw.pick(&[("LHOI", 75), ("HOIT", 18), ("TERA", 3), ("SOHJ", 4)]);
            each(Visit {
                on,
                minutes: minutes as u32,
                mode,
                profession,
                realised: !draw.chance(0.025),
            });
        }
    }
}

pub(crate) fn write(world: &World<'_>, year: i32, sink: &Sink<'_>) -> Result<(), SynthError> {
    for month in months_of(year) {
        if !sink.is_over(Period::Month(month)) {
            continue;
        }
        let mut file = sink.extract(
            world.reference,
            &DATASET,
            world.county,
            Period::Month(month),
        )?;
        let mut number = 0;
        for spell in world.care.spells.iter().filter(|spell| {
            spell.service == Service::HomeCare && spell.from <= month.last && spell.to > month.first
        }) {
            client_month(world, spell, month, &mut number, &mut file)?;
        }
        sink.finish(file)?;
    }
    Ok(())
}

fn client_month(
    world: &World<'_>,
    spell: &Spell,
    month: Month,
    number: &mut u64,
    file: &mut Extract,
) -> Result<(), SynthError> {
    let code = world.people.identity_code(spell.person);
    let municipality = world.people.municipality(spell.person, month.year);
    let provider = world
        .providers
        .get(spell.provider)
        .map(|provider| provider.id);
    let mut result = Ok(());
    visits(&world.people, spell, month, |visit| {
        if result.is_err() {
            return;
        }
        *number += 1;
        file.running(world.county.number(), month.number(), *number, 7);
        file.identity_code(&code);
        file.municipality(municipality);
        file.date(visit.on);
        file.number(u64::from(visit.minutes));
        file.number(u64::from(visit.mode));
        file.text(visit.profession);
        file.label("KOTIHOITO-", u64::from(spell.unit), 3);
        file.number(spell.mode as u64);
        match &provider {
            Some(id) => file.ascii(id),
            None => file.blank(),
        }
        file.flag(visit.realised);
        result = file.end_row();
    });
    result
}
