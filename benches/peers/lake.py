"""The lake of the benches: a warehouse that our own binary makes and lands extracts into.

Here: the warehouse folder with the definitions of the benches laid over the shipped ones, landing,
and a folder in which peers see exactly the Parquet files that the tables hold. Not here: what the
extracts hold (`data.py`). A lake is made once for a number of rows and used again after that.
"""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

import data
from engines import CLASSES, MEASURES

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
# Files made, landed and removed at a time.
AT_A_TIME = 22

VIEWS = {
    "care_event": "raw/bench_care_event",
    "care_spell": "raw/bench_care_spell",
    "employment": "raw/bench_employment",
    "absence": "raw/bench_absence",
    "ledger": "raw/finance_ledger",
    "population": "reference/population",
    "municipality_on": "reference/municipality_on",
}

SETTINGS = """\
[landing]
identity_codes = "artificial"
at_once = {threads}

[engine]
memory_mib = {memory}
partitions = {threads}
"""

INDICATOR = """\
schema = "tietopohja-indicator/1"
id = "{id}"
version = "1.0.0"
kind = "{kind}"
status = "active"
mandate = "management"
better = "context"

[text.fi]
title = "{title} palveluluokassa {service}"
definition = "Vain mittauksiin: {title} palveluluokassa {service}."
unit = "{unit}"

[owner]
unit = "tietojohtaminen"
role = "tietojohtaja"
review_by = 2027-03-31

[source.events]
table = "conformed.{relation}"
where = "service_class = '{service}'"
time = "event_on"
county = "county_code"
{person}deliveries = ["bench_care_event"]

{parts}
[time]
grains = ["month"]
[area]
levels = ["county"]
[disclosure]
profile = "{profile}"
"""

COUNT = '[{}]\nfrom = "events"\nagg = "count"\n'
SUM = '[{}]\nfrom = "events"\nagg = "sum"\nexpr = "{}"\n'

# Of each measure: kind, title, unit, parts.
SIXTY = {
    "visits": ("sum", "käynnit", "käyntiä", COUNT.format("numerator")),
    "units": ("sum", "suoritteet", "suoritetta", SUM.format("numerator", "units")),
    "cost": ("sum", "kustannukset", "€", SUM.format("numerator", "cost_cents") + "divide_by = 100\n"),
    "unit_cost": (
        "unit_cost",
        "suoritteen yksikkökustannus",
        "€ / suorite",
        SUM.format("numerator", "cost_cents") + "divide_by = 100\n" + SUM.format("denominator", "units"),
    ),
    "over14": (
        "proportion",
        "yli 14 päivää odottaneet",
        "%",
        COUNT.format("numerator")
        + 'where = "wait_days > 14"\n'
        + COUNT.format("denominator")
        + 'where = "wait_days IS NOT NULL"\n[scale]\nper = 100\n',
    ),
    "clients": ("stock", "eri asiakkaat", "henkilöä", '[numerator]\nfrom = "events"\nagg = "persons"\n'),
}


def sixty_id(service, measure, protected=False):
    """The id of one of the sixty indicators, or of the same protected by the persons behind it."""
    return f"bench.{'p' if protected else 'i'}{service}_{measure}"


def sixty_ids(protected=False):
    """All sixty."""
    return tuple(sixty_id(service, measure, protected) for service in CLASSES for measure in MEASURES)


def sixty_definition(service, measure, protected):
    """The definition of one of them. Only who counts persons must read them; who is protected does too."""
    kind, title, unit, parts = SIXTY[measure]
    persons = protected or measure == "clients"
    return INDICATOR.format(
        id=sixty_id(service, measure, protected),
        kind=kind,
        title=title,
        unit=unit,
        parts=parts,
        service=service,
        relation="bench_care_event" if persons else "bench_service_event",
        person='person = "person_pid"\n' if persons else "",
        profile="person_count" if persons else "public_money",
    )


class Lake:
    """A made lake: warehouse, views and what it was made of."""

    def __init__(self, folder):
        self.folder = Path(folder).resolve()
        self.warehouse = self.folder / "warehouse"
        self.view = self.folder / "view"
        self.results = self.folder / "results"

    def made(self):
        """What the lake was made of; None when it is not whole."""
        path = self.folder / "made.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def table(self, name):
        from deltalake import DeltaTable

        return DeltaTable(str(self.warehouse / "lake" / name))


