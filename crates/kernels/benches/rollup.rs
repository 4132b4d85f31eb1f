//! Stored cells merged into values: 300 000 cells of a municipality, a month, a class and a sex become
//! values of municipality, region and country by month, quarter and year, each with and without class
//! and sex, so that a cell counts in 36 values. Sums, distinct persons and histograms.
//!
//! A row is a cell in one of its values; for persons, a member of its set in one, and for histograms, a
//! day of its state in one. `plain_sum` reads the states of the cells once and adds them up, which no
//! kernel can beat, but which merges nothing; `hand_written` is the loop for this one hierarchy, with its
//! values worked out and not looked up, and without checks of numbers, sums or states.

#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

mod support;

use std::hint::black_box;

use arrow::array::{BinaryArray, Int64Array};
use criterion::Criterion;
use tietopohja_kernels::{CellKeys, CellTargets, DayHistogram, Lists, MemberNumbers};

use support::{Figures, Numbers, rows, run};

const MEASURED: usize = 300_000;
const MUNICIPALITIES: usize = 310;
const REGIONS: usize = 23;
const AREAS: usize = MUNICIPALITIES + REGIONS + 1;
const MONTHS: usize = 36;
const PERIODS: usize = MONTHS + MONTHS / 3 + MONTHS / 12;
const CLASSES: usize = 20;
const SEXES: usize = 3;
const COMBINATIONS: usize = (CLASSES + 1) * (SEXES + 1);
const VALUES: usize = AREAS * PERIODS * COMBINATIONS;
/// Areas, periods and combinations of members that a cell counts in.
const OF_EACH: usize = 3 * 3 * 4;
/// Persons who may come in a municipality.
const RESIDENTS: u64 = 1_000;
/// No wait is so long.
const DAYS: usize = 366;

struct Component {
    place: Vec<u32>,
    members: Vec<u32>,
    amounts: Int64Array,
    sets: BinaryArray,
    histograms: BinaryArray,
    /// Persons of all cells, one cell after the other, and where each cell ends.
    persons: Vec<u32>,
    ends: Vec<usize>,
}

