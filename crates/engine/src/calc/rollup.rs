//! Values from components without a query: what the value query says up to its step `measured`, done
//! by the kernels over coded cells.
//!
//! The value query of an indicator remains the definition of its values; planning and running it takes
//! a tenth of a second however few cells there are, and its sets of persons memory without need. So a
//! calculation merges cells here ([`RollUp`] is the same as data, [`CellTargets`] the arithmetic) and
//! runs only the formula as SQL. `calc --one-by-one` computes every value by its query, and the tests
//! demand equal values of both.
//!
//! What may not live here: what an indicator means (`indicators`), the arithmetic (`kernels`). To add a
//! state: a [`Merge`], and a column of [`Measured`].

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, RecordBatch, StringArray,
    UInt32Array,
};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{DataType, Date32Type, Field, Int32Type, Int64Type, Schema};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use futures::TryStreamExt;
use tietopohja_indicators::{Grain, Level, MembersFrom, Merge, Needed, Residents, RollUp, Span};
use tietopohja_kernels::{CareDayCounts, CellKeys, CellTargets, Lists, MemberNumbers};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use super::formula::Formulas;
use super::found::PreparedCells;
use crate::catalog::Resolver;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::plain::{conform, plain_schema, to_type};

/// The code of the whole country.
const COUNTRY: &str = "FI";

const PERIODS: &str = "\
SELECT
    grain, period_start, period_end, label, days, year_days,
    CAST(date_part('year', period_start) AS INT) AS year,
    CAST(date_part('year', period_end) AS INT) AS end_year,
    make_date(CAST(date_part('year', period_start) AS INT), 1, 1) AS year_first,
    make_date(CAST(date_part('year', period_start) AS INT), 12, 31) AS year_last
FROM reference.period
ORDER BY grain, period_start";

const MUNICIPALITIES: &str = "\
SELECT CAST(year AS INT) AS year, municipality_code, division_code, county_code, collaboration_area_code
FROM reference.municipality_on";

const COUNTIES: &str = "SELECT county_code, collaboration_area_code FROM reference.county";

const DELIVERED: &str =
    "SELECT DISTINCT contract, county_code, month_start FROM meta.delivered_month";

/// What all roll-ups of a run read or find alike, each thing once and when it is first needed.
#[derive(Debug)]
pub(crate) struct Shared {
    frame: OnceCell<Arc<Frame>>,
    /// Members of code lists, and residents, by the query that gives them.
    queried: Mutex<BTreeMap<String, Arc<OnceCell<Arc<RecordBatch>>>>>,
    counted: Arc<Counted>,
    formulas: Formulas,
}

impl Shared {
    /// Nothing yet; what is kept counts among this memory.
    pub(crate) fn new(memory: &Arc<dyn MemoryPool>) -> Self {
        Self {
            frame: OnceCell::default(),
            queried: Mutex::default(),
            counted: Arc::new(Counted {
                memory: MemoryConsumer::new("persons that were counted").register(memory),
                known: Mutex::default(),
            }),
            formulas: Formulas::default(),
        }
    }
}

/// Calendar, areas and deliveries.
#[derive(Debug)]
struct Frame {
    /// By grain and start.
    periods: RecordBatch,
    calendar: Vec<Period>,
    counties: Vec<County>,
    municipalities: BTreeMap<i32, Vec<Municipality>>,
    /// Counties of each contract and month.
    delivered: BTreeMap<String, Months>,
}

/// Counties that are known, by month.
type Months = BTreeMap<i32, BTreeSet<String>>;

#[derive(Debug)]
struct Period {
    grain: String,
    start: i32,
    end: i32,
    year: i32,
    end_year: i32,
    year_first: i32,
    year_last: i32,
}

#[derive(Debug)]
struct County {
    code: String,
    collaboration_area: Option<String>,
}

#[derive(Debug)]
struct Municipality {
    code: String,
    division: Option<String>,
    county: Option<String>,
    collaboration_area: Option<String>,
}

/// Everything of one roll-up.
struct Work {
    frame: Arc<Frame>,
    roll_up: RollUp,
    /// The members of each breakdown, in order.
    members: Vec<Vec<String>>,
    residents: Option<Arc<RecordBatch>>,
    /// The cells of each component.
    cells: BTreeMap<String, PreparedCells>,
    counted: Arc<Counted>,
    /// Cores that may count.
    lanes: usize,
}

impl Engine {
    /// The rows of an indicator's value query, from its components.
    pub(crate) async fn rolled_up(
        &self,
        resolver: &Arc<Resolver>,
        shared: &Shared,
        roll_up: &RollUp,
        cells: BTreeMap<String, PreparedCells>,
    ) -> Result<Vec<RecordBatch>> {
        let frame = shared
            .frame
            .get_or_try_init(|| self.frame(resolver))
            .await?;
        let mut members = Vec::new();
        for list in &roll_up.members {
            let mut words = match &list.from {
                MembersFrom::Values(values) => values.clone(),
                MembersFrom::CodeList(list) => {
                    let sql = format!(
                        "SELECT DISTINCT coalesce(maps_to, code) AS word FROM reference.code WHERE list = '{}'",
                        list.replace('\'', "''")
                    );
                    let rows = self.queried(resolver, shared, &sql).await?;
                    let words = text(&rows, "word")?;
                    words.iter().flatten().map(str::to_owned).collect()
                }
            };
            words.sort_unstable();
            words.dedup();
            members.push(words);
        }
        let residents = match &roll_up.residents {
            Some(residents) => Some(self.queried(resolver, shared, &residents.sql).await?),
            None => None,
        };
        let work = Work {
            frame: Arc::clone(frame),
            roll_up: roll_up.clone(),
            members,
            residents,
            cells,
            counted: Arc::clone(&shared.counted),
            lanes: self.target_partitions(),
        };
        let memory = MemoryConsumer::new("roll-up")
            .register(&resolver.inner_state().runtime_env().memory_pool);
        let measured = spawn_blocking(move || work.measured(memory))
            .await
            .map_err(|error| EngineError::internal_because("a roll-up died", error))??;
        self.values_of(resolver, &shared.formulas, &roll_up.formula_sql, measured)
            .await
    }

