"""adbc-driver-flightsql through ADBC's own calls, as pandas, polars and R use it underneath."""

import adbc_driver_flightsql
import adbc_driver_manager as adbc
import pyarrow

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
    status_of,
)

client = Client("ADBC, own calls", "adbc-driver-flightsql", "adbc-driver-manager", "pyarrow")


class Connection:
    """A database and a connection that close together."""

    def __init__(self, **options):
        options = options or {"username": USER, "password": PASSWORD}
        self.database = adbc_driver_flightsql.connect(URI, db_kwargs=options)
        self.connection = adbc.AdbcConnection(self.database)

    def __enter__(self):
        return self.connection

    def __exit__(self, *_):
        self.connection.close()
        self.database.close()


opened = Connection()
shared = opened.connection


def reader(handle):
    return pyarrow.RecordBatchReader._import_from_c(handle.address)


def table(sql, parameters=None, connection=shared):
    with adbc.AdbcStatement(connection) as statement:
        statement.set_sql_query(sql)
        if parameters is not None:
            statement.prepare()
            batch = pyarrow.record_batch(parameters)
            statement.bind(*exported(batch))
        handle, _ = statement.execute_query()
        return reader(handle).read_all()


def exported(batch):
    schema, array = adbc.ArrowSchemaHandle(), adbc.ArrowArrayHandle()
    batch._export_to_c(array.address, schema.address)
    return array, schema


def schema_of(handle):
    return pyarrow.Schema._import_from_c(handle.address)


def rows(sql):
    found = table(sql)
    return list(zip(*(column.to_pylist() for column in found.columns)))


client.types(lambda sql: rows(sql)[0][0])
client.answers(rows)
client.arrow_tables(table)
client.not_offered("type_info", "get_schema", "renew", "release")


@client.feature("connect", "password", "close")
def connects_with_a_password():
    with Connection() as connection:
        equal(table("SELECT 1 AS n", connection=connection).to_pydict(), {"n": [1]})


@client.feature("token")
def connects_with_a_token():
    header = adbc_driver_flightsql.DatabaseOptions.AUTHORIZATION_HEADER.value
    with Connection(**{header: "Bearer abc"}) as connection:
        equal(table("SELECT 1 AS n", connection=connection).to_pydict(), {"n": [1]})


@client.feature("by_batch", "cancel")
def the_first_batch_comes_first_and_the_rest_is_cancelled():
    with Connection() as connection, adbc.AdbcStatement(connection) as statement:
        statement.set_sql_query(ENDLESS_SQL)
        handle, _ = statement.execute_query()
        batches = reader(handle)
        holds(batches.read_next_batch().num_rows > 0, "rows come")
        statement.cancel()

        def drain():
            for _ in batches:
                pass

        raises(Exception, "ancel", drain)


@client.feature("side_by_side")
def two_results():
    with adbc.AdbcStatement(shared) as first:
        first.set_sql_query(MANY_SQL)
        handle, _ = first.execute_query()
        equal(rows("SELECT 2 AS n"), [(2,)])
        equal(reader(handle).read_all().num_rows, MANY)


@client.feature("unicode")
def letters():
    name, value = UNICODE
    equal(table(UNICODE_SQL).to_pydict(), {name: [value]})


@client.feature("question_mark")
def question_marks():
    found = table("SELECT ? + 1 AS n, '?' || ? AS t", {"0": [41], "1": ["x"]})
    equal(found.to_pydict(), {"n": [42], "t": ["?x"]})


@client.feature("dollar")
def numbered():
    found = table("SELECT $2 || $1 AS t", {"x": ["a"], "y": ["b"]})
    equal(found.to_pydict(), {"t": ["ba"]})


@client.feature("typed_on_bind")
def types_come_with_values():
    day = pyarrow.array([19782], pyarrow.date32())
    found = table("SELECT ? AS t, ? AS d, ? AS r", {"0": ["x"], "1": day, "2": [1.5]})
    equal([str(field.type) for field in found.schema], ["string", "date32[day]", "double"])


@client.feature("null_parameter")
def a_null_is_bound():
    found = table("SELECT CAST(? AS BIGINT) IS NULL AS n", {"0": pyarrow.nulls(1)})
    equal(found.to_pydict(), {"n": [True]})


@client.feature("many_rows")
def each_row_is_a_run():
    equal(table("SELECT ? AS n", {"0": [3, 4, 5]}).to_pydict(), {"n": [3, 4, 5]})


@client.feature("parameter_schema")
def parameters_are_told():
    with adbc.AdbcStatement(shared) as statement:
        statement.set_sql_query("SELECT value FROM generate_series(1, 9) WHERE value > ?")
        statement.prepare()
        told = schema_of(statement.get_parameter_schema())
    equal([field.type for field in told], [pyarrow.int64()])


@client.feature("execute_schema")
def a_schema_without_a_run():
    with adbc.AdbcStatement(shared) as statement:
        statement.set_sql_query("SELECT 1 AS n, 'x' AS t")
        found = schema_of(statement.execute_schema())
    equal(found, pyarrow.schema([("n", pyarrow.int64()), ("t", pyarrow.string())]))


def objects(depth, **filters):
    return reader(shared.get_objects(depth, **filters)).read_all().to_pylist()


def published_tables(**filters):
    found = objects(adbc.GetObjectsDepth.ALL, db_schema="published", **filters)
    return found[0]["catalog_db_schemas"][0]["db_schema_tables"]


