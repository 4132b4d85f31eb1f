"""Opens Delta tables with other people's readers and compares them with our own figures.

    python open_delta.py sql LAKE/reference/county
        prints the query that gives the figures of the table; run it with
        `tietopohja sql -o json "…"`

    python open_delta.py check EXPECTED.json LAKE/reference/county LAKE/meta/delivery …
        EXPECTED.json is an object: for each `schema.table` what `tietopohja sql -o json` printed

The figures are the number of rows, and for every numeric column the number of values and their sum:
exact for whole numbers and decimals, to 1e-9 of the sum of magnitudes for floating point, where the
order of adding matters.

Each table is read four times, as far as the reader can:

* `deltalake`: its own log and Parquet readers, through a pyarrow dataset;
* `deltalake query`: the query engine inside the same package;
* `duckdb arrow`: DuckDB's engine over that dataset;
* `duckdb parquet`: DuckDB's own Parquet reader over the files that the log names. Values of
  partition columns are not in the files, so that only the other columns are compared.

DuckDB's `delta_scan` needs an extension that is downloaded when it is first used. It is tried only
when the extension is already installed, and reported as `duckdb delta_scan`.

Needs deltalake, duckdb and pyarrow. Prints a line for each check and `N passed, N failed`; the exit
status is 0 when all passed.
"""

import decimal
import json
import math
import pathlib
import sys

import deltalake
import duckdb
import pyarrow
import pyarrow.compute

from checks import Checks, equal, holds


def name_of(folder):
    path = pathlib.Path(folder)
    return f"{path.parent.name}.{path.name}"


def open_table(folder):
    return deltalake.DeltaTable(str(folder))


def schema_of(table):
    """The schema of a table, as pyarrow sees it."""
    return pyarrow.schema(table.schema().to_arrow())


def is_number(data_type):
    types = pyarrow.types
    return (
        types.is_integer(data_type) or types.is_floating(data_type) or types.is_decimal(data_type)
    )


# Columns that our engine uses to find rows and does not show: our own figures cannot have them.
HIDDEN = {
    "published.indicator_value": {"indicator_no"},
    "result.indicator_value": {"indicator_no"},
}


def numeric_columns(table, name):
    hidden = HIDDEN.get(name, set())
    fields = [field for field in schema_of(table) if field.name not in hidden]
    return [field.name for field in fields if is_number(field.type)]


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def figures_sql(relation, columns):
    """One row: `row_count`, and for each column `count_…` and `sum_…`."""
    parts = ["count(*) AS row_count"]
    for column in columns:
        parts.append(f"count({quoted(column)}) AS {quoted('count_' + column)}")
        parts.append(f"sum({quoted(column)}) AS {quoted('sum_' + column)}")
    return f"SELECT {', '.join(parts)} FROM {relation}"


def read_deltalake(table, columns):
    """The figures from deltalake's dataset, added up here without loss."""
    dataset = table.to_pyarrow_dataset()
    figures = {"row_count": 0}
    floats = {}
    for batch in dataset.to_batches(columns=columns):
        figures["row_count"] += batch.num_rows
        for column in columns:
            values = batch.column(column)
            present = len(values) - values.null_count
            figures[f"count_{column}"] = figures.get(f"count_{column}", 0) + present
            if pyarrow.types.is_floating(values.type):
                floats.setdefault(column, []).extend(values.drop_null().to_pylist())
            elif present:
                total = pyarrow.compute.sum(values).as_py()
                figures[f"sum_{column}"] = figures.get(f"sum_{column}", 0) + total
    for column, values in floats.items():
        if values:
            figures[f"sum_{column}"] = math.fsum(values)
    return figures


def read_deltalake_query(table, columns):
    """The figures from the query engine inside deltalake."""
    builder = deltalake.QueryBuilder().register("t", table)
    answer = pyarrow.table(builder.execute(figures_sql("t", columns)).read_all())
    return answer.to_pylist()[0]


