"""What each Python client can do with a running server, one JSON object a line.

    python matrix.py grpc://127.0.0.1:50051

A feature that is not called is told as `not tried`, never left out. What the server
refuses is asserted with its status, so that the matrix changes when the server does. The exit
status is 0 when every feature did as asserted. A new feature goes to `FEATURES` of
`matrix_page.py`, and to every client that offers it.
"""

import decimal
import importlib.metadata
import json
import sys
import warnings

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import pandas
import polars
import pyarrow
import pyarrow.flight
import sqlalchemy

from adbc_flight import command, field, raw_query
from checks import equal, holds, raises
from matrix_page import FEATURES

warnings.filterwarnings("ignore", message="Cannot disable autocommit")

TYPES = (
    "SELECT CAST(1.25 AS DECIMAL(9, 2)) AS amount, DATE '2024-02-29' AS day, "
    "TIMESTAMP '2024-02-29 12:30:00' AS moment, CAST(NULL AS BIGINT) AS missing, 1.5 AS ratio"
)
MANY = "SELECT value AS n FROM generate_series(1, 200000)"
UNICODE = "SELECT 'Äänekoski – 日本 🙂' AS t"
EMPTY = "SELECT 1 AS n, 'x' AS t WHERE 1 = 0"


# What pyarrow.flight makes of a status.
FLIGHT_STATUS = {pyarrow.ArrowInvalid: "INVALID_ARGUMENT"}


def check_types(found):
    equal(pyarrow.types.is_decimal128(found.schema.field("amount").type), True)
    equal(str(found.schema.field("day").type), "date32[day]")
    row = found.to_pylist()[0]
    equal(row["amount"], decimal.Decimal("1.25"))
    equal(str(row["day"]), "2024-02-29")
    equal(str(row["moment"]), "2024-02-29 12:30:00")
    equal(row["missing"], None)


def refused(kind, status, says, work):
    """The work is refused with this status; the matrix tells it."""
    error = raises(kind, says, work)
    code = getattr(error, "status_code", None)
    told = code.name if code is not None else FLIGHT_STATUS[type(error)]
    equal(told, status)
    return f"refused: {status}"


