"""sqlalchemy-adbc: SQLAlchemy 2 over ADBC, queries and reflection."""

import urllib.parse
import warnings

import sqlalchemy
from sqlalchemy import text

from matrix import (
    HOST,
    MANY,
    MANY_SQL,
    PASSWORD,
    PORT,
    UNICODE,
    UNICODE_SQL,
    USER,
    Client,
    equal,
    holds,
    raises,
)

warnings.filterwarnings("ignore", message="Cannot disable autocommit")
client = Client("sqlalchemy-adbc", "sqlalchemy-adbc", "sqlalchemy", "adbc-driver-flightsql")


def engine(**options):
    options = options or {"username": USER, "password": PASSWORD}
    query = urllib.parse.urlencode({"tls": "false", **options})
    return sqlalchemy.create_engine(f"adbc+flightsql://{HOST}:{PORT}/?{query}")


shared = engine()


def rows(sql, parameters=None):
    with shared.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql), parameters)]


client.types(lambda sql: rows(sql)[0][0])
client.answers(rows, "as_of")
client.not_offered(
    "dollar",
    "parameter_schema",
    "execute_schema",
    "catalogs",
    "table_types",
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
    "ingest",
)


@client.feature("connect", "password", "close")
def connects_with_a_password():
    own = engine()
    with own.connect() as connection:
        equal(connection.execute(text("SELECT 1")).scalar_one(), 1)
    own.dispose()


@client.feature("token")
def connects_with_a_token():
    with engine(authorization="Bearer abc").connect() as connection:
        equal(connection.execute(text("SELECT 1")).scalar_one(), 1)


@client.feature("query")
def rows_and_names():
    with shared.connect() as connection:
        found = connection.execute(text("SELECT 1 AS n, 'x' AS t"))
        equal(list(found.keys()), ["n", "t"])
        equal([tuple(row) for row in found], [(1, "x")])


@client.feature("zero_rows")
def no_rows():
    with shared.connect() as connection:
        found = connection.execute(text("SELECT 1 AS n, 'x' AS t WHERE 1 = 0"))
        equal((list(found.keys()), found.all()), (["n", "t"], []))


@client.feature("large_result", "by_batch")
def many_rows_arrive():
    with shared.connect() as connection:
        streaming = connection.execution_options(stream_results=True, max_row_buffer=100)
        found = streaming.execute(text(MANY_SQL))
        first = found.fetchone().n
        equal(first + sum(row.n for row in found), MANY * (MANY + 1) // 2)


@client.feature("side_by_side")
def two_results():
    with shared.connect() as one, shared.connect() as other:
        first = one.execute(text(MANY_SQL))
        equal(other.execute(text("SELECT 2")).scalar_one(), 2)
        equal(len(first.all()), MANY)


@client.feature("unicode")
def letters():
    with shared.connect() as connection:
        found = connection.execute(text(UNICODE_SQL))
        equal((*found.keys(), found.scalar_one()), UNICODE)


@client.feature("as_of")
def one_connection_is_pinned():
    # A connection of its own has a session of its own.
    with shared.connect() as connection:

        def values():
            query = "SELECT count(*) AS n FROM published.indicator_value"
            return connection.execute(text(query)).scalar_one()

        holds(values() > 0, "there are values now")
        connection.execute(text("SET tietopohja.as_of = '2020-01-01'"))
        equal(values(), 0)


@client.feature("question_mark", "typed_on_bind")
def values_are_bound():
    equal(rows("SELECT :n + 1, :t", {"n": 41, "t": "x"}), [(42, "x")])
    column = sqlalchemy.column("value")
    numbers = text("generate_series(1, 9)")
    query = sqlalchemy.select(column).select_from(numbers).where(column > 7).limit(1)
    with shared.connect() as connection:
        equal(connection.execute(query).scalar_one(), 8)


@client.feature("null_parameter")
def a_null_is_bound():
    equal(rows("SELECT CAST(:n AS BIGINT) IS NULL", {"n": None}), [(True,)])


@client.feature("many_rows")
def many_rows_are_one_call():
    delete = "DELETE FROM reference.county WHERE 1 = :n"
    raises(Exception, "not allowed", lambda: rows(delete, [{"n": 1}, {"n": 2}]))


def inspector():
    return sqlalchemy.inspect(shared)


@client.feature("schemas")
def schemas():
    holds({"published", "reference"} <= set(inspector().get_schema_names()), "schemas")


@client.client_fault(
    "tables", "[]", "it lists tables only where their kind is `table` in small letters"
)
def tables():
    found = inspector().get_table_names("reference")
    holds("area_member" in found, f"{found}")


@client.feature("columns", "one_table")
def columns():
    found = inspector().get_columns("indicator_value", "published")
    types = {column["name"]: type(column["type"]).__name__ for column in found}
    wanted = {"indicator": "String", "value": "Float", "period_start": "Date"}
    equal({name: types[name] for name in wanted}, wanted)
    holds(inspector().has_table("indicator_value", "published"), "has_table finds it")
    holds(not inspector().has_table("indicator%value", "published"), "has_table is exact")
    table = sqlalchemy.Table(
        "indicator_value", sqlalchemy.MetaData(), schema="published", autoload_with=shared
    )
    equal(list(table.columns.keys()), list(types))
    query = sqlalchemy.select(sqlalchemy.func.count()).select_from(table)
    with shared.connect() as connection:
        holds(connection.execute(query).scalar_one() > 0, "the reflected table can be asked")


@client.client_fault("keys", "no keys", "the driver below it has none in its answer")
def keys():
    found = inspector().get_pk_constraint("area_member", "reference")
    holds(found["constrained_columns"], "no keys")


@client.client_fault("comments", "no comments", "the driver below it has none in its answer")
def comments():
    found = inspector().get_columns("indicator_value", "published")
    holds(any(column.get("comment") for column in found), "no comments")


client.run()
