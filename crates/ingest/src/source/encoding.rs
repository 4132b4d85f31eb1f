//! Which encoding a text is in, and its UTF-8.
//!
//! Finnish extracts are UTF-8 or one of three single-byte encodings that agree on the letters of
//! Finnish and Swedish. A file states its encoding by its first letters outside ASCII; one that
//! changes it later was put together from two and is refused. To add an encoding: a variant, its
//! names and its `encoding_rs` decoder.

use crate::error::{FaultAt, SourceFault};

/// An encoding that contracts can agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextEncoding {
    Utf8,
    Latin1,
    Latin9,
    Windows1252,
}

impl TextEncoding {
    pub(crate) fn name(self) -> &'static str {
        match self {
            TextEncoding::Utf8 => "UTF-8",
            TextEncoding::Latin1 => "ISO-8859-1",
            TextEncoding::Latin9 => "ISO-8859-15",
            TextEncoding::Windows1252 => "Windows-1252",
        }
    }

    fn decoder(self) -> &'static encoding_rs::Encoding {
        match self {
            TextEncoding::Utf8 => encoding_rs::UTF_8,
            // What calls itself ISO-8859-1 is read as Windows-1252, as the web does: the two
            // differ only where ISO-8859-1 has control characters.
            TextEncoding::Latin1 | TextEncoding::Windows1252 => encoding_rs::WINDOWS_1252,
            TextEncoding::Latin9 => encoding_rs::ISO_8859_15,
        }
    }
}

/// What a contract agrees and what the file has shown so far.
#[derive(Debug, Clone)]
pub(crate) struct EncodingChoice {
    agreed: Vec<TextEncoding>,
    settled: Option<TextEncoding>,
}

impl EncodingChoice {
    pub(crate) fn new(agreed: Vec<TextEncoding>) -> Self {
        Self {
            agreed,
            settled: None,
        }
    }

    /// A UTF-8 byte order mark was at the start.
    pub(crate) fn byte_order_mark(&mut self) -> Result<(), FaultAt> {
        self.settle(TextEncoding::Utf8, true)
    }

    /// The encoding of the next run of whole records, `None` while everything was ASCII. `row_at`
    /// tells the row of a place in the run.
    pub(crate) fn next(
        &mut self,
        bytes: &[u8],
        row_at: &dyn Fn(usize) -> i64,
    ) -> Result<Option<TextEncoding>, FaultAt> {
        if self.settled.is_none()
            && !bytes.is_ascii()
            && let Some(first) = bytes.iter().position(|byte| !byte.is_ascii())
        {
            let found = first_letters(bytes, first, row_at)?;
            self.settle(found, false).map_err(|at| FaultAt {
                row: Some(row_at(first)),
                ..at
            })?;
        }
        Ok(self.settled)
    }

    fn settle(&mut self, found: TextEncoding, marked: bool) -> Result<(), FaultAt> {
        let settled = match found {
            TextEncoding::Utf8 => self
                .agreed
                .contains(&TextEncoding::Utf8)
                .then_some(TextEncoding::Utf8),
            // The bytes cannot tell the single-byte encodings apart: the first one agreed it is.
            _ => self
                .agreed
                .iter()
                .copied()
                .find(|encoding| *encoding != TextEncoding::Utf8),
        };
        let Some(settled) = settled else {
            let found = match (found, marked) {
                (TextEncoding::Utf8, true) => "UTF-8 with a byte order mark",
                (TextEncoding::Utf8, false) => "UTF-8",
                _ => "not UTF-8 (ISO-8859-1 or the like)",
            };
            let agreed = self
                .agreed
                .iter()
                .map(|encoding| encoding.name())
                .collect::<Vec<_>>()
                .join(" or ");
            return Err(SourceFault::EncodingNotAgreed { found, agreed }.into());
        };
        self.settled = Some(settled);
        Ok(())
    }
}

