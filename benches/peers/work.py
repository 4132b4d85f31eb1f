"""The work: what is asked, what identifies a row of the answer, and how ours is computed.

Here: names, keys and columns of each question, and answers in one form that can be compared. Not
here: how a peer computes them (`engines.py`, `queries/`), how they are run (`run.py`). To add a
question: an entry in WORKS, a query for each peer, and ours.
"""

import math
from dataclasses import dataclass

import pyarrow as pa

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Work:
    """A question."""

    name: str
    title: str
    keys: tuple
    whole: tuple
    real: tuple = ()
    """Indicators of ours that are computed; none when ours is SQL alone."""
    indicators: tuple = ()
    """The file of ours in `queries/ours`: after the indicators, or instead of them."""
    sql: str | None = None
    """How ours is expressed, for the table."""
    how: str = "indicators"
    """The question whose runs of the peers stand for this one, when it is not its own."""
    peers: str | None = None
    """The question whose runs of ours stand for this one, when it is not its own."""
    ours: str | None = None
    """DuckDB is also asked over tables of its own."""
    native: bool = False
    """A row counts when this column is not zero: ours also has rows where nothing happened."""
    present: str | None = None
    """The peers give an answer for each of the sixty indicators."""
    one_by_one: bool = False


WORKS = [
    Work(
        "q1",
        "Q1 visits, units, cost by municipality, year, sex, 5-year age, per inhabitant",
        ("municipality", "year", "sex", "age_group"),
        ("visits", "units", "cost_cents"),
        ("cost_per_inhabitant",),
        ("bench.q1_visits", "bench.q1_units", "bench.q1_cost"),
        "q1",
        "3 indicators, then SQL over their values",
        native=True,
        present="visits",
    ),
    Work(
        "q2",
        "Q2 distinct clients by municipality, year, service class; region, country",
        ("level", "area", "year", "service_class"),
        ("clients",),
        indicators=("bench.q2_clients",),
        how="1 indicator",
        native=True,
        present="clients",
    ),
    Work(
        "q3",
        "Q3 median, p90, share over 14 days of waiting by region, class, month",
        ("county", "month", "service_class"),
        ("waits", "over14"),
        ("median", "p90", "share_over"),
        ("bench.q3_waiting",),
        how="1 indicator",
        present="waits",
    ),
    Work(
        "q4",
        "Q4 person-years, sickness days per person-year by unit, month",
        ("county", "unit_code", "month"),
        ("bp_days", "sickness_days"),
        ("person_years", "sickness_per_htv"),
        ("bench.q4_person_years", "bench.q4_sickness"),
        how="2 indicators",
        present="bp_days",
    ),
    Work(
        "q4sql",
        "Q4 the same in SQL",
        ("county", "unit_code", "month"),
        ("bp_days", "sickness_days"),
        ("person_years", "sickness_per_htv"),
        sql="q4",
        how="SQL, person_days",
        peers="q4",
        present="bp_days",
    ),
    Work(
        "q5",
        "Q5 care days by month, region, class; overlaps of a person once",
        ("county", "service_code", "month"),
        ("care_days",),
        indicators=("bench.q5_care_days",),
        how="1 indicator",
        native=True,
        present="care_days",
    ),
    Work(
        "q5sql",
        "Q5 the same in SQL",
        ("county", "service_code", "month"),
        ("care_days",),
        sql="q5",
        how="SQL, care_days",
        peers="q5",
        present="care_days",
    ),
    Work(
        "q6",
        "Q6 age-standardised rate with interval by region, year, sex",
        ("county", "year", "sex"),
        ("events",),
        ("rate", "lower", "upper"),
        ("bench.q6_events",),
        "q6",
        "1 indicator, then SQL with standardised_rate",
        present="events",
    ),
    Work(
        "q7",
        "Q7 own and purchased unit cost by class, region, month",
        ("county", "month", "service_class", "production"),
        ("cost_cents", "units"),
        ("unit_cost",),
        ("bench.q7_unit_cost",),
        how="1 indicator",
        native=True,
        present="units",
    ),
    Work(
        "q8",
        "Q8 budget, actual, forecast to date by cost centre, month",
        ("county", "cost_centre", "month"),
        ("actual_cents", "budget_cents", "forecast_cents"),
        indicators=("bench.q8_budget",),
        how="1 indicator",
        present="budget_cents",
    ),
    Work(
        "fused",
        "60 indicators, fused by hand",
        ("county", "month", "service_class"),
        ("visits", "units", "cost_cents", "waits", "over14", "clients"),
        how="60 indicators, two scans",
        present="visits",
    ),
    Work(
        "sixty",
        "60 indicators, one by one",
        ("county", "month", "service_class"),
        ("visits", "units", "cost_cents", "waits", "over14", "clients"),
        how="60 indicators, two scans",
        ours="fused",
        present="visits",
        one_by_one=True,
    ),
    Work(
        "protected",
        "60 indicators, each also counting who is behind a cell",
        ("county", "month", "service_class"),
        ("visits", "units", "cost_cents", "waits", "over14", "clients"),
        how="60 indicators, one scan",
        peers="fused",
        present="visits",
    ),
]


def _key(name, value):
    if value is None:
        return ""
    if name == "county":
        return f"{int(value):02d}"
    if name == "month":
        return str(value)[:7]
    if name in ("year", "age_group"):
        return str(value)
    return str(value)


def answer_of(work, table):
    """An answer in the form that is compared: numbers by key."""
    columns = {name: table.column(name).to_pylist() for name in (*work.keys, *work.whole, *work.real)}
    answer = {}
    for at in range(table.num_rows):
        if not columns[work.present][at]:
            continue
        key = tuple(_key(name, columns[name][at]) for name in work.keys)
        if key in answer:
            raise SystemExit(f"{work.name}: a key stands twice in an answer")
        whole = tuple(int(round(columns[name][at] or 0)) for name in work.whole)
        real = tuple(None if columns[name][at] is None else float(columns[name][at]) for name in work.real)
        answer[key] = (whole, real)
    return answer


def equal(a, b):
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=1e-12)


def differences(work, one, other):
    """What differs between two answers, in words; empty when they agree."""
    found = []
    missing = one.keys() ^ other.keys()
    if missing:
        found.append(f"{len(missing)} keys of {len(one)} and {len(other)} are in one of them, such as {min(missing)}")
    for key in one.keys() & other.keys():
        (whole, real), (whole2, real2) = one[key], other[key]
        if whole != whole2:
            found.append(f"{key}: {work.whole} are {whole} and {whole2}")
        for name, a, b in zip(work.real, real, real2):
            if not equal(a, b):
                found.append(f"{key}: {name} is {a} and {b}")
        if len(found) > 5:
            break
    return found


def to_table(work, answer):
    """An answer as a table, to hand it from one process to another."""
    keys = list(answer)
    columns = {name: [key[at] for key in keys] for at, name in enumerate(work.keys)}
    columns |= {name: [answer[key][0][at] for key in keys] for at, name in enumerate(work.whole)}
    columns |= {
        name: pa.array([answer[key][1][at] for key in keys], pa.float64()) for at, name in enumerate(work.real)
    }
    return pa.table(columns)
