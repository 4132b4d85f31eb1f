//! A checked indicator: the typed form of a definition file.
//!
//! What a user of the catalogue may see is public; how it is computed ([`Source`], [`Component`],
//! [`Formula`]) stays in this crate. Only the reader in `definition` makes an [`Indicator`].

use std::collections::BTreeMap;

use tietopohja_domain::Date;

use crate::expression::Fragment;
use crate::words::words;

words! {
    /// What is computed: the closed set of formulas.
    pub enum Kind {
        /// A flow: a count or sum of the period.
        Sum = "sum",
        /// A level: persons, things or an amount at the end of the period, or distinct in it.
        Stock = "stock",
        /// Events per population or person-time, with an interval for counts.
        Rate = "rate",
        /// A part of a whole of the same things.
        Proportion = "proportion",
        /// One amount over another.
        Ratio = "ratio",
        /// An amount per resident.
        PerCapita = "per_capita",
        /// Cost per unit of service or labour.
        UnitCost = "unit_cost",
        /// Quantiles of a duration in days, and the share over a limit in law.
        WaitingTime = "waiting_time",
        /// Days of spells, weighted, per days of the period or year.
        PersonTime = "person_time",
        /// A linear model over published means, compared with a reference area.
        WeightedModel = "weighted_model",
        /// Actual, budget and forecast against each other.
        ScenarioComparison = "scenario_comparison",
    }
}

words! {
    /// A length of period.
    pub enum Grain {
        /// A calendar month.
        Month = "month",
        /// A calendar quarter.
        Quarter = "quarter",
        /// The half-years of the statutory deadlines: from 1.4. and from 1.10.
        HalfYear = "half_year",
        /// A calendar year.
        Year = "year",
    }
}

words! {
    /// A level of area.
    pub enum Level {
        /// Home municipality.
        Municipality = "municipality",
        /// Wellbeing services county (and Helsinki).
        County = "county",
        /// Collaborative area (YTA).
        CollaborationArea = "collaboration_area",
        /// The whole country, code `FI`.
        Country = "country",
    }
}

words! {
    /// Which of a component's months a period takes.
    pub enum Span {
        /// The months of the period, added or united.
        Period = "period",
        /// The last month of the period: a stock at its end.
        PeriodEnd = "period_end",
        /// December of the year before the period's year.
        PreviousYearEnd = "previous_year_end",
        /// From January of the period's year to the period's last month.
        YearToDate = "year_to_date",
        /// All months of the period's year.
        FullYear = "full_year",
    }
}

words! {
    /// Where an indicator is in its life.
    pub enum Status {
        /// Being written; not computed on schedule.
        Draft = "draft",
        /// In use.
        Active = "active",
        /// Still served, with a notice.
        Deprecated = "deprecated",
        /// No longer computed; old values stay readable.
        Retired = "retired",
    }
}

words! {
    /// Who asks for the number.
    pub enum Mandate {
        /// An act.
        Statutory = "statutory",
        /// A national collection or recommendation.
        National = "national",
        /// The county's own policy.
        Regional = "regional",
        /// Management.
        Management = "management",
    }
}

words! {
    /// Which way is better.
    pub enum Direction {
        /// A higher value is better.
        Higher = "higher",
        /// A lower value is better.
        Lower = "lower",
        /// Neither: the number describes.
        Context = "context",
    }
}

words! {
    /// A language of titles and texts.
    pub enum Language {
        /// Finnish.
        Fi = "fi",
        /// Swedish.
        Sv = "sv",
        /// English.
        En = "en",
    }
}

words! {
    /// Which areas the country is made of.
    pub(crate) enum Scope {
        /// The 22 organisers: 21 counties and Helsinki.
        Organisers = "organisers",
        /// The organisers and Åland.
        Finland = "finland",
    }
}

words! {
    /// The day on which an age is counted.
    pub(crate) enum AgeAt {
        /// The day of the event.
        Event = "event",
        /// The last day of the month.
        PeriodEnd = "period_end",
        /// 31.12. of the year.
        YearEnd = "year_end",
    }
}

words! {
    /// A division by days that makes person-time an average.
    pub(crate) enum Over {
        /// Days of the period.
        PeriodDays = "period_days",
        /// Days of the period's year.
        YearDays = "year_days",
    }
}

words! {
    /// The 31.12. whose residents are the denominator.
    pub(crate) enum PopulationAt {
        /// 31.12. of the year before the period's year.
        PreviousYearEnd = "previous_year_end",
        /// 31.12. of the year in which the period ends.
        PeriodEndYear = "period_end_year",
    }
}

