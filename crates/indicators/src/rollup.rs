//! The roll-up of an indicator as data: what its value query says in SQL up to the step `measured`,
//! for whoever merges stored components without a query.
//!
//! The value query ([`crate::Compiled::value_sql`]) remains the definition of what a value is; here
//! is nothing that it does not say, and no arithmetic. The formula stays SQL. To add a step to the
//! value query: say it here too, or compile no roll-up for the indicators that use it.

use crate::indicator::{Base, Component, Formula, Grain, Indicator, Level, Members, Span};
use crate::value::{ALAND, Plan, StateKind};

/// How components become the columns of `measured`, one row for each area, reported period and
/// member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollUp {
    /// What must be delivered for a value to be complete.
    pub needs: Vec<Need>,
    /// The grain in which deliveries are counted.
    pub delivery_grain: Grain,
    /// The grain of the cells.
    pub cell_grain: Grain,
    /// The grains of the values.
    pub grains: Vec<Grain>,
    /// The levels of area of the values.
    pub levels: Vec<Level>,
    /// Whether cells are of municipalities; else they are of counties.
    pub by_municipality: bool,
    /// A county whose areas have no values.
    pub without_county: Option<&'static str>,
    /// The breakdowns, in the order of the catalogue.
    pub members: Vec<MemberList>,
    /// The columns of `measured` that come from cells.
    pub columns: Vec<RollUpColumn>,
    /// The residents, where they divide.
    pub residents: Option<Residents>,
    /// The formula: a query over a relation `measured` with the columns `area_level`, `area`,
    /// `grain`, `period_start`, `label`, `days`, `year_days`, `complete`, the breakdowns, those of
    /// [`RollUp::columns`], and with residents `residents` and `residents_status`.
    pub formula_sql: String,
}

/// Something that must be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What.
    pub what: Needed,
    /// Which of its months a period needs.
    pub span: Span,
}

/// What makes a month of a county known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needed {
    /// Deliveries of this contract.
    Contract(String),
    /// Rows of this component: published data are known where they have rows.
    Rows(String),
}

/// A breakdown with its members; each value is also given in total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberList {
    /// The column.
    pub name: String,
    /// The members.
    pub from: MembersFrom,
}

/// Where the members of a breakdown come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembersFrom {
    /// These.
    Values(Vec<String>),
    /// The conformed words of this code list.
    CodeList(String),
}

/// A column of `measured`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollUpColumn {
    /// Its name.
    pub name: String,
    /// The component whose cells are merged.
    pub component: String,
    /// Which of the component's cells a period takes.
    pub span: Span,
    /// How they are merged.
    pub merge: Merge,
}

/// How cells are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// The sum of `n`, 0 without cells.
    Sum,
    /// The number of distinct members of `persons`, 0 without cells.
    Distinct,
    /// The histogram of `hist`, null without cells.
    Histogram,
    /// The number of days of persons in `hist`, each once, 0 without cells.
    CareDays,
    /// The number of persons who have days in `hist`, 0 without cells.
    CareDayPersons,
}

/// The residents that divide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Residents {
    /// Their query: `year`, `municipality_code`, the columns below, `population`, `obs_status`.
    pub sql: String,
    /// Columns by which residents are divided as breakdowns divide the values: breakdown, column.
    pub by: Vec<(String, String)>,
    /// Whether they are those of the end of the year before the period; else of the year in which
    /// the period ends.
    pub of_previous_year: bool,
}

/// The roll-up of an indicator; `None` where values are more than merged cells and a formula.
pub(crate) fn roll_up(indicator: &Indicator, breakdowns: &[String]) -> Option<RollUp> {
    if matches!(indicator.formula, Formula::Weighted(_)) {
        return None;
    }
    let plan = Plan::new(indicator, breakdowns);
    let columns = indicator
        .components
        .iter()
        .flat_map(|component| columns_of(&plan, component))
        .collect();
    let members = plan.used.iter().map(|breakdown| MemberList {
        name: breakdown.name.clone(),
        from: match &breakdown.members {
            Members::Values(values) => MembersFrom::Values(values.clone()),
            Members::Codes(list) => MembersFrom::CodeList(list.clone()),
        },
    });
    Some(RollUp {
        needs: plan.needed(),
        delivery_grain: indicator.delivery_grain(),
        cell_grain: indicator.cell_grain(),
        grains: indicator.grains.clone(),
        levels: indicator.levels.clone(),
        by_municipality: indicator.base() == Base::Municipality,
        without_county: plan.leaves_out_aland().then_some(ALAND),
        members: members.collect(),
        columns,
        residents: plan.population.map(|population| Residents {
            sql: plan.population_rows(population),
            by: plan
                .population_columns()
                .map(|(breakdown, column)| (breakdown.to_owned(), column.to_owned()))
                .collect(),
            of_previous_year: population.at == crate::indicator::PopulationAt::PreviousYearEnd,
        }),
        formula_sql: plan.formula(),
    })
}

fn columns_of(plan: &Plan<'_>, component: &Component) -> Vec<RollUpColumn> {
    let states = plan.states(component).into_iter();
    let people = component.measure.has_days().then(|| RollUpColumn {
        name: format!("{}_people", component.name),
        component: component.name.clone(),
        span: component.span,
        merge: Merge::CareDayPersons,
    });
    states
        .map(|state| {
            let (name, merge) = match state.kind {
                StateKind::Sum => (component.name.clone(), Merge::Sum),
                StateKind::Histogram => (state.column, Merge::Histogram),
                StateKind::Days => (component.name.clone(), Merge::CareDays),
                StateKind::Set if component.measure.is_set() => {
                    (component.name.clone(), Merge::Distinct)
                }
                StateKind::Set => (format!("{}_people", component.name), Merge::Distinct),
            };
            RollUpColumn {
                name,
                component: component.name.clone(),
                span: component.span,
                merge,
            }
        })
        .chain(people)
        .collect()
}
