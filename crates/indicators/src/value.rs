//! The value query: components merged to every level, grain and breakdown, then the formula.
//!
//! The steps are common table expressions in the order of reading: which months and counties are
//! delivered, which periods are reported, which cells make up a period, which areas make up an
//! area; then cells are merged (once over the indicator's rows of `component.cell`), residents are
//! counted, completeness is decided, and the last SELECT applies the formula.
//!
//! Missing is not zero: a row is made for every area, reported period and member. It is 0 when
//! everything was delivered and nothing happened, and null with status `L` when a delivery is
//! missing. Statuses: `A` normal, `E` rests on estimates, `M` no value exists (zero denominator, no
//! population, no observation), `L` not delivered.
//!
//! Sums are of whole numbers; floating point appears only in the last SELECT.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::component::{conditions, list, literal, need_component, share_component};
use crate::indicator::{
    Ages, Base, Comparison, Component, Denominator, Formula, Grain, Indicator, Interval,
    IntervalMethod, Level, Measure, Members, Model, ModelStat, Over, Population, PopulationAt,
    ScenarioStat, Scope, Span, Term, WaitingStat,
};
use crate::rollup::{Need, Needed};

/// The code of the whole country.
const COUNTRY: &str = "FI";

/// Åland, which is outside the acts on wellbeing services counties.
pub(crate) const ALAND: &str = "91";

/// Marks the pseudo-contract of a component whose source has no deliveries.
const ROWS: &str = "rows:";

/// The value query of an indicator; `breakdowns` are the columns of the catalogue.
pub(crate) fn query(indicator: &Indicator, breakdowns: &[String]) -> String {
    if let Formula::Weighted(model) = &indicator.formula {
        return model_query(indicator, model, breakdowns);
    }
    let plan = Plan::new(indicator, breakdowns);
    let mut steps = vec![
        plan.delivered_month(),
        plan.reported(),
        plan.span_month(),
        plan.area_member(),
    ];
    steps.extend(plan.resident_area());
    steps.push(plan.of_period());
    steps.push(plan.merged());
    if let Some(population) = plan.population {
        steps.push(plan.residents(population));
    }
    steps.extend(plan.needed_month());
    steps.push(plan.delivered());
    steps.push(plan.complete());
    steps.push(plan.measured());
    format!(
        "{}WITH\n{}\n{}",
        head(indicator),
        join_steps(&steps),
        plan.formula()
    )
}

