//! Name patterns of metadata requests: SQL `LIKE` with `\` as escape.
//!
//! `%` stands for any text, `_` for one character, `\` makes the next character plain. Matching is
//! case-sensitive, as the catalog is. Nothing else about names lives here.

/// Does the whole name fit the pattern?
pub(crate) fn matches(name: &str, pattern: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let pattern = parse(pattern);
    // Greedy with one point of return: the last `%` takes one more character when the rest fails.
    let (mut at, mut step) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while at < name.len() {
        let fits = match (pattern.get(step), name.get(at)) {
            (Some(Piece::Any), _) => {
                retry = Some((step, at));
                step += 1;
                continue;
            }
            (Some(Piece::One), Some(_)) => true,
            (Some(Piece::Plain(wanted)), Some(found)) => wanted == found,
            _ => false,
        };
        match (fits, retry) {
            (true, _) => {
                at += 1;
                step += 1;
            }
            (false, Some((percent, from))) => {
                retry = Some((percent, from + 1));
                at = from + 1;
                step = percent + 1;
            }
            (false, None) => return false,
        }
    }
    pattern.iter().skip(step).all(|piece| *piece == Piece::Any)
}

/// Is the pattern, read as a plain name, or without its escapes, exactly this name? Some clients
/// send a name where a pattern is asked, and do not escape its underscores.
pub(crate) fn is_exactly(name: &str, pattern: &str) -> bool {
    if name == pattern {
        return true;
    }
    let mut letters = name.chars();
    for piece in parse(pattern) {
        match piece {
            Piece::Plain(wanted) if letters.next() == Some(wanted) => {}
            Piece::Plain(_) | Piece::Any | Piece::One => return false,
        }
    }
    letters.next().is_none()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Plain(char),
    One,
    Any,
}

fn parse(pattern: &str) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(pattern.len());
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        pieces.push(match letter {
            '%' => Piece::Any,
            '_' => Piece::One,
            // A lone escape at the end stands for itself.
            '\\' => Piece::Plain(letters.next().unwrap_or('\\')),
            plain => Piece::Plain(plain),
        });
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_names() {
        let cases = [
            ("indicator_value", "indicator_value", true),
            ("indicatorXvalue", "indicator_value", true),
            ("indicatorXvalue", "indicator\\_value", false),
            ("indicator_value", "indicator\\_value", true),
            ("indicator_value", "%", true),
            ("", "%", true),
            ("", "", true),
            ("a", "", false),
            ("indicator_value", "ind%val%", true),
            ("indicator_value", "%value", true),
            ("indicator_value", "%valu", false),
            ("indicator_value", "Indicator%", false),
            ("50%", "50\\%", true),
            ("500", "50\\%", false),
            ("a\\b", "a\\\\b", true),
            ("a\\", "a\\", true),
            ("aab", "a%b", true),
            ("abab", "%ab", true),
            ("ababc", "%ab", false),
            ("väestö", "v_est_", true),
            (
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                "%a%a%a%a%a%a%a%b",
                false,
            ),
        ];
        for (name, pattern, wanted) in cases {
            assert_eq!(matches(name, pattern), wanted, "`{name}` like `{pattern}`");
        }
    }

    #[test]
    fn a_name_sent_unescaped_is_still_exact() {
        assert!(is_exactly("a_b", "a_b"));
        assert!(is_exactly("a_b", "a\\_b"));
        assert!(!is_exactly("aXb", "a_b"));
        assert!(!is_exactly("ab", "a%b"));
        assert!(!is_exactly("abc", "ab"));
        assert!(!is_exactly("ab", "abc"));
    }
}