/// Texts of an indicator in one language.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    /// Title.
    pub title: String,
    /// What is counted, in words.
    pub definition: Option<String>,
    /// What the number must not be used for.
    pub limits_of_use: Option<String>,
    /// Unit of the value, as shown.
    pub unit: Option<String>,
    /// Where the data come from and what is known of them.
    pub source: Option<String>,
}

/// Who answers for the definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Organisational unit.
    pub unit: String,
    /// Role in the unit.
    pub role: String,
    /// The day by which the definition must be looked at again.
    pub review_by: Option<Date>,
}

/// One number that the indicator gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) decimals: u8,
    pub(crate) labels: BTreeMap<Language, String>,
}

impl Output {
    /// Name in the column `output`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Unit, as shown.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// Decimals to show. Values are stored unrounded.
    pub fn decimals(&self) -> u8 {
        self.decimals
    }

    /// What this output is, when the indicator has several.
    pub fn label(&self, language: Language) -> Option<&str> {
        self.labels.get(&language).map(String::as_str)
    }
}

/// A breakdown: a column of the results, null for the total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breakdown {
    /// Name of the result column.
    pub name: String,
    /// Where its members come from.
    pub(crate) members: Members,
    /// The column of the population by which the denominator is divided too.
    pub(crate) population: Option<String>,
}

/// The members of a breakdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Members {
    /// A closed list in the definition.
    Values(Vec<String>),
    /// The conformed words of a code list.
    Codes(String),
}

/// A checked indicator.
#[derive(Debug, Clone, PartialEq)]
pub struct Indicator {
    pub(crate) file: String,
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) kind: Kind,
    pub(crate) status: Status,
    pub(crate) mandate: Mandate,
    pub(crate) catalogue: Vec<String>,
    pub(crate) better: Direction,
    pub(crate) texts: BTreeMap<Language, Text>,
    pub(crate) owner: Owner,
    pub(crate) levels: Vec<Level>,
    pub(crate) grains: Vec<Grain>,
    pub(crate) scope: Scope,
    pub(crate) breakdowns: Vec<Breakdown>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) disclosure_profile: String,
    pub(crate) sources: BTreeMap<String, Source>,
    pub(crate) components: Vec<Component>,
    pub(crate) formula: Formula,
}

impl Indicator {
    /// The file it is defined in.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Id, such as `lasu.notifications_per_1000`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Version of the definition: MAJOR = series break, MINOR = recompute, PATCH = text only.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it is in its life.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Who asks for it.
    pub fn mandate(&self) -> Mandate {
        self.mandate
    }

    /// Codes in the national indicator catalogue (`S02`).
    pub fn catalogue_codes(&self) -> &[String] {
        &self.catalogue
    }

    /// Which way is better.
    pub fn better(&self) -> Direction {
        self.better
    }

    /// The texts in a language.
    pub fn text(&self, language: Language) -> Option<&Text> {
        self.texts.get(&language)
    }

    /// Who answers for the definition.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Levels of area, widest last.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// Lengths of period, longest last.
    pub fn grains(&self) -> &[Grain] {
        &self.grains
    }

    /// Breakdowns, in the order of the file.
    pub fn breakdowns(&self) -> &[Breakdown] {
        &self.breakdowns
    }

    /// Outputs, in the order of the file.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// Name of the disclosure profile.
    pub fn disclosure_profile(&self) -> &str {
        &self.disclosure_profile
    }

    /// The contracts whose deliveries make a value complete, sorted.
    pub fn contracts(&self) -> Vec<&str> {
        let mut contracts: Vec<&str> = self
            .sources
            .values()
            .flat_map(|s| s.deliveries.iter().map(String::as_str))
            .collect();
        contracts.sort_unstable();
        contracts.dedup();
        contracts
    }

    /// The tables the components read, sorted.
    pub fn tables(&self) -> Vec<&str> {
        let mut tables: Vec<&str> = self
            .sources
            .values()
            .flat_map(|s| {
                std::iter::once(s.table.as_str()).chain(s.matches.iter().map(|m| m.table.as_str()))
            })
            .collect();
        if let Formula::Weighted(model) = &self.formula {
            tables.extend(model.tables());
        }
        tables.sort_unstable();
        tables.dedup();
        tables
    }

    /// Whether the denominator is a published population, which may be shown beside a hidden value.
    pub fn denominator_is_public(&self) -> bool {
        matches!(
            self.formula,
            Formula::Fraction {
                denominator: Denominator::Population(_),
                ..
            }
        )
    }