def dbapi(uri):
    connection = flight_sql.connect(
        uri, db_kwargs={"username": "anyone", "password": "anything"}, autocommit=True
    )

    def table(sql, parameters=None):
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetch_arrow_table()

    def rows(sql, parameters=None):
        return [tuple(row.values()) for row in table(sql, parameters).to_pylist()]

    def connect():
        with flight_sql.connect(uri, autocommit=True) as other, other.cursor() as cursor:
            cursor.execute("SELECT 1")
            equal(cursor.fetchall(), [(1,)])

    def empty():
        found = table(EMPTY)
        equal((found.num_rows, found.schema.names), (0, ["n", "t"]))

    def partitions():
        with flight_sql.connect(uri, autocommit=True) as other:
            with other.cursor() as first:
                found, _ = first.adbc_execute_partitions("SELECT 7 AS n")
            read = []
            for partition in found:
                with other.cursor() as cursor:
                    cursor.adbc_read_partition(partition)
                    read += cursor.fetchall()
            equal(read, [(7,)])

    def objects(depth):
        return connection.adbc_get_objects(depth=depth).read_all().to_pylist()

    def tables():
        (schema,) = [
            entry
            for entry in objects("tables")[0]["catalog_db_schemas"]
            if entry["db_schema_name"] == "published"
        ]
        names = [entry["table_name"] for entry in schema["db_schema_tables"]]
        holds("indicator_value" in names, f"{names}")

    def columns():
        found = connection.adbc_get_objects(
            depth="all", db_schema_filter="published", table_name_filter="indicator_value"
        ).read_all().to_pylist()
        (entry,) = found[0]["catalog_db_schemas"][0]["db_schema_tables"]
        listed = [column["column_name"] for column in entry["table_columns"]]
        equal(listed, table("SELECT * FROM published.indicator_value LIMIT 0").schema.names)

    def schemas():
        names = [s["db_schema_name"] for s in objects("db_schemas")[0]["catalog_db_schemas"]]
        holds("published" in names, f"{names}")

    def table_schema():
        found = connection.adbc_get_table_schema("indicator_value", db_schema_filter="published")
        equal(found.names, table("SELECT * FROM published.indicator_value LIMIT 0").schema.names)

    def result_schema():
        with connection.cursor() as cursor:
            equal(cursor.adbc_execute_schema("SELECT 1 AS n").names, ["n"])

    def cancel():
        with flight_sql.connect(uri, autocommit=True) as other, other.cursor() as cursor:
            cursor.execute("SELECT value FROM generate_series(1, 1000000000000)")
            reader = cursor.fetch_record_batch()
            reader.read_next_batch()
            cursor.adbc_cancel()
            raises(Exception, "ancel", lambda: [None for _ in reader])

    def ingest():
        with connection.cursor() as cursor:
            data = pyarrow.table({"a": [1]})
            return refused(
                flight_sql.Error,
                INGEST_STATUS,
                "no workspace",
                lambda: cursor.adbc_ingest("t", data, mode="create"),
            )

    return {
        "connect": connect,
        "sign in": lambda: equal(rows("SELECT 1"), [(1,)]),
        "query": lambda: equal(rows("SELECT 1 AS n UNION ALL SELECT 2 ORDER BY n"), [(1,), (2,)]),
        "zero rows": empty,
        "types": lambda: check_types(table(TYPES)),
        "unicode": lambda: equal(rows(UNICODE), [("Äänekoski – 日本 🙂",)]),
        "large result": lambda: equal(table(MANY).num_rows, 200_000),
        "parameters ?": lambda: equal(rows("SELECT ? + 1", (41,)), [(42,)]),
        "parameters $1": lambda: equal(rows("SELECT $2 || $1", ("a", "b")), [("ba",)]),
        "typed on bind": lambda: equal(rows("SELECT ? AS p", ("x",)), [("x",)]),
        "many rows of parameters": lambda: equal(
            rows("SELECT ? AS n", pyarrow.record_batch({"p": [3, 4]})), [(3,), (4,)]
        ),
        "result schema": result_schema,
        "partitions": partitions,
        "cancel": cancel,
        "catalogs": lambda: equal([e["catalog_name"] for e in objects("catalogs")], ["tietopohja"]),
        "schemas": schemas,
        "tables": tables,
        "columns": columns,
        "table schema": table_schema,
        "table types": lambda: equal(
            sorted(connection.adbc_get_table_types()), ["SYSTEM TABLE", "TABLE", "VIEW"]
        ),
        "sql info": lambda: equal(connection.adbc_get_info()["vendor_name"], "Tietopohja"),
        "session options": lambda: equal(connection.adbc_current_db_schema, "published"),
        "error": lambda: equal(
            refused(flight_sql.Error, "INVALID_ARGUMENT", "SELEC", lambda: rows("SELEC 1")),
            "refused: INVALID_ARGUMENT",
        ),
        "update": lambda: refused(
            flight_sql.Error, UPDATE_STATUS, "not allowed", lambda: rows("CREATE TABLE t (a INT)")
        ),
        "ingest": ingest,
        "close": connection.close,
    }


