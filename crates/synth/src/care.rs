//! Care of older and disabled people: who is a client of home care, of round-the-clock care or of
//! informal care, from when to when, and who produces it.
//!
//! Every person has a frailty that never changes; the need at which a service
//! begins falls with age. A person therefore moves from no care to home care to
//! housing, never has two of them at once, and the share of clients at an age
//! is the curve given here. To add a service: a curve and its place in
//! [`Service::ORDER`].

use crate::days::{Day, Month, OPEN, day};
use crate::draw::Draw;
use crate::population::{People, tag};
use crate::providers::{Field, Mode, NO_PROVIDER, Providers};

/// A service given in spells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Institution,
    Housing,
    FamilyCare,
    HomeCare,
}

impl Service {
    /// From the frailest clients to the least frail.
    const ORDER: [Service; 4] = [
        Service::Institution,
        Service::Housing,
        Service::FamilyCare,
        Service::HomeCare,
    ];

    /// Share of people of an age who have the service, as (age, share) points.
    fn curve(self) -> &'static [(f64, f64)] {
        match self {
            Service::Institution => &[(18.0, 0.0002), (70.0, 0.0008), (85.0, 0.006), (100.0, 0.03)],
            Service::Housing => &[
                (18.0, 0.0017),
                (64.0, 0.0026),
                (70.0, 0.005),
                (75.0, 0.011),
                (80.0, 0.027),
                (85.0, 0.078),
                (90.0, 0.185),
                (95.0, 0.33),
                (100.0, 0.42),
            ],
            Service::FamilyCare => &[(18.0, 0.0006), (100.0, 0.002)],
            Service::HomeCare => &[
                (18.0, 0.0013),
                (64.0, 0.0035),
                (70.0, 0.011),
                (75.0, 0.027),
                (80.0, 0.07),
                (85.0, 0.165),
                (90.0, 0.26),
                (95.0, 0.29),
                (100.0, 0.28),
            ],
        }
    }

    fn modes(self) -> &'static [(Mode, u32)] {
        match self {
            Service::Housing => &[
                (Mode::Own, 45),
                (Mode::Private, 45),
                (Mode::Public, 3),
                (Mode::Voucher, 7),
            ],
            Service::Institution => &[(Mode::Own, 85), (Mode::Public, 10), (Mode::Private, 5)],
            Service::FamilyCare => &[(Mode::Own, 75), (Mode::Private, 25)],
            Service::HomeCare => &[(Mode::Own, 82), (Mode::Private, 10), (Mode::Voucher, 8)],
        }
    }

    /// The code of `county.care_service`.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Service::Institution => "LAI",
            Service::Housing => "YPA",
            Service::FamilyCare => "PHO",
            Service::HomeCare => "KOT",
        }
    }
}

/// One spell of a service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spell {
    pub(crate) person: u32,
    /// Running number in the county.
    pub(crate) number: u32,
    pub(crate) service: Service,
    pub(crate) from: Day,
    /// Day of discharge, or [`OPEN`].
    pub(crate) to: Day,
    pub(crate) long_term: bool,
    pub(crate) mode: Mode,
    pub(crate) provider: u16,
    pub(crate) unit: u8,
}

impl Spell {
    /// Days of care in a period: the day of discharge does not count, a stay of one day counts once.
    pub(crate) fn care_days(&self, first: Day, last: Day) -> i32 {
        if self.from == self.to {
            return i32::from((first..=last).contains(&self.from));
        }
        (self.to.min(last + 1) - self.from.max(first)).max(0)
    }

    pub(crate) fn overlaps(&self, first: Day, last: Day) -> bool {
        self.from <= last && self.to >= first
    }
}

/// A decision on informal-care support.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decision {
    pub(crate) number: u32,
    pub(crate) client: u32,
    pub(crate) carer: u32,
    /// 1 to 3, the dearest last.
    pub(crate) fee_class: u8,
    pub(crate) from: Day,
    /// Last day, or [`OPEN`].
    pub(crate) to: Day,
}

/// Care in one county.
#[derive(Debug)]
pub(crate) struct Care {
    pub(crate) spells: Vec<Spell>,
    pub(crate) decisions: Vec<Decision>,
}

