//! The county's personnel: posts, employments on and beside them, absences.
//!
//! Employees are residents of the county. A post is held by one permanent
//! employee at a time and stands empty between holders; fixed-term staff come
//! and go beside. Ends of employments and absences are last days, inclusive.

use crate::days::{Day, Month, OPEN, age_on, civil, day};
use crate::draw::Draw;
use crate::population::{People, tag};

/// Codes of `county.profession_group`.
pub(crate) const PROFESSIONS: [&str; 8] = [
    "LAAK", "HOIT", "LHOI", "STYO", "SOHJ", "TERA", "HALL", "TUKI",
];
const SHARES: [(u8, u32); 8] = [
    (0, 6),
    (1, 27),
    (2, 28),
    (3, 5),
    (4, 10),
    (5, 5),
    (6, 8),
    (7, 11),
];
/// Share of posts that stand empty, by profession.
const EMPTY: [f64; 8] = [0.1, 0.07, 0.06, 0.11, 0.05, 0.07, 0.03, 0.04];
const WOMEN: [f64; 8] = [0.6, 0.9, 0.88, 0.9, 0.85, 0.85, 0.75, 0.7];

/// Unit names of personnel systems; the letters need an encoding.
pub(crate) const UNITS: [&str; 8] = [
    "LÄÄKÄRI-",
    "SAIRAALA-",
    "KOTIHOITO-",
    "SOSIAALITYÖ-",
    "PERHEKESKUS-",
    "KUNTOUTUS-",
    "HALLINTO-",
    "HUOLTO-",
];

#[derive(Debug, Clone, Copy)]
pub(crate) struct Post {
    pub(crate) number: u32,
    pub(crate) profession: u8,
    pub(crate) unit: u8,
    /// Hundredths of a percent.
    pub(crate) percent: i32,
    pub(crate) from: Day,
    /// Last day, or [`OPEN`].
    pub(crate) to: Day,
}

/// Codes of `county.contract_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contract {
    Permanent,
    FixedTerm,
    Substitute,
    Subsidised,
    Apprentice,
}

impl Contract {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Contract::Permanent => "V",
            Contract::FixedTerm => "M",
            Contract::Substitute => "S",
            Contract::Subsidised => "T",
            Contract::Apprentice => "O",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Employment {
    pub(crate) number: u32,
    pub(crate) person: u32,
    /// Number of the post, 0 when there is none.
    pub(crate) post: u32,
    pub(crate) profession: u8,
    pub(crate) unit: u8,
    pub(crate) contract: Contract,
    /// Hundredths of a percent.
    pub(crate) percent: i32,
    pub(crate) from: Day,
    /// Last day, or [`OPEN`].
    pub(crate) to: Day,
    /// Code of `county.end_reason`; used when the employment has ended.
    pub(crate) reason: &'static str,
}

/// Codes of `county.absence_class`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Sickness,
    Accident,
    ChildSickness,
    AnnualLeave,
    FamilyLeave,
    StudyLeave,
    Other,
}

impl Class {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Class::Sickness => "SL",
            Class::Accident => "TT",
            Class::ChildSickness => "LS",
            Class::AnnualLeave => "VL",
            Class::FamilyLeave => "PV",
            Class::StudyLeave => "OV",
            Class::Other => "MU",
        }
    }
}

/// A part of an absence inside one month.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Absence {
    /// Place in [`Staff::employments`].
    pub(crate) employment: u32,
    pub(crate) class: Class,
    /// Hundredths of a percent.
    pub(crate) pay: u16,
    /// Days of the month, inclusive.
    pub(crate) from: u8,
    pub(crate) to: u8,
}

#[derive(Debug)]
pub(crate) struct Staff {
    pub(crate) posts: Vec<Post>,
    pub(crate) employments: Vec<Employment>,
}

/// Mean years from hiring to leaving for other reasons than retirement.
const TENURE_YEARS: f64 = 10.5;

impl Staff {
    pub(crate) fn build(people: &People, residents: u64, first_year: i32, last_year: i32) -> Staff {
        let mut draw = people.stream(tag::STAFF, &[]);
        let plan = (day(first_year, 1, 1), day(last_year, 12, 31));
        let wanted = (residents / 25).max(1_500) as u32;
        let mut crowd = Crowd::new(people, first_year, &mut draw);
        let mut staff = Staff {
            posts: Vec::new(),
            employments: Vec::new(),
        };
        if crowd.ids.is_empty() {
            return staff;
        }
        let posts = f64::from(wanted) * 0.8 / 0.94;
        for _ in 0..posts as u32 {
            staff.new_post(people, &mut crowd, plan, &mut draw);
        }
        let held = staff.held_from();
        for _ in 0..wanted / 5 {
            staff.fixed_term(&held, &mut crowd, plan, &mut draw);
        }
        staff
            .employments
            .sort_by_key(|employment| (employment.from, employment.person, employment.post));
        for (number, employment) in (1..).zip(&mut staff.employments) {
            employment.number = number;
        }
        staff
    }

