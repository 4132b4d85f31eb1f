//! A contract that was read and found whole: what a dataset is, its columns,
//! and the limits it must keep.
//!
//! Every field is private and the only constructor is `Contract::parse` (in
//! `odcs`), so a contract that exists is consistent: names resolve, types and
//! checks fit each other. How YAML becomes this is in `odcs`; how rows are
//! judged by it, in `validator`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::block::{Action, DecimalMark, Dialect};
use crate::checks::cross_field::Equation;

/// How deliveries of a dataset follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// A month of events; the rows' dates lie in the delivered month.
    Events,
    /// A calendar year of spells; each row overlaps the delivered year.
    YearlySpells,
    /// A national document of one year.
    Document,
}

impl Mode {
    pub(crate) const NAMES: [&str; 3] = ["events", "yearly_spells", "document"];

    /// The word used in contracts.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Events => "events",
            Mode::YearlySpells => "yearly_spells",
            Mode::Document => "document",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Mode> {
        match text {
            "events" => Some(Mode::Events),
            "yearly_spells" => Some(Mode::YearlySpells),
            "document" => Some(Mode::Document),
            _ => None,
        }
    }
}

/// A character encoding that a source may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// UTF-8, with or without a byte order mark.
    Utf8,
    /// ISO-8859-1.
    Iso8859_1,
    /// ISO-8859-15, with the euro sign.
    Iso8859_15,
    /// Windows-1252.
    Windows1252,
}

impl Encoding {
    pub(crate) const NAMES: [&str; 4] = ["utf-8", "iso-8859-1", "iso-8859-15", "windows-1252"];

    /// The name used in contracts, which is also the IANA name.
    pub fn as_str(self) -> &'static str {
        match self {
            Encoding::Utf8 => "utf-8",
            Encoding::Iso8859_1 => "iso-8859-1",
            Encoding::Iso8859_15 => "iso-8859-15",
            Encoding::Windows1252 => "windows-1252",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Encoding> {
        match text {
            "utf-8" => Some(Encoding::Utf8),
            "iso-8859-1" => Some(Encoding::Iso8859_1),
            "iso-8859-15" => Some(Encoding::Iso8859_15),
            "windows-1252" => Some(Encoding::Windows1252),
            _ => None,
        }
    }
}

/// The agreed form of the source's text files. A file in another form is
/// refused; nothing is guessed from its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFormat {
    pub(crate) separators: Vec<u8>,
    pub(crate) decimal: DecimalMark,
    pub(crate) finnish_dates: bool,
    pub(crate) iso_dates: bool,
    pub(crate) encodings: Vec<Encoding>,
}

impl SourceFormat {
    /// The agreed cell separators (ASCII), never empty.
    pub fn separators(&self) -> &[u8] {
        &self.separators
    }

    /// The agreed decimal sign.
    pub fn decimal(&self) -> DecimalMark {
        self.decimal
    }

    /// `31.3.2024` and `31.03.2024` are agreed.
    pub fn finnish_dates(&self) -> bool {
        self.finnish_dates
    }

    /// `2024-03-31` is agreed.
    pub fn iso_dates(&self) -> bool {
        self.iso_dates
    }

    /// The agreed encodings, never empty.
    pub fn encodings(&self) -> &[Encoding] {
        &self.encodings
    }

    /// How numbers and dates are written in the source's text files.
    pub fn dialect(&self) -> Dialect {
        Dialect {
            decimal: self.decimal,
            iso: self.iso_dates,
            finnish: self.finnish_dates,
        }
    }
}

/// The latest day a date column accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastDay {
    /// The day of landing; later dates break `date_future`.
    Today,
    /// A fixed day, as days since 1970-01-01; later dates break `date_range`.
    Fixed(i32),
}

/// The days a date or month column accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateRange {
    /// First accepted day, as days since 1970-01-01.
    pub first: i32,
    /// Last accepted day.
    pub last: LastDay,
}

/// Inclusive limits of a number, in units of its last decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberRange {
    /// The least accepted value.
    pub min: i128,
    /// The greatest accepted value.
    pub max: i128,
}