def low_level(uri):
    database = adbc_driver_flightsql.connect(uri, {"username": "anyone", "password": "anything"})
    connection = adbc_driver_manager.AdbcConnection(database)

    def run(sql, bound=None):
        with adbc_driver_manager.AdbcStatement(connection) as statement:
            statement.set_sql_query(sql)
            if bound is not None:
                statement.prepare()
                statement.bind_stream(bound.__arrow_c_stream__())
            stream, _ = statement.execute_query()
            return pyarrow.RecordBatchReader.from_stream(stream).read_all()

    def bind(sql, values):
        return run(sql, pyarrow.table({"p": values})).to_pydict()

    depths = adbc_driver_manager.GetObjectsDepth

    def objects(depth, **filters):
        stream = connection.get_objects(depth, **filters)
        return pyarrow.RecordBatchReader.from_stream(stream).read_all().to_pylist()

    def listed(depth):
        """Names of schemas, and of their tables, at this depth."""
        found = objects(depth, db_schema="published")[0]["catalog_db_schemas"]
        equal([entry["db_schema_name"] for entry in found], ["published"])
        return found[0]["db_schema_tables"]

    def tables():
        names = [entry["table_name"] for entry in listed(depths.TABLES)]
        holds("indicator_value" in names, f"{names}")

    def columns():
        for entry in listed(depths.ALL):
            holds(entry["table_columns"], f"{entry['table_name']} has columns")

    def table_schema():
        found = pyarrow.schema(connection.get_table_schema(None, "published", "indicator_value"))
        wanted = run("SELECT * FROM published.indicator_value LIMIT 0").schema
        equal([(f.name, f.type) for f in found], [(f.name, f.type) for f in wanted])

    def stream_has(stream, column, value):
        found = pyarrow.RecordBatchReader.from_stream(stream).read_all()
        holds(value in found.column(column).to_pylist(), f"{value} is missing")

    def result_schema():
        with adbc_driver_manager.AdbcStatement(connection) as statement:
            statement.set_sql_query("SELECT 1 AS n, 'x' AS t")
            equal(pyarrow.schema(statement.execute_schema()).names, ["n", "t"])

    def partitions():
        with adbc_driver_manager.AdbcStatement(connection) as statement:
            statement.set_sql_query("SELECT 7 AS n")
            found, _, _ = statement.execute_partitions()
        with adbc_driver_flightsql.connect(
            uri, {"username": "anyone", "password": "anything"}
        ) as second, adbc_driver_manager.AdbcConnection(second) as other:
            read = [
                pyarrow.RecordBatchReader.from_stream(other.read_partition(part)).read_all()
                for part in found
            ]
        equal([part.to_pydict() for part in read], [{"n": [7]}])

    def cancel():
        with adbc_driver_manager.AdbcStatement(connection) as statement:
            statement.set_sql_query("SELECT value FROM generate_series(1, 1000000000000)")
            stream, _ = statement.execute_query()
            reader = pyarrow.RecordBatchReader.from_stream(stream)
            reader.read_next_batch()
            statement.cancel()
            raises(Exception, "ancel", lambda: [None for _ in reader])

    def refused_query(sql, status, says):
        return refused(adbc_driver_manager.Error, status, says, lambda: run(sql))

    return {
        "connect": lambda: equal(run("SELECT 1 AS n").to_pydict(), {"n": [1]}),
        "sign in": lambda: equal(run("SELECT 1 AS n").num_rows, 1),
        "query": lambda: equal(run("SELECT 2 AS n").to_pydict(), {"n": [2]}),
        "zero rows": lambda: equal(run(EMPTY).schema.names, ["n", "t"]),
        "types": lambda: check_types(run(TYPES)),
        "unicode": lambda: equal(run(UNICODE).num_rows, 1),
        "large result": lambda: equal(run(MANY).num_rows, 200_000),
        "parameters ?": lambda: equal(bind("SELECT ? + 1 AS n", [41]), {"n": [42]}),
        "parameters $1": lambda: equal(bind("SELECT $1 + 1 AS n", [41]), {"n": [42]}),
        "typed on bind": lambda: equal(bind("SELECT ? AS n", ["x"]), {"n": ["x"]}),
        "many rows of parameters": lambda: equal(bind("SELECT ? AS n", [3, 4]), {"n": [3, 4]}),
        "result schema": result_schema,
        "partitions": partitions,
        "cancel": cancel,
        "catalogs": lambda: equal(
            [entry["catalog_name"] for entry in objects(depths.CATALOGS)], ["tietopohja"]
        ),
        "schemas": lambda: equal(listed(depths.DB_SCHEMAS), None),
        "tables": tables,
        "columns": columns,
        "table schema": table_schema,
        "table types": lambda: stream_has(connection.get_table_types(), "table_type", "TABLE"),
        "sql info": lambda: stream_has(connection.get_info(), "info_value", "Tietopohja"),
        "error": lambda: equal(
            refused_query("SELEC 1", "INVALID_ARGUMENT", "SELEC"), "refused: INVALID_ARGUMENT"
        ),
        "update": lambda: refused_query("CREATE TABLE t (a INT)", UPDATE_STATUS, "not allowed"),
        "close": lambda: (connection.close(), database.close()),
    }


