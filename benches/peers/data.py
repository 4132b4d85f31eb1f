"""The extracts that the lake of the benches is made of: artificial, skewed, seasonal, from a seed.

Here: what the rows of each source look like, and writing them as Parquet, one file for each
delivery, a part at a time, so that memory does not grow with the rows. Not here: landing them, and
what is asked of them. To add a source: a function that yields deliveries, named in SOURCES.

Every person is artificial: identity codes have individual numbers 900-999, which are given to
nobody. The same seed and number of rows give the same files.
"""

import csv
import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

YEARS = (2023, 2024, 2025)
LEDGER_YEAR = 2025
PART = 250_000
UNITS = 60
COST_CENTRES = 150
EPOCH = datetime.date(1970, 1, 1)
CONTROL = np.frombuffer(b"0123456789ABCDEFHJKLMNPRSTUVWXY", dtype=np.uint8)
SIGNS = {19: b"-YXWVU", 20: b"ABCDEF"}

CLASSES = np.array("1100 1200 1300 1400 2100 2200 2300 2400 3100 3200 3300 3400 5000 6000".split())
CLASS_SHARE = np.array([26, 3, 9, 15, 2, 1, 4, 6, 22, 5, 2, 2, 2, 1], dtype=float)
CLASS_CENTS = np.array([9_500, 31_000, 11_000, 42_000, 14_000, 38_000, 15_500, 8_800, 5_200, 19_000, 26_000,
                        7_100, 31_000, 2_500])
CLASS_WAIT = np.array([11, 4, 35, 48, 6, 3, 21, 12, 5, 40, 18, 9, 1, 2], dtype=float)
MODES = np.array(["1", "2", "3", "4"])
MODE_SHARE = np.array([0.70, 0.08, 0.16, 0.06])
CARE = np.array(["YPA", "LAI", "PHO", "KOT", "LSS"])
MONTH_WEIGHT = np.array([1.08, 1.00, 1.09, 1.02, 1.01, 0.86, 0.62, 0.93, 1.07, 1.10, 1.06, 0.86])


def day(year, month, date):
    """Days since 1970."""
    return (datetime.date(year, month, date) - EPOCH).days


def unit_codes():
    """Codes of the units, the same in every county."""
    return [f"YKS{number:03d}" for number in range(1, UNITS + 1)]


def cost_centres():
    """Codes of the cost centres, the same in every county."""
    return [f"KP{4000 + number}" for number in range(COST_CENTRES)]


def code_list(codes, name):
    """A code list as the text of its file."""
    rows = [f"{code},{name} {code},{name} {code},{name} {code},,,{code}" for code in codes]
    return "code,name_fi,name_sv,name_en,valid_from,valid_to,maps_to\n" + "\n".join(rows) + "\n"


def _read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Country:
    """Organisers, their municipalities and how many live in them, from the reference data."""

    def __init__(self, repository):
        regions = _read(repository / "reference/regions/kunnat_hyvinvointialueittain_2022_2026.csv")
        people = {row["municipality_code"]: int(row["population_3112"])
                  for row in _read(repository / "reference/population/vaesto_kunnittain_2000_2022.csv")
                  if row["year"] == "2022"}
        in_year = {year: {r["municipality_code"]: r["hva_code"] for r in regions if r["year"] == str(year)}
                   for year in YEARS}
        stays = {code: county for code, county in in_year[YEARS[0]].items()
                 if all(in_year[year].get(code) == county for year in YEARS) and county != "91" and code in people}
        self.counties = sorted(set(stays.values()))
        self.municipalities, self.weights = [], []
        for county in self.counties:
            own = sorted(code for code, of in stays.items() if of == county)
            weights = np.array([people[code] for code in own], dtype=float)
            self.municipalities.append(np.array(own))
            self.weights.append(weights)
        self.share = np.array([weights.sum() for weights in self.weights])
        self.share /= self.share.sum()