/// UTF-8 or not, by every run of bytes outside ASCII. Runs of both kinds are an error at the first
/// row of the later kind.
fn first_letters(
    bytes: &[u8],
    first: usize,
    row_at: &dyn Fn(usize) -> i64,
) -> Result<TextEncoding, FaultAt> {
    let mut seen: Option<TextEncoding> = None;
    let mut place = first;
    while let Some(rest) = bytes.get(place..) {
        let Some(skip) = rest.iter().position(|byte| !byte.is_ascii()) else {
            break;
        };
        let start = place + skip;
        let tail = bytes.get(start..).unwrap_or_default();
        let length = tail.iter().position(u8::is_ascii).unwrap_or(tail.len());
        let run = tail.get(..length).unwrap_or_default();
        let kind = if std::str::from_utf8(run).is_ok() {
            TextEncoding::Utf8
        } else {
            TextEncoding::Latin1
        };
        match seen {
            Some(before) if before != kind => {
                return Err(FaultAt::row(row_at(start), mixed(before, kind)));
            }
            _ => seen = Some(kind),
        }
        place = start + length;
    }
    Ok(seen.unwrap_or(TextEncoding::Utf8))
}

fn mixed(before: TextEncoding, here: TextEncoding) -> SourceFault {
    let name = |encoding| match encoding {
        TextEncoding::Utf8 => "UTF-8",
        _ => "ISO-8859-1 or the like",
    };
    SourceFault::MixedEncodings {
        before: name(before),
        here: name(here),
    }
}

/// The bytes as UTF-8, in place when they are that already.
///
/// Refuses NUL bytes, a byte order mark inside the text, and bytes of another encoding, each with
/// its row. `offset` is the place of the first byte in the unpacked file.
pub(crate) fn to_utf8(
    bytes: Vec<u8>,
    encoding: Option<TextEncoding>,
    offset: u64,
    row_at: &dyn Fn(&[u8], usize) -> i64,
) -> Result<Vec<u8>, FaultAt> {
    if let Some(place) = memchr::memchr(0, &bytes) {
        return Err(FaultAt::row(row_at(&bytes, place), SourceFault::NulByte));
    }
    match encoding {
        None => Ok(bytes),
        Some(TextEncoding::Utf8) => match std::str::from_utf8(&bytes) {
            Ok(text) => match find_byte_order_mark(text) {
                None => Ok(bytes),
                Some(place) => Err(FaultAt::row(
                    row_at(&bytes, place),
                    SourceFault::ByteOrderMarkInside,
                )),
            },
            Err(error) => {
                let place = error.valid_up_to();
                let fault = SourceFault::InvalidUtf8 {
                    byte: offset + place as u64,
                };
                Err(FaultAt::row(row_at(&bytes, place), fault))
            }
        },
        Some(single) => {
            if let Some(place) = memchr::memmem::find(&bytes, b"\xef\xbb\xbf") {
                return Err(FaultAt::row(
                    row_at(&bytes, place),
                    SourceFault::ByteOrderMarkInside,
                ));
            }
            if let Some(place) = utf8_letter(&bytes) {
                return Err(FaultAt::row(
                    row_at(&bytes, place),
                    mixed(single, TextEncoding::Utf8),
                ));
            }
            let (text, _, _) = single.decoder().decode(&bytes);
            Ok(match text {
                std::borrow::Cow::Borrowed(_) => bytes,
                std::borrow::Cow::Owned(text) => text.into_bytes(),
            })
        }
    }
}

fn find_byte_order_mark(text: &str) -> Option<usize> {
    // Most blocks of Finnish text have no byte of 0xEF at all, and memchr says so quickly.
    memchr::memchr(0xef, text.as_bytes())?;
    text.find('\u{feff}')
}

