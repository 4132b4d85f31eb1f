//! The people of one county: who lives there when, and under which artificial identity code.
//!
//! Every source of a county draws its people from here, so that a client in
//! one extract is the same person in another. On each 31.12. the residents of
//! every municipality agree with the reference population by sex and age group.
//! What happens to people belongs to the other modules; here are only birth,
//! residence and code.
//!
//! Codes: a birth date and sex has 50 artificial individual numbers (900–999 of
//! one parity) under each of the six signs of its century, 300 codes in the
//! country. Every county owns a fixed share of the 300 by its residents, so that
//! codes are distinct in the country without counties knowing of each other.

use jiff::civil::Date;
use tietopohja_domain::{County, Hetu};

use crate::days::{Day, OPEN, civil, day};
use crate::draw::{Draw, latent};
use crate::error::SynthError;
use crate::inputs::{OLDEST, Reference};

/// Codes per birth date and sex.
const CODES: u64 = 300;
/// The individual numbers of one parity under one sign.
const PER_SIGN: u32 = 50;
const SIGNS_1900: [u8; 6] = *b"-UVWXY";
const SIGNS_2000: [u8; 6] = *b"ABCDEF";
/// Nobody is born before this year.
const FIRST_YEAR: i32 = 1910;
/// First ages of the groups that are kept in step with the reference; newborns are their own group.
const GROUPS: [usize; 6] = [1, 15, 18, 65, 75, 85];

/// One resident. Dates are [`Day`]s in 16 bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Person {
    birth: u16,
    from: u16,
    to: u16,
    municipality: u8,
    sex: u8,
    slot: u8,
}

impl Person {
    pub(crate) fn birth(&self) -> Day {
        Day::from(self.birth)
    }

    /// The first day of residence; 0 for people who lived here before the plan's first year.
    pub(crate) fn from(&self) -> Day {
        Day::from(self.from)
    }

    /// The first day after residence (death or move), or [`OPEN`].
    pub(crate) fn to(&self) -> Day {
        Day::from(self.to)
    }

    /// 0 female, 1 male.
    pub(crate) fn sex(&self) -> u8 {
        self.sex
    }

    pub(crate) fn lives_here_on(&self, on: Day) -> bool {
        self.from() <= on && on < self.to() && self.birth() <= on
    }

    /// Age reached in the calendar year, which is the age on 31.12.
    pub(crate) fn age_in(&self, year: i32) -> i32 {
        year - civil(self.birth()).0
    }
}

/// The people of one county over the plan's years.
#[derive(Debug)]
pub(crate) struct People {
    pub(crate) county: County,
    /// Municipality codes of the 2022 division, by [`Person::municipality`].
    municipalities: Vec<u16>,
    /// The code that has replaced each from the year on, when it has ended.
    successors: Vec<(u16, i32)>,
    persons: Vec<Person>,
    first_slot: u32,
    seed: u64,
}

impl People {
    /// The people of a county from 31.12. before the first year to 31.12. of the last year.
    pub(crate) fn build(
        reference: &Reference,
        county: County,
        first_year: i32,
        last_year: i32,
        seed: u64,
    ) -> Result<People, SynthError> {
        let (first_slot, slots) = slots_of(reference, county);
        let mut codes = Codes {
            county,
            slots,
            used: Vec::new(),
        };
        let mut draw = Draw::stream(seed, &[tag::POPULATION, county.number() as u64]);
        let municipalities = reference.municipalities(county).to_vec();
        let mut persons = Vec::new();
        // The living of each municipality and sex, as places in `persons`.
        let mut living: Vec<Vec<u32>> = vec![Vec::new(); municipalities.len() * 2];

        for (m, code) in municipalities.iter().enumerate() {
            let target = reference.people(*code, first_year - 1);
            for sex in 0..2 {
                for age in 0..=OLDEST {
                    for _ in 0..target[sex][age] {
                        let age = if age == OLDEST {
                            age as i32 - 1 + draw.geometric(0.4, 6) as i32
                        } else {
                            age as i32
                        };
                        let person =
                            codes.newcomer(first_year - 1 - age, m as u8, sex as u8, &mut draw)?;
                        living[m * 2 + sex].push(persons.len() as u32);
                        persons.push(Person { from: 0, ..person });
                    }
                }
            }
        }
        for year in first_year..=last_year {
            for (m, code) in municipalities.iter().enumerate() {
                let target = reference.people(*code, year);
                for sex in 0..2 {
                    let here = &mut living[m * 2 + sex];
                    one_year(
                        &mut persons,
                        here,
                        &target[sex],
                        year,
                        (m as u8, sex as u8),
                        &mut codes,
                        &mut draw,
                    )?;
                }
            }
        }
        let successors = municipalities
            .iter()
            .map(|code| {
                let ended = (first_year..=last_year)
                    .find(|year| reference.municipality_in(*code, *year) != *code);
                ended.map_or((*code, i32::MAX), |year| {
                    (reference.municipality_in(*code, year), year)
                })
            })
            .collect();
        Ok(People {
            county,
            municipalities,
            successors,
            persons,
            first_slot,
            seed,
        })
    }

