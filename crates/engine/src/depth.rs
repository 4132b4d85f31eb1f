//! How deep the statement of a client may be.
//!
//! Text, plan and operators are trees, and most code that walks them calls itself for each level: a
//! long enough chain (`a + b + c …`, a join of joins, a union of unions) would end the process, not
//! the query. The parser limits nesting by brackets; chains are not nested in the text and pass it.
//! So they are counted here before anything is parsed. The limits leave room for what tools write:
//! a list of any length is a list, not a chain (`IN (1, 2, …)`, `VALUES`, `CASE WHEN`).

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::{EngineError, Result};

/// Most words and signs of one expression, between two commas or clauses.
const LONGEST_CHAIN: usize = 1500;

/// Most `SELECT`s and joined tables of one statement.
const MOST_PARTS: usize = 150;

/// Refuses a statement that is too deep to be worked on safely.
///
/// # Errors
/// [`EngineError::UserSql`] that says which limit, and what to write instead. Text that has no
/// tokens is left to the parser, which says what is wrong with it.
pub(crate) fn refuse_deep(sql: &str) -> Result<()> {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else {
        return Ok(());
    };
    let mut parts = 0_usize;
    // One count for each open bracket, the innermost last.
    let mut chains = vec![0_usize];
    for token in tokens {
        match token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::LBracket | Token::LBrace => {
                grow(&mut chains)?;
                chains.push(0);
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                if chains.len() > 1 {
                    chains.pop();
                }
            }
            Token::Comma | Token::SemiColon => reset(&mut chains),
            Token::Word(word) => match word.keyword {
                Keyword::SELECT | Keyword::JOIN => {
                    parts += 1;
                    reset(&mut chains);
                }
                Keyword::FROM
                | Keyword::WHERE
                | Keyword::GROUP
                | Keyword::HAVING
                | Keyword::ORDER
                | Keyword::ON
                | Keyword::WHEN
                | Keyword::THEN
                | Keyword::ELSE => reset(&mut chains),
                _ => grow(&mut chains)?,
            },
            _ => grow(&mut chains)?,
        }
    }
    if parts > MOST_PARTS {
        return Err(EngineError::UserSql {
            message: format!(
                "the statement has {parts} SELECTs and joins, and at most {MOST_PARTS} are worked \
                 on; split it, or put values in a list such as `VALUES (1), (2)`"
            ),
        });
    }
    Ok(())
}

fn grow(chains: &mut [usize]) -> Result<()> {
    let Some(chain) = chains.last_mut() else {
        return Ok(());
    };
    *chain += 1;
    if *chain > LONGEST_CHAIN {
        return Err(EngineError::UserSql {
            message: format!(
                "an expression has more than {LONGEST_CHAIN} words and signs in a row; write a list \
                 such as `IN (1, 2, 3)` in place of `OR`, or split the expression"
            ),
        });
    }
    Ok(())
}

fn reset(chains: &mut [usize]) {
    if let Some(chain) = chains.last_mut() {
        *chain = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, says: Option<&str>) {
        let label: String = sql.chars().take(60).collect();
        match (refuse_deep(sql), says) {
            (Ok(()), None) => {}
            (Err(error), Some(says)) => {
                assert!(error.to_string().contains(says), "{label}: {error}");
            }
            (found, wanted) => assert_eq!(format!("{found:?}"), format!("{wanted:?}"), "{label}"),
        }
    }

    #[test]
    fn lists_of_any_length_are_not_deep() {
        let list = |piece: &str, between: &str| vec![piece; 50_000].join(between);
        check("SELECT 1", None);
        check("", None);
        check("not sql at all '", None);
        check(
            &format!("SELECT * FROM t WHERE n IN ({})", list("1", ", ")),
            None,
        );
        check(&format!("VALUES {}", list("(1, 'a')", ", ")), None);
        check(
            &format!("SELECT {} FROM t", list("a + b * 2 AS c", ", ")),
            None,
        );
        check(
            &format!("SELECT CASE {} END", list("WHEN a = 1 THEN b", " ")),
            None,
        );
        check(&format!("SELECT '{}'", list("x + y", " OR ")), None);
        check(&format!("SELECT 1 -- {}", list("x", " ")), None);
    }

    #[test]
    fn chains_are_refused_before_they_are_parsed() {
        let chain = |piece: &str, between: &str| vec![piece; 50_000].join(between);
        for sql in [
            format!("SELECT {}", chain("1", " + ")),
            format!("SELECT * FROM t WHERE {}", chain("n = 1", " OR ")),
            format!("SELECT n{}", chain("::bigint", "")),
            format!("SELECT n{}", chain(" IS NULL", "")),
            format!("SELECT {} 1", chain("-", " ")),
            format!("SELECT {} TRUE", chain("NOT", " ")),
            format!("SELECT a{}", chain("[1]", "")),
            format!("SELECT (({}))", chain("'a'", " || ")),
        ] {
            check(&sql, Some("in a row"));
        }
        for sql in [
            chain("SELECT 1", " UNION ALL "),
            format!("SELECT 1 FROM t {}", chain("CROSS JOIN u", " ")),
        ] {
            check(&sql, Some("SELECTs and joins"));
        }
    }

    #[test]
    fn what_tools_write_passes() {
        let filter: Vec<_> = (0..300).map(|n| format!("area = '{n}'")).collect();
        check(
            &format!("SELECT * FROM t WHERE ({})", filter.join(" OR ")),
            None,
        );
        let joins: Vec<_> = (0..60)
            .map(|n| format!("LEFT JOIN t{n} ON t{n}.a = t.a"))
            .collect();
        check(&format!("SELECT t.a FROM t {}", joins.join(" ")), None);
    }
}
