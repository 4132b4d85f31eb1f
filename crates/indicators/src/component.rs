//! Component queries: additive statistics of a source at the finest grain.
//!
//! One row per area, month (or year), breakdown members and delivery. Texts of the definition stand
//! only in the common table expression `source`, where no other table is in scope; the statistic is
//! taken outside it.

use std::fmt::Write as _;

use crate::compile::{
    Alone, ComponentSql, RowMeasure, RowPart, RowPeriod, SpellAges, SpellPart, SpellReach, UNKNOWN,
};
use crate::indicator::{
    AgeAt, Ages, Base, Component, Formula, Grain, Indicator, LimitTest, Match, Measure, Model,
    Source, Span, Time, Validity,
};
use crate::limits::LimitUnit;
use crate::value::one_line;

/// The queries of every component of an indicator; `breakdowns` are the columns of the catalogue.
pub(crate) fn queries(indicator: &Indicator, breakdowns: &[String]) -> Vec<ComponentSql> {
    if let Formula::Weighted(model) = &indicator.formula {
        return model_queries(indicator, model, breakdowns);
    }
    indicator
        .components
        .iter()
        .map(|component| {
            let query = Query::of(indicator, component, breakdowns);
            ComponentSql {
                name: component.name.clone(),
                span: component.span,
                sql: query.text(breakdowns),
                row: query.row(),
            }
        })
        .collect()
}

/// An SQL text literal.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Lines of a list, indented, with commas between them.
pub(crate) fn list(indent: &str, items: &[String]) -> String {
    items
        .iter()
        .map(|item| format!("{indent}{item}"))
        .collect::<Vec<_>>()
        .join(",\n")
}

/// Lines of a condition, indented; empty without conditions.
pub(crate) fn conditions(indent: &str, keyword: &str, items: &[String]) -> String {
    let mut text = String::new();
    for (at, item) in items.iter().enumerate() {
        let and = if keyword.len() > 3 { "  AND" } else { "AND" };
        let _ = write!(
            text,
            "\n{indent}{} {item}",
            if at == 0 { keyword } else { and }
        );
    }
    text
}

/// A condition inside `AND`, in brackets when it could fall apart.
fn bracketed(sql: &str) -> String {
    let upper = sql.to_ascii_uppercase();
    if upper.contains(" OR ") {
        format!("({sql})")
    } else {
        sql.to_owned()
    }
}

struct Query<'a> {
    indicator: &'a Indicator,
    component: &'a Component,
    /// Breakdowns this indicator uses, sorted as the columns of the catalogue.
    used: Vec<&'a str>,
    sources: Vec<&'a Source>,
}

