//! Invoice lines of purchased services, by month of the service.
//!
//! Every purchased care spell, placement and home-care client gets a line a
//! month: days or visits of the month times the provider's price. The amount is
//! exactly quantity times price.

use super::columns;
use crate::care::Service;
use crate::children::Placement;
use crate::days::{Day, Month, OPEN, months_of};
use crate::defects::Fault::*;
use crate::defects::defect;
use crate::error::SynthError;
use crate::extract::{Dataset, Extract, Form};
use crate::population::tag;
use crate::providers::Mode;
use crate::sink::{Period, Sink};
use crate::sources::homecare_visit::visits;
use crate::world::World;

static DATASET: Dataset = Dataset {
    name: "purchase_invoice_line",
    columns: columns![
        provider_business_id "toimittaja_ytunnus",
        invoice_no "laskunumero",
        line_no "rivi",
        invoiced_on "laskupvm",
        service_code "tuote",
        decision_no "paatosnumero",
        unit "yksikko",
        quantity "maara",
        unit_price "yksikkohinta",
        amount "rivisumma",
        service_month "palvelukausi",
        account "tili",
        cost_centre "kustannuspaikka",
        production_mode "tuotantotapa",
        description "selite",
    ],
    form: Form::Utf8,
    defects: &[
        defect(
            "amount that is not quantity times price",
            "amount",
            WrongProduct,
            "amount_is_quantity_times_price",
        ),
        defect(
            "decimal point where a comma is agreed",
            "unit_price",
            Point,
            "decimal_separator",
        ),
        defect(
            "business id with a wrong check digit",
            "provider_business_id",
            CheckDigit,
            "business_id",
        ),
        defect(
            "amount beyond the type",
            "amount",
            Text("1234567890123,00"),
            "number_overflow",
        ),
        defect("repeated key", "line_no", Repeat, "duplicate_key"),
        defect("unknown code", "service_code", Text("ABC"), "code_unknown"),
        defect("date in the future", "invoiced_on", Future, "date_future"),
        defect(
            "month in another form",
            "service_month",
            Text("2024/01"),
            "month_form",
        ),
        defect(
            "too many decimals",
            "quantity",
            Text("12,345"),
            "decimal_scale",
        ),
        defect("unknown code", "account", Text("9999"), "code_unknown"),
        defect(
            "required value missing",
            "amount",
            Missing,
            "required_missing",
        ),
        defect(
            "text where a number is expected",
            "line_no",
            Text("1a"),
            "integer_form",
        ),
    ],
    defects_per_file: 2,
    set_defects: &[],
};

const MONTHS: [&str; 12] = [
    "tammikuu",
    "helmikuu",
    "maaliskuu",
    "huhtikuu",
    "toukokuu",
    "kesäkuu",
    "heinäkuu",
    "elokuu",
    "syyskuu",
    "lokakuu",
    "marraskuu",
    "joulukuu",
];

/// Prices in cents before the provider's own level.
pub(crate) mod price {
    pub(crate) const HOUSING_DAY: f64 = 17_800.0;
    pub(crate) const INSTITUTION_DAY: f64 = 24_500.0;
    pub(crate) const FAMILY_CARE_DAY: f64 = 9_600.0;
    pub(crate) const HOME_VISIT: f64 = 4_100.0;
    /// By form of placement.
    pub(crate) const CHILD_DAY: [f64; 4] = [10_500.0, 25_500.0, 37_000.0, 8_000.0];
}

/// How prices have moved, with 2024 as 1.
fn price_level(year: i32) -> f64 {
    1.0 + 0.03 * f64::from(year - 2024)
}

/// One line before its invoice is known.
struct Line {
    provider: u16,
    service: &'static str,
    decision: Option<(&'static str, u32)>,
    unit: &'static str,
    /// Whole days or visits.
    quantity: i64,
    /// Cents.
    price: i64,
    cost_centre: &'static str,
    mode: Mode,
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
        let mut lines = lines(world, month);
        lines.sort_by_key(|line| line.provider);
        let mut draw = world.people.stream(tag::INVOICE, &[month.number() as u64]);
        let mut invoices = 0;
        for of_provider in lines.chunk_by(|a, b| a.provider == b.provider) {
            // A provider sends an invoice of at most 200 lines.
            for invoice in of_provider.chunks(200) {
                invoices += 1;
                let invoiced_on = (month.last + draw.between(1, 18)).min(world.today);
                for (number, line) in (1..).zip(invoice) {
                    write_line(
                        world,
                        month,
                        (invoices, number),
                        invoiced_on,
                        line,
                        &mut file,
                    )?;
                }
            }
        }
        sink.finish(file)?;
    }
    Ok(())
}

