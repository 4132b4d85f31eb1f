"""polars over ADBC."""

import warnings

import adbc_driver_flightsql.dbapi as flight_sql
import polars

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
)

warnings.filterwarnings("ignore", message="Cannot disable autocommit")
client = Client("polars", "polars", "adbc-driver-flightsql")


def connect(**options):
    options = options or {"username": USER, "password": PASSWORD}
    return flight_sql.connect(URI, db_kwargs=options, autocommit=True)


shared = connect()


def frame(sql, **options):
    return polars.read_database(sql, shared, **options)


client.types(lambda sql: frame(sql)["v"].to_list()[0])
# polars itself lets only statements through that read.
client.answers(lambda sql: frame(sql).rows(), "update")
client.not_offered(
    "update",
    "parameter_schema",
    "execute_schema",
    "catalogs",
    "schemas",
    "tables",
    "table_types",
    "columns",
    "one_table",
    "keys",
    "comments",
    "type_info",
    "sql_info",
    "get_schema",
    "partitions",
    "poll",
    "cancel",
    "renew",
    "session_read",
    "session_set",
    "release",
    "transaction",
)


@client.feature("connect", "password", "close")
def connects_with_a_password():
    with connect() as connection:
        equal(polars.read_database("SELECT 1 AS n", connection).rows(), [(1,)])


@client.feature("token")
def connects_with_a_token():
    with connect(**{"adbc.flight.sql.authorization_header": "Bearer abc"}) as connection:
        equal(polars.read_database("SELECT 1 AS n", connection).rows(), [(1,)])


@client.feature("query")
def rows_and_names():
    found = frame("SELECT 1 AS n, 'x' AS t UNION ALL SELECT 2, 'y' ORDER BY n")
    equal(dict(found.schema), {"n": polars.Int64, "t": polars.String})
    equal(found.rows(), [(1, "x"), (2, "y")])


@client.feature("zero_rows")
def no_rows():
    found = frame("SELECT 1 AS n, 'x' AS t WHERE 1 = 0")
    equal(dict(found.schema), {"n": polars.Int64, "t": polars.String})
    equal(found.height, 0)


@client.feature("large_result")
def many_rows_arrive():
    found = frame(MANY_SQL)
    equal((found.height, found["n"].sum()), (MANY, MANY * (MANY + 1) // 2))


@client.feature("by_batch")
def the_first_batch_comes_first():
    with connect() as connection:
        cursor = connection.cursor()
        batches = polars.read_database(ENDLESS_SQL, cursor, iter_batches=True, batch_size=100)
        holds(next(batches).height > 0, "rows come")
        cursor.adbc_cancel()
        cursor.close()


@client.feature("side_by_side")
def two_results():
    first = polars.read_database(MANY_SQL, shared, iter_batches=True, batch_size=100)
    height = next(first).height
    equal(frame("SELECT 2 AS n").rows(), [(2,)])
    equal(height + sum(batch.height for batch in first), MANY)


@client.feature("unicode")
def letters():
    name, value = UNICODE
    equal(frame(UNICODE_SQL).to_dict(as_series=False), {name: [value]})


def bound(sql, parameters):
    return frame(sql, execute_options={"parameters": parameters}).rows()


@client.feature("question_mark")
def question_marks():
    equal(bound("SELECT ? + 1 AS n, '?' || ? AS t", [41, "x"]), [(42, "?x")])


@client.feature("dollar")
def numbered():
    equal(bound("SELECT $2 || $1 AS t", ["a", "b"]), [("ba",)])


@client.feature("typed_on_bind")
def types_come_with_values():
    equal(bound("SELECT ? AS t, ? AS r", ["x", 1.5]), [("x", 1.5)])


@client.feature("null_parameter")
def a_null_is_bound():
    equal(bound("SELECT CAST(? AS BIGINT) IS NULL AS n", [None]), [(True,)])


@client.feature("many_rows")
def each_row_is_a_run():
    values = polars.DataFrame({"p": [3, 4, 5]}).to_arrow()
    equal(bound("SELECT ? AS n", values), [(3,), (4,), (5,)])


@client.feature("ingest")
def rows_are_uploaded():
    rows = polars.DataFrame({"a": [1]})
    rows.write_database("matrix", shared, engine="adbc", if_table_exists="replace")
    equal(frame("SELECT a FROM workspace.matrix").rows(), [(1,)])


client.run()