impl Query<'_> {
    fn spell(&self) -> bool {
        self.sources
            .iter()
            .any(|s| matches!(s.time, Time::Spell(_)))
    }

    fn has_person(&self) -> bool {
        self.sources.iter().any(|s| s.person.is_some())
    }

    fn base(&self) -> Base {
        self.indicator.base()
    }

    /// The common table expression `source`: what the definition says of the rows.
    fn source(&self) -> String {
        self.sources
            .iter()
            .map(|source| self.source_part(source))
            .collect::<Vec<_>>()
            .join("\n    UNION ALL\n")
    }

    fn source_part(&self, source: &Source) -> String {
        let (columns, filters) = self.source_columns(source);
        format!(
            "    SELECT\n{}\n    FROM {}{}",
            list("        ", &columns),
            source.table,
            conditions("    ", "WHERE", &filters)
        )
    }

    /// What the definition takes of each row of a source, and of which rows.
    fn source_columns(&self, source: &Source) -> (Vec<String>, Vec<String>) {
        let row = self.row_of(source);
        let mut columns = vec![format!("{} AS area", source.area)];
        match &row.period {
            Some(RowPeriod::MonthOf(day)) => columns.push(format!(
                "CAST(date_trunc('month', {day}) AS DATE) AS period_start"
            )),
            Some(RowPeriod::YearOf(day)) => columns.push(format!(
                "CAST(date_trunc('year', {day}) AS DATE) AS period_start"
            )),
            Some(RowPeriod::Day(day)) => columns.push(format!("{day} AS period_start")),
            None => {}
        }
        if let Some(spell) = &row.spell {
            columns.insert(0, format!("{} AS organiser", spell.organiser));
            columns.push(format!("{} AS first_day", spell.first_day));
            columns.push(format!("{} AS last_day", spell.last_day));
            if let (Some(_), Some(birth_date)) = (self.component.ages, &source.birth_date) {
                columns.push(format!("{birth_date} AS birth_date"));
            }
            for (column, _) in source.matches.iter().flat_map(|m| &m.on) {
                let carried = format!("{column} AS on_{column}");
                if !columns.contains(&carried) {
                    columns.push(carried);
                }
            }
        }
        for (name, expression) in &row.breakdowns {
            columns.push(format!(
                "coalesce({expression}, {}) AS {name}",
                literal(UNKNOWN)
            ));
        }
        match &row.measure {
            RowMeasure::Rows
            | RowMeasure::Persons
            | RowMeasure::Days(None)
            | RowMeasure::CareDays => {}
            RowMeasure::Days(Some(weight)) => columns.push(format!("{weight} AS weight")),
            RowMeasure::Sum(amount) => columns.push(format!("{amount} AS amount")),
            RowMeasure::Things(thing) => columns.push(format!("{thing} AS thing")),
            RowMeasure::Waits(days) => columns.push(format!("{days} AS wait_days")),
        }
        if let Some(latest) = &self.component.latest {
            columns.push(format!("{latest} AS latest"));
        }
        if self.has_person() {
            match &row.person {
                Some(person) => columns.push(format!("{person} AS person")),
                None => columns.push("CAST(NULL AS BYTEA) AS person".to_owned()),
            }
        }
        columns.push(match &row.delivery {
            Some(delivery) => delivery.clone(),
            None => "CAST(NULL AS VARCHAR) AS delivery_id".to_owned(),
        });
        (columns, row.filters)
    }

    /// The same as parts, for whoever computes several components in one scan.
    fn row_of(&self, source: &Source) -> RowPart {
        let component = self.component;
        let mut filters: Vec<String> = source.filter.iter().map(|f| bracketed(&f.sql)).collect();
        if component.estimates {
            filters.extend(source.estimated.iter().map(|f| bracketed(&f.sql)));
        }
        filters.extend(component.filter.iter().map(|f| bracketed(&f.sql)));
        let period = match &source.time {
            Time::Event(column) => {
                let column = if column.contains(' ') {
                    format!("({column})")
                } else {
                    column.clone()
                };
                filters.push(format!("{column} IS NOT NULL"));
                if let (Some((ages, at)), Some(birth_date)) = (component.ages, &source.birth_date) {
                    let day = match at {
                        AgeAt::Event => column.clone(),
                        AgeAt::PeriodEnd => {
                            format!(
                                "date_trunc('month', {column}) + INTERVAL '1 month' - INTERVAL '1 day'"
                            )
                        }
                        AgeAt::YearEnd => format!("make_date(date_part('year', {column}), 12, 31)"),
                    };
                    filters.extend(age_conditions(birth_date, &day, ages));
                }
                Some(match self.indicator.cell_grain() {
                    Grain::Year => RowPeriod::YearOf(column),
                    _ => RowPeriod::MonthOf(column),
                })
            }
            Time::Year(column) => {
                filters.push(format!("{column} IS NOT NULL"));
                if let (Some((ages, _)), Some(birth_date)) = (component.ages, &source.birth_date) {
                    filters.extend(age_conditions(
                        birth_date,
                        &format!("make_date({column}, 12, 31)"),
                        ages,
                    ));
                }
                Some(RowPeriod::Day(format!("make_date({column}, 1, 1)")))
            }
            Time::Spell(_) => None,
        };
        let spell = match &source.time {
            Time::Spell(validity) => Some(self.spell_part(source, validity)),
            Time::Event(_) | Time::Year(_) => None,
        };
        let breakdowns = self.used.iter().map(|name| {
            let expression = source
                .breakdowns
                .get(*name)
                .map_or(*name, |f| f.sql.as_str());
            ((*name).to_owned(), expression.to_owned())
        });
        let breakdowns = breakdowns.collect();
        let measure = match &component.measure {
            Measure::Count => RowMeasure::Rows,
            Measure::Days(weight) => RowMeasure::Days(weight.as_ref().map(|w| w.sql.clone())),
            Measure::CareDays => RowMeasure::CareDays,
            Measure::Persons => RowMeasure::Persons,
            Measure::Sum(amount) => RowMeasure::Sum(amount.sql.clone()),
            Measure::Distinct(key) => {
                filters.push(format!("{key} IS NOT NULL"));
                // A set holds members of 16 bytes, the size of an MD5 digest.
                RowMeasure::Things(format!("digest(CAST({key} AS VARCHAR), 'md5')"))
            }
            Measure::Waits(days) => {
                filters.push(format!("{} IS NOT NULL", bracketed(&days.sql)));
                RowMeasure::Waits(format!("CAST({} AS BIGINT)", days.sql))
            }
            Measure::OverLimit(test) => {
                filters.push(over_limit(test));
                RowMeasure::Rows
            }
        };
        RowPart {
            table: source.table.clone(),
            filters,
            area: source.area.clone(),
            area_base: self.base().as_str(),
            period,
            spell,
            breakdowns,
            delivery: source.has_delivery.then(|| "delivery_id".to_owned()),
            measure,
            latest: component.latest.clone(),
            person: source.person.clone(),
        }
    }

    /// The months in which a spell of a source counts.
    fn spell_part(&self, source: &Source, validity: &Validity) -> SpellPart {
        let ages = self.component.ages.filter(|(ages, _)| !ages.are_all());
        SpellPart {
            organiser: "county_code".to_owned(),
            first_day: validity.from.clone(),
            last_day: last_day("", validity),
            months: self.months(),
            reach: self.reach(),
            ages: ages
                .zip(source.birth_date.as_ref())
                .map(|((ages, at), birth_date)| SpellAges {
                    birth_date: birth_date.clone(),
                    from: (ages.from > 0).then_some(ages.from),
                    to: ages.to,
                    at_year_end: at == AgeAt::YearEnd,
                }),
        }
    }

    /// What of a month a spell must have to count in it.
    fn reach(&self) -> SpellReach {
        match self.component.span {
            Span::PeriodEnd | Span::PreviousYearEnd => SpellReach::LastDay,
            Span::Period | Span::YearToDate | Span::FullYear => SpellReach::AnyDay,
        }
    }

    fn months(&self) -> String {
        let mut contracts: Vec<String> = self
            .sources
            .iter()
            .flat_map(|s| &s.deliveries)
            .map(|c| literal(c))
            .collect();
        contracts.sort_unstable();
        contracts.dedup();
        let all = match contracts.len() {
            0 | 1 => String::new(),
            several => format!("\n    HAVING count(DISTINCT d.contract) = {several}"),
        };
        format!(
            "    SELECT d.county_code AS organiser, p.period_start, p.period_end\n    \
             FROM meta.delivered_month AS d\n    \
             JOIN reference.period AS p ON p.grain = 'month' AND p.period_start = d.month_start\n    \
             WHERE d.contract IN ({})\n    \
             GROUP BY d.county_code, p.period_start, p.period_end{all}",
            contracts.join(", ")
        )
    }

    /// The rows the statistic is taken of, and the qualifier of the period.
    fn rows(&self) -> String {
        let mut text = String::from("FROM source AS s");
        let mut filters = Vec::new();
        if self.component.latest.is_some() {
            text.push_str(
                "\nJOIN newest AS w\n    ON w.area = s.area AND w.year = date_part('year', s.period_start) AND w.latest = s.latest",
            );
        }
        if self.spell() {
            let reached = match self.reach() {
                SpellReach::LastDay => "m.period_end",
                SpellReach::AnyDay => "m.period_start",
            };
            let _ = write!(
                text,
                "\nJOIN month AS m\n    ON m.organiser = s.organiser\n    AND s.first_day <= m.period_end\n    \
                 AND (s.last_day IS NULL OR s.last_day >= {reached})"
            );
            if let Some((ages, at)) = self.component.ages {
                let day = match at {
                    AgeAt::Event | AgeAt::PeriodEnd => "m.period_end".to_owned(),
                    AgeAt::YearEnd => {
                        "make_date(date_part('year', m.period_end), 12, 31)".to_owned()
                    }
                };
                filters.extend(age_conditions("s.birth_date", &day, ages));
            }
            for source in &self.sources {
                filters.extend(source.matches.iter().map(match_condition));
            }
        }
        text.push_str(&conditions("", "WHERE", &filters));
        text
    }
}

