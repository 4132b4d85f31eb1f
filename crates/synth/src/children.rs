//! Child welfare and other social-care matters: notifications, assessments of need, placements.
//!
//! Placements are calibrated so that each year's distinct placed children and
//! young people equal the real count (Sotkanet 3563).

use std::collections::BTreeMap;

use crate::days::{Day, Month, OPEN, add_months, add_working_days, age_on, civil, day};
use crate::draw::Draw;
use crate::inputs::Reference;
use crate::population::{People, tag};
use crate::providers::{Field, Mode, NO_PROVIDER, Providers};

/// Relative number of notifications by month: schools and day care are closed in July.
const NOTIFICATION_SEASON: [u32; 12] = [100, 97, 108, 103, 112, 85, 55, 92, 118, 114, 112, 95];
const MATTER_SEASON: [u32; 12] = [106, 100, 106, 100, 104, 90, 70, 98, 110, 110, 106, 92];

/// A child-welfare notification.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notification {
    pub(crate) on: Day,
    pub(crate) child: u32,
    /// Code of `thl.notifier`.
    pub(crate) notifier: u8,
    pub(crate) voided: bool,
}

/// The notifications of a year in order of arrival.
///
/// A tenth of the children has most of the risk, year after year.
pub(crate) fn notifications(people: &People, year: i32) -> Vec<Notification> {
    let mut draw = people.stream(tag::NOTIFICATION, &[year as u64]);
    let level = 0.089 * people.county_factor(tag::NOTIFICATION, 0.12);
    let months: Vec<(i32, u32)> = (1..).zip(NOTIFICATION_SEASON).collect();
    let mut list = Vec::new();
    for (id, person) in people.iter() {
        let age = person.age_in(year);
        if !(0..=18).contains(&age) {
            continue;
        }
        let risk = match people.latent(id, tag::CHILD_RISK) {
            risk if risk < 0.1 => 5.0,
            risk if risk < 0.3 => 1.6,
            _ => 0.3,
        };
        let by_age = match age {
            ..=6 => 0.75,
            7..=12 => 0.95,
            _ => 1.35,
        };
        if !draw.chance((level * risk * by_age).min(0.7)) {
            continue;
        }
        let more = if draw.chance(0.05) { 0.84 } else { 0.5 };
        for _ in 0..draw.geometric(more, 30) {
            let month = Month::new(year, draw.pick(&months));
            let on = draw.office_day(month.first, month.last);
            let notifier = draw.pick(&[
                (1, 22),
                (2, 12),
                (3, 18),
                (4, 20),
                (5, 4),
                (6, 3),
                (7, 9),
                (8, 12),
            ]);
            let voided = draw.chance(0.01);
            if person.lives_here_on(on) && age_on(person.birth(), on) < 18 {
                list.push(Notification {
                    on,
                    child: id,
                    notifier,
                    voided,
                });
            }
        }
    }
    list.sort_by_key(|notification| (notification.on, notification.child));
    list
}

/// A matter in which the need of service is assessed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matter {
    pub(crate) initiated: Day,
    pub(crate) person: u32,
    /// Code of `thl.service_task`.
    pub(crate) task: u8,
    pub(crate) started: Option<Day>,
    pub(crate) completed: Option<Day>,
    pub(crate) urgent: bool,
    pub(crate) unit: u8,
}

const CHILD_WELFARE: u8 = 2;

/// The matters of a year in order of initiation, as known on `today`.
pub(crate) fn matters(people: &People, year: i32, today: Day) -> Vec<Matter> {
    let mut draw = people.stream(tag::ASSESSMENT, &[year as u64]);
    let mut list = Vec::new();
    for notification in notifications(people, year) {
        if !notification.voided && draw.chance(0.36) {
            list.push(matter(
                people,
                notification.child,
                CHILD_WELFARE,
                notification.on,
                today,
                &mut draw,
            ));
        }
    }
    let months: Vec<(i32, u32)> = (1..).zip(MATTER_SEASON).collect();
    let (first, last) = (day(year, 1, 1), day(year, 12, 31));
    for (id, person) in people.iter() {
        if person.to() <= first || person.from() > last {
            continue;
        }
        // Families, older people, disability, substance abuse, working age.
        let chances: &[(u8, f64)] = match person.age_in(year) {
            ..=17 => &[(1, 0.022), (4, 0.004)],
            18..=64 => &[(4, 0.004), (5, 0.005), (6, 0.009)],
            65..=74 => &[(3, 0.018), (4, 0.004)],
            _ => &[(3, 0.1), (4, 0.003)],
        };
        for (task, chance) in chances {
            if draw.chance(*chance) {
                let month = Month::new(year, draw.pick(&months));
                let on = draw.office_day(month.first, month.last);
                if person.lives_here_on(on) {
                    list.push(matter(people, id, *task, on, today, &mut draw));
                }
            }
        }
    }
    list.sort_by_key(|matter| (matter.initiated, matter.person, matter.task));
    list
}

