//! Checks between the columns of a row, as the contract writes them:
//! `ended_on >= started_on`, `amount = quantity * unit_price within 0.01`.
//!
//! Both sides are sums of columns, numbers and products of two columns. All is
//! computed exactly, in whole units of the smallest decimal. A row where a
//! column of the check is empty or was refused passes: absence is the
//! business of `required`, and one fault is told once.

use crate::checks::decimal::power_of_ten;
use crate::contract::{Property, PropertyType};

/// A parsed check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Equation {
    /// Left side minus right side.
    terms: Vec<Term>,
    comparison: Comparison,
    /// For `=` and `!=`: the largest difference that counts as equal.
    tolerance: i128,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    /// Sign and change of scale in one.
    factor: i128,
    columns: Columns,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Columns {
    None,
    One(usize),
    Two(usize, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
}

impl Equation {
    /// Reads a check over the given columns. The error says what is wrong and
    /// names the unknown column, if that is the fault.
    pub(crate) fn parse(text: &str, properties: &[Property]) -> Result<Equation, EquationFault> {
        let mut words = words(text)?.into_iter().peekable();
        let mut sides = [Vec::new(), Vec::new()];
        let [left, right] = &mut sides;
        side(&mut words, properties, left)?;
        let comparison = match words.next() {
            Some(Word::Sign("<")) => Comparison::Less,
            Some(Word::Sign("<=")) => Comparison::LessOrEqual,
            Some(Word::Sign("=")) => Comparison::Equal,
            Some(Word::Sign("!=")) => Comparison::NotEqual,
            Some(Word::Sign(">=")) => Comparison::GreaterOrEqual,
            Some(Word::Sign(">")) => Comparison::Greater,
            _ => {
                return Err(EquationFault::Text(
                    "expected a comparison: <, <=, =, !=, >= or >".to_owned(),
                ));
            }
        };
        side(&mut words, properties, right)?;
        let tolerance = match words.next() {
            None => None,
            Some(Word::Name("within")) => match (words.next(), words.next()) {
                (Some(Word::Number(digits, scale)), None) => Some((digits, scale)),
                _ => {
                    return Err(EquationFault::Text(
                        "expected a number after `within`, and nothing else".to_owned(),
                    ));
                }
            },
            Some(_) => {
                return Err(EquationFault::Text(
                    "expected the end, or `within` and a number".to_owned(),
                ));
            }
        };
        if tolerance.is_some() && !matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
            return Err(EquationFault::Text(
                "`within` goes only with = and !=".to_owned(),
            ));
        }
        let [left, right] = sides;
        check_kinds(
            left.iter().chain(&right).collect(),
            left.len() == 1 && right.len() == 1,
        )?;
        let scale = left
            .iter()
            .chain(&right)
            .map(|part| part.scale)
            .chain(tolerance.map(|(_, scale)| scale))
            .max()
            .unwrap_or(0);
        if scale > MOST_DECIMALS {
            return Err(too_large());
        }
        let mut terms = Vec::new();
        for (parts, sign) in [(left, 1), (right, -1)] {
            for part in parts {
                let factor = power_of_ten(scale - part.scale).checked_mul(part.factor * sign);
                terms.push(Term {
                    factor: factor.ok_or_else(too_large)?,
                    columns: part.columns,
                });
            }
        }
        let tolerance = match tolerance {
            Some((digits, own)) => power_of_ten(scale - own)
                .checked_mul(digits)
                .ok_or_else(too_large)?,
            None => 0,
        };
        Ok(Equation {
            terms,
            comparison,
            tolerance,
        })
    }

    /// The columns that the check reads.
    pub(crate) fn columns(&self) -> impl Iterator<Item = usize> + '_ {
        self.terms
            .iter()
            .flat_map(|term| match term.columns {
                Columns::None => [None, None],
                Columns::One(a) => [Some(a), None],
                Columns::Two(a, b) => [Some(a), Some(b)],
            })
            .flatten()
    }

    /// Whether the check holds; `value` gives a column's value in units of its
    /// last decimal, or `None` when it has none. A difference too large for
    /// 128 bits does not hold.
    #[inline]
    pub(crate) fn holds(&self, value: impl Fn(usize) -> Option<i128>) -> bool {
        let mut difference: i128 = 0;
        for term in &self.terms {
            let product = match term.columns {
                Columns::None => Some(1),
                Columns::One(a) => match value(a) {
                    Some(a) => Some(a),
                    None => return true,
                },
                Columns::Two(a, b) => match (value(a), value(b)) {
                    (Some(a), Some(b)) => a.checked_mul(b),
                    _ => return true,
                },
            };
            let sum = product
                .and_then(|p| p.checked_mul(term.factor))
                .and_then(|t| difference.checked_add(t));
            match sum {
                Some(sum) => difference = sum,
                None => return false,
            }
        }
        match self.comparison {
            Comparison::Less => difference < 0,
            Comparison::LessOrEqual => difference <= 0,
            Comparison::Equal => difference.unsigned_abs() <= self.tolerance.unsigned_abs(),
            Comparison::NotEqual => difference.unsigned_abs() > self.tolerance.unsigned_abs(),
            Comparison::GreaterOrEqual => difference >= 0,
            Comparison::Greater => difference > 0,
        }
    }
}

