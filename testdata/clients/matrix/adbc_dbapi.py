"""adbc-driver-flightsql through its DB-API module, as most Python programs use it."""

import datetime
import warnings

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow
from adbc_driver_flightsql import ConnectionOptions, DatabaseOptions

from matrix import (
    ENDLESS_SQL,
    MANY,
    MANY_SQL,
    PASSWORD,
    UNICODE,
    UNICODE_SQL,
    URI,
    USER,
    Client,
    equal,
    holds,
    raises,
)

# The server has no transactions, and says so; the module warns that it cannot make them.
warnings.filterwarnings("ignore", message="Cannot disable autocommit")
client = Client("ADBC, DB-API", "adbc-driver-flightsql", "adbc-driver-manager", "pyarrow")


def connect(**options):
    options = options or {"username": USER, "password": PASSWORD}
    return flight_sql.connect(URI, db_kwargs=options, autocommit=True)


shared = connect()


def rows(sql, parameters=None):
    with shared.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def value(sql):
    ((found,),) = rows(sql)
    return found


client.types(value)
client.answers(rows, "update")
client.not_offered("type_info", "get_schema", "renew", "release")


@client.feature("connect", "password", "close")
def connects_with_a_password():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        equal(cursor.fetchall(), [(1,)])


@client.feature("token")
def connects_with_a_token():
    header = {DatabaseOptions.AUTHORIZATION_HEADER.value: "Bearer abc"}
    with connect(**header) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        equal(cursor.fetchall(), [(1,)])


@client.feature("query")
def rows_and_names():
    with shared.cursor() as cursor:
        cursor.execute("SELECT 1 AS n, 'x' AS t UNION ALL SELECT 2, 'y' ORDER BY n")
        equal([column[0] for column in cursor.description], ["n", "t"])
        equal(cursor.fetchone(), (1, "x"))
        equal(cursor.fetchall(), [(2, "y")])


@client.feature("zero_rows")
def no_rows():
    with shared.cursor() as cursor:
        cursor.execute("SELECT 1 AS n, 'x' AS t WHERE 1 = 0")
        equal([column[0] for column in cursor.description], ["n", "t"])
        equal(cursor.fetch_arrow_table().num_rows, 0)


