//! Limits in law as versioned data: `tietopohja-limits/1`.
//!
//! One limit is several rules: each with half-open validity and, where the act separates ages, an
//! age span. The reader checks that on no day two rules of a limit apply to one person, and that
//! none is missing between the first and the last day.

use tietopohja_domain::{Date, Problem};

use crate::definition::parse_ages;
use crate::document::{Document, Section};
use crate::indicator::Ages;
use crate::words::words;

words! {
    /// The unit of a limit.
    pub enum LimitUnit {
        /// Calendar days.
        Day = "day",
        /// Working days after the day of initiation.
        WorkingDay = "working_day",
        /// Weeks of seven days.
        Week = "week",
        /// Calendar months.
        Month = "month",
        /// Persons for one employee.
        Persons = "persons",
        /// Employees for one client.
        Ratio = "ratio",
        /// A day in the calendar; the limit is `valid_to`.
        Deadline = "deadline",
    }
}

words! {
    /// Which side of the limit is allowed.
    pub enum Bound {
        /// At most.
        Max = "max",
        /// At least.
        Min = "min",
    }
}

/// One rule of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    file: String,
    line: u32,
    id: String,
    unit: LimitUnit,
    bound: Bound,
    value: Option<String>,
    ages: Option<Ages>,
    valid_from: Option<Date>,
    valid_to: Option<Date>,
    basis: String,
    confirmed: bool,
    title_fi: String,
}

impl Limit {
    /// Id, such as `statute.hoitotakuu_pth`; several rules share it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the limit is about, in Finnish.
    pub fn title_fi(&self) -> &str {
        &self.title_fi
    }

    /// Unit of [`value`](Self::value).
    pub fn unit(&self) -> LimitUnit {
        self.unit
    }

    /// Whether the number is the most or the least that is allowed.
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// The number, in its shortest decimal form; `None` for a deadline.
    pub fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// Whom the rule is for, as a condition (`age >= 23`); `None` for everyone.
    pub fn condition(&self) -> Option<String> {
        self.ages.map(|ages| match (ages.from, ages.to) {
            (0, Some(to)) => format!("age < {}", to + 1),
            (from, None) => format!("age >= {from}"),
            (from, Some(to)) => format!("age >= {from} and age < {}", to + 1),
        })
    }

    /// First day; `None` = open or not known.
    pub fn valid_from(&self) -> Option<Date> {
        self.valid_from
    }

    /// First day on which the rule no longer holds; `None` = open.
    pub fn valid_to(&self) -> Option<Date> {
        self.valid_to
    }

    /// The act and section.
    pub fn basis(&self) -> &str {
        &self.basis
    }

    /// Whether the rule was checked against a public source.
    pub fn confirmed(&self) -> bool {
        self.confirmed
    }

    pub(crate) fn ages(&self) -> Option<Ages> {
        self.ages
    }

    fn holds_on(&self, day: Date) -> bool {
        self.valid_from.is_none_or(|from| from <= day) && self.valid_to.is_none_or(|to| day < to)
    }
}

/// Reads every limit file.
pub(crate) fn read(files: &[(String, String)], problems: &mut Vec<Problem>) -> Vec<Limit> {
    let mut limits = Vec::new();
    for (file, text) in files {
        let (document, table) = Document::parse(file, text);
        let root = document.root(table.get_ref());
        if let Some(schema) = root.required_text("schema")
            && schema.value != "tietopohja-limits/1"
        {
            let help = Some("write `schema = \"tietopohja-limits/1\"`".to_owned());
            root.problem(
                schema.line,
                format!("unknown schema `{}`", schema.value),
                help,
            );
        }
        limits.extend(
            root.list("limit")
                .iter()
                .filter_map(|section| read_limit(file, section)),
        );
        root.finish(&[], "");
        problems.extend(document.into_problems());
    }
    limits.sort_by(|a: &Limit, b| {
        (&a.id, a.valid_from, a.ages.map(|s| s.from)).cmp(&(
            &b.id,
            b.valid_from,
            b.ages.map(|s| s.from),
        ))
    });
    for rules in limits.chunk_by(|a, b| a.id == b.id) {
        check_rules(rules, problems);
    }
    limits
}

