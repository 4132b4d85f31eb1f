//! Rust source text with everything blanked that is not shipped code.
//!
//! Enough of a lexer for text rules: comments, strings and test modules turn
//! into spaces, line numbers stay. Not a parser; macros are text to it.

/// The source with comments and the contents of strings replaced by spaces.
pub(super) fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_comment_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if !continues_word(bytes, at) && raw_hashes(bytes, at).is_some() => {
                raw_string_end(bytes, at)
            }
            b'\'' => char_end(bytes, at),
            _ => at,
        };
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            for byte in &bytes[at..end] {
                out.push(if *byte == b'\n' { b'\n' } else { b' ' });
            }
            at = end;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The code of [`code_only`] with items under `#[cfg(test)]` blanked as well.
pub(super) fn shipped_code(source: &str) -> String {
    let code = code_only(source);
    let mut out = code.clone().into_bytes();
    let mut from = 0;
    while let Some(found) = code[from..].find("#[cfg(test)]") {
        let start = from + found;
        let end = item_end(code.as_bytes(), start);
        for byte in &mut out[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        from = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// End of the item that an attribute at `start` belongs to: its closing brace,
/// or the semicolon of an item without a body.
fn item_end(code: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    // Attributes hold brackets of their own; braces and semicolons only count
    // outside of them.
    let mut brackets = 0_usize;
    while at < code.len() {
        match code[at] {
            b'[' | b'(' => brackets += 1,
            b']' | b')' => brackets = brackets.saturating_sub(1),
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            b';' if depth == 0 && brackets == 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    code.len()
}

fn continues_word(bytes: &[u8], at: usize) -> bool {
    // `br"..."` is a string too, so the `b` does not count as a word.
    at > 0 && {
        let before = bytes[at - 1];
        let is_prefix = before == b'b' && (at < 2 || !is_word(bytes[at - 2]));
        is_word(before) && !is_prefix
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn line_comment_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..]
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(bytes.len(), |length| at + length)
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut here = at;
    while here < bytes.len() {
        match (bytes[here], bytes.get(here + 1)) {
            (b'/', Some(b'*')) => {
                depth += 1;
                here += 2;
            }
            (b'*', Some(b'/')) => {
                depth -= 1;
                here += 2;
                if depth == 0 {
                    return here;
                }
            }
            _ => here += 1,
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut here = at + 1;
    while here < bytes.len() {
        match bytes[here] {
            b'\\' => here += 2,
            b'"' => return here + 1,
            _ => here += 1,
        }
    }
    bytes.len()
}

fn raw_hashes(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    (bytes.get(at + 1 + hashes) == Some(&b'"')).then_some(hashes)
}

fn raw_string_end(bytes: &[u8], at: usize) -> usize {
    let Some(hashes) = raw_hashes(bytes, at) else {
        return at;
    };
    let mut here = at + 2 + hashes;
    while here < bytes.len() {
        let closes = bytes[here] == b'"'
            && bytes.len() >= here + 1 + hashes
            && bytes[here + 1..here + 1 + hashes]
                .iter()
                .all(|byte| *byte == b'#');
        if closes {
            return here + 1 + hashes;
        }
        here += 1;
    }
    bytes.len()
}

/// End of a character literal, or `at` when the quote starts a lifetime.
fn char_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at + 1) {
        Some(b'\\') => {
            let mut here = at + 3;
            while here < bytes.len() && bytes[here] != b'\'' {
                here += 1;
            }
            (here + 1).min(bytes.len())
        }
        Some(_) => {
            // One character of up to four bytes, then the closing quote.
            let text = &bytes[at + 1..bytes.len().min(at + 6)];
            let length = std::str::from_utf8(text)
                .or_else(|error| std::str::from_utf8(&text[..error.valid_up_to()]))
                .ok()
                .and_then(|text| text.chars().next())
                .map_or(1, char::len_utf8);
            if bytes.get(at + 1 + length) == Some(&b'\'') {
                at + 2 + length
            } else {
                at
            }
        }
        None => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &str) {
        assert_eq!(code_only(source), expected);
    }

    #[test]
    fn comments_are_blanked_and_lines_kept() {
        check("a // b\nc", "a     \nc");
        check("a /* b /* c */\n */ d", "a             \n    d");
        check("//! `now()`\nuse x;", "           \nuse x;");
    }

    #[test]
    fn strings_are_blanked() {
        check(r#"f("a\"b", c)"#, "f(      , c)");
        check("f(r#\"a \" b\"#)", "f(          )");
        check("f(br\"x\")", "f(b    )");
        check("for x in r", "for x in r");
    }

    #[test]
    fn character_literals_are_blanked_and_lifetimes_stay() {
        check("let q = '\"'; let s = \"x\";", "let q =    ; let s =    ;");
        check("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}");
        check(r"m('\'', '\u{e4}', 'ä')", "m(    ,         ,     )");
    }

    #[test]
    fn test_modules_are_not_shipped() {
        let source = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { c(); }\n}\nfn d() {}\n";
        let shipped = shipped_code(source);
        assert!(shipped.contains("fn a()"));
        assert!(shipped.contains("fn d()"));
        assert!(!shipped.contains("fn b()"));
        assert_eq!(shipped.lines().count(), source.lines().count());
    }

    #[test]
    fn a_test_import_ends_at_its_semicolon() {
        let source = "#[cfg(test)]\n#[allow(dead_code)]\nuse a::b;\nfn c() {}\n";
        let shipped = shipped_code(source);
        assert!(!shipped.contains("a::b"));
        assert!(shipped.contains("fn c()"));
    }
}
