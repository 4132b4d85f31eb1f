#!/usr/bin/env python3
"""Sixty indicators of one relation: ours, fused and one by one, beside other engines.

Ten groups of home-care visits x six measures (visits, minutes, distinct persons, realised visits,
minutes of realised visits, visits of persons of 75 or more), by municipality and month. Every engine
reads the same Parquet files of the same lake on the same machine, runs are interleaved, and the
answers must be equal before a time counts.

    pip install duckdb polars datafusion deltalake pyarrow
    python3 benches/peers/fused.py --binary target/release/tietopohja --warehouse W [--runs 5]

W is a warehouse with home-care visits landed; sixty definitions are written into it. What is timed:
ours = the passes over relations that `calc --full --json` reports (`scans`), and for `one by one`
the seconds of the indicators; the others = from SQL or expressions to the finished result.
"""

import argparse
import datetime as dt
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import deltalake
import pyarrow as pa

# Name, condition over conformed words, condition over the codes of the raw table.
GROUPS = [
    ("home", "contact_mode = 'home'", "contact_mode = '3'"),
    ("remote", "contact_mode = 'remote'", "contact_mode = '2'"),
    ("visit", "contact_mode = 'visit'", "contact_mode = '1'"),
    ("practical", "profession = 'practical_nurse'", "profession = 'LHOI'"),
    ("nurse", "profession = 'nurse'", "profession = 'HOIT'"),
    ("other", "profession NOT IN ('practical_nurse', 'nurse')", "profession NOT IN ('LHOI', 'HOIT')"),
    ("own", "production_mode = 'own'", "production_mode = '1'"),
    ("private", "production_mode = 'private'", "production_mode = '3'"),
    ("own_home", "production_mode = 'own' AND contact_mode = 'home'", "production_mode = '1' AND contact_mode = '3'"),
    ("all", "visit_no IS NOT NULL", "visit_no IS NOT NULL"),
]

# Name, extra condition, aggregate of ours, aggregate in SQL.
MEASURES = [
    ("visits", None, 'agg = "count"', "count(*)"),
    ("minutes", None, 'agg = "sum"\nexpr = "minutes"', "sum(minutes)"),
    ("persons", None, 'agg = "persons"', "count(DISTINCT client_pid)"),
    ("realised", "realised", 'agg = "count"', "count(*)"),
    ("realised_minutes", "realised", 'agg = "sum"\nexpr = "minutes"', "sum(minutes)"),
    ("aged", "aged", 'agg = "count"\nages = "75.."', "count(*)"),
]
AGED = "client_birth_date <= visit_on - INTERVAL '75 years'"

DEFINITION = """\
schema = "tietopohja-indicator/1"
id = "bench.{name}"
version = "1.0.0"
kind = "{kind}"
status = "active"
mandate = "management"
better = "context"

[text.fi]
title = "bench {name}"
definition = "bench"
unit = "kpl"
[text.sv]
title = "bench {name}"
[text.en]
title = "bench {name}"

[owner]
unit = "bench"
role = "bench"
review_by = 2027-03-31

[source.visits]
table = "conformed.home_care_visit"
where = "{where}"
time = "visit_on"
municipality = "municipality_code"
person = "person_pid"
{birth}deliveries = ["homecare_visit"]

[numerator]
from = "visits"
{measure}

[time]
grains = ["month"]
[area]
levels = ["municipality"]
[disclosure]
profile = "person_count"
"""


def definitions(warehouse):
    folder = warehouse / "definitions" / "indicators"
    names = []
    for group, words, _ in GROUPS:
        for measure, extra, ours, _ in MEASURES:
            name = f"{group}_{measure}"
            where = words + (" AND realised" if extra == "realised" else "")
            text = DEFINITION.format(
                name=name,
                kind="stock" if measure == "persons" else "sum",
                where=where,
                birth='birth_date = "birth_date"\n' if extra == "aged" else "",
                measure=ours,
            )
            (folder / f"bench.{name}.toml").write_text(text)
            names.append(f"bench.{name}")
    return names