    /// Storage number: the first 31 bits of the BLAKE3 hash of the id.
    pub fn number(&self) -> i32 {
        let hash = blake3::hash(self.id.as_bytes());
        let [a, b, c, d, ..] = *hash.as_bytes();
        i32::from_be_bytes([a & 0x7f, b, c, d])
    }

    /// The grain in which deliveries are counted: a month, or a year when the sources are yearly.
    pub(crate) fn delivery_grain(&self) -> Grain {
        let yearly = matches!(self.formula, Formula::Weighted(_))
            || self
                .sources
                .values()
                .any(|s| matches!(s.time, Time::Year(_)));
        if yearly { Grain::Year } else { Grain::Month }
    }

    /// The grain of the stored components: that of the deliveries, or a year where whole years are
    /// all that is asked of events.
    pub(crate) fn cell_grain(&self) -> Grain {
        let whole_years = self.grains == [Grain::Year]
            && self.components.iter().all(|component| {
                matches!(
                    component.span,
                    Span::Period | Span::YearToDate | Span::FullYear
                ) && component.latest.is_none()
            })
            && self.sources.values().all(|source| {
                // Without deliveries, the cells themselves tell which months are known.
                matches!(source.time, Time::Event(_)) && !source.deliveries.is_empty()
            });
        if whole_years {
            Grain::Year
        } else {
            self.delivery_grain()
        }
    }

    /// The area the sources are keyed by. Checked to be the same for all.
    pub(crate) fn base(&self) -> Base {
        self.sources
            .values()
            .map(|s| s.base)
            .next()
            .unwrap_or(Base::County)
    }

    pub(crate) fn component(&self, name: &str) -> Option<&Component> {
        self.components.iter().find(|c| c.name == name)
    }
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Source {
    pub(crate) table: String,
    pub(crate) filter: Option<Fragment>,
    pub(crate) time: Time,
    pub(crate) base: Base,
    /// The column of the area.
    pub(crate) area: String,
    pub(crate) person: Option<String>,
    pub(crate) birth_date: Option<String>,
    /// Contracts that must be delivered; empty when the rows themselves say what is known.
    pub(crate) deliveries: Vec<String>,
    /// True for the rows whose numbers are estimates.
    pub(crate) estimated: Option<Fragment>,
    pub(crate) matches: Vec<Match>,
    /// Expressions of breakdowns that are not columns of the same name.
    pub(crate) breakdowns: BTreeMap<String, Fragment>,
    /// Whether the table has `delivery_id` (published reference tables have none).
    pub(crate) has_delivery: bool,
}

/// When a row counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Time {
    /// An event on a day: a column, or an expression of a date.
    Event(String),
    /// A whole calendar year, by number.
    Year(String),
    /// A spell.
    Spell(Validity),
}

/// The columns of a spell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: String,
    pub(crate) to: String,
    /// Whether the day in `to` still belongs to the spell.
    pub(crate) last_day_counts: bool,
}

/// The area a source is keyed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    Municipality,
    County,
}

impl Base {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Base::Municipality => "municipality",
            Base::County => "county",
        }
    }
}

/// Rows of another table that must, or must not, be there on the day a spell is looked at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Match {
    /// `false`: the row counts only without a match.
    pub(crate) wanted: bool,
    pub(crate) table: String,
    /// Column of the source, column of the other table.
    pub(crate) on: Vec<(String, String)>,
    pub(crate) filter: Option<Fragment>,
    pub(crate) validity: Option<Validity>,
}

/// A span of ages in completed years, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ages {
    pub(crate) from: u32,
    pub(crate) to: Option<u32>,
}

impl Ages {
    /// Whether no age is left out.
    pub(crate) const fn are_all(self) -> bool {
        self.from == 0 && self.to.is_none()
    }
}

/// An additive statistic of one or more sources.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Component {
    pub(crate) name: String,
    pub(crate) from: Vec<String>,
    pub(crate) measure: Measure,
    pub(crate) filter: Option<Fragment>,
    pub(crate) ages: Option<(Ages, AgeAt)>,
    pub(crate) span: Span,
    /// Keep only the rows of the highest value of this column in the area and year.
    pub(crate) latest: Option<String>,
    /// Counts the rows that the sources call estimates, beside the component proper.
    pub(crate) estimates: bool,
}

/// What a component stores.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Measure {
    /// Rows.
    Count,
    /// A sum of whole numbers.
    Sum(Fragment),
    /// Distinct persons.
    Persons,
    /// Distinct values of a column that is not a person.
    Distinct(String),
    /// Days of spells in each month, weighted.
    Days(Option<Fragment>),
    /// Days of persons in spells in each month, a day of a person once.
    CareDays,
    /// A histogram of days.
    Waits(Fragment),
    /// Rows that wait longer than the limit valid on their day.
    OverLimit(LimitTest),
}

