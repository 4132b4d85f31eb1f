//! From an indicator to SQL text: component queries and one value query.

use crate::indicator::{Indicator, Span};
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
    /// What each value is made of: one row per `area_level`, `area`, `period_grain`,
    /// `period_start`, `component`, breakdowns and `delivery_id`, with `n` (sum), `persons`
    /// (distinct, null without person sets), `waits` (observations in the histogram) and `x`. The
    /// caller filters it to one value.
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
}

/// Compiles an indicator; `breakdowns` are the breakdown columns of the whole catalogue.
pub(crate) fn compile(indicator: &Indicator, breakdowns: &[String]) -> Compiled {
    Compiled {
        indicator_no: indicator.number(),
        components: component::queries(indicator, breakdowns),
        value_sql: value::query(indicator, breakdowns),
        lineage_sql: value::lineage(indicator, breakdowns),
    }
}