def condition(codes, extra):
    if extra == "realised":
        return f"{codes} AND realised"
    if extra == "aged":
        return f"{codes} AND {AGED}"
    return codes


def fused_sql(files):
    columns = [
        f"{sql} FILTER (WHERE {condition(codes, extra)}) AS {group}_{measure}"
        for group, _, codes in GROUPS
        for measure, extra, _, sql in MEASURES
    ]
    return (
        "SELECT municipality, date_trunc('month', visit_on) AS month, "
        + ", ".join(columns)
        + f" FROM {files} GROUP BY municipality, date_trunc('month', visit_on)"
    )


def single_sqls(files):
    return [
        f"SELECT municipality, date_trunc('month', visit_on) AS month, {sql} AS n FROM {files} "
        f"WHERE {condition(codes, extra)} GROUP BY municipality, date_trunc('month', visit_on)"
        for group, _, codes in GROUPS
        for measure, extra, _, sql in MEASURES
    ]


def total(table):
    """Sums of every column: equal answers have equal sums."""
    sums = {}
    for name in table.column_names:
        if name not in ("municipality", "month"):
            values = table.column(name).to_pylist()
            sums[name] = sum(int(value) for value in values if value is not None)
    return sums


class DuckDb:
    name = "DuckDB"

    def __init__(self, files, threads):
        import duckdb

        self.version = duckdb.__version__
        self.connection = duckdb.connect(config={"threads": threads})
        self.files = f"read_parquet({files!r}, hive_partitioning=false)"

    def fused(self):
        return self.connection.execute(fused_sql(self.files)).to_arrow_table()

    def one_by_one(self):
        for sql in single_sqls(self.files):
            self.connection.execute(sql).to_arrow_table()


class DataFusion:
    name = "DataFusion"

    def __init__(self, files, threads):
        import datafusion
        import pyarrow.dataset as dataset

        self.version = datafusion.__version__
        config = datafusion.SessionConfig().with_target_partitions(threads)
        self.context = datafusion.SessionContext(config)
        folder = os.path.commonpath(files)
        self.context.register_parquet("visits", folder, file_extension=".parquet")

    def fused(self):
        return self.context.sql(fused_sql("visits")).to_arrow_table()

    def one_by_one(self):
        for sql in single_sqls("visits"):
            self.context.sql(sql).to_arrow_table()


class Polars:
    name = "Polars"

    def __init__(self, files, threads):
        import polars

        self.pl = polars
        self.version = polars.__version__
        self.files = files

    def frame(self):
        pl = self.pl
        frame = pl.scan_parquet(self.files, hive_partitioning=False)
        return frame.with_columns(pl.col("visit_on").dt.truncate("1mo").alias("month"))

    def conditions(self):
        pl = self.pl
        contact, profession, mode = pl.col("contact_mode"), pl.col("profession"), pl.col("production_mode")
        return {
            "home": contact == "3",
            "remote": contact == "2",
            "visit": contact == "1",
            "practical": profession == "LHOI",
            "nurse": profession == "HOIT",
            "other": ~profession.is_in(["LHOI", "HOIT"]),
            "own": mode == "1",
            "private": mode == "3",
            "own_home": (mode == "1") & (contact == "3"),
            "all": pl.col("visit_no").is_not_null(),
        }

    def measures(self):
        pl = self.pl
        aged = pl.col("client_birth_date").dt.offset_by("75y") <= pl.col("visit_on")
        for group, chosen in self.conditions().items():
            for measure, extra, _, _ in MEASURES:
                kept = chosen & pl.col("realised") if extra == "realised" else chosen & aged if extra == "aged" else chosen
                if measure == "persons":
                    yield f"{group}_{measure}", kept, pl.col("client_pid").filter(kept).n_unique()
                elif "minutes" in measure:
                    yield f"{group}_{measure}", kept, pl.col("minutes").filter(kept).sum()
                else:
                    yield f"{group}_{measure}", kept, kept.sum()

    def fused(self):
        columns = [value.alias(name) for name, _, value in self.measures()]
        return self.frame().group_by("municipality", "month").agg(columns).collect(engine="streaming").to_arrow()

    def one_by_one(self):
        pl = self.pl
        for name, kept, _ in self.measures():
            rows = self.frame().filter(kept).group_by("municipality", "month")
            value = (
                pl.col("client_pid").n_unique()
                if name.endswith("persons")
                else pl.col("minutes").sum() if "minutes" in name else pl.len()
            )
            rows.agg(value.alias("n")).collect(engine="streaming")


