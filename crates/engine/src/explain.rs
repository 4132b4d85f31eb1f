//! What a number is made of: its components, the deliveries behind them, the definition and the run.
//!
//! The lineage of an indicator is a query that its definition compiles to; here it is filtered to
//! one value. A role that may not see contributions learns which deliveries are behind a value, and
//! not how much each of them gave: a share can be a small count that the value hides.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use serde::Serialize;
use tietopohja_domain::Timestamp;
use tietopohja_indicators::Indicator;
use tietopohja_policy::{Principal, Role, sees_contributions};

use crate::calc::run_parts::find;
use crate::catalog::Resolver;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::plain::to_type;

/// Which value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExplainRequest {
    /// The indicator.
    pub indicator: String,
    /// The area's code: `005`, `07`, `1`, `FI`.
    pub area: String,
    /// The area's level, when the code alone does not tell.
    pub area_level: Option<String>,
    /// The period's label: `2024-03`, `2024Q1`, `2024H1`, `2024`.
    pub period: String,
    /// One output only.
    pub output: Option<String>,
    /// Breakdown members (`sex` = `female`); a breakdown that is not named is the total.
    pub breakdowns: Vec<(String, String)>,
}

/// One value of the explained cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ValueRow {
    /// Which output.
    pub output: String,
    /// The level of the area.
    pub area_level: String,
    /// The length of the period.
    pub period_grain: String,
    /// Breakdown members; none for the total.
    pub breakdowns: Vec<(String, String)>,
    /// The number.
    pub value: Option<f64>,
    /// Lower end of its interval.
    pub lower: Option<f64>,
    /// Upper end of its interval.
    pub upper: Option<f64>,
    /// What was counted, unscaled.
    pub numerator: Option<f64>,
    /// What it was divided by, unscaled.
    pub denominator: Option<f64>,
    /// Unit of the value.
    pub unit: String,
    /// A normal, E estimated, M missing, L not delivered.
    pub obs_status: String,
    /// F free, C confidential.
    pub conf_status: String,
    /// The version of the definition it was computed with.
    pub version: String,
    /// The run that computed it.
    pub run_id: String,
}

/// What one delivery gave to one component.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ContributionRow {
    /// The component.
    pub component: String,
    /// The delivery.
    pub delivery_id: Option<String>,
    /// Sum of its counts or units; `None` when hidden from the role or not a sum.
    pub n: Option<i64>,
    /// Distinct persons in it; `None` when hidden from the role or not counted.
    pub persons: Option<i64>,
    /// Observations in its histogram; likewise.
    pub waits: Option<i64>,
    /// Sum of its real-valued inputs; likewise.
    pub x: Option<f64>,
}

/// A delivery behind a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeliveryRow {
    /// Its id.
    pub delivery_id: String,
    /// Its contract.
    pub contract: String,
    /// The contract's version.
    pub contract_version: String,
    /// Who delivered.
    pub county_code: String,
    /// First and last day it covers.
    pub covers: (String, String),
    /// The file's name.
    pub file_name: String,
    /// SHA-256 of the file.
    pub content_hash: String,
    /// Rows in the file.
    pub received: i64,
    /// Rows accepted.
    pub accepted: i64,
    /// Rows set aside.
    pub quarantined: i64,
    /// When it landed.
    pub landed_at: String,
    /// Whether rows of it are in the value; a delivery without rows shows that there were none.
    pub contributes: bool,
}

/// The answer.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The indicator.
    pub indicator: String,
    /// Its Finnish title.
    pub title_fi: Option<String>,
    /// The version of the definition as it is now.
    pub version: String,
    /// The file of the definition.
    pub file: String,
    /// The period asked for.
    pub period: String,
    /// The area asked for.
    pub area: String,
    /// The values: restricted ones for roles that may see contributions, published ones for others.
    pub values: Vec<ValueRow>,
    /// Components by delivery.
    pub contributions: Vec<ContributionRow>,
    /// The deliveries, and those that cover the period without a row in it.
    pub deliveries: Vec<DeliveryRow>,
    /// Contracts that have to be delivered for the value to be complete.
    pub contracts: Vec<String>,
}