def flight(uri):
    client = pyarrow.flight.FlightClient(uri)
    header = client.authenticate_basic_token("anyone", "anything")
    options = pyarrow.flight.FlightCallOptions(headers=[header])

    def ask(name, body=b""):
        info = client.get_flight_info(command(name, body), options)
        found = client.do_get(info.endpoints[0].ticket, options).read_all()
        equal(found.schema, info.schema)
        equal(client.get_schema(command(name, body), options).schema, info.schema)
        return found

    def query(sql):
        return raw_query(client, sql, options)

    def has(found, column, value):
        values = found.column(column).to_pylist()
        holds(value in values, f"{value} in {values}")

    def columns():
        found = ask("CommandGetTables", bytes([5 << 3, 1]))
        holds(found.column("table_schema").null_count == 0, "every table has its schema")

    def keys():
        for name in ("PrimaryKeys", "ExportedKeys", "ImportedKeys"):
            ask(f"CommandGet{name}", field(3, "county"))

    def close():
        equal(len(list(client.do_action(pyarrow.flight.Action("CloseSession", b""), options))), 1)
        raises(pyarrow.flight.FlightUnauthenticatedError, "sign in", lambda: query("SELECT 1"))

    return {
        "connect": lambda: equal(raw_query(client, "SELECT 1 AS n").num_rows, 1),
        "sign in": lambda: equal(header[0].lower(), b"authorization"),
        "query": lambda: equal(query("SELECT 1 AS n").to_pydict(), {"n": [1]}),
        "zero rows": lambda: equal(query(EMPTY).schema.names, ["n", "t"]),
        "types": lambda: check_types(query(TYPES)),
        "unicode": lambda: equal(query(UNICODE).to_pydict(), {"t": ["Äänekoski – 日本 🙂"]}),
        "result schema": lambda: equal(
            client.get_schema(command("CommandStatementQuery", field(1, EMPTY)), options)
            .schema.names,
            ["n", "t"],
        ),
        "catalogs": lambda: has(ask("CommandGetCatalogs"), "catalog_name", "tietopohja"),
        "schemas": lambda: has(ask("CommandGetDbSchemas"), "db_schema_name", "published"),
        "tables": lambda: has(ask("CommandGetTables"), "table_name", "indicator_value"),
        "columns": columns,
        "keys": keys,
        "table types": lambda: has(ask("CommandGetTableTypes"), "table_type", "TABLE"),
        "sql info": lambda: has(ask("CommandGetSqlInfo"), "info_name", 0),
        "type info": lambda: holds(ask("CommandGetXdbcTypeInfo").num_rows > 5, "types are listed"),
        "error": lambda: raises(pyarrow.ArrowInvalid, "SELEC", lambda: query("SELEC 1")) and None,
        "update": lambda: refused(
            Exception, UPDATE_STATUS, "not allowed", lambda: query("CREATE TABLE t (a INT)")
        ),
        "close": close,
    }


def with_polars(uri):
    # `read_database_uri` looks for a driver named after the scheme, and `grpc` has none.
    connection = flight_sql.connect(uri, autocommit=True)

    def read(sql):
        return polars.read_database(sql, connection)

    def types():
        (row,) = read(TYPES).rows(named=True)
        equal((row["amount"], row["missing"]), (decimal.Decimal("1.25"), None))
        equal(str(row["day"]), "2024-02-29")

    return {
        "connect": lambda: equal(read("SELECT 1 AS n").height, 1),
        "query": lambda: equal(read("SELECT 1 AS n").rows(), [(1,)]),
        "zero rows": lambda: equal(read(EMPTY).columns, ["n", "t"]),
        "types": types,
        "unicode": lambda: equal(read(UNICODE).rows(), [("Äänekoski – 日本 🙂",)]),
        "large result": lambda: equal(read(MANY).height, 200_000),
        "error": lambda: raises(Exception, "SELEC", lambda: read("SELEC 1")) and None,
        "close": connection.close,
    }