    /// The rows of a query, of which several indicators need the same.
    async fn queried(
        &self,
        resolver: &Arc<Resolver>,
        shared: &Shared,
        sql: &str,
    ) -> Result<Arc<RecordBatch>> {
        // The list is held to find a place in it; only who needs the same rows waits for them.
        let place = {
            let queried = shared.queried.lock();
            let mut queried = queried.unwrap_or_else(PoisonError::into_inner);
            Arc::clone(queried.entry(sql.to_owned()).or_default())
        };
        let rows = place
            .get_or_try_init(|| async {
                Ok::<_, EngineError>(Arc::new(self.whole(resolver, sql).await?))
            })
            .await?;
        Ok(Arc::clone(rows))
    }

    /// All rows of a query in one batch of plain types.
    async fn whole(&self, resolver: &Arc<Resolver>, sql: &str) -> Result<RecordBatch> {
        let stream = self.stream(resolver, sql).await?;
        let schema = plain_schema(&stream.schema());
        let batches: Vec<RecordBatch> = stream.try_collect().await?;
        let plain: Result<Vec<RecordBatch>> = batches
            .iter()
            .map(|batch| conform(batch, &schema))
            .collect();
        concat_batches(&schema, &plain?)
            .map_err(|error| EngineError::internal_because("rows of one query", error))
    }

    async fn frame(&self, resolver: &Arc<Resolver>) -> Result<Arc<Frame>> {
        let periods = self.whole(resolver, PERIODS).await?;
        let municipalities = self.whole(resolver, MUNICIPALITIES).await?;
        let counties = self.whole(resolver, COUNTIES).await?;
        let delivered = self.whole(resolver, DELIVERED).await?;
        Ok(Arc::new(Frame {
            calendar: calendar_of(&periods)?,
            periods,
            counties: counties_of(&counties)?,
            municipalities: municipalities_of(&municipalities)?,
            delivered: delivered_of(&delivered)?,
        }))
    }
}

fn lacks(name: &str) -> EngineError {
    EngineError::internal(format!("a roll-up lacks the column `{name}`"))
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    rows.column_by_name(name).ok_or_else(|| lacks(name))
}

/// A column of text.
fn text(rows: &RecordBatch, name: &str) -> Result<StringArray> {
    let column = to_type(column(rows, name)?, &DataType::Utf8)?;
    Ok(column.as_string::<i32>().clone())
}

/// A column of days or years as whole numbers, without nulls.
fn whole_numbers(rows: &RecordBatch, name: &str) -> Result<Vec<i32>> {
    let column = column(rows, name)?;
    let numbers = match column.data_type() {
        DataType::Date32 => column.as_primitive::<Date32Type>().values().to_vec(),
        _ => to_type(column, &DataType::Int32)?
            .as_primitive::<Int32Type>()
            .values()
            .to_vec(),
    };
    if column.null_count() > 0 {
        return Err(EngineError::internal(format!(
            "a roll-up needs a `{name}` in every row"
        )));
    }
    Ok(numbers)
}

fn calendar_of(rows: &RecordBatch) -> Result<Vec<Period>> {
    let grain = text(rows, "grain")?;
    let numbers = |name| whole_numbers(rows, name);
    let (start, end) = (numbers("period_start")?, numbers("period_end")?);
    let (year, end_year) = (numbers("year")?, numbers("end_year")?);
    let (year_first, year_last) = (numbers("year_first")?, numbers("year_last")?);
    let number = |of: &[i32], row: usize| of.get(row).copied().unwrap_or_default();
    Ok(grain
        .iter()
        .enumerate()
        .map(|(row, grain)| Period {
            grain: grain.unwrap_or_default().to_owned(),
            start: number(&start, row),
            end: number(&end, row),
            year: number(&year, row),
            end_year: number(&end_year, row),
            year_first: number(&year_first, row),
            year_last: number(&year_last, row),
        })
        .collect())
}

fn counties_of(rows: &RecordBatch) -> Result<Vec<County>> {
    let (code, area) = (
        text(rows, "county_code")?,
        text(rows, "collaboration_area_code")?,
    );
    let rows = code.iter().zip(&area);
    let counties = rows.filter_map(|(code, area)| {
        Some(County {
            code: code?.to_owned(),
            collaboration_area: area.map(str::to_owned),
        })
    });
    Ok(counties.collect())
}

fn municipalities_of(rows: &RecordBatch) -> Result<BTreeMap<i32, Vec<Municipality>>> {
    let years = whole_numbers(rows, "year")?;
    let code = text(rows, "municipality_code")?;
    let division = text(rows, "division_code")?;
    let county = text(rows, "county_code")?;
    let area = text(rows, "collaboration_area_code")?;
    let mut found: BTreeMap<i32, Vec<Municipality>> = BTreeMap::new();
    let rows = code.iter().zip(&division).zip(&county).zip(&area);
    for (year, (((code, division), county), area)) in years.into_iter().zip(rows) {
        if let Some(code) = code {
            found.entry(year).or_default().push(Municipality {
                code: code.to_owned(),
                division: division.map(str::to_owned),
                county: county.map(str::to_owned),
                collaboration_area: area.map(str::to_owned),
            });
        }
    }
    Ok(found)
}

