//! The public reference data that the synthetic world is calibrated to.
//!
//! Texts come in as the CSV files under `reference/` hold them; this module
//! parses them and does no reading of its own. To use a further series: a
//! field in [`ReferenceInputs`], a parsed form in [`Reference`].

use std::collections::BTreeMap;

use tietopohja_domain::County;

use crate::error::SynthError;

/// The CSV texts of the public reference data (UTF-8, comma, header row).
#[derive(Debug, Clone, Copy)]
pub struct ReferenceInputs<'a> {
    /// `population/vaesto_kunnittain_2000_2022.csv`: municipality_code, year, population_3112.
    pub municipal_population: &'a str,
    /// `population/vaesto_ika_sukupuoli_kunnittain_2018_2019.csv`: year, municipality_code, age, sex, population_3112.
    pub age_structure: &'a str,
    /// `population/vaestoennuste_2024_koko_maa_2024_2045.csv`: year, age_0_14, age_15_64, age_65_74, age_75_plus.
    pub population_projection: &'a str,
    /// `regions/kunnat_hyvinvointialueittain_2022_2026.csv`: year, municipality_code, hva_code.
    pub municipality_keys: &'a str,
    /// `regions/kuntaliitokset.csv`: old_code, new_code, effective_on.
    pub municipality_mergers: &'a str,
    /// `regions/hyvinvointialueet.csv`: hva_code, name_fi.
    pub counties: &'a str,
    /// `finance/htas_talousarvio_toimintamenot_2023_2026.csv`, which is also copied out as a delivery.
    pub htas_budgets: &'a str,
    /// A KTAS document such as `finance/valtiokonttori_ktas_sample_….csv`, copied out as a delivery.
    pub ktas_document: &'a str,
    /// `finance/julkisten_menojen_hintaindeksi_2015_100.csv`: year, index_2015_100.
    pub price_index: &'a str,
    /// `sotkanet/sotkanet_3563_sijoitetut_lapset_2021_2024.csv`: hva_code, year, abs_value.
    pub placed_children: &'a str,
}

/// The oldest single year of age in the age structure; it means "and older".
pub(crate) const OLDEST: usize = 100;

/// The year of the age structure.
const STRUCTURE_YEAR: i32 = 2019;
/// The last year of counted municipal totals, whose division of municipalities is used throughout.
const COUNTED_YEAR: i32 = 2022;
/// The year of the projection towards which the age groups move.
const PROJECTION_YEAR: i32 = 2024;

/// People by sex (0 female, 1 male) and single year of age.
pub(crate) type Ages = [[u32; OLDEST + 1]; 2];

/// Parsed reference data.
#[derive(Debug)]
pub(crate) struct Reference {
    /// Municipalities of the 2022 division by county, in code order.
    municipalities: BTreeMap<County, Vec<u16>>,
    /// (ended, successor, first year without the ended one).
    mergers: Vec<(u16, u16, i32)>,
    /// Municipal totals by (municipality, year): counted, then estimated.
    totals: BTreeMap<(u16, i32), u64>,
    /// 2019 counts by municipality.
    structure: BTreeMap<u16, Box<Ages>>,
    /// Growth of the four age groups since 2019, in units of 1e-8, by year.
    factors: BTreeMap<i32, [i64; 4]>,
    names: BTreeMap<County, String>,
    /// Budgeted operating expenses in cents by (county, year).
    budgets: BTreeMap<(County, i32), i64>,
    price_index: BTreeMap<i32, f64>,
    placed: BTreeMap<(County, i32), u32>,
}