def with_pandas(uri):
    connection = flight_sql.connect(uri, autocommit=True)

    def read(sql):
        return pandas.read_sql(sql, connection)

    def types():
        row = read(TYPES).iloc[0]
        equal((str(row["amount"]), str(row["day"])), ("1.25", "2024-02-29"))
        holds(pandas.isna(row["missing"]), "null is missing")

    return {
        "connect": lambda: equal(len(read("SELECT 1 AS n")), 1),
        "query": lambda: equal(read("SELECT 1 AS n").values.tolist(), [[1]]),
        "zero rows": lambda: equal(list(read(EMPTY).columns), ["n", "t"]),
        "types": types,
        "unicode": lambda: equal(read(UNICODE).values.tolist(), [["Äänekoski – 日本 🙂"]]),
        "large result": lambda: equal(len(read(MANY)), 200_000),
        "error": lambda: raises(Exception, "SELEC", lambda: read("SELEC 1")) and None,
        "close": connection.close,
    }


def with_sqlalchemy(uri):
    # The dialect expects TLS unless told otherwise.
    engine = sqlalchemy.create_engine(uri.replace("grpc://", "adbc+flightsql://") + "?tls=false")

    def rows(sql, **parameters):
        with engine.connect() as connection:
            found = connection.execute(sqlalchemy.text(sql), parameters)
            return [tuple(row) for row in found]

    def look():
        return sqlalchemy.inspect(engine)

    def types():
        amount, day, _, missing, _ = rows(TYPES)[0]
        equal((amount, str(day), missing), (decimal.Decimal("1.25"), "2024-02-29", None))

    def tables():
        holds(look().has_table("indicator_value", schema="published"), "the table is found by name")
        # The dialect knows the words `table` and `view` in lower case only.
        equal(look().get_table_names(schema="reference"), [])
        return "by name only"

    def columns():
        found = look().get_columns("indicator_value", schema="published")
        names = [column["name"] for column in found]
        holds("area" in names and "value" in names, f"{names}")

    return {
        "connect": lambda: equal(rows("SELECT 1 AS n"), [(1,)]),
        "query": lambda: equal(rows("SELECT 41 + 1 AS n"), [(42,)]),
        "zero rows": lambda: equal(rows(EMPTY), []),
        "types": types,
        "unicode": lambda: equal(rows(UNICODE), [("Äänekoski – 日本 🙂",)]),
        "large result": lambda: equal(len(rows(MANY)), 200_000),
        "parameters ?": lambda: equal(rows("SELECT :p + 1 AS n", p=41), [(42,)]),
        "typed on bind": lambda: equal(rows("SELECT :p AS n", p="x"), [("x",)]),
        "schemas": lambda: holds("published" in look().get_schema_names(), "it is listed"),
        "tables": tables,
        "columns": columns,
        "error": lambda: raises(
            sqlalchemy.exc.ProgrammingError, "INVALID_ARGUMENT", lambda: rows("SELEC 1")
        ) and None,
        "update": lambda: refused_by_text(lambda: rows("CREATE TABLE t (a INT)")),
        "close": engine.dispose,
    }


def refused_by_text(work):
    raises(sqlalchemy.exc.ProgrammingError, f"{UPDATE_STATUS}: [FlightSQL] `CREATE` is not", work)
    return f"refused: {UPDATE_STATUS}"


# What the server refuses today; these change when it learns more.
UPDATE_STATUS = "INVALID_ARGUMENT"
INGEST_STATUS = "UNAUTHORIZED"

CLIENTS = [
    ("ADBC DB-API", "adbc-driver-flightsql", dbapi),
    ("ADBC low level", "adbc-driver-manager", low_level),
    ("pyarrow.flight", "pyarrow", flight),
    ("polars", "polars", with_polars),
    ("pandas", "pandas", with_pandas),
    ("SQLAlchemy 2", "sqlalchemy-adbc", with_sqlalchemy),
]


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: matrix.py URI, such as grpc://127.0.0.1:50051")
    failed = 0
    for client, package, features in CLIENTS:
        offered = features(sys.argv[1])
        holds(set(offered) <= set(FEATURES), f"unknown: {set(offered) - set(FEATURES)}")
        for feature in FEATURES:
            outcome = "not tried"
            if feature in offered:
                try:
                    told = offered[feature]()
                    outcome = told if isinstance(told, str) else "pass"
                except Exception as error:  # told, and the others go on
                    print(f"FAILED {client}, {feature}: {error}", file=sys.stderr)
                    outcome = "fail"
                    failed += 1
            version = importlib.metadata.version(package)
            line = {"client": client, "version": f"{package} {version}"}
            print(json.dumps(line | {"feature": feature, "outcome": outcome}))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
