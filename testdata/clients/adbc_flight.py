"""Checks a running server with the Python ADBC Flight SQL driver and with pyarrow.flight.

    python adbc_flight.py grpc://127.0.0.1:50051

Needs adbc-driver-flightsql, adbc-driver-manager and pyarrow. Works on any warehouse, also an empty
one; the server's visitors must have the role reader or a stronger one. Prints a line for each check
and `N passed, N failed`; the exit status is 0 when all passed.
"""

import datetime
import decimal
import sys
import threading
import warnings

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow
import pyarrow.compute
import pyarrow.flight

from checks import Checks, equal, holds, raises

# The server has no transactions, and says so; the DB-API module warns that it cannot make them.
warnings.filterwarnings("ignore", message="Cannot disable autocommit")


def connect(uri, **options):
    return flight_sql.connect(uri, db_kwargs=options, autocommit=True)


def table(connection, sql, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetch_arrow_table()


def rows(connection, sql, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


# Connecting


def connects_without_credentials(uri):
    with connect(uri) as connection:
        equal(rows(connection, "SELECT 1"), [(1,)])


def connects_with_any_password(uri):
    with connect(uri, username="anyone", password="anything") as connection:
        equal(rows(connection, "SELECT 1"), [(1,)])


def connects_with_a_foreign_bearer(uri):
    header = {adbc_driver_flightsql.DatabaseOptions.AUTHORIZATION_HEADER.value: "Bearer abc"}
    with connect(uri, **header) as connection:
        equal(rows(connection, "SELECT 1"), [(1,)])


# Queries


def fetches_an_arrow_table(connection):
    found = table(connection, "SELECT 1 AS n, 'Äänekoski' AS t UNION ALL SELECT 2, NULL ORDER BY n")
    equal(found.schema, pyarrow.schema([("n", pyarrow.int64()), ("t", pyarrow.string())]))
    equal(found.to_pydict(), {"n": [1, 2], "t": ["Äänekoski", None]})


def types_are_plain(connection):
    found = table(
        connection,
        "SELECT CAST(1.25 AS DECIMAL(9, 2)) AS amount, DATE '2024-02-29' AS day, "
        "TIMESTAMP '2024-03-31 02:59:59' AS moment, X'00FF' AS bytes, TRUE AS flag, "
        "CAST(1.5 AS DOUBLE) AS ratio, arrow_cast('x', 'Utf8View') AS view_text, "
        "arrow_cast('y', 'Dictionary(Int32, Utf8)') AS coded, [1, 2] AS list",
    )
    equal(
        [str(field.type) for field in found.schema if field.name != "list"],
        [
            "decimal128(9, 2)",
            "date32[day]",
            "timestamp[us]",
            "binary",
            "bool",
            "double",
            "string",
            "string",
        ],
    )
    holds(pyarrow.types.is_list(found.schema.field("list").type), "a list is a list")
    row = {name: column[0] for name, column in found.to_pydict().items()}
    equal(row["amount"], decimal.Decimal("1.25"))
    equal(row["day"], datetime.date(2024, 2, 29))
    equal(row["bytes"], b"\x00\xff")
    equal(row["list"], [1, 2])


def an_empty_result_has_its_schema(connection):
    found = table(connection, "SELECT 1 AS n, 'x' AS t WHERE 1 = 0")
    equal(found.num_rows, 0)
    equal(found.schema.names, ["n", "t"])


def rows_are_fetched_one_by_one(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT value FROM generate_series(1, 5) ORDER BY value")
        equal(cursor.fetchone(), (1,))
        equal(cursor.fetchmany(2), [(2,), (3,)])
        equal(cursor.fetchall(), [(4,), (5,)])
        equal(cursor.fetchone(), None)
        equal([column[0] for column in cursor.description], ["value"])


def a_million_rows_arrive_whole(connection):
    sql = "SELECT value AS n, CAST(value AS VARCHAR) AS t FROM generate_series(1, 1000000)"
    count, total, last = 0, 0, None
    with connection.cursor() as cursor:
        cursor.execute(sql)
        for batch in cursor.fetch_record_batch():
            count += batch.num_rows
            total += pyarrow.compute.sum(batch.column("n")).as_py() or 0
            holds(batch.nbytes < 4 * 1024 * 1024, "a message is under 4 MB")
            last = batch.column("t")[-1].as_py() if batch.num_rows else last
    equal((count, total), (1_000_000, 500_000_500_000))
    holds(last is not None, "rows have text")


def two_cursors_work_side_by_side(connection):
    with connection.cursor() as first, connection.cursor() as second:
        first.execute("SELECT value FROM generate_series(1, 20000) ORDER BY value")
        second.execute("SELECT 2")
        equal(second.fetchall(), [(2,)])
        equal(len(first.fetchall()), 20000)


def several_connections_at_once(uri):
    failures = []

    def work(number):
        try:
            with connect(uri) as connection:
                for step in range(5):
                    wanted = number * 100 + step
                    equal(rows(connection, f"SELECT {wanted}"), [(wanted,)])
        except Exception as error:  # told by the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(failures, [])


# Parameters


def parameters_are_bound(connection):
    cases = [
        ("SELECT ? + 1", (41,), (42,)),
        ("SELECT $1 + $2", (1, 2), (3,)),
        ("SELECT $2 || $1", ("a", "b"), ("ba",)),
        ("SELECT ? = 'Äänekoski'", ("Äänekoski",), (True,)),
        ("SELECT DATE '2024-02-29' = ?", (datetime.date(2024, 2, 29),), (True,)),
        ("SELECT CAST(1.25 AS DECIMAL(9, 2)) = ?", (decimal.Decimal("1.25"),), (True,)),
        ("SELECT 1.5 = ?", (1.5,), (True,)),
        ("SELECT CAST(? AS BIGINT) IS NULL", (None,), (True,)),
        ("SELECT count(*) FROM generate_series(1, 10) WHERE value = ?", (2.5,), (0,)),
        ("SELECT value FROM generate_series(1, 10) ORDER BY value LIMIT ?", (1,), (1,)),
        ("SELECT '?' || ?", ("x",), ("?x",)),
    ]
    for sql, parameters, wanted in cases:
        found = rows(connection, sql, parameters)
        holds(found == [wanted], f"{sql} with {parameters}: {found}, wanted {wanted}")


def each_row_of_parameters_is_a_run(connection):
    values = pyarrow.record_batch({"p": [3, 4, 5]})
    equal(rows(connection, "SELECT ? AS n", values), [(3,), (4,), (5,)])


def a_statement_is_prepared_without_running(connection):
    with connection.cursor() as cursor:
        endless = "SELECT count(*) AS n FROM generate_series(1, 1000000000000) WHERE value > ?"
        parameters = cursor.adbc_prepare(endless)
        equal([field.type for field in parameters], [pyarrow.int64()])
        schema = cursor.adbc_execute_schema("SELECT 1 AS n, 'x' AS t")
        equal(schema, pyarrow.schema([("n", pyarrow.int64()), ("t", pyarrow.string())]))


def a_wrong_number_of_values_is_refused(connection):
    raises(flight_sql.Error, "2 parameters", lambda: rows(connection, "SELECT ? + ?", (1,)))
    equal(rows(connection, "SELECT 1"), [(1,)])


def partitions_are_read_on_another_connection(uri):
    with connect(uri) as first, connect(uri) as second:
        with first.cursor() as cursor:
            partitions, schema = cursor.adbc_execute_partitions("SELECT 7 AS seven")
        equal(schema.names, ["seven"])
        found = []
        for partition in partitions:
            with second.cursor() as cursor:
                cursor.adbc_read_partition(partition)
                found += cursor.fetchall()
        equal(found, [(7,)])


# Mistakes


def mistakes_are_told_and_the_connection_survives(connection):
    cases = [
        ("SELEC 1", "SELEC"),
        ("SELECT missing FROM reference.county", "missing"),
        ("SELECT * FROM raw.hr_absence", "hr_absence"),
        ("DROP TABLE reference.county", "not allowed"),
        ("CREATE TABLE t (a INT)", "not allowed"),
        ("SELECT 1; SELECT 2", "several"),
        ("SELECT " + " + ".join(f"missing_{n}" for n in range(500)), "missing"),
        ("SELECT " + " + ".join("1" for n in range(50000)), "in a row"),
    ]
    for sql, says in cases:
        error = raises(flight_sql.Error, says, lambda sql=sql: rows(connection, sql))
        holds(len(str(error)) < 8000, "the text is short enough for a header")
    equal(rows(connection, "SELECT 1"), [(1,)])


def uploads_are_refused(connection):
    with connection.cursor() as cursor:
        raises(
            flight_sql.Error,
            "no workspace",
            lambda: cursor.adbc_ingest("t", pyarrow.table({"a": [1]}), mode="create"),
        )


def a_query_is_cancelled(uri):
    with connect(uri) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT value FROM generate_series(1, 1000000000000)")
        reader = cursor.fetch_record_batch()
        holds(reader.read_next_batch() is not None, "rows come before the query is done")
        cursor.adbc_cancel()

        def drain():
            for _ in reader:
                pass

        raises(Exception, "ancel", drain)


# What there is


def catalogue(connection, depth, **filters):
    return connection.adbc_get_objects(depth=depth, **filters).read_all().to_pylist()


def objects_are_listed(connection):
    found = catalogue(connection, "catalogs")
    equal([entry["catalog_name"] for entry in found], ["tietopohja"])
    schemas = catalogue(connection, "db_schemas")[0]["catalog_db_schemas"]
    names = [entry["db_schema_name"] for entry in schemas]
    for name in ("published", "reference", "information_schema"):
        holds(name in names, f"{name} is listed: {names}")
    tables = {
        f"{schema['db_schema_name']}.{entry['table_name']}": entry["table_type"]
        for schema in catalogue(connection, "tables")[0]["catalog_db_schemas"]
        for entry in schema["db_schema_tables"]
    }
    holds("published.indicator_value" in tables, f"published.indicator_value: {sorted(tables)}")
    told = rows(connection, "SELECT table_schema, table_name FROM information_schema.tables")
    equal(sorted(tables), sorted(f"{schema}.{name}" for schema, name in told))


def columns_are_listed(connection):
    found = catalogue(
        connection, "all", db_schema_filter="published", table_name_filter="indicator_value"
    )
    (schema,) = found[0]["catalog_db_schemas"]
    (entry,) = schema["db_schema_tables"]
    listed = [column["column_name"] for column in entry["table_columns"]]
    for name in ("indicator", "area", "period", "value", "obs_status"):
        holds(name in listed, f"{name} is listed: {listed}")
    selected = table(connection, "SELECT * FROM published.indicator_value LIMIT 0")
    equal(listed, selected.schema.names)


def a_table_schema_is_that_of_its_rows(connection):
    found = connection.adbc_get_table_schema("indicator_value", db_schema_filter="published")
    rows_schema = table(connection, "SELECT * FROM published.indicator_value LIMIT 0").schema
    equal(found.names, rows_schema.names)
    equal([field.type for field in found], [field.type for field in rows_schema])
    type_name = found.field("value").metadata[b"ARROW:FLIGHT:SQL:TYPE_NAME"]
    equal(type_name, b"DOUBLE")


def table_types_are_listed(connection):
    equal(sorted(connection.adbc_get_table_types()), ["SYSTEM TABLE", "TABLE", "VIEW"])


def the_server_is_described(connection):
    info = connection.adbc_get_info()
    equal(info["vendor_name"], "Tietopohja")
    holds(info["vendor_version"], "a version is told")


def the_current_names_can_be_read(connection):
    equal(connection.adbc_current_catalog, "tietopohja")
    equal(connection.adbc_current_db_schema, "published")


def values_agree_with_their_count(connection):
    """Every row that the count promises arrives."""
    for name in ("published.indicator_value", "meta.indicator"):
        ((count,),) = rows(connection, f"SELECT count(*) FROM {name}")
        equal(table(connection, f"SELECT * FROM {name}").num_rows, count)


# pyarrow.flight, with the messages of the protocol written by hand


def field(number, value):
    """A protobuf field of bytes or text."""
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(number):
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def command(name, body=b""):
    url = f"type.googleapis.com/arrow.flight.protocol.sql.{name}"
    return pyarrow.flight.FlightDescriptor.for_command(field(1, url) + field(2, body))


def raw_query(client, sql, options=None):
    info = client.get_flight_info(command("CommandStatementQuery", field(1, sql)), options)
    (endpoint,) = info.endpoints
    equal(endpoint.locations, [])
    found = client.do_get(endpoint.ticket, options).read_all()
    equal(found.schema, info.schema)
    return found


def raw_queries_answer(uri):
    with pyarrow.flight.FlightClient(uri) as client:
        equal(raw_query(client, "SELECT 1 AS n").to_pydict(), {"n": [1]})
        empty = raw_query(client, "SELECT 1 AS n WHERE 1 = 0")
        equal((empty.num_rows, empty.schema.names), (0, ["n"]))


def raw_sign_in_gives_a_bearer(uri):
    with pyarrow.flight.FlightClient(uri) as client:
        header = client.authenticate_basic_token("anyone", "anything")
        equal(header[0].lower(), b"authorization")
        options = pyarrow.flight.FlightCallOptions(headers=[header])
        equal(raw_query(client, "SELECT 1 AS n", options).num_rows, 1)
        closed = list(client.do_action(pyarrow.flight.Action("CloseSession", b""), options))
        equal(len(closed), 1)
        raises(
            pyarrow.flight.FlightUnauthenticatedError,
            "sign in again",
            lambda: raw_query(client, "SELECT 1 AS n", options),
        )


def raw_schemas_agree(uri):
    with pyarrow.flight.FlightClient(uri) as client:
        for descriptor in (
            command("CommandStatementQuery", field(1, "SELECT 1 AS n, 'x' AS t")),
            command("CommandGetCatalogs"),
            command("CommandGetDbSchemas"),
            command("CommandGetTables"),
            command("CommandGetTables", bytes([5 << 3, 1])),
            command("CommandGetTableTypes"),
            command("CommandGetSqlInfo"),
            command("CommandGetXdbcTypeInfo"),
            command("CommandGetPrimaryKeys", field(3, "county")),
            command("CommandGetExportedKeys", field(3, "county")),
            command("CommandGetImportedKeys", field(3, "county")),
            command("CommandGetCrossReference", field(3, "county") + field(6, "county")),
        ):
            info = client.get_flight_info(descriptor)
            found = client.do_get(info.endpoints[0].ticket).read_all()
            equal(found.schema, info.schema)
            equal(client.get_schema(descriptor).schema, info.schema)
            found.validate(full=True)


def raw_errors_have_their_kind(uri):
    with pyarrow.flight.FlightClient(uri) as client:
        invalid = pyarrow.ArrowInvalid
        raises(invalid, "missing", lambda: raw_query(client, "SELECT * FROM missing"))
        descriptor = pyarrow.flight.FlightDescriptor.for_command(b"SELECT 1")
        raises(invalid, "Flight SQL", lambda: client.get_flight_info(descriptor))
        rubbish = pyarrow.flight.Ticket(b"rubbish")
        raises(invalid, "Flight SQL", lambda: client.do_get(rubbish).read_all())
        actions = {action.type for action in client.list_actions()}
        holds("CancelFlightInfo" in actions, f"{actions}")


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: adbc_flight.py URI, such as grpc://127.0.0.1:50051")
    uri = sys.argv[1]

    adbc = Checks("adbc-driver-flightsql")
    for check in (
        connects_without_credentials,
        connects_with_any_password,
        connects_with_a_foreign_bearer,
        several_connections_at_once,
        partitions_are_read_on_another_connection,
        a_query_is_cancelled,
    ):
        adbc.run(check.__name__, check, uri)
    with connect(uri, username="anyone", password="anything") as connection:
        for check in (
            fetches_an_arrow_table,
            types_are_plain,
            an_empty_result_has_its_schema,
            rows_are_fetched_one_by_one,
            a_million_rows_arrive_whole,
            two_cursors_work_side_by_side,
            parameters_are_bound,
            each_row_of_parameters_is_a_run,
            a_statement_is_prepared_without_running,
            a_wrong_number_of_values_is_refused,
            mistakes_are_told_and_the_connection_survives,
            uploads_are_refused,
            objects_are_listed,
            columns_are_listed,
            a_table_schema_is_that_of_its_rows,
            table_types_are_listed,
            the_server_is_described,
            the_current_names_can_be_read,
            values_agree_with_their_count,
        ):
            adbc.run(check.__name__, check, connection)

    flight = Checks("pyarrow.flight")
    for check in (
        raw_queries_answer,
        raw_sign_in_gives_a_bearer,
        raw_schemas_agree,
        raw_errors_have_their_kind,
    ):
        flight.run(check.__name__, check, uri)

    print(f"pyarrow.flight: {flight.passed} passed, {flight.failed} failed")
    adbc.passed += flight.passed
    adbc.failed += flight.failed
    adbc.title = "both clients"
    adbc.finish()


if __name__ == "__main__":
    main()
