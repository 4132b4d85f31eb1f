//! Codes: member of the code list, valid on the row's date. A numeric code
//! that lost its zeros (`9` for `009`) gets them back when the contract gives
//! the code's width.

use std::collections::HashMap;
use std::sync::Arc;

use crate::checks::text::Texts;
use crate::checks::{Fault, Present, Reader};
use crate::codes::CodeList;
use crate::rules;

/// A code list arranged for lookup by bytes, shared by all blocks.
#[derive(Debug)]
pub(crate) struct CodeIndex {
    /// Codes of up to seven bytes, open addressing; a zero key is a free slot.
    slots: Vec<Slot>,
    /// Longer codes.
    long: HashMap<Box<[u8]>, Versions>,
    versions: Vec<Version>,
    width: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    key: u64,
    versions: Versions,
}

/// The versions of one code, as a range of `CodeIndex::versions`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Versions {
    from: u32,
    count: u32,
}

#[derive(Debug)]
struct Version {
    code: Arc<str>,
    first_day: i32,
    end_day: i32,
    /// Number of the county the code maps to; -1 = none.
    county: i32,
}

const SHORT: usize = 7;

impl CodeIndex {
    pub(crate) fn new(list: &CodeList, width: usize) -> Self {
        let codes = list.codes();
        let mut slots = vec![Slot::default(); (codes.len() * 2).next_power_of_two().max(8)];
        let mut long = HashMap::new();
        let mut versions = Vec::with_capacity(codes.len());
        let mut rest = codes;
        while let Some(first) = rest.first() {
            let (same, others) = rest.split_at(rest.partition_point(|c| c.code() <= first.code()));
            let range = Versions {
                from: versions.len() as u32,
                count: same.len() as u32,
            };
            for code in same {
                let (first_day, end_day) = code.days();
                let county = code.maps_to().and_then(|m| m.parse().ok()).unwrap_or(-1);
                versions.push(Version {
                    code: code.code().clone(),
                    first_day,
                    end_day,
                    county,
                });
            }
            let bytes = first.code().as_bytes();
            match short_key(bytes) {
                Some(key) => insert(
                    &mut slots,
                    Slot {
                        key,
                        versions: range,
                    },
                ),
                None => {
                    long.insert(Box::from(bytes), range);
                }
            }
            rest = others;
        }
        CodeIndex {
            slots,
            long,
            versions,
            width,
        }
    }

    #[inline]
    fn find(&self, code: &[u8]) -> Option<Versions> {
        match short_key(code) {
            Some(key) => self.find_key(key),
            None => self.long.get(code).copied(),
        }
    }

    #[inline]
    fn find_key(&self, key: u64) -> Option<Versions> {
        let mask = self.slots.len() - 1;
        let mut at = spread(key) & mask;
        loop {
            let slot = self.slots.get(at)?;
            if slot.key == key {
                return Some(slot.versions);
            }
            if slot.key == 0 {
                return None;
            }
            at = (at + 1) & mask;
        }
    }

    /// A code that was not found as written, with its lost zeros restored.
    #[cold]
    fn find_restored(&self, cell: &[u8]) -> Option<Versions> {
        if cell.len() >= self.width || !cell.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let mut padded = [b'0'; 16];
        let from = self.width.checked_sub(cell.len())?;
        padded.get_mut(from..self.width)?.copy_from_slice(cell);
        self.find(padded.get(..self.width)?)
    }

    #[inline]
    fn versions(&self, versions: Versions) -> &[Version] {
        let from = versions.from as usize;
        self.versions
            .get(from..from + versions.count as usize)
            .unwrap_or_default()
    }
}

fn insert(slots: &mut [Slot], slot: Slot) {
    let mask = slots.len() - 1;
    let mut at = spread(slot.key) & mask;
    // The table is at most half full, so a free slot comes.
    while let Some(place) = slots.get_mut(at) {
        if place.key == 0 {
            *place = slot;
            return;
        }
        at = (at + 1) & mask;
    }
}

/// The bytes and their number in one word, so that `1` and `1\0` differ.
#[inline]
fn short_key(code: &[u8]) -> Option<u64> {
    if code.is_empty() || code.len() > SHORT {
        return None;
    }
    let mut key = code.len() as u64;
    for byte in code {
        key = (key << 8) | u64::from(*byte);
    }
    Some(key)
}

#[inline]
fn spread(key: u64) -> usize {
    (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize
}

pub(crate) struct CodeReader<'a> {
    index: &'a CodeIndex,
    /// The row's date; rows without one use `day`.
    dates: Option<(&'a [i32], &'a Present)>,
    day: i32,
    /// Rows whose code maps to this county are marked in `home`.
    county: i32,
    pub(crate) home: Vec<bool>,
    /// The key found last, zero before the first: rows often repeat a code.
    last: (u64, Versions),
    pub(crate) texts: Texts,
}

impl<'a> CodeReader<'a> {
    /// `county` is the delivering county when home rows are counted.
    pub(crate) fn new(
        index: &'a CodeIndex,
        dates: Option<(&'a [i32], &'a Present)>,
        day: i32,
        county: Option<i32>,
        rows: usize,
    ) -> Self {
        CodeReader {
            index,
            dates,
            day,
            county: county.unwrap_or(i32::MIN),
            home: Vec::with_capacity(if county.is_some() { rows } else { 0 }),
            last: (0, Versions::default()),
            texts: Texts::new(rows, 4),
        }
    }