/// A text as an SQL literal.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as an SQL identifier.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Engine {
    /// What a value is made of.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] for an unknown indicator, breakdown or cell.
    pub async fn explain(
        self: &Arc<Self>,
        principal: &Principal,
        request: &ExplainRequest,
    ) -> Result<Explanation> {
        let catalogue = self.catalogue().await?;
        let indicator = find(&catalogue, &request.indicator)?;
        let breakdowns = catalogue.breakdowns();
        if let Some((unknown, _)) = request
            .breakdowns
            .iter()
            .find(|(name, _)| !breakdowns.contains(name))
        {
            return Err(EngineError::NotFound {
                message: format!(
                    "there is no breakdown `{unknown}`; there are {}",
                    breakdowns.join(", ")
                ),
            });
        }
        let resolver = self.plain_resolver();
        let cell = CellFilter {
            request,
            breakdowns,
        };
        let role = principal.role();
        let values = self.values(&resolver, role, indicator, &cell).await?;
        let Some(first) = values.first() else {
            return Err(EngineError::NotFound {
                message: self.nothing_there(&resolver, indicator, request).await?,
            });
        };
        let place = CellPlace {
            area_level: first.0.area_level.clone(),
            period_grain: first.0.period_grain.clone(),
            period_start: first.1.clone(),
        };
        let contributions = self
            .contributions(
                &resolver,
                role,
                &catalogue.compile(indicator).lineage_sql,
                &cell,
                &place,
            )
            .await?;
        let deliveries = self
            .deliveries(&resolver, indicator, request, &place, &contributions)
            .await?;
        Ok(Explanation {
            indicator: indicator.id().to_owned(),
            title_fi: indicator
                .text(tietopohja_indicators::Language::Fi)
                .map(|text| text.title.clone()),
            version: indicator.version().to_owned(),
            file: indicator.file().to_owned(),
            period: request.period.clone(),
            area: request.area.clone(),
            values: values.into_iter().map(|(value, _)| value).collect(),
            contributions,
            deliveries,
            contracts: indicator
                .contracts()
                .into_iter()
                .map(str::to_owned)
                .collect(),
        })
    }

    /// The values of the cell with the first day of their period.
    async fn values(
        &self,
        resolver: &Arc<Resolver>,
        role: Role,
        indicator: &Indicator,
        cell: &CellFilter<'_>,
    ) -> Result<Vec<(ValueRow, String)>> {
        let schema = if sees_contributions(role) {
            "result"
        } else {
            "published"
        };
        let mut sql = format!(
            "SELECT * FROM {schema}.indicator_value WHERE indicator = {} AND area = {} AND period = {}",
            literal(indicator.id()),
            literal(&cell.request.area),
            literal(&cell.request.period),
        );
        sql.push_str(&cell.condition());
        if let Some(level) = &cell.request.area_level {
            sql.push_str(&format!(" AND area_level = {}", literal(level)));
        }
        if let Some(output) = &cell.request.output {
            sql.push_str(&format!(" AND output = {}", literal(output)));
        }
        sql.push_str(" ORDER BY area_level, period_grain, output");
        let mut values = Vec::new();
        for batch in self.run(resolver, &sql).await? {
            let row = Row { batch: &batch };
            for at in 0..batch.num_rows() {
                let members = cell
                    .breakdowns
                    .iter()
                    .filter_map(|name| Some((name.clone(), row.text(name, at)?)));
                let value = ValueRow {
                    output: row.text_or_empty("output", at),
                    area_level: row.text_or_empty("area_level", at),
                    period_grain: row.text_or_empty("period_grain", at),
                    breakdowns: members.collect(),
                    value: row.float("value", at),
                    lower: row.float("lower", at),
                    upper: row.float("upper", at),
                    numerator: row.float("numerator", at),
                    denominator: row.float("denominator", at),
                    unit: row.text_or_empty("unit", at),
                    obs_status: row.text_or_empty("obs_status", at),
                    conf_status: row.text_or_empty("conf_status", at),
                    version: row.text_or_empty("version", at),
                    run_id: row.text_or_empty("run_id", at),
                };
                values.push((value, row.date("period_start", at).unwrap_or_default()));
            }
        }
        Ok(values)
    }

    /// Says which part of the request found nothing.
    async fn nothing_there(
        &self,
        resolver: &Arc<Resolver>,
        indicator: &Indicator,
        request: &ExplainRequest,
    ) -> Result<String> {
        let sql = format!(
            "SELECT count(*) AS n, min(period) AS low, max(period) AS high FROM published.indicator_value WHERE indicator = {} AND area = {}",
            literal(indicator.id()),
            literal(&request.area),
        );
        let batches = self.run(resolver, &sql).await?;
        let Some(batch) = batches.first() else {
            return Ok(format!("`{}` has no value", indicator.id()));
        };
        let row = Row { batch };
        Ok(match row.long("n", 0) {
            Some(n) if n > 0 => format!(
                "`{}` has no such value for area `{}` and period `{}`; periods are written like `{}` to `{}`, and a breakdown is named as in the value",
                indicator.id(),
                request.area,
                request.period,
                row.text_or_empty("low", 0),
                row.text_or_empty("high", 0),
            ),
            _ => format!(
                "`{}` has no value for area `{}`; its levels are {}, and `tietopohja calc {}` computes it",
                indicator.id(),
                request.area,
                indicator
                    .levels()
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", "),
                indicator.id(),
            ),
        })
    }

    async fn contributions(
        &self,
        resolver: &Arc<Resolver>,
        role: Role,
        lineage: &str,
        cell: &CellFilter<'_>,
        place: &CellPlace,
    ) -> Result<Vec<ContributionRow>> {
        let sql = format!(
            "SELECT component, delivery_id, sum(n) AS n, CASE WHEN count(*) = 1 THEN max(persons) END AS persons, \
             sum(waits) AS waits, sum(x) AS x FROM (\n{lineage}\n) AS lineage \
             WHERE area = {} AND area_level = {} AND period_grain = {} AND period_start = CAST({} AS DATE){} \
             GROUP BY component, delivery_id ORDER BY component, delivery_id",
            literal(&cell.request.area),
            literal(&place.area_level),
            literal(&place.period_grain),
            literal(&place.period_start),
            cell.asked(),
        );
        let shown = sees_contributions(role);
        let mut rows = Vec::new();
        for batch in self.run(resolver, &sql).await? {
            let row = Row { batch: &batch };
            for at in 0..batch.num_rows() {
                rows.push(ContributionRow {
                    component: row.text_or_empty("component", at),
                    delivery_id: row.text("delivery_id", at),
                    n: row.long("n", at).filter(|_| shown),
                    persons: row.long("persons", at).filter(|_| shown),
                    waits: row.long("waits", at).filter(|_| shown),
                    x: row.float("x", at).filter(|_| shown),
                });
            }
        }
        Ok(rows)
    }

    /// The deliveries in the value, and the accepted ones that cover its period and area.
    async fn deliveries(
        &self,
        resolver: &Arc<Resolver>,
        indicator: &Indicator,
        request: &ExplainRequest,
        place: &CellPlace,
        contributions: &[ContributionRow],
    ) -> Result<Vec<DeliveryRow>> {
        let inside: BTreeSet<&str> = contributions
            .iter()
            .filter_map(|row| row.delivery_id.as_deref())
            .collect();
        let contracts: Vec<String> = indicator.contracts().into_iter().map(literal).collect();
        let mut wanted = vec!["false".to_owned()];
        if !inside.is_empty() {
            let ids: Vec<String> = inside.iter().map(|id| literal(id)).collect();
            wanted.push(format!("d.delivery_id IN ({})", ids.join(", ")));
        }
        if !contracts.is_empty() {
            wanted.push(format!(
                "(d.contract IN ({}) AND d.covers_from <= p.period_end AND d.covers_to >= p.period_start AND {})",
                contracts.join(", "),
                counties(&place.area_level, &request.area),
            ));
        }
        let sql = format!(
            "SELECT d.* FROM (\
               SELECT *, row_number() OVER (PARTITION BY contract, county, period ORDER BY revision DESC) AS newest \
               FROM meta.delivery WHERE status = 'accepted'\
             ) AS d \
             CROSS JOIN (SELECT period_start, period_end FROM reference.period WHERE grain = {} AND period_start = CAST({} AS DATE)) AS p \
             WHERE d.newest = 1 AND ({}) ORDER BY d.contract, d.county, d.period",
            literal(&place.period_grain),
            literal(&place.period_start),
            wanted.join(" OR "),
        );
        let mut rows = Vec::new();
        for batch in self.run(resolver, &sql).await? {
            let row = Row { batch: &batch };
            for at in 0..batch.num_rows() {
                let delivery_id = row.text_or_empty("delivery_id", at);
                rows.push(DeliveryRow {
                    contributes: inside.contains(delivery_id.as_str()),
                    delivery_id,
                    contract: row.text_or_empty("contract", at),
                    contract_version: row.text_or_empty("contract_version", at),
                    county_code: row.text_or_empty("county_code", at),
                    covers: (
                        row.date("covers_from", at).unwrap_or_default(),
                        row.date("covers_to", at).unwrap_or_default(),
                    ),
                    file_name: row.text_or_empty("file_name", at),
                    content_hash: row.text_or_empty("content_hash", at),
                    received: row.long("received", at).unwrap_or_default(),
                    accepted: row.long("accepted", at).unwrap_or_default(),
                    quarantined: row.long("quarantined", at).unwrap_or_default(),
                    landed_at: row.moment("landed_at", at).unwrap_or_default(),
                });
            }
        }
        Ok(rows)
    }
}