impl Reference {
    pub(crate) fn parse(inputs: &ReferenceInputs<'_>) -> Result<Reference, SynthError> {
        let mut mergers = Vec::new();
        for row in Table::new(
            "municipality_mergers",
            inputs.municipality_mergers,
            &["old_code", "new_code", "effective_on"],
        )?
        .rows()
        {
            let row = row?;
            let year = row.cell(2).get(..4).and_then(|year| year.parse().ok());
            let year = year.ok_or_else(|| row.error(format!("`{}` is not a date", row.cell(2))))?;
            mergers.push((row.number(0)?, row.number(1)?, year));
        }

        let mut municipalities: BTreeMap<County, Vec<u16>> = BTreeMap::new();
        let mut division = Vec::new();
        let keys = Table::new(
            "municipality_keys",
            inputs.municipality_keys,
            &["year", "municipality_code", "hva_code"],
        )?;
        for row in keys.rows() {
            let row = row?;
            if row.number::<i32>(0)? != COUNTED_YEAR {
                continue;
            }
            let code = row.number(1)?;
            division.push(code);
            // Åland is outside the acts: its code is not an organiser.
            if let Ok(county) = County::parse(row.cell(2)) {
                municipalities.entry(county).or_default().push(code);
            }
        }
        for codes in municipalities.values_mut() {
            codes.sort_unstable();
        }
        if let Some(missing) = County::all().find(|county| !municipalities.contains_key(county)) {
            return Err(keys.error(
                1,
                format!("no municipality of {COUNTED_YEAR} belongs to county {missing}"),
            ));
        }

        let mut totals = BTreeMap::new();
        let table = Table::new(
            "municipal_population",
            inputs.municipal_population,
            &["municipality_code", "year", "population_3112"],
        )?;
        for row in table.rows() {
            let row = row?;
            totals.insert(
                (row.number(0)?, row.number(1)?),
                u64::from(row.number::<u32>(2)?),
            );
        }
        if let Some(code) = division
            .iter()
            .find(|code| !totals.contains_key(&(**code, COUNTED_YEAR)))
        {
            return Err(table.error(
                1,
                format!("municipality {code:03} has no total of {COUNTED_YEAR}"),
            ));
        }

        let mut structure: BTreeMap<u16, Box<Ages>> = BTreeMap::new();
        let mut groups = [0u64; 4];
        let table = Table::new(
            "age_structure",
            inputs.age_structure,
            &["year", "municipality_code", "age", "sex", "population_3112"],
        )?;
        for row in table.rows() {
            let row = row?;
            if row.number::<i32>(0)? != STRUCTURE_YEAR {
                continue;
            }
            let age: usize = row.number(2)?;
            let sex = match row.cell(3) {
                "female" => 0,
                "male" => 1,
                other => return Err(row.error(format!("`{other}` is neither female nor male"))),
            };
            if age > OLDEST {
                return Err(row.error(format!("age {age} is over {OLDEST}")));
            }
            // No municipality has more people of one age; the limit keeps sums far from overflow.
            let count: u32 = row.number(4).and_then(|count| {
                if count < 1_000_000 {
                    Ok(count)
                } else {
                    Err(row.error("more than a million people of one age"))
                }
            })?;
            let code = successor(&mergers, row.number(1)?, COUNTED_YEAR);
            structure
                .entry(code)
                .or_insert_with(|| Box::new([[0; OLDEST + 1]; 2]))[sex][age] += count;
            groups[group_of(age)] += u64::from(count);
        }
        if let Some(code) = division.iter().find(|code| !structure.contains_key(code)) {
            return Err(table.error(
                1,
                format!("municipality {code:03} has no age structure of {STRUCTURE_YEAR}"),
            ));
        }

        let mut projection: BTreeMap<i32, [u64; 5]> = BTreeMap::new();
        let columns = [
            "year",
            "age_0_14",
            "age_15_64",
            "age_65_74",
            "age_75_plus",
            "population_total",
        ];
        let table = Table::new(
            "population_projection",
            inputs.population_projection,
            &columns,
        )?;
        for row in table.rows() {
            let row = row?;
            let mut counts = [0; 5];
            for (n, count) in counts.iter_mut().enumerate() {
                *count = u64::from(row.number::<u32>(n + 1)?);
            }
            projection.insert(row.number(0)?, counts);
        }
        let Some(near) = projection.get(&PROJECTION_YEAR) else {
            return Err(table.error(1, format!("the year {PROJECTION_YEAR} is missing")));
        };
        let factor = |projected: &[u64; 5], group: usize, steps: i32| -> i64 {
            let growth = projected[group] as f64 / groups[group].max(1) as f64 - 1.0;
            (1e8 * (1.0 + growth * f64::from(steps) / f64::from(PROJECTION_YEAR - STRUCTURE_YEAR)))
                .round() as i64
        };
        let mut factors = BTreeMap::new();
        for year in STRUCTURE_YEAR..PROJECTION_YEAR {
            factors.insert(
                year,
                std::array::from_fn(|group| factor(near, group, year - STRUCTURE_YEAR)),
            );
        }
        for (year, projected) in projection.range(PROJECTION_YEAR..) {
            factors.insert(
                *year,
                std::array::from_fn(|group| {
                    factor(projected, group, PROJECTION_YEAR - STRUCTURE_YEAR)
                }),
            );
        }

        // Totals after the counted years, as the warehouse estimates them.
        let counted: u64 = division
            .iter()
            .filter_map(|code| totals.get(&(*code, COUNTED_YEAR)))
            .sum();
        for year in COUNTED_YEAR + 1..=factors.keys().copied().max().unwrap_or(COUNTED_YEAR) {
            let country = match projection.get(&year) {
                Some(projected) => projected[4],
                None => (counted + near[4]) / 2,
            };
            let weights: Vec<u128> = division
                .iter()
                .map(|code| {
                    let weight = |year: i32| {
                        structure
                            .get(code)
                            .zip(factors.get(&year))
                            .map_or(0.0, |(ages, f)| weight_of(ages, f) as f64)
                    };
                    let last = totals.get(&(*code, COUNTED_YEAR)).copied().unwrap_or(0) as f64;
                    (1000.0 * last * weight(year) / weight(COUNTED_YEAR)).round() as u128
                })
                .collect();
            for (code, total) in division.iter().zip(apportion(country, &weights)) {
                totals.insert((*code, year), total);
            }
        }

        let mut names = BTreeMap::new();
        for row in Table::new("counties", inputs.counties, &["hva_code", "name_fi"])?.rows() {
            let row = row?;
            if let Ok(county) = County::parse(row.cell(0)) {
                names.insert(county, row.cell(1).to_owned());
            }
        }

        let mut budgets = BTreeMap::new();
        let table = Table::new(
            "htas_budgets",
            inputs.htas_budgets,
            &["hva_code", "budget_year", "toimintamenot_meur"],
        )?;
        for row in table.rows() {
            let row = row?;
            let county =
                County::parse(row.cell(0)).map_err(|error| row.error(error.to_string()))?;
            // Million euros with three decimals: whole thousands of euros.
            let thousands = i64::try_from(row.decimal(2, 3)?)
                .ok()
                .filter(|thousands| (0..1_000_000_000).contains(thousands));
            let thousands = thousands.ok_or_else(|| {
                row.error(format!("`{}` is no budget in million euros", row.cell(2)))
            })?;
            budgets.insert((county, row.number(1)?), thousands * 100_000);
        }
        if let Some(missing) =
            County::all().find(|county| !budgets.keys().any(|(c, _)| c == county))
        {
            return Err(table.error(1, format!("no budget of county {missing}")));
        }

        let mut price_index = BTreeMap::new();
        for row in Table::new(
            "price_index",
            inputs.price_index,
            &["year", "index_2015_100"],
        )?
        .rows()
        {
            let row = row?;
            price_index.insert(row.number(0)?, row.number(1)?);
        }

        let mut placed = BTreeMap::new();
        let table = Table::new(
            "placed_children",
            inputs.placed_children,
            &["hva_code", "year", "abs_value"],
        )?;
        for row in table.rows() {
            let row = row?;
            if let Ok(county) = County::parse(row.cell(0)) {
                placed.insert((county, row.number(1)?), row.number(2)?);
            }
        }
        if let Some(missing) = County::all().find(|county| !placed.keys().any(|(c, _)| c == county))
        {
            return Err(table.error(1, format!("no placed children of county {missing}")));
        }
        Ok(Reference {
            municipalities,
            mergers,
            totals,
            structure,
            factors,
            names,
            budgets,
            price_index,
            placed,
        })
    }

