"""pandas over ADBC."""

import warnings

import adbc_driver_flightsql.dbapi as flight_sql
import pandas

from matrix import (
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
client = Client("pandas", "pandas", "adbc-driver-flightsql")


def connect(**options):
    options = options or {"username": USER, "password": PASSWORD}
    return flight_sql.connect(URI, db_kwargs=options, autocommit=True)


shared = connect()


def frame(sql, connection=shared, **options):
    return pandas.read_sql(sql, connection, **options)


def rows(sql, connection=shared):
    return list(frame(sql, connection).itertuples(index=False, name=None))


def one_value(sql, **options):
    return frame(sql, **options)["v"].to_list()[0]


def a_missing_value():
    holds(pandas.isna(one_value("SELECT CAST(NULL AS VARCHAR) AS v")), "a missing value")


client.types(
    one_value,
    null=a_missing_value,
    list=lambda: equal(list(one_value("SELECT [1, 2, 3] AS v")), [1, 2, 3]),
)
client.answers(rows)
client.not_offered(
    "by_batch",
    "side_by_side",
    "question_mark",
    "dollar",
    "typed_on_bind",
    "null_parameter",
    "many_rows",
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
        equal(rows("SELECT 1 AS n", connection), [(1,)])


@client.feature("token")
def connects_with_a_token():
    with connect(**{"adbc.flight.sql.authorization_header": "Bearer abc"}) as connection:
        equal(rows("SELECT 1 AS n", connection), [(1,)])


@client.feature("query")
def rows_and_names():
    found = frame("SELECT 1 AS n, 'x' AS t UNION ALL SELECT 2, 'y' ORDER BY n")
    equal(found.to_dict("list"), {"n": [1, 2], "t": ["x", "y"]})


@client.feature("zero_rows")
def no_rows():
    found = frame("SELECT 1 AS n, 'x' AS t WHERE 1 = 0")
    equal((len(found), list(found.columns)), (0, ["n", "t"]))


@client.feature("large_result")
def many_rows_arrive():
    found = frame(MANY_SQL)
    equal((len(found), int(found["n"].sum())), (MANY, MANY * (MANY + 1) // 2))


@client.feature("unicode")
def letters():
    name, value = UNICODE
    equal(frame(UNICODE_SQL).to_dict("list"), {name: [value]})


@client.feature("ingest")
def rows_are_uploaded():
    pandas.DataFrame({"a": [1]}).to_sql("matrix", shared, index=False, if_exists="replace")
    equal(frame("SELECT a FROM workspace.matrix").to_dict("list"), {"a": [1]})
    frame("DROP TABLE workspace.matrix")


client.run()