/// 10 to this power is the largest that 128 bits hold.
const MOST_DECIMALS: u8 = 38;

/// Why a check could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EquationFault {
    UnknownColumn(String),
    Text(String),
}

fn too_large() -> EquationFault {
    EquationFault::Text("a number in the check is too large".to_owned())
}

#[derive(Debug)]
struct Part {
    factor: i128,
    columns: Columns,
    scale: u8,
    date: bool,
}

fn check_kinds(parts: Vec<&Part>, simple: bool) -> Result<(), EquationFault> {
    let dates = parts.iter().filter(|part| part.date).count();
    if dates == 0 || (dates == parts.len() && simple) {
        Ok(())
    } else {
        Err(EquationFault::Text(
            "a date is compared only with another date".to_owned(),
        ))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word<'a> {
    Name(&'a str),
    Number(i128, u8),
    Sign(&'a str),
}

type Words<'a> = std::iter::Peekable<std::vec::IntoIter<Word<'a>>>;

fn side(
    words: &mut Words<'_>,
    properties: &[Property],
    parts: &mut Vec<Part>,
) -> Result<(), EquationFault> {
    let mut sign = 1;
    if words.next_if_eq(&Word::Sign("-")).is_some() {
        sign = -1;
    }
    loop {
        let mut part = operand(words, properties)?;
        if words.next_if_eq(&Word::Sign("*")).is_some() {
            part = product(part, operand(words, properties)?)?;
        }
        part.factor *= sign;
        parts.push(part);
        sign = match words.peek() {
            Some(Word::Sign("+")) => 1,
            Some(Word::Sign("-")) => -1,
            _ => return Ok(()),
        };
        words.next();
    }
}

fn product(a: Part, b: Part) -> Result<Part, EquationFault> {
    if a.date || b.date {
        return Err(EquationFault::Text(
            "a date cannot be multiplied".to_owned(),
        ));
    }
    let columns = match (a.columns, b.columns) {
        (Columns::None, one) | (one, Columns::None) => one,
        (Columns::One(a), Columns::One(b)) => Columns::Two(a, b),
        _ => {
            return Err(EquationFault::Text(
                "a product has at most two columns".to_owned(),
            ));
        }
    };
    let factor = a.factor.checked_mul(b.factor).ok_or_else(too_large)?;
    Ok(Part {
        factor,
        columns,
        scale: a.scale.saturating_add(b.scale),
        date: false,
    })
}

fn operand(words: &mut Words<'_>, properties: &[Property]) -> Result<Part, EquationFault> {
    match words.next() {
        Some(Word::Number(digits, scale)) => Ok(Part {
            factor: digits,
            columns: Columns::None,
            scale,
            date: false,
        }),
        Some(Word::Name(name)) => {
            let Some((at, property)) = properties
                .iter()
                .enumerate()
                .find(|(_, p)| p.name.as_ref() == name)
            else {
                return Err(EquationFault::UnknownColumn(name.to_owned()));
            };
            let (scale, date) = match property.kind {
                PropertyType::Date(_) | PropertyType::Month(_) => (0, true),
                PropertyType::Integer { .. } => (0, false),
                PropertyType::Decimal { scale, .. } => (scale, false),
                PropertyType::Text { .. }
                | PropertyType::Boolean
                | PropertyType::Hetu { .. }
                | PropertyType::BusinessId
                | PropertyType::Code { .. } => {
                    return Err(EquationFault::Text(format!(
                        "`{name}` is neither a number nor a date"
                    )));
                }
            };
            Ok(Part {
                factor: 1,
                columns: Columns::One(at),
                scale,
                date,
            })
        }
        _ => Err(EquationFault::Text(
            "expected a column or a number".to_owned(),
        )),
    }
}

fn words(text: &str) -> Result<Vec<Word<'_>>, EquationFault> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first.is_ascii_alphabetic() {
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len())
        } else if first.is_ascii_digit() {
            rest.find(|c: char| !c.is_ascii_digit() && c != '.')
                .unwrap_or(rest.len())
        } else {
            ["<=", ">=", "!="]
                .iter()
                .find(|sign| rest.starts_with(**sign))
                .map_or(first.len_utf8(), |sign| sign.len())
        };
        let (word, tail) = rest.split_at(length);
        words.push(if first.is_ascii_alphabetic() {
            Word::Name(word)
        } else if first.is_ascii_digit() {
            number(word)?
        } else if matches!(word, "<" | "<=" | "=" | "!=" | ">=" | ">" | "+" | "-" | "*") {
            Word::Sign(word)
        } else {
            return Err(EquationFault::Text(format!(
                "`{word}` is not part of a check"
            )));
        });
        rest = tail.trim_start();
    }
    Ok(words)
}