    fn new_post(
        &mut self,
        people: &People,
        crowd: &mut Crowd<'_>,
        (first, last): (Day, Day),
        draw: &mut Draw,
    ) {
        let profession = draw.pick(&SHARES);
        let (from, to) = match draw.below(50) {
            0 => (month_start(draw.day(first, last)), OPEN),
            1 => (first - 4_000, month_start(draw.day(first + 60, last)) - 1),
            _ => (first - draw.between(400, 6_000), OPEN),
        };
        let percent = draw.pick(&[(10_000, 90), (8_000, 5), (5_000, 5)]);
        let number = self.posts.len() as u32 + 1;
        let post = Post {
            number,
            profession,
            unit: unit(draw),
            percent,
            from,
            to,
        };
        self.posts.push(post);

        let empty = EMPTY[usize::from(profession)];
        let gap = |draw: &mut Draw| 10 + draw.exponential(3_900.0 * empty / (1.0 - empty)) as i32;
        let mut at = if from >= first || draw.chance(empty) {
            first.max(from) + gap(draw)
        } else {
            first
        };
        let mut seated = at == first && from < first;
        while at <= last.min(to) {
            let person = crowd.next(profession, draw);
            let birth = people.person(person).birth();
            let hired = if seated {
                // Hired before the plan, not before the age of 21.
                (first - 1 - draw.exponential(2_900.0) as i32)
                    .max(birth + 21 * 366)
                    .max(from)
                    .min(first - 1)
            } else {
                at
            };
            seated = false;
            let quits = at + draw.exponential(TENURE_YEARS * 365.0) as i32 + 25;
            let retires = birth + (64.0 * 365.25) as i32 + draw.between(0, 1_200);
            let leaves = quits.min(retires.max(at + 30));
            let post_ends = to != OPEN && leaves > to;
            let end = if post_ends { to } else { leaves };
            // Many employments end with the month.
            let end = if !post_ends && draw.chance(0.6) {
                month_start(end) - 1
            } else {
                end
            }
            .max(at);
            let reason = match (post_ends, retires <= quits) {
                (true, _) => "IS",
                (false, true) => "EL",
                (false, false) => draw.pick(&[("IR", 80), ("IS", 5), ("KU", 2), ("MU", 13)]),
            };
            let end = if end > last { OPEN } else { end };
            // The full-time majority of a full-time post; a part-time post is held as it is.
            let percent = if percent == 10_000 {
                draw.pick(&[(10_000, 82), (8_000, 7), (7_843, 3), (6_000, 4), (5_000, 4)])
            } else {
                percent
            };
            let mut employment = Employment {
                number: 0,
                person,
                post: number,
                profession,
                unit: post.unit,
                contract: Contract::Permanent,
                percent,
                from: hired,
                to: end,
                reason,
            };
            self.employments.push(employment);
            if percent == 5_000 && draw.chance(0.1) {
                // A second half-time employment beside the first.
                employment.post = 0;
                employment.contract = Contract::FixedTerm;
                employment.unit = unit(draw);
                employment.percent = 4_000;
                employment.reason = "MP";
                employment.from = hired.max(first - 200);
                self.employments.push(employment);
            }
            at = if end == OPEN { OPEN } else { end + gap(draw) };
        }
    }