@client.feature("catalogs")
def catalogues():
    (entry,) = objects(adbc.GetObjectsDepth.CATALOGS)
    equal((entry["catalog_name"], entry["catalog_db_schemas"]), ("tietopohja", None))


@client.feature("schemas")
def schemas():
    (entry,) = objects(adbc.GetObjectsDepth.DB_SCHEMAS)
    names = [schema["db_schema_name"] for schema in entry["catalog_db_schemas"]]
    holds({"published", "reference", "information_schema"} <= set(names), f"{names}")
    equal({schema["db_schema_tables"] for schema in entry["catalog_db_schemas"]}, {None})


def named(schema, kind):
    (entry,) = objects(adbc.GetObjectsDepth.TABLES, db_schema=schema, table_types=[kind])
    schemas = entry["catalog_db_schemas"]
    return [table["table_name"] for found in schemas for table in found["db_schema_tables"]]


@client.feature("tables")
def tables():
    for kind in ("TABLE", "BASE TABLE"):
        holds("area_member" in named("reference", kind), f"a {kind}")
    holds("tables" in named("information_schema", "SYSTEM TABLE"), "a system table")
    holds("area_member" not in named("reference", "VIEW"), "a table is no view")


@client.feature("table_types")
def kinds_of_tables():
    found = reader(shared.get_table_types()).read_all()["table_type"].to_pylist()
    holds({"TABLE", "VIEW"} <= set(found), f"{found}")


@client.feature("columns")
def columns():
    (entry,) = published_tables(table_name="indicator_value")
    listed = [column["column_name"] for column in entry["table_columns"]]
    equal(listed, table("SELECT * FROM published.indicator_value LIMIT 0").schema.names)
    (entry,) = published_tables(table_name="indicator_value", column_name="obs%")
    equal([column["column_name"] for column in entry["table_columns"]], ["obs_status"])


@client.feature("one_table")
def one_table():
    found = schema_of(shared.get_table_schema(None, "published", "indicator_value"))
    rows_schema = table("SELECT * FROM published.indicator_value LIMIT 0").schema
    equal([field.type for field in found], [field.type for field in rows_schema])
    missing = lambda: shared.get_table_schema(None, "published", "indicator%value")
    equal(status_of(raises(adbc.Error, "", missing)), "NOT_FOUND")


@client.client_fault("keys", "no keys", "the answer of `get_objects` has none")
def keys():
    holds(any(entry["table_constraints"] for entry in published_tables()), "no keys")


@client.client_fault("comments", "no comments", "the answer of `get_objects` has none")
def comments():
    (entry,) = published_tables(table_name="indicator_value")
    holds(any(column["remarks"] for column in entry["table_columns"]), "no comments")


@client.feature("sql_info")
def the_server_is_described():
    found = reader(shared.get_info()).read_all().to_pylist()
    told = {entry["info_name"]: entry["info_value"] for entry in found}
    equal(told[0], "Tietopohja")


@client.feature("partitions")
def tickets_elsewhere():
    with adbc.AdbcStatement(shared) as statement:
        statement.set_sql_query("SELECT 7 AS seven")
        partitions, schema, _ = statement.execute_partitions()
    equal(schema_of(schema).names, ["seven"])
    found = []
    with Connection() as other:
        for partition in partitions:
            found += reader(other.read_partition(partition)).read_all()["seven"].to_pylist()
    equal(found, [7])


@client.feature("poll")
def polls():
    with adbc.AdbcStatement(shared) as statement:
        statement.set_options(**{"adbc.statement.exec.incremental": "true"})
        statement.set_sql_query("SELECT 7 AS seven")
        partitions, _, _ = statement.execute_partitions()
        equal(len(partitions), 1)
        equal(statement.get_option_float("adbc.statement.exec.progress"), 1.0)
        partitions, _, _ = statement.execute_partitions()
        equal(partitions, [])
        # One that is not complete at the first answer.
        statement.set_sql_query(
            "SELECT count(*) AS n FROM generate_series(1, 30000000) WHERE value % 7 = 3"
        )
        (partition,), _, _ = statement.execute_partitions()
        equal(statement.get_option_float("adbc.statement.exec.progress"), 1.0)
        rows = reader(shared.read_partition(partition)).read_all()
        equal(rows["n"].to_pylist(), [4285714])


@client.feature("session_read")
def reads_the_session():
    equal(shared.get_option("adbc.connection.catalog"), "tietopohja")
    equal(shared.get_option("adbc.connection.db_schema"), "published")


@client.feature("session_set")
def sets_the_session():
    shared.set_options(**{"adbc.connection.db_schema": "published"})
    wrong = {"adbc.flight.sql.session.option.nonsense": "1"}
    raises(adbc.Error, "nonsense", lambda: shared.set_options(**wrong))


@client.feature("transaction")
def transactions():
    shared.set_autocommit(False)


@client.feature("ingest")
def rows_are_uploaded():
    with adbc.AdbcStatement(shared) as statement:
        statement.set_options(**{"adbc.ingest.target_table": "matrix_low"})
        statement.bind(*exported(pyarrow.record_batch({"a": [1]})))
        equal(statement.execute_update(), 1)
    with adbc.AdbcStatement(shared) as statement:
        statement.set_sql_query("DROP TABLE workspace.matrix_low")
        statement.execute_update()


client.run()