fn delivered_of(rows: &RecordBatch) -> Result<BTreeMap<String, Months>> {
    let contract = text(rows, "contract")?;
    let county = text(rows, "county_code")?;
    let months = whole_numbers(rows, "month_start")?;
    let mut found: BTreeMap<String, Months> = BTreeMap::new();
    for ((contract, county), month) in contract.iter().zip(&county).zip(months) {
        if let (Some(contract), Some(county)) = (contract, county) {
            let months = found.entry(contract.to_owned()).or_default();
            months.entry(month).or_default().insert(county.to_owned());
        }
    }
    Ok(found)
}

/// Whether a period takes a cell or month.
fn takes(span: Span, period: &Period, cell: &Period) -> bool {
    match span {
        Span::Period => cell.start >= period.start && cell.end <= period.end,
        Span::PeriodEnd => cell.end == period.end,
        Span::PreviousYearEnd => cell.end == period.year_first - 1,
        Span::YearToDate => cell.start >= period.year_first && cell.end <= period.end,
        Span::FullYear => cell.start >= period.year_first && cell.end <= period.year_last,
    }
}

/// The areas of one year.
#[derive(Default)]
struct Areas<'a> {
    /// The areas that a base area belongs to.
    of_base: HashMap<&'a str, Vec<u32>>,
    /// The counties of each area that there is.
    counties: BTreeMap<u32, BTreeSet<&'a str>>,
}

/// Levels and codes of areas, in order; an area is its place here.
type AreaKeys<'a> = BTreeMap<(&'a str, &'a str), u32>;

/// An area of a base area: level, code, base, county.
type AreaMember<'a> = (&'a str, &'a str, &'a str, &'a str);

impl Work {
    fn measured(&self, mut memory: MemoryReservation) -> Result<RecordBatch> {
        let known = self.known()?;
        let reported = self.reported(&known);
        let complete = self.complete(&known, &reported);
        let mut keys = AreaKeys::new();
        let years: BTreeSet<i32> = reported.iter().map(|period| period.year).collect();
        let of_cells = |year| self.area_members(year, self.roll_up.by_municipality);
        for year in &years {
            for (level, area, ..) in of_cells(*year) {
                keys.insert((level, area), 0);
            }
        }
        for (place, (_, number)) in keys.iter_mut().enumerate() {
            *number = u32::try_from(place).unwrap_or(u32::MAX);
        }
        let areas: BTreeMap<i32, Areas<'_>> = years
            .iter()
            .map(|year| (*year, areas_of(of_cells(*year), &keys)))
            .collect();
        let spine = Spine::of(&keys, &areas, &reported);
        let combinations = self.members.iter().map(|members| members.len() + 1);
        let combinations: usize = combinations.product();
        let values = spine.rows.len() * combinations;
        memory.try_grow(values.saturating_mul(self.roll_up.columns.len() + 4) * 24)?;

        let mut measured = Measured::default();
        self.put_keys(
            &mut measured,
            &spine,
            &keys,
            &reported,
            &complete,
            combinations,
        )?;
        self.put_states(
            &mut measured,
            &spine,
            &areas,
            &reported,
            combinations,
            &mut memory,
        )?;
        if let (Some(of), Some(rows)) = (&self.roll_up.residents, &self.residents) {
            self.put_residents(&mut measured, of, rows, &spine, &keys, &reported)?;
        }
        measured.batch()
    }