def identity_codes(births, rng):
    """Distinct artificial identity codes, as bytes of 11, for days of birth in any order."""
    order = np.argsort(births, kind="stable")
    ordered = births[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]]
    place = np.arange(len(births)) - np.maximum.accumulate(np.where(first, np.arange(len(births)), 0))
    if place.max(initial=0) >= 600:
        raise SystemExit("too many persons are born on one day: ask for fewer rows")
    dates = ordered.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    years = dates.astype("datetime64[Y]")
    year = years.astype(int) + 1970
    month = (months - years).astype(int) + 1
    date = (dates - months).astype(int) + 1
    individual = 900 + place % 100
    turn = place // 100
    sign = np.where(year < 2000, np.frombuffer(SIGNS[19], np.uint8)[turn], np.frombuffer(SIGNS[20], np.uint8)[turn])
    rest = ((date * 100 + month) * 100 + year % 100) * 1000 + individual
    codes = np.empty((len(births), 11), dtype=np.uint8)
    for at, number in ((0, date), (2, month), (4, year % 100)):
        codes[:, at] = 48 + number // 10
        codes[:, at + 1] = 48 + number % 10
    codes[:, 6] = sign
    codes[:, 7] = 48 + individual // 100
    codes[:, 8] = 48 + individual // 10 % 10
    codes[:, 9] = 48 + individual % 10
    codes[:, 10] = CONTROL[rest % 31]
    out = np.empty_like(codes)
    out[order] = codes
    return out


