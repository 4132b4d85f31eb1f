//! Personal identity codes. The code is checked, replaced by a keyed
//! pseudonym, and forgotten; only birth date and sex stay beside it.

use tietopohja_domain::{Hetu, HetuError, Sex};

use crate::block::{IdentityCodes, Pseudonymise};
use crate::checks::{Fault, Reader};
use crate::{days, rules};

pub(crate) struct HetuReader<'a> {
    pseudonymise: &'a dyn Pseudonymise,
    domain: &'a str,
    identity_codes: IdentityCodes,
    today: i32,
    /// The last person's code and pseudonym: events of a person often follow
    /// each other, and the pseudonym costs more than all else of the row.
    last: Option<([u8; 11], [u8; 16])>,
    pub(crate) pseudonyms: Vec<[u8; 16]>,
    pub(crate) birth_days: Vec<i32>,
    pub(crate) male: Vec<bool>,
}

impl<'a> HetuReader<'a> {
    pub(crate) fn new(
        pseudonymise: &'a dyn Pseudonymise,
        domain: &'a str,
        identity_codes: IdentityCodes,
        today: i32,
        rows: usize,
    ) -> Self {
        HetuReader {
            pseudonymise,
            domain,
            identity_codes,
            today,
            last: None,
            pseudonyms: Vec::with_capacity(rows),
            birth_days: Vec::with_capacity(rows),
            male: Vec::with_capacity(rows),
        }
    }
}

impl Reader for HetuReader<'_> {
    fn read(&mut self, _row: usize, cell: &[u8]) -> Result<(), Fault> {
        let hetu = Hetu::parse(cell).map_err(explain)?;
        match (self.identity_codes, hetu.is_artificial()) {
            (IdentityCodes::ArtificialOnly, false) => return Err(REAL),
            (IdentityCodes::RealOnly, true) => return Err(ARTIFICIAL),
            (IdentityCodes::ArtificialOnly, true)
            | (IdentityCodes::RealOnly, false)
            | (IdentityCodes::Any, _) => {}
        }
        let birth_day = days::from_date(hetu.birth_date());
        if birth_day > self.today {
            return Err(Fault {
                rule: rules::HETU_DATE,
                message: "the birth date in the identity code is in the future",
            });
        }
        let canonical = hetu.canonical();
        let pseudonym = match &self.last {
            Some((last, pseudonym)) if last == canonical => *pseudonym,
            _ => {
                let pseudonym = self.pseudonymise.pseudonym(self.domain, canonical);
                self.last = Some((*canonical, pseudonym));
                pseudonym
            }
        };
        self.pseudonyms.push(pseudonym);
        self.birth_days.push(birth_day);
        self.male.push(hetu.sex() == Sex::Male);
        Ok(())
    }

    fn skip(&mut self) {
        self.pseudonyms.push([0; 16]);
        self.birth_days.push(0);
        self.male.push(false);
    }
}

fn explain(error: HetuError) -> Fault {
    match error {
        HetuError::Form => Fault {
            rule: rules::HETU_FORM,
            message: "not a personal identity code (ddmmyyCnnnT)",
        },
        HetuError::Individual => Fault {
            rule: rules::HETU_FORM,
            message: "the individual number of the identity code is not in use",
        },
        HetuError::Date => Fault {
            rule: rules::HETU_DATE,
            message: "the birth date in the identity code does not exist",
        },
        HetuError::Sign => Fault {
            rule: rules::HETU_SIGN,
            message: "the century sign of the identity code is not in use",
        },
        HetuError::Control => Fault {
            rule: rules::HETU_CONTROL,
            message: "the control character of the identity code does not match",
        },
    }
}

const REAL: Fault = Fault {
    rule: rules::HETU_REAL,
    message: "a real personal identity code, while this warehouse receives only artificial ones",
};
const ARTIFICIAL: Fault = Fault {
    rule: rules::HETU_ARTIFICIAL,
    message: "an artificial personal identity code (900-999), while this warehouse receives only real ones",
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::testing::read_one;

    struct Echo;

    impl Pseudonymise for Echo {
        fn pseudonym(&self, domain: &str, canonical: &[u8; 11]) -> [u8; 16] {
            let mut out = [0; 16];
            for (to, from) in out.iter_mut().zip(domain.bytes().chain(*canonical)) {
                *to = from;
            }
            out
        }
    }

    fn check(cell: &str, identity_codes: IdentityCodes, expected: Result<(&str, i32, bool), &str>) {
        // Today is 2024-06-30.
        let mut reader = HetuReader::new(&Echo, "hr", identity_codes, 19_904, 1);
        let found = read_one(&mut reader, cell.as_bytes()).map(|_| {
            let pseudonym = reader.pseudonyms.first().copied().unwrap_or_default();
            let text = String::from_utf8_lossy(&pseudonym)
                .trim_end_matches('\0')
                .to_owned();
            (
                text,
                reader.birth_days.first().copied().unwrap_or(0),
                reader.male.first() == Some(&true),
            )
        });
        let expected = expected
            .map(|(p, d, m)| (p.to_owned(), d, m))
            .map_err(str::to_owned);
        assert_eq!(found, expected, "{cell}");
    }

    #[test]
    fn a_valid_code_becomes_pseudonym_birth_date_and_sex() {
        let born = days::from_civil(1990, 1, 1).unwrap_or(0);
        check(
            "010190-900P",
            IdentityCodes::ArtificialOnly,
            Ok(("hr010190-900P", born, false)),
        );
        check(
            " 10190-900p",
            IdentityCodes::Any,
            Ok(("hr010190-900P", born, false)),
        );
    }

    #[test]
    fn each_fault_has_its_rule() {
        for (cell, rule) in [
            ("020516C903L", "hetu_control"),
            ("310290-900P", "hetu_date"),
            ("010190Z900P", "hetu_sign"),
            ("010190-001A", "hetu_form"),
            ("1234", "hetu_form"),
            ("010190-900P\0", "control_character"),
        ] {
            check(cell, IdentityCodes::ArtificialOnly, Err(rule));
        }
    }

    #[test]
    fn a_child_not_yet_born_is_refused() {
        let hetu = Hetu::compose(tietopohja_domain::Date::constant(2030, 1, 1), 901, None);
        let code = hetu
            .map(|h| String::from_utf8_lossy(h.canonical()).into_owned())
            .unwrap_or_default();
        check(&code, IdentityCodes::ArtificialOnly, Err("hetu_date"));
    }

    #[test]
    fn artificial_codes_are_refused_where_only_real_ones_are_received() {
        check(
            "010190-900P",
            IdentityCodes::RealOnly,
            Err("hetu_artificial"),
        );
    }
}