    /// The months that each county has delivered, of each thing that is needed.
    fn known(&self) -> Result<Vec<Cow<'_, Months>>> {
        let mut known = Vec::new();
        for need in &self.roll_up.needs {
            known.push(match &need.what {
                Needed::Contract(contract) => {
                    let months = self.frame.delivered.get(contract);
                    months.map(Cow::Borrowed).unwrap_or_default()
                }
                Needed::Rows(component) => Cow::Owned(self.months_with_rows(component)?),
            });
        }
        Ok(known)
    }

    /// The months of each county of which a component has rows.
    fn months_with_rows(&self, component: &str) -> Result<Months> {
        let mut months = Months::new();
        let Some(cells) = self.cells.get(component) else {
            return Ok(months);
        };
        let starts = whole_numbers(&cells.rows, "period_start")?;
        let areas = text(&cells.rows, "area")?;
        let pairs: BTreeSet<(i32, &str)> = starts
            .into_iter()
            .zip(&areas)
            .filter_map(|(start, area)| Some((start, area?)))
            .collect();
        let years: BTreeMap<i32, i32> = self
            .frame
            .calendar
            .iter()
            .map(|period| (period.start, period.year))
            .collect();
        for (start, area) in pairs {
            if !self.roll_up.by_municipality {
                months.entry(start).or_default().insert(area.to_owned());
                continue;
            }
            let year = years.get(&start);
            let of_year = year.and_then(|year| self.frame.municipalities.get(year));
            let own = of_year.into_iter().flatten().filter(|own| own.code == area);
            for county in own.filter_map(|own| own.county.as_ref()) {
                months.entry(start).or_default().insert(county.clone());
            }
        }
        Ok(months)
    }

    /// Periods of which at least something is delivered, by grain and start.
    fn reported(&self, known: &[Cow<'_, Months>]) -> Vec<&Period> {
        let months: BTreeSet<i32> = known
            .iter()
            .flat_map(|months| months.keys())
            .copied()
            .collect();
        let wanted = |period: &&Period| {
            let grain = |grain: &Grain| grain.as_str() == period.grain;
            let first = months.range(period.start..).next();
            self.roll_up.grains.iter().any(grain) && first.is_some_and(|month| *month <= period.end)
        };
        self.frame.calendar.iter().filter(wanted).collect()
    }

    /// The counties of each reported period that have delivered everything.
    fn complete<'k>(
        &self,
        known: &'k [Cow<'_, Months>],
        reported: &[&Period],
    ) -> Vec<BTreeSet<&'k str>> {
        let grain = self.roll_up.delivery_grain.as_str();
        let all: Vec<&Period> = self
            .frame
            .calendar
            .iter()
            .filter(|month| month.grain == grain)
            .collect();
        let of_period = |period: &&Period| {
            let mut needed = 0usize;
            let mut delivered: BTreeMap<&'k str, usize> = BTreeMap::new();
            for (need, known) in self.roll_up.needs.iter().zip(known) {
                for month in all.iter().filter(|month| takes(need.span, period, month)) {
                    needed += 1;
                    for county in known.get(&month.start).into_iter().flatten() {
                        *delivered.entry(county).or_default() += 1;
                    }
                }
            }
            let all = delivered
                .into_iter()
                .filter(|(_, months)| *months == needed);
            all.map(|(county, _)| county).collect()
        };
        reported.iter().map(of_period).collect()
    }

    /// Every area of the levels with its base areas, in the division of a year.
    fn area_members(&self, year: i32, by_municipality: bool) -> Vec<AreaMember<'_>> {
        let frame = &self.frame;
        let without = self.roll_up.without_county;
        let mut found: Vec<AreaMember<'_>> = Vec::new();
        for level in &self.roll_up.levels {
            if by_municipality {
                for own in frame.municipalities.get(&year).into_iter().flatten() {
                    let area = match level {
                        Level::Municipality => own.division.as_deref(),
                        Level::County => own.county.as_deref(),
                        Level::CollaborationArea => own.collaboration_area.as_deref(),
                        Level::Country => Some(COUNTRY),
                    };
                    if let (Some(area), Some(county)) = (area, own.county.as_deref())
                        && Some(county) != without
                    {
                        found.push((level.as_str(), area, &own.code, county));
                    }
                }
            } else {
                for own in frame
                    .counties
                    .iter()
                    .filter(|own| Some(own.code.as_str()) != without)
                {
                    let area = match level {
                        Level::Municipality | Level::County => Some(own.code.as_str()),
                        Level::CollaborationArea => own.collaboration_area.as_deref(),
                        Level::Country => Some(COUNTRY),
                    };
                    if let Some(area) = area {
                        found.push((level.as_str(), area, &own.code, &own.code));
                    }
                }
            }
        }
        found
    }

    /// The columns that say which value a row is, and whether everything was delivered.
    fn put_keys(
        &self,
        measured: &mut Measured,
        spine: &Spine<'_>,
        keys: &AreaKeys<'_>,
        reported: &[&Period],
        complete: &[BTreeSet<&str>],
        combinations: usize,
    ) -> Result<()> {
        let rows = &spine.rows;
        let each = |of: &dyn Fn(&SpineRow<'_>) -> u32| -> UInt32Array {
            let numbers = rows.iter().map(of);
            let repeated = numbers.flat_map(|number| std::iter::repeat_n(number, combinations));
            repeated.collect::<Vec<u32>>().into()
        };
        let levels: StringArray = keys.keys().map(|(level, _)| Some(*level)).collect();
        let codes: StringArray = keys.keys().map(|(_, area)| Some(*area)).collect();
        let areas = each(&|row| row.area);
        measured.put("area_level", taken(&levels, &areas)?);
        measured.put("area", taken(&codes, &areas)?);
        // Where the reported periods stand in the calendar, whose order they keep.
        let mut calendar = (0u32..).zip(&self.frame.calendar);
        let mut places = Vec::with_capacity(reported.len());
        for period in reported {
            let found = calendar.find(|(_, known)| std::ptr::eq(*known, *period));
            places.push(found.map_or(0, |(place, _)| place));
        }
        let periods = each(&|row| places.get(row.period).copied().unwrap_or_default());
        for name in ["grain", "period_start", "label", "days", "year_days"] {
            measured.put(name, taken(column(&self.frame.periods, name)?, &periods)?);
        }
        let whole = rows.iter().map(|row| {
            let delivered = complete.get(row.period);
            let all = |known: &BTreeSet<&str>| row.counties.iter().all(|own| known.contains(own));
            delivered.is_some_and(all)
        });
        let whole: BooleanArray = whole
            .flat_map(|whole| std::iter::repeat_n(Some(whole), combinations))
            .collect();
        measured.put("complete", Arc::new(whole));
        let mut stride = combinations;
        for (list, members) in self.roll_up.members.iter().zip(&self.members) {
            let size = members.len() + 1;
            stride /= size;
            let words = members.iter().map(|word| Some(word.as_str())).chain([None]);
            let words: StringArray = words.collect();
            let of_row = (0..combinations).map(|combination| (combination / stride % size) as u32);
            let of_row: Vec<u32> = of_row.collect();
            let all: Vec<u32> = rows.iter().flat_map(|_| &of_row).copied().collect();
            measured.put(&list.name, taken(&words, &all.into())?);
        }
        Ok(())
    }

    /// The columns of merged cells.
    fn put_states(
        &self,
        measured: &mut Measured,
        spine: &Spine<'_>,
        areas: &BTreeMap<i32, Areas<'_>>,
        reported: &[&Period],
        combinations: usize,
        memory: &mut MemoryReservation,
    ) -> Result<()> {
        let coded = self.coded_cells()?;
        let mut targets: BTreeMap<Span, CellTargets> = BTreeMap::new();
        for column in &self.roll_up.columns {
            if !targets.contains_key(&column.span) {
                let places = self.places(&coded, column.span, spine, areas, reported);
                let members = self.combinations();
                let rows = spine.rows.len();
                let made = CellTargets::new(places, members, rows, combinations)?;
                targets.insert(column.span, made);
            }
        }
        let mut people: BTreeMap<&str, People<'_>> = BTreeMap::new();
        let mut care_days: BTreeMap<&str, CareDayCounts> = BTreeMap::new();
        for column in &self.roll_up.columns {
            let lost = || EngineError::internal("a roll-up lost a component");
            let cells = self.cells.get(&column.component).ok_or_else(lost)?;
            let keys = coded.of.get(&column.component).ok_or_else(lost)?;
            let targets = targets.get(&column.span).ok_or_else(lost)?;
            let values: ArrayRef = match column.merge {
                Merge::Sum => {
                    let amounts = to_type(self::column(&cells.rows, "n")?, &DataType::Int64)?;
                    Arc::new(targets.sums(keys.as_keys(), amounts.as_primitive::<Int64Type>())?)
                }
                Merge::Histogram => {
                    let states = binary(&cells.rows, "hist")?;
                    Arc::new(targets.histograms(keys.as_keys(), &states)?)
                }
                Merge::CareDays | Merge::CareDayPersons => {
                    let own = match care_days.entry(column.component.as_str()) {
                        Entry::Occupied(known) => known.into_mut(),
                        Entry::Vacant(place) => {
                            let states = binary(&cells.rows, "hist")?;
                            let reserve = |bytes| memory.try_grow(bytes);
                            let keys = keys.as_keys();
                            place.insert(targets.care_days(keys, &states, self.lanes, reserve)?)
                        }
                    };
                    match column.merge {
                        Merge::CareDays => Arc::new(own.days.clone()),
                        _ => Arc::new(own.persons.clone()),
                    }
                }
                Merge::Distinct => {
                    let people = match people.entry(column.component.as_str()) {
                        Entry::Occupied(known) => known.into_mut(),
                        Entry::Vacant(place) => place.insert(People::of(keys, cells)?),
                    };
                    people.counted(targets, &self.counted, self.lanes, memory)?
                }
            };
            measured.put(&column.name, values);
        }
        Ok(())
    }

    /// Numbers for the base areas, periods and members of all cells.
    fn coded_cells(&self) -> Result<CodedCells> {
        let mut coded = CodedCells::default();
        let mut bases: HashMap<String, u32> = HashMap::new();
        let mut starts: HashMap<i32, u32> = HashMap::new();
        let mut pairs: HashMap<(u32, u32), u32> = HashMap::new();
        for (component, cells) in &self.cells {
            let days = whole_numbers(&cells.rows, "period_start")?;
            let names = text(&cells.rows, "area")?;
            let mut keys = Keys {
                places: Vec::with_capacity(days.len()),
                members: vec![0; days.len()],
            };
            let mut last: Option<(Option<&str>, i32, u32)> = None;
            for (name, start) in names.iter().zip(&days) {
                let place = match last {
                    Some((known, day, place)) if known == name && day == *start => place,
                    _ => {
                        let name = name.unwrap_or_default();
                        let next = bases.len() as u32;
                        let base = match bases.get(name) {
                            Some(base) => *base,
                            None => {
                                bases.insert(name.to_owned(), next);
                                coded.bases.push(name.to_owned());
                                next
                            }
                        };
                        let next = starts.len() as u32;
                        let day = *starts.entry(*start).or_insert_with(|| {
                            coded.starts.push(*start);
                            next
                        });
                        let next = pairs.len() as u32;
                        *pairs.entry((base, day)).or_insert_with(|| {
                            coded.pairs.push((base, day));
                            next
                        })
                    }
                };
                last = Some((name, *start, place));
                keys.places.push(place);
            }
            for (list, members) in self.roll_up.members.iter().zip(&self.members) {
                let own = text(&cells.rows, &list.name)?;
                let numbers: HashMap<&str, u32> = (0u32..)
                    .zip(members)
                    .map(|(number, word)| (word.as_str(), number))
                    .collect();
                let size = members.len() as u32 + 1;
                let mut last: Option<(Option<&str>, u32)> = None;
                for (tuple, word) in keys.members.iter_mut().zip(&own) {
                    let number = match last {
                        Some((known, number)) if known == word => number,
                        // A word that is no member counts in totals only.
                        _ => word
                            .and_then(|word| numbers.get(word))
                            .copied()
                            .unwrap_or(size - 1),
                    };
                    last = Some((word, number));
                    *tuple = *tuple * size + number;
                }
            }
            coded.of.insert(component.clone(), keys);
        }
        Ok(coded)
    }

    /// By place of a cell, the rows of the result that it counts in.
    fn places(
        &self,
        coded: &CodedCells,
        span: Span,
        spine: &Spine<'_>,
        areas: &BTreeMap<i32, Areas<'_>>,
        reported: &[&Period],
    ) -> Lists {
        let grain = self.roll_up.cell_grain.as_str();
        let cells: BTreeMap<i32, &Period> = self
            .frame
            .calendar
            .iter()
            .filter(|cell| cell.grain == grain)
            .map(|cell| (cell.start, cell))
            .collect();
        // The reported periods that take the cells of a start.
        let periods: Vec<Vec<usize>> = coded
            .starts
            .iter()
            .map(|start| match cells.get(start) {
                Some(cell) => {
                    let all = reported.iter().enumerate();
                    let taking = all.filter(|(_, period)| takes(span, period, cell));
                    taking.map(|(place, _)| place).collect()
                }
                None => Vec::new(),
            })
            .collect();
        let mut places = Lists::default();
        for (base, start) in &coded.pairs {
            let base = coded.bases.get(*base as usize).map(String::as_str);
            let periods = periods.get(*start as usize).into_iter().flatten();
            places.push(periods.flat_map(|place| {
                let year = reported.get(*place).map(|period| period.year);
                let of_year = year.and_then(|year| areas.get(&year));
                let own = of_year.and_then(|areas| areas.of_base.get(base.unwrap_or_default()));
                let own = own.into_iter().flatten();
                own.filter_map(|area| spine.row(*area, *place))
            }));
        }
        places
    }

    /// By tuple of members, the combinations that it counts in: each member, or all of them.
    fn combinations(&self) -> Lists {
        let sizes: Vec<u32> = self
            .members
            .iter()
            .map(|members| members.len() as u32 + 1)
            .collect();
        let tuples: u32 = sizes.iter().product();
        let mut lists = Lists::default();
        for tuple in 0..tuples {
            let mut combinations = vec![0u32];
            let mut stride = tuples;
            for size in &sizes {
                stride /= size;
                let (member, total) = (tuple / stride % size, size - 1);
                combinations = combinations
                    .iter()
                    .flat_map(|before| {
                        let own = (member != total).then_some(before * size + member);
                        own.into_iter().chain([before * size + total])
                    })
                    .collect();
            }
            lists.push(combinations);
        }
        lists
    }

    /// The residents of every row, divided as the values are.
    fn put_residents(
        &self,
        measured: &mut Measured,
        of: &Residents,
        rows: &RecordBatch,
        spine: &Spine<'_>,
        keys: &AreaKeys<'_>,
        reported: &[&Period],
    ) -> Result<()> {
        let years = whole_numbers(rows, "year")?;
        let municipalities = text(rows, "municipality_code")?;
        let statuses = text(rows, "obs_status")?;
        let numbers = to_type(column(rows, "population")?, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        // Breakdowns that divide residents too, and the member of every row.
        let divided: Vec<Option<usize>> = self
            .roll_up
            .members
            .iter()
            .map(|list| {
                of.by
                    .iter()
                    .position(|(breakdown, _)| *breakdown == list.name)
            })
            .collect();
        let mut lists = Vec::new();
        for (list, divided) in self.members.iter().zip(&divided) {
            let Some((_, column)) = divided.and_then(|place| of.by.get(place)) else {
                continue;
            };
            let words = text(rows, column)?;
            let member = |word: Option<&str>| {
                let place = list.iter().position(|member| Some(member.as_str()) == word);
                place.unwrap_or(list.len())
            };
            lists.push((list.len() + 1, words.iter().map(member).collect::<Vec<_>>()));
        }
        let combinations: usize = lists.iter().map(|(size, _)| size).product();
        let mut by_year: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for (row, year) in years.iter().enumerate() {
            by_year.entry(*year).or_default().push(row);
        }
        let mut counted: BTreeMap<(i32, i32), Vec<Count<'_>>> = BTreeMap::new();
        for period in reported {
            let key = population_key(of, period);
            if counted.contains_key(&key) {
                continue;
            }
            let mut counts = vec![Count::default(); keys.len() * combinations];
            let areas = areas_of(self.area_members(period.year, true), keys);
            for row in by_year.get(&key.1).into_iter().flatten() {
                let (row, municipality) = (*row, municipalities.value(*row));
                let mut targets = vec![0usize];
                for (size, members) in &lists {
                    let total = size - 1;
                    let member = members.get(row).copied().unwrap_or(total);
                    targets = targets
                        .iter()
                        .flat_map(|before| {
                            let own = (member != total).then_some(before * size + member);
                            own.into_iter().chain([before * size + total])
                        })
                        .collect();
                }
                for area in areas.of_base.get(municipality).into_iter().flatten() {
                    for target in &targets {
                        let place = *area as usize * combinations + target;
                        if let Some(count) = counts.get_mut(place) {
                            let number = numbers.is_valid(row).then(|| numbers.value(row));
                            let status = statuses.is_valid(row).then(|| statuses.value(row));
                            count.add(number, status)?;
                        }
                    }
                }
            }
            counted.insert(key, counts);
        }
        // The combination of residents of each combination of members.
        let mut of_combination = vec![0usize];
        for (members, divided) in self.members.iter().zip(&divided) {
            let size = members.len() + 1;
            of_combination = of_combination
                .iter()
                .flat_map(|before| {
                    (0..size).map(move |member| match divided {
                        Some(_) => before * size + member,
                        None => *before,
                    })
                })
                .collect();
        }
        let mut residents = Vec::with_capacity(spine.rows.len() * of_combination.len());
        let mut status = Vec::with_capacity(residents.capacity());
        for row in &spine.rows {
            let period = reported.get(row.period);
            let counts = period.and_then(|period| counted.get(&population_key(of, period)));
            for combination in &of_combination {
                let place = row.area as usize * combinations + combination;
                let count = counts.and_then(|counts| counts.get(place));
                residents.push(count.and_then(|count| count.residents));
                status.push(count.and_then(|count| count.status));
            }
        }
        measured.put("residents", Arc::new(Int64Array::from(residents)));
        measured.put("residents_status", Arc::new(StringArray::from(status)));
        Ok(())
    }
}