fn read_limit(file: &str, section: &Section<'_, '_>) -> Option<Limit> {
    let before = section.document.problem_count();
    let id = section.required_text("id");
    let title_fi = section.required_text("title_fi");
    let unit = section.required_word::<LimitUnit>("unit");
    let max = section.number("max");
    let min = section.number("min");
    let ages = section
        .text("ages")
        .and_then(|text| parse_ages(section, &text));
    let valid_from = section.date("valid_from");
    let valid_to = section.date("valid_to");
    let basis = section.required_text("basis");
    let confirmed = section.boolean("confirmed");
    section.finish(&[], "");
    if let (Some(from), Some(to)) = (&valid_from, &valid_to)
        && from.value >= to.value
    {
        let help = Some("`valid_to` is the first day on which the rule no longer holds".to_owned());
        section.problem(to.line, "`valid_to` is not after `valid_from`", help);
    }
    if let Some(unit) = &unit {
        if unit.value == LimitUnit::Deadline && valid_to.is_none() {
            section.problem(unit.line, "a deadline needs `valid_to`", None);
        }
        let wanted = usize::from(unit.value != LimitUnit::Deadline);
        if [&max, &min].into_iter().flatten().count() != wanted {
            let help = "write `max` (at most) or `min` (at least), in the unit of the limit; a deadline has neither"
                .to_owned();
            section.problem(section.line, "the limit must have one number", Some(help));
        }
    }
    if section.document.problem_count() > before {
        return None;
    }
    Some(Limit {
        file: file.to_owned(),
        line: section.line,
        id: id?.value,
        title_fi: title_fi?.value,
        unit: unit?.value,
        bound: if min.is_some() {
            Bound::Min
        } else {
            Bound::Max
        },
        value: max.or(min).map(|m| m.value),
        ages: ages.map(|a| a.value),
        valid_from: valid_from.map(|d| d.value),
        valid_to: valid_to.map(|d| d.value),
        basis: basis?.value,
        confirmed: confirmed.is_some_and(|c| c.value),
    })
}

/// On each day between two changes of the law, the rules must share out the ages that the limit is
/// about: none twice, none left out. Days before the first and after the last rule may be without one.
fn check_rules(rules: &[Limit], problems: &mut Vec<Problem>) {
    let Some(first) = rules.first() else { return };
    let mut changes: Vec<Date> = rules
        .iter()
        .flat_map(|r| [r.valid_from, r.valid_to])
        .flatten()
        .collect();
    changes.sort_unstable();
    changes.dedup();
    // A day of each stretch: the day before the first change, then each change.
    let days: Vec<Date> = match changes.first() {
        Some(day) => day
            .yesterday()
            .ok()
            .into_iter()
            .chain(changes.iter().copied())
            .collect(),
        None => vec![Date::constant(2000, 1, 1)],
    };
    let covered: Vec<bool> = days
        .iter()
        .map(|day| rules.iter().any(|r| r.holds_on(*day)))
        .collect();
    let last_covered = covered.iter().rposition(|c| *c).unwrap_or(0);
    let mut seen_first = false;
    let ages_of = |rule: &Limit| rule.ages.unwrap_or(Ages { from: 0, to: None });
    let youngest = rules.iter().map(|r| ages_of(r).from).min().unwrap_or(0);
    let oldest = if rules.iter().any(|r| ages_of(r).to.is_none()) {
        None
    } else {
        rules.iter().filter_map(|r| ages_of(r).to).max()
    };
    for (at, day) in days.iter().enumerate() {
        let mut valid: Vec<&Limit> = rules.iter().filter(|r| r.holds_on(*day)).collect();
        if valid.is_empty() {
            if seen_first && at < last_covered {
                problems.push(
                    Problem::new(
                        &first.file,
                        format!("limit `{}` has no rule from {day}", first.id),
                    )
                    .at(first.line)
                    .help("let one rule's `valid_to` be the next one's `valid_from`"),
                );
            }
            continue;
        }
        seen_first = true;
        valid.sort_by_key(|r| ages_of(r).from);
        let mut next_age = Some(youngest);
        for rule in valid {
            let ages = ages_of(rule);
            let at_line = |message: String| Problem::new(&rule.file, message).at(rule.line);
            match next_age {
                Some(age) if ages.from == age => {}
                Some(age) if ages.from > age => problems.push(
                    at_line(format!(
                        "limit `{}` has no rule on {day} for ages from {age} to {}",
                        rule.id,
                        ages.from - 1
                    ))
                    .help("rules for ages share out the same ages on every day"),
                ),
                _ => problems.push(
                    at_line(format!(
                        "two rules of limit `{}` hold on {day} for age {}",
                        rule.id, ages.from
                    ))
                    .help("validity is half-open: end the old rule on the day the new one begins"),
                ),
            }
            next_age = match (next_age, ages.to) {
                (Some(age), Some(to)) => Some(age.max(to + 1)),
                _ => None,
            };
        }
        if let Some(age) = next_age
            && oldest.is_none_or(|oldest| age <= oldest)
        {
            problems.push(
                Problem::new(
                    &first.file,
                    format!(
                        "limit `{}` has no rule on {day} for ages from {age}",
                        first.id
                    ),
                )
                .at(first.line)
                .help("rules for ages share out the same ages on every day"),
            );
        }
    }
}