/// The type of a property: how a cell is read and what column it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PropertyType {
    /// Text, trimmed. Becomes `Utf8`.
    Text {
        /// Longest accepted text in characters.
        max_length: usize,
        /// What an identity code inside the text does; `None` = not scanned.
        scan: Option<Action>,
    },
    /// A date. Becomes `Date32`.
    Date(DateRange),
    /// A month written yyyymm. Becomes `Date32`, its first day.
    Month(DateRange),
    /// A whole number. Becomes `Int32`, or `Int64` when `wide`.
    Integer {
        /// 64 bits instead of 32.
        wide: bool,
        /// Accepted values.
        range: NumberRange,
    },
    /// A decimal number. Becomes `Decimal128(precision, scale)`.
    Decimal {
        /// Digits in all, at most 38.
        precision: u8,
        /// Decimals, at most `precision`.
        scale: u8,
        /// Accepted values.
        range: NumberRange,
        /// Summed for the control totals of the delivery.
        sum: bool,
    },
    /// K, E, 1 or 0. Becomes `Boolean`.
    Boolean,
    /// A personal identity code. Becomes `<base>_pid`, `<base>_birth_date`
    /// and `<base>_sex`, where the property is `<base>_id`.
    Hetu {
        /// Domain of the pseudonym, such as `hr` or `client`.
        domain: Arc<str>,
    },
    /// A business identity code. Becomes `Utf8` as `0101263-6`.
    BusinessId,
    /// A code of a list, valid on the row's date. Becomes `Utf8` as the list
    /// writes it.
    Code {
        /// Name of the code list.
        list: Arc<str>,
        /// Numeric codes shorter than this get their lost zeros back; 0 = off.
        width: usize,
        /// The property that gives the row's date; `None` = first day of the
        /// delivery.
        valid_on: Option<usize>,
    },
}

/// One column of the source.
#[derive(Debug, Clone)]
pub struct Property {
    pub(crate) name: Arc<str>,
    pub(crate) header: Arc<str>,
    pub(crate) kind: PropertyType,
    pub(crate) required: bool,
    pub(crate) title_fi: String,
    pub(crate) description_fi: String,
    pub(crate) description_en: String,
    pub(crate) unit: Option<String>,
    pub(crate) classification: Classification,
    pub(crate) null_when: Vec<String>,
    pub(crate) physical_type: String,
}

/// How sensitive a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Classification {
    /// Anyone may see it.
    Public,
    /// For the organisation's own work.
    Internal,
    /// About a person, without naming the person.
    Personal,
    /// Names a person; never stored as received.
    PersonalIdentityCode,
}

impl Classification {
    pub(crate) const NAMES: [&str; 4] =
        ["public", "internal", "personal", "personal_identity_code"];

    /// The word used in contracts.
    pub fn as_str(self) -> &'static str {
        match self {
            Classification::Public => "public",
            Classification::Internal => "internal",
            Classification::Personal => "personal",
            Classification::PersonalIdentityCode => "personal_identity_code",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Classification> {
        match text {
            "public" => Some(Classification::Public),
            "internal" => Some(Classification::Internal),
            "personal" => Some(Classification::Personal),
            "personal_identity_code" => Some(Classification::PersonalIdentityCode),
            _ => None,
        }
    }
}

impl Property {
    /// The English name, and except for identity codes the raw column.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The column header of the source.
    pub fn header(&self) -> &Arc<str> {
        &self.header
    }

    /// The type.
    pub fn kind(&self) -> &PropertyType {
        &self.kind
    }

    /// The type as the contract writes it, such as `decimal(14,2)`.
    pub fn physical_type(&self) -> &str {
        &self.physical_type
    }

    /// An empty cell breaks `required_missing`.
    pub fn required(&self) -> bool {
        self.required
    }

    /// The Finnish title.
    pub fn title_fi(&self) -> &str {
        &self.title_fi
    }

    /// The meaning in Finnish.
    pub fn description_fi(&self) -> &str {
        &self.description_fi
    }

    /// The meaning in English.
    pub fn description_en(&self) -> &str {
        &self.description_en
    }

    /// The unit of measure, such as `EUR`, `min` or `percent`.
    pub fn unit(&self) -> Option<&str> {
        self.unit.as_deref()
    }

    /// How sensitive the column is.
    pub fn classification(&self) -> Classification {
        self.classification
    }

    /// The code list, for a code.
    pub fn code_list(&self) -> Option<&str> {
        match &self.kind {
            PropertyType::Code { list, .. } => Some(list),
            _ => None,
        }
    }

    /// Cell texts that mean an open or missing value, such as `31.12.9999`.
    pub fn null_when(&self) -> &[String] {
        &self.null_when
    }