/// The year of the areas and the year of the residents.
fn population_key(of: &Residents, period: &Period) -> (i32, i32) {
    match of.of_previous_year {
        true => (period.year, period.year - 1),
        false => (period.year, period.end_year),
    }
}

/// Residents of an area, and the highest status of their rows.
#[derive(Debug, Default, Clone, Copy)]
struct Count<'a> {
    residents: Option<i64>,
    status: Option<&'a str>,
}

impl<'a> Count<'a> {
    fn add(&mut self, residents: Option<i64>, status: Option<&'a str>) -> Result<()> {
        if let Some(more) = residents {
            let sum = self.residents.unwrap_or_default().checked_add(more);
            self.residents = Some(sum.ok_or_else(|| {
                EngineError::internal("the number of residents does not fit in 64 bits")
            })?);
        }
        self.status = self.status.max(status);
        Ok(())
    }
}

fn areas_of<'a>(members: Vec<AreaMember<'a>>, keys: &AreaKeys<'_>) -> Areas<'a> {
    let mut areas = Areas::default();
    for (level, area, base, county) in members {
        if let Some(number) = keys.get(&(level, area)) {
            let of_base = areas.of_base.entry(base).or_default();
            if !of_base.contains(number) {
                of_base.push(*number);
            }
            areas.counties.entry(*number).or_default().insert(county);
        }
    }
    areas
}

