//! Sixty groupings of the same rows, ten classes by six measures, one of them distinct persons: in
//! one pass by way of fine cells, and one grouping after the other. `plain_sum` reads the same columns
//! and adds them up, which no kernel can beat. Rows lie by month and person, as facts are stored.
//! Persons are numbers of a list, as stored relations have them; `sixty_by_pseudonym` is the same with
//! the pseudonyms themselves, as relations that are not stored give them. `of_codes` says that days and
//! filters come as codes too, as the files of stored relations hold them.

#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::thread;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, DictionaryArray, Int32Array,
    Int64Array, PrimitiveArray, StringArray,
};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{ArrowDictionaryKeyType, Int32Type, Int64Type, UInt8Type, UInt16Type};
use criterion::Criterion;
use tietopohja_kernels::{CellColumn, CellSpec, Cells, GroupSpec, InputColumn};

use support::{Figures, Numbers, rows, run};

/// As in the shipped program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MEASURED: usize = 20_000_000;
const BATCH: usize = 16_384;
const AREAS: u64 = 310;
const CLASSES: u64 = 40;
const MONTHS: usize = 60;
/// More than the rows of a month pass through.
const PERSONS: u64 = 1_000_000;
/// 1 January 2020 as days since 1970.
const START: i32 = 18_262;

const COLUMNS: [CellColumn; 7] = [
    CellColumn::Text,
    CellColumn::Month,
    CellColumn::TextOr("unknown"),
    CellColumn::Whole,
    CellColumn::Whole,
    CellColumn::Number(1),
    CellColumn::Filter,
];

fn coded(keys: Vec<i32>, values: &Arc<StringArray>) -> ArrayRef {
    let values = Arc::clone(values) as ArrayRef;
    Arc::new(DictionaryArray::<Int32Type>::new(
        Int32Array::from(keys),
        values,
    ))
}

/// Codes as files hold them.
fn narrow<K: ArrowDictionaryKeyType>(keys: Vec<K::Native>, values: &ArrayRef) -> ArrayRef {
    let keys = PrimitiveArray::<K>::new(keys.into(), None);
    Arc::new(DictionaryArray::new(keys, Arc::clone(values)))
}

fn texts(count: u64) -> Arc<StringArray> {
    Arc::new((0..count).map(|n| Some(format!("{n:03}"))).collect())
}

/// The place of the persons.
const PERSON: usize = 5;

