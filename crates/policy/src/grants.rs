//! The grants: which role sees which schema, and which tables of it.

use crate::principal::{Principal, Role};

/// The schema that describes the visible tables themselves.
pub const INFORMATION_SCHEMA: &str = "information_schema";

/// The schema of the tables that a principal made: each sees its own in it, and nobody another's.
pub const WORKSPACE: &str = "workspace";

/// Every schema of a warehouse that all see alike. A schema that is missing here exists for nobody, as `fact`, where
/// calculation keeps conformed relations in another form.
pub const SCHEMAS: [&str; 9] = [
    "raw",
    "reject",
    "staging",
    "conformed",
    "component",
    "result",
    "reference",
    "published",
    "meta",
];

/// How much of a schema a role sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Nothing: for this role the schema does not exist.
    Hidden,
    /// Only the named tables.
    Tables(&'static [&'static str]),
    /// Every table.
    Whole,
}

/// The answer to one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The table is in the principal's catalog.
    Allow,
    /// The table does not exist for the principal; the caller answers "not found", so that a
    /// refusal proves nothing.
    Deny,
}

impl Decision {
    /// Whether the door opens.
    pub fn is_allowed(self) -> bool {
        match self {
            Decision::Allow => true,
            Decision::Deny => false,
        }
    }
}

/// May the role make tables of its own? They may hold whatever the role can read, so a role that
/// reads protected results only has none.
pub fn has_workspace(role: Role) -> bool {
    match role {
        Role::Admin | Role::Analyst => true,
        Role::Reader => false,
    }
}

/// The schemas of which the role sees at least one table, `information_schema` not among them:
/// every role has it, over what it sees.
pub fn visible_schemas(role: Role) -> Vec<&'static str> {
    SCHEMAS
        .into_iter()
        .chain([WORKSPACE])
        .filter(|schema| visibility(role, schema) != Visibility::Hidden)
        .collect()
}

/// May the principal see this table?
///
/// Names are compared exactly, in lower case as the catalog stores them; an unknown schema, an
/// empty name or another case is denied.
pub fn decide(principal: &Principal, schema: &str, table: &str) -> Decision {
    if table.is_empty() {
        return Decision::Deny;
    }
    match visibility(principal.role(), schema) {
        Visibility::Whole => Decision::Allow,
        Visibility::Tables(tables) if tables.contains(&table) => Decision::Allow,
        Visibility::Tables(_) | Visibility::Hidden => Decision::Deny,
    }
}

/// Columns of an allowed table that do not exist for the role.
///
/// A reader does not learn from the list of runs which restricted tables there are.
pub fn hidden_columns(role: Role, schema: &str, table: &str) -> &'static [&'static str] {
    match role {
        Role::Admin | Role::Analyst => &[],
        Role::Reader => match (schema, table) {
            ("meta", "run") => &["table_versions"],
            _ => &[],
        },
    }
}

/// The column that says whose a row is, of a table of which the role sees only its own rows.
///
/// What others ask, and when, is theirs: only an administrator sees it.
pub fn own_rows_by(role: Role, schema: &str, table: &str) -> Option<&'static str> {
    match (role, schema, table) {
        (Role::Admin, _, _) => None,
        (Role::Analyst | Role::Reader, "meta", "query" | "session") => Some("principal"),
        (Role::Analyst | Role::Reader, _, _) => None,
    }
}

/// May the role see how large each delivery's share of a value is, and values before protection?
/// A share of one delivery can be a small count that the published value hides.
pub fn sees_contributions(role: Role) -> bool {
    match role {
        Role::Admin | Role::Analyst => true,
        Role::Reader => false,
    }
}

/// May the role see measured row counts and times of a query (`EXPLAIN ANALYZE`)? They answer
/// questions about rows that the query itself filters away.
pub fn sees_measurements(role: Role) -> bool {
    match role {
        Role::Admin | Role::Analyst => true,
        Role::Reader => false,
    }
}

