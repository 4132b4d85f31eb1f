"""pyarrow.flight with the messages of Flight SQL written by hand: what JDBC and others send."""

import datetime
import json

import pyarrow
import pyarrow.flight as flight

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

client = Client("pyarrow.flight", "pyarrow")


# Protobuf


def varint(number):
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def field(number, value):
    """A field: a number, or bytes or text."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def message(data):
    """The fields of a message: number to the list of its values."""
    found, at = {}, 0

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = number()
        value = number()
        if key & 7 == 2:
            value, at = data[at : at + value], at + value
        found.setdefault(key >> 3, []).append(value)
    return found


def packed(name, *fields):
    url = f"type.googleapis.com/arrow.flight.protocol.sql.{name}"
    return field(1, url) + field(2, b"".join(fields))


def command(name, *fields):
    return flight.FlightDescriptor.for_command(packed(name, *fields))


# Calls


def signed_in():
    opened = flight.FlightClient(URI)
    header = opened.authenticate_basic_token(USER, PASSWORD)
    return opened, flight.FlightCallOptions(headers=[header])


shared, options = signed_in()


def info_of(descriptor):
    found = shared.get_flight_info(descriptor, options)
    (endpoint,) = found.endpoints
    equal(endpoint.locations, [])
    return found, endpoint.ticket


def read(descriptor):
    info, ticket = info_of(descriptor)
    found = shared.do_get(ticket, options).read_all()
    equal(found.schema, info.schema)
    return found


def statement(sql):
    return command("CommandStatementQuery", field(1, sql))


def table(sql):
    return read(statement(sql))


def rows(sql):
    return list(zip(*(column.to_pylist() for column in table(sql).columns)))


def act(name, body=b""):
    return [result.body.to_pybytes() for result in shared.do_action((name, body), options)]


class Prepared:
    """A prepared statement: what the server told about it, and its runs."""

    def __init__(self, sql):
        request = packed("ActionCreatePreparedStatementRequest", field(1, sql))
        (answer,) = act("CreatePreparedStatement", request)
        told = message(message(answer)[2][0])
        self.handle = told[1][0]
        self.columns = self.schema(told.get(2))
        self.parameters = self.schema(told.get(3))

    @staticmethod
    def schema(encoded):
        return pyarrow.ipc.read_schema(pyarrow.py_buffer(encoded[0])) if encoded else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        request = packed("ActionClosePreparedStatementRequest", field(1, self.handle))
        act("ClosePreparedStatement", request)

    def run(self, batch=None):
        name = field(1, self.handle)
        if batch is not None:
            descriptor = command("CommandPreparedStatementQuery", name)
            writer, answers = shared.do_put(descriptor, batch.schema, options)
            writer.write_batch(batch)
            writer.done_writing()
            answer = answers.read()
            writer.close()
            if answer is not None:
                name = field(1, message(answer.to_pybytes()).get(1, [self.handle])[0])
        return read(command("CommandPreparedStatementQuery", name))


def bound(sql, columns):
    with Prepared(sql) as prepared:
        return prepared.run(pyarrow.record_batch(columns))


client.types(lambda sql: rows(sql)[0][0])
client.answers(rows)
client.arrow_tables(table)
client.not_offered("poll")


@client.feature("connect")
def connects_without_a_name():
    with flight.FlightClient(URI) as opened:
        info = opened.get_flight_info(statement("SELECT 1 AS n"))
        equal(opened.do_get(info.endpoints[0].ticket).read_all().to_pydict(), {"n": [1]})


@client.feature("password", "close")
def signs_in_and_out():
    opened, own = signed_in()
    opened.get_flight_info(statement("SELECT 1 AS n"), own)
    equal(len(list(opened.do_action(("CloseSession", b""), own))), 1)
    again = lambda: opened.get_flight_info(statement("SELECT 1 AS n"), own)
    error = raises(Exception, "sign in again", again)
    equal(status_of(error), "UNAUTHENTICATED")


@client.feature("token")
def connects_with_a_token():
    own = flight.FlightCallOptions(headers=[(b"authorization", b"Bearer abc")])
    holds(shared.get_flight_info(statement("SELECT 1 AS n"), own).endpoints, "a ticket")


@client.feature("by_batch", "cancel")
def the_first_batch_comes_first_and_the_rest_is_cancelled():
    info, ticket = info_of(statement(ENDLESS_SQL))
    stream = shared.do_get(ticket, options)
    while stream.read_chunk().data.num_rows == 0:
        pass
    (answer,) = act("CancelFlightInfo", field(1, info.serialize()))
    equal(message(answer), {1: [1]})

    def drain():
        while True:
            stream.read_chunk()

    equal(status_of(raises(Exception, "", drain)), "CANCELLED")


@client.feature("side_by_side")
def two_results():
    _, ticket = info_of(statement(MANY_SQL))
    first = shared.do_get(ticket, options)
    equal(rows("SELECT 2 AS n"), [(2,)])
    equal(first.read_all().num_rows, MANY)


@client.feature("unicode")
def letters():
    name, value = UNICODE
    equal(table(UNICODE_SQL).to_pydict(), {name: [value]})


@client.feature("question_mark")
def question_marks():
    found = bound("SELECT ? + 1 AS n, '?' || ? AS t", {"a": [41], "b": ["x"]})
    equal(found.to_pydict(), {"n": [42], "t": ["?x"]})


@client.feature("dollar")
def numbered():
    equal(bound("SELECT $2 || $1 AS t", {"x": ["a"], "y": ["b"]}).to_pydict(), {"t": ["ba"]})


@client.feature("typed_on_bind")
def types_come_with_values():
    day = pyarrow.array([datetime.date(2024, 2, 29)])
    found = bound("SELECT ? AS t, ? AS d", {"0": ["x"], "1": day})
    equal([str(kind) for kind in found.schema.types], ["string", "date32[day]"])
    union = pyarrow.UnionArray.from_dense(
        pyarrow.array([1], pyarrow.int8()),
        pyarrow.array([0], pyarrow.int32()),
        [pyarrow.array([], pyarrow.int64()), pyarrow.array(["x"])],
    )
    equal(bound("SELECT ? AS t", {"0": union}).to_pydict(), {"t": ["x"]})


@client.feature("null_parameter")
def a_null_is_bound():
    found = bound("SELECT CAST(? AS BIGINT) IS NULL AS n", {"0": pyarrow.nulls(1)})
    equal(found.to_pydict(), {"n": [True]})


@client.feature("many_rows")
def each_row_is_a_run():
    equal(bound("SELECT ? AS n", {"0": [3, 4, 5]}).to_pydict(), {"n": [3, 4, 5]})


@client.feature("parameter_schema", "execute_schema")
def schemas_are_told_at_prepare():
    with Prepared("SELECT value FROM generate_series(1, 1000000000000) WHERE value > ?") as told:
        equal(told.parameters.types, [pyarrow.int64()])
        equal((told.columns.names, told.columns.types), (["value"], [pyarrow.int64()]))


def listed(name, *fields):
    """The rows of a metadata command; GetSchema gives the same columns."""
    descriptor = command(name, *fields)
    found = read(descriptor)
    found.validate(full=True)
    equal(shared.get_schema(descriptor, options).schema, found.schema)
    return found.to_pylist()


@client.feature("catalogs")
def catalogues():
    equal(listed("CommandGetCatalogs"), [{"catalog_name": "tietopohja"}])


@client.feature("schemas")
def schemas():
    found = {entry["db_schema_name"] for entry in listed("CommandGetDbSchemas")}
    holds({"published", "reference"} <= found, f"{found}")


@client.feature("tables")
def tables():
    found = listed("CommandGetTables", field(2, "refer%"), field(4, "BASE TABLE"))
    holds("area_member" in [entry["table_name"] for entry in found], "a base table")
    equal({entry["db_schema_name"] for entry in found}, {"reference"})


@client.feature("table_types")
def kinds_of_tables():
    found = {entry["table_type"] for entry in listed("CommandGetTableTypes")}
    holds({"TABLE", "VIEW"} <= found, f"{found}")


def columns_of(schema, name):
    fields = (field(2, schema), field(3, name), field(5, 1))
    found = listed("CommandGetTables", *fields)
    encoded = [pyarrow.py_buffer(entry["table_schema"]) for entry in found]
    return [pyarrow.ipc.read_schema(each) for each in encoded]


@client.feature("columns")
def columns():
    (found,) = columns_of("published", "indicator_value")
    equal(found.names, table("SELECT * FROM published.indicator_value LIMIT 0").schema.names)
    equal(found.field("value").metadata[b"ARROW:FLIGHT:SQL:TYPE_NAME"], b"DOUBLE")


@client.feature("one_table")
def one_table():
    equal(len(columns_of("published", r"indicator\_value")), 1)
    equal(columns_of("published", r"indicator\%value"), [])


KEYS = ("CommandGetPrimaryKeys", "CommandGetImportedKeys", "CommandGetExportedKeys")


@client.feature("keys")
def keys():
    tables = listed("CommandGetTables", field(2, "reference"))
    names = [entry["table_name"] for entry in tables]
    for kind in KEYS:
        found = [listed(kind, field(2, "reference"), field(3, name)) for name in names]
        holds(any(found), kind)
    (pair,) = {
        (entry["pk_db_schema_name"], entry["pk_table_name"])
        for entry in listed("CommandGetImportedKeys", field(3, "indicator_value"))
        if entry["fk_column_name"] == "indicator"
    }
    fields = field(2, pair[0]) + field(3, pair[1]) + field(6, "indicator_value")
    holds(listed("CommandGetCrossReference", fields), "the pair refers")


@client.feature("comments")
def comments():
    (found,) = columns_of("published", "indicator_value")
    holds(any(b"ARROW:FLIGHT:SQL:REMARKS" in column.metadata for column in found), "comments")


@client.feature("type_info")
def type_info():
    found = {entry["type_name"] for entry in listed("CommandGetXdbcTypeInfo")}
    holds({"BIGINT", "DECIMAL", "VARCHAR", "DATE", "TIMESTAMP"} <= found, f"{found}")


@client.feature("sql_info")
def the_server_is_described():
    told = {entry["info_name"]: entry["value"] for entry in listed("CommandGetSqlInfo")}
    equal((told[0], told[3], told[504]), ("Tietopohja", False, '"'))
    holds(len(told) > 50, f"{len(told)} answers")


@client.feature("get_schema")
def schemas_agree():
    descriptor = statement("SELECT 1 AS n, 'x' AS t")
    equal(shared.get_schema(descriptor, options).schema, info_of(descriptor)[0].schema)


@client.feature("partitions")
def tickets_elsewhere():
    _, ticket = info_of(statement("SELECT 7 AS seven"))
    other, own = signed_in()
    for _ in range(2):
        equal(other.do_get(ticket, own).read_all().to_pydict(), {"seven": [7]})
    rubbish = lambda: shared.do_get(flight.Ticket(b"rubbish"), options).read_all()
    equal(status_of(raises(Exception, "", rubbish)), "INVALID_ARGUMENT")


@client.feature("renew")
def renews():
    info, _ = info_of(statement("SELECT 7 AS seven"))
    (answer,) = act("RenewFlightEndpoint", field(1, info.endpoints[0].serialize()))
    endpoint = flight.FlightEndpoint.deserialize(answer)
    before, after = info.endpoints[0].expiration_time, endpoint.expiration_time
    holds(after.as_py() >= before.as_py(), "more time")
    equal(shared.do_get(endpoint.ticket, options).read_all().to_pydict(), {"seven": [7]})


@client.feature("release")
def results_tell_their_release():
    info, _ = info_of(statement("SELECT count(*) AS n FROM published.indicator_value"))
    told = json.loads(info.app_metadata)
    holds(told["release"] and told["tables"]["published.indicator_value"] > 0, f"{told}")


def session():
    entries = [message(entry) for entry in message(act("GetSessionOptions")[0]).get(1, [])]
    return {entry[1][0].decode(): message(entry[2][0])[1][0].decode() for entry in entries}


@client.feature("session_read")
def reads_the_session():
    found = session()
    equal((found["catalog"], found["schema"]), ("tietopohja", "published"))


@client.feature("session_set")
def sets_the_session():
    def set_option(name, value):
        entry = field(1, name) + field(2, field(1, value))
        return message(act("SetSessionOptions", field(1, entry))[0])

    equal(set_option("schema", "published"), {})
    holds(set_option("nonsense", "1"), "an unknown option is told")


@client.feature("transaction")
def transactions():
    act("BeginTransaction", packed("ActionBeginTransactionRequest"))


@client.feature("ingest")
def rows_are_uploaded():
    batch = pyarrow.record_batch({"a": [1]})
    made_or_replaced = field(1, 1) + field(2, 3)
    descriptor = command("CommandStatementIngest", field(1, made_or_replaced), field(2, "matrix"))
    writer, answers = shared.do_put(descriptor, batch.schema, options)
    writer.write_batch(batch)
    writer.done_writing()
    equal(message(answers.read().to_pybytes()), {1: [1]})
    writer.close()
    rows("DROP TABLE workspace.matrix")


client.run()