/// Share of people of an age whom a relative cares for with support.
const INFORMAL: &[(f64, f64)] = &[
    (0.0, 0.004),
    (5.0, 0.006),
    (17.9, 0.006),
    (18.1, 0.0035),
    (60.0, 0.006),
    (70.0, 0.018),
    (76.0, 0.034),
    (83.0, 0.044),
    (90.0, 0.048),
    (100.0, 0.04),
];

/// Spells that began this many years before the plan get a random earlier start.
const HISTORY_YEARS: i32 = 6;

impl Care {
    pub(crate) fn build(
        people: &People,
        providers: &Providers,
        first_year: i32,
        last_year: i32,
    ) -> Care {
        let plan = (day(first_year, 1, 1), day(last_year, 12, 31));
        let level = people.county_factor(tag::CARE_NEED, 0.08);
        let mut care = Care {
            spells: Vec::new(),
            decisions: Vec::new(),
        };
        for (id, person) in people.iter() {
            let need = people.latent(id, tag::CARE_NEED) / level;
            let informal = people.latent(id, tag::INFORMAL_CARE) / level;
            let oldest = f64::from(last_year + 1 - crate::days::civil(person.birth()).0);
            let may_need = need < threshold(Service::HomeCare, oldest);
            let may_have_carer = informal < 0.05;
            if may_need || may_have_carer {
                life(people, providers, id, (need, informal), plan, &mut care);
            }
        }
        care
    }
}

/// The need below which a person of the age has at least this service.
fn threshold(service: Service, age: f64) -> f64 {
    if age < 18.0 {
        return 0.0;
    }
    let place = Service::ORDER
        .iter()
        .position(|other| *other == service)
        .unwrap_or(0);
    Service::ORDER[..=place]
        .iter()
        .map(|service| at(service.curve(), age))
        .sum()
}

/// The value of a curve of straight lines; flat outside its points.
fn at(curve: &[(f64, f64)], x: f64) -> f64 {
    let next = curve.partition_point(|(age, _)| *age < x);
    match (
        next.checked_sub(1).and_then(|i| curve.get(i)),
        curve.get(next),
    ) {
        (Some((x0, y0)), Some((x1, y1))) => y0 + (y1 - y0) * (x - x0) / (x1 - x0),
        (Some((_, y)), None) | (None, Some((_, y))) => *y,
        (None, None) => 0.0,
    }
}

/// Follows one person month by month.
fn life(
    people: &People,
    providers: &Providers,
    id: u32,
    (need, informal): (f64, f64),
    (first, last): (Day, Day),
    care: &mut Care,
) {
    let person = *people.person(id);
    let mut draw = people.stream(tag::CARE_SPELL, &[u64::from(id)]);
    let (first_year, _, _) = crate::days::civil(first);
    let scan_first = day(first_year - HISTORY_YEARS, 1, 1)
        .max(person.from())
        .max(person.birth());
    let scan_last = last.min(person.to() - 1);
    let (year, month, _) = crate::days::civil(scan_first);
    let mut month = Month::new(year, month);
    let mut service: Option<(Service, Day)> = None;
    let mut carer: Option<Day> = None;

    let close = |care: &mut Care, draw: &mut Draw, open: Option<(Service, Day)>, to: Day| {
        if let Some((service, from)) = open
            && to >= first
        {
            let spell = new_spell(
                people,
                providers,
                care,
                draw,
                (id, service),
                (from, to),
                true,
            );
            care.spells.push(spell);
        }
    };
    let decide = |care: &mut Care, draw: &mut Draw, from: Option<Day>, to: Day| {
        if let Some(from) = from
            && to >= first
            && let Some(carer) = find_carer(people, id, from, draw)
        {
            let number = care.decisions.len() as u32 + 1;
            let fee_class = draw.pick(&[(1, 62), (2, 27), (3, 11)]);
            care.decisions.push(Decision {
                number,
                client: id,
                carer,
                fee_class,
                from,
                to,
            });
        }
    };

    let mut begun = false;
    while month.first <= scan_last {
        let age = f64::from(month.last - person.birth()) / 365.25;
        let now = Service::ORDER
            .into_iter()
            .find(|service| need < threshold(*service, age));
        // The first month may begin in the middle, and spells found in it began before.
        let change = draw.day(month.first.max(scan_first), month.last.min(scan_last));
        let start = match (begun, person.from() > 0 && scan_first == person.from()) {
            (true, _) => change,
            (false, true) => scan_first,
            (false, false) => (scan_first - draw.between(20, 1_400)).max(person.birth()),
        };
        if now != service.map(|(service, _)| service) {
            close(care, &mut draw, service, change);
            service = now.map(|service| (service, start));
        }
        let at_home = matches!(now, None | Some(Service::HomeCare));
        let cared = at_home && informal < at(INFORMAL, age);
        if cared != carer.is_some() {
            decide(care, &mut draw, carer, change - 1);
            carer = cared.then_some(start);
        }
        if carer.is_some() && month.first >= first && draw.chance(0.07) {
            respite(
                people, providers, id, month, service, scan_last, &mut draw, care,
            );
        }
        begun = true;
        month = Month::new(month.year + month.month / 12, month.month % 12 + 1);
    }
    // What goes on ends with residence, or stays open.
    let end = if person.to() <= last {
        person.to()
    } else {
        OPEN
    };
    close(care, &mut draw, service, end);
    decide(
        care,
        &mut draw,
        carer,
        if end == OPEN { OPEN } else { end - 1 },
    );
}

