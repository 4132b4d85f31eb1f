//! The general ledger: actuals, budget and forecasts by account, cost centre, service class and
//! month. Written of every organiser, so that counties can be compared.
//!
//! The budget of a year is, to the cent, the real budgeted operating expenses
//! (HTAS); the actuals of a year differ from it by a few per cent. A month's
//! file holds the month's actuals, the month's budget, and the forecast made in
//! that month: the whole year by month, actuals up to the month and the rest
//! expected. Debit is positive, credit negative.

use tietopohja_domain::County;

use super::columns;
use super::purchase_invoice_line::price;
use crate::days::{Month, months_of};
use crate::defects::Fault::*;
use crate::defects::defect;
use crate::draw::Draw;
use crate::error::SynthError;
use crate::extract::{Dataset, Extract, Form};
use crate::inputs::Reference;
use crate::population::tag;
use crate::sink::{Period, Sink};

static DATASET: Dataset = Dataset {
    name: "finance_ledger",
    columns: columns![
        account "tili",
        cost_centre "kustannuspaikka",
        service_class "palveluluokka",
        booking_month "kausi",
        scenario "laji",
        version "versio",
        amount "euro",
    ],
    form: Form::Utf8Crlf,
    defects: &[
        defect("unknown code", "account", Text("9999"), "code_unknown"),
        defect(
            "decimal point where a comma is agreed",
            "amount",
            Point,
            "decimal_separator",
        ),
        defect("repeated key", "version", Repeat, "duplicate_key"),
        defect(
            "amount beyond the type",
            "amount",
            Text("1234567890123,00"),
            "number_overflow",
        ),
        defect(
            "month in another form",
            "booking_month",
            Text("2024/01"),
            "month_form",
        ),
        defect(
            "unknown code",
            "service_class",
            Text("9999"),
            "code_unknown",
        ),
        defect(
            "required value missing",
            "amount",
            Missing,
            "required_missing",
        ),
        defect(
            "too many decimals",
            "amount",
            Text("12,345"),
            "decimal_scale",
        ),
        defect(
            "text where a number is expected",
            "amount",
            Text("noin 100"),
            "decimal_form",
        ),
        defect(
            "month outside the delivered period",
            "booking_month",
            EarlierMonth,
            "wrong_period",
        ),
        defect("unknown code", "scenario", Text("X"), "code_unknown"),
    ],
    defects_per_file: 1,
    set_defects: &[],
};

/// Accounts of expenses in the order of [`CLASSES`]' shares.
const EXPENSES: [u16; 9] = [4000, 4110, 4150, 4330, 4350, 4360, 4500, 4700, 4800];
const CLIENT_SERVICES: usize = 3;
const SALES: u16 = 3000;
const FEES: u16 = 3200;
const GRANTS: u16 = 3300;
const OTHER_INCOME: u16 = 3500;
const INTERNAL_INCOME: u16 = 3900;
const INTERNAL_EXPENSES: u16 = 4900;
const DEPRECIATION: u16 = 7000;

/// One service class: per mille of operating expenses, the composition of its expenses by account
/// in per mille, and incomes and depreciation in per mille of its expenses.
struct Class {
    code: u16,
    share: u32,
    accounts: [u32; 9],
    income: &'static [(u16, u32)],
    depreciation: u32,
}

