//! From an indicator to SQL text: component queries and one value query.

use crate::indicator::{Indicator, Span};
use crate::rollup::{self, RollUp};
use crate::{component, value};

/// The SQL of one indicator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// Storage number: the partition of the indicator in `component.cell` and in the results.
    pub indicator_no: i32,
    /// The component queries. Each returns `area`, `area_base`, `period_start`, every breakdown of
    /// the catalogue, `age`, `delivery_id`, `n`, `persons`, `hist` and `x`.
    pub components: Vec<ComponentSql>,
    /// The value query: reads the indicator's rows of `component.cell`, `reference.*` and
    /// `meta.delivered_month`; returns `output`, `area_level`, `area`, `period_grain`,
    /// `period_start`, `period`, every breakdown, `value`, `lower`, `upper`, `numerator`,
    /// `denominator`, `contributors` and `obs_status`.
    pub value_sql: String,
    /// The same as data up to the formula, for whoever merges components without a query; `None`
    /// for a model.
    pub roll_up: Option<RollUp>,
    /// What each value is made of: one row per `area_level`, `area`, `period_grain`,
    /// `period_start`, `component`, breakdowns and `delivery_id`, with `n` (sum, or days of persons),
    /// `persons` (distinct, null without person sets), `waits` (observations in the histogram) and
    /// `x`. The caller filters it to one value.
    pub lineage_sql: String,
}

/// One component query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentSql {
    /// The component's name, unique within the indicator.
    pub name: String,
    /// Which of its months a period takes.
    pub span: Span,
    /// The query.
    pub sql: String,
    /// The same as what it takes of each row of one relation, so that components of many
    /// indicators can share a scan; or why it cannot be said that way.
    pub row: Result<RowPart, Alone>,
}

/// The member of a breakdown that a row has where its own is null.
pub const UNKNOWN: &str = "unknown";

/// What a component takes of each row of a relation. Expressions are SQL over its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowPart {
    /// The relation (`conformed.home_care_visit`).
    pub table: String,
    /// Conditions that a row must meet, all of them.
    pub filters: Vec<String>,
    /// The area.
    pub area: String,
    /// What the area is: `municipality` or `county`.
    pub area_base: &'static str,
    /// The period; `None` for a spell, which has many.
    pub period: Option<RowPeriod>,
    /// The months in which a spell counts; `None` for a row that is none.
    pub spell: Option<SpellPart>,
    /// Name and member of each breakdown; a member that is null counts as [`UNKNOWN`].
    pub breakdowns: Vec<(String, String)>,
    /// The delivery; `None` where the relation has none.
    pub delivery: Option<String>,
    /// What is counted or added.
    pub measure: RowMeasure,
    /// Only the rows with the greatest of this, of the area and year, count.
    pub latest: Option<String>,
    /// The person, a pseudonym of 16 bytes; `None` where the relation has none.
    pub person: Option<String>,
}

/// Where a row's `period_start` comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowPeriod {
    /// The first day of the month of this day.
    MonthOf(String),
    /// The first day of the year of this day.
    YearOf(String),
    /// This very day.
    Day(String),
}

/// In which months a spell counts: those of its organiser that were delivered and that it reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpellPart {
    /// The organiser; a spell without one counts nowhere.
    pub organiser: String,
    /// The first day; a spell without one counts nowhere.
    pub first_day: String,
    /// The last day, which belongs to the spell; null while it goes on.
    pub last_day: String,
    /// The query of the months that were delivered: `organiser`, `period_start`, `period_end`.
    pub months: String,
    /// What of a month a spell must have.
    pub reach: SpellReach,
    /// The ages that count, when not all do.
    pub ages: Option<SpellAges>,
}

/// What of a month a spell must have to count in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpellReach {
    /// Any day.
    AnyDay,
    /// Its last day.
    LastDay,
}

/// Ages in completed years at which a spell counts in a month. No birth date, no age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpellAges {
    /// The birth date.
    pub birth_date: String,
    /// The least age that counts.
    pub from: Option<u32>,
    /// The highest.
    pub to: Option<u32>,
    /// Whether the age is that on 31.12. of the month's year, and not on the month's last day.
    pub at_year_end: bool,
}

/// What a component does with the rows it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowMeasure {
    /// `n` counts them.
    Rows,
    /// Only who is in them matters: `n` is null.
    Persons,
    /// `n` adds this.
    Sum(String),
    /// `persons` is the set of these, 16 bytes each, and `n` is null.
    Things(String),
    /// `hist` counts these days, and `n` the rows.
    Waits(String),
    /// `n` adds the days that a spell has in the month, times this weight where there is one.
    Days(Option<String>),
    /// `hist` is the set of the days of persons that spells have in the month; `n` and `persons` are null.
    CareDays,
}

/// Why a component is computed by a query of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alone {
    /// Which spells count depends on rows of another relation on the last day of each month.
    Matches,
    /// Rows of several relations are put together.
    SeveralRelations,
    /// Which spells count depends on other rows: the newest version of each area and year.
    NewestVersion,
    /// A model over published means: it reads a few hundred rows.
    Model,
}

impl std::fmt::Display for Alone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Alone::Matches => "it looks for rows of another relation beside each spell",
            Alone::SeveralRelations => "it puts rows of several relations together",
            Alone::NewestVersion => "it keeps the newest version of spells of each area and year",
            Alone::Model => "it is a model over published means",
        })
    }
}

/// Compiles an indicator; `breakdowns` are the breakdown columns of the whole catalogue.
pub(crate) fn compile(indicator: &Indicator, breakdowns: &[String]) -> Compiled {
    Compiled {
        indicator_no: indicator.number(),
        components: component::queries(indicator, breakdowns),
        value_sql: value::query(indicator, breakdowns),
        roll_up: rollup::roll_up(indicator, breakdowns),
        lineage_sql: value::lineage(indicator, breakdowns),
    }
}