/// Batches of area, day, sex, cost, minutes, person, own production, and ten classes. Then the same with
/// pseudonyms in place of the persons' numbers, and with all keys and filters as codes.
fn batches(rows: usize) -> [Vec<Vec<ArrayRef>>; 3] {
    let (areas, sexes) = (texts(AREAS), texts(3));
    let mut numbers = Numbers::new();
    let (mut last_month, mut person) = (0, 0u64);
    let (mut made, mut by_pseudonym, mut of_codes) = (Vec::new(), Vec::new(), Vec::new());
    let [all_areas, all_sexes] = [&areas, &sexes].map(|texts| Arc::clone(texts) as ArrayRef);
    let days = START..START + MONTHS as i32 * 30 + 28;
    let days: ArrayRef = Arc::new(Date32Array::from_iter_values(days));
    let own_or_not: ArrayRef = Arc::new(BooleanArray::from(vec![false, true]));
    let of_class = |group: usize| (0..CLASSES as usize).map(move |class| class % 10 == group);
    let of_class = |group| BooleanArray::from(of_class(group).collect::<Vec<_>>());
    let of_classes: Vec<ArrayRef> = (0..10)
        .map(|group| Arc::new(of_class(group)) as _)
        .collect();
    let mut first = 0;
    while first < rows {
        let length = BATCH.min(rows - first);
        let mut column: [Vec<i32>; 4] = Default::default();
        let (mut cost, mut minutes, mut persons) = (Vec::new(), Vec::new(), Vec::new());
        let (mut own, mut class, mut person_numbers) = (Vec::new(), Vec::new(), Vec::new());
        for row in first..first + length {
            let draw = numbers.next();
            let month = row * MONTHS / rows;
            if month != last_month {
                (last_month, person) = (month, 0);
            }
            if draw % 4 == 0 {
                person = (person + 1 + (draw >> 8) % 16) % PERSONS;
            }
            let of_person = person.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11;
            let share = of_person % 1_000;
            column[0].push((share * share * AREAS / 1_000_000) as i32);
            column[1].push(START + month as i32 * 30 + (draw >> 24) as i32 % 28);
            column[2].push(((of_person >> 12) % 3) as i32);
            cost.push(((draw >> 16) % 50_000) as i64);
            minutes.push(((draw >> 20) % 240) as i64);
            let member = u128::from(of_person) << 70 | u128::from(person);
            persons.push(member.to_be_bytes());
            person_numbers.push(person as i32);
            own.push(draw >> 40 & 3 != 0);
            class.push((of_person >> 20) % 8 * 5 + (draw >> 36) % 5);
        }
        let [area, day, sex, _] = column;
        let codes = |of: &[i32]| of.iter().map(|code| *code as u16).collect::<Vec<_>>();
        let since_start: Vec<i32> = day.iter().map(|day| day - START).collect();
        let mut coded_batch = vec![
            narrow::<UInt16Type>(codes(&area), &all_areas),
            narrow::<UInt16Type>(codes(&since_start), &days),
            narrow::<UInt8Type>(sex.iter().map(|sex| *sex as u8).collect(), &all_sexes),
            Arc::new(Int64Array::from(cost.clone())),
            Arc::new(Int64Array::from(minutes.clone())),
            Arc::new(Int32Array::from(person_numbers.clone())),
            narrow::<UInt8Type>(own.iter().map(|own| u8::from(*own)).collect(), &own_or_not),
        ];
        let classes = class.iter().map(|class| *class as u8).collect();
        let classes = narrow::<UInt8Type>(classes, &of_classes[0]);
        let classes = classes.as_any_dictionary();
        let filters = of_classes.iter();
        coded_batch.extend(filters.map(|of_class| classes.with_values(Arc::clone(of_class))));
        of_codes.push(coded_batch);
        let mut batch: Vec<ArrayRef> = vec![
            coded(area, &areas),
            Arc::new(Date32Array::from(day)),
            coded(sex, &sexes),
            Arc::new(Int64Array::from(cost)),
            Arc::new(Int64Array::from(minutes)),
            Arc::new(Int32Array::from(person_numbers)),
            Arc::new(BooleanArray::from(own)),
        ];
        for group in 0..10 {
            let of_group = BooleanBuffer::collect_bool(length, |row| class[row] % 10 == group);
            batch.push(Arc::new(BooleanArray::new(of_group, None)));
        }
        let mut pseudonyms = batch.clone();
        pseudonyms[PERSON] = Arc::new(BinaryArray::from_iter_values(persons));
        by_pseudonym.push(pseudonyms);
        made.push(batch);
        first += length;
    }
    [made, by_pseudonym, of_codes]
}

fn groups() -> Vec<GroupSpec> {
    let mut groups = Vec::new();
    for class in 0..10 {
        let of_class = COLUMNS.len() + class;
        let group = |filters: Vec<usize>, sums: Vec<usize>, sets: Vec<usize>| GroupSpec {
            key: 0,
            filters,
            sums,
            sets,
            ..GroupSpec::default()
        };
        groups.push(group(vec![of_class], vec![], vec![]));
        groups.push(group(vec![of_class], vec![3], vec![]));
        groups.push(group(vec![of_class], vec![4], vec![]));
        groups.push(group(vec![6, of_class], vec![], vec![]));
        groups.push(group(vec![6, of_class], vec![3], vec![]));
        groups.push(group(vec![of_class], vec![], vec![5]));
    }
    groups
}

fn spec(groups: &[GroupSpec], batches: &[Vec<ArrayRef>]) -> CellSpec {
    let classes = std::iter::repeat_n(CellColumn::Filter, 10);
    let mut columns: Vec<CellColumn> = COLUMNS.into_iter().chain(classes).collect();
    if batches[0][PERSON].as_binary_opt::<i32>().is_some() {
        columns[PERSON] = CellColumn::Member;
    }
    CellSpec {
        columns,
        keys: vec![vec![0, 1, 2]],
        groups: groups.to_vec(),
    }
}

fn scanned(batches: &[Vec<ArrayRef>], groups: &[GroupSpec]) -> Cells {
    let mut cells = Cells::new(spec(groups, batches)).unwrap();
    for batch in batches {
        cells.update(&InputColumn::of_arrays(batch)).unwrap();
    }
    cells
}