/// A pseudonym of 16 bytes, all of them as good as random.
fn pseudonym(person: u32) -> [u8; 16] {
    let mixed = |of: u64| {
        let of = (of ^ of >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let of = (of ^ of >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        of ^ of >> 31
    };
    let first = mixed(u64::from(person) + 0x9e37_79b9_7f4a_7c15);
    (u128::from(first) << 64 | u128::from(mixed(first))).to_be_bytes()
}

/// Cells in order of place and members, each once; few less than asked for.
fn component(cells: usize) -> Component {
    let mut numbers = Numbers::new();
    let mut keys: Vec<(u32, u32)> = (0..cells)
        .map(|_| {
            let rest = numbers.next();
            let place = rest % (MUNICIPALITIES * MONTHS) as u64;
            let members = (rest >> 24) % (CLASSES * SEXES) as u64;
            (place as u32, members as u32)
        })
        .collect();
    keys.sort_unstable();
    keys.dedup();
    let mut c = Component {
        place: keys.iter().map(|key| key.0).collect(),
        members: keys.iter().map(|key| key.1).collect(),
        amounts: Int64Array::from_iter_values(
            (0..keys.len()).map(|_| (numbers.next() % 1_000_000) as i64),
        ),
        sets: BinaryArray::from_vec(vec![]),
        histograms: BinaryArray::from_vec(vec![]),
        persons: Vec::new(),
        ends: Vec::new(),
    };
    let (mut sets, mut histograms): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (vec![], vec![]);
    for (place, _) in &keys {
        let municipality = u64::from(*place) / MONTHS as u64;
        let rows = 1 + numbers.next() % 16;
        let mut persons: Vec<([u8; 16], u32)> = Vec::new();
        let mut histogram = DayHistogram::default();
        for _ in 0..rows {
            let rest = numbers.next();
            let person = (municipality * RESIDENTS + rest % RESIDENTS) as u32;
            persons.push((pseudonym(person), person));
            let wait = (rest >> 20) % DAYS as u64 * ((rest >> 32) % 366) / 366;
            histogram.add_times(wait as i32, 1).unwrap();
        }
        persons.sort_unstable();
        persons.dedup();
        sets.push(persons.iter().flat_map(|(bytes, _)| *bytes).collect());
        histograms.push(histogram.state());
        c.persons.extend(persons.iter().map(|(_, person)| *person));
        c.ends.push(c.persons.len());
    }
    c.sets = BinaryArray::from_iter_values(sets);
    c.histograms = BinaryArray::from_iter_values(histograms);
    c
}

fn areas(municipality: usize) -> [usize; 3] {
    let region = MUNICIPALITIES + municipality % REGIONS;
    [municipality, region, AREAS - 1]
}

fn periods(month: usize) -> [usize; 3] {
    [month, MONTHS + month / 3, MONTHS + MONTHS / 3 + month / 12]
}

fn combinations(members: usize) -> [usize; 4] {
    let (class, sex) = (members / SEXES, members % SEXES);
    let of = |class: usize, sex: usize| class * (SEXES + 1) + sex;
    [
        of(class, sex),
        of(class, SEXES),
        of(CLASSES, sex),
        of(CLASSES, SEXES),
    ]
}

fn targets() -> CellTargets {
    let (mut places, mut members) = (Lists::default(), Lists::default());
    for place in 0..MUNICIPALITIES * MONTHS {
        let periods = periods(place % MONTHS);
        places.push(
            areas(place / MONTHS)
                .into_iter()
                .flat_map(|area| periods.map(|period| (area * PERIODS + period) as u32)),
        );
    }
    for tuple in 0..CLASSES * SEXES {
        members.push(combinations(tuple).map(|combination| combination as u32));
    }
    CellTargets::new(places, members, AREAS * PERIODS, COMBINATIONS).unwrap()
}

impl Component {
    fn keys(&self) -> CellKeys<'_> {
        CellKeys {
            places: &self.place,
            members: &self.members,
        }
    }

    /// Every cell and value it counts in.
    fn each(&self, mut with: impl FnMut(usize, usize)) {
        for (cell, (place, members)) in self.place.iter().zip(&self.members).enumerate() {
            let place = *place as usize;
            let combinations = combinations(*members as usize);
            for area in areas(place / MONTHS) {
                for period in periods(place % MONTHS) {
                    let first = (area * PERIODS + period) * COMBINATIONS;
                    for combination in combinations {
                        with(cell, first + combination);
                    }
                }
            }
        }
    }

    /// The cells of every value, and where those of each value end.
    fn by_value(&self) -> (Vec<u32>, Vec<usize>) {
        let mut ends = vec![0usize; VALUES + 1];
        self.each(|_, value| ends[value + 1] += 1);
        for value in 0..VALUES {
            ends[value + 1] += ends[value];
        }
        let mut laid = vec![0u32; ends[VALUES]];
        // What begins where the one before ends has, when all is laid, come to its own end.
        self.each(|cell, value| {
            laid[ends[value]] = cell as u32;
            ends[value] += 1;
        });
        ends.truncate(VALUES);
        (laid, ends)
    }

    fn persons_of(&self, cell: u32) -> &[u32] {
        let cell = cell as usize;
        let first = if cell == 0 { 0 } else { self.ends[cell - 1] };
        &self.persons[first..self.ends[cell]]
    }
}

fn hand_written_sums(c: &Component) -> Vec<i64> {
    let amounts = c.amounts.values();
    let mut sums = vec![0i64; VALUES];
    c.each(|cell, value| sums[value] += amounts[cell]);
    sums
}

fn hand_written_distinct(c: &Component) -> Vec<i64> {
    let (laid, ends) = c.by_value();
    let mut marks = vec![0u32; MUNICIPALITIES * RESIDENTS as usize];
    let mut first = 0;
    let found = ends.iter().zip(1..).map(|(end, mark)| {
        let mut new = 0;
        for cell in &laid[first..*end] {
            for person in c.persons_of(*cell) {
                let last = &mut marks[*person as usize];
                new += i64::from(*last != mark);
                *last = mark;
            }
        }
        first = *end;
        new
    });
    found.collect()
}

/// The states of all values, one after the other, and where each ends.
fn hand_written_histograms(c: &Component) -> (Vec<u8>, Vec<usize>) {
    let (laid, ends) = c.by_value();
    let mut counts = vec![0u64; DAYS];
    let (mut states, mut state_ends) = (Vec::new(), Vec::with_capacity(VALUES));
    let mut first = 0;
    for end in &ends {
        match &laid[first..*end] {
            [] => {}
            [one] => states.extend_from_slice(c.histograms.value(*one as usize)),
            several => {
                for cell in several {
                    let (days, _) = c.histograms.value(*cell as usize).as_chunks::<12>();
                    for [a, b, c, d, count @ ..] in days {
                        let day = u32::from_le_bytes([*a, *b, *c, *d]);
                        counts[day as usize] += u64::from_le_bytes(*count);
                    }
                }
                for (day, count) in (0u32..).zip(&mut counts) {
                    if *count > 0 {
                        states.extend_from_slice(&day.to_le_bytes());
                        states.extend_from_slice(&count.to_le_bytes());
                        *count = 0;
                    }
                }
            }
        }
        state_ends.push(states.len());
        first = *end;
    }
    (states, state_ends)
}

/// The bytes of a column, four at a time.
fn plain_sum(states: &BinaryArray) -> u64 {
    let (words, _) = states.value_data().as_chunks::<4>();
    let words = words.iter();
    words.map(|word| u64::from(u32::from_le_bytes(*word))).sum()
}

fn main() {
    run(bench);
}

fn bench(criterion: &mut Criterion) {
    let c = component(rows(MEASURED));
    let targets = targets();
    assert_eq!(targets.values(), VALUES);
    let sums = targets.sums(c.keys(), &c.amounts).unwrap();
    assert_eq!(sums.values(), hand_written_sums(&c).as_slice());
    let numbered = MemberNumbers::of(&c.sets).unwrap();
    assert_eq!(numbered.entries(), c.persons.len());
    let distinct = targets.distinct(c.keys(), &numbered, 1).unwrap();
    assert_eq!(distinct.values(), hand_written_distinct(&c).as_slice());
    let histograms = targets.histograms(c.keys(), &c.histograms).unwrap();
    let (states, ends) = hand_written_histograms(&c);
    assert_eq!(histograms.value_data(), states.as_slice());
    let found = histograms.value_offsets().iter().skip(1);
    assert!(found.map(|end| *end as usize).eq(ends));

    let mut figures = Figures::new(criterion, "rollup/sums", c.place.len() * OF_EACH);
    figures.measure("plain_sum", || {
        let c = black_box(&c);
        let keys = c.place.iter().zip(&c.members);
        keys.map(|(place, members)| i64::from(*place) + i64::from(*members))
            .sum::<i64>()
            + c.amounts.values().iter().sum::<i64>()
    });
    figures.measure("hand_written", || hand_written_sums(black_box(&c)));
    figures.measure("sums", || {
        let c = black_box(&c);
        targets.sums(c.keys(), &c.amounts).unwrap()
    });

    drop(figures);
    let mut figures = Figures::new(criterion, "rollup/distinct", c.persons.len() * OF_EACH);
    figures.measure("plain_sum", || plain_sum(black_box(&c.sets)));
    figures.measure("hand_written", || hand_written_distinct(black_box(&c)));
    figures.measure("distinct", || {
        targets
            .distinct(black_box(&c).keys(), &numbered, 1)
            .unwrap()
    });
    figures.measure("number_and_distinct", || {
        let c = black_box(&c);
        let numbered = MemberNumbers::of(&c.sets).unwrap();
        targets.distinct(c.keys(), &numbered, 1).unwrap()
    });
    figures.measure_some("number_members", c.persons.len(), || {
        MemberNumbers::of(black_box(&c.sets)).unwrap()
    });

    drop(figures);
    let days = c.histograms.value_data().len() / 12;
    let mut figures = Figures::new(criterion, "rollup/histograms", days * OF_EACH);
    figures.measure("plain_sum", || plain_sum(black_box(&c.histograms)));
    figures.measure("hand_written", || hand_written_histograms(black_box(&c)));
    figures.measure("histograms", || {
        let c = black_box(&c);
        targets.histograms(c.keys(), &c.histograms).unwrap()
    });
}
