"""The peers: how each opens the lake's Parquet files and answers a question.

Here: opening, threads, and the queries that have no SQL file (Polars). SQL is in `queries/`. Not
here: measuring and comparing. To add a peer: a class with `version`, `open` and `ask`, named in
ENGINES. `ask(work)` gives an Arrow table; what it takes is what is measured.
"""

import os
import re
from pathlib import Path

import pyarrow as pa

QUERIES = Path(__file__).parent / "queries"
TABLES = ("care_event", "care_spell", "employment", "absence", "ledger", "population", "municipality_on")
REFERENCE = ("population", "municipality_on")
CLASSES = ("1100", "1200", "1300", "1400", "2100", "2200", "2300", "2400", "3100", "3200")
MEASURES = ("visits", "units", "cost", "unit_cost", "over14", "clients")


def sql_of(engine, work):
    return (QUERIES / engine / f"{work}.sql").read_text(encoding="utf-8")


def stitch(pieces):
    """One row for each county, month and class from the answers of the sixty questions."""
    rows = {}
    for service, measure, table in pieces:
        for row in table.to_pylist():
            cell = rows.setdefault((row["county"], row["month"], service), {})
            cell.update({name: value for name, value in row.items() if name not in ("county", "month")})
            cell.setdefault(measure, None)
    names = ("visits", "units", "cost_cents", "waits", "over14", "clients")
    keys = list(rows)
    return pa.table(
        {"county": [k[0] for k in keys], "month": [k[1] for k in keys], "service_class": [k[2] for k in keys]}
        | {name: [rows[k].get(name) for k in keys] for name in names}
    )


class Sql:
    """What the engines that take SQL share: the sixty questions in the words of the dialect."""

    month = "date_trunc('month', event_on)"
    wait = "event_on - referred_on"
    clients = "count(DISTINCT client_pid)"
    cents = "CAST(sum(cost) * 100 AS BIGINT)"
    care_event = "care_event"

    def measure(self, name):
        return {
            "visits": "count(*) AS visits",
            "units": "CAST(sum(units) AS BIGINT) AS units",
            "cost": f"{self.cents} AS cost_cents",
            "unit_cost": f"{self.cents} AS cost_cents, CAST(sum(units) AS BIGINT) AS units",
            "over14": f"count(referred_on) AS waits, sum(CASE WHEN {self.wait} > 14 THEN 1 ELSE 0 END) AS over14",
            "clients": f"{self.clients} AS clients",
        }[name]

    def sixty(self):
        for service in CLASSES:
            for measure in MEASURES:
                yield service, measure, (
                    f"SELECT county, {self.month} AS month, {self.measure(measure)} FROM {self.care_event} "
                    f"WHERE service_class = '{service}' GROUP BY county, month"
                )

    def ask(self, work):
        if work == "sixty":
            return [(service, measure, self.run(sql)) for service, measure, sql in self.sixty()]
        return self.run(sql_of(self.name, work))


class DuckDb(Sql):
    name = "duckdb"
    native = False

    def version(self):
        import duckdb

        return f"DuckDB {duckdb.__version__}"

    def open(self, view, threads):
        import duckdb

        if self.native:
            self.connection = duckdb.connect(str(view / "native.duckdb"), read_only=True)
        else:
            self.connection = duckdb.connect()
            for table in TABLES:
                self.connection.execute(f"CREATE VIEW {table} AS SELECT * FROM {self.files(view, table)}")
        self.connection.execute(f"SET threads = {threads}")
        self.connection.execute("SET enable_progress_bar = false")
        self.run("SELECT count(*) FROM municipality_on")

    def files(self, view, table):
        depth = "" if table in REFERENCE else "*/*/"
        return f"read_parquet('{view}/{table}/{depth}*.parquet', hive_partitioning = {table not in REFERENCE})"

    def run(self, sql):
        return self.connection.sql(sql).to_arrow_table()


class DuckDbNative(DuckDb):
    native = True

    def version(self):
        return super().version() + ", native tables"

    def make(self, view, threads):
        """Copies what the lake holds into a database of DuckDB's own, once."""
        import duckdb

        path = view / "native.duckdb"
        if path.exists():
            return
        started = path.with_suffix(".part")
        started.unlink(missing_ok=True)
        with duckdb.connect(str(started)) as connection:
            connection.execute(f"SET threads = {threads}")
            for table in TABLES:
                connection.execute(f"CREATE TABLE {table} AS SELECT * FROM {self.files(view, table)}")
            connection.execute("CHECKPOINT")
        started.rename(path)