fn number(word: &str) -> Result<Word<'_>, EquationFault> {
    let (whole, decimals) = word.split_once('.').unwrap_or((word, ""));
    let digits = format!("{whole}{decimals}")
        .parse()
        .map_err(|_| EquationFault::Text(format!("`{word}` is not a number")))?;
    Ok(Word::Number(
        digits,
        u8::try_from(decimals.len()).map_err(|_| too_large())?,
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing;

    // quantity and unit_price have 2 decimals, days is whole, from and to are dates.
    fn properties() -> Vec<Property> {
        testing::properties(&[
            ("quantity", "decimal(12,2)"),
            ("unit_price", "decimal(12,2)"),
            ("amount", "decimal(14,3)"),
            ("days", "int"),
            ("from", "date"),
            ("to", "date"),
            ("note", "text"),
        ])
    }

    fn check(equation: &str, values: &[(usize, i128)], expected: bool) {
        let parsed = Equation::parse(equation, &properties()).unwrap();
        let value = |column| values.iter().find(|(c, _)| *c == column).map(|(_, v)| *v);
        assert_eq!(parsed.holds(value), expected, "{equation} {values:?}");
    }

    #[test]
    fn dates_are_compared() {
        check("to >= from", &[(4, 10), (5, 10)], true);
        check("to >= from", &[(4, 10), (5, 9)], false);
        check("to > from", &[(4, 10), (5, 10)], false);
        check("to >= from", &[(4, 10)], true);
    }

    #[test]
    fn products_are_compared_exactly_within_the_tolerance() {
        let equation = "amount = quantity * unit_price within 0.01";
        // 3.00 * 33.33 = 99.99
        check(equation, &[(0, 300), (1, 3333), (2, 99_990)], true);
        check(equation, &[(0, 300), (1, 3333), (2, 100_000)], true);
        check(equation, &[(0, 300), (1, 3333), (2, 100_001)], false);
        check(equation, &[(0, -300), (1, 3333), (2, -99_980)], true);
        check(equation, &[(0, i128::MAX), (1, 3333), (2, 1)], false);
    }

    #[test]
    fn sums_and_constants_are_compared() {
        check(
            "amount = quantity + unit_price - 1.5",
            &[(0, 100), (1, 250), (2, 2_000)],
            true,
        );
        check("days * 24 <= quantity", &[(3, 2), (0, 4_800)], true);
        check("days * 24 < quantity", &[(3, 2), (0, 4_800)], false);
        check("days != 0", &[(3, 0)], false);
        check("-1 < days", &[(3, 0)], true);
    }

    fn check_fault(equation: &str, expected: &str) {
        let found = match Equation::parse(equation, &properties()).unwrap_err() {
            EquationFault::UnknownColumn(name) => format!("unknown {name}"),
            EquationFault::Text(text) => text,
        };
        assert_eq!(found, expected, "{equation}");
    }

    #[test]
    fn a_check_that_makes_no_sense_is_refused() {
        check_fault("to >= form", "unknown form");
        check_fault("to >= 5", "a date is compared only with another date");
        check_fault(
            "to + from > to",
            "a date is compared only with another date",
        );
        check_fault("to * 2 > to", "a date cannot be multiplied");
        check_fault("note = 1", "`note` is neither a number nor a date");
        check_fault("days", "expected a comparison: <, <=, =, !=, >= or >");
        check_fault("days = ", "expected a column or a number");
        check_fault("days = 1 2", "expected the end, or `within` and a number");
        check_fault("days >= 1 within 2", "`within` goes only with = and !=");
        check_fault("days ~ 1", "`~` is not part of a check");
        check_fault("days = 1.2.3", "`1.2.3` is not a number");
        check_fault(
            "amount = quantity * unit_price * days",
            "expected the end, or `within` and a number",
        );
        check_fault(
            "days = 99999999999999999999999999999999999999999999",
            "`99999999999999999999999999999999999999999999` is not a number",
        );
    }
}
