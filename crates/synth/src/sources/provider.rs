//! The register of providers, by calendar year. Written of every organiser.

use tietopohja_domain::County;

use super::columns;
use crate::days::day;
use crate::defects::Fault::*;
use crate::defects::{defect, defect_without};
use crate::error::SynthError;
use crate::extract::{Dataset, Form};
use crate::inputs::Reference;
use crate::providers::Providers;
use crate::sink::{Period, Sink};
use crate::staff::overlaps_year;

static DATASET: Dataset = Dataset {
    name: "provider",
    columns: columns![
        provider_business_id "ytunnus",
        name "nimi",
        sector "sektori",
        municipality "kunta",
        valid_from "alkupvm",
        valid_to "loppupvm",
    ],
    form: Form::Utf8,
    defects: &[
        defect(
            "business id with a wrong check digit",
            "provider_business_id",
            CheckDigit,
            "business_id",
        ),
        defect("unknown code", "sector", Text("9"), "code_unknown"),
        defect(
            "repeated key",
            "provider_business_id",
            Repeat,
            "duplicate_key",
        ),
        defect(
            "required value missing",
            "name",
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
            "end before start",
            "valid_to",
            Before("valid_from"),
            "valid_to_not_before_valid_from",
        ),
    ],
    defects_per_file: 1,
    set_defects: &[],
};

pub(crate) fn write(
    reference: &Reference,
    county: County,
    providers: &Providers,
    year: i32,
    sink: &Sink<'_>,
) -> Result<(), SynthError> {
    if !sink.is_over(Period::Year(year)) {
        return Ok(());
    }
    let last = day(year, 12, 31);
    let mut file = sink.extract(reference, &DATASET, county, Period::Year(year))?;
    for provider in providers
        .list()
        .iter()
        .filter(|provider| overlaps_year(provider.from, provider.to, year))
    {
        file.ascii(&provider.id);
        file.text(&provider.name);
        file.number(provider.sector as u64);
        file.municipality(reference.municipality_in(provider.municipality, year));
        file.date(provider.from);
        file.end_date(provider.to, last);
        file.end_row()?;
    }
    sink.finish(file)
}