@client.feature("large_result")
def many_rows_arrive():
    with shared.cursor() as cursor:
        cursor.execute(MANY_SQL)
        found = cursor.fetch_arrow_table()
    equal((found.num_rows, sum(found["n"].to_pylist())), (MANY, MANY * (MANY + 1) // 2))


@client.feature("by_batch")
def the_first_batch_comes_first():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(ENDLESS_SQL)
        holds(cursor.fetchone()[0] > 0, "a row comes")
        cursor.adbc_cancel()


@client.feature("side_by_side")
def two_results():
    with shared.cursor() as first, shared.cursor() as second:
        first.execute(MANY_SQL)
        second.execute("SELECT 2")
        equal(second.fetchall(), [(2,)])
        equal(len(first.fetchall()), MANY)


@client.feature("unicode")
def letters():
    with shared.cursor() as cursor:
        cursor.execute(UNICODE_SQL)
        equal((cursor.description[0][0], *cursor.fetchone()), UNICODE)


@client.feature("question_mark")
def question_marks():
    equal(rows("SELECT ? + 1, '?' || ?", (41, "x")), [(42, "?x")])


@client.feature("dollar")
def numbered():
    equal(rows("SELECT $2 || $1", ("a", "b")), [("ba",)])


@client.feature("typed_on_bind")
def types_come_with_values():
    day = datetime.date(2024, 2, 29)
    equal(rows("SELECT ?, ?, ?", ("x", day, 1.5)), [("x", day, 1.5)])


@client.feature("null_parameter")
def a_null_is_bound():
    equal(rows("SELECT CAST(? AS BIGINT) IS NULL", (None,)), [(True,)])


@client.feature("many_rows")
def each_row_is_a_run():
    equal(rows("SELECT ? AS n", pyarrow.record_batch({"p": [3, 4, 5]})), [(3,), (4,), (5,)])


@client.feature("parameter_schema")
def parameters_are_told():
    with shared.cursor() as cursor:
        told = cursor.adbc_prepare("SELECT value FROM generate_series(1, 9) WHERE value > ?")
    equal([field.type for field in told], [pyarrow.int64()])


@client.feature("execute_schema")
def a_schema_without_a_run():
    with shared.cursor() as cursor:
        found = cursor.adbc_execute_schema("SELECT 1 AS n, 'x' AS t")
    equal(found, pyarrow.schema([("n", pyarrow.int64()), ("t", pyarrow.string())]))


def objects(depth, **filters):
    return shared.adbc_get_objects(depth=depth, **filters).read_all().to_pylist()


@client.feature("catalogs")
def catalogues():
    equal([entry["catalog_name"] for entry in objects("catalogs")], ["tietopohja"])


@client.feature("schemas")
def schemas():
    names = [entry["db_schema_name"] for entry in objects("db_schemas")[0]["catalog_db_schemas"]]
    holds({"published", "reference", "information_schema"} <= set(names), f"{names}")


@client.feature("tables")
def tables():
    found = objects("tables", db_schema_filter="published")[0]["catalog_db_schemas"]
    names = [entry["table_name"] for entry in found[0]["db_schema_tables"]]
    holds("indicator_value" in names, f"{names}")


@client.feature("table_types")
def kinds_of_tables():
    holds({"TABLE", "VIEW"} <= set(shared.adbc_get_table_types()), "tables and views")


@client.feature("columns")
def columns():
    found = objects("all", db_schema_filter="published", table_name_filter="indicator_value")
    (table,) = found[0]["catalog_db_schemas"][0]["db_schema_tables"]
    listed = [column["column_name"] for column in table["table_columns"]]
    with shared.cursor() as cursor:
        cursor.execute("SELECT * FROM published.indicator_value LIMIT 0")
        equal(listed, [column[0] for column in cursor.description])


@client.feature("one_table")
def one_table():
    found = shared.adbc_get_table_schema("indicator_value", db_schema_filter="published")
    equal(found.field("value").type, pyarrow.float64())


@client.client_fault("keys", "no keys", "the answer of `get_objects` has none")
def keys():
    found = objects("all", db_schema_filter="reference", table_name_filter="area_member")
    (table,) = found[0]["catalog_db_schemas"][0]["db_schema_tables"]
    holds(table["table_constraints"], "no keys")


@client.client_fault("comments", "no comments", "the answer of `get_objects` has none")
def comments():
    found = objects("all", db_schema_filter="published", table_name_filter="indicator_value")
    (table,) = found[0]["catalog_db_schemas"][0]["db_schema_tables"]
    holds(any(column["remarks"] for column in table["table_columns"]), "no comments")


@client.feature("sql_info")
def the_server_is_described():
    equal(shared.adbc_get_info()["vendor_name"], "Tietopohja")


@client.feature("partitions")
def tickets_elsewhere():
    with shared.cursor() as cursor:
        partitions, _ = cursor.adbc_execute_partitions("SELECT 7 AS seven")
    found = []
    with connect() as other, other.cursor() as cursor:
        for partition in partitions:
            cursor.adbc_read_partition(partition)
            found += cursor.fetchall()
    equal(found, [(7,)])


@client.feature("poll")
def polls():
    with shared.cursor() as cursor:
        cursor.adbc_statement.set_options(**{"adbc.statement.exec.incremental": "true"})
        partitions, _ = cursor.adbc_execute_partitions("SELECT 7 AS seven")
    holds(partitions, "there is a ticket")


@client.feature("cancel")
def cancels():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(ENDLESS_SQL)
        reader = cursor.fetch_record_batch()
        reader.read_next_batch()
        cursor.adbc_cancel()

        def drain():
            for _ in reader:
                pass

        raises(Exception, "ancel", drain)


@client.feature("session_read")
def reads_the_session():
    equal(shared.adbc_current_catalog, "tietopohja")
    equal(shared.adbc_current_db_schema, "published")


@client.feature("session_set")
def sets_the_session():
    shared.adbc_current_db_schema = "published"
    equal(shared.adbc_current_db_schema, "published")
    wrong = {ConnectionOptions.OPTION_SESSION_OPTION_PREFIX.value + "nonsense": "1"}
    raises(flight_sql.Error, "nonsense", lambda: shared.adbc_connection.set_options(**wrong))


@client.feature("transaction")
def transactions():
    with connect() as connection:
        connection.adbc_connection.set_autocommit(False)


@client.feature("update")
def a_table_is_made():
    with shared.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE TABLE workspace.matrix (a BIGINT)")
        cursor.executemany("INSERT INTO workspace.matrix VALUES (?)", [(1,), (2,)])
        equal(cursor.rowcount, 2)
    equal(rows("SELECT sum(a) FROM workspace.matrix"), [(3,)])
    rows("DROP TABLE workspace.matrix")


@client.feature("ingest")
def rows_are_uploaded():
    with shared.cursor() as cursor:
        equal(cursor.adbc_ingest("matrix", pyarrow.table({"a": [1]}), mode="create"), 1)
    equal(rows("SELECT a FROM workspace.matrix"), [(1,)])
    rows("DROP TABLE workspace.matrix")


client.run()