    /// The raw columns this property becomes. All are nullable: a later
    /// version of the contract may loosen `required`, and a table that lives
    /// long must not stand in its way.
    pub(crate) fn fields(&self) -> Vec<Field> {
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        match &self.kind {
            PropertyType::Text { .. } | PropertyType::BusinessId | PropertyType::Code { .. } => {
                vec![field(&self.name, DataType::Utf8)]
            }
            PropertyType::Date(_) | PropertyType::Month(_) => {
                vec![field(&self.name, DataType::Date32)]
            }
            PropertyType::Integer { wide: false, .. } => vec![field(&self.name, DataType::Int32)],
            PropertyType::Integer { wide: true, .. } => vec![field(&self.name, DataType::Int64)],
            PropertyType::Decimal {
                precision, scale, ..
            } => {
                let scale = i8::try_from(*scale).unwrap_or(i8::MAX);
                vec![field(&self.name, DataType::Decimal128(*precision, scale))]
            }
            PropertyType::Boolean => vec![field(&self.name, DataType::Boolean)],
            PropertyType::Hetu { .. } => {
                let base = self.name.strip_suffix("_id").unwrap_or(&self.name);
                vec![
                    field(&format!("{base}_pid"), DataType::Binary),
                    field(&format!("{base}_birth_date"), DataType::Date32),
                    field(&format!("{base}_sex"), DataType::Utf8),
                ]
            }
        }
    }
}

/// Where a key must be unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyScope {
    /// Within one delivery. Spells come again in the delivery of each year.
    Delivery,
    /// Also against every other delivery of the table that the landing does
    /// not replace.
    Table,
}

/// The uniqueness that the contract declares for its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uniqueness {
    /// Where the key must be unique.
    pub scope: KeyScope,
    /// What a repeated key does: `Reject`, `Hold`, `Warn`, or `Quarantine`
    /// (the first row stays, later ones are kept apart).
    pub action: Action,
}

/// Which rows belong to the delivered period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeriodRule {
    pub(crate) test: PeriodTest,
    /// Only rows where the code property has one of the codes.
    pub(crate) when: Option<(usize, Vec<Arc<str>>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeriodTest {
    /// The date lies in the delivered month (or year, for a yearly delivery).
    Within { date: usize },
    /// The date lies in the calendar year of the delivery.
    WithinYear { date: usize },
    /// The spell has at least one day in the delivered period; an empty end is
    /// open.
    Overlaps { from: usize, to: usize },
}

/// A check between the columns of a row.
#[derive(Debug, Clone)]
pub(crate) struct CrossCheck {
    pub(crate) rule: Arc<str>,
    pub(crate) equation: Equation,
    /// The property whose header stands in the reject.
    pub(crate) field: usize,
    pub(crate) action: Action,
    pub(crate) message: String,
}

/// What a check of the whole delivery counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Rows received.
    Received,
    /// Rows with at least one reject.
    Quarantined,
    /// Rejects of one rule over all fields.
    Rule(Arc<str>),
    /// Rejects of one field other than missing values.
    Invalid(Arc<str>),
    /// Empty cells of one property, by `findings` name.
    Missing(Arc<str>),
    /// Accepted rows whose municipality belongs to the delivering county.
    HomeCounty,
}

/// The comparison of a check.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Equal to.
    Be(f64),
    /// Not equal to.
    NotBe(f64),
    /// Greater than.
    GreaterThan(f64),
    /// Greater than or equal to.
    GreaterOrEqualTo(f64),
    /// Less than.
    LessThan(f64),
    /// Less than or equal to.
    LessOrEqualTo(f64),
    /// Strictly between the two, as the standard says.
    Between(f64, f64),
    /// Not strictly between the two.
    NotBetween(f64, f64),
}

impl Limit {
    /// Whether a measured value keeps the limit.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Limit::Be(x) => value == x,
            Limit::NotBe(x) => value != x,
            Limit::GreaterThan(x) => value > x,
            Limit::GreaterOrEqualTo(x) => value >= x,
            Limit::LessThan(x) => value < x,
            Limit::LessOrEqualTo(x) => value <= x,
            Limit::Between(a, b) => a < value && value < b,
            Limit::NotBetween(a, b) => !(a < value && value < b),
        }
    }

    /// The limit in words, such as `less than 2`.
    pub fn words(self) -> String {
        match self {
            Limit::Be(x) => format!("{x}"),
            Limit::NotBe(x) => format!("other than {x}"),
            Limit::GreaterThan(x) => format!("more than {x}"),
            Limit::GreaterOrEqualTo(x) => format!("at least {x}"),
            Limit::LessThan(x) => format!("less than {x}"),
            Limit::LessOrEqualTo(x) => format!("at most {x}"),
            Limit::Between(a, b) => format!("between {a} and {b}"),
            Limit::NotBetween(a, b) => format!("not between {a} and {b}"),
        }
    }
}

/// Whether a check counts rows or their share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckUnit {
    /// A number of rows.
    Rows,
    /// Per cent of the rows.
    Percent,
}