    /// Municipality codes of a county in the 2022 division.
    pub(crate) fn municipalities(&self, county: County) -> &[u16] {
        self.municipalities.get(&county).map_or(&[], Vec::as_slice)
    }

    /// The code that stands for a municipality of the 2022 division in a year.
    pub(crate) fn municipality_in(&self, code: u16, year: i32) -> u16 {
        successor(&self.mergers, code, year)
    }

    /// The municipality that was the last to end by the beginning of a year.
    pub(crate) fn ended_municipality(&self, year: i32) -> Option<u16> {
        self.mergers
            .iter()
            .filter(|(_, _, from)| *from <= year)
            .max_by_key(|(_, _, from)| *from)
            .map(|(ended, _, _)| *ended)
    }

    /// The Finnish name, or the code when the input has none.
    pub(crate) fn name(&self, county: County) -> String {
        self.names
            .get(&county)
            .cloned()
            .unwrap_or_else(|| county.code())
    }

    /// Counted residents 31.12.2022.
    pub(crate) fn residents(&self, county: County) -> u64 {
        self.municipalities(county)
            .iter()
            .filter_map(|code| self.totals.get(&(*code, COUNTED_YEAR)))
            .sum()
    }

    /// The years for whose 31.12. residents can be told.
    pub(crate) fn years(&self) -> std::ops::RangeInclusive<i32> {
        STRUCTURE_YEAR..=self.factors.keys().copied().max().unwrap_or(STRUCTURE_YEAR)
    }