impl<'a> Query<'a> {
    fn of(indicator: &'a Indicator, component: &'a Component, breakdowns: &'a [String]) -> Self {
        let used = breakdowns
            .iter()
            .map(String::as_str)
            .filter(|b| indicator.breakdowns.iter().any(|i| i.name == *b));
        let sources = component
            .from
            .iter()
            .filter_map(|name| indicator.sources.get(name));
        Query {
            indicator,
            component,
            used: used.collect(),
            sources: sources.collect(),
        }
    }

    /// What the component takes of each row, when that is all it takes.
    fn row(&self) -> Result<RowPart, Alone> {
        let [source] = self.sources.as_slice() else {
            return Err(Alone::SeveralRelations);
        };
        if self.component.latest.is_some() && self.spell() {
            return Err(Alone::NewestVersion);
        }
        if !source.matches.is_empty() {
            return Err(Alone::Matches);
        }
        Ok(self.row_of(source))
    }

    fn text(&self, breakdowns: &[String]) -> String {
        let period = if self.spell() {
            "m.period_start"
        } else {
            "s.period_start"
        };

        let mut ctes = vec![format!("source AS (\n{}\n)", self.source())];
        if self.component.latest.is_some() {
            ctes.push(
                "-- The newest version of each area and year.\nnewest AS (\n    \
                 SELECT area, date_part('year', period_start) AS year, max(latest) AS latest\n    \
                 FROM source\n    GROUP BY area, date_part('year', period_start)\n)"
                    .to_owned(),
            );
        }
        if self.spell() {
            ctes.push(format!(
                "-- The months that the organiser has delivered.\nmonth AS (\n{}\n)",
                self.months()
            ));
        }

        let n = match &self.component.measure {
            Measure::Count | Measure::OverLimit(_) => "count(*)".to_owned(),
            Measure::Waits(_) => "count(s.wait_days)".to_owned(),
            Measure::Sum(_) => "sum(s.amount)".to_owned(),
            Measure::Days(weight) => {
                let days =
                    "(least(s.last_day, m.period_end) - greatest(s.first_day, m.period_start) + 1)";
                if weight.is_some() {
                    format!("sum({days} * s.weight)")
                } else {
                    format!("sum({days})")
                }
            }
            Measure::Persons | Measure::Distinct(_) | Measure::CareDays => "NULL".to_owned(),
        };
        let persons = match &self.component.measure {
            Measure::Distinct(_) => "person_set(s.thing)",
            // The days say whose they are.
            Measure::CareDays => "CAST(NULL AS BYTEA)",
            _ if self.has_person() => "person_set(s.person)",
            _ => "CAST(NULL AS BYTEA)",
        };
        let hist = match &self.component.measure {
            Measure::Waits(_) => "day_histogram(s.wait_days)",
            Measure::CareDays => {
                "care_day_set(s.person, greatest(s.first_day, m.period_start), least(s.last_day, m.period_end))"
            }
            _ => "CAST(NULL AS BYTEA)",
        };
        let mut columns = vec![
            "s.area".to_owned(),
            format!("{} AS area_base", literal(self.base().as_str())),
            period.to_owned(),
        ];
        columns.extend(breakdowns.iter().map(|b| {
            if self.used.contains(&b.as_str()) {
                format!("s.{b}")
            } else {
                format!("CAST(NULL AS VARCHAR) AS {b}")
            }
        }));
        columns.push("CAST(NULL AS INT) AS age".to_owned());
        columns.push("s.delivery_id".to_owned());
        columns.push(format!("CAST({n} AS BIGINT) AS n"));
        columns.push(format!("{persons} AS persons"));
        columns.push(format!("{hist} AS hist"));
        columns.push("CAST(NULL AS DOUBLE) AS x".to_owned());
        let mut group: Vec<String> = vec!["s.area".to_owned(), period.to_owned()];
        group.extend(self.used.iter().map(|b| format!("s.{b}")));
        group.push("s.delivery_id".to_owned());
        format!(
            "-- {} {}, component {}: {}.\n-- One row per {}, {}{} and delivery.\nWITH {}\nSELECT\n{}\n{}\nGROUP BY {}\n",
            self.indicator.id,
            self.indicator.version,
            self.component.name,
            describe(self.component),
            self.base().as_str(),
            if self.indicator.cell_grain() == Grain::Year {
                "year"
            } else {
                "month"
            },
            self.used
                .iter()
                .fold(String::new(), |text, b| text + ", " + b),
            ctes.join(",\n"),
            list("    ", &columns),
            self.rows(),
            group.join(", ")
        )
    }
}