    pub(crate) fn len(&self) -> u32 {
        self.persons.len() as u32
    }

    pub(crate) fn person(&self, id: u32) -> &Person {
        &self.persons[id as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Person)> {
        (0u32..).zip(&self.persons)
    }

    /// The person's municipality, by the division of a year.
    pub(crate) fn municipality(&self, id: u32, year: i32) -> u16 {
        let place = usize::from(self.person(id).municipality);
        match self.successors[place] {
            (successor, from) if year >= from => successor,
            _ => self.municipalities[place],
        }
    }

    /// The person's artificial identity code.
    pub(crate) fn identity_code(&self, id: u32) -> [u8; 11] {
        let person = self.person(id);
        let slot = self.first_slot + u32::from(person.slot);
        let (year, month, day_of_month) = civil(person.birth());
        let signs = if year < 2000 { SIGNS_1900 } else { SIGNS_2000 };
        let sign = signs[(slot / PER_SIGN) as usize % signs.len()];
        let individual = 900 + 2 * (slot % PER_SIGN) as u16 + u16::from(person.sex);
        Date::new(year as i16, month as i8, day_of_month as i8)
            .ok()
            .and_then(|date| Hetu::compose(date, individual, Some(char::from(sign))).ok())
            .map_or([b'0'; 11], |hetu| *hetu.canonical())
    }

    /// A number in 0..1 that belongs to the person and the purpose.
    pub(crate) fn latent(&self, id: u32, purpose: u64) -> f64 {
        latent(
            self.seed,
            &[purpose, self.county.number() as u64, u64::from(id)],
        )
    }

    /// A stream that belongs to the county and the named thing.
    pub(crate) fn stream(&self, purpose: u64, parts: &[u64]) -> Draw {
        let mut name = vec![purpose, self.county.number() as u64];
        name.extend_from_slice(parts);
        Draw::stream(self.seed, &name)
    }

    /// A factor around 1 that makes counties differ from each other.
    pub(crate) fn county_factor(&self, purpose: u64, spread: f64) -> f64 {
        self.stream(purpose, &[u64::MAX]).around_one(spread)
    }
}

/// What streams and latent numbers are for. A number is never used twice.
pub(crate) mod tag {
    pub(crate) const POPULATION: u64 = 1;
    pub(crate) const CARE_NEED: u64 = 2;
    pub(crate) const CARE_SPELL: u64 = 3;
    pub(crate) const INFORMAL_CARE: u64 = 4;
    pub(crate) const HOME_VISITS: u64 = 5;
    pub(crate) const CHILD_RISK: u64 = 6;
    pub(crate) const NOTIFICATION: u64 = 7;
    pub(crate) const ASSESSMENT: u64 = 8;
    pub(crate) const PLACEMENT: u64 = 9;
    pub(crate) const FRAILTY: u64 = 10;
    pub(crate) const PRIMARY_CARE: u64 = 11;
    pub(crate) const REFERRAL: u64 = 12;
    pub(crate) const STAFF: u64 = 13;
    pub(crate) const ABSENCE: u64 = 14;
    pub(crate) const PROVIDER: u64 = 15;
    pub(crate) const INVOICE: u64 = 16;
    pub(crate) const LEDGER: u64 = 17;
    pub(crate) const DEFECT: u64 = 18;
    pub(crate) const WAITING: u64 = 19;
    pub(crate) const BENCH: u64 = 21;
}

/// Lets one year pass for the people of one municipality and sex.
fn one_year(
    persons: &mut Vec<Person>,
    living: &mut Vec<u32>,
    target: &[u32; OLDEST + 1],
    year: i32,
    (municipality, sex): (u8, u8),
    codes: &mut Codes,
    draw: &mut Draw,
) -> Result<(), SynthError> {
    let (first, last) = (day(year, 1, 1), day(year, 12, 31));
    living.retain(|id| {
        let person = &mut persons[*id as usize];
        let lives = !draw.chance(mortality(person.age_in(year), sex));
        if !lives {
            // Nobody moves in and dies in the same year: the living lived here on 1.1.
            person.to = draw.day(first, last) as u16;
        }
        lives
    });
    for _ in 0..target[0] {
        let person = codes.newcomer(year, municipality, sex, draw)?;
        living.push(persons.len() as u32);
        persons.push(Person {
            from: person.birth,
            ..person
        });
    }
    let mut here = [0u32; GROUPS.len()];
    for id in living.iter() {
        if let Some(group) = group_of(persons[*id as usize].age_in(year)) {
            here[group] += 1;
        }
    }
    let ages = |group: usize| GROUPS[group]..GROUPS.get(group + 1).copied().unwrap_or(OLDEST + 1);
    let wanted: [u32; GROUPS.len()] = std::array::from_fn(|group| target[ages(group)].iter().sum());

    // Too many of a group: some move away, each equally likely.
    let mut leaving: [u32; GROUPS.len()] =
        std::array::from_fn(|group| here[group].saturating_sub(wanted[group]));
    let mut candidates = here;
    living.retain(|id| {
        let person = &mut persons[*id as usize];
        let Some(group) = group_of(person.age_in(year)) else {
            return true;
        };
        let leaves = draw.below(candidates[group]) < leaving[group];
        candidates[group] -= 1;
        if leaves {
            leaving[group] -= 1;
            person.to = draw.day(first, last) as u16;
        }
        !leaves
    });
    // Too few: people move in, with the ages of the group.
    for group in 0..GROUPS.len() {
        for _ in here[group]..wanted[group] {
            let mut ticket = draw.below(wanted[group]);
            let age = ages(group)
                .find(|age| {
                    let found = ticket < target[*age];
                    ticket = ticket.saturating_sub(target[*age]);
                    found
                })
                .unwrap_or(GROUPS[group]);
            let person = codes.newcomer(year - age as i32, municipality, sex, draw)?;
            living.push(persons.len() as u32);
            persons.push(Person {
                from: draw.day(first, last) as u16,
                ..person
            });
        }
    }
    Ok(())
}

fn group_of(age: i32) -> Option<usize> {
    GROUPS.iter().rposition(|first| age >= *first as i32)
}

/// The chance of dying during the year in which the age is reached: Gompertz's law with Finnish
/// levels (about 1 % at 67 for men and 72 for women, 20 % at 93 and 94).
fn mortality(age: i32, sex: u8) -> f64 {
    let (level, slope) = if sex == 0 {
        (7.0e-6, 0.110)
    } else {
        (2.5e-5, 0.097)
    };
    (level * (slope * f64::from(age.max(0))).exp()).min(0.6)
}

/// A county's share of the codes of a birth date and sex: its first one and their number.
fn slots_of(reference: &Reference, county: County) -> (u32, u8) {
    let counties: Vec<(County, u64)> = County::all()
        .map(|county| (county, reference.residents(county)))
        .collect();
    let total: u64 = counties
        .iter()
        .map(|(_, residents)| residents)
        .sum::<u64>()
        .max(1);
    let mut before = 0;
    for (other, residents) in counties {
        let (first, end) = (before * CODES / total, (before + residents) * CODES / total);
        if other == county {
            return (first as u32, (end - first).min(255) as u8);
        }
        before += residents;
    }
    (0, 0)
}

/// Hands out birth dates that still have a code.
struct Codes {
    county: County,
    /// Codes per birth date and sex.
    slots: u8,
    /// Codes in use by birth day since [`FIRST_YEAR`] and sex.
    used: Vec<[u8; 2]>,
}

impl Codes {
    /// A person born on some day of the year, who has no residence yet.
    fn newcomer(
        &mut self,
        birth_year: i32,
        municipality: u8,
        sex: u8,
        draw: &mut Draw,
    ) -> Result<Person, SynthError> {
        let year = birth_year.max(FIRST_YEAR);
        let (first, last) = (day(year, 1, 1), day(year, 12, 31));
        let origin = day(FIRST_YEAR, 1, 1);
        let end = (last - origin) as usize + 1;
        if self.used.len() < end {
            self.used.resize(end, [0; 2]);
        }
        let start = draw.day(first, last);
        let days = last - first + 1;
        for step in 0..days {
            let birth = first + (start - first + step) % days;
            let used = &mut self.used[(birth - origin) as usize][usize::from(sex)];
            if *used < self.slots {
                let slot = *used;
                *used += 1;
                return Ok(Person {
                    birth: birth as u16,
                    from: 0,
                    to: OPEN as u16,
                    municipality,
                    sex,
                    slot,
                });
            }
        }
        Err(SynthError::IdentityCodes {
            county: self.county.code(),
            year,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::testdata;

    fn build(code: &str, seed: u64) -> (Reference, People) {
        let reference = Reference::parse(&testdata::inputs()).unwrap();
        let people =
            People::build(&reference, County::parse(code).unwrap(), 2023, 2025, seed).unwrap();
        (reference, people)
    }

    #[test]
    fn residents_agree_with_the_reference_by_municipality_sex_and_age_group() {
        let (reference, people) = build("20", 1);
        for year in 2022..=2025 {
            let on = day(year, 12, 31);
            for (place, code) in people.municipalities.iter().enumerate() {
                let target = reference.people(*code, year);
                for sex in 0..2 {
                    for (from, to) in [(0, 18), (18, 65), (65, 75), (75, 85), (85, 101), (0, 101)] {
                        let here = people
                            .persons
                            .iter()
                            .filter(|p| {
                                usize::from(p.municipality) == place
                                    && usize::from(p.sex) == sex
                                    && p.lives_here_on(on)
                            })
                            .filter(|p| {
                                (from..to).contains(&p.age_in(year))
                                    || (to == 101 && p.age_in(year) > 100)
                            })
                            .count();
                        let wanted: u32 = target[sex][from as usize..to as usize].iter().sum();
                        assert_eq!(here as u32, wanted, "{code} {year} {sex} {from}-{to}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_code_is_artificial_valid_and_distinct_over_counties() {
        let mut seen = HashSet::new();
        let mut signs = HashSet::new();
        for county in ["18", "20"] {
            let (_, people) = build(county, 1);
            for (id, person) in people.iter() {
                let code = people.identity_code(id);
                let hetu = Hetu::parse(&code).unwrap();
                assert!(hetu.is_artificial());
                assert_eq!(hetu.sex() as u8, person.sex());
                assert_eq!(crate::days::from_date(hetu.birth_date()), person.birth());
                assert!(seen.insert(code));
                signs.insert(code[6]);
            }
        }
        assert!(seen.len() > 138_000);
        assert!(signs.len() >= 2);
    }

    #[test]
    fn shares_of_the_codes_do_not_overlap_and_cover_them() {
        let reference = Reference::parse(&testdata::inputs()).unwrap();
        let mut next = 0;
        for county in County::all() {
            let (first, count) = slots_of(&reference, county);
            assert_eq!(first, next, "{county}");
            assert!(count >= 3, "{county}");
            next = first + u32::from(count);
        }
        assert_eq!(next, 300);
    }

    #[test]
    fn moves_are_a_small_part_of_the_people() {
        let (_, people) = build("20", 1);
        let residents = people.persons.iter().filter(|p| p.from == 0).count();
        let moved_in = people
            .persons
            .iter()
            .filter(|p| p.from > 0 && p.from != p.birth)
            .count();
        assert!(
            moved_in * 12 < residents,
            "{moved_in} of {residents} in three years"
        );
        let died_or_left = people.persons.iter().filter(|p| p.to() != OPEN).count();
        assert!(
            (residents / 40..residents / 7).contains(&died_or_left),
            "{died_or_left} of {residents}"
        );
    }

    #[test]
    fn a_municipality_that_ends_gives_way_to_its_successor() {
        let (_, people) = build("12", 1);
        let homes = |year| {
            people
                .iter()
                .map(|(id, _)| people.municipality(id, year))
                .collect::<HashSet<u16>>()
        };
        assert!(homes(2024).contains(&588) && homes(2024).contains(&507));
        assert!(!homes(2025).contains(&588) && homes(2025).contains(&507));
        assert_eq!(homes(2024).len(), homes(2025).len() + 1);
    }

    #[test]
    fn another_seed_makes_other_people() {
        let (_, a) = build("20", 1);
        let (_, b) = build("20", 1);
        let (_, c) = build("20", 2);
        let births = |people: &People| people.persons.iter().map(|p| p.birth).collect::<Vec<_>>();
        assert_eq!(births(&a), births(&b));
        assert_ne!(births(&a), births(&c));
    }
}