const CLASSES: [Class; 14] = [
    Class {
        code: 1100,
        share: 105,
        accounts: [420, 75, 15, 100, 70, 200, 60, 0, 60],
        income: &[(FEES, 40), (SALES, 20), (GRANTS, 5)],
        depreciation: 10,
    },
    Class {
        code: 1200,
        share: 55,
        accounts: [500, 90, 18, 50, 70, 150, 60, 0, 62],
        income: &[(FEES, 60)],
        depreciation: 12,
    },
    Class {
        code: 1300,
        share: 25,
        accounts: [500, 90, 18, 120, 30, 130, 60, 0, 52],
        income: &[(FEES, 250)],
        depreciation: 10,
    },
    Class {
        code: 1400,
        share: 335,
        accounts: [330, 60, 12, 300, 30, 150, 90, 0, 28],
        income: &[(FEES, 40), (SALES, 40), (OTHER_INCOME, 5)],
        depreciation: 22,
    },
    Class {
        code: 2100,
        share: 35,
        accounts: [500, 90, 18, 200, 50, 90, 5, 20, 27],
        income: &[(GRANTS, 10)],
        depreciation: 0,
    },
    Class {
        code: 2200,
        share: 0,
        accounts: [440, 80, 16, 0, 50, 180, 14, 140, 80],
        income: &[(FEES, 10)],
        depreciation: 2,
    },
    Class {
        code: 2300,
        share: 90,
        accounts: [200, 36, 7, 550, 10, 80, 10, 80, 27],
        income: &[(FEES, 20)],
        depreciation: 3,
    },
    Class {
        code: 2400,
        share: 35,
        accounts: [380, 68, 14, 250, 20, 120, 8, 100, 40],
        income: &[(SALES, 30), (GRANTS, 40)],
        depreciation: 2,
    },
    Class {
        code: 3100,
        share: 75,
        accounts: [520, 94, 19, 170, 50, 90, 15, 0, 42],
        income: &[(FEES, 90)],
        depreciation: 2,
    },
    Class {
        code: 3200,
        share: 0,
        accounts: [610, 110, 22, 0, 60, 110, 30, 0, 58],
        income: &[(FEES, 170)],
        depreciation: 6,
    },
    Class {
        code: 3300,
        share: 15,
        accounts: [520, 90, 20, 120, 40, 120, 30, 0, 60],
        income: &[(FEES, 180)],
        depreciation: 10,
    },
    Class {
        code: 3400,
        share: 10,
        accounts: [150, 30, 5, 250, 0, 50, 5, 500, 10],
        income: &[(FEES, 10)],
        depreciation: 0,
    },
    Class {
        code: 5000,
        share: 25,
        accounts: [600, 110, 20, 0, 0, 120, 50, 0, 100],
        income: &[(SALES, 30)],
        depreciation: 45,
    },
    Class {
        code: 6000,
        share: 40,
        accounts: [400, 70, 15, 0, 20, 350, 20, 0, 125],
        income: &[(OTHER_INCOME, 60), (GRANTS, 20)],
        depreciation: 25,
    },
];

/// Share of the year by month, per mille: pay with the holiday bonus, purchases late in the year.
const PAY_PHASE: [u32; 12] = [82, 79, 81, 81, 82, 98, 88, 78, 80, 81, 81, 89];
const PURCHASE_PHASE: [u32; 12] = [70, 77, 83, 83, 84, 84, 78, 81, 85, 86, 87, 102];

/// Per mille of operating expenses charged between the classes.
const INTERNAL_CHARGES: i128 = 20;

/// An account of a service class with its months in cents, as booked.
#[derive(Clone)]
struct Cell {
    account: u16,
    class: u16,
    months: [i64; 12],
}

pub(crate) fn write(
    reference: &Reference,
    county: County,
    year: i32,
    seed: u64,
    sink: &Sink<'_>,
) -> Result<(), SynthError> {
    let budget = budget_of(reference, county, year);
    let mut draw = Draw::stream(seed, &[tag::LEDGER, county.number() as u64, year as u64]);
    let (actual, bias) = actual_of(&budget, &mut draw);
    for month in months_of(year) {
        if !sink.is_over(Period::Month(month)) {
            continue;
        }
        let mut file = sink.extract(reference, &DATASET, county, Period::Month(month))?;
        let place = month.month as usize - 1;
        for cell in &actual {
            // Own work is booked on two units, purchases on one.
            if cell.account == EXPENSES[CLIENT_SERVICES] || cell.account == EXPENSES[4] {
                row(&mut file, cell, 20, month, "T", "T", cell.months[place])?;
            } else {
                let first = cell.months[place] * 6 / 10;
                row(&mut file, cell, 10, month, "T", "T", first)?;
                row(
                    &mut file,
                    cell,
                    11,
                    month,
                    "T",
                    "T",
                    cell.months[place] - first,
                )?;
            }
        }
        for cell in &budget {
            row(&mut file, cell, 10, month, "TA", "TA", cell.months[place])?;
        }
        // The further the year, the better is what goes wrong with the budget known.
        let learnt =
            bias * (0.3 + 0.7 * f64::from(month.month) / 12.0) + 0.004 * (draw.unit() - 0.5);
        let version = month.number().to_string();
        for (planned, booked) in budget.iter().zip(&actual) {
            for of_year in months_of(year) {
                let at = of_year.month as usize - 1;
                let cents = if at <= place {
                    booked.months[at]
                } else {
                    (planned.months[at] as f64 * (1.0 + learnt)).round() as i64
                };
                row(&mut file, planned, 10, of_year, "E", &version, cents)?;
            }
        }
        sink.finish(file)?;
    }
    Ok(())
}