fn visibility(role: Role, schema: &str) -> Visibility {
    if schema == INFORMATION_SCHEMA {
        return Visibility::Whole;
    }
    if schema == WORKSPACE {
        return match has_workspace(role) {
            true => Visibility::Whole,
            false => Visibility::Hidden,
        };
    }
    if !SCHEMAS.contains(&schema) {
        return Visibility::Hidden;
    }
    match role {
        Role::Admin => Visibility::Whole,
        Role::Analyst => match schema {
            "staging" | "conformed" | "reference" | "result" | "published" | "meta" => {
                Visibility::Whole
            }
            _ => Visibility::Hidden,
        },
        Role::Reader => match schema {
            "reference" | "published" => Visibility::Whole,
            "meta" => Visibility::Tables(&["indicator", "run"]),
            _ => Visibility::Hidden,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Role by table, as a page: `x` sees it, `o` sees its own rows of it, `.` does not.
    fn grid() -> String {
        let tables = [
            ("raw", "hr_absence"),
            ("reject", "hr_absence"),
            ("staging", "hr_absence"),
            ("conformed", "absence_spell"),
            ("fact", "absence_spell"),
            ("component", "cell"),
            ("result", "indicator_value"),
            ("reference", "population"),
            ("published", "indicator_value"),
            ("meta", "delivery"),
            ("meta", "delivered_month"),
            ("meta", "indicator"),
            ("meta", "run"),
            ("meta", "reference"),
            ("meta", "calculation"),
            ("meta", "check_result"),
            ("meta", "query"),
            ("meta", "session"),
            ("information_schema", "tables"),
            ("workspace", "mine"),
            ("public", "t"),
            ("RAW", "hr_absence"),
            ("", "t"),
        ];
        tables
            .iter()
            .map(|(schema, table)| {
                let marks: Vec<&str> = Role::ALL
                    .into_iter()
                    .map(|role| {
                        let who = Principal::new("u", role).unwrap();
                        match decide(&who, schema, table) {
                            Decision::Deny => ".",
                            Decision::Allow if own_rows_by(role, schema, table).is_some() => "o",
                            Decision::Allow => "x",
                        }
                    })
                    .collect();
                format!("{} {schema}.{table}\n", marks.join(" "))
            })
            .collect()
    }

    #[test]
    fn the_whole_policy_on_one_page() {
        // Columns: admin, analyst, reader.
        assert_eq!(
            grid(),
            "x . . raw.hr_absence\n\
             x . . reject.hr_absence\n\
             x x . staging.hr_absence\n\
             x x . conformed.absence_spell\n\
             . . . fact.absence_spell\n\
             x . . component.cell\n\
             x x . result.indicator_value\n\
             x x x reference.population\n\
             x x x published.indicator_value\n\
             x x . meta.delivery\n\
             x x . meta.delivered_month\n\
             x x x meta.indicator\n\
             x x x meta.run\n\
             x x . meta.reference\n\
             x x . meta.calculation\n\
             x x . meta.check_result\n\
             x o . meta.query\n\
             x o . meta.session\n\
             x x x information_schema.tables\n\
             x x . workspace.mine\n\
             . . . public.t\n\
             . . . RAW.hr_absence\n\
             . . . .t\n"
        );
    }

    #[test]
    fn a_later_role_never_sees_more_than_an_earlier_one() {
        for pair in Role::ALL.windows(2) {
            let (stronger, weaker) = (pair[0], pair[1]);
            for schema in SCHEMAS {
                for table in ["indicator", "run", "delivery", "anything"] {
                    let stronger = decide(&Principal::new("s", stronger).unwrap(), schema, table);
                    let weaker = decide(&Principal::new("w", weaker).unwrap(), schema, table);
                    assert!(
                        stronger.is_allowed() || !weaker.is_allowed(),
                        "{schema}.{table}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_schema_is_listed_only_when_something_in_it_is_visible() {
        let all: Vec<&str> = SCHEMAS.into_iter().chain([WORKSPACE]).collect();
        assert_eq!(visible_schemas(Role::Admin), all);
        assert_eq!(
            visible_schemas(Role::Reader),
            ["reference", "published", "meta"]
        );
        assert_eq!(
            visible_schemas(Role::Analyst),
            [
                "staging",
                "conformed",
                "result",
                "reference",
                "published",
                "meta",
                "workspace"
            ]
        );
    }

    #[test]
    fn a_reader_learns_less_than_an_analyst() {
        assert_eq!(
            hidden_columns(Role::Reader, "meta", "run"),
            ["table_versions"]
        );
        assert!(hidden_columns(Role::Analyst, "meta", "run").is_empty());
        assert!(hidden_columns(Role::Reader, "published", "indicator_value").is_empty());
        let grants = |role| (sees_contributions(role), sees_measurements(role));
        assert_eq!(
            Role::ALL.map(grants),
            [(true, true), (true, true), (false, false)]
        );
    }

    #[test]
    fn a_table_without_a_name_is_denied_even_to_the_administrator() {
        assert_eq!(decide(&Principal::system(), "raw", ""), Decision::Deny);
    }
}