/// The condition that a delivery of `d` comes from the area in the year of `p`.
fn counties(area_level: &str, area: &str) -> String {
    let area = literal(area);
    match area_level {
        "county" => format!("d.county_code = {area}"),
        "collaboration_area" => format!(
            "d.county_code IN (SELECT county_code FROM reference.county WHERE collaboration_area_code = {area})"
        ),
        "municipality" => format!(
            "d.county_code IN (SELECT county_code FROM reference.municipality_on WHERE municipality_code = {area})"
        ),
        _ => "true".to_owned(),
    }
}

struct CellFilter<'a> {
    request: &'a ExplainRequest,
    breakdowns: &'a [String],
}

impl CellFilter<'_> {
    /// ` AND …` for the members asked for. The lineage has no totals: a total is made of all
    /// members, whose numbers of persons cannot be added.
    fn asked(&self) -> String {
        self.request
            .breakdowns
            .iter()
            .map(|(name, member)| format!(" AND {} = {}", identifier(name), literal(member)))
            .collect()
    }

    /// ` AND …` for every breakdown: the member asked for, or the total.
    fn condition(&self) -> String {
        self.breakdowns
            .iter()
            .map(|name| {
                match self
                    .request
                    .breakdowns
                    .iter()
                    .find(|(asked, _)| asked == name)
                {
                    Some((_, member)) => format!(" AND {} = {}", identifier(name), literal(member)),
                    None => format!(" AND {} IS NULL", identifier(name)),
                }
            })
            .collect()
    }
}