/// The organiser that sends its ledger before anything is booked.
pub(crate) const EARLY: i32 = 1;

/// The month of which there is a budget and no actuals: the one after the plan's last year.
pub(crate) fn unbooked_month(last_year: i32) -> Month {
    Month::new(last_year + 1, 1)
}

/// A ledger sent too early: the month's budget and the forecast of its year, and nothing booked. It
/// is of a month that no other file is of, so that no number of the plan's years misses anything.
pub(crate) fn write_unbooked(
    reference: &Reference,
    last_year: i32,
    sink: &Sink<'_>,
) -> Result<(), SynthError> {
    let month = unbooked_month(last_year);
    let Some(county) = County::from_number(EARLY) else {
        return Ok(());
    };
    if !sink.is_over(Period::Month(month)) {
        return Ok(());
    }
    let budget = budget_of(reference, county, month.year);
    let mut file = sink.extract(reference, &DATASET, county, Period::Month(month))?;
    let version = month.number().to_string();
    for cell in &budget {
        row(&mut file, cell, 10, month, "TA", "TA", cell.months[0])?;
    }
    for cell in &budget {
        for (of_year, cents) in months_of(month.year).zip(cell.months) {
            row(&mut file, cell, 10, of_year, "E", &version, cents)?;
        }
    }
    file.finding(
        "actuals_have_expenses",
        "month without actual entries",
        Vec::new(),
    );
    sink.finish(file)
}

fn row(
    file: &mut Extract,
    cell: &Cell,
    unit: u64,
    month: Month,
    scenario: &str,
    version: &str,
    cents: i64,
) -> Result<(), SynthError> {
    if cents == 0 {
        return Ok(());
    }
    file.number(u64::from(cell.account));
    file.label("", u64::from(cell.class) * 100 + unit, 6);
    file.number(u64::from(cell.class));
    file.month(month);
    file.text(scenario);
    file.text(version);
    file.decimal(cents);
    file.end_row()
}

