//! Child-welfare notifications, by month of arrival.

use super::columns;
use crate::children::notifications;
use crate::days::months_of;
use crate::defects::Fault::*;
use crate::defects::defect;
use crate::error::SynthError;
use crate::extract::{Dataset, Form};
use crate::sink::{Period, Sink};
use crate::world::World;

static DATASET: Dataset = Dataset {
    name: "child_notification",
    columns: columns![
        notification_no "ilmoitusnumero",
        client_id "henkilotunnus",
        municipality "kotikunta",
        received_on "saapumispvm",
        notifier "ilmoittaja",
        voided "mitatoity",
    ],
    form: Form::Utf8,
    defects: &[
        defect("unknown code", "notifier", Text("88"), "code_unknown"),
        defect(
            "identity code with a wrong control character",
            "client_id",
            HetuControl,
            "hetu_control",
        ),
        defect(
            "date outside the delivered period",
            "received_on",
            EarlierPeriod,
            "wrong_period",
        ),
        defect("repeated key", "notification_no", Repeat, "duplicate_key"),
        defect(
            "municipality that has ended",
            "municipality",
            EndedMunicipality,
            "code_expired",
        ),
        defect(
            "date that does not exist",
            "received_on",
            NoLeapDay,
            "date_impossible",
        ),
        defect(
            "yes or no in another form",
            "voided",
            Text("N"),
            "boolean_form",
        ),
        defect("date in the future", "received_on", Future, "date_future"),
        defect(
            "required value missing",
            "client_id",
            Missing,
            "required_missing",
        ),
        defect(
            "identity code with an impossible birth date",
            "client_id",
            HetuDate,
            "hetu_date",
        ),
    ],
    defects_per_file: 1,
    set_defects: &[],
};

pub(crate) fn write(world: &World<'_>, year: i32, sink: &Sink<'_>) -> Result<(), SynthError> {
    let people = &world.people;
    let all = notifications(people, year);
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
            .filter(|notification| (month.first..=month.last).contains(&notification.on));
        for (number, notification) in (1..).zip(of_month) {
            file.running(world.county.number(), month.number(), number, 5);
            file.identity_code(&people.identity_code(notification.child));
            file.municipality(people.municipality(notification.child, year));
            file.date(notification.on);
            file.number(u64::from(notification.notifier));
            file.flag(notification.voided);
            file.end_row()?;
        }
        sink.finish(file)?;
    }
    Ok(())
}
