//! Which delivery a file is: from the request, else from the file's name.
//!
//! The agreed name is `<dataset>_<organiser>_<period>.<ending>`. A name that says otherwise than
//! the request stops the landing: one of the two is a slip.

use tietopohja_domain::{County, DeliveryPeriod};

use crate::error::RequestError;

/// What the end of a file's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct NamedDelivery {
    pub(crate) county: Option<County>,
    pub(crate) period: Option<DeliveryPeriod>,
}

/// Reads the last two parts of the name before its first dot. A name of another form says nothing.
/// A national file may leave its sender out: `finance_htas_2025`.
pub(crate) fn named_delivery(file_name: &str, national: bool) -> NamedDelivery {
    let stem = file_name.split('.').next().unwrap_or_default();
    let mut parts = stem.rsplit('_');
    let (period, county) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    match (DeliveryPeriod::parse(period), County::parse(county)) {
        (Ok(period), Ok(county)) => NamedDelivery {
            county: Some(county),
            period: Some(period),
        },
        (Ok(period), Err(_)) if national => NamedDelivery {
            county: None,
            period: Some(period),
        },
        _ => NamedDelivery::default(),
    }
}

/// What kind of delivery a contract takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// Delivered by the month; otherwise by the calendar year.
    pub(crate) monthly: bool,
    /// One national source delivers for all.
    pub(crate) national: bool,
}

/// The organiser and period of a file, from the request and its name together.
pub(crate) fn settle(
    file: &str,
    contract: &str,
    agreed: Agreed,
    asked: NamedDelivery,
    today_year: i16,
) -> Result<(County, DeliveryPeriod), RequestError> {
    let named = named_delivery(file, agreed.national);
    let example = match agreed.monthly {
        true => DeliveryPeriod::Month {
            year: today_year,
            month: 1,
        },
        false => DeliveryPeriod::Year(today_year),
    };
    let (file_text, contract_text) = (file.to_owned(), contract.to_owned());
    let county = match (asked.county, named.county) {
        (Some(asked), Some(named)) if asked != named => {
            return Err(RequestError::CountyContradicts {
                file: file_text,
                named,
                asked,
            });
        }
        (Some(county), _) | (None, Some(county)) => county,
        (None, None) if agreed.national => County::NATIONAL,
        (None, None) => {
            return Err(RequestError::CountyUnknown {
                file: file_text,
                contract: contract_text,
            });
        }
    };
    let period = match (asked.period, named.period) {
        (Some(asked), Some(named)) if asked != named => {
            return Err(RequestError::PeriodContradicts {
                file: file_text,
                named,
                asked,
            });
        }
        (Some(period), _) | (None, Some(period)) => period,
        (None, None) => {
            return Err(RequestError::PeriodUnknown {
                file: file_text,
                contract: contract_text,
                example,
                number: example.number(),
            });
        }
    };
    if matches!(period, DeliveryPeriod::Month { .. }) != agreed.monthly {
        return Err(RequestError::PeriodKind {
            file: file_text,
            contract: contract_text,
            agreed: if agreed.monthly {
                "by the month"
            } else {
                "by the calendar year"
            },
            asked: period,
            example,
        });
    }
    match (agreed.national, county == County::NATIONAL) {
        (true, false) => Err(RequestError::CountyKind {
            file: file_text,
            contract: contract_text,
            agreed: "one national source",
            asked: county,
            help: "leave the organiser out, or ask for `--county FI`",
        }),
        (false, true) => Err(RequestError::CountyKind {
            file: file_text,
            contract: contract_text,
            agreed: "each organiser",
            asked: county,
            help: "ask for the organiser that sent it, such as `--county 07`",
        }),
        _ => Ok((county, period)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn delivery(county: Option<&str>, period: Option<&str>) -> NamedDelivery {
        NamedDelivery {
            county: county.map(|text| County::parse(text).unwrap()),
            period: period.map(|text| DeliveryPeriod::parse(text).unwrap()),
        }
    }

    #[test]
    fn the_end_of_the_name_says_organiser_and_period() {
        for (name, county, period) in [
            ("hr_absence_07_202401.csv", Some("07"), Some("2024-01")),
            ("hr_absence_07_202401.csv.gz", Some("07"), Some("2024-01")),
            ("hr_post_90_2024.parquet", Some("90"), Some("2024")),
            ("placement_01_202400.ndjson.zst", Some("01"), Some("2024")),
            ("finance_htas_FI_2025.csv", Some("FI"), Some("2025")),
            ("extract_2025.csv", None, None),
            ("extract.csv", None, None),
            ("hr_absence_07_tammikuu.csv", None, None),
            ("", None, None),
        ] {
            assert_eq!(
                named_delivery(name, false),
                delivery(county, period),
                "{name}"
            );
        }
        assert_eq!(
            named_delivery("finance_htas_2025.csv", true),
            delivery(None, Some("2025"))
        );
    }

    #[test]
    fn request_and_name_are_settled_or_the_contradiction_is_said() {
        let monthly = Agreed {
            monthly: true,
            national: false,
        };
        let yearly = Agreed {
            monthly: false,
            national: false,
        };
        let national = Agreed {
            monthly: false,
            national: true,
        };
        let none = delivery(None, None);
        let ok = |file, agreed, asked| {
            let (county, period) = settle(file, "x", agreed, asked, 2026).unwrap();
            format!("{county} {period}")
        };
        assert_eq!(ok("x_07_202401.csv", monthly, none), "07 2024-01");
        assert_eq!(
            ok("x.csv", monthly, delivery(Some("7"), Some("202401"))),
            "07 2024-01"
        );
        assert_eq!(
            ok("x_07_2024.csv", yearly, delivery(Some("07"), None)),
            "07 2024"
        );
        assert_eq!(ok("x_2024.csv", national, none), "FI 2024");

        let wrong = |file, agreed, asked| settle(file, "x", agreed, asked, 2026).unwrap_err();
        assert!(matches!(
            wrong("x.csv", monthly, none),
            RequestError::CountyUnknown { .. }
        ));
        assert!(matches!(
            wrong("x.csv", monthly, delivery(Some("07"), None)),
            RequestError::PeriodUnknown { .. }
        ));
        assert!(matches!(
            wrong("x_07_202401.csv", monthly, delivery(Some("08"), None)),
            RequestError::CountyContradicts { .. }
        ));
        assert!(matches!(
            wrong("x_07_202401.csv", monthly, delivery(None, Some("202402"))),
            RequestError::PeriodContradicts { .. }
        ));
        assert!(matches!(
            wrong("x_07_2024.csv", monthly, none),
            RequestError::PeriodKind { .. }
        ));
        assert!(matches!(
            wrong("x_07_202401.csv", yearly, none),
            RequestError::PeriodKind { .. }
        ));
        assert!(matches!(
            wrong("x_07_2024.csv", national, none),
            RequestError::CountyKind { .. }
        ));
        assert!(matches!(
            wrong("x_FI_2024.csv", yearly, none),
            RequestError::CountyKind { .. }
        ));
    }
}