class People:
    """The persons of every county: identity code, home municipality, and who moves at midsummer."""

    def __init__(self, country, rows, rng):
        count = min(max(rows // 12, 4_000), 6_000_000)
        sizes = np.maximum(rng.multinomial(count, country.share), 20)
        count = int(sizes.sum())
        age = np.where(rng.random(count) < 0.45, rng.normal(72, 13, count), rng.uniform(0, 95, count))
        # Who would be too old is as much younger, so that nobody gathers on one day of birth.
        age = np.abs(np.where(age > 104, 208 - age, age))
        births = day(2022, 12, 31) - (age * 365.25).astype(int)
        self.codes = identity_codes(births, rng)
        ends = np.cumsum(sizes)
        self.of = [slice(end - size, end) for end, size in zip(ends, sizes)]
        self.home = [rng.choice(len(w), size, p=w / w.sum()).astype(np.int16)
                     for w, size in zip(country.weights, sizes)]
        self.next_home = [np.where(rng.random(size) < 0.03, rng.integers(0, len(w), size), home).astype(np.int16)
                          for w, size, home in zip(country.weights, sizes, self.home)]


def _text(values):
    return pa.array(values, type=pa.string())


def _picked(choices, places):
    """A column of few values, without a Python object for each row."""
    return pa.DictionaryArray.from_arrays(pa.array(places.astype(np.int32)), _text(list(choices))).cast(pa.string())


def _codes(codes):
    flat = np.ascontiguousarray(codes).tobytes()
    fixed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(11), len(codes), [None, pa.py_buffer(flat)])
    return fixed.cast(pa.binary()).cast(pa.string())


def _dates(days, missing=None):
    return pa.array(days.astype("datetime64[D]"), mask=missing, type=pa.date32())


def _decimal(hundredths, digits):
    wide = np.empty((len(hundredths), 2), dtype=np.int64)
    wide[:, 0] = hundredths
    wide[:, 1] = np.asarray(hundredths, dtype=np.int64) >> 63
    return pa.Array.from_buffers(pa.decimal128(digits, 2), len(hundredths), [None, pa.py_buffer(wide.tobytes())])


def _write(path, parts):
    """Writes the parts of one delivery; gives the number of rows."""
    rows, writer = 0, None
    for part in parts:
        batch = pa.RecordBatch.from_pydict(part)
        if writer is None:
            writer = pq.ParquetWriter(path, batch.schema, compression="snappy")
        writer.write_batch(batch)
        rows += batch.num_rows
    if writer is not None:
        writer.close()
    return rows


def _spans(rows):
    return [(at, min(at + PART, rows)) for at in range(0, rows, PART)]


def _shares(total, weights, rng):
    return rng.multinomial(total, weights / weights.sum())


def _who(people, at, size, rng):
    """Places of persons within a county: few of them use a great part of the services."""
    members = people.of[at]
    return (len(people.home[at]) * rng.random(size) ** 2.2).astype(np.int64), members


def care_events(country, people, rows, rng):
    """Care events: the table that most questions are asked of."""
    yearly = np.array([0.31, 0.33, 0.36])
    number = 0
    for at, of_county in enumerate(_shares(rows, country.share, rng)):
        for year, count in zip(YEARS, _shares(int(of_county), yearly, rng)):
            count = max(int(count), 1)
            begin, end = day(year, 1, 1), day(year + 1, 1, 1)
            all_days = np.arange(begin, end)
            months = (all_days.astype("datetime64[D]").astype("datetime64[M]").astype(int)) % 12
            weekday = (all_days + 3) % 7
            weights = MONTH_WEIGHT[months] * np.where(weekday >= 5, 0.35, 1.0)
            days = np.repeat(all_days, _shares(count, weights, rng))

            def parts(days=days, at=at, year=year, number=number):
                for first, last in _spans(len(days)):
                    on, size = days[first:last], last - first
                    place, members = _who(people, at, size, rng)
                    service = rng.choice(len(CLASSES), size, p=CLASS_SHARE / CLASS_SHARE.sum())
                    units = np.minimum(rng.geometric(0.45, size), 40)
                    cents = (units * CLASS_CENTS[service] * rng.lognormal(0, 0.35, size)).astype(np.int64)
                    waited = np.minimum(rng.gamma(1.6, CLASS_WAIT[service] / 1.6).astype(np.int64), 400)
                    home = np.where(on < day(year, 7, 1), people.home[at][place], people.next_home[at][place])
                    own = country.municipalities[at]
                    towns = _picked(own, home)
                    away = rng.random(size) < 0.015
                    if away.any():
                        other = country.municipalities[(at + 1) % len(country.counties)]
                        towns = _picked(np.r_[own, other], np.where(away, len(own) + home % len(other), home))
                    yield {
                        "tapahtumanumero": pa.array(np.arange(number + first, number + last, dtype=np.int64)),
                        "henkilotunnus": _codes(people.codes[members][place]),
                        "kotikunta": towns,
                        "tapahtumapvm": _dates(on),
                        "lahetepvm": _dates(on - waited, missing=rng.random(size) < 0.3),
                        "palveluluokka": _picked(CLASSES, service),
                        "tuotantotapa": _picked(MODES, rng.choice(len(MODES), size, p=MODE_SHARE)),
                        "yksikko": _picked(unit_codes(), rng.integers(0, UNITS, size)),
                        "suoritteet": pa.array(units.astype(np.int32)),
                        "kustannus_euro": _decimal(cents, 12),
                    }

            number += len(days)
            yield country.counties[at], str(year), parts()


def care_spells(country, people, rows, rng):
    """Spells of care; spells of one person overlap now and then."""
    number = 0
    last_day = day(YEARS[-1], 12, 31)
    for at, count in enumerate(_shares(rows // 10, country.share, rng)):
        started = rng.integers(day(2022, 7, 1), last_day + 1, max(int(count), 10))
        length = np.where(rng.random(len(started)) < 0.1, 0, rng.exponential(75, len(started))).astype(np.int64)
        open_ = (rng.random(len(started)) < 0.04) & (started > day(YEARS[-1], 1, 1))
        seen = open_ | (started + length >= day(YEARS[0], 1, 1))
        started, length, open_ = started[seen], length[seen], open_[seen]
        in_year = np.maximum(started.astype("datetime64[D]").astype("datetime64[Y]").astype(int) + 1970, YEARS[0])
        for year in YEARS:
            own = np.flatnonzero(in_year == year)
            if len(own) == 0:
                continue

            def parts(own=own, at=at, number=number, started=started, length=length, open_=open_):
                for first, last in _spans(len(own)):
                    rows_, size = own[first:last], last - first
                    place, members = _who(people, at, size, rng)
                    yield {
                        "jaksonumero": pa.array(np.arange(number + first, number + last, dtype=np.int64)),
                        "henkilotunnus": _codes(people.codes[members][place]),
                        "palvelu": _picked(CARE, rng.choice(len(CARE), size, p=[0.35, 0.15, 0.05, 0.3, 0.15])),
                        "alkupvm": _dates(started[rows_]),
                        "loppupvm": _dates(started[rows_] + length[rows_], missing=open_[rows_]),
                    }

            number += len(own)
            yield country.counties[at], str(year), parts()


def employments(country, people, rows, rng):
    """Employments, some of them begun long before the first year and some still going on."""
    number = 0
    last_day = day(YEARS[-1], 12, 31)
    for at, count in enumerate(_shares(rows // 20, country.share, rng)):
        started = rng.integers(day(2015, 1, 1), last_day + 1, max(int(count), 10))
        ended = started + 1 + rng.exponential(900, len(started)).astype(np.int64)
        open_ = ended > last_day
        seen = open_ | (ended >= day(YEARS[0], 1, 1))
        started, ended, open_ = started[seen], ended[seen], open_[seen]
        in_year = np.maximum(started.astype("datetime64[D]").astype("datetime64[Y]").astype(int) + 1970, YEARS[0])
        for year in YEARS:
            own = np.flatnonzero(in_year == year)
            if len(own) == 0:
                continue

            def parts(own=own, number=number, started=started, ended=ended, open_=open_):
                for first, last in _spans(len(own)):
                    rows_, size = own[first:last], last - first
                    time = np.where(rng.random(size) < 0.7, 10_000, rng.integers(20, 100, size) * 100)
                    yield {
                        "palvelussuhdenumero": pa.array(np.arange(number + first, number + last, dtype=np.int64)),
                        "yksikko": _picked(unit_codes(), rng.integers(0, UNITS, size)),
                        "alkupvm": _dates(started[rows_]),
                        "loppupvm": _dates(ended[rows_], missing=open_[rows_]),
                        "osa_aika_prosentti": _decimal(time, 5),
                    }

            number += len(own)
            yield country.counties[at], str(year), parts()


def absences(country, people, rows, rng):
    """Absences, cut at the end of the month."""
    number = 0
    classes = np.array(["SL", "TT", "LS", "VL"])
    for at, of_county in enumerate(_shares(rows // 10, country.share, rng)):
        for year, count in zip(YEARS, _shares(int(of_county), np.ones(len(YEARS)), rng)):
            count = max(int(count), 1)

            def parts(count=count, year=year, number=number):
                for first, last in _spans(count):
                    size = last - first
                    started = rng.integers(day(year, 1, 1), day(year + 1, 1, 1), size)
                    months = started.astype("datetime64[D]").astype("datetime64[M]")
                    month_end = (months + 1).astype("datetime64[D]").astype(int) - 1
                    ended = np.minimum(started + rng.geometric(0.2, size) - 1, month_end)
                    yield {
                        "poissaolonumero": pa.array(np.arange(number + first, number + last, dtype=np.int64)),
                        "yksikko": _picked(unit_codes(), rng.integers(0, UNITS, size)),
                        "laji": _picked(classes, rng.choice(4, size, p=[0.5, 0.05, 0.1, 0.35])),
                        "alkupvm": _dates(started),
                        "loppupvm": _dates(ended),
                    }

            number += count
            yield country.counties[at], str(year), parts()


def ledger(country, people, rows, rng, accounts):
    """Ledger lines of one year, by month: actuals, budget and one forecast."""
    scenarios, versions = np.array(["T", "TA", "E"]), np.array(["T", "TA1", "E1"])
    sizes = (len(accounts), COST_CENTRES, len(CLASSES), 3)
    cells = int(np.prod(sizes))
    for at, of_county in enumerate(_shares(rows // 4, country.share, rng)):
        for month, count in enumerate(_shares(int(of_county), np.ones(12), rng), start=1):
            chosen = np.sort(rng.choice(cells, min(max(int(count), 1), cells), replace=False))

            def parts(chosen=chosen, month=month):
                for first, last in _spans(len(chosen)):
                    account, centre, service, scenario = np.unravel_index(chosen[first:last], sizes)
                    size = last - first
                    yield {
                        "tili": _picked(accounts, account),
                        "kustannuspaikka": _picked(cost_centres(), centre),
                        "palveluluokka": _picked(CLASSES, service),
                        "kausi": _text([f"{LEDGER_YEAR}-{month:02d}"] * size),
                        "laji": _picked(scenarios, scenario),
                        "versio": _picked(versions, scenario),
                        "euro": _decimal((rng.lognormal(11, 1.4, size)).astype(np.int64), 14),
                    }

            yield country.counties[at], f"{LEDGER_YEAR}{month:02d}", parts()


SOURCES = ("bench_care_event", "bench_care_spell", "bench_employment", "bench_absence", "finance_ledger")


def deliveries(source, repository, country, people, rows, seed):
    """The deliveries of a source: organiser, period, and the parts of its rows."""
    rng = np.random.default_rng([seed, SOURCES.index(source)])
    match source:
        case "bench_care_event":
            return care_events(country, people, rows, rng)
        case "bench_care_spell":
            return care_spells(country, people, rows, rng)
        case "bench_employment":
            return employments(country, people, rows, rng)
        case "bench_absence":
            return absences(country, people, rows, rng)
        case _:
            accounts = [row["code"] for row in _read(repository / "definitions/codes/county.account.csv")]
            return ledger(country, people, rows, rng, accounts)


def write(folder, source, repository, country, people, rows, seed):
    """Writes the files of a source; gives them and the number of rows. Files are made one at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    for county, period, parts in deliveries(source, repository, country, people, rows, seed):
        path = Path(folder) / f"{source}_{county}_{period}.parquet"
        yield path, _write(path, parts)