fn describe(component: &Component) -> String {
    let what = match &component.measure {
        Measure::Count if component.estimates => "rows that are estimates",
        Measure::Count => "rows",
        Measure::Sum(_) => "a sum",
        Measure::Persons => "distinct persons",
        Measure::Distinct(_) => "distinct keys",
        Measure::Days(_) => "days of spells, weighted",
        Measure::CareDays => "days of persons in spells, a day of a person once",
        Measure::Waits(_) => "a histogram of days",
        Measure::OverLimit(_) => "rows over the limit valid on their day",
    };
    let when = match component.span {
        Span::Period => "",
        Span::PeriodEnd => ", on the last day of the month",
        Span::PreviousYearEnd => {
            ", on the last day of the month; December of the year before is used"
        }
        Span::YearToDate => ", used from January to the end of the period",
        Span::FullYear => ", used for all months of the year",
    };
    format!("{what}{when}")
}

/// Bounds of the age in completed years. The birthday of 29.2. is 1.3. in a year without that day.
fn age_conditions(birth_date: &str, day: &str, ages: Ages) -> Vec<String> {
    let age = format!("age_years({birth_date}, {day})");
    let mut conditions = Vec::new();
    if ages.from > 0 {
        conditions.push(format!("{age} >= {}", ages.from));
    }
    if let Some(to) = ages.to {
        conditions.push(format!("{age} <= {to}"));
    }
    conditions
}

