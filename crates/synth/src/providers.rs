//! The organiser's own business id and the providers it buys from.
//!
//! Business ids are test numbers: a valid check digit on bases from 9 000 000
//! up, which no company has been given.

use tietopohja_domain::{BusinessId, County};

use crate::days::{Day, OPEN, day};
use crate::draw::Draw;
use crate::inputs::Reference;
use crate::population::tag;

/// A business id as written, `1234567-8`.
pub(crate) type IdText = [u8; 9];

/// What a provider sells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// Round-the-clock housing, institutions and family care.
    Housing,
    /// Placements of children.
    Children,
    /// Home care.
    HomeCare,
}

/// How a service is produced, with the codes of `county.production_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Own = 1,
    Public = 2,
    Private = 3,
    Voucher = 4,
}

/// Who owns the provider, with the codes of `county.provider_sector`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sector {
    Own = 1,
    Public = 2,
    Private = 3,
    /// The third sector.
    NonProfit = 4,
}

#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) id: IdText,
    pub(crate) name: String,
    pub(crate) sector: Sector,
    pub(crate) municipality: u16,
    pub(crate) from: Day,
    /// Last day, or [`OPEN`].
    pub(crate) to: Day,
    field: Field,
    /// Price level around 1.
    pub(crate) price: f64,
}

/// The providers of one county; the first is the county itself.
#[derive(Debug)]
pub(crate) struct Providers {
    list: Vec<Provider>,
}

/// No provider: the county's own production.
pub(crate) const NO_PROVIDER: u16 = u16::MAX;

const HOUSING_NAMES: [&str; 6] = [
    "Testikoti",
    "Testipalvelukoti",
    "Testihoiva",
    "Testikartano",
    "Testitupa",
    "Testiranta",
];
const CHILDREN_NAMES: [&str; 3] = ["Testilastenkoti", "Testiperhekoti", "Testinuorisokoti"];
const HOME_NAMES: [&str; 3] = ["Testikotihoito", "Testikotipalvelu", "Testiapu"];

impl Providers {
    pub(crate) fn build(
        reference: &Reference,
        county: County,
        first_year: i32,
        last_year: i32,
        seed: u64,
    ) -> Providers {
        let mut draw = Draw::stream(seed, &[tag::PROVIDER, county.number() as u64]);
        let mut base = 9_000_000 + county.number() as u32 * 10_000;
        let municipalities = reference.municipalities(county);
        let largest = municipalities.iter().copied().max_by_key(|code| {
            reference
                .people(*code, first_year - 1)
                .iter()
                .flatten()
                .sum::<u32>()
        });
        let mut list = vec![Provider {
            id: next_id(&mut base),
            name: format!("{} (testi)", reference.name(county)),
            sector: Sector::Own,
            municipality: largest.unwrap_or(0),
            from: day(2023.min(first_year), 1, 1),
            to: OPEN,
            field: Field::HomeCare,
            price: 1.0,
        }];
        let count = 14 + reference.residents(county) / 6_000;
        let end = day(last_year, 12, 31);
        for n in 0..count {
            let field = match n % 10 {
                0..=4 => Field::Housing,
                5..=7 => Field::Children,
                _ => Field::HomeCare,
            };
            // Every tenth provider is public, so that each field of use has one.
            let sector = match n {
                n if n % 11 == 3 => Sector::Public,
                n if n % 5 == 1 => Sector::NonProfit,
                _ => Sector::Private,
            };
            let names: &[&str] = match field {
                Field::Housing => &HOUSING_NAMES,
                Field::Children => &CHILDREN_NAMES,
                Field::HomeCare => &HOME_NAMES,
            };
            let form = match sector {
                Sector::Private => "Oy",
                Sector::NonProfit => "ry",
                Sector::Public | Sector::Own => "kuntayhtymä",
            };
            // A few have stopped; nobody buys from them (see `pick`).
            let stopped = n > 10 && draw.chance(0.06);
            let from = draw.day(day(2012, 1, 1), day(first_year - 1, 12, 31));
            list.push(Provider {
                id: next_id(&mut base),
                name: format!(
                    "{} {:03} {form}",
                    names[draw.below(names.len() as u32) as usize],
                    n + 1
                ),
                sector,
                municipality: municipalities
                    .get(draw.below(municipalities.len() as u32) as usize)
                    .copied()
                    .unwrap_or(0),
                from,
                to: if stopped {
                    draw.day(day(first_year, 1, 1), end)
                } else {
                    OPEN
                },
                field,
                price: draw.around_one(0.16),
            });
        }
        Providers { list }
    }

    pub(crate) fn own_id(&self) -> &IdText {
        &self.list[0].id
    }

    pub(crate) fn list(&self) -> &[Provider] {
        &self.list
    }

    /// The provider, unless the production is the county's own.
    pub(crate) fn get(&self, provider: u16) -> Option<&Provider> {
        self.list.get(usize::from(provider))
    }

    /// A provider of the field and mode; the first ones have most of the clients.
    pub(crate) fn pick(&self, field: Field, mode: Mode, draw: &mut Draw) -> u16 {
        let suits = |provider: &Provider| {
            let sector = match mode {
                Mode::Own => false,
                Mode::Public => provider.sector == Sector::Public,
                Mode::Private | Mode::Voucher => {
                    matches!(provider.sector, Sector::Private | Sector::NonProfit)
                }
            };
            // Public providers are few and sell everything.
            sector && provider.to == OPEN && (provider.field == field || mode == Mode::Public)
        };
        let suitable: Vec<u16> = (0u16..)
            .zip(&self.list)
            .filter(|(_, provider)| suits(provider))
            .map(|(n, _)| n)
            .collect();
        let choices: Vec<(u16, u32)> = suitable
            .iter()
            .enumerate()
            .map(|(rank, n)| (*n, 12_000 / (rank as u32 + 3)))
            .collect();
        if choices.is_empty() {
            NO_PROVIDER
        } else {
            draw.pick(&choices)
        }
    }
}

/// The next base that has a check digit.
fn next_id(base: &mut u32) -> IdText {
    let mut text = *b"0000000-0";
    for _ in 0..8 {
        *base += 1;
        if let Some(id) = BusinessId::compose(*base) {
            for (place, byte) in text.iter_mut().zip(id.to_string().bytes()) {
                *place = byte;
            }
            break;
        }
    }
    text
}
