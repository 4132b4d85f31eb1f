//! One large home-care file for benchmarks of landing.

use std::io::{self, Write};

use jiff::civil::Date;
use tietopohja_domain::Hetu;

use crate::days::{Month, civil, day};
use crate::draw::Draw;
use crate::extract::{push_date, push_number, push_padded};
use crate::population::tag;
use crate::sources::homecare_visit::DATASET;

/// Municipalities of county 07.
const MUNICIPALITIES: [u16; 11] = [61, 82, 86, 103, 109, 165, 169, 433, 694, 834, 981];
/// A client's visits follow each other, as home-care systems write them.
const VISITS_PER_CLIENT: u64 = 40;

/// Writes `homecare_visit_07_202401.csv` with `rows` data rows of about 85 bytes, all valid, each
/// with its own key, to `out` (UTF-8 with byte order mark, `;`).
pub fn bench_care_events(rows: u64, seed: u64, out: &mut impl Write) -> io::Result<()> {
    let mut draw = Draw::stream(seed, &[tag::BENCH]);
    let month = Month::new(2024, 1);
    let mut bytes = b"\xEF\xBB\xBF".to_vec();
    for (i, column) in DATASET.columns.iter().enumerate() {
        bytes.extend_from_slice(if i == 0 { b"" } else { b";" });
        bytes.extend_from_slice(column.header.as_bytes());
    }
    bytes.push(b'\n');
    let mut client = [0; 11];
    let mut municipality = 0;
    for n in 0..rows {
        if n % VISITS_PER_CLIENT == 0 {
            client = code(&mut draw);
            municipality = MUNICIPALITIES[draw.below(MUNICIPALITIES.len() as u32) as usize];
        }
        bytes.extend_from_slice(b"07-202401-");
        push_padded(&mut bytes, n + 1, 10);
        bytes.push(b';');
        bytes.extend_from_slice(&client);
        bytes.push(b';');
        push_padded(&mut bytes, u64::from(municipality), 3);
        bytes.push(b';');
        push_date(&mut bytes, draw.day(month.first, month.last));
        bytes.push(b';');
        push_number(&mut bytes, u64::from(draw.below(90) + 5));
        bytes.extend_from_slice(draw.pick(&[(b";3;", 88), (b";2;", 12)]));
        bytes.extend_from_slice(draw.pick(&[(b"LHOI;", 78), (b"HOIT;", 22)]));
        bytes.extend_from_slice(b"KOTIHOITOTIIMI-");
        push_padded(&mut bytes, u64::from(draw.below(40) + 1), 3);
        bytes.extend_from_slice(draw.pick(&[
            (b";1;;K\n".as_slice(), 79),
            (b";1;;E\n", 3),
            (b";3;9070001-8;K\n", 18),
        ]));
        if bytes.len() > 1 << 16 {
            out.write_all(&bytes)?;
            bytes.clear();
        }
    }
    out.write_all(&bytes)?;
    out.flush()
}

/// The artificial identity code of an old person.
fn code(draw: &mut Draw) -> [u8; 11] {
    let (year, month, day_of_month) = civil(draw.day(day(1930, 1, 1), day(1949, 12, 31)));
    let individual = 900 + draw.below(100) as u16;
    Date::new(year as i16, month as i8, day_of_month as i8)
        .ok()
        .and_then(|date| Hetu::compose(date, individual, None).ok())
        .map_or([b'0'; 11], |hetu| *hetu.canonical())
}
