//! The register of posts, by calendar year.

use super::columns;
use crate::days::day;
use crate::defects::Fault::*;
use crate::defects::{defect, defect_without};
use crate::error::SynthError;
use crate::extract::{Dataset, Form};
use crate::sink::{Period, Sink};
use crate::staff::{PROFESSIONS, UNITS, overlaps_year};
use crate::world::World;

static DATASET: Dataset = Dataset {
    name: "hr_post",
    columns: columns![
        post_no "vakanssinumero",
        unit_code "yksikko",
        profession_group "ammattiryhma",
        budgeted_percent "budjetoitu_prosentti",
        valid_from "alkupvm",
        valid_to "loppupvm",
    ],
    form: Form::Latin1,
    defects: &[
        defect(
            "number beyond its limits",
            "budgeted_percent",
            Text("101,00"),
            "number_range",
        ),
        defect("repeated key", "post_no", Repeat, "duplicate_key"),
        defect(
            "decimal point where a comma is agreed",
            "budgeted_percent",
            Point,
            "decimal_separator",
        ),
        defect(
            "unknown code",
            "profession_group",
            Text("XXXX"),
            "code_unknown",
        ),
        defect(
            "end before start",
            "valid_to",
            Before("valid_from"),
            "valid_to_not_before_valid_from",
        ),
        defect(
            "date that does not exist",
            "valid_from",
            NoLeapDay,
            "date_impossible",
        ),
        defect_without(
            "date outside the delivered period",
            "valid_from",
            LaterPeriod,
            "wrong_period",
            "valid_to",
        ),
        defect(
            "required value missing",
            "unit_code",
            Missing,
            "required_missing",
        ),
    ],
    defects_per_file: 8,
    set_defects: &[],
};

pub(crate) fn write(world: &World<'_>, year: i32, sink: &Sink<'_>) -> Result<(), SynthError> {
    if !sink.is_over(Period::Year(year)) {
        return Ok(());
    }
    let last = day(year, 12, 31);
    let mut file = sink.extract(world.reference, &DATASET, world.county, Period::Year(year))?;
    for post in world
        .staff
        .posts
        .iter()
        .filter(|post| overlaps_year(post.from, post.to, year))
    {
        file.label(&format!("V{}-", world.county), u64::from(post.number), 6);
        file.label(UNITS[usize::from(post.profession)], u64::from(post.unit), 2);
        file.text(PROFESSIONS[usize::from(post.profession)]);
        file.decimal(i64::from(post.percent));
        file.date(post.from);
        file.end_date(post.to, last);
        file.end_row()?;
    }
    sink.finish(file)
}