/// Rows, their sums, and members of sets, over all cells of each group.
fn totals(cells: Cells, groups: usize) -> Vec<[i64; 3]> {
    let cells = cells.finish().unwrap();
    (0..groups)
        .map(|group| {
            let rows = cells.rows(group).unwrap();
            let counts: i64 = rows.counts.values().iter().sum();
            let sums: i64 = rows
                .sums
                .iter()
                .flat_map(|sums| sums.iter().flatten())
                .sum();
            let members: usize = rows.sets.iter().map(|sets| sets.entries()).sum();
            [counts, sums, members as i64]
        })
        .collect()
}

fn plain_sum(batches: &[Vec<ArrayRef>]) -> i64 {
    let mut sum = 0i64;
    for batch in batches {
        for place in [0, 2] {
            let keys = batch[place].as_dictionary::<Int32Type>().keys();
            sum += keys.values().iter().map(|key| i64::from(*key)).sum::<i64>();
        }
        for place in [3, 4] {
            let amounts = batch[place].as_primitive::<Int64Type>();
            sum += amounts.values().iter().sum::<i64>();
        }
        let persons = batch[PERSON].as_primitive::<Int32Type>().values();
        sum += persons.iter().map(|person| i64::from(*person)).sum::<i64>();
        for filter in &batch[6..] {
            sum += filter.as_boolean().true_count() as i64;
        }
    }
    sum
}

/// Cells of all groups, half of the rows and half of the groups on each core.
fn on_two_cores(batches: &[Vec<ArrayRef>], groups: &[GroupSpec]) -> usize {
    thread::scope(|scope| {
        let (first, second) = batches.split_at(batches.len() / 2);
        let first = scope.spawn(|| scanned(first, groups));
        let second = scanned(second, groups);
        let mut cells = first.join().unwrap();
        cells.merge(second).unwrap();
        let cells = cells.finish().unwrap();
        let lane = |lane: usize| {
            let own = (lane..groups.len()).step_by(2);
            own.map(|group| cells.rows(group).unwrap().counts.len())
                .sum::<usize>()
        };
        thread::scope(|scope| {
            let other = scope.spawn(|| lane(1));
            lane(0) + other.join().unwrap()
        })
    })
}

fn main() {
    run(bench);
}

fn bench(criterion: &mut Criterion) {
    let rows = rows(MEASURED);
    let [batches, by_pseudonym, of_codes] = batches(rows);
    let groups = groups();
    let together = totals(scanned(&batches, &groups), groups.len());
    let pseudonyms = totals(scanned(&by_pseudonym, &groups), groups.len());
    assert_eq!(pseudonyms, together);
    assert_eq!(totals(scanned(&of_codes, &groups), groups.len()), together);
    for (group, found) in groups.iter().zip(&together) {
        let alone = std::slice::from_ref(group);
        assert_eq!(totals(scanned(&batches, alone), 1), [*found]);
    }
    let mut figures = Figures::new(criterion, "shared_scan", rows);
    figures.measure("plain_sum", || plain_sum(black_box(&batches)));
    figures.measure("sixty_in_one_pass", || {
        totals(scanned(black_box(&batches), &groups), groups.len())
    });
    figures.measure("sixty_of_codes", || {
        totals(scanned(black_box(&of_codes), &groups), groups.len())
    });
    figures.measure("sixty_of_codes_two_cores", || {
        on_two_cores(&of_codes, &groups)
    });
    figures.measure("sixty_in_one_pass_two_cores", || {
        on_two_cores(&batches, &groups)
    });
    let without: Vec<GroupSpec> = groups
        .iter()
        .filter(|group| group.sets.is_empty())
        .cloned()
        .collect();
    figures.measure("fifty_without_sets_in_one_pass", || {
        totals(scanned(black_box(&batches), &without), without.len())
    });
    figures.measure("fifty_of_codes_without_sets", || {
        totals(scanned(black_box(&of_codes), &without), without.len())
    });
    figures.measure("sixty_by_pseudonym", || {
        totals(scanned(black_box(&by_pseudonym), &groups), groups.len())
    });
    // Sixty passes: a tenth of the rows is enough.
    let (some, _) = batches.split_at(batches.len().div_ceil(10));
    figures.measure_some("one_after_the_other", rows / 10, || {
        groups
            .iter()
            .map(|group| totals(scanned(some, std::slice::from_ref(group)), 1))
            .collect::<Vec<_>>()
    });
}