struct CellPlace {
    area_level: String,
    period_grain: String,
    period_start: String,
}

/// Cells of a batch by name.
pub(crate) struct Row<'a> {
    pub(crate) batch: &'a RecordBatch,
}

impl Row<'_> {
    fn cell(&self, name: &str, at: usize, data_type: &DataType) -> Option<arrow::array::ArrayRef> {
        let column = self.batch.column_by_name(name)?;
        if at >= column.len() || column.is_null(at) {
            return None;
        }
        to_type(&column.slice(at, 1), data_type).ok()
    }

    pub(crate) fn text(&self, name: &str, at: usize) -> Option<String> {
        Some(
            self.cell(name, at, &DataType::Utf8)?
                .as_string_opt::<i32>()?
                .value(0)
                .to_owned(),
        )
    }

    pub(crate) fn text_or_empty(&self, name: &str, at: usize) -> String {
        self.text(name, at).unwrap_or_default()
    }

    pub(crate) fn long(&self, name: &str, at: usize) -> Option<i64> {
        Some(
            self.cell(name, at, &DataType::Int64)?
                .as_primitive_opt::<Int64Type>()?
                .value(0),
        )
    }

    pub(crate) fn float(&self, name: &str, at: usize) -> Option<f64> {
        Some(
            self.cell(name, at, &DataType::Float64)?
                .as_primitive_opt::<Float64Type>()?
                .value(0),
        )
    }

    /// A day as yyyy-mm-dd.
    pub(crate) fn date(&self, name: &str, at: usize) -> Option<String> {
        let cell = self.cell(name, at, &DataType::Date32)?;
        cell.as_primitive_opt::<Date32Type>()?;
        array_value_to_string(&cell, 0).ok()
    }

    /// A moment in UTC.
    pub(crate) fn moment(&self, name: &str, at: usize) -> Option<String> {
        let column = self
            .batch
            .column_by_name(name)?
            .as_primitive_opt::<TimestampMicrosecondType>()?;
        if at >= column.len() || column.is_null(at) {
            return None;
        }
        Timestamp::from_microsecond(column.value(at))
            .ok()
            .map(|moment| moment.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_users_stay_texts() {
        assert_eq!(literal("o'clock"), "'o''clock'");
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(
            counties("county", "07' OR '1'='1"),
            "d.county_code = '07'' OR ''1''=''1'"
        );
    }

    #[test]
    fn a_breakdown_that_is_not_named_is_the_total() {
        let request = ExplainRequest {
            breakdowns: vec![("sex".to_owned(), "female".to_owned())],
            ..ExplainRequest::default()
        };
        let breakdowns = ["age_group".to_owned(), "sex".to_owned()];
        let cell = CellFilter {
            request: &request,
            breakdowns: &breakdowns,
        };
        assert_eq!(
            cell.condition(),
            " AND \"age_group\" IS NULL AND \"sex\" = 'female'"
        );
    }
}