fn matter(
    people: &People,
    person: u32,
    task: u8,
    initiated: Day,
    today: Day,
    draw: &mut Draw,
) -> Matter {
    let urgent = draw.chance(if task == CHILD_WELFARE { 0.12 } else { 0.06 });
    let in_time = 0.925 * people.county_factor(tag::ASSESSMENT, 0.05);
    let started = if draw.chance(0.008) {
        None
    } else if urgent {
        Some(initiated + draw.between(0, 1))
    } else if draw.chance(in_time.min(0.99)) {
        let days = draw.pick(&[
            (0, 16),
            (1, 16),
            (2, 14),
            (3, 12),
            (4, 11),
            (5, 10),
            (6, 10),
            (7, 11),
        ]);
        Some(if days == 0 {
            initiated
        } else {
            add_working_days(initiated, days)
        })
    } else {
        Some(add_working_days(
            initiated,
            7 + draw.geometric(0.85, 50) as i32,
        ))
    };
    let limit = add_months(initiated, 3);
    let completed = started.and_then(|started| {
        if draw.chance(0.025) {
            None
        } else if draw.chance(0.865) {
            // Most are finished near the limit.
            let room = f64::from((limit - started).max(0));
            Some(started + (room * (1.0 - draw.unit() * draw.unit())) as i32)
        } else {
            Some(limit.max(started) + 1 + draw.exponential(32.0).min(300.0) as i32)
        }
    });
    let known = |on: &Day| *on <= today;
    let started = started.filter(known);
    let completed = completed.filter(known).filter(|_| started.is_some());
    Matter {
        initiated,
        person,
        task,
        started,
        completed,
        urgent,
        unit: draw.below(3) as u8 + 1,
    }
}

/// One placement of a child or young person outside the home.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placement {
    pub(crate) number: u32,
    pub(crate) person: u32,
    /// Code of `thl.placement_form`.
    pub(crate) form: u8,
    /// Code of `thl.placement_basis`.
    pub(crate) basis: u8,
    pub(crate) from: Day,
    /// Day of leaving, or [`OPEN`].
    pub(crate) to: Day,
    pub(crate) mode: Mode,
    pub(crate) provider: u16,
}

const OPEN_CARE: u8 = 1;
const EMERGENCY: u8 = 2;
const CUSTODY: u8 = 3;
const AFTER_CARE: u8 = 4;

/// Share of a year's placed who are still placed when the next begins.
const STAYING: f64 = 0.72;
/// After-care ends at this age.
const AFTER_CARE_ENDS: i32 = 24;

/// Someone who is placed, before the time is cut into placements.
struct Placed {
    person: u32,
    from: Day,
    to: Day,
}

/// The placements of the plan's years.
pub(crate) fn placements(
    people: &People,
    reference: &Reference,
    providers: &Providers,
    first_year: i32,
    last_year: i32,
) -> Vec<Placement> {
    let mut draw = people.stream(tag::PLACEMENT, &[]);
    let mut pools = candidates(people, &mut draw);
    let target = |year: i32| reference.placed_children(people.county, year);
    let start = day(first_year, 1, 1);

    let mut placed: Vec<Placed> = Vec::new();
    let stock = (f64::from(target(first_year)) * STAYING).round() as u32;
    for _ in 0..stock {
        let age = pick_age(
            &mut draw,
            &[(0..=6, 12), (7..=12, 24), (13..=17, 40), (18..=22, 24)],
        );
        let Some(person) = take(&mut pools, first_year - 1 - age) else {
            break;
        };
        let birth = people.person(person).birth();
        // Placed as a child, at the latest on the eve of the 18th birthday.
        let latest = (start - 2).min(add_months(birth, 18 * 12) - 1);
        let from = (latest - draw.exponential(1_000.0).min(5_000.0) as i32)
            .max(birth + 2)
            .min(latest);
        placed.push(Placed {
            person,
            from,
            to: OPEN,
        });
    }
    for year in first_year..=last_year {
        let (first, last) = (day(year, 1, 1), day(year, 12, 31));
        let here = placed.iter().filter(|placed| placed.to == OPEN).count() as u32;
        for _ in here..target(year) {
            let age = pick_age(&mut draw, &[(0..=6, 19), (7..=12, 25), (13..=17, 56)]);
            let Some(person) = take(&mut pools, year - age) else {
                break;
            };
            let birth = people.person(person).birth();
            let from = draw.day(first, last).max(birth + 1).min(last);
            placed.push(Placed {
                person,
                from,
                to: OPEN,
            });
        }
        // Those who grow too old leave, then others at random, until the next year's stock is left.
        let mut open: Vec<usize> = (0..placed.len())
            .filter(|i| placed[*i].to == OPEN)
            .collect();
        draw.shuffle(&mut open);
        open.sort_by_key(|i| people.person(placed[*i].person).age_in(year) < AFTER_CARE_ENDS);
        let stay = (f64::from(target(year + 1)) * STAYING).round() as usize;
        let too_old = open
            .partition_point(|i| people.person(placed[*i].person).age_in(year) >= AFTER_CARE_ENDS);
        let leaving = open.len().saturating_sub(stay).max(too_old);
        for i in open.into_iter().take(leaving) {
            let earliest = (placed[i].from + 3).max(first + 1);
            placed[i].to = if earliest >= last {
                last
            } else {
                draw.day(earliest, last)
            };
        }
    }

    let mut list = Vec::new();
    for one in &placed {
        cut(people, providers, one, &mut draw, &mut list);
    }
    list.retain(|placement| placement.to >= start);
    list.sort_by_key(|placement| (placement.from, placement.person, placement.to));
    for (number, placement) in (1..).zip(&mut list) {
        placement.number = number;
    }
    list
}

