"""Checks tables of one's own with the Python ADBC Flight SQL driver.

    python workspace.py grpc://127.0.0.1:50051

Needs adbc-driver-flightsql, adbc-driver-manager and pyarrow; the server's visitors must have the role
analyst or admin. Prints a line for each check and `N passed, N failed`; the exit status is 0 when all
passed.
"""

import datetime
import decimal
import sys
import warnings

import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import pyarrow

from checks import Checks, equal, holds, raises

# The server has no transactions, and says so; the DB-API module warns that it cannot make them.
warnings.filterwarnings("ignore", message="Cannot disable autocommit")

SAMPLE = pyarrow.table(
    {
        "id": pyarrow.array([1, 2, 3], pyarrow.int64()),
        "name": pyarrow.array(["yksi", None, "🙂"]),
        "amount": pyarrow.array([decimal.Decimal("1.25"), None, decimal.Decimal("-3.00")]),
        "day": pyarrow.array([datetime.date(2024, 2, 29), None, datetime.date(1969, 12, 31)]),
        "moment": pyarrow.array([datetime.datetime(2024, 2, 29, 12, 30), None, None]),
        "flag": pyarrow.array([True, False, None]),
    }
)


class Workspace:
    """A connection, and a table name that is free before and after each check."""

    def __init__(self, uri):
        self.connection = flight_sql.connect(
            uri, db_kwargs={"username": "anyone", "password": "anything"}, autocommit=True
        )

    def rows(self, sql, parameters=None):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()

    def table(self, sql):
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetch_arrow_table()

    def run(self, sql):
        with self.connection.cursor() as cursor:
            cursor.execute(sql)

    def ingest(self, data, mode, **options):
        with self.connection.cursor() as cursor:
            return cursor.adbc_ingest("adbc", data, mode=mode, **options)

    def clear(self):
        self.run("DROP TABLE IF EXISTS workspace.adbc")


def ingests_and_reads_the_same(workspace):
    equal(workspace.ingest(SAMPLE, "create"), 3)
    found = workspace.table("SELECT * FROM workspace.adbc ORDER BY id")
    equal(found.to_pylist(), SAMPLE.to_pylist())


def ingests_in_four_modes(workspace):
    raises(Exception, "workspace.adbc", lambda: workspace.ingest(SAMPLE, "append"))
    equal(workspace.ingest(SAMPLE, "create"), 3)
    raises(Exception, "exists already", lambda: workspace.ingest(SAMPLE, "create"))
    equal(workspace.ingest(SAMPLE, "append"), 3)
    equal(workspace.ingest(SAMPLE, "create_append"), 3)
    equal(workspace.rows("SELECT count(*) FROM workspace.adbc"), [(9,)])
    equal(workspace.ingest(SAMPLE.slice(0, 1), "replace"), 1)
    equal(workspace.rows("SELECT count(*) FROM workspace.adbc"), [(1,)])


def ingests_batches_as_they_come(workspace):
    def batches():
        for start in range(0, 200_000, 20_000):
            numbers = pyarrow.array(range(start, start + 20_000), pyarrow.int64())
            yield pyarrow.record_batch([numbers], names=["n"])

    schema = pyarrow.schema([("n", pyarrow.int64())])
    reader = pyarrow.RecordBatchReader.from_batches(schema, batches())
    equal(workspace.ingest(reader, "create"), 200_000)
    equal(workspace.rows("SELECT count(*), sum(n) FROM workspace.adbc"), [(200_000, 19_999_900_000)])


def ingests_into_a_named_schema_only(workspace):
    workspace.ingest(SAMPLE, "create", db_schema_name="workspace", catalog_name="tietopohja")
    raises(
        Exception,
        "workspace",
        lambda: workspace.ingest(SAMPLE, "create", db_schema_name="published"),
    )


def executes_many(workspace):
    workspace.run("CREATE TABLE workspace.adbc (id BIGINT, name VARCHAR)")
    with workspace.connection.cursor() as cursor:
        rows = [(number, f"n{number}") for number in range(500)]
        cursor.executemany("INSERT INTO workspace.adbc VALUES (?, ?)", rows)
        equal(cursor.rowcount, 500)
    equal(workspace.rows("SELECT count(*), max(name) FROM workspace.adbc"), [(500, "n99")])


def executes_changes_once(workspace):
    workspace.run("CREATE TABLE workspace.adbc AS SELECT 1 AS a")
    workspace.run("INSERT INTO workspace.adbc VALUES (2)")
    workspace.run("UPDATE workspace.adbc SET a = a + 10")
    workspace.run("DELETE FROM workspace.adbc WHERE a = 11")
    equal(workspace.rows("SELECT a FROM workspace.adbc"), [(12,)])


def lists_the_table(workspace):
    workspace.run("CREATE TABLE workspace.adbc AS SELECT 1 AS a")
    found = workspace.connection.adbc_get_table_schema("adbc", db_schema_filter="workspace")
    equal(found.names, ["a"])
    objects = workspace.connection.adbc_get_objects(
        depth="tables", db_schema_filter="workspace", table_name_filter="adbc"
    )
    listed = str(objects.read_all().to_pylist())
    holds("'adbc'" in listed, listed)


CHECKS = [
    ingests_and_reads_the_same,
    ingests_in_four_modes,
    ingests_batches_as_they_come,
    ingests_into_a_named_schema_only,
    executes_many,
    executes_changes_once,
    lists_the_table,
]


def main(uri):
    checks = Checks(f"adbc {adbc_driver_manager.__version__} workspace")
    workspace = Workspace(uri)
    for check in CHECKS:
        workspace.clear()
        checks.run(check.__name__.replace("_", " "), check, workspace)
    workspace.clear()
    checks.finish()


if __name__ == "__main__":
    main(sys.argv[1])
