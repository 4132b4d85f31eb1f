//! Employments, by calendar year.

use super::columns;
use crate::days::{OPEN, day};
use crate::defects::Fault::*;
use crate::defects::{defect, defect_without};
use crate::error::SynthError;
use crate::extract::{Dataset, Form};
use crate::set_defects::{Cell, SetDefect, Suits};
use crate::sink::{Period, Sink};
use crate::staff::{PROFESSIONS, UNITS, overlaps_year};
use crate::world::World;

static DATASET: Dataset = Dataset {
    name: "hr_employment",
    columns: columns![
        employee_id "henkilotunnus",
        employment_no "palvelussuhdenumero",
        employer_business_id "tyonantaja_ytunnus",
        unit_code "yksikko",
        cost_centre "kustannuspaikka",
        profession_group "ammattiryhma",
        agreement "sopimusala",
        contract_type "luonne",
        started_on "alkupvm",
        ended_on "loppupvm",
        end_reason "paattymissyy",
        work_time_percent "osa_aika_prosentti",
        post_no "vakanssinumero",
    ],
    form: Form::Latin1,
    defects: &[
        defect(
            "identity code with a wrong control character",
            "employee_id",
            HetuControl,
            "hetu_control",
        ),
        defect(
            "business id with a wrong check digit",
            "employer_business_id",
            CheckDigit,
            "business_id",
        ),
        defect(
            "number beyond its limits",
            "work_time_percent",
            Text("0,00"),
            "number_range",
        ),
        defect(
            "end before start",
            "ended_on",
            Before("started_on"),
            "ended_not_before_started",
        ),
        defect(
            "unknown code",
            "profession_group",
            Text("XXXX"),
            "code_unknown",
        ),
        defect("repeated key", "employment_no", Repeat, "duplicate_key"),
        defect(
            "number beyond its limits",
            "work_time_percent",
            Text("101,00"),
            "number_range",
        ),
        defect(
            "decimal point where a comma is agreed",
            "work_time_percent",
            Point,
            "decimal_separator",
        ),
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
        defect_without(
            "date in the future",
            "started_on",
            Future,
            "date_future",
            "ended_on",
        ),
        defect(
            "identity code with a sign not in use",
            "employee_id",
            HetuSign,
            "hetu_sign",
        ),
        defect("unknown code", "contract_type", Text("Q"), "code_unknown"),
        defect(
            "required value missing",
            "started_on",
            Missing,
            "required_missing",
        ),
    ],
    defects_per_file: 14,
    set_defects: &[SetDefect {
        kind: "second full-time employment beside an open one",
        rule: "work_time_at_most_150_percent",
        suits: &[
            ("ended_on", Suits::Open),
            ("work_time_percent", Suits::OneOf(&["100,00"])),
        ],
        copies: true,
        changes: &[
            ("employment_no", Cell::Prefixed("2-")),
            ("post_no", Cell::Blank),
        ],
        every: 1,
    }],
};

pub(crate) fn write(world: &World<'_>, year: i32, sink: &Sink<'_>) -> Result<(), SynthError> {
    if !sink.is_over(Period::Year(year)) {
        return Ok(());
    }
    let last = day(year, 12, 31);
    let mut file = sink.extract(world.reference, &DATASET, world.county, Period::Year(year))?;
    for employment in world
        .staff
        .employments
        .iter()
        .filter(|employment| overlaps_year(employment.from, employment.to, year))
    {
        let profession = usize::from(employment.profession);
        file.identity_code(&world.people.identity_code(employment.person));
        file.label(
            &format!("P{}-", world.county),
            u64::from(employment.number),
            6,
        );
        file.ascii(world.providers.own_id());
        file.label(UNITS[profession], u64::from(employment.unit), 2);
        file.number(cost_centre(employment.profession, employment.unit));
        file.text(PROFESSIONS[profession]);
        file.text(agreement(employment.profession));
        file.text(employment.contract.code());
        file.date(employment.from);
        file.end_date(employment.to, last);
        if employment.to <= last && employment.to != OPEN {
            file.text(employment.reason);
        } else {
            file.blank();
        }
        file.decimal(i64::from(employment.percent));
        if employment.post == 0 {
            file.blank();
        } else {
            file.label(
                &format!("V{}-", world.county),
                u64::from(employment.post),
                6,
            );
        }
        file.end_row()?;
    }
    sink.finish(file)
}

/// A five-digit cost centre of a profession's unit.
fn cost_centre(profession: u8, unit: u8) -> u64 {
    10_000 + u64::from(profession) * 1_000 + u64::from(unit) * 10
}

/// The collective agreement of a profession.
fn agreement(profession: u8) -> &'static str {
    match profession {
        0 => "LS",
        1 | 2 | 5 => "SOTE",
        3 | 4 => "SOTE",
        7 => "TS",
        _ => "HYVTES",
    }
}