fn last_day(qualifier: &str, validity: &Validity) -> String {
    if validity.last_day_counts {
        format!("{qualifier}{}", validity.to)
    } else {
        format!("{qualifier}{} - 1", validity.to)
    }
}

fn match_condition(rule: &Match) -> String {
    let mut conditions: Vec<String> = rule.filter.iter().map(|f| bracketed(&f.sql)).collect();
    conditions.extend(
        rule.on
            .iter()
            .map(|(column, other)| format!("o.{other} = s.on_{column}")),
    );
    if let Some(validity) = &rule.validity {
        conditions.push(format!("o.{} <= m.period_end", validity.from));
        conditions.push(format!(
            "(o.{} IS NULL OR {} >= m.period_end)",
            validity.to,
            last_day("o.", validity)
        ));
    }
    format!(
        "{}EXISTS (\n        SELECT 1 FROM {} AS o{}\n    )",
        if rule.wanted { "" } else { "NOT " },
        rule.table,
        self::conditions("        ", "WHERE", &conditions)
    )
}

/// The condition that a wait is longer than the rule valid on its last day.
fn over_limit(test: &LimitTest) -> String {
    let mut cases = String::new();
    for rule in &test.rules {
        let mut when = Vec::new();
        if let Some(from) = rule.valid_from() {
            when.push(format!("{} >= DATE '{from}'", test.to));
        }
        if let Some(to) = rule.valid_to() {
            when.push(format!("{} < DATE '{to}'", test.to));
        }
        if let (Some(ages), Some(birth_date)) = (rule.ages(), &test.birth_date) {
            when.extend(age_conditions(birth_date, &test.to, ages));
        }
        if when.is_empty() {
            when.push("TRUE".to_owned());
        }
        let max = rule.value().unwrap_or("0");
        let over = match rule.unit() {
            LimitUnit::Month => format!("{} > {} + INTERVAL '{max} months'", test.to, test.from),
            LimitUnit::Week => format!("{} > {max} * 7", test.days.sql),
            // Other units are refused when the definition is read.
            LimitUnit::Day
            | LimitUnit::WorkingDay
            | LimitUnit::Persons
            | LimitUnit::Ratio
            | LimitUnit::Deadline => {
                format!("{} > {max}", test.days.sql)
            }
        };
        let _ = write!(
            cases,
            "\n            -- {}\n            WHEN {} THEN {over}",
            one_line(rule.basis()),
            when.join(" AND ")
        );
    }
    format!("CASE{cases}\n            ELSE FALSE\n        END")
}