/// A check of the whole delivery.
#[derive(Debug, Clone)]
pub(crate) struct SetCheck {
    pub(crate) id: Arc<str>,
    pub(crate) field: Option<Arc<str>>,
    pub(crate) measure: Measure,
    pub(crate) limit: Limit,
    pub(crate) unit: CheckUnit,
    /// Deliveries with fewer rows are not judged by this check.
    pub(crate) min_rows: u64,
    pub(crate) action: Action,
    pub(crate) description: Option<String>,
}

/// A check written in SQL, run over the accepted rows of a delivery before
/// they become visible. `{object}` stands for those rows and `{property}` for
/// the column of the property that the check belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct SqlCheck {
    /// The check's id, unique within the contract.
    pub id: String,
    /// The line of the contract where the check begins.
    pub line: u32,
    /// The property it belongs to; `None` for the whole dataset.
    pub property: Option<String>,
    /// A query that returns one number.
    pub query: String,
    /// The accepted result.
    pub limit: Limit,
    /// What the number counts; `None`: it is no count of rows. Such a number
    /// could be a value of a row, so it is never shown.
    pub unit: Option<CheckUnit>,
    /// What a broken limit does. Never `Quarantine`.
    pub action: Action,
    /// The quality dimension of the standard.
    pub dimension: Option<String>,
    /// What the check is about.
    pub description: Option<String>,
}

/// A term of delivery, such as latency or retention.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceLevel {
    /// The property of the standard: `latency`, `frequency`, `retention`, ...
    pub property: String,
    /// The value in `unit`.
    pub value: f64,
    /// `d`, `m` or `y`: days, months, years.
    pub unit: String,
    /// The element it is measured on, as `dataset.property`.
    pub element: Option<String>,
}

/// One data contract, checked.
#[derive(Debug, Clone)]
pub struct Contract {
    pub(crate) file: String,
    pub(crate) id: String,
    pub(crate) name: Arc<str>,
    pub(crate) version: String,
    pub(crate) status: String,
    pub(crate) domain: Option<String>,
    pub(crate) purpose: String,
    pub(crate) granularity: String,
    pub(crate) mode: Mode,
    pub(crate) format: SourceFormat,
    pub(crate) properties: Vec<Property>,
    pub(crate) key: Vec<usize>,
    pub(crate) key_names: Vec<Arc<str>>,
    pub(crate) uniqueness: Uniqueness,
    pub(crate) periods: Vec<PeriodRule>,
    pub(crate) cross_checks: Vec<CrossCheck>,
    pub(crate) set_checks: Vec<SetCheck>,
    pub(crate) sql_checks: Vec<SqlCheck>,
    pub(crate) service_levels: Vec<ServiceLevel>,
    pub(crate) schema: SchemaRef,
}

impl Contract {
    /// The dataset's name, which is also its raw table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file it was read from, as problems name it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The contract's identifier.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The contract's version, `major.minor.patch`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The contract's state, such as `active`.
    pub fn status(&self) -> &str {
        &self.status
    }

    /// The business domain, such as `hr`.
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Why the data is delivered.
    pub fn purpose(&self) -> &str {
        &self.purpose
    }

    /// What one row is.
    pub fn granularity(&self) -> &str {
        &self.granularity
    }

    /// How deliveries follow each other.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The agreed form of text files.
    pub fn format(&self) -> &SourceFormat {
        &self.format
    }

    /// The columns in their order.
    pub fn properties(&self) -> &[Property] {
        &self.properties
    }

    /// The property with this English name.
    pub fn property(&self, name: &str) -> Option<&Property> {
        self.properties
            .iter()
            .find(|property| property.name.as_ref() == name)
    }

    /// Names of the properties that together are the key, in key order.
    pub fn key(&self) -> &[Arc<str>] {
        &self.key_names
    }

    /// Where the key is unique, and what a repeated key does.
    pub fn uniqueness(&self) -> &Uniqueness {
        &self.uniqueness
    }

    /// Checks that are queries over the rows of a delivery; see `sql_check`.
    pub fn sql_checks(&self) -> &[SqlCheck] {
        &self.sql_checks
    }

    /// Terms of delivery.
    pub fn service_levels(&self) -> &[ServiceLevel] {
        &self.service_levels
    }

    /// Names of the amount columns that are summed for control totals.
    pub fn amount_columns(&self) -> impl Iterator<Item = &Property> {
        self.properties
            .iter()
            .filter(|property| matches!(property.kind, PropertyType::Decimal { sum: true, .. }))
    }

    /// The columns of accepted rows, in the order of the properties. The
    /// landing adds county, period, delivery_id and row_no before them.
    pub fn arrow_schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

pub(crate) fn schema_of(properties: &[Property]) -> SchemaRef {
    Arc::new(Schema::new(
        properties
            .iter()
            .flat_map(Property::fields)
            .collect::<Vec<_>>(),
    ))
}