class ChDb(Sql):
    name = "chdb"
    month = "toStartOfMonth(event_on)"
    wait = "toInt32(event_on) - toInt32(referred_on)"
    clients = "uniqExact(reinterpretAsUInt128(client_pid))"
    cents = "toInt64(sum(cost) * 100)"
    # The types of the files, with what is never null and what has few values said, so that neither
    # null masks nor single texts are made.
    shapes = {
        "care_event": "client_pid FixedString(16), client_birth_date Nullable(Date32), "
        "client_sex LowCardinality(String), municipality LowCardinality(String), event_on Date32, "
        "referred_on Nullable(Date32), service_class LowCardinality(String), "
        "production_mode LowCardinality(String), units Int32, cost Decimal(12, 2), county UInt8, period UInt32",
        "care_spell": "client_pid FixedString(16), service_code LowCardinality(String), started_on Date32, "
        "ended_on Nullable(Date32), county UInt8, period UInt32",
        "employment": "unit_code LowCardinality(String), started_on Date32, ended_on Nullable(Date32), "
        "work_time_percent Decimal(5, 2), county UInt8, period UInt32",
        "absence": "unit_code LowCardinality(String), absence_class LowCardinality(String), started_on Date32, "
        "ended_on Date32, county UInt8, period UInt32",
        "ledger": "cost_centre LowCardinality(String), booking_month Date32, scenario LowCardinality(String), "
        "amount Decimal(14, 2), county UInt8, period UInt32",
        "population": "year Int32, municipality_code String, county_code String, sex String, age Int32, "
        "population Int64",
        "municipality_on": "year Int32, municipality_code String, division_code String, county_code String",
    }

    def version(self):
        import chdb

        return f"chDB {chdb.__version__} ({self.run('SELECT version() AS v')['v'][0]})"

    def open(self, view, threads):
        from chdb import session

        self.session = session.Session()
        self.settings = f"max_threads = {threads}, use_hive_partitioning = 1"
        depth = {table: "" if table in REFERENCE else "county=*/period=*/" for table in TABLES}
        self.files = {
            table: f"file('{view}/{table}/{depth[table]}*.parquet', Parquet, '{self.shapes[table]}')"
            for table in TABLES
        }
        self.care_event = self.files["care_event"]
        self.run("SELECT count() FROM {municipality_on}")

    def run(self, sql):
        import pyarrow.ipc

        sql = re.sub(r"\{(\w+)\}", lambda found: self.files[found[1]], sql)
        settings = f"\nSETTINGS {self.settings}" if hasattr(self, "settings") else ""
        found = self.session.query(sql + settings, "ArrowStream")
        return pyarrow.ipc.open_stream(found.bytes()).read_all()


class DataFusion(Sql):
    name = "datafusion"
    month = "date_trunc('month', event_on)"

    def version(self):
        import datafusion

        return f"DataFusion {datafusion.__version__}"

    def open(self, view, threads):
        import datafusion

        config = datafusion.SessionConfig().with_target_partitions(threads)
        self.context = datafusion.SessionContext(config)
        for table in TABLES:
            parts = [] if table in REFERENCE else [("county", pa.int32()), ("period", pa.int32())]
            self.context.register_parquet(
                table, f"{view}/{table}/", table_partition_cols=parts, file_extension=".parquet"
            )
        self.run("SELECT count(*) FROM municipality_on")

    def run(self, sql):
        *steps, last = re.split(r"(?m);\s*$", sql.strip().removesuffix(";"))
        for step in steps:
            name = re.search(r"-- step: (\w+)", step)[1]
            self.context.register_view(name, self.context.sql(step).cache())
        return pa.Table.from_batches(self.batches(last))

    def batches(self, sql):
        frame = self.context.sql(sql)
        return frame.collect() or [pa.RecordBatch.from_pylist([], schema=frame.schema())]


