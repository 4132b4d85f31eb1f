//! Sets of days of persons, by region, service and month of three years: two million spells, as many as
//! there are to twenty million care events, become rows of the months that they reach, and these the set
//! of each cell; then the days of each region and month, by service and together.
//!
//! A row is a month of a spell. `plain_sum` reads what is known of each such row (the number of the person,
//! the days, the cell) and adds it up, which no kernel can beat. `hand_written` is a loop for these cells
//! alone, over rows in order: a place for each person, month and service of a region at a time, where bits
//! are new days; it keeps no sets.

#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

mod support;

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Date32Array, Int32Array, StringArray, StringViewArray, UInt8Array,
};
use criterion::Criterion;
use tietopohja_kernels::{
    CellColumn, CellKeys, CellSpec, CellTargets, Cells, DaysOf, DeliveredMonths, GroupSpec,
    InputColumn, Lists, Reach, SpellRows,
};

use support::{Figures, Numbers, rows, run};

const MEASURED: usize = 2_000_000;
const REGIONS: usize = 22;
const SERVICES: usize = 5;
/// Spells that a person has, on average.
const SPELLS_EACH: usize = 2;
/// 1 January 2023 as days since 1970.
const START: i32 = 19_358;
const LENGTHS: [i32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
const MONTHS: usize = 36;
const BATCH: usize = 8_192;
const PIECE: usize = 1 << 14;

/// First days of the months, and the day after the last.
fn months() -> Vec<i32> {
    let lengths = (0..MONTHS).map(|month| LENGTHS[month % 12] + i32::from(month == 13));
    std::iter::once(START)
        .chain(lengths.scan(START, |day, length| {
            *day += length;
            Some(*day)
        }))
        .collect()
}

/// A spell: region, person, first day, last day, service.
type Spell = (u8, u32, i32, i32, u8);

/// By region and person, or in any order.
fn spells(count: usize, are_sorted: bool) -> Vec<Spell> {
    let mut numbers = Numbers::new();
    let persons = (count / SPELLS_EACH).max(REGIONS);
    let of_region = persons / REGIONS;
    let mut spells: Vec<Spell> = (0..count)
        .map(|_| {
            let rest = numbers.next();
            let person = rest % (of_region * REGIONS) as u64;
            let first = START + ((rest >> 21) % 1_090) as i32;
            let length = (numbers.next() % 136 * (numbers.next() % 2)) as i32;
            let service = (rest >> 40) % SERVICES as u64;
            let region = person / of_region as u64;
            (
                region as u8,
                person as u32,
                first,
                first + length,
                service as u8,
            )
        })
        .collect();
    if are_sorted {
        spells.sort_unstable();
    }
    spells
}

/// Spells as they come from a scan.
struct Batch {
    organisers: StringViewArray,
    first: Date32Array,
    last: Date32Array,
    region: InputColumn,
    service: InputColumn,
    persons: InputColumn,
}

fn batches(spells: &[Spell]) -> Vec<Batch> {
    let words = |count: usize| -> ArrayRef {
        Arc::new(
            (0..count)
                .map(|n| Some(format!("{n:02}")))
                .collect::<StringArray>(),
        )
    };
    let (regions, services) = (words(REGIONS), words(SERVICES));
    let batches = spells.chunks(BATCH).map(|batch| {
        let coded = |of: fn(&Spell) -> u8, values: &ArrayRef| {
            let codes = UInt8Array::from_iter_values(batch.iter().map(of));
            InputColumn::coded(Arc::new(codes), Arc::clone(values)).unwrap()
        };
        let persons = Int32Array::from_iter_values(batch.iter().map(|spell| spell.1 as i32));
        Batch {
            organisers: batch
                .iter()
                .map(|spell| Some(format!("{:02}", spell.0)))
                .collect(),
            first: Date32Array::from_iter_values(batch.iter().map(|spell| spell.2)),
            last: Date32Array::from_iter_values(batch.iter().map(|spell| spell.3)),
            region: coded(|spell| spell.0, &regions),
            service: coded(|spell| spell.4, &services),
            persons: InputColumn::from(Arc::new(persons) as ArrayRef),
        }
    });
    batches.collect()
}

/// The sets of all cells: regions, months and services, and the sets.
fn sets(batches: &[Batch], delivered: &DeliveredMonths) -> (Vec<ArrayRef>, BinaryArray) {
    let spec = CellSpec {
        columns: vec![
            CellColumn::Text,
            CellColumn::Day,
            CellColumn::Text,
            CellColumn::Number(7),
            CellColumn::Whole,
        ],
        keys: vec![vec![0, 1, 2]],
        groups: vec![GroupSpec {
            days: vec![DaysOf {
                member: 3,
                days: 4,
                month: 1,
            }],
            ..GroupSpec::default()
        }],
    };
    let mut cells = Cells::new(spec).unwrap();
    for batch in batches {
        let rows = SpellRows {
            organisers: &batch.organisers,
            first: &batch.first,
            last: &batch.last,
            selection: None,
        };
        let mut reached = delivered.reached(rows, Reach::AnyDay).unwrap();
        while let Some(piece) = reached.next_piece(PIECE) {
            let days: ArrayRef = Arc::new(piece.days_of_month().unwrap());
            let columns = [
                batch.region.take(piece.rows()).unwrap(),
                piece.starts().unwrap(),
                batch.service.take(piece.rows()).unwrap(),
                batch.persons.take(piece.rows()).unwrap(),
                days.into(),
            ];
            cells.update(&columns).unwrap();
        }
    }
    let finished = cells.finish().unwrap();
    let rows = finished.rows(0).unwrap();
    let days = rows.days.first().unwrap();
    (rows.keys.clone(), days.clone())
}

/// Values of region and month, by service and together; places and members of cells.
fn targets(keys: &[ArrayRef]) -> (CellTargets, Vec<u32>, Vec<u32>) {
    use arrow::array::AsArray;
    use arrow::datatypes::Date32Type;
    let starts = months();
    let text = |key: &ArrayRef| -> Vec<u32> {
        let words = key.as_string::<i32>().iter();
        words.map(|word| word.unwrap().parse().unwrap()).collect()
    };
    let (regions, services) = (text(&keys[0]), text(&keys[2]));
    let month = keys[1].as_primitive::<Date32Type>().values().iter();
    let month = month.map(|start| starts.binary_search(start).unwrap() as u32);
    let place = regions
        .iter()
        .zip(month)
        .map(|(region, month)| region * MONTHS as u32 + month);
    let (mut places, mut members) = (Lists::default(), Lists::default());
    (0..(REGIONS * MONTHS) as u32).for_each(|place| places.push([place]));
    (0..SERVICES as u32).for_each(|service| members.push([service, SERVICES as u32]));
    let targets = CellTargets::new(places, members, REGIONS * MONTHS, SERVICES + 1).unwrap();
    (targets, place.collect(), services)
}

/// What is known of each month of a spell: person, days, region, month and service.
fn expanded(spells: &[Spell]) -> Vec<(u32, u32, u8, u8, u8)> {
    let starts = months();
    let mut rows = Vec::new();
    for (region, person, first, last, service) in spells {
        let from = starts.partition_point(|start| start <= first) - 1;
        for month in from..MONTHS {
            if starts[month] > *last {
                break;
            }
            let (first, last) = (
                *first.max(&starts[month]),
                *last.min(&(starts[month + 1] - 1)),
            );
            let (first, last) = (first - starts[month], last - starts[month]);
            let days = (u32::MAX >> (31 - (last - first))) << first;
            rows.push((*person, days, *region, month as u8, *service));
        }
    }
    rows
}

fn hand_written(rows: &[(u32, u32, u8, u8, u8)]) -> Vec<i64> {
    let mut days = vec![0i64; REGIONS * MONTHS * SERVICES];
    let mut seen = vec![0u32; MONTHS * SERVICES];
    for of_person in rows.chunk_by(|a, b| a.0 == b.0) {
        for (_, own, region, month, service) in of_person {
            let place = usize::from(*month) * SERVICES + usize::from(*service);
            let new = own & !seen[place];
            seen[place] |= own;
            days[usize::from(*region) * MONTHS * SERVICES + place] += i64::from(new.count_ones());
        }
        for (_, _, _, month, service) in of_person {
            seen[usize::from(*month) * SERVICES + usize::from(*service)] = 0;
        }
    }
    days
}

fn main() {
    run(measure);
}

fn measure(criterion: &mut Criterion) {
    let count = rows(MEASURED);
    let (in_order, in_any) = (spells(count, true), spells(count, false));
    let starts = months();
    let organisers = (0..REGIONS).flat_map(|region| vec![format!("{region:02}"); MONTHS]);
    let organisers: StringArray = organisers.map(Some).collect();
    let (from, to) = (&starts[..MONTHS], starts[1..].iter().map(|day| day - 1));
    let to: Vec<i32> = to.collect();
    let each = |days: &[i32]| -> Date32Array { days.repeat(REGIONS).into() };
    let delivered = DeliveredMonths::new(&organisers, &each(from), &each(&to)).unwrap();

    let expanded = expanded(&in_order);
    let (in_order, in_any) = (batches(&in_order), batches(&in_any));
    let (keys, states) = sets(&in_order, &delivered);
    let (targets, places, members) = targets(&keys);
    let of_cells = CellKeys {
        places: &places,
        members: &members,
    };
    let counted = |lanes| {
        targets
            .care_days(of_cells, &states, lanes, |_| Ok(()))
            .unwrap()
    };
    let days = counted(2).days;
    let known = hand_written(&expanded);
    for (place, known) in known.iter().enumerate() {
        let value = place / SERVICES * (SERVICES + 1) + place % SERVICES;
        assert_eq!(days.value(value), *known, "{place}");
    }

    let title = format!("sets of days of {count} spells");
    let mut figures = Figures::new(criterion, &title, expanded.len());
    figures.measure("plain_sum", || {
        let rows = black_box(&expanded).iter();
        rows.map(|(person, days, region, month, service)| {
            u64::from(*person ^ *days) + u64::from(*region ^ *month ^ *service)
        })
        .sum::<u64>()
    });
    figures.measure("hand_written, sorted, days alone", || {
        hand_written(black_box(&expanded))
    });
    figures.measure("sets, sorted", || sets(black_box(&in_order), &delivered));
    figures.measure("sets, any order", || sets(black_box(&in_any), &delivered));
    figures.measure("values, one core", || counted(1));
    figures.measure("values, two cores", || counted(2));
}