    /// One chair of fixed-term staff: a row of employments with short gaps.
    fn fixed_term(
        &mut self,
        held: &[Day],
        crowd: &mut Crowd<'_>,
        (first, last): (Day, Day),
        draw: &mut Draw,
    ) {
        let profession = draw.pick(&SHARES);
        let mut at = first - draw.between(0, 300);
        let mut person = crowd.next(profession, draw);
        while at <= last {
            let contract = draw.pick(&[
                (Contract::Substitute, 48),
                (Contract::FixedTerm, 38),
                (Contract::Subsidised, 7),
                (Contract::Apprentice, 7),
            ]);
            // A substitute stands in for the holder of a post, who is on leave, and hides no vacancy.
            let post = draw.below(self.posts.len() as u32) + 1;
            let stands_in = contract == Contract::Substitute
                && held.get(post as usize).is_some_and(|from| *from <= at);
            let post = if stands_in { post } else { 0 };
            let end = at + 29 + draw.exponential(150.0).min(700.0) as i32;
            let percent = draw.pick(&[(10_000, 86), (8_000, 6), (5_000, 8)]);
            let to = if end > last { OPEN } else { end };
            if to >= first {
                self.employments.push(Employment {
                    number: 0,
                    person,
                    post,
                    profession,
                    unit: unit(draw),
                    contract,
                    percent,
                    from: at,
                    to,
                    reason: "MP",
                });
            }
            at = end + 1 + draw.exponential(20.0) as i32;
            if draw.chance(0.6) {
                person = crowd.next(profession, draw);
            }
        }
    }

    /// From which day each post, by number, has a permanent holder with no end in the plan.
    fn held_from(&self) -> Vec<Day> {
        let mut held = vec![OPEN; self.posts.len() + 1];
        for employment in &self.employments {
            if employment.contract == Contract::Permanent && employment.to == OPEN {
                held[employment.post as usize] = employment.from;
            }
        }
        held
    }

    /// The absences of all employments by month from the first to the last year of the plan.
    pub(crate) fn absences(
        &self,
        people: &People,
        first_year: i32,
        last_year: i32,
    ) -> Vec<Vec<Absence>> {
        let months = ((last_year - first_year + 1) * 12) as usize;
        let mut by_month = vec![Vec::new(); months];
        for (place, employment) in (0u32..).zip(&self.employments) {
            let mut draw = people.stream(tag::ABSENCE, &[u64::from(employment.number)]);
            let mut spells = Vec::new();
            for year in first_year..=last_year {
                one_year(people, employment, year, &mut spells, &mut draw);
            }
            spells.sort_by_key(|spell: &Away| spell.from);
            for spell in spells {
                cut_at_months(place, &spell, first_year, &mut by_month);
            }
        }
        by_month
    }
}

/// An absence before it is cut.
#[derive(Debug, Clone, Copy)]
struct Away {
    class: Class,
    from: Day,
    to: Day,
    pay: u16,
}

/// Draws one employment's absences of a year; the ones that matter most take their days first.
fn one_year(
    people: &People,
    employment: &Employment,
    year: i32,
    spells: &mut Vec<Away>,
    draw: &mut Draw,
) {
    let (first, last) = (
        day(year, 1, 1).max(employment.from),
        day(year, 12, 31).min(employment.to),
    );
    if first > last {
        return;
    }
    let share = f64::from(last - first + 1) / 365.0;
    let person = people.person(employment.person);
    let age = age_on(person.birth(), first);
    // Health differs between people and stays with them: a fifth has half of the sickness.
    let health = match people.latent(employment.person, tag::FRAILTY) {
        h if h < 0.2 => 2.5,
        h if h < 0.6 => 0.9,
        _ => 0.35,
    } * if age >= 55 { 1.2 } else { 0.95 };
    let mut away = |class: Class, from: Day, days: i32, pay: u16| {
        let to = (from + days - 1).min(employment.to);
        let free = spells
            .iter()
            .all(|spell| spell.to < from || spell.from > to);
        if from >= employment.from && from <= to && free {
            spells.push(Away {
                class,
                from,
                to,
                pay,
            });
        }
    };

    let parent = (24..=42).contains(&age);
    if parent && draw.chance(share * if person.sex() == 0 { 0.06 } else { 0.04 }) {
        let days = if person.sex() == 0 {
            draw.between(120, 330)
        } else {
            draw.between(14, 70)
        };
        let from = draw.day(first, last);
        away(Class::FamilyLeave, from, days, 0);
    }
    if draw.chance(share * 0.007) {
        let (from, days) = (draw.day(first, last), draw.between(60, 240));
        away(Class::StudyLeave, from, days, 0);
    }
    for _ in 0..draw.poisson(0.095 * health * share) {
        let (from, days) = (
            draw.day(first, last),
            30 + draw.exponential(58.0).min(330.0) as i32,
        );
        away(Class::Sickness, from, days, 10_000);
    }
    if share > 0.4 {
        let summer = draw.day(day(year, 6, 1), day(year, 8, 1));
        let days = draw.between(18, 28);
        away(Class::AnnualLeave, summer, days, 10_000);
        let winter = draw.day(day(year, 1, 7), day(year, 4, 20));
        let days = draw.between(5, 9);
        away(Class::AnnualLeave, winter, days, 10_000);
    }
    for _ in 0..draw.poisson(0.52 * health * share) {
        let (from, days) = (
            season_day(draw, first, last),
            4 + draw.exponential(7.5).min(25.0) as i32,
        );
        away(Class::Sickness, from, days, 10_000);
    }
    for _ in 0..draw.poisson(2.2 * health * share) {
        let (from, days) = (
            season_day(draw, first, last),
            draw.pick(&[(1, 40), (2, 32), (3, 28)]),
        );
        away(Class::Sickness, from, days, 10_000);
    }
    if draw.chance(0.03 * share) {
        let (from, days) = (
            draw.day(first, last),
            2 + draw.exponential(10.0).min(60.0) as i32,
        );
        away(Class::Accident, from, days, 10_000);
    }
    if (26..=46).contains(&age) {
        for _ in 0..draw.poisson(0.8 * share) {
            let (from, days) = (
                season_day(draw, first, last),
                draw.pick(&[(1, 50), (2, 30), (3, 20)]),
            );
            away(Class::ChildSickness, from, days, 10_000);
        }
    }
    for _ in 0..draw.poisson(0.4 * share) {
        let (from, pay) = (draw.day(first, last), draw.pick(&[(10_000, 60), (0, 40)]));
        away(Class::Other, from, 1, pay);
    }
}