/// What each value is made of, by component and delivery.
pub(crate) fn lineage(indicator: &Indicator, breakdowns: &[String]) -> String {
    if let Formula::Weighted(model) = &indicator.formula {
        return model_lineage(indicator, model, breakdowns);
    }
    let plan = Plan::new(indicator, breakdowns);
    let steps = [
        plan.delivered_month(),
        plan.reported(),
        plan.span_month(),
        plan.area_member(),
    ];
    let mut columns = vec![
        "a.area_level".to_owned(),
        "a.area".to_owned(),
        "t.grain AS period_grain".to_owned(),
        "t.period_start".to_owned(),
    ];
    columns.extend(breakdowns.iter().map(|b| format!("c.{b}")));
    let of_days: Vec<String> = indicator
        .components
        .iter()
        .filter(|component| component.measure.has_days())
        .map(|component| literal(&component.name))
        .collect();
    let has_days = !of_days.is_empty();
    let of_days = format!("c.component IN ({})", of_days.join(", "));
    columns.extend(["c.component", "c.delivery_id"].map(str::to_owned));
    columns.push(match has_days {
        false => "sum(c.n) AS n".to_owned(),
        true => format!(
            "CASE WHEN {of_days} THEN care_day_set_count(care_day_set_union(c.hist) FILTER (WHERE {of_days})) ELSE sum(c.n) END AS n"
        ),
    });
    columns.push(match has_days {
        false => "person_set_count(person_set_union(c.persons)) AS persons".to_owned(),
        true => format!(
            "CASE WHEN {of_days} THEN care_day_set_persons(care_day_set_union(c.hist) FILTER (WHERE {of_days})) ELSE person_set_count(person_set_union(c.persons)) END AS persons"
        ),
    });
    columns.push(match has_days {
        false => "histogram_count(day_histogram_merge(c.hist)) AS waits".to_owned(),
        true => format!(
            "histogram_count(day_histogram_merge(c.hist) FILTER (WHERE NOT ({of_days}))) AS waits"
        ),
    });
    columns.push("sum(c.x) AS x".to_owned());
    let group = (1..=breakdowns.len() + 6)
        .map(|n| n.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    format!(
        "-- {} {}: what each value is made of, by component and delivery.\nWITH\n{}\nSELECT\n{}\n{}{}\nGROUP BY {group}\n",
        indicator.id,
        indicator.version,
        join_steps(&steps),
        list("    ", &columns),
        plan.cells_by_period(),
        plan.area_join("c.area", "t.year"),
    )
}

fn head(indicator: &Indicator) -> String {
    let title = indicator
        .text(crate::indicator::Language::Fi)
        .map(|t| one_line(&t.title))
        .unwrap_or_default();
    format!(
        "-- {} {}, kind {}\n-- {title}\n",
        indicator.id, indicator.version, indicator.kind
    )
}

/// A text that stays inside a comment.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One common table expression.
struct Step {
    comment: String,
    name: &'static str,
    body: String,
}

impl Step {
    fn new(name: &'static str, comment: &str, body: String) -> Step {
        Step {
            comment: comment.to_owned(),
            name,
            body,
        }
    }
}

fn join_steps(steps: &[Step]) -> String {
    steps
        .iter()
        .map(|step| {
            format!(
                "-- {}\n{} AS (\n{}\n)",
                step.comment,
                step.name,
                indent(&step.body)
            )
        })
        .collect::<Vec<_>>()
        .join(",\n")
}

fn indent(text: &str) -> String {
    text.lines()
        .map(|line| {
            if line.is_empty() {
                String::new()
            } else {
                format!("    {line}")
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// One output as SQL expressions over the columns of `measured`.
struct OutputSql {
    name: String,
    value: String,
    lower: Option<String>,
    upper: Option<String>,
    numerator: Option<String>,
    denominator: Option<String>,
    /// Columns with numbers of persons.
    people: Vec<String>,
    /// Condition under which no value exists although everything is delivered.
    nothing: Option<String>,
    /// Conditions under which the value rests on estimates.
    estimated: Vec<String>,
}

pub(crate) struct Plan<'a> {
    indicator: &'a Indicator,
    /// Breakdown columns of the catalogue.
    all: &'a [String],
    /// Breakdowns of this indicator, in the order of the catalogue.
    pub(crate) used: Vec<&'a crate::indicator::Breakdown>,
    pub(crate) population: Option<&'a Population>,
    /// What must be delivered: a contract (or `rows:component`) in each of these spans.
    needs: BTreeMap<(String, Span), ()>,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(indicator: &'a Indicator, all: &'a [String]) -> Plan<'a> {
        let used = all
            .iter()
            .filter_map(|b| indicator.breakdowns.iter().find(|i| i.name == *b))
            .collect();
        let population = match &indicator.formula {
            Formula::Fraction {
                denominator: Denominator::Population(population),
                ..
            } => Some(population),
            _ => None,
        };
        let mut needs = BTreeMap::new();
        for component in indicator.components.iter().filter(|c| !c.estimates) {
            for source in component
                .from
                .iter()
                .filter_map(|name| indicator.sources.get(name))
            {
                for contract in &source.deliveries {
                    needs.insert((contract.clone(), component.span), ());
                }
                if source.deliveries.is_empty() {
                    needs.insert((rows_key(component), component.span), ());
                }
            }
        }
        Plan {
            indicator,
            all,
            used,
            population,
            needs,
        }
    }

    fn base(&self) -> Base {
        self.indicator.base()
    }

    fn own_cells(&self) -> String {
        format!(
            "c.indicator_no = {} AND c.indicator = {}",
            self.indicator.number(),
            literal(&self.indicator.id)
        )
    }

    /// What must be delivered, by span.
    pub(crate) fn needed(&self) -> Vec<Need> {
        let needs = self.needs.keys().map(|(key, span)| Need {
            what: match key.strip_prefix(ROWS) {
                Some(component) => Needed::Rows(component.to_owned()),
                None => Needed::Contract(key.clone()),
            },
            span: *span,
        });
        needs.collect()
    }

    pub(crate) fn leaves_out_aland(&self) -> bool {
        self.indicator.scope == Scope::Organisers
    }

    fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = self.indicator.components.iter().map(|c| c.span).collect();
        spans.sort_unstable();
        spans.dedup();
        spans
    }

    fn delivered_month(&self) -> Step {
        let contracts: Vec<String> = self
            .needs
            .keys()
            .filter(|(key, _)| !key.starts_with(ROWS))
            .map(|(key, _)| literal(key))
            .collect();
        let mut parts = Vec::new();
        if !contracts.is_empty() {
            let mut contracts = contracts;
            contracts.dedup();
            parts.push(format!(
                "SELECT DISTINCT d.contract, d.county_code, d.month_start\nFROM meta.delivered_month AS d\nWHERE d.contract IN ({})",
                contracts.join(", ")
            ));
        }
        let mut rows: Vec<&Component> = Vec::new();
        for component in &self.indicator.components {
            if self
                .needs
                .contains_key(&(rows_key(component), component.span))
                && !component.estimates
            {
                rows.push(component);
            }
        }
        for component in rows {
            let key = literal(&rows_key(component));
            let cells = self.own_cells();
            let name = literal(&component.name);
            parts.push(match self.base() {
                Base::County => format!(
                    "SELECT DISTINCT {key} AS contract, c.area AS county_code, c.period_start AS month_start\n\
                     FROM component.cell AS c\nWHERE {cells} AND c.component = {name}"
                ),
                Base::Municipality => format!(
                    "SELECT DISTINCT {key} AS contract, m.county_code, c.period_start AS month_start\n\
                     FROM component.cell AS c\nJOIN reference.municipality_on AS m\n    \
                     ON m.municipality_code = c.area AND m.year = date_part('year', c.period_start)\n\
                     WHERE {cells} AND c.component = {name}"
                ),
            });
        }
        let comment = if self.needs.keys().any(|(key, _)| key.starts_with(ROWS)) {
            "Months of each county that are known. Published data are known where they have rows."
        } else {
            "Months that each county has delivered."
        };
        Step::new("delivered_month", comment, parts.join("\nUNION ALL\n"))
    }

    fn reported(&self) -> Step {
        let grains: Vec<String> = self
            .indicator
            .grains
            .iter()
            .map(|g| literal(g.as_str()))
            .collect();
        let mut columns: Vec<String> = [
            "grain",
            "period_start",
            "period_end",
            "label",
            "days",
            "year_days",
        ]
        .iter()
        .map(|c| format!("p.{c}"))
        .collect();
        columns.push("CAST(date_part('year', p.period_start) AS INT) AS year".to_owned());
        if let Some(population) = self.population {
            columns.push(match population.at {
                PopulationAt::PreviousYearEnd => {
                    "CAST(date_part('year', p.period_start) AS INT) - 1 AS population_year"
                        .to_owned()
                }
                PopulationAt::PeriodEndYear => {
                    "CAST(date_part('year', p.period_end) AS INT) AS population_year".to_owned()
                }
            });
        }
        let body = format!(
            "SELECT\n{}\nFROM reference.period AS p\nWHERE p.grain IN ({})\n    AND EXISTS (\n        \
             SELECT 1 FROM delivered_month AS d\n        \
             WHERE d.month_start >= p.period_start AND d.month_start <= p.period_end\n    )",
            list("    ", &columns),
            grains.join(", ")
        );
        Step::new(
            "reported",
            "Periods of which at least something is delivered.",
            body,
        )
    }

    fn span_month(&self) -> Step {
        Step::new(
            "span_month",
            "The cells of each period, by the way a component is taken.",
            self.span_periods(self.indicator.cell_grain()),
        )
    }

    /// The months that must be delivered, where cells are wider.
    fn needed_month(&self) -> Option<Step> {
        let grain = self.indicator.delivery_grain();
        (grain != self.indicator.cell_grain()).then(|| {
            Step::new(
                "needed_month",
                "The months of each period that must be delivered.",
                self.span_periods(grain),
            )
        })
    }

    /// The periods of a grain that each reported period takes, by span.
    fn span_periods(&self, grain: Grain) -> String {
        let cell = literal(grain.as_str());
        let parts: Vec<String> = self
            .spans()
            .into_iter()
            .map(|span| {
                let within = match span {
                    Span::Period => "m.period_start >= t.period_start AND m.period_end <= t.period_end",
                    Span::PeriodEnd => "m.period_end = t.period_end",
                    Span::PreviousYearEnd => "m.period_end = make_date(t.year - 1, 12, 31)",
                    Span::YearToDate => "m.period_start >= make_date(t.year, 1, 1) AND m.period_end <= t.period_end",
                    Span::FullYear => {
                        "m.period_start >= make_date(t.year, 1, 1) AND m.period_end <= make_date(t.year, 12, 31)"
                    }
                };
                format!(
                    "SELECT {} AS span, t.grain, t.period_start, t.year, m.period_start AS cell_start\n\
                     FROM reported AS t\nJOIN reference.period AS m ON m.grain = {cell} AND {within}",
                    literal(span.as_str())
                )
            })
            .collect();
        parts.join("\nUNION ALL\n")
    }

    fn area_member(&self) -> Step {
        let levels = &self.indicator.levels;
        let inside = self.scope_condition("");
        match self.base() {
            Base::Municipality => Step::new(
                "area_member",
                "The municipalities of each area, in the division of the year.",
                municipality_levels(levels, &inside),
            ),
            Base::County => {
                let parts: Vec<String> = levels
                    .iter()
                    .map(|level| {
                        let area = match level {
                            // Refused for sources by county when the definition is read.
                            Level::Municipality | Level::County => "county_code".to_owned(),
                            Level::CollaborationArea => "collaboration_area_code".to_owned(),
                            Level::Country => literal(COUNTRY),
                        };
                        format!(
                            "SELECT {} AS area_level, {area} AS area, county_code, county_code AS base FROM reference.county{inside}",
                            literal(level.as_str())
                        )
                    })
                    .collect();
                Step::new(
                    "area_member",
                    "The counties of each area.",
                    parts.join("\nUNION ALL\n"),
                )
            }
        }
    }

    fn scope_condition(&self, qualifier: &str) -> String {
        match self.indicator.scope {
            Scope::Organisers => format!(" WHERE {qualifier}county_code <> {}", literal(ALAND)),
            Scope::Finland => String::new(),
        }
    }

    /// Municipalities of each area for the population, when the sources are by county.
    fn resident_area(&self) -> Option<Step> {
        self.population?;
        (self.base() == Base::County).then(|| {
            Step::new(
                "resident_area",
                "The municipalities of each area, in the division of the year.",
                municipality_levels(&self.indicator.levels, &self.scope_condition("")),
            )
        })
    }

    /// The FROM clause of cells with the periods they belong to.
    fn cells_by_period(&self) -> String {
        let taken: Vec<String> = self
            .indicator
            .components
            .iter()
            .map(|c| format!("({}, {})", literal(&c.name), literal(c.span.as_str())))
            .collect();
        format!(
            "FROM component.cell AS c\nJOIN (VALUES {}) AS k (component, span) ON k.component = c.component\n\
             JOIN span_month AS t ON t.span = k.span AND t.cell_start = c.period_start",
            taken.join(", ")
        )
    }

    /// Joins the areas a base area belongs to, and keeps the indicator's own cells.
    fn area_join(&self, base: &str, year: &str) -> String {
        let on_year = match self.base() {
            Base::Municipality => format!("a.year = {year} AND "),
            Base::County => String::new(),
        };
        format!(
            "\nJOIN area_member AS a ON {on_year}a.base = {base}\nWHERE {}",
            self.own_cells()
        )
    }

    fn of_period(&self) -> Step {
        let mut columns: Vec<String> = ["t.grain", "t.period_start", "t.year", "c.area AS base"]
            .map(str::to_owned)
            .to_vec();
        columns.extend(self.used.iter().map(|b| format!("c.{}", b.name)));
        for component in &self.indicator.components {
            let own = format!("FILTER (WHERE c.component = {})", literal(&component.name));
            for state in self.states(component) {
                columns.push(format!("{} {own} AS {}", state.merge("c."), state.column));
            }
        }
        let group = (1..=4 + self.used.len())
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(", ");
        Step::new(
            "of_period",
            "Cells merged over deliveries and the months of each period.",
            format!(
                "SELECT\n{}\n{}\nWHERE {}\nGROUP BY {group}",
                list("    ", &columns),
                self.cells_by_period(),
                self.own_cells()
            ),
        )
    }

    fn merged(&self) -> Step {
        let mut columns: Vec<String> = ["a.area_level", "a.area", "v.grain", "v.period_start"]
            .map(str::to_owned)
            .to_vec();
        columns.extend(
            self.used
                .iter()
                .map(|b| format!("CASE WHEN k.by_{0} THEN v.{0} END AS {0}", b.name)),
        );
        for component in &self.indicator.components {
            for state in self.states(component) {
                columns.push(format!("{} AS {}", state.merge_again("v."), state.column));
            }
        }
        let on_year = match self.base() {
            Base::Municipality => "a.year = v.year AND ",
            Base::County => "",
        };
        let group = (1..=4 + self.used.len())
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(", ");
        Step::new(
            "merged",
            "The same for every area, in total and by member.",
            format!(
                "SELECT\n{}\nFROM of_period AS v\nJOIN area_member AS a ON {on_year}a.base = v.base{}\nGROUP BY {group}",
                list("    ", &columns),
                mask(
                    &self
                        .used
                        .iter()
                        .map(|b| b.name.as_str())
                        .collect::<Vec<_>>()
                ),
            ),
        )
    }

    /// The stored states of a component that the formula needs.
    pub(crate) fn states(&self, component: &Component) -> Vec<State> {
        let mut states = Vec::new();
        let name = &component.name;
        match &component.measure {
            Measure::Persons | Measure::Distinct(_) => {
                states.push(State {
                    kind: StateKind::Set,
                    column: format!("{name}_set"),
                });
            }
            Measure::Waits(_) => {
                states.push(State {
                    kind: StateKind::Sum,
                    column: name.clone(),
                });
                states.push(State {
                    kind: StateKind::Histogram,
                    column: format!("{name}_hist"),
                });
            }
            Measure::CareDays => states.push(State {
                kind: StateKind::Days,
                column: format!("{name}_days"),
            }),
            Measure::Count | Measure::Sum(_) | Measure::Days(_) | Measure::OverLimit(_) => {
                states.push(State {
                    kind: StateKind::Sum,
                    column: name.clone(),
                });
            }
        }
        let has_own = component.measure.is_set() || component.measure.has_days();
        if self.counts_people(component) && !has_own {
            states.push(State {
                kind: StateKind::Set,
                column: format!("{name}_set"),
            });
        }
        states
    }

    fn counts_people(&self, component: &Component) -> bool {
        !component.estimates
            && !matches!(component.measure, Measure::Distinct(_))
            && component
                .from
                .iter()
                .filter_map(|s| self.indicator.sources.get(s))
                .any(|s| s.person.is_some())
    }

    /// The column of `measured` with the number of persons in a component.
    fn people(&self, name: &str) -> Option<String> {
        let component = self.indicator.component(name)?;
        if !self.counts_people(component) {
            return None;
        }
        Some(if component.measure.is_set() {
            name.to_owned()
        } else {
            format!("{name}_people")
        })
    }

    /// Residents of each year and municipality, and of what divides them.
    pub(crate) fn population_rows(&self, population: &Population) -> String {
        let by = self
            .population_columns()
            .fold(String::new(), |text, (_, column)| text + ", " + column);
        format!(
            "SELECT year, municipality_code{by}, sum(population) AS population, max(obs_status) AS obs_status\n\
             FROM {}{}\nGROUP BY year, municipality_code{by}",
            population.table,
            population
                .ages
                .map(|ages| format!("\nWHERE {}", age_span("age", ages)))
                .unwrap_or_default(),
        )
    }

    fn residents(&self, population: &Population) -> Step {
        let divided: Vec<&str> = self
            .population_columns()
            .map(|(_, column)| column)
            .collect();
        let areas = match self.base() {
            Base::Municipality => "area_member",
            Base::County => "resident_area",
        };
        let mut columns: Vec<String> = ["y.year", "y.population_year", "a.area_level", "a.area"]
            .map(str::to_owned)
            .to_vec();
        columns.extend(
            divided
                .iter()
                .map(|c| format!("CASE WHEN k.by_{c} THEN p.{c} END AS {c}")),
        );
        columns.push("sum(p.population) AS residents".to_owned());
        columns.push("max(p.obs_status) AS obs_status".to_owned());
        let group = (1..=4 + divided.len())
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(", ");
        let body = format!(
            "SELECT\n{}\nFROM (SELECT DISTINCT year, population_year FROM reported) AS y\nJOIN (\n{}\n) AS p ON p.year = y.population_year\n\
             JOIN {areas} AS a ON a.year = y.year AND a.base = p.municipality_code{}\nGROUP BY {group}",
            list("    ", &columns),
            indent(&self.population_rows(population)),
            mask(&divided),
        );
        let who = population
            .ages
            .map_or("Residents".to_owned(), |a| match (a.from, a.to) {
                (0, Some(to)) => format!("Residents up to {to} years of age"),
                (from, None) => format!("Residents of {from} years or more"),
                (from, Some(to)) => format!("Residents of {from} to {to} years"),
            });
        let when = match population.at {
            PopulationAt::PreviousYearEnd => "on 31.12. of the year before",
            PopulationAt::PeriodEndYear => "on 31.12. of the year in which the period ends",
        };
        Step::new("residents", &format!("{who} {when}."), body)
    }

    /// Breakdowns that also divide the population: breakdown name, population column.
    pub(crate) fn population_columns(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.used
            .iter()
            .filter_map(|b| {
                Some((
                    b.name.as_str(),
                    b.population.as_deref().filter(|p| *p != "whole")?,
                ))
            })
            .collect::<Vec<_>>()
            .into_iter()
    }

    fn delivered(&self) -> Step {
        let needs: Vec<String> = self
            .needs
            .keys()
            .map(|(contract, span)| format!("({}, {})", literal(contract), literal(span.as_str())))
            .collect();
        let months = self.needed_month().map_or("span_month", |step| step.name);
        let body = format!(
            "SELECT t.grain, t.period_start, t.year, d.county_code, count(*) AS months, any_need.months AS needed\n\
             FROM (VALUES {needs}) AS k (contract, span)\n\
             JOIN {months} AS t ON t.span = k.span\n\
             JOIN delivered_month AS d ON d.contract = k.contract AND d.month_start = t.cell_start\n\
             JOIN (\n    \
             SELECT t.grain, t.period_start, count(*) AS months\n    \
             FROM (VALUES {needs}) AS k (contract, span)\n    \
             JOIN {months} AS t ON t.span = k.span\n    \
             GROUP BY t.grain, t.period_start\n\
             ) AS any_need ON any_need.grain = t.grain AND any_need.period_start = t.period_start\n\
             GROUP BY t.grain, t.period_start, t.year, d.county_code, any_need.months",
            needs = needs.join(", ")
        );
        Step::new(
            "delivered",
            "Months delivered and months needed, by county.",
            body,
        )
    }

    fn complete(&self) -> Step {
        let (areas, on_year) = match self.base() {
            Base::Municipality => (
                "SELECT DISTINCT year, area_level, area, county_code FROM area_member",
                "a.year = t.year",
            ),
            Base::County => (
                "SELECT DISTINCT area_level, area, county_code FROM area_member",
                "",
            ),
        };
        let join = if on_year.is_empty() {
            "CROSS JOIN reported AS t".to_owned()
        } else {
            format!("JOIN reported AS t ON {on_year}")
        };
        let mut columns: Vec<String> = [
            "a.area_level",
            "a.area",
            "t.grain",
            "t.period_start",
            "t.label",
            "t.days",
            "t.year_days",
            "t.year",
        ]
        .map(str::to_owned)
        .to_vec();
        if self.population.is_some() {
            columns.push("t.population_year".to_owned());
        }
        let group = (1..=columns.len())
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(", ");
        columns.push("bool_and(coalesce(d.months = d.needed, FALSE)) AS complete".to_owned());
        Step::new(
            "complete",
            "Every area and reported period; complete when all its counties have delivered everything.",
            format!(
                "SELECT\n{}\nFROM ({areas}) AS a\n{join}\nLEFT JOIN delivered AS d\n    \
                 ON d.county_code = a.county_code AND d.grain = t.grain AND d.period_start = t.period_start\nGROUP BY {group}",
                list("    ", &columns)
            ),
        )
    }

    fn measured(&self) -> Step {
        let mut columns: Vec<String> = [
            "s.area_level",
            "s.area",
            "s.grain",
            "s.period_start",
            "s.label",
            "s.days",
            "s.year_days",
            "s.complete",
        ]
        .map(str::to_owned)
        .to_vec();
        columns.extend(self.used.iter().map(|b| format!("{0}_member.{0}", b.name)));
        for component in &self.indicator.components {
            let name = &component.name;
            match &component.measure {
                measure if measure.is_set() => {
                    columns.push(format!(
                        "coalesce(person_set_count(v.{name}_set), 0) AS {name}"
                    ));
                }
                Measure::CareDays => columns.push(format!(
                    "coalesce(care_day_set_count(v.{name}_days), 0) AS {name}"
                )),
                Measure::Waits(_) => {
                    columns.push(format!("coalesce(v.{name}, 0) AS {name}"));
                    columns.push(format!("v.{name}_hist"));
                }
                _ => columns.push(format!("coalesce(v.{name}, 0) AS {name}")),
            }
            if self.counts_people(component) && !component.measure.is_set() {
                columns.push(match component.measure.has_days() {
                    true => {
                        format!("coalesce(care_day_set_persons(v.{name}_days), 0) AS {name}_people")
                    }
                    false => {
                        format!("coalesce(person_set_count(v.{name}_set), 0) AS {name}_people")
                    }
                });
            }
        }
        let mut body = String::new();
        if self.population.is_some() {
            columns.push("r.residents".to_owned());
            columns.push("r.obs_status AS residents_status".to_owned());
        }
        let _ = write!(
            body,
            "SELECT\n{}\nFROM complete AS s",
            list("    ", &columns)
        );
        for breakdown in &self.used {
            let name = &breakdown.name;
            let members = match &breakdown.members {
                Members::Values(values) => {
                    let rows: Vec<String> =
                        values.iter().map(|v| format!("({})", literal(v))).collect();
                    format!(
                        "SELECT * FROM (VALUES (CAST(NULL AS VARCHAR)), {}) AS m ({name})",
                        rows.join(", ")
                    )
                }
                Members::Codes(codes) => format!(
                    "SELECT CAST(NULL AS VARCHAR) AS {name}\n    UNION ALL\n    \
                     SELECT DISTINCT coalesce(maps_to, code) AS {name} FROM reference.code WHERE list = {}",
                    literal(codes)
                ),
            };
            let _ = write!(body, "\nCROSS JOIN (\n    {members}\n) AS {name}_member");
        }
        let mut on: Vec<String> = ["area_level", "area", "grain", "period_start"]
            .map(|c| format!("v.{c} = s.{c}"))
            .to_vec();
        on.extend(
            self.used
                .iter()
                .map(|b| format!("(v.{0} IS NOT DISTINCT FROM {0}_member.{0})", b.name)),
        );
        let _ = write!(
            body,
            "\nLEFT JOIN merged AS v{}",
            conditions("    ", "ON", &on)
        );
        if self.population.is_some() {
            let mut on: Vec<String> = ["year", "population_year", "area_level", "area"]
                .map(|c| format!("r.{c} = s.{c}"))
                .to_vec();
            on.extend(
                self.population_columns()
                    .map(|(b, column)| format!("(r.{column} IS NOT DISTINCT FROM {b}_member.{b})")),
            );
            let _ = write!(
                body,
                "\nLEFT JOIN residents AS r{}",
                conditions("    ", "ON", &on)
            );
        }
        Step::new(
            "measured",
            "The numbers of the formula. Complete and without rows is zero.",
            body,
        )
    }

    // The formula.

    fn outputs(&self) -> Vec<OutputSql> {
        let names = self.indicator.outputs.iter().map(|o| o.name.clone());
        match &self.indicator.formula {
            Formula::Single(term) => names.map(|name| self.single(name, term)).collect(),
            Formula::Fraction {
                numerator,
                denominator,
                per,
                annualise,
                interval,
            } => names
                .map(|name| {
                    self.fraction(
                        name,
                        numerator,
                        denominator,
                        *per,
                        *annualise,
                        interval.as_ref(),
                    )
                })
                .collect(),
            Formula::Waiting { waits, stats } => names
                .zip(stats)
                .map(|(name, stat)| self.waiting(name, waits, stat))
                .collect(),
            Formula::Scenario { terms, stats } => names
                .zip(stats)
                .map(|(name, stat)| self.scenario(name, terms, stat))
                .collect(),
            Formula::Weighted(_) => Vec::new(),
        }
    }

    fn estimates(&self) -> Vec<String> {
        self.indicator
            .components
            .iter()
            .filter(|c| c.estimates)
            .map(|c| format!("{} > 0", c.name))
            .collect()
    }

    fn people_of(&self, components: &[&str]) -> Vec<String> {
        let mut columns: Vec<String> = components.iter().filter_map(|c| self.people(c)).collect();
        columns.dedup();
        columns
    }

    fn single(&self, name: String, term: &Term) -> OutputSql {
        let denominator = term.over.map(|over| match term.divide_by {
            1 => over_column(over).to_owned(),
            divide_by => format!("{divide_by} * {}", over_column(over)),
        });
        OutputSql {
            name,
            value: float(term),
            lower: None,
            upper: None,
            numerator: Some(term.component.clone()),
            denominator,
            people: self.people_of(&[&term.component]),
            nothing: None,
            estimated: self.estimates(),
        }
    }

    fn fraction(
        &self,
        name: String,
        numerator: &Term,
        denominator: &Denominator,
        per: i64,
        annualise: bool,
        interval: Option<&Interval>,
    ) -> OutputSql {
        let mut scale = String::new();
        if per != 1 {
            let _ = write!(scale, " * {per}");
        }
        if annualise {
            scale.push_str(" * year_days / days");
        }
        let (below, raw, mut people, mut estimated) = match denominator {
            Denominator::Population(_) => (
                "nullif(residents, 0)".to_owned(),
                "residents".to_owned(),
                self.people_of(&[&numerator.component]),
                vec!["residents_status = 'E'".to_owned()],
            ),
            Denominator::Term(term) => {
                let raw = term.component.clone();
                let below = if term.divide_by == 1 && term.over.is_none() {
                    format!("nullif({raw}, 0)")
                } else {
                    format!("nullif({}, 0)", float(term))
                };
                (
                    below,
                    raw,
                    self.people_of(&[&numerator.component, &term.component]),
                    Vec::new(),
                )
            }
        };
        people.dedup();
        estimated.extend(self.estimates());
        let count = &numerator.component;
        let limits = |side: &str| {
            interval.map(|interval| match interval.method {
                IntervalMethod::ByarExactBelow10 => {
                    format!("rate_{side}({count}, {}) / {below}{scale}", interval.level)
                }
                IntervalMethod::Wilson => format!(
                    "CASE WHEN {count} <= {raw} AND {raw} > 0 THEN wilson_{side}({count}, {raw}, {}){scale} END",
                    interval.level
                ),
            })
        };
        OutputSql {
            name,
            value: format!("{} / {below}{scale}", float(numerator)),
            lower: limits("lower"),
            upper: limits("upper"),
            numerator: Some(count.clone()),
            denominator: Some(raw.clone()),
            people,
            nothing: Some(format!("coalesce({raw}, 0) = 0")),
            estimated,
        }
    }

    fn waiting(&self, name: String, waits: &str, stat: &WaitingStat) -> OutputSql {
        let nothing = Some(format!("{waits} = 0"));
        match stat {
            WaitingStat::Quantile { q } => OutputSql {
                name,
                value: format!("histogram_quantile({waits}_hist, {q})"),
                lower: None,
                upper: None,
                numerator: None,
                denominator: Some(waits.to_owned()),
                people: self.people_of(&[waits]),
                nothing,
                estimated: self.estimates(),
            },
            WaitingStat::ShareOver {
                component,
                per,
                interval,
            } => {
                let limits = |side: &str| {
                    interval.as_ref().map(|i| {
                        format!(
                            "CASE WHEN {waits} > 0 THEN wilson_{side}({component}, {waits}, {}) * {per} END",
                            i.level
                        )
                    })
                };
                OutputSql {
                    name,
                    value: format!("CAST({component} AS DOUBLE) / nullif({waits}, 0) * {per}"),
                    lower: limits("lower"),
                    upper: limits("upper"),
                    numerator: Some(component.clone()),
                    denominator: Some(waits.to_owned()),
                    people: self.people_of(&[component, waits]),
                    nothing,
                    estimated: self.estimates(),
                }
            }
        }
    }

    fn scenario(
        &self,
        name: String,
        terms: &BTreeMap<String, Term>,
        stat: &ScenarioStat,
    ) -> OutputSql {
        let number = |component: &str| terms.get(component).map(float).unwrap_or_default();
        let (of, to) = (number(&stat.of), number(&stat.to));
        let per = if stat.per == 1 {
            String::new()
        } else {
            format!(" * {}", stat.per)
        };
        let value = match stat.stat {
            Comparison::Ratio => format!("{of} / nullif({to}, 0){per}"),
            Comparison::Difference if stat.divide_by == 1 => format!("{of} - {to}"),
            Comparison::Difference => format!("({of} - {to}) / {}", stat.divide_by),
            Comparison::RelativeDifference => format!("({of} - {to}) / nullif(abs({to}), 0){per}"),
        };
        let nothing = match stat.stat {
            Comparison::Ratio | Comparison::RelativeDifference => Some(format!("{} = 0", stat.to)),
            Comparison::Difference => None,
        };
        OutputSql {
            name,
            value,
            lower: None,
            upper: None,
            numerator: Some(stat.of.clone()),
            denominator: Some(stat.to.clone()),
            people: self.people_of(&[&stat.of, &stat.to]),
            nothing,
            estimated: self.estimates(),
        }
    }

    pub(crate) fn formula(&self) -> String {
        let outputs = self.outputs();
        let several = outputs.len() > 1;
        let column = |expression: &dyn Fn(&OutputSql) -> Option<String>, missing: &str| -> String {
            if !several {
                return outputs
                    .first()
                    .and_then(expression)
                    .unwrap_or_else(|| missing.to_owned());
            }
            let mut cases = String::new();
            for output in &outputs {
                if let Some(sql) = expression(output) {
                    let _ = write!(cases, "\n        WHEN {} THEN {sql}", literal(&output.name));
                }
            }
            if cases.is_empty() {
                missing.to_owned()
            } else {
                format!("CASE o.output{cases}\n    END")
            }
        };
        let complete = |sql: String| format!("CASE WHEN complete THEN {sql} END");
        let mut columns = vec![
            if several {
                "o.output".to_owned()
            } else {
                column(&|o| Some(literal(&o.name)), "NULL") + " AS output"
            },
            "area_level".to_owned(),
            "area".to_owned(),
            "grain AS period_grain".to_owned(),
            "period_start".to_owned(),
            "label AS period".to_owned(),
        ];
        columns.extend(self.all.iter().map(|b| {
            if self.used.iter().any(|u| u.name == *b) {
                b.clone()
            } else {
                format!("CAST(NULL AS VARCHAR) AS {b}")
            }
        }));
        let null = "CAST(NULL AS DOUBLE)";
        let double = |sql: &String| complete(format!("CAST({sql} AS DOUBLE)"));
        columns.push(column(&|o| Some(complete(o.value.clone())), null) + " AS value");
        columns.push(column(&|o| o.lower.clone().map(complete), null) + " AS lower");
        columns.push(column(&|o| o.upper.clone().map(complete), null) + " AS upper");
        // Where no value exists there is nothing to protect it by, so its count is not given either.
        let counted = |o: &OutputSql| {
            let numerator = format!("CAST({} AS DOUBLE)", o.numerator.as_ref()?);
            Some(match &o.nothing {
                Some(nothing) => {
                    format!("CASE WHEN complete AND NOT ({nothing}) THEN {numerator} END")
                }
                None => complete(numerator),
            })
        };
        columns.push(column(&counted, null) + " AS numerator");
        columns.push(column(&|o| o.denominator.as_ref().map(double), null) + " AS denominator");
        columns.push(
            column(
                &|o| contributors(&o.people).map(complete),
                "CAST(NULL AS BIGINT)",
            ) + " AS contributors",
        );
        columns.push(column(&|o| Some(status(o)), "'A'") + " AS obs_status");
        let outputs_join = if several {
            let rows: Vec<String> = outputs
                .iter()
                .map(|o| format!("({})", literal(&o.name)))
                .collect();
            format!("\nCROSS JOIN (VALUES {}) AS o (output)", rows.join(", "))
        } else {
            String::new()
        };
        format!(
            "SELECT\n{}\nFROM measured{outputs_join}\n",
            list("    ", &columns)
        )
    }
}

/// The pseudo-contract of a component whose source has no deliveries.
fn rows_key(component: &Component) -> String {
    format!("{ROWS}{}", component.name)
}

/// The smallest number of persons among the components that has any; 0 when none has.
fn contributors(people: &[String]) -> Option<String> {
    match people {
        [] => None,
        [one] => Some(one.clone()),
        several => {
            let some: Vec<String> = several.iter().map(|c| format!("nullif({c}, 0)")).collect();
            Some(format!("coalesce(least({}), 0)", some.join(", ")))
        }
    }
}

fn status(output: &OutputSql) -> String {
    let mut text = String::from("CASE WHEN NOT complete THEN 'L'");
    if let Some(nothing) = &output.nothing {
        let _ = write!(text, " WHEN {nothing} THEN 'M'");
    }
    if !output.estimated.is_empty() {
        let _ = write!(text, " WHEN {} THEN 'E'", output.estimated.join(" OR "));
    }
    text.push_str(" ELSE 'A' END");
    text
}

/// A term as a floating-point number, in the unit of the formula.
fn float(term: &Term) -> String {
    let mut text = format!("CAST({} AS DOUBLE)", term.component);
    if term.divide_by != 1 {
        let _ = write!(text, " / {}", term.divide_by);
    }
    if let Some(over) = term.over {
        let _ = write!(text, " / {}", over_column(over));
    }
    text
}

fn over_column(over: Over) -> &'static str {
    match over {
        Over::PeriodDays => "days",
        Over::YearDays => "year_days",
    }
}

fn age_span(column: &str, ages: Ages) -> String {
    match (ages.from, ages.to) {
        (0, Some(to)) => format!("{column} <= {to}"),
        (from, None) => format!("{column} >= {from}"),
        (from, Some(to)) => format!("{column} BETWEEN {from} AND {to}"),
    }
}

/// Joins one row for each way to take breakdowns together: in total, or by member.
fn mask(names: &[&str]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let rows: Vec<String> = (0..1usize << names.len())
        .map(|bits| {
            let cells: Vec<&str> = (0..names.len())
                .map(|at| if bits >> at & 1 == 1 { "TRUE" } else { "FALSE" })
                .collect();
            format!("({})", cells.join(", "))
        })
        .collect();
    let columns: Vec<String> = names.iter().map(|n| format!("by_{n}")).collect();
    format!(
        "\nCROSS JOIN (VALUES {}) AS k ({})",
        rows.join(", "),
        columns.join(", ")
    )
}

/// Every area of the levels with its municipalities, by year.
fn municipality_levels(levels: &[Level], inside: &str) -> String {
    let parts: Vec<String> = levels
        .iter()
        .map(|level| {
            let area = match level {
                Level::Municipality => "division_code".to_owned(),
                Level::County => "county_code".to_owned(),
                Level::CollaborationArea => "collaboration_area_code".to_owned(),
                Level::Country => literal(COUNTRY),
            };
            format!(
                "SELECT year, {} AS area_level, {area} AS area, county_code, municipality_code AS base\n\
                 FROM reference.municipality_on{inside}",
                literal(level.as_str())
            )
        })
        .collect();
    parts.join("\nUNION ALL\n")
}

#[derive(Clone, Copy)]
pub(crate) enum StateKind {
    Sum,
    Set,
    Histogram,
    Days,
}

/// A stored state and its column in the merging steps.
pub(crate) struct State {
    pub(crate) kind: StateKind,
    pub(crate) column: String,
}

impl State {
    /// The merge of stored cells.
    fn merge(&self, qualifier: &str) -> String {
        match self.kind {
            StateKind::Sum => format!("sum({qualifier}n)"),
            StateKind::Set => format!("person_set_union({qualifier}persons)"),
            StateKind::Histogram => format!("day_histogram_merge({qualifier}hist)"),
            StateKind::Days => format!("care_day_set_union({qualifier}hist)"),
        }
    }

    /// The merge of merged cells.
    fn merge_again(&self, qualifier: &str) -> String {
        match self.kind {
            StateKind::Sum => format!("sum({qualifier}{})", self.column),
            StateKind::Set => format!("person_set_union({qualifier}{})", self.column),
            StateKind::Histogram => format!("day_histogram_merge({qualifier}{})", self.column),
            StateKind::Days => format!("care_day_set_union({qualifier}{})", self.column),
        }
    }
}

// The linear model.

fn model_components(model: &Model) -> Vec<String> {
    model
        .sectors
        .iter()
        .flat_map(|s| {
            [
                Some(need_component(&s.name)),
                s.share.as_ref().map(|_| share_component(&s.name)),
            ]
        })
        .flatten()
        .collect()
}

fn model_query(indicator: &Indicator, model: &Model, breakdowns: &[String]) -> String {
    let cells = format!(
        "c.indicator_no = {} AND c.indicator = {}",
        indicator.number(),
        literal(&indicator.id)
    );
    let mut own = vec!["c.area".to_owned(), "c.period_start".to_owned()];
    own.extend(model_components(model).iter().map(|name| {
        format!(
            "max(c.x) FILTER (WHERE c.component = {}) AS {name}",
            literal(name)
        )
    }));
    let spine: Vec<String> = indicator
        .levels
        .iter()
        .map(|level| match level {
            Level::Country => format!("SELECT 'country' AS area_level, {} AS area", literal(&model.reference_area)),
            Level::Municipality | Level::County | Level::CollaborationArea => {
                format!(
                    "SELECT 'county' AS area_level, county_code AS area FROM reference.county WHERE county_code <> {}",
                    literal(ALAND)
                )
            }
        })
        .collect();
    let weights: Vec<String> = model
        .sectors
        .iter()
        .map(|s| {
            format!(
                "max({}) FILTER (WHERE {} = {}) AS weight_{}",
                model.weight_column,
                model.sector_column,
                literal(&s.name),
                s.name
            )
        })
        .collect();
    let mut factors = vec![
        "s.area_level".to_owned(),
        "s.area".to_owned(),
        "p.grain".to_owned(),
        "p.period_start".to_owned(),
        "p.label".to_owned(),
    ];
    for sector in &model.sectors {
        let need = need_component(&sector.name);
        factors.push(format!("v.{need}"));
        let mut factor = format!("v.{need} / r.{need}");
        if sector.share.is_some() {
            let share = share_component(&sector.name);
            let _ = write!(factor, " * v.{share} / r.{share}");
        }
        factors.push(format!("{factor} AS factor_{}", sector.name));
        factors.push(format!("w.weight_{}", sector.name));
    }
    let steps = [
        Step::new(
            "linear",
            "The stored sums of each area and year.",
            format!(
                "SELECT\n{}\nFROM component.cell AS c\nWHERE {cells}\nGROUP BY c.area, c.period_start",
                list("    ", &own)
            ),
        ),
        Step::new(
            "spine",
            "Every area that the model is published for.",
            spine.join("\nUNION ALL\n"),
        ),
        Step::new(
            "weight",
            "The weights of the sectors, by year.",
            format!(
                "SELECT\n    {} AS year,\n{}\nFROM {}\nGROUP BY {}",
                model.year,
                list("    ", &weights),
                model.weights,
                model.year
            ),
        ),
        Step::new(
            "factor",
            &format!(
                "Each sector against {}, the reference area.",
                model.reference_area
            ),
            format!(
                "SELECT\n{}\nFROM reference.period AS p\nJOIN linear AS r ON r.period_start = p.period_start AND r.area = {}\n\
                 CROSS JOIN spine AS s\nLEFT JOIN linear AS v ON v.period_start = p.period_start AND v.area = s.area\n\
                 LEFT JOIN weight AS w ON w.year = date_part('year', p.period_start)\nWHERE p.grain = 'year'",
                list("    ", &factors),
                literal(&model.reference_area)
            ),
        ),
    ];
    let total = model
        .sectors
        .iter()
        .map(|s| format!("weight_{0} * factor_{0}", s.name))
        .collect::<Vec<_>>()
        .join(" + ");
    let values: Vec<(String, String)> = indicator
        .outputs
        .iter()
        .zip(&model.stats)
        .map(|(output, stat)| {
            let value = match stat {
                ModelStat::Need(sector) => need_component(sector),
                ModelStat::Factor(sector) => format!("factor_{sector}"),
                ModelStat::Total => total.clone(),
            };
            (literal(&output.name), value)
        })
        .collect();
    let cases: String = values
        .iter()
        .map(|(name, value)| format!("\n            WHEN {name} THEN {value}"))
        .collect();
    let names: Vec<String> = values.iter().map(|(name, _)| format!("({name})")).collect();
    let mut out: Vec<String> = [
        "output",
        "area_level",
        "area",
        "period_grain",
        "period_start",
        "period",
    ]
    .map(str::to_owned)
    .to_vec();
    out.extend(
        breakdowns
            .iter()
            .map(|b| format!("CAST(NULL AS VARCHAR) AS {b}")),
    );
    out.push("value".to_owned());
    out.extend(
        ["lower", "upper", "numerator", "denominator"]
            .map(|c| format!("CAST(NULL AS DOUBLE) AS {c}")),
    );
    out.push("CAST(NULL AS BIGINT) AS contributors".to_owned());
    out.push("CASE WHEN value IS NULL THEN 'L' ELSE 'A' END AS obs_status".to_owned());
    format!(
        "{}WITH\n{}\nSELECT\n{}\nFROM (\n    SELECT\n        o.output,\n        area_level,\n        area,\n        \
         grain AS period_grain,\n        period_start,\n        label AS period,\n        CASE o.output{cases}\n        END AS value\n    \
         FROM factor\n    CROSS JOIN (VALUES {}) AS o (output)\n) AS modelled\n",
        head(indicator),
        join_steps(&steps),
        list("    ", &out),
        names.join(", ")
    )
}

fn model_lineage(indicator: &Indicator, model: &Model, breakdowns: &[String]) -> String {
    let mut columns = vec![
        format!(
            "CASE WHEN c.area = {} THEN 'country' ELSE 'county' END AS area_level",
            literal(&model.reference_area)
        ),
        "c.area".to_owned(),
        format!("{} AS period_grain", literal(Grain::Year.as_str())),
        "c.period_start".to_owned(),
    ];
    columns.extend(breakdowns.iter().map(|b| format!("c.{b}")));
    columns.extend(
        [
            "c.component",
            "c.delivery_id",
            "c.n",
            "CAST(NULL AS BIGINT) AS persons",
            "CAST(NULL AS BIGINT) AS waits",
            "c.x",
        ]
        .map(str::to_owned),
    );
    format!(
        "-- {} {}: what each value is made of, by component.\nSELECT\n{}\nFROM component.cell AS c\nWHERE c.indicator_no = {} AND c.indicator = {}\n",
        indicator.id,
        indicator.version,
        list("    ", &columns),
        indicator.number(),
        literal(&indicator.id)
    )
}