    /// Residents of a municipality of the 2022 division by sex and age 31.12., by the same rule as
    /// the warehouse's `reference.population`: the ages of 2019 grown as their age group in the
    /// country, scaled to the municipal total, rounded by largest remainder.
    pub(crate) fn people(&self, municipality: u16, year: i32) -> Box<Ages> {
        let mut people = Box::new([[0; OLDEST + 1]; 2]);
        let Some(structure) = self.structure.get(&municipality) else {
            return people;
        };
        if year <= STRUCTURE_YEAR {
            return structure.clone();
        }
        let (Some(factors), Some(total)) = (
            self.factors.get(&year),
            self.totals.get(&(municipality, year)),
        ) else {
            return people;
        };
        let mut cells = Vec::with_capacity(2 * (OLDEST + 1));
        let mut weights = Vec::with_capacity(2 * (OLDEST + 1));
        for age in 0..=OLDEST {
            for sex in 0..2 {
                cells.push((sex, age));
                weights.push(u128::from(structure[sex][age]) * factors[group_of(age)] as u128);
            }
        }
        for ((sex, age), count) in cells.into_iter().zip(apportion(*total, &weights)) {
            people[sex][age] = count as u32;
        }
        people
    }

    /// Residents of a county 31.12. for whom `ages` holds.
    pub(crate) fn residents_aged(
        &self,
        county: County,
        year: i32,
        ages: impl Fn(usize) -> bool,
    ) -> u64 {
        self.municipalities(county)
            .iter()
            .map(|code| {
                let people = self.people(*code, year);
                people
                    .iter()
                    .map(|by_age| {
                        by_age
                            .iter()
                            .enumerate()
                            .filter(|(age, _)| ages(*age))
                            .map(|(_, n)| u64::from(*n))
                            .sum::<u64>()
                    })
                    .sum::<u64>()
            })
            .sum()
    }

    /// Budgeted operating expenses in cents; years before the first budget are deflated with the
    /// public expenditure price index, years after the last keep it.
    pub(crate) fn budget_cents(&self, county: County, year: i32) -> i64 {
        let years: Vec<i32> = self
            .budgets
            .keys()
            .filter(|(c, _)| *c == county)
            .map(|(_, y)| *y)
            .collect();
        let (Some(first), Some(last)) = (years.iter().min(), years.iter().max()) else {
            return 0;
        };
        let nearest = year.clamp(*first, *last);
        let budget = self.budgets.get(&(county, nearest)).copied().unwrap_or(0);
        match (self.price_index.get(&year), self.price_index.get(&nearest)) {
            (Some(then), Some(known)) if year < nearest && *known > 0.0 => {
                (budget as f64 * then / known).round() as i64
            }
            _ => budget,
        }
    }

    /// Children and young people placed outside the home during the year (Sotkanet 3563); years
    /// outside the series take its nearest year.
    pub(crate) fn placed_children(&self, county: County, year: i32) -> u32 {
        let of_county = || self.placed.iter().filter(|((c, _), _)| *c == county);
        of_county()
            .min_by_key(|((_, y), _)| (y - year).abs())
            .map_or(0, |(_, n)| *n)
    }
}

/// The successor of a municipality in a year, or itself.
fn successor(mergers: &[(u16, u16, i32)], code: u16, year: i32) -> u16 {
    mergers
        .iter()
        .find(|(ended, _, from)| *ended == code && *from <= year)
        .map_or(code, |(_, new, _)| *new)
}

