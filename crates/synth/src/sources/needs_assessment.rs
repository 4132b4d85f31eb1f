//! Matters in which the need of social services is assessed, by month of initiation.

use super::columns;
use crate::children::matters;
use crate::days::months_of;
use crate::defects::Fault::*;
use crate::defects::{defect, defect_without};
use crate::error::SynthError;
use crate::extract::{Dataset, Form};
use crate::sink::{Period, Sink};
use crate::world::World;

static DATASET: Dataset = Dataset {
    name: "needs_assessment",
    columns: columns![
        matter_no "asianumero",
        client_id "henkilotunnus",
        municipality "kotikunta",
        service_task "palvelutehtava",
        initiated_on "vireilletulopvm",
        started_on "arviointi_alkoi",
        completed_on "arviointi_valmis",
        urgent "kiireellinen",
        unit_code "yksikko",
    ],
    form: Form::Utf8,
    defects: &[
        defect(
            "end before start",
            "completed_on",
            Before("started_on"),
            "completed_not_before_started",
        ),
        defect("unknown code", "service_task", Text("9"), "code_unknown"),
        defect("repeated key", "matter_no", Repeat, "duplicate_key"),
        defect(
            "identity code with a wrong control character",
            "client_id",
            HetuControl,
            "hetu_control",
        ),
        defect("date in the future", "completed_on", Future, "date_future"),
        defect(
            "municipality that has ended",
            "municipality",
            EndedMunicipality,
            "code_expired",
        ),
        defect_without(
            "end before start",
            "started_on",
            Before("initiated_on"),
            "started_not_before_initiated",
            "completed_on",
        ),
        defect(
            "date outside the delivered period",
            "initiated_on",
            EarlierPeriod,
            "wrong_period",
        ),
        defect(
            "date that does not exist",
            "initiated_on",
            NoLeapDay,
            "date_impossible",
        ),
        defect(
            "required value missing",
            "initiated_on",
            Missing,
            "required_missing",
        ),
    ],
    defects_per_file: 1,
    set_defects: &[],
};

pub(crate) fn write(world: &World<'_>, year: i32, sink: &Sink<'_>) -> Result<(), SynthError> {
    let people = &world.people;
    let all = matters(people, year, world.today);
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
        let of_month = all
            .iter()
            .filter(|matter| (month.first..=month.last).contains(&matter.initiated));
        for (number, matter) in (1..).zip(of_month) {
            file.running(world.county.number(), month.number(), number, 5);
            file.identity_code(&people.identity_code(matter.person));
            file.municipality(people.municipality(matter.person, year));
            file.number(u64::from(matter.task));
            file.date(matter.initiated);
            file.maybe_date(matter.started);
            file.maybe_date(matter.completed);
            file.flag(matter.urgent);
            file.label("SOSIAALIASEMA-", u64::from(matter.unit), 2);
            file.end_row()?;
        }
        sink.finish(file)?;
    }
    Ok(())
}