/// People who live here all through the plan, in random order by birth year.
fn candidates(people: &People, draw: &mut Draw) -> BTreeMap<i32, Vec<u32>> {
    let mut pools: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    for (id, person) in people.iter() {
        if person.to() == OPEN
            && (person.from() == 0 || person.from() == person.birth())
            && person.birth() > day(1990, 1, 1)
        {
            pools.entry(civil(person.birth()).0).or_default().push(id);
        }
    }
    for pool in pools.values_mut() {
        draw.shuffle(pool);
    }
    pools
}

fn pick_age(draw: &mut Draw, groups: &[(std::ops::RangeInclusive<i32>, u32)]) -> i32 {
    let choices: Vec<((i32, i32), u32)> = groups
        .iter()
        .map(|(ages, weight)| ((*ages.start(), *ages.end()), *weight))
        .collect();
    let (youngest, oldest) = draw.pick(&choices);
    draw.between(youngest, oldest)
}

/// Someone born in the year, or in the nearest earlier year that has anyone left.
fn take(pools: &mut BTreeMap<i32, Vec<u32>>, birth_year: i32) -> Option<u32> {
    pools
        .range_mut(..=birth_year)
        .rev()
        .find_map(|(_, pool)| pool.pop())
}

/// Cuts one person's time into placements: emergency first, after-care from the age of 18, and
/// sometimes another form in between.
fn cut(
    people: &People,
    providers: &Providers,
    placed: &Placed,
    draw: &mut Draw,
    list: &mut Vec<Placement>,
) {
    let adult = add_months(people.person(placed.person).birth(), 18 * 12);
    let mut basis = draw.pick(&[(EMERGENCY, 40), (OPEN_CARE, 45), (CUSTODY, 15)]);
    let mut form = draw.pick(&[(1, 44), (2, 10), (3, 42), (4, 4)]);
    let mut from = placed.from;
    loop {
        let length = match basis {
            EMERGENCY => draw.between(14, 60),
            OPEN_CARE => 60 + draw.exponential(400.0).min(3_000.0) as i32,
            _ => 200 + draw.exponential(1_500.0).min(5_000.0) as i32,
        };
        let mut to = from + length;
        if from < adult {
            to = to.min(adult);
        }
        let last = to >= placed.to;
        let to = to.min(placed.to);
        let mode = match form {
            1 => draw.pick(&[(Mode::Own, 80), (Mode::Private, 20)]),
            2 => draw.pick(&[(Mode::Own, 10), (Mode::Private, 90)]),
            3 => draw.pick(&[(Mode::Own, 25), (Mode::Public, 5), (Mode::Private, 70)]),
            _ => Mode::Own,
        };
        let provider = if mode == Mode::Own {
            NO_PROVIDER
        } else {
            providers.pick(Field::Children, mode, draw)
        };
        let mode = if provider == NO_PROVIDER {
            Mode::Own
        } else {
            mode
        };
        list.push(Placement {
            number: 0,
            person: placed.person,
            form,
            basis,
            from,
            to,
            mode,
            provider,
        });
        if last || to >= OPEN {
            return;
        }
        from = to;
        basis = match basis {
            _ if from >= adult => AFTER_CARE,
            EMERGENCY => draw.pick(&[(OPEN_CARE, 40), (CUSTODY, 60)]),
            _ => draw.pick(&[(OPEN_CARE, 25), (CUSTODY, 75)]),
        };
        if draw.chance(0.5) {
            form = draw.pick(&[(1, 52), (2, 12), (3, 32), (4, 4)]);
        }
    }
}