/// The components of a linear model: the sum of each sector, and its population share.
fn model_queries(indicator: &Indicator, model: &Model, breakdowns: &[String]) -> Vec<ComponentSql> {
    let nothing: Vec<String> = breakdowns
        .iter()
        .map(|b| format!("CAST(NULL AS VARCHAR) AS {b}"))
        .collect();
    let (county, year) = (&model.county, &model.year);
    let base = format!(
        "CASE WHEN m.{county} = {} THEN 'country' ELSE 'county' END AS area_base",
        literal(&model.reference_area)
    );
    let columns = |x: &str| {
        let mut columns = vec![
            format!("m.{county} AS area"),
            base.clone(),
            format!("make_date(m.{year}, 1, 1) AS period_start"),
        ];
        columns.extend(nothing.iter().cloned());
        columns.push("CAST(NULL AS INT) AS age".to_owned());
        columns.push("CAST(NULL AS VARCHAR) AS delivery_id".to_owned());
        columns.push("CAST(NULL AS BIGINT) AS n".to_owned());
        columns.push("CAST(NULL AS BYTEA) AS persons".to_owned());
        columns.push("CAST(NULL AS BYTEA) AS hist".to_owned());
        columns.push(format!("{x} AS x"));
        list("    ", &columns)
    };
    let head = |name: &str, what: &str| {
        format!(
            "-- {} {}, component {name}: {what}.\n-- One row per area and year; the whole country has rows of its own.\n",
            indicator.id, indicator.version
        )
    };
    let mut queries = Vec::new();
    for sector in &model.sectors {
        let name = need_component(&sector.name);
        let coefficient = &sector.coefficient;
        queries.push(ComponentSql {
            sql: format!(
                "{}SELECT\n{}\nFROM {} AS m\nJOIN {} AS c ON c.{variable} = m.{variable}\nWHERE c.{coefficient} IS NOT NULL\nGROUP BY m.{county}, m.{year}\n",
                head(&name, "the sum of coefficients times means"),
                columns(&format!("sum_exact(c.{coefficient} * m.{})", model.mean_column)),
                model.means,
                model.coefficients,
                variable = model.variable,
            ),
            name,
            span: Span::Period,
            row: Err(Alone::Model),
        });
        if let Some(share) = &sector.share {
            let name = share_component(&sector.name);
            queries.push(ComponentSql {
                sql: format!(
                    "{}SELECT\n{}\nFROM {} AS m\n",
                    head(&name, "a share of the population"),
                    columns(&format!("m.{}", share.column)),
                    share.table,
                ),
                name,
                span: Span::Period,
                row: Err(Alone::Model),
            });
        }
    }
    queries
}

/// Component of a sector's linear sum.
pub(crate) fn need_component(sector: &str) -> String {
    format!("need_{sector}")
}

/// Component of a sector's population share.
pub(crate) fn share_component(sector: &str) -> String {
    format!("{sector}_share")
}
