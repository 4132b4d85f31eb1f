//! Terms of delivery against the ledger: which delivery is expected next and whether it is late,
//! and which deliveries are older than they are to be kept.
//!
//! The terms are the contracts', "today" is the engine's clock. Nothing here is changed or deleted:
//! a person decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tietopohja_contract::{Contract, NextDelivery};
use tietopohja_domain::{Date, DeliveryPeriod, finnish_day};

use crate::catalog::Resolver;
use crate::engine::Engine;
use crate::error::Result;
use crate::explain::Row;

/// What a contract and an organiser that has delivered before will deliver next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExpectedDelivery {
    /// The contract.
    pub contract: String,
    /// The organiser's code.
    pub county: String,
    /// The last day covered so far.
    pub covers_to: String,
    /// The period to come, such as `2024-03` or `2024`.
    pub next_period: String,
    /// The last day on which it comes in time.
    pub due: String,
    /// Days since then; 0 while there is time.
    pub days_late: i64,
}

/// A delivery that is older than the contract's retention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutlivedDelivery {
    /// Its id.
    pub delivery_id: String,
    /// The contract.
    pub contract: String,
    /// The organiser's code.
    pub county: String,
    /// The last day it covers.
    pub covers_to: String,
    /// The last day on which it was to be kept.
    pub kept_until: String,
}

/// A delivery in force, from the ledger.
struct Delivered {
    delivery_id: String,
    contract: String,
    county: String,
    covers_to: Date,
}

impl Engine {
    /// What is expected next, and what has outlived its retention, in order of contract and
    /// organiser.
    pub(crate) async fn delivery_terms(
        &self,
        resolver: &Arc<Resolver>,
    ) -> Result<(Vec<ExpectedDelivery>, Vec<OutlivedDelivery>)> {
        let today = finnish_day(self.now());
        let mut newest: BTreeMap<(String, String), Date> = BTreeMap::new();
        let mut outlived = Vec::new();
        for delivered in self.deliveries_in_force(resolver).await? {
            let Some(contract) = self.contract(&delivered.contract) else {
                continue;
            };
            outlived.extend(outlives(contract, &delivered, today));
            let place = (delivered.contract, delivered.county);
            let last = newest.entry(place).or_insert(delivered.covers_to);
            *last = (*last).max(delivered.covers_to);
        }
        let expected = newest
            .iter()
            .filter_map(|((contract, county), covers_to)| {
                expect(self.contract(contract)?, county, *covers_to, today)
            })
            .collect();
        Ok((expected, outlived))
    }

    fn contract(&self, name: &str) -> Option<&Contract> {
        let known = self.options.contracts.iter();
        known.map(Arc::as_ref).find(|known| known.name() == name)
    }

    async fn deliveries_in_force(&self, resolver: &Arc<Resolver>) -> Result<Vec<Delivered>> {
        let sql = "\
            SELECT delivery_id, contract, county_code, covers_to \
            FROM (\
                SELECT *, row_number() OVER (PARTITION BY contract, county, period ORDER BY revision DESC) AS newest \
                FROM meta.delivery WHERE status = 'accepted'\
            ) AS d WHERE newest = 1 ORDER BY contract, county_code, covers_to, delivery_id";
        let mut found = Vec::new();
        for batch in self.run(resolver, sql).await? {
            let row = Row { batch: &batch };
            for at in 0..batch.num_rows() {
                let day = row.date("covers_to", at);
                if let Some(covers_to) = day.and_then(|day| day.parse().ok()) {
                    found.push(Delivered {
                        delivery_id: row.text_or_empty("delivery_id", at),
                        contract: row.text_or_empty("contract", at),
                        county: row.text_or_empty("county_code", at),
                        covers_to,
                    });
                }
            }
        }
        Ok(found)
    }
}

fn expect(
    contract: &Contract,
    county: &str,
    covers_to: Date,
    today: Date,
) -> Option<ExpectedDelivery> {
    let next = contract.next_delivery(covers_to)?;
    Some(ExpectedDelivery {
        contract: contract.name().to_owned(),
        county: county.to_owned(),
        covers_to: covers_to.to_string(),
        next_period: period_text(&next),
        due: next.due.to_string(),
        days_late: days_between(next.due, today).max(0),
    })
}

fn outlives(contract: &Contract, delivered: &Delivered, today: Date) -> Option<OutlivedDelivery> {
    let kept_until = contract.kept_until(delivered.covers_to)?;
    (kept_until < today).then(|| OutlivedDelivery {
        delivery_id: delivered.delivery_id.clone(),
        contract: delivered.contract.clone(),
        county: delivered.county.clone(),
        covers_to: delivered.covers_to.to_string(),
        kept_until: kept_until.to_string(),
    })
}

/// The period as deliveries name it; one that is neither a month nor a year as its days.
fn period_text(next: &NextDelivery) -> String {
    let NextDelivery {
        first,
        last,
        due: _,
    } = *next;
    let month = DeliveryPeriod::Month {
        year: first.year(),
        month: first.month(),
    };
    let year = DeliveryPeriod::Year(first.year());
    [month, year]
        .into_iter()
        .find(|period| period.first_day() == first && period.last_day() == last)
        .map_or_else(|| format!("{first} to {last}"), |period| period.to_string())
}

fn days_between(from: Date, to: Date) -> i64 {
    to.duration_since(from).as_hours() / 24
}