/// The rows of the result: every area and every reported period of a year in which there is the area.
struct Spine<'a> {
    rows: Vec<SpineRow<'a>>,
    places: HashMap<(u32, usize), u32>,
}

struct SpineRow<'a> {
    area: u32,
    /// The place of the period among the reported ones.
    period: usize,
    counties: &'a BTreeSet<&'a str>,
}

impl<'a> Spine<'a> {
    fn of(keys: &AreaKeys<'_>, areas: &'a BTreeMap<i32, Areas<'a>>, reported: &[&Period]) -> Self {
        let mut spine = Self {
            rows: Vec::new(),
            places: HashMap::new(),
        };
        for area in keys.values() {
            for (place, period) in reported.iter().enumerate() {
                let of_year = areas.get(&period.year);
                let Some(counties) = of_year.and_then(|areas| areas.counties.get(area)) else {
                    continue;
                };
                let row = u32::try_from(spine.rows.len()).unwrap_or(u32::MAX);
                spine.places.insert((*area, place), row);
                spine.rows.push(SpineRow {
                    area: *area,
                    period: place,
                    counties,
                });
            }
        }
        spine
    }

    fn row(&self, area: u32, period: usize) -> Option<u32> {
        self.places.get(&(area, period)).copied()
    }
}

/// Cells as numbers.
#[derive(Default)]
struct CodedCells {
    bases: Vec<String>,
    starts: Vec<i32>,
    /// Base area and start of each place.
    pairs: Vec<(u32, u32)>,
    of: BTreeMap<String, Keys>,
}