fn lines(world: &World<'_>, month: Month) -> Vec<Line> {
    let level = price_level(month.year);
    let mut draw = world
        .people
        .stream(tag::INVOICE, &[month.number() as u64, 1]);
    let mut lines = Vec::new();
    let mut push = |lines: &mut Vec<Line>, base: f64, line: Line| {
        let Some(provider) = world.providers.get(line.provider) else {
            return;
        };
        // Prices are agreed to ten cents.
        let price = (base * provider.price * level / 10.0).round() as i64 * 10;
        let decision = line.decision.filter(|_| !draw.chance(0.03));
        // Now and then two days were charged too much, and are credited.
        if draw.chance(0.006) && line.quantity > 2 {
            lines.push(Line {
                quantity: -2,
                price,
                decision,
                ..line
            });
        }
        lines.push(Line {
            price,
            decision,
            ..line
        });
    };
    for spell in world.care.spells.iter().filter(|spell| {
        spell.mode != Mode::Own && spell.from <= month.last && spell.to >= month.first
    }) {
        let (base, unit, quantity, cost_centre) = match spell.service {
            Service::HomeCare => {
                let mut count = 0;
                visits(&world.people, spell, month, |visit| {
                    count += i64::from(visit.realised)
                });
                (price::HOME_VISIT, "KAY", count, "3100-20")
            }
            Service::Housing => (
                price::HOUSING_DAY,
                "VRK",
                i64::from(spell.care_days(month.first, month.last)),
                "3200-20",
            ),
            Service::Institution => (
                price::INSTITUTION_DAY,
                "VRK",
                i64::from(spell.care_days(month.first, month.last)),
                "3300-20",
            ),
            Service::FamilyCare => (
                price::FAMILY_CARE_DAY,
                "VRK",
                i64::from(spell.care_days(month.first, month.last)),
                "3400-20",
            ),
        };
        if quantity > 0 {
            let line = Line {
                provider: spell.provider,
                service: spell.service.code(),
                decision: Some(("J", spell.number)),
                unit,
                quantity,
                price: 0,
                cost_centre,
                mode: spell.mode,
            };
            push(&mut lines, base, line);
        }
    }
    for placement in world
        .placements
        .iter()
        .filter(|placement| placement.mode != Mode::Own)
    {
        let quantity = days_in(placement, month.first, month.last);
        if quantity > 0 {
            let base = price::CHILD_DAY[usize::from(placement.form - 1) % 4];
            let line = Line {
                provider: placement.provider,
                service: "LSS",
                decision: Some(("SIJ", placement.number)),
                unit: "VRK",
                quantity,
                price: 0,
                cost_centre: "2200-20",
                mode: placement.mode,
            };
            push(&mut lines, base, line);
        }
    }
    lines
}

fn days_in(placement: &Placement, first: Day, last: Day) -> i64 {
    let end = if placement.to == OPEN {
        OPEN
    } else {
        placement.to
    };
    i64::from((end.min(last + 1) - placement.from.max(first)).max(0))
}

fn write_line(
    world: &World<'_>,
    month: Month,
    (invoice, number): (u64, u64),
    invoiced_on: Day,
    line: &Line,
    file: &mut Extract,
) -> Result<(), SynthError> {
    let Some(provider) = world.providers.get(line.provider) else {
        return Ok(());
    };
    file.ascii(&provider.id);
    file.running(world.county.number(), month.number(), invoice, 5);
    file.number(number);
    file.date(invoiced_on);
    file.text(line.service);
    match line.decision {
        Some((prefix, decision)) => file.label(
            &format!("{prefix}{}-", world.county),
            u64::from(decision),
            if prefix == "J" { 7 } else { 6 },
        ),
        None => file.blank(),
    }
    file.text(line.unit);
    file.decimal(line.quantity * 100);
    file.decimal(line.price);
    file.decimal(line.quantity * line.price);
    file.month(month);
    file.text("4330");
    file.text(line.cost_centre);
    file.number(line.mode as u64);
    let what = match line.service {
        "YPA" => "Ympärivuorokautinen palveluasuminen",
        "LAI" => "Laitospalvelu",
        "PHO" => "Perhehoito",
        "KOT" => "Kotihoidon käynnit",
        _ => "Lastensuojelun sijaishuolto",
    };
    if line.quantity < 0 {
        file.text(&format!(
            "Hyvitys: {what}, {} {}",
            MONTHS[month.month as usize - 1],
            month.year
        ));
    } else {
        file.text(&format!(
            "{what}, {} {}",
            MONTHS[month.month as usize - 1],
            month.year
        ));
    }
    file.end_row()
}
