//! Absences of personnel, cut at month ends, by month.

use super::columns;
use crate::days::months_of;
use crate::defects::Fault::*;
use crate::defects::defect;
use crate::error::SynthError;
use crate::extract::{Dataset, Form};
use crate::set_defects::{Cell, SetDefect, Suits};
use crate::sink::{Period, Sink};
use crate::world::World;

static DATASET: Dataset = Dataset {
    name: "hr_absence",
    columns: columns![
        employee_id "henkilotunnus",
        employment_no "palvelussuhdenumero",
        absence_class "laji",
        started_on "alkupvm",
        ended_on "loppupvm",
        pay_percent "palkallisuus_prosentti",
    ],
    form: Form::Latin1,
    defects: &[
        defect("unknown code", "absence_class", Text("ZZ"), "code_unknown"),
        defect(
            "end before start",
            "ended_on",
            Before("started_on"),
            "ended_not_before_started",
        ),
        defect(
            "identity code with a wrong control character",
            "employee_id",
            HetuControl,
            "hetu_control",
        ),
        defect("repeated key", "started_on", Repeat, "duplicate_key"),
        defect(
            "number beyond its limits",
            "pay_percent",
            Text("101,00"),
            "number_range",
        ),
        defect(
            "date outside the delivered period",
            "started_on",
            EarlierPeriod,
            "wrong_period",
        ),
        defect(
            "decimal point where a comma is agreed",
            "pay_percent",
            Point,
            "decimal_separator",
        ),
        defect(
            "date that does not exist",
            "started_on",
            NoLeapDay,
            "date_impossible",
        ),
        defect(
            "date in another form",
            "ended_on",
            Text("2024/05/02"),
            "date_form",
        ),
        defect(
            "required value missing",
            "ended_on",
            Missing,
            "required_missing",
        ),
        defect(
            "identity code too short",
            "employee_id",
            HetuForm,
            "hetu_form",
        ),
        defect(
            "text where a number is expected",
            "pay_percent",
            Text("kokonaan"),
            "decimal_form",
        ),
    ],
    defects_per_file: 2,
    set_defects: &[SetDefect {
        kind: "absence beside another of the same days",
        rule: "one_absence_a_day",
        suits: &[("absence_class", Suits::Not("MU"))],
        copies: true,
        changes: &[("absence_class", Cell::Text("MU"))],
        every: 3,
    }],
};

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
        let place = month.index() - world.first_year * 12;
        for absence in usize::try_from(place)
            .ok()
            .and_then(|place| world.absences.get(place))
            .into_iter()
            .flatten()
        {
            let employment = &world.staff.employments[absence.employment as usize];
            file.identity_code(&world.people.identity_code(employment.person));
            file.label(
                &format!("P{}-", world.county),
                u64::from(employment.number),
                6,
            );
            file.text(absence.class.code());
            file.date(month.first + i32::from(absence.from) - 1);
            file.date(month.first + i32::from(absence.to) - 1);
            file.decimal(i64::from(absence.pay));
            file.end_row()?;
        }
        sink.finish(file)?;
    }
    Ok(())
}
