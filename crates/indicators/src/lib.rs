//! What an indicator means: definitions are read, checked and compiled to SQL text.
//!
//! Here live the definition format `tietopohja-indicator/1` and the limits format
//! `tietopohja-limits/1`, every check that needs no data, and the compiler. Nothing here reads a
//! file, plans a query or knows storage: texts come in, problems or SQL texts go out, and the same
//! definitions always give the same text.
//!
//! A definition becomes *components* (additive statistics of one source at the finest grain, with
//! the delivery they come from) and one *value query* that merges components to every level,
//! grain and breakdown and applies the formula of the indicator's kind.
//!
//! To add an indicator, write a file under `definitions/indicators`. To add a kind, add a word to
//! [`Kind`], a reader beside the others in `kinds/`, and a case to the golden tests.
//!
//! ```
//! use tietopohja_indicators::{Catalogue, CatalogueInput, TableColumns};
//!
//! struct NoTables;
//! impl TableColumns for NoTables {
//!     fn columns(&self, _table: &str) -> Option<Vec<(String, String)>> {
//!         None
//!     }
//!     fn tables(&self) -> Vec<String> {
//!         Vec::new()
//!     }
//! }
//!
//! let text = "schema = \"tietopohja-indicator/1\"\nid = \"Bad Id\"\n".to_owned();
//! let problems = Catalogue::load(&CatalogueInput {
//!     definitions: &[("bad.toml".to_owned(), text)],
//!     limits: &[],
//!     code_lists: &[],
//!     contracts: &[],
//!     disclosure_profiles: &[],
//!     tables: &NoTables,
//! })
//! .err()
//! .unwrap_or_default();
//! assert!(problems.len() > 1, "every problem is reported at once");
//! ```

mod catalogue;
mod compile;
mod component;
mod definition;
mod document;
mod expression;
mod indicator;
mod kinds;
mod limits;
mod rollup;
mod value;
mod words;

pub use catalogue::{Catalogue, CatalogueInput, TableColumns};
pub use compile::{
    Alone, Compiled, ComponentSql, RowMeasure, RowPart, RowPeriod, SpellAges, SpellPart,
    SpellReach, UNKNOWN,
};
pub use indicator::{
    Breakdown, Direction, Grain, Indicator, Kind, Language, Level, Mandate, Output, Owner, Span,
    Status, Text,
};
pub use limits::{Bound, Limit, LimitUnit};
pub use rollup::{MemberList, MembersFrom, Merge, Need, Needed, Residents, RollUp, RollUpColumn};