class Polars:
    name = "polars"

    def version(self):
        import polars

        return f"Polars {polars.__version__}"

    def open(self, view, threads):
        os.environ["POLARS_MAX_THREADS"] = str(threads)
        import polars as pl

        self.pl = pl
        for table in TABLES:
            hive = table not in REFERENCE
            depth = "*/*/" if hive else ""
            frame = pl.scan_parquet(
                f"{view}/{table}/{depth}*.parquet",
                hive_partitioning=hive,
                hive_schema={"county": pl.Int32, "period": pl.Int32} if hive else None,
            )
            setattr(self, table, frame)
        self.run(self.municipality_on.select(pl.len()))

    # Where the engine in memory is quicker than the streaming one.
    in_memory = ("q2",)

    def run(self, frame, engine="streaming"):
        return frame.collect(engine=engine).to_arrow()

    def ask(self, work):
        if work == "sixty":
            return [
                (service, measure, self.run(self.one(service, measure)))
                for service in CLASSES
                for measure in MEASURES
            ]
        return self.run(getattr(self, work)(), "in-memory" if work in self.in_memory else "streaming")

    # What questions have in common.

    def year(self):
        return self.pl.col("period") // 100

    def age_group(self):
        pl = self.pl
        return ((self.year() - pl.col("client_birth_date").dt.year()) // 5).clip(upper_bound=18).alias("age_group")

    def cents(self, column="cost"):
        pl = self.pl
        return (pl.col(column).sum() * 100).cast(pl.Int64)

    def wait(self):
        pl = self.pl
        return (pl.col("event_on") - pl.col("referred_on")).dt.total_days().cast(pl.Int32)

    def residents(self, *by):
        pl = self.pl
        return (
            self.population.with_columns((pl.col("age") // 5).clip(upper_bound=18).cast(pl.Int32).alias("age_group"))
            .group_by("year", *by, "sex", "age_group")
            .agg(pl.col("population").sum().alias("residents"))
        )

    def months(self):
        pl = self.pl
        first, last = pl.date(2023, 1, 1), pl.date(2025, 12, 1)
        return pl.LazyFrame({"one": [1]}).select(pl.date_ranges(first, last, "1mo").explode().alias("month"))

    def accumulated(self, marks, by):
        """Sums of marks over the months of each group: days = weight so far x days of the month + rest."""
        pl = self.pl
        marks = marks.group_by(*by, pl.col("at").dt.truncate("1mo").alias("month")).agg(
            pl.col("n").sum().alias("weight"), (-pl.col("n") * (pl.col("at").dt.day() - 1)).sum().alias("rest")
        )
        grid = marks.select(by).unique().join(self.months(), how="cross")
        return (
            grid.join(marks, on=[*by, "month"], how="left")
            .sort(*by, "month")
            .with_columns(pl.col("weight").fill_null(0).cum_sum().over(by))
            .with_columns(length=pl.col("month").dt.month_end().dt.day().cast(pl.Int64))
            .with_columns(days=pl.col("weight") * pl.col("length") + pl.col("rest").fill_null(0))
        )

    # The questions.

    def q1(self):
        pl = self.pl
        cube = (
            self.care_event.group_by("municipality", self.year().alias("year"), "client_sex", self.age_group())
            .agg(pl.len().alias("visits"), pl.col("units").cast(pl.Int64).sum(), pl.col("cost").sum())
            .join(
                self.municipality_on.select("year", "municipality_code", "division_code"),
                left_on=["year", "municipality"],
                right_on=["year", "municipality_code"],
            )
            .group_by("division_code", "year", "client_sex", "age_group")
            .agg(pl.col("visits").sum(), pl.col("units").sum(), self.cents().alias("cost_cents"))
            .rename({"division_code": "municipality", "client_sex": "sex"})
            .with_columns(pl.col("age_group").cast(pl.Int32))
        )
        return cube.join(
            self.residents("municipality_code"),
            left_on=["year", "municipality", "sex", "age_group"],
            right_on=["year", "municipality_code", "sex", "age_group"],
            how="left",
        ).with_columns(cost_per_inhabitant=pl.col("cost_cents") / 100 / pl.col("residents"))

    def q2(self):
        pl = self.pl
        rows = self.care_event.select(self.year().alias("year"), "service_class", "municipality", "client_pid").join(
            self.municipality_on.select("year", "municipality_code", "division_code", "county_code"),
            left_on=["year", "municipality"],
            right_on=["year", "municipality_code"],
        )
        levels = {"municipality": pl.col("division_code"), "county": pl.col("county_code"), "country": pl.lit("FI")}
        return pl.concat(
            rows.group_by("year", "service_class", area.alias("area"))
            .agg(pl.col("client_pid").n_unique().alias("clients"))
            .with_columns(level=pl.lit(level))
            for level, area in levels.items()
        )

    def q3(self):
        pl = self.pl
        days, waits = pl.col("days"), pl.col("waits")
        at_least, above = days.list.get((waits * 9 + 9) // 10 - 1), days.list.get(waits * 9 // 10)
        return (
            self.care_event.filter(pl.col("referred_on").is_not_null())
            .group_by("county", pl.col("event_on").dt.truncate("1mo").alias("month"), "service_class")
            .agg(
                pl.len().cast(pl.Int64).alias("waits"),
                (self.wait() > 14).sum().cast(pl.Int64).alias("over14"),
                self.wait().sort().alias("days"),
            )
            .with_columns(
                median=days.list.median(), p90=(at_least + above) / 2, share_over=pl.col("over14") * 100 / waits
            )
            .drop("days")
        )

    def q4(self):
        pl = self.pl
        by = ["county", "unit_code"]
        spells = self.employment.select(
            *by,
            (pl.col("work_time_percent") * 100).cast(pl.Int64).alias("n"),
            pl.max_horizontal("started_on", pl.date(2023, 1, 1)).alias("first"),
            (pl.col("ended_on").fill_null(pl.date(2025, 12, 31)) + pl.duration(days=1)).alias("next"),
        )
        marks = pl.concat(
            [
                spells.select(*by, "n", pl.col("first").alias("at")),
                spells.filter(pl.col("next") <= pl.date(2025, 12, 31)).select(
                    *by, -pl.col("n"), pl.col("next").alias("at")
                ),
            ]
        )
        sick = (
            self.absence.filter(pl.col("absence_class").is_in(["SL", "TT"]))
            .group_by(*by, pl.col("started_on").dt.truncate("1mo").alias("month"))
            .agg(((pl.col("ended_on") - pl.col("started_on")).dt.total_days() + 1).sum().alias("sickness_days"))
        )
        year_days = pl.when(pl.col("month").dt.year() == 2024).then(366).otherwise(365)
        return (
            self.accumulated(marks, by)
            .join(sick, on=[*by, "month"], how="left")
            .select(
                *by,
                "month",
                pl.col("days").alias("bp_days"),
                pl.col("sickness_days").fill_null(0),
                (pl.col("days") / 10_000 / year_days).alias("person_years"),
                (pl.col("sickness_days").fill_null(0) / (pl.col("days") / 10_000 / pl.col("length"))).alias(
                    "sickness_per_htv"
                ),
            )
        )

    def q5(self):
        pl = self.pl
        by = ["county", "service_code"]
        end = pl.date(2025, 12, 31)
        last = (
            pl.when(pl.col("ended_on").is_null() | (pl.col("ended_on") > end))
            .then(end)
            .when(pl.col("ended_on") == pl.col("started_on"))
            .then(pl.col("started_on"))
            .otherwise(pl.col("ended_on") - pl.duration(days=1))
        )
        person = ["client_pid", *by]
        pieces = (
            self.care_spell.select(*person, "started_on", last.alias("last"))
            .sort(*person, "started_on", "last")
            .with_columns(before=pl.col("last").cum_max().shift(1).over(person))
            .select(
                *by,
                pl.max_horizontal(
                    "started_on", pl.date(2023, 1, 1), pl.col("before") + pl.duration(days=1)
                ).alias("first"),
                "last",
            )
            .filter(pl.col("first") <= pl.col("last"))
        )
        one = pl.lit(1, dtype=pl.Int64)
        marks = pl.concat(
            [
                pieces.select(*by, one.alias("n"), pl.col("first").alias("at")),
                pieces.filter(pl.col("last") < end).select(
                    *by, (-one).alias("n"), (pl.col("last") + pl.duration(days=1)).alias("at")
                ),
            ]
        )
        return self.accumulated(marks, by).select(*by, "month", pl.col("days").alias("care_days"))

    def q6(self):
        pl = self.pl
        weights = [5000, 5500, 5500, 5500, 6000, 6000, 6500, 7000, 7000, 7000,
                   7000, 6500, 6000, 5500, 5000, 4000, 2500, 1500, 1000]
        standard = pl.LazyFrame({"age_group": list(range(19)), "weight": weights}).cast({"age_group": pl.Int32})
        event = (
            self.care_event.group_by("county", self.year().alias("year"), pl.col("client_sex").alias("sex"),
                                     self.age_group())
            .agg(pl.len().cast(pl.Int64).alias("events"))
            .with_columns(pl.col("age_group").cast(pl.Int32))
        )
        w, x, n = pl.col("weight"), pl.col("events").fill_null(0), pl.col("residents")
        z = 1.959963984540054
        events = pl.col("events")
        low = events * (1 - 1 / (9 * events) - z / (3 * events.sqrt())) ** 3
        high = (events + 1) * (1 - 1 / (9 * (events + 1)) + z / (3 * (events + 1).sqrt())) ** 3
        spread = (pl.col("variance") / events).sqrt()
        return (
            self.residents("county_code")
            .filter(pl.col("year").is_between(2023, 2025) & (pl.col("county_code") != "91"))
            .with_columns(county=pl.col("county_code").cast(pl.Int32))
            .join(standard, on="age_group")
            .join(event, on=["county", "year", "sex", "age_group"], how="left")
            .group_by("county", "year", "sex")
            .agg(
                x.sum().alias("events"),
                ((w * x / n).sum() / w.sum()).alias("v"),
                ((x * (w / n) ** 2).sum() / w.sum() ** 2).alias("variance"),
            )
            .filter(events >= 10)
            .with_columns(
                rate=pl.col("v") * 1000,
                lower=(pl.col("v") + spread * (low - events)) * 1000,
                upper=(pl.col("v") + spread * (high - events)) * 1000,
            )
        )

    def q7(self):
        pl = self.pl
        production = pl.when(pl.col("production_mode") == "1").then(pl.lit("own")).otherwise(pl.lit("purchased"))
        return (
            self.care_event.group_by("county", pl.col("event_on").dt.truncate("1mo").alias("month"), "service_class",
                                     production.alias("production"))
            .agg(self.cents().alias("cost_cents"), pl.col("units").cast(pl.Int64).sum())
            .with_columns(unit_cost=pl.col("cost_cents") / 100 / pl.col("units"))
        )

    def q8(self):
        pl = self.pl
        by = ["county", "cost_centre"]
        scenarios = {"T": "actual", "TA": "budget", "E": "forecast"}
        cell = self.ledger.group_by(*by, pl.col("booking_month").dt.truncate("1mo").alias("month")).agg(
            (pl.col("amount").filter(pl.col("scenario") == code).sum() * 100).cast(pl.Int64).alias(name)
            for code, name in scenarios.items()
        )
        grid = cell.select(by).unique().join(self.months().filter(pl.col("month").dt.year() == 2025), how="cross")
        return (
            grid.join(cell, on=[*by, "month"], how="left")
            .sort(*by, "month")
            .select(
                *by,
                "month",
                *(pl.col(name).fill_null(0).cum_sum().over(by).alias(f"{name}_cents") for name in scenarios.values()),
            )
        )

    def measured(self, measure):
        pl = self.pl
        return {
            "visits": [pl.len().alias("visits")],
            "units": [pl.col("units").cast(pl.Int64).sum()],
            "cost": [self.cents().alias("cost_cents")],
            "unit_cost": [self.cents().alias("cost_cents"), pl.col("units").cast(pl.Int64).sum()],
            "over14": [pl.col("referred_on").count().alias("waits"), (self.wait() > 14).sum().alias("over14")],
            "clients": [pl.col("client_pid").n_unique().alias("clients")],
        }[measure]

    def one(self, service, measure):
        pl = self.pl
        rows = self.care_event.filter(pl.col("service_class") == service)
        month = pl.col("event_on").dt.truncate("1mo").alias("month")
        return rows.group_by("county", month).agg(self.measured(measure))

    def fused(self):
        pl = self.pl
        rows = self.care_event.filter(pl.col("service_class").is_in(list(CLASSES)))
        month = pl.col("event_on").dt.truncate("1mo").alias("month")
        measures = [m for name in ("visits", "units", "cost", "over14", "clients") for m in self.measured(name)]
        return rows.group_by("county", month, "service_class").agg(measures)


ENGINES = {
    "duckdb": DuckDb,
    "duckdb_native": DuckDbNative,
    "polars": Polars,
    "chdb": ChDb,
    "datafusion": DataFusion,
}