/// The first `ä`, `ö`, `å`, `é` or the like written in UTF-8 inside single-byte text. In those
/// encodings the same bytes are `Ã` and a sign, which no Finnish or Swedish text has.
fn utf8_letter(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(0xc3, bytes).find(|place| matches!(bytes.get(place + 1), Some(0x80..=0xbf)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use TextEncoding::{Latin1, Latin9, Utf8, Windows1252};

    fn rows(bytes: &[u8], place: usize) -> i64 {
        2 + bytes[..place].iter().filter(|b| **b == b'\n').count() as i64
    }

    fn read(agreed: &[TextEncoding], blocks: &[&[u8]]) -> Result<String, FaultAt> {
        let mut choice = EncodingChoice::new(agreed.to_vec());
        let mut text = String::new();
        for block in blocks {
            let encoding = choice.next(block, &|place| rows(block, place))?;
            let utf8 = to_utf8(block.to_vec(), encoding, 0, &rows)?;
            text.push_str(std::str::from_utf8(&utf8).unwrap());
        }
        Ok(text)
    }

    #[test]
    fn finnish_letters_are_read_in_every_agreed_encoding() {
        let any = [Utf8, Latin1];
        assert_eq!(
            read(&any, &["Äänekoski\n".as_bytes()]).unwrap(),
            "Äänekoski\n"
        );
        assert_eq!(
            read(&any, &[b"plain\n", b"\xc4\xe4nekoski\n"]).unwrap(),
            "plain\nÄänekoski\n"
        );
        assert_eq!(read(&[Latin9], &[b"\xa4 5 \xd6\n"]).unwrap(), "€ 5 Ö\n");
        assert_eq!(
            read(&[Windows1252], &[b"\x80 5 \xd6\n"]).unwrap(),
            "€ 5 Ö\n"
        );
        assert_eq!(read(&[Latin1], &[b"ascii\n"]).unwrap(), "ascii\n");
    }

    #[test]
    fn an_encoding_that_is_not_agreed_is_named_with_its_row() {
        let at = read(&[Utf8], &[b"a\n\xc4\n"]).unwrap_err();
        assert!(
            matches!(
                at,
                FaultAt {
                    row: Some(3),
                    fault: SourceFault::EncodingNotAgreed { .. }
                }
            ),
            "{at:?}"
        );
        let at = read(&[Latin1], &["a\nÄ\n".as_bytes()]).unwrap_err();
        assert!(
            matches!(
                at,
                FaultAt {
                    row: Some(3),
                    fault: SourceFault::EncodingNotAgreed { found: "UTF-8", .. }
                }
            ),
            "{at:?}"
        );
    }

    #[test]
    fn a_change_of_encoding_is_found_in_one_block_and_between_blocks() {
        let any = [Utf8, Latin1];
        let one = [b"\xc3\xa4\n".as_slice(), b"\xe4\n"].concat();
        assert!(matches!(
            read(&any, &[&one]),
            Err(FaultAt {
                row: Some(3),
                fault: SourceFault::MixedEncodings { .. }
            })
        ));
        let at = read(&any, &[b"\xc3\xa4\n", b"b\nx\xe4\n"]).unwrap_err();
        assert_eq!(at, FaultAt::row(3, SourceFault::InvalidUtf8 { byte: 3 }));
        let at = read(&any, &[b"\xe4\n", b"b\nx\xc3\xa4\n"]).unwrap_err();
        assert!(matches!(
            at,
            FaultAt {
                row: Some(3),
                fault: SourceFault::MixedEncodings { .. }
            }
        ));
    }

    #[test]
    fn nul_and_inner_byte_order_marks_are_refused_with_their_row() {
        for (agreed, block, fault) in [
            (Utf8, b"a\nb\0\n".as_slice(), SourceFault::NulByte),
            (Latin1, b"a\nb\0\n", SourceFault::NulByte),
            (
                Utf8,
                b"a\n\xef\xbb\xbfb\n",
                SourceFault::ByteOrderMarkInside,
            ),
        ] {
            assert_eq!(read(&[agreed], &[block]), Err(FaultAt::row(3, fault)));
        }
    }
}