impl Measure {
    /// Whether persons are counted by the days that they have.
    pub(crate) fn has_days(&self) -> bool {
        matches!(self, Measure::CareDays)
    }

    /// Whether the number of the component is the size of its set.
    pub(crate) fn is_set(&self) -> bool {
        matches!(self, Measure::Persons | Measure::Distinct(_))
    }
}

/// A duration to test against a limit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LimitTest {
    pub(crate) rules: Vec<crate::limits::Limit>,
    pub(crate) days: Fragment,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) birth_date: Option<String>,
}

/// A component's number in a formula.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) component: String,
    /// Stored units in one unit of the formula (100 cents, 10 000 basis points).
    pub(crate) divide_by: i64,
    pub(crate) over: Option<Over>,
}

/// Residents as a denominator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Population {
    pub(crate) table: &'static str,
    pub(crate) at: PopulationAt,
    pub(crate) ages: Option<Ages>,
}

/// What divides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Denominator {
    Term(Term),
    Population(Population),
}

/// A confidence interval.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Interval {
    pub(crate) method: IntervalMethod,
    /// Coverage, as written in the file (`0.95`).
    pub(crate) level: String,
}

words! {
    /// How an interval is computed.
    pub(crate) enum IntervalMethod {
        /// Exact Poisson below 10 events, Byar from 10.
        ByarExactBelow10 = "byar_exact_below_10",
        /// Wilson score.
        Wilson = "wilson",
    }
}

/// The last step: from component numbers to values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Formula {
    /// One number.
    Single(Term),
    /// One number over another.
    Fraction {
        numerator: Term,
        denominator: Denominator,
        per: i64,
        annualise: bool,
        interval: Option<Interval>,
    },
    /// Statistics of one histogram; one entry per output.
    Waiting {
        waits: String,
        stats: Vec<WaitingStat>,
    },
    /// Terms against each other; one entry per output.
    Scenario {
        terms: BTreeMap<String, Term>,
        stats: Vec<ScenarioStat>,
    },
    /// A linear model; one entry per output.
    Weighted(Model),
}

/// One output of a waiting time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum WaitingStat {
    /// A quantile; `q` as written in the file.
    Quantile { q: String },
    /// The share of rows over a limit: a component of its own, since a limit in months has no
    /// fixed number of days.
    ShareOver {
        component: String,
        per: i64,
        interval: Option<Interval>,
    },
}

/// One output of a comparison: `of` against `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScenarioStat {
    pub(crate) stat: Comparison,
    pub(crate) of: String,
    pub(crate) to: String,
    pub(crate) per: i64,
    pub(crate) divide_by: i64,
}

words! {
    /// How two terms are compared.
    pub(crate) enum Comparison {
        /// `of / to · per`.
        Ratio = "ratio",
        /// `(of − to) / divide_by`.
        Difference = "difference",
        /// `(of − to) / |to| · per`.
        RelativeDifference = "relative_difference",
    }
}

/// A linear model over published means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) means: String,
    pub(crate) mean_column: String,
    pub(crate) coefficients: String,
    pub(crate) variable: String,
    pub(crate) weights: String,
    pub(crate) weight_column: String,
    pub(crate) sector_column: String,
    pub(crate) county: String,
    pub(crate) year: String,
    /// The area whose need is 1.
    pub(crate) reference_area: String,
    pub(crate) sectors: Vec<Sector>,
    /// One entry per output.
    pub(crate) stats: Vec<ModelStat>,
}

impl Model {
    fn tables(&self) -> Vec<&str> {
        let mut tables = vec![
            self.means.as_str(),
            self.coefficients.as_str(),
            self.weights.as_str(),
        ];
        tables.extend(
            self.sectors
                .iter()
                .filter_map(|s| s.share.as_ref())
                .map(|s| s.table.as_str()),
        );
        tables
    }
}

/// One sector of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sector {
    pub(crate) name: String,
    pub(crate) coefficient: String,
    /// A share of the population that multiplies the factor.
    pub(crate) share: Option<Share>,
}

/// The share of a group in the population of each area and year.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) table: String,
    pub(crate) column: String,
}

/// One output of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ModelStat {
    /// The linear sum of a sector.
    Need(String),
    /// The sector's need over the reference area's, times its share over the reference area's.
    Factor(String),
    /// The weighted sum of the factors.
    Total,
}