#[derive(Hash)]
struct Keys {
    places: Vec<u32>,
    members: Vec<u32>,
}

impl Keys {
    fn as_keys(&self) -> CellKeys<'_> {
        CellKeys {
            places: &self.places,
            members: &self.members,
        }
    }
}

/// The sets of a component's cells.
struct People<'a> {
    keys: &'a Keys,
    sets: SetsOf<'a>,
    digest: Digest,
}

enum SetsOf<'a> {
    /// As they were stored.
    States(BinaryArray),
    /// Ready to be counted.
    Found(&'a MemberNumbers),
    Numbered(MemberNumbers),
}

impl<'a> People<'a> {
    fn of(keys: &'a Keys, cells: &'a PreparedCells) -> Result<Self> {
        let mut digest = Digest::default();
        keys.hash(&mut digest);
        let sets = match &cells.sets {
            Some(sets) => {
                sets.hash(&mut digest);
                SetsOf::Found(sets)
            }
            None => {
                let states = binary(&cells.rows, "persons")?;
                states.value_offsets().hash(&mut digest);
                states.value_data().hash(&mut digest);
                let nulls = states.nulls().map(|nulls| nulls.iter().collect::<Vec<_>>());
                nulls.hash(&mut digest);
                SetsOf::States(states)
            }
        };
        Ok(Self { keys, sets, digest })
    }

    /// The distinct members of each value.
    fn counted(
        &mut self,
        targets: &CellTargets,
        counted: &Counted,
        lanes: usize,
        memory: &mut MemoryReservation,
    ) -> Result<ArrayRef> {
        let mut digest = self.digest.clone();
        targets.hash(&mut digest);
        counted.of(digest, || {
            if let SetsOf::States(states) = &self.sets {
                memory.try_grow(MemberNumbers::heap_bytes(states))?;
                self.sets = SetsOf::Numbered(MemberNumbers::of(states)?);
            }
            let numbers = match &self.sets {
                SetsOf::Found(numbers) => numbers,
                SetsOf::Numbered(numbers) => numbers,
                SetsOf::States(_) => return Err(EngineError::internal("a roll-up lost a set")),
            };
            Ok(Arc::new(targets.distinct(
                self.keys.as_keys(),
                numbers,
                lanes,
            )?))
        })
    }
}

/// A digest of what is counted, and in which values: what has the same gives the same.
#[derive(Debug, Clone, Default)]
struct Digest(blake3::Hasher);

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let whole = self.0.finalize();
        let first = whole.as_bytes().first_chunk::<8>();
        first.map_or(0, |first| u64::from_le_bytes(*first))
    }
}

/// Counts of a run: indicators of the same persons by the same areas, periods and members, such as the
/// visits and the costs of a service, count them once.
#[derive(Debug)]
struct Counted {
    memory: MemoryReservation,
    known: Mutex<BTreeMap<[u8; 32], Arc<Mutex<Option<ArrayRef>>>>>,
}

