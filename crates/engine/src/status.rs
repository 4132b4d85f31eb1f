//! One screen: what has been delivered, how fresh it is, how the last run ended, what fails.

use std::sync::Arc;

use serde::Serialize;

use crate::engine::Engine;
use crate::error::Result;
use crate::explain::Row;
use crate::terms::{ExpectedDelivery, OutlivedDelivery};

/// The deliveries of one contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContractStatus {
    /// The contract.
    pub contract: String,
    /// Deliveries in force (the newest revision of each).
    pub deliveries: i64,
    /// Organisers that have delivered.
    pub counties: i64,
    /// First day covered.
    pub covers_from: Option<String>,
    /// Last day covered.
    pub covers_to: Option<String>,
    /// When the last one landed.
    pub landed_at: Option<String>,
    /// Rows received.
    pub received: i64,
    /// Rows accepted.
    pub accepted: i64,
    /// Rows set aside.
    pub quarantined: i64,
}

/// A calculation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunStatus {
    /// Its id.
    pub run_id: String,
    /// When it began.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// What began it.
    pub trigger: String,
    /// `done`, `partly_failed` or `failed`.
    pub status: String,
}

/// The check of one indicator that does not agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailingCheck {
    /// The indicator.
    pub indicator: String,
    /// `differs`, `no_check` or `failed`.
    pub status: String,
    /// When it was checked.
    pub checked_at: Option<String>,
}

/// The state of a warehouse.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Every contract, also those of which nothing has landed, in name order.
    pub contracts: Vec<ContractStatus>,
    /// For each contract and organiser that has delivered, what comes next and whether it is late.
    pub next_deliveries: Vec<ExpectedDelivery>,
    /// Deliveries that are older than their contract's retention.
    pub past_retention: Vec<OutlivedDelivery>,
    /// Indicators with values.
    pub indicators: i64,
    /// Published values, suppressed and missing ones included.
    pub values: i64,
    /// Of those, suppressed ones.
    pub suppressed: i64,
    /// Reference tables.
    pub reference_tables: i64,
    /// The last calculation.
    pub last_run: Option<RunStatus>,
    /// Checks that do not agree.
    pub failing_checks: Vec<FailingCheck>,
    /// Problems of `sql/` and `definitions/`, each as file, line and message.
    pub problems: Vec<String>,
}

impl Engine {
    /// The state of the warehouse. Reads counts only.
    ///
    /// # Errors
    /// [`crate::EngineError::Lake`] when a table cannot be read.
    pub async fn status(self: &Arc<Self>) -> Result<Status> {
        let resolver = self.plain_resolver();
        let mut contracts = Vec::new();
        let sql = "\
            SELECT contract, count(*) AS deliveries, count(DISTINCT county) AS counties, \
                min(covers_from) AS covers_from, max(covers_to) AS covers_to, max(landed_at) AS landed_at, \
                sum(received) AS received, sum(accepted) AS accepted, sum(quarantined) AS quarantined \
            FROM (\
                SELECT *, row_number() OVER (PARTITION BY contract, county, period ORDER BY revision DESC) AS newest \
                FROM meta.delivery WHERE status = 'accepted'\
            ) AS d WHERE newest = 1 GROUP BY contract ORDER BY contract";
        for batch in self.run(&resolver, sql).await? {
            let row = Row { batch: &batch };
            for at in 0..batch.num_rows() {
                contracts.push(ContractStatus {
                    contract: row.text_or_empty("contract", at),
                    deliveries: row.long("deliveries", at).unwrap_or_default(),
                    counties: row.long("counties", at).unwrap_or_default(),
                    covers_from: row.date("covers_from", at),
                    covers_to: row.date("covers_to", at),
                    landed_at: row.moment("landed_at", at),
                    received: row.long("received", at).unwrap_or_default(),
                    accepted: row.long("accepted", at).unwrap_or_default(),
                    quarantined: row.long("quarantined", at).unwrap_or_default(),
                });
            }
        }
        for contract in self.warehouse.raw.keys() {
            if !contracts.iter().any(|known| known.contract == *contract) {
                contracts.push(nothing_of(contract));
            }
        }
        contracts.sort_by(|a, b| a.contract.cmp(&b.contract));
        let (next_deliveries, past_retention) = Box::pin(self.delivery_terms(&resolver)).await?;
        let mut status = Status {
            contracts,
            next_deliveries,
            past_retention,
            indicators: 0,
            values: 0,
            suppressed: 0,
            reference_tables: 0,
            last_run: None,
            failing_checks: Vec::new(),
            problems: self
                .check_definitions()
                .await
                .iter()
                .map(ToString::to_string)
                .collect(),
        };
        let sql = "SELECT count(*) AS indicators, coalesce(sum(value_rows), 0) AS value_rows, \
                   coalesce(sum(suppressed), 0) AS suppressed FROM meta.calculation";
        for batch in self.run(&resolver, sql).await? {
            let row = Row { batch: &batch };
            status.indicators = row.long("indicators", 0).unwrap_or_default();
            status.values = row.long("value_rows", 0).unwrap_or_default();
            status.suppressed = row.long("suppressed", 0).unwrap_or_default();
        }
        for batch in self
            .run(&resolver, "SELECT count(*) AS n FROM meta.reference")
            .await?
        {
            status.reference_tables = Row { batch: &batch }.long("n", 0).unwrap_or_default();
        }
        let sql = "SELECT * FROM meta.run ORDER BY started_at DESC LIMIT 1";
        for batch in self.run(&resolver, sql).await? {
            let row = Row { batch: &batch };
            if batch.num_rows() > 0 {
                status.last_run = Some(RunStatus {
                    run_id: row.text_or_empty("run_id", 0),
                    started_at: row.moment("started_at", 0),
                    finished_at: row.moment("finished_at", 0),
                    trigger: row.text_or_empty("trigger", 0),
                    status: row.text_or_empty("status", 0),
                });
            }
        }
        let sql = "SELECT * FROM meta.check_result WHERE status <> 'agrees' ORDER BY indicator";
        for batch in self.run(&resolver, sql).await? {
            let row = Row { batch: &batch };
            for at in 0..batch.num_rows() {
                status.failing_checks.push(FailingCheck {
                    indicator: row.text_or_empty("indicator", at),
                    status: row.text_or_empty("status", at),
                    checked_at: row.moment("checked_at", at),
                });
            }
        }
        Ok(status)
    }
}

fn nothing_of(contract: &str) -> ContractStatus {
    ContractStatus {
        contract: contract.to_owned(),
        deliveries: 0,
        counties: 0,
        covers_from: None,
        covers_to: None,
        landed_at: None,
        received: 0,
        accepted: 0,
        quarantined: 0,
    }
}