/// A day on which illness begins: less often in summer.
fn season_day(draw: &mut Draw, first: Day, last: Day) -> Day {
    let on = draw.day(first, last);
    if matches!(civil(on).1, 6..=8) && draw.chance(0.5) {
        draw.day(first, last)
    } else {
        on
    }
}

/// Personnel systems cut absences at month ends; sick pay falls after 60 days.
fn cut_at_months(employment: u32, spell: &Away, first_year: i32, by_month: &mut [Vec<Absence>]) {
    let lower_pay = if spell.class == Class::Sickness {
        spell.from + 60
    } else {
        OPEN
    };
    let mut from = spell.from;
    while from <= spell.to {
        let (year, month, _) = civil(from);
        let month = Month::new(year, month);
        let mut to = spell.to.min(month.last);
        if from < lower_pay {
            to = to.min(lower_pay - 1);
        }
        let pay = if from >= lower_pay { 6_667 } else { spell.pay };
        let place = month.index() - first_year * 12;
        if let Some(list) = usize::try_from(place)
            .ok()
            .and_then(|place| by_month.get_mut(place))
        {
            let in_month = |on: Day| (on - month.first + 1) as u8;
            list.push(Absence {
                employment,
                class: spell.class,
                pay,
                from: in_month(from),
                to: in_month(to),
            });
        }
        from = to + 1;
    }
}

fn unit(draw: &mut Draw) -> u8 {
    draw.below(9) as u8 + 1
}

fn month_start(on: Day) -> Day {
    let (year, month, _) = civil(on);
    day(year, month, 1)
}

/// Residents of working age who stay, in random order.
struct Crowd<'a> {
    people: &'a People,
    ids: Vec<u32>,
    next: usize,
}

impl<'a> Crowd<'a> {
    fn new(people: &'a People, first_year: i32, draw: &mut Draw) -> Crowd<'a> {
        let mut ids: Vec<u32> = people
            .iter()
            .filter(|(_, person)| {
                person.from() == 0
                    && person.to() == OPEN
                    && (22..=62).contains(&person.age_in(first_year))
            })
            .map(|(id, _)| id)
            .collect();
        draw.shuffle(&mut ids);
        Crowd {
            people,
            ids,
            next: 0,
        }
    }

    /// The next person of the profession's usual sex; starts over when everyone has been asked.
    fn next(&mut self, profession: u8, draw: &mut Draw) -> u32 {
        let sex = u8::from(!draw.chance(WOMEN[usize::from(profession)]));
        for _ in 0..50 {
            let Some(id) = self.ids.get(self.next % self.ids.len().max(1)).copied() else {
                return 0;
            };
            self.next += 1;
            if self.people.person(id).sex() == sex {
                return id;
            }
        }
        self.ids.first().copied().unwrap_or(0)
    }
}

/// The last day known at a year's end is that year's last; used for the files of a year.
pub(crate) fn overlaps_year(from: Day, to: Day, year: i32) -> bool {
    from <= day(year, 12, 31) && to >= day(year, 1, 1)
}
