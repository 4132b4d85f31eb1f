"""flightsql-dbapi: SQLAlchemy 1.4 over Flight SQL, the way of Superset; and its own calls."""

import datetime
import math
import urllib.parse
import warnings

import flightsql
import flightsql.sqlalchemy  # makes its dialect known
import sqlalchemy
from flightsql.client import FlightSQLClient, TableRef
from sqlalchemy import text

from matrix import (
    HOST,
    MANY,
    MANY_SQL,
    PASSWORD,
    PORT,
    TYPES,
    UNICODE,
    UNICODE_SQL,
    USER,
    Client,
    equal,
    holds,
)

warnings.simplefilter("ignore")
client = Client("flightsql-dbapi", "flightsql-dbapi", "SQLAlchemy", "pyarrow")


def engine(user=f"{USER}:{PASSWORD}@", **options):
    options = {
        "insecure": "true",
        "database": "tietopohja",
        "feature-sqlalchemy-prepared-statements": "on",
        "feature-sqlalchemy-primary-keys": "on",
        **options,
    }
    query = urllib.parse.urlencode(options)
    return sqlalchemy.create_engine(f"datafusion+flightsql://{user}{HOST}:{PORT}/?{query}")


shared = engine()
own = FlightSQLClient(host=HOST, port=int(PORT), user=USER, password=PASSWORD, insecure=True)


def rows(sql, parameters=None):
    with shared.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql), parameters or {})]


def read(info):
    (endpoint,) = info.endpoints
    return own.do_get(endpoint.ticket).read_all().to_pylist()


def bound(sql, parameters):
    with flightsql.connect(own) as connection:
        return [tuple(row) for row in connection.cursor().execute(sql, parameters).fetchall()]


def value(sql):
    ((found,),) = rows(sql)
    return found


def a_date_comes_with_midnight():
    equal(value(TYPES["date"][0]), datetime.datetime(2024, 2, 29))


def a_missing_value():
    holds(math.isnan(value(TYPES["null"][0])), "a missing value")


client.types(
    value,
    date=a_date_comes_with_midnight,
    null=a_missing_value,
    list=lambda: equal(list(rows("SELECT [1, 2, 3] AS v")[0][0]), [1, 2, 3]),
)
client.answers(rows)
client.not_offered(
    "by_batch",
    "parameter_schema",
    "execute_schema",
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
    "comments",
    "null_parameter",
    "many_rows",
)


@client.feature("connect", "password", "close")
def connects_with_a_password():
    fresh = engine()
    with fresh.connect() as connection:
        equal(connection.execute(text("SELECT 1 AS n")).scalar(), 1)
    fresh.dispose()


@client.feature("token")
def connects_with_a_token():
    with engine("", token="abc").connect() as connection:
        equal(connection.execute(text("SELECT 1 AS n")).scalar(), 1)


@client.feature("query")
def rows_and_names():
    with shared.connect() as connection:
        found = connection.execute(text("SELECT 1 AS n, 'x' AS t"))
        equal((list(found.keys()), found.fetchall()), (["n", "t"], [(1, "x")]))


@client.feature("zero_rows")
def no_rows():
    with shared.connect() as connection:
        found = connection.execute(text("SELECT 1 AS n, 'x' AS t WHERE 1 = 0"))
        equal((list(found.keys()), found.fetchall()), (["n", "t"], []))


@client.feature("large_result")
def many_rows_arrive():
    equal(sum(row[0] for row in rows(MANY_SQL)), MANY * (MANY + 1) // 2)


@client.feature("side_by_side")
def two_results():
    with shared.connect() as one, shared.connect() as other:
        first = one.execute(text(MANY_SQL))
        equal(other.execute(text("SELECT 2 AS n")).scalar(), 2)
        equal(len(first.fetchall()), MANY)


@client.feature("unicode")
def letters():
    with shared.connect() as connection:
        found = connection.execute(text(UNICODE_SQL))
        equal((*found.keys(), found.scalar()), UNICODE)


@client.feature("question_mark", "typed_on_bind")
def values_are_bound():
    equal(rows("SELECT :n + 1 AS n, :t AS t", {"n": 41, "t": "x"}), [(42, "x")])
    equal(bound("SELECT ? AS t, ? AS n", ("x", 1.5)), [("x", 1.5)])


@client.feature("dollar")
def numbered():
    equal(bound("SELECT $2 || $1 AS t", ("a", "b")), [("ba",)])


def inspector():
    return sqlalchemy.inspect(shared)


@client.feature("catalogs")
def catalogues():
    equal(read(own.get_catalogs()), [{"catalog_name": "tietopohja"}])


@client.feature("schemas")
def schemas():
    holds({"published", "reference"} <= set(inspector().get_schema_names()), "schemas")


@client.feature("tables")
def tables():
    holds("indicator_value" in inspector().get_table_names("published"), "a table")
    holds(inspector().has_table("area_member", "reference"), "has_table finds it")
    found = read(own.get_tables(table_types=["BASE TABLE"], db_schema_filter_pattern="refer%"))
    holds("area_member" in [entry["table_name"] for entry in found], "a base table")


@client.feature("table_types")
def kinds_of_tables():
    found = [entry["table_type"] for entry in read(own.get_table_types())]
    holds({"TABLE", "VIEW"} <= set(found), f"{found}")


@client.feature("columns", "one_table")
def columns():
    found = inspector().get_columns("indicator_value", "published")
    types = {column["name"]: str(column["type"]) for column in found}
    wanted = {"indicator": "TEXT", "value": "FLOAT", "period_start": "DATE"}
    equal({name: types[name] for name in wanted}, wanted)


@client.feature("keys")
def keys():
    found = inspector().get_pk_constraint("area_member", "reference")
    holds(found["constrained_columns"], "a primary key")
    table = TableRef(db_schema="reference", table="area_member")
    holds(read(own.get_imported_keys(table)), "foreign keys")


@client.feature("type_info")
def type_info():
    names = {entry["type_name"] for entry in read(own.get_xdbc_type_info(None))}
    holds({"BIGINT", "DECIMAL", "VARCHAR", "DATE", "TIMESTAMP"} <= names, f"{names}")


@client.feature("sql_info")
def the_server_is_described():
    told = {entry["info_name"]: entry["value"] for entry in read(own.get_sql_info([]))}
    equal((told[0], told[3], told[504]), ("Tietopohja", False, '"'))


client.run()
