//! The names of the built-in rules, as they stand in rejects, receipts and
//! `reject.*` tables. A contract adds the ids of its own quality checks.
//!
//! A name is an interface: suppliers and reports filter by it, so a rule is
//! never renamed. To add one: a constant here, a line in `ALL`, and the check
//! that gives it in `checks`.

use std::sync::{Arc, LazyLock};

macro_rules! rules {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        $($(#[$doc])* pub const $constant: &str = $name;)*
        /// Every built-in rule.
        pub const ALL: &[&str] = &[$($name),*];
    };
}

rules! {
    /// A required cell is empty.
    REQUIRED_MISSING = "required_missing";
    /// A cell holds a control character, such as NUL, or a byte order mark.
    CONTROL_CHARACTER = "control_character";
    /// A cell holds bytes that are not text in the agreed encoding.
    ENCODING = "encoding";
    /// A text is longer than the declared `maxLength`.
    TOO_LONG = "too_long";
    /// A date is not written in the agreed form.
    DATE_FORM = "date_form";
    /// A date does not exist in the calendar, such as 31.4.
    DATE_IMPOSSIBLE = "date_impossible";
    /// A date is later than today.
    DATE_FUTURE = "date_future";
    /// A date is outside the declared `dateRange`.
    DATE_RANGE = "date_range";
    /// A month is not written as yyyymm, or does not exist.
    MONTH_FORM = "month_form";
    /// A whole number is not written as digits.
    INTEGER_FORM = "integer_form";
    /// A decimal number is not written as agreed.
    DECIMAL_FORM = "decimal_form";
    /// A decimal number has the other decimal sign than agreed.
    DECIMAL_SEPARATOR = "decimal_separator";
    /// A decimal number has more decimals than the type holds.
    DECIMAL_SCALE = "decimal_scale";
    /// A number is larger than the type holds.
    NUMBER_OVERFLOW = "number_overflow";
    /// A number is outside the declared limits.
    NUMBER_RANGE = "number_range";
    /// A yes-or-no cell is not K, E, 1 or 0.
    BOOLEAN_FORM = "boolean_form";
    /// A code is not in the code list.
    CODE_UNKNOWN = "code_unknown";
    /// A code was no longer valid on the row's date.
    CODE_EXPIRED = "code_expired";
    /// A code was not yet valid on the row's date.
    CODE_NOT_YET_VALID = "code_not_yet_valid";
    /// A business identity code has the wrong form or check digit.
    BUSINESS_ID = "business_id";
    /// A personal identity code does not have the form DDMMYYCZZZQ.
    HETU_FORM = "hetu_form";
    /// The birth date inside a personal identity code does not exist or is in the future.
    HETU_DATE = "hetu_date";
    /// The century sign of a personal identity code is not in use.
    HETU_SIGN = "hetu_sign";
    /// The control character of a personal identity code does not match.
    HETU_CONTROL = "hetu_control";
    /// An artificial personal identity code where only real ones are received.
    HETU_ARTIFICIAL = "hetu_artificial";
    /// A real personal identity code where only artificial ones are received.
    HETU_REAL = "hetu_real";
    /// A valid personal identity code inside another column.
    IDENTITY_CODE_IN_TEXT = "identity_code_in_text";
    /// The row's date is outside the delivered month or year.
    WRONG_PERIOD = "wrong_period";
    /// Two rows have the same key. Found by the reader over the whole delivery
    /// and the table.
    DUPLICATE_KEY = "duplicate_key";
    /// The program could not keep the row; the fault is not the supplier's.
    INTERNAL = "internal";
    /// A declared column is missing from the header.
    COLUMN_MISSING = "column_missing";
    /// The header has a column that the contract does not know.
    COLUMN_EXTRA = "column_extra";
    /// The header names a column twice.
    COLUMN_DUPLICATE = "column_duplicate";
}

/// A rule name that can be shared by many rejects without copying.
pub(crate) fn shared(rule: &'static str) -> Arc<str> {
    static SHARED: LazyLock<Vec<Arc<str>>> =
        LazyLock::new(|| ALL.iter().map(|name| Arc::from(*name)).collect());
    SHARED
        .iter()
        .find(|name| name.as_ref() == rule)
        .cloned()
        .unwrap_or_else(|| Arc::from(rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_its_own_name() {
        let mut names = ALL.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