def read_duckdb(relation_sql, columns, **relations):
    """The figures from DuckDB over a relation."""
    with duckdb.connect() as connection:
        for name, relation in relations.items():
            connection.register(name, relation)
        cursor = connection.execute(figures_sql(relation_sql, columns))
        names = [column[0] for column in cursor.description]
        return dict(zip(names, cursor.fetchone()))


def read_duckdb_arrow(table, columns):
    return read_duckdb("dataset", columns, dataset=table.to_pyarrow_dataset())


def read_duckdb_parquet(table, columns):
    files = table.file_uris()
    if not files:
        return {"row_count": 0}
    listed = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
    return read_duckdb(f"read_parquet([{listed}], hive_partitioning = false)", columns)


def read_duckdb_delta(table, columns):
    place = table.table_uri.replace("'", "''")
    with duckdb.connect() as connection:
        connection.execute("LOAD delta")
    return read_duckdb(f"delta_scan('{place}')", columns)


def delta_extension_is_installed():
    with duckdb.connect() as connection:
        sql = "SELECT installed FROM duckdb_extensions() WHERE extension_name = 'delta'"
        return any(installed for (installed,) in connection.execute(sql).fetchall())


def exact(value):
    """A figure as a decimal number; JSON may hold it as a number or as text."""
    return None if value is None else decimal.Decimal(str(value))


def compare(found, expected, schema, columns):
    equal(found["row_count"], int(expected["row_count"]))
    for column in columns:
        count = f"count_{column}"
        equal((count, found.get(count) or 0), (count, int(expected[count])))
        name = f"sum_{column}"
        got, wanted = exact(found.get(name)), exact(expected[name])
        if pyarrow.types.is_floating(schema.field(column).type) and None not in (got, wanted):
            room = abs(wanted) * decimal.Decimal("1e-9") + decimal.Decimal("1e-9")
            holds(abs(got - wanted) <= room, f"{name}: found {got}, wanted {wanted}")
        else:
            equal((name, got), (name, wanted))


def check_table(checks, folder, expected):
    name = name_of(folder)
    opened = []
    checks.run(f"{name}: opens", lambda: opened.append(open_table(folder)))
    if not opened:
        return
    (table,) = opened
    schema = schema_of(table)
    columns = numeric_columns(table, name)
    stored = [column for column in columns if column not in table.metadata().partition_columns]
    readers = [
        ("deltalake", read_deltalake, columns),
        ("deltalake query", read_deltalake_query, columns),
        ("duckdb arrow", read_duckdb_arrow, columns),
        ("duckdb parquet", read_duckdb_parquet, stored),
    ]
    if delta_extension_is_installed():
        readers.append(("duckdb delta_scan", read_duckdb_delta, columns))
    for reader, read, compared in readers:
        checks.run(
            f"{name}: {reader}",
            lambda: compare(read(table, compared), expected, schema, compared),
        )


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "sql":
        folder = sys.argv[2]
        name = name_of(folder)
        print(figures_sql(name, numeric_columns(open_table(folder), name)))
        return
    if len(sys.argv) < 4 or sys.argv[1] != "check":
        sys.exit("usage: open_delta.py sql FOLDER | open_delta.py check EXPECTED.json FOLDER…")
    with open(sys.argv[2], encoding="utf-8") as file:
        expected = json.load(file, parse_float=decimal.Decimal)
    checks = Checks("Delta tables")
    for folder in sys.argv[3:]:
        figures = expected.get(name_of(folder))
        # What the command line prints is a list of one row.
        figures = figures[0] if isinstance(figures, list) else figures
        if figures is None:
            missing = KeyError(f"no figures for {name_of(folder)} in {sys.argv[2]}")

            def fail(missing=missing):
                raise missing

            checks.run(f"{name_of(folder)}: figures", fail)
        else:
            check_table(checks, folder, figures)
    checks.finish()


if __name__ == "__main__":
    main()