/// The budget of a year: expenses add up to the real budget exactly.
fn budget_of(reference: &Reference, county: County, year: i32) -> Vec<Cell> {
    let total = reference.budget_cents(county, year);
    let (own_housing, bought_housing) = housing(reference, county, year);
    let children = bought_placements(reference, county, year);
    // Classes that follow from clients come first; the others share the rest.
    let fixed = own_housing + bought_housing + children * 29 / 20;
    let shares: i128 = CLASSES.iter().map(|class| i128::from(class.share)).sum();

    let mut expenses: Vec<(u16, usize, i64)> = Vec::new();
    for class in &CLASSES {
        let (of_class, bought) = match class.code {
            2200 => (children * 9 / 20, Some(children)),
            3200 => (own_housing, Some(bought_housing)),
            _ => (
                (i128::from(total - fixed) * i128::from(class.share) / shares) as i64,
                None,
            ),
        };
        let weights: i128 = class
            .accounts
            .iter()
            .map(|weight| i128::from(*weight))
            .sum();
        for (place, weight) in class.accounts.iter().enumerate() {
            let cents = match bought {
                Some(bought) if place == CLIENT_SERVICES => bought,
                _ => (i128::from(of_class) * i128::from(*weight) / weights) as i64,
            };
            if cents != 0 {
                expenses.push((class.code, place, cents));
            }
        }
    }
    // Rounding is settled on the first expense, so that the total is exact.
    let rest = total - expenses.iter().map(|(_, _, cents)| cents).sum::<i64>();
    if let Some((_, _, cents)) = expenses.first_mut() {
        *cents += rest;
    }

    let mut cells = Vec::new();
    for (class, place, cents) in &expenses {
        let phase = if *place < CLIENT_SERVICES {
            &PAY_PHASE
        } else {
            &PURCHASE_PHASE
        };
        cells.push(Cell {
            account: EXPENSES[*place],
            class: *class,
            months: phased(*cents, phase),
        });
    }
    let charges = i128::from(total) * INTERNAL_CHARGES / 1_000;
    let mut charged = 0;
    for class in &CLASSES {
        let of_class: i128 = expenses
            .iter()
            .filter(|(code, _, _)| *code == class.code)
            .map(|(_, _, cents)| i128::from(*cents))
            .sum();
        let mut push = |account: u16, cents: i128| {
            if cents != 0 {
                cells.push(Cell {
                    account,
                    class: class.code,
                    months: phased(cents as i64, &[1; 12]),
                });
            }
        };
        for (account, share) in class.income {
            push(*account, -of_class * i128::from(*share) / 1_000);
        }
        push(
            DEPRECIATION,
            of_class * i128::from(class.depreciation) / 1_000,
        );
        if class.code != 6000 {
            let cents = charges * of_class / i128::from(total.max(1));
            charged += cents;
            push(INTERNAL_EXPENSES, cents);
        } else {
            // Administration charges the others: over the county the charges cancel out.
            push(INTERNAL_INCOME, -charged);
        }
    }
    cells.sort_by_key(|cell| (cell.account, cell.class));
    cells
}

/// Own and bought expenses of round-the-clock housing in cents, from the clients to be expected.
fn housing(reference: &Reference, county: County, year: i32) -> (i64, i64) {
    let old = reference.residents_aged(county, year.min(*reference.years().end()), |age| age >= 75)
        as f64;
    let level = 1.0 + 0.03 * f64::from(year - 2024);
    // 7.8 % of people of 75 and over, and a fifth more clients who are younger.
    let days = old * 0.078 * 1.2 * 365.0;
    let own = days * 0.45 * 20_500.0 * level;
    let bought = days * 0.55 * price::HOUSING_DAY * level;
    (own.round() as i64, bought.round() as i64)
}

/// Bought placements of children in cents.
fn bought_placements(reference: &Reference, county: County, year: i32) -> i64 {
    let placed = f64::from(reference.placed_children(county, year));
    let level = 1.0 + 0.03 * f64::from(year - 2024);
    // At a time three quarters of the year's children, under half of them with a bought service.
    (placed * 0.75 * 0.45 * 365.0 * 30_500.0 * level).round() as i64
}

/// Splits cents over the months by weight; the last month takes the rounding.
fn phased(cents: i64, phase: &[u32; 12]) -> [i64; 12] {
    let sum: i128 = phase.iter().map(|weight| i128::from(*weight)).sum();
    let mut months: [i64; 12] =
        std::array::from_fn(|month| (i128::from(cents) * i128::from(phase[month]) / sum) as i64);
    months[11] += cents - months.iter().sum::<i64>();
    months
}

/// What was booked: the budget with the county's bias and noise in every cell. Also gives the bias.
fn actual_of(budget: &[Cell], draw: &mut Draw) -> (Vec<Cell>, f64) {
    let bias = 0.01 + 0.02 * (draw.around_one(1.0) - 1.0);
    let actual = budget
        .iter()
        .map(|cell| {
            // Internal charges cancel out exactly, so they are booked as planned.
            if matches!(cell.account, INTERNAL_INCOME | INTERNAL_EXPENSES) {
                return cell.clone();
            }
            let level = (1.0 + bias) * draw.around_one(0.03);
            Cell {
                months: cell
                    .months
                    .map(|cents| (cents as f64 * level * draw.around_one(0.06)).round() as i64),
                ..*cell
            }
        })
        .collect();
    (actual, bias)
}
