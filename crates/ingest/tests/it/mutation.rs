//! The fuzz entry points over the corpus and changed copies of it: the same run every time.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tietopohja_contract::Contract;
use tietopohja_ingest::fuzz::read_source;

use crate::support::{contract, contract_text, lists, testdata};

/// Changed copies of each file. `MUTANTS` asks for more.
#[expect(
    clippy::disallowed_methods,
    reason = "whoever runs the tests may ask for more mutants"
)]
fn mutants() -> u64 {
    std::env::var("MUTANTS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(60)
}

/// Numbers without pattern, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }
}

fn mutate(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    const PIECES: [&[u8]; 16] = [
        b"\"",
        b"\"\"",
        b";",
        b"\n",
        b"\r\n",
        b"\r",
        b"\0",
        b"\xef\xbb\xbf",
        b"\xc3",
        b"\xe4",
        b"\xff\xff\xff\xff",
        b"{",
        b"\\",
        b"\\ud800",
        b":",
        b"- ",
    ];
    let mut changed = bytes.to_vec();
    for _ in 0..=dice.roll(4) {
        let place = dice.roll(changed.len() + 1);
        match dice.roll(6) {
            0 => changed.truncate(place),
            1 => {
                if let Some(byte) = changed.get_mut(place) {
                    *byte ^= 1 << dice.roll(8);
                }
            }
            2 => {
                let piece = PIECES[dice.roll(PIECES.len())];
                changed.splice(place..place, piece.iter().copied());
            }
            3 => {
                let end = (place + dice.roll(40)).min(changed.len());
                changed.drain(place..end);
            }
            4 => {
                let end = (place + dice.roll(200)).min(changed.len());
                let copy = changed[place..end].to_vec();
                let to = dice.roll(changed.len() + 1);
                changed.splice(to..to, copy);
            }
            _ => {
                if let Some(byte) = changed.get_mut(place) {
                    *byte = dice.roll(256) as u8;
                }
            }
        }
    }
    changed
}

#[test]
fn no_changed_file_breaks_the_reader() {
    let contract = contract("test_case");
    let mut dice = Dice(0x5eed_2024);
    let (mut rows, mut faults) = (0, 0);
    for folder in ["good", "bad"] {
        let mut files: Vec<_> = std::fs::read_dir(testdata().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        for path in files {
            let bytes = std::fs::read(&path).unwrap();
            for mutant in 0..=mutants() {
                let changed = if mutant == 0 {
                    bytes.clone()
                } else {
                    mutate(&bytes, &mut dice)
                };
                let outcome = catch_unwind(AssertUnwindSafe(|| read_source(&changed, &contract)))
                    .unwrap_or_else(|_| {
                        panic!("{} mutant {mutant} broke the reader", path.display())
                    });
                rows += outcome.rows;
                faults += u64::from(outcome.fault.is_some());
            }
        }
    }
    assert!(
        rows > 1_000 && faults > 1_000,
        "mutants are read and refused: {rows} rows, {faults} faults"
    );
}

#[test]
fn no_changed_contract_breaks_its_parser() {
    let lists = lists();
    let mut dice = Dice(0x5eed_2025);
    let mut refused = 0;
    for name in ["test_case", "test_notice"] {
        let text = contract_text(name);
        for _ in 0..mutants() * 4 {
            let changed = mutate(text.as_bytes(), &mut dice);
            let yaml = String::from_utf8_lossy(&changed).into_owned();
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                Contract::parse("mutant.odcs.yaml", &yaml, &lists).map(|_| ())
            }));
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(problems)) => {
                    assert!(!problems.is_empty());
                    refused += 1;
                }
                Err(_) => panic!("a mutant of {name} broke the parser:\n{yaml}"),
            }
        }
    }
    assert!(refused > 50, "mutants are refused: {refused}");
}
