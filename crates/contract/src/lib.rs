//! Data contracts: what a source delivers, and the judgement of each row.
//!
//! A contract is an ODCS 3.1 YAML file. Here it is read strictly, and turned
//! into a validator that makes Arrow columns of accepted rows and a list of
//! rejects of the others. Nothing here opens files, asks the time or knows
//! keys: text, dates and the pseudonym function come in as arguments.
//!
//! To add a row check: a file in `checks` with its rule in `rules`. To add a
//! key of the contract: `odcs`. To add a dataset: no code, only a contract.

mod block;
mod checks;
mod codes;
mod conclude;
mod contract;
mod days;
mod odcs;
pub mod rules;
mod sql_check;
mod stored_key;
mod terms;
mod validator;
mod yaml;

#[cfg(test)]
mod testing;

pub use block::{
    Action, Checked, DecimalMark, DeliveryContext, Dialect, FileFinding, IdentityCodes,
    Pseudonymise, Reject, TextBlock, Totals,
};
pub use checks::header::HeaderMap;
pub use codes::{Code, CodeList, CodeLists, Lookup};
pub use contract::{
    CheckUnit, Classification, Contract, DateRange, Encoding, KeyScope, LastDay, Limit, Mode,
    NumberRange, Property, PropertyType, ServiceLevel, SourceFormat, SqlCheck, Uniqueness,
};
pub use terms::NextDelivery;
pub use validator::Validator;