impl Counted {
    /// What was counted of this, or what `count` gives. Who asks for what another counts waits for it.
    fn of(&self, digest: Digest, count: impl FnOnce() -> Result<ArrayRef>) -> Result<ArrayRef> {
        let place = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(*digest.0.finalize().as_bytes()).or_default())
        };
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counted) = &*place {
            return Ok(Arc::clone(counted));
        }
        let counted = count()?;
        // Without room it is counted again.
        if self
            .memory
            .try_grow(counted.get_array_memory_size())
            .is_ok()
        {
            *place = Some(Arc::clone(&counted));
        }
        Ok(counted)
    }
}

fn binary(cells: &RecordBatch, name: &str) -> Result<BinaryArray> {
    let column = to_type(column(cells, name)?, &DataType::Binary)?;
    Ok(column.as_binary::<i32>().clone())
}

fn taken(values: &dyn Array, places: &UInt32Array) -> Result<ArrayRef> {
    take(values, places, None)
        .map_err(|error| EngineError::internal_because("the rows of a roll-up", error))
}

/// The columns of the result.
#[derive(Default)]
struct Measured {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl Measured {
    fn put(&mut self, name: &str, values: ArrayRef) {
        self.fields
            .push(Field::new(name, values.data_type().clone(), true));
        self.columns.push(values);
    }

    fn batch(self) -> Result<RecordBatch> {
        RecordBatch::try_new(Arc::new(Schema::new(self.fields)), self.columns)
            .map_err(|error| EngineError::internal_because("the columns of a roll-up", error))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    fn counted(bytes: usize) -> Counted {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(bytes));
        Counted {
            memory: MemoryConsumer::new("test").register(&pool),
            known: Mutex::default(),
        }
    }

    fn keys(places: &[u32]) -> Keys {
        Keys {
            places: places.to_vec(),
            members: vec![0; places.len()],
        }
    }

    /// Cells with these sets, each of pseudonyms that are one byte over and over.
    fn cells(sets: &[&[u8]], numbered: bool) -> PreparedCells {
        let states = sets.iter().map(|set| {
            let members = set.iter().flat_map(|member| [*member; 16]);
            members.collect::<Vec<u8>>()
        });
        let states = BinaryArray::from_iter_values(states);
        let sets = numbered.then(|| Arc::new(MemberNumbers::of(&states).unwrap()));
        let rows = RecordBatch::try_from_iter([("persons", Arc::new(states) as ArrayRef)]);
        PreparedCells {
            rows: rows.unwrap(),
            sets,
        }
    }

    fn targets(rows: usize) -> CellTargets {
        let (mut places, mut members) = (Lists::default(), Lists::default());
        (0..2).for_each(|_| places.push((0..rows as u32).collect::<Vec<_>>()));
        members.push([0]);
        CellTargets::new(places, members, rows, 1).unwrap()
    }

    #[test]
    fn the_same_persons_in_the_same_values_are_counted_once() {
        let counted = counted(1 << 20);
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 20));
        let known = || {
            let known = counted.known.lock().unwrap();
            known.len()
        };
        // Sets, places, rows of the result, whether they are numbered, persons in each row, counts so far.
        type Case<'a> = (&'a [&'a [u8]], [u32; 2], usize, bool, i64, usize);
        let cases: [Case<'_>; 9] = [
            (&[&[1, 2], &[2, 3]], [0, 1], 1, true, 3, 1),
            (&[&[1, 2], &[2, 3]], [0, 1], 1, true, 3, 1),
            (&[&[1, 2], &[2, 3]], [0, 1], 1, false, 3, 2),
            (&[&[1, 2], &[2, 3]], [0, 1], 1, false, 3, 2),
            (&[&[1, 2], &[2, 4]], [0, 1], 1, true, 3, 3),
            (&[&[1], &[2, 2, 3]], [0, 1], 1, false, 3, 4),
            (&[&[1, 2], &[2, 3]], [0, 1], 2, true, 3, 5),
            (&[&[1, 2], &[2, 3]], [0, 5], 1, true, 2, 6),
            (&[&[], &[]], [0, 1], 1, false, 0, 7),
        ];
        for (sets, places, rows, numbered, persons, counts) in cases {
            let (keys, cells) = (keys(&places), cells(sets, numbered));
            let mut memory = MemoryConsumer::new("test").register(&pool);
            let mut people = People::of(&keys, &cells).unwrap();
            let found = people.counted(&targets(rows), &counted, 2, &mut memory);
            let wanted: ArrayRef = Arc::new(Int64Array::from(vec![persons; rows]));
            assert_eq!(&found.unwrap(), &wanted, "{sets:?} {places:?}");
            assert_eq!(known(), counts, "{sets:?} {places:?} {rows} {numbered}");
        }
    }

    #[test]
    fn without_room_persons_are_counted_again() {
        for (bytes, times) in [(1 << 20, 1), (8, 3)] {
            let counted = counted(bytes);
            let mut found = 0;
            for _ in 0..3 {
                let count = || {
                    found += 1;
                    Ok(Arc::new(Int64Array::from(vec![7])) as ArrayRef)
                };
                let count = counted.of(Digest::default(), count).unwrap();
                assert_eq!(count.as_primitive::<Int64Type>().values(), &[7]);
            }
            assert_eq!(found, times, "{bytes} bytes");
        }
        // Who fails leaves nothing to the next.
        let counted = counted(1 << 20);
        let fails = || Err(EngineError::internal("no count"));
        assert!(counted.of(Digest::default(), fails).is_err());
        let count = || Ok(Arc::new(Int64Array::from(vec![7])) as ArrayRef);
        assert!(counted.of(Digest::default(), count).is_ok());
    }
}