class Ours:
    name = "Tietopohja"

    def __init__(self, binary, warehouse, names):
        self.command = [binary, "-C", str(warehouse), "calc", "--full", "--json", *names]
        self.query = [binary, "-C", str(warehouse), "sql", "-o", "json"]
        version = subprocess.run([binary, "version"], capture_output=True, text=True)
        self.version = version.stdout.split()[-1] if version.stdout.split() else "?"

    def report(self, *options):
        done = subprocess.run([*self.command, *options], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        return json.loads(done.stdout)

    def fused(self):
        report = self.report()
        assert all(scan["gave_way"] is None for scan in report["scans"]), report["scans"]
        return sum(scan["seconds"] for scan in report["scans"])

    def one_by_one(self):
        report = self.report("--one-by-one")
        return sum(indicator["seconds"] for indicator in report["indicators"])

    def total(self):
        sql = (
            "SELECT indicator, CAST(sum(coalesce(n, person_set_count(persons))) AS BIGINT) AS n "
            "FROM component.cell WHERE indicator LIKE 'bench.%' GROUP BY indicator"
        )
        rows = json.loads(subprocess.run([*self.query, sql], capture_output=True, text=True, check=True).stdout)
        return {row["indicator"].removeprefix("bench."): row["n"] for row in rows}


def timed(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--warehouse", required=True, type=pathlib.Path)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--single-runs", type=int, default=1)
    arguments.add_argument("--threads", type=int, default=os.cpu_count())
    options = arguments.parse_args()

    table = deltalake.DeltaTable(str(options.warehouse / "lake" / "raw" / "homecare_visit"))
    files = sorted(uri.removeprefix("file://") for uri in table.file_uris())
    names = definitions(options.warehouse)
    ours = Ours(options.binary, options.warehouse, names)
    peers = [peer(files, options.threads) for peer in (DuckDb, DataFusion, Polars)]

    first = {}
    ours.fused()
    expected = ours.total()
    rows = expected["all_visits"]
    for peer in peers:
        answer = total(peer.fused())
        wrong = {key: (value, expected.get(key, 0)) for key, value in answer.items() if value != expected.get(key, 0)}
        first[peer.name] = not wrong
        if wrong:
            print(f"{peer.name} differs: {dict(list(wrong.items())[:5])}", file=sys.stderr)

    fused = {engine.name: [] for engine in [ours, *peers]}
    single = {engine.name: [] for engine in [ours, *peers]}
    for _ in range(options.runs):
        fused[ours.name].append(ours.fused())
        for peer in peers:
            fused[peer.name].append(timed(peer.fused))
    for _ in range(options.single_runs):
        single[ours.name].append(ours.one_by_one())
        for peer in peers:
            single[peer.name].append(timed(peer.one_by_one))

    mine = statistics.median(fused[ours.name])
    print(f"{rows} visits in {len(files)} files, {options.threads} threads, {options.runs} interleaved runs, {dt.date.today()}")
    print(f"{'engine':<22} {'fused, median s':>16} {'ratio':>7} {'one by one s':>13} {'ratio':>7}  answers")
    for engine in [ours, *peers]:
        together = statistics.median(fused[engine.name])
        apart = statistics.median(single[engine.name]) if single[engine.name] else float("nan")
        agrees = "" if engine is ours else "equal" if first[engine.name] else "DIFFER"
        print(
            f"{engine.name + ' ' + engine.version:<22} {together:>16.2f} {together / mine:>7.1f} "
            f"{apart:>13.2f} {apart / mine:>7.1f}  {agrees}"
        )
    if not all(first.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
