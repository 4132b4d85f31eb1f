//! What an indicator is made of, as one digest: when it is the same, so are its values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::AsArray;
use tietopohja_indicators::{Compiled, Indicator};
use tietopohja_lake::TableName;

use crate::catalog::Resolver;
use crate::engine::Engine;
use crate::error::Result;
use crate::model::{RelationName, reads_of};
use crate::plain::{conform, plain_schema};

/// Raised when the same queries over the same rows would be stored differently.
pub(super) const FORMAT: &str = "tietopohja-calculation/1";

/// What was delivered and loaded, read once for a run.
pub(crate) struct Inputs {
    /// Contract to the digest of its accepted deliveries.
    delivered: BTreeMap<String, String>,
    /// Reference table to the digest of its content.
    reference: BTreeMap<String, String>,
}

/// The relations that an indicator's queries name.
#[derive(Debug)]
pub(crate) struct Reads {
    /// Those of its components.
    pub(crate) components: BTreeSet<RelationName>,
    /// Those and what its value query names.
    pub(crate) all: BTreeSet<RelationName>,
}

impl Reads {
    /// # Errors
    /// When a text is not one query.
    pub(crate) fn of(compiled: &Compiled) -> Result<Self> {
        let mut components = BTreeSet::new();
        for component in &compiled.components {
            components.extend(reads_of(&component.sql)?);
        }
        let mut all = reads_of(&compiled.value_sql)?;
        all.extend(components.iter().cloned());
        Ok(Self { components, all })
    }
}

impl Engine {
    pub(crate) async fn inputs(&self, resolver: &Arc<Resolver>) -> Result<Inputs> {
        let delivered = self
            .pairs(resolver, "SELECT contract, delivery_id FROM meta.delivery WHERE status = 'accepted' ORDER BY contract, delivery_id")
            .await?;
        let mut hashers: BTreeMap<String, blake3::Hasher> = BTreeMap::new();
        for (contract, delivery) in delivered {
            let hasher = hashers.entry(contract).or_default();
            hasher.update(delivery.as_bytes()).update(b"\n");
        }
        let delivered = hashers
            .into_iter()
            .map(|(contract, hasher)| (contract, hasher.finalize().to_hex().to_string()))
            .collect();
        let reference = self
            .pairs(resolver, "SELECT name, digest FROM meta.reference")
            .await?
            .into_iter()
            .collect();
        Ok(Inputs {
            delivered,
            reference,
        })
    }

    /// The rows of a query of two text columns.
    async fn pairs(&self, resolver: &Arc<Resolver>, sql: &str) -> Result<Vec<(String, String)>> {
        let mut pairs = Vec::new();
        for batch in self.run(resolver, sql).await? {
            let batch = conform(&batch, &plain_schema(&batch.schema()))?;
            if let [first, second] = batch.columns() {
                let both = first
                    .as_string::<i32>()
                    .iter()
                    .zip(second.as_string::<i32>());
                pairs.extend(both.filter_map(|(a, b)| Some((a?.to_owned(), b?.to_owned()))));
            }
        }
        Ok(pairs)
    }

    /// The digest of everything that an indicator's values depend on.
    pub(crate) async fn fingerprint(
        &self,
        resolver: &Arc<Resolver>,
        inputs: &Inputs,
        (indicator, compiled, reads): (&Indicator, &Compiled, &Reads),
        profile: &str,
    ) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        let mut part = |text: &str| {
            hasher
                .update(&(text.len() as u64).to_le_bytes())
                .update(text.as_bytes());
        };
        part(FORMAT);
        part(indicator.version());
        part(profile);
        for output in indicator.outputs() {
            part(output.name());
            part(output.unit());
        }
        for sql in compiled
            .components
            .iter()
            .map(|component| &component.sql)
            .chain([&compiled.value_sql])
        {
            part(sql);
        }
        for component in &compiled.components {
            part(&component.name);
        }
        let models = &resolver.warehouse().models;
        for (name, text) in models.texts(&reads.all) {
            part(&name.to_string());
            part(text);
        }
        for source in models.sources(&reads.all) {
            part(&source.to_string());
            part(&self.state_of(resolver, inputs, indicator, &source).await?);
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// What a table holds now, as a word that changes when its rows do.
    async fn state_of(
        &self,
        resolver: &Arc<Resolver>,
        inputs: &Inputs,
        indicator: &Indicator,
        source: &RelationName,
    ) -> Result<String> {
        if source.schema == "component" {
            return Ok("own".to_owned());
        }
        // Deliveries of other contracts do not change what this indicator knows to be delivered.
        if (source.schema.as_str(), source.name.as_str()) == ("meta", "delivery") {
            let of_contract =
                |contract: &&str| inputs.delivered.get(*contract).map_or("", String::as_str);
            return Ok(indicator
                .contracts()
                .iter()
                .map(of_contract)
                .collect::<Vec<_>>()
                .join(","));
        }
        self.reference_state(resolver, inputs, source).await
    }

    /// The same of a table that does not depend on who asks: a digest of its content where there is
    /// one, else its version.
    pub(crate) async fn reference_state(
        &self,
        resolver: &Arc<Resolver>,
        inputs: &Inputs,
        source: &RelationName,
    ) -> Result<String> {
        if source.schema == "reference"
            && let Some(digest) = inputs.reference.get(&source.name)
        {
            return Ok(digest.clone());
        }
        match TableName::new(&source.schema, &source.name) {
            Ok(name) => Ok(resolver
                .version(&name)
                .await?
                .map_or("none".to_owned(), |version| version.to_string())),
            Err(_) => Ok("none".to_owned()),
        }
    }
}