/// A short stay that gives the carer a rest.
#[expect(
    clippy::too_many_arguments,
    reason = "one step of `life`, split out for reading"
)]
fn respite(
    people: &People,
    providers: &Providers,
    id: u32,
    month: Month,
    service: Option<(Service, Day)>,
    scan_last: Day,
    draw: &mut Draw,
    care: &mut Care,
) {
    let from = draw.day(month.first, month.last - 14);
    // Now and then a stay ends on the day it began.
    let to = from
        + if draw.chance(0.05) {
            0
        } else {
            draw.between(3, 13)
        };
    let at_home = service.is_none_or(|(service, _)| service == Service::HomeCare);
    let person = people.person(id);
    let old_enough = from - person.birth() > 6_600;
    if at_home && old_enough && from >= person.from() && to <= scan_last {
        let kind = if draw.chance(0.8) {
            Service::Housing
        } else {
            Service::Institution
        };
        let spell = new_spell(people, providers, care, draw, (id, kind), (from, to), false);
        care.spells.push(spell);
    }
}

fn new_spell(
    people: &People,
    providers: &Providers,
    care: &Care,
    draw: &mut Draw,
    (person, service): (u32, Service),
    (from, to): (Day, Day),
    long_term: bool,
) -> Spell {
    let mode = draw.pick(service.modes());
    let field = if service == Service::HomeCare {
        Field::HomeCare
    } else {
        Field::Housing
    };
    let provider = if mode == Mode::Own {
        NO_PROVIDER
    } else {
        providers.pick(field, mode, draw)
    };
    // A county without a provider of the kind produces the service itself.
    let mode = if provider == NO_PROVIDER {
        Mode::Own
    } else {
        mode
    };
    let units = 2 + people.len() / 15_000;
    Spell {
        person,
        number: care.spells.len() as u32 + 1,
        service,
        from,
        to,
        long_term,
        mode,
        provider,
        unit: draw.below(units.min(200)) as u8 + 1,
    }
}

/// An adult of the same municipality who lives here at the start and at the end of the plan.
fn find_carer(people: &People, client: u32, from: Day, draw: &mut Draw) -> Option<u32> {
    let home = people.municipality(client, 0);
    let birth = people.person(client).birth();
    (0..400).find_map(|attempt| {
        // Neighbours in the list live in the same municipality.
        let reach = people.len().min(4_000);
        let id = (client + people.len() + draw.below(reach) - reach / 2) % people.len();
        let person = people.person(id);
        let grown = (from - person.birth()) / 365;
        let fits =
            (20..=88).contains(&grown) && person.to() == OPEN && person.from() == 0 && id != client;
        // First a spouse's age, then anyone grown.
        let near = (person.birth() - birth).abs() < 12 * 365 || attempt > 120;
        (fits && near && (people.municipality(id, 0) == home || attempt > 300)).then_some(id)
    })
}