def make(lake, binary, rows, seed, threads, memory_mib):
    """Makes the lake, unless it is there with the same rows and seed."""
    made = lake.made()
    if made:
        if (made["rows"], made["seed"]) != (rows, seed):
            raise SystemExit(f"{lake.folder} holds {made['rows']} rows of seed {made['seed']}: name another --lake")
        # Definitions of the benches may have changed since; the rows have not.
        definitions_of(lake)
        return made
    shutil.rmtree(lake.folder, ignore_errors=True)
    warehouse(lake, binary, threads, memory_mib)
    made = {"rows": rows, "seed": seed, "tables": {}}
    country = data.Country(REPOSITORY)
    people = data.People(country, rows, np.random.default_rng([seed, 99]))
    made["persons"] = len(people.codes)
    for source in data.SOURCES:
        made["tables"][source] = land(lake, binary, source, country, people, rows, seed)
        print(f"  {source}: {made['tables'][source]}", flush=True)
    view(lake)
    (lake.folder / "made.json").write_text(json.dumps(made, indent=1), encoding="utf-8")
    return made


def warehouse(lake, binary, threads, memory_mib):
    """A warehouse as `init` makes it, with the definitions of the benches."""
    definitions_of(lake)
    settings = SETTINGS.format(threads=threads, memory=memory_mib)
    (lake.warehouse / "tietopohja.toml").write_text(settings, encoding="utf-8")
    run([binary, "init", lake.warehouse])
    # Loads the reference data, and tells what is wrong with a definition before hours of landing.
    run([binary, "-C", lake.warehouse, "plan", "--json", "bench.q1_visits"])


def definitions_of(lake):
    """Lays the contracts, relations and indicators of the benches into the warehouse."""
    shutil.copytree(HERE / "warehouse", lake.warehouse, dirs_exist_ok=True)
    definitions = lake.warehouse / "definitions"
    (definitions / "codes").mkdir(exist_ok=True)
    lists = {
        "bench.unit": (data.unit_codes(), "Yksikkö"),
        "bench.cost_centre": (data.cost_centres(), "Kustannuspaikka"),
    }
    for name, (codes, word) in lists.items():
        (definitions / f"codes/{name}.csv").write_text(data.code_list(codes, word), encoding="utf-8")
    for service in CLASSES:
        for measure in MEASURES:
            for protected in (False, True):
                file = definitions / f"indicators/{sixty_id(service, measure, protected)}.toml"
                file.write_text(sixty_definition(service, measure, protected), encoding="utf-8")


def land(lake, binary, source, country, people, rows, seed):
    """Makes and lands a source, some files at a time, and gives rows, files and seconds."""
    folder = lake.folder / "extracts"
    waiting, count, files, size, seconds = [], 0, 0, 0, 0.0

    def flush():
        nonlocal seconds, size
        begun = time.perf_counter()
        run([binary, "-C", lake.warehouse, "land", "--json", source, *waiting])
        seconds += time.perf_counter() - begun
        for path in waiting:
            size += path.stat().st_size
            path.unlink()
        waiting.clear()

    for path, written in data.write(folder, source, REPOSITORY, country, people, rows, seed):
        waiting.append(path)
        count += written
        files += 1
        if len(waiting) == AT_A_TIME:
            flush()
    if waiting:
        flush()
    accepted = sum(row["num_records"] for row in files_of(lake.table(f"raw/{source}")))
    if accepted != count:
        raise SystemExit(f"{source}: {count} rows were written and {accepted} landed")
    shutil.rmtree(folder)
    return {"rows": count, "files": files, "extract_bytes": size, "seconds": round(seconds, 1)}


def view(lake):
    """Links of the live files of each table, by the values of their partition: `county=7/period=202400`."""
    shutil.rmtree(lake.view, ignore_errors=True)
    for name, table in VIEWS.items():
        root = lake.warehouse / "lake" / table
        for at, row in enumerate(files_of(lake.table(table))):
            folder = lake.view / name
            for column in ("county", "period"):
                if f"partition.{column}" in row:
                    folder /= f"{column}={row[f'partition.{column}']}"
            folder.mkdir(parents=True, exist_ok=True)
            os.link(root / row["path"], folder / f"{at:05d}.parquet")


def files_of(table):
    """The live files of a table, as its log names them."""
    return pa.table(table.get_add_actions(flatten=True)).to_pylist()


def size_of(lake, name):
    """Bytes of the Parquet files of a table."""
    return sum(path.stat().st_size for path in (lake.view / name).rglob("*.parquet"))


def run(command):
    """Runs a command that must succeed; gives what it printed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shown = " ".join(str(part) for part in command[:6])
        raise SystemExit(f"{shown} … failed with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout
