//! Who may see which tables. It decides; the engine enforces.
//!
//! Here live the principal, the roles and one table of grants. No I/O, no Arrow, no clock: the same
//! question always gets the same answer. What is not named in the grants is denied, to everyone:
//! a new schema is invisible until it is added to [`SCHEMAS`] and to the grants of the roles that
//! need it, and a new role does not compile until every `match` on [`Role`] answers for it. The
//! grid `role by table` in this file's tests shows the whole policy on one page.

mod grants;
mod principal;

pub use grants::{
    Decision, INFORMATION_SCHEMA, SCHEMAS, Visibility, WORKSPACE, decide, has_workspace,
    hidden_columns, own_rows_by, sees_contributions, sees_measurements, visible_schemas,
};
pub use principal::{InvalidPrincipal, PROVIDER_MARK, Principal, Role, UnknownRole};
