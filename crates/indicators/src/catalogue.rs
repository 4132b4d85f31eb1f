//! The catalogue: every indicator of a warehouse, checked together.

use std::collections::{BTreeMap, BTreeSet};

use tietopohja_domain::{Problem, did_you_mean};

use crate::compile::{self, Compiled};
use crate::definition;
use crate::indicator::{Indicator, Output};
use crate::limits::{self, Limit};

/// The tables that definitions may read, by qualified name (`conformed.placement`).
pub trait TableColumns {
    /// Name and type of each column, or `None` when there is no such table. The type may be
    /// written as an Arrow type (`Utf8`, `Date32`) or as an SQL type (`VARCHAR`, `DATE`).
    fn columns(&self, table: &str) -> Option<Vec<(String, String)>>;

    /// Every table, for suggestions.
    fn tables(&self) -> Vec<String>;
}

/// What [`Catalogue::load`] reads: file texts with their paths, and the names that other parts of
/// the warehouse define.
pub struct CatalogueInput<'a> {
    /// Indicator files: path as the user knows it, text.
    pub definitions: &'a [(String, String)],
    /// Limit files: path as the user knows it, text.
    pub limits: &'a [(String, String)],
    /// Names of the code lists (`county.profession_group`).
    pub code_lists: &'a [String],
    /// Names of the contracts (`hr_absence`).
    pub contracts: &'a [String],
    /// Names of the disclosure profiles (`person_count`).
    pub disclosure_profiles: &'a [String],
    /// The tables that sources may name.
    pub tables: &'a dyn TableColumns,
}

/// Every indicator of a warehouse. A catalogue that exists has no known problem.
#[derive(Debug, Clone)]
pub struct Catalogue {
    indicators: Vec<Indicator>,
    breakdowns: Vec<String>,
    limits: Vec<Limit>,
}

impl Catalogue {
    /// Reads and checks all definitions.
    ///
    /// # Errors
    /// All problems of all files, in the order of file and line.
    pub fn load(input: &CatalogueInput<'_>) -> Result<Catalogue, Vec<Problem>> {
        let mut problems = Vec::new();
        let limits = limits::read(input.limits, &mut problems);
        let mut indicators: Vec<Indicator> = Vec::new();
        for (file, text) in input.definitions {
            if let Some(indicator) = definition::read(file, text, input, &limits, &mut problems) {
                indicators.push(indicator);
            }
        }
        indicators.sort_by(|a, b| a.id().cmp(b.id()).then_with(|| a.file().cmp(b.file())));
        check_unique(&indicators, &mut problems);
        if !problems.is_empty() {
            problems.sort();
            problems.dedup();
            return Err(problems);
        }
        let breakdowns: BTreeSet<String> = indicators
            .iter()
            .flat_map(|i| i.breakdowns().iter().map(|b| b.name.clone()))
            .collect();
        Ok(Catalogue {
            indicators,
            breakdowns: breakdowns.into_iter().collect(),
            limits,
        })
    }

    /// The indicators, sorted by id.
    pub fn indicators(&self) -> &[Indicator] {
        &self.indicators
    }

    /// The indicator of an id.
    pub fn get(&self, id: &str) -> Option<&Indicator> {
        self.indicators
            .binary_search_by(|i| i.id().cmp(id))
            .ok()
            .and_then(|at| self.indicators.get(at))
    }

    /// The known id closest to one that does not exist.
    pub fn suggest(&self, id: &str) -> Option<&str> {
        did_you_mean(id, self.indicators.iter().map(Indicator::id))
    }

    /// Every breakdown name of every definition, sorted: the breakdown columns of components and
    /// results.
    pub fn breakdowns(&self) -> &[String] {
        &self.breakdowns
    }

    /// Every limit, sorted by id, first day and condition: the rows of
    /// `reference.statutory_limit`.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// The SQL of an indicator of this catalogue. The text depends on the definitions only.
    pub fn compile(&self, indicator: &Indicator) -> Compiled {
        compile::compile(indicator, &self.breakdowns)
    }
}

/// Two files may not define one id, and two ids may not share a storage number.
fn check_unique(indicators: &[Indicator], problems: &mut Vec<Problem>) {
    let mut by_number: BTreeMap<i32, &Indicator> = BTreeMap::new();
    for indicator in indicators {
        if let Some(first) = by_number.insert(indicator.number(), indicator) {
            let problem = if first.id() == indicator.id() {
                Problem::new(
                    indicator.file(),
                    format!(
                        "indicator `{}` is already defined in {}",
                        first.id(),
                        first.file()
                    ),
                )
                .help("give one of them another `id`")
            } else {
                Problem::new(
                    indicator.file(),
                    format!(
                        "`{}` has the same storage number as `{}`",
                        indicator.id(),
                        first.id()
                    ),
                )
                .help("change the `id`; the number is computed from it")
            };
            problems.push(problem);
        }
    }
    for indicator in indicators {
        let mut seen = BTreeSet::new();
        for output in indicator.outputs() {
            if !seen.insert(Output::name(output)) {
                problems.push(Problem::new(
                    indicator.file(),
                    format!("output `{}` is declared twice", output.name()),
                ));
            }
        }
    }
}