/// The people of a municipality weighted by the growth of their age group.
fn weight_of(ages: &Ages, factors: &[i64; 4]) -> u128 {
    ages.iter()
        .flat_map(|ages| ages.iter().enumerate())
        .map(|(age, n)| u128::from(*n) * factors[group_of(age)] as u128)
        .sum()
}

/// Splits `total` in proportion to the weights: whole numbers, the rest to the largest remainders,
/// ties to the earlier weight.
fn apportion(total: u64, weights: &[u128]) -> Vec<u64> {
    let sum = weights.iter().sum::<u128>().max(1);
    let mut parts: Vec<u64> = weights
        .iter()
        .map(|weight| (u128::from(total) * weight / sum) as u64)
        .collect();
    let left = total - parts.iter().sum::<u64>();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(u128::from(total) * weights[*i] % sum), *i));
    for i in order.into_iter().take(left as usize) {
        parts[i] += 1;
    }
    parts
}

/// The projection's age groups.
fn group_of(age: usize) -> usize {
    match age {
        0..=14 => 0,
        15..=64 => 1,
        65..=74 => 2,
        _ => 3,
    }
}

/// A comma-separated text with the columns that are used.
pub(crate) struct Table<'a> {
    file: &'static str,
    text: &'a str,
    places: Vec<usize>,
}

impl<'a> Table<'a> {
    pub(crate) fn new(
        file: &'static str,
        text: &'a str,
        columns: &[&str],
    ) -> Result<Table<'a>, SynthError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let header: Vec<&str> = text
            .lines()
            .next()
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .collect();
        let places = columns
            .iter()
            .map(|column| {
                header.iter().position(|name| name == column).ok_or_else(|| SynthError::Reference {
                    file,
                    line: 1,
                    message: format!("column `{column}` is missing: give the file as it stands under reference/"),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Table { file, text, places })
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = Result<Row<'a>, SynthError>> + '_ {
        self.text
            .lines()
            .enumerate()
            .skip(1)
            .filter(|(_, line)| !line.is_empty())
            .map(|(i, line)| {
                let all = split(line);
                let cells = self
                    .places
                    .iter()
                    .map(|place| all.get(*place).copied())
                    .collect::<Option<Vec<_>>>();
                match cells {
                    Some(cells) => Ok(Row {
                        file: self.file,
                        line: i + 1,
                        text: line,
                        cells,
                    }),
                    None => Err(self.error(i + 1, "the row has fewer cells than the header")),
                }
            })
    }

    fn error(&self, line: usize, message: impl Into<String>) -> SynthError {
        SynthError::Reference {
            file: self.file,
            line,
            message: message.into(),
        }
    }
}

/// Cells of one line; commas inside double quotes do not separate.
fn split(line: &str) -> Vec<&str> {
    let mut cells = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (i, byte) in line.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                cells.push(&line[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    cells.push(&line[start..]);
    cells
}

/// One line's used cells.
pub(crate) struct Row<'a> {
    file: &'static str,
    line: usize,
    text: &'a str,
    cells: Vec<&'a str>,
}

impl<'a> Row<'a> {
    /// The cell of the n-th asked column.
    pub(crate) fn cell(&self, n: usize) -> &'a str {
        self.cells.get(n).copied().unwrap_or_default().trim()
    }

    /// The whole line.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, n: usize) -> Result<T, SynthError> {
        self.cell(n).parse().map_err(|_| {
            self.error(format!(
                "`{}` is not a number of the expected kind",
                self.cell(n)
            ))
        })
    }

    /// A decimal number with a point, in units of its last decimal.
    pub(crate) fn decimal(&self, n: usize, scale: u32) -> Result<i128, SynthError> {
        let (sign, digits) = self
            .cell(n)
            .strip_prefix('-')
            .map_or((1, self.cell(n)), |rest| (-1, rest));
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let number = if part.len() <= scale as usize {
            format!("{whole}{part:0<width$}", width = scale as usize)
                .parse::<i128>()
                .ok()
        } else {
            None
        };
        number.map(|number| number * sign).ok_or_else(|| {
            self.error(format!(
                "`{}` is not a decimal number with at most {scale} decimals",
                self.cell(n)
            ))
        })
    }

    fn error(&self, message: impl Into<String>) -> SynthError {
        SynthError::Reference {
            file: self.file,
            line: self.line,
            message: message.into(),
        }
    }
}
