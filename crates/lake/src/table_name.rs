//! The two-part name of a table: schema and table.

use std::fmt;

use crate::LakeError;

/// A table's name. On storage it is the folder `<schema>/<table>/` of the lake.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    schema: String,
    table: String,
}

impl TableName {
    /// A name of lower-case letters, digits and underscores, beginning with a letter.
    pub fn new(schema: &str, table: &str) -> Result<TableName, LakeError> {
        for part in [schema, table] {
            let first = part.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
            let rest = part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if !first || !rest || part.len() > 63 {
                return Err(LakeError::TableName(part.to_owned()));
            }
        }
        Ok(TableName {
            schema: schema.to_owned(),
            table: table.to_owned(),
        })
    }

    /// The schema part.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The table part.
    pub fn table(&self) -> &str {
        &self.table
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_become_folders() {
        for (schema, table, good) in [
            ("raw", "hr_absence", true),
            ("Raw", "x", false),
            ("raw", "", false),
            ("raw", "../x", false),
            ("raw", "1x", false),
        ] {
            assert_eq!(
                TableName::new(schema, table).is_ok(),
                good,
                "{schema}.{table}"
            );
        }
    }
}