    #[inline]
    fn find(&mut self, cell: &[u8]) -> Option<Versions> {
        let Some(key) = short_key(cell) else {
            return self.index.find(cell);
        };
        if key == self.last.0 {
            return Some(self.last.1);
        }
        let found = self
            .index
            .find_key(key)
            .or_else(|| self.index.find_restored(cell))?;
        self.last = (key, found);
        Some(found)
    }

    #[inline]
    fn mark(&mut self, county: i32) {
        if self.county != i32::MIN {
            self.home.push(county == self.county);
        }
    }
}

impl Reader for CodeReader<'_> {
    #[inline]
    fn read(&mut self, row: usize, cell: &[u8]) -> Result<(), Fault> {
        let found = self.find(cell).ok_or(UNKNOWN)?;
        let day = match self.dates {
            Some((days, present)) if present.at(row) => days.get(row).copied().unwrap_or(self.day),
            _ => self.day,
        };
        let index = self.index;
        let versions = index.versions(found);
        match versions
            .iter()
            .find(|v| v.first_day <= day && day < v.end_day)
        {
            Some(version) => {
                self.texts.push(version.code.as_bytes())?;
                self.mark(version.county);
                Ok(())
            }
            None if versions.iter().any(|v| v.end_day <= day) => Err(EXPIRED),
            None => Err(NOT_YET),
        }
    }

    fn skip(&mut self) {
        self.texts.push_empty();
        self.mark(-1);
    }
}

const UNKNOWN: Fault = Fault {
    rule: rules::CODE_UNKNOWN,
    message: "the code is not in the code list",
};
const EXPIRED: Fault = Fault {
    rule: rules::CODE_EXPIRED,
    message: "the code was no longer valid on the row's date",
};
const NOT_YET: Fault = Fault {
    rule: rules::CODE_NOT_YET_VALID,
    message: "the code was not yet valid on the row's date",
};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::checks::testing::read_one;
    use crate::codes::CodeLists;
    use crate::days;

    const LIST: &str = "code,name_fi,name_sv,name_en,valid_from,valid_to,maps_to\n\
        009,Alavieska,,,,,17\n\
        588,Pertunmaa,,,,2025-01-01,12\n\
        700,Uusi,,,2025-01-01,,12\n\
        SL,Sairaus,,,,2020-01-01,old\n\
        SL,Sairaus,,,2022-01-01,,new\n\
        PITKÄKOODI,Pitkä,,,,,\n";

    fn check(cell: &str, on: (i32, u32, u32), expected: Result<&str, &str>) {
        let lists = CodeLists::parse(vec![("t".to_owned(), LIST.to_owned())]).unwrap();
        let index = CodeIndex::new(lists.list("t").unwrap(), 3);
        let day = days::from_civil(on.0, on.1, on.2).unwrap();
        let mut reader = CodeReader::new(&index, None, day, None, 1);
        let found = read_one(&mut reader, cell.as_bytes())
            .map(|_| String::from_utf8_lossy(reader.texts.get(0)).into_owned());
        assert_eq!(
            found,
            expected.map(str::to_owned).map_err(str::to_owned),
            "{cell}"
        );
    }

    #[test]
    fn codes_are_looked_up_on_the_rows_date() {
        check("588", (2024, 12, 31), Ok("588"));
        check("588", (2025, 1, 1), Err("code_expired"));
        check("700", (2024, 12, 31), Err("code_not_yet_valid"));
        check("SL", (2019, 1, 1), Ok("SL"));
        check("SL", (2021, 1, 1), Err("code_expired"));
        check("SL", (2024, 1, 1), Ok("SL"));
        check("PITKÄKOODI", (2024, 1, 1), Ok("PITKÄKOODI"));
    }

    #[test]
    fn lost_zeros_come_back() {
        for cell in ["9", "09", "009"] {
            check(cell, (2024, 1, 1), Ok("009"));
        }
        check("0009", (2024, 1, 1), Err("code_unknown"));
    }

    #[test]
    fn other_codes_are_unknown() {
        for cell in [
            "X",
            "sl",
            "SL.",
            "PITKÄKOODI2",
            "999",
            "12345678901234567890",
        ] {
            check(cell, (2024, 1, 1), Err("code_unknown"));
        }
        check("SL\0", (2024, 1, 1), Err("control_character"));
    }

    #[test]
    fn rows_of_the_delivering_county_are_marked() {
        let lists = CodeLists::parse(vec![("t".to_owned(), LIST.to_owned())]).unwrap();
        let index = CodeIndex::new(lists.list("t").unwrap(), 3);
        let mut reader = CodeReader::new(&index, None, 19_000, Some(17), 3);
        for cell in ["9", "588", "x"] {
            if reader.read(0, cell.as_bytes()).is_err() {
                reader.skip();
            }
        }
        assert_eq!(reader.home, [true, false, false]);
    }

    #[test]
    fn every_code_of_a_large_list_is_found() {
        let mut text = "code,name_fi,name_sv,name_en,valid_from,valid_to\n".to_owned();
        for code in 0..1000 {
            text.push_str(&format!("{code:03},x,,,,\n"));
        }
        let lists = CodeLists::parse(vec![("t".to_owned(), text)]).unwrap();
        let index = CodeIndex::new(lists.list("t").unwrap(), 0);
        for code in 0..1000 {
            let code = format!("{code:03}");
            let found = index.versions(index.find(code.as_bytes()).unwrap());
            assert_eq!(found.first().map(|v| v.code.as_ref()), Some(code.as_str()));
        }
        assert!(index.find(b"1000").is_none());
    }
}
