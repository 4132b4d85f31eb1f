"""The matrix of clients and features: what a client script states, and how.

A script makes one `Client`, marks a function for each feature of `features.json`, and calls
`run`. A feature that the client has no call for is said with `not_offered`, one that the client
has and cannot do with `client_fault`. What the server refuses stands in `refused.json` with the status
that it answers with: the check fails when the status is another, and when it is not refused any more.

With MATRIX_RESULTS set, each feature is one JSON line added to that file. Standard library only.
"""

import datetime
import decimal
import importlib.metadata
import json
import os
import pathlib
import sys
import traceback

FOLDER = pathlib.Path(__file__).parent
sys.path.append(str(FOLDER.parent))

from checks import equal, holds, raises  # noqa: E402, the folder above comes first

FEATURES = json.loads((FOLDER / "features.json").read_text(encoding="utf-8"))
REFUSED = json.loads((FOLDER / "refused.json").read_text(encoding="utf-8"))
NAMES = [name for group in FEATURES.values() for name in group]

URI = os.environ.get("TIETOPOHJA_URI", "grpc://127.0.0.1:31337")
USER = os.environ.get("TIETOPOHJA_USER", "anyone")
PASSWORD = os.environ.get("TIETOPOHJA_PASSWORD", "anything")
HOST, PORT = URI.removeprefix("grpc://").rsplit(":", 1)

MANY = 100_000
MANY_SQL = f"SELECT value AS n, CAST(value AS VARCHAR) AS t FROM generate_series(1, {MANY})"
ENDLESS_SQL = "SELECT value FROM generate_series(1, 1000000000000)"

# One value of each type, named v. The hour of the timestamp does not exist in Helsinki.
TYPES = {
    "integer": ("SELECT 9223372036854775807 AS v", 2**63 - 1),
    "double": ("SELECT CAST(0.1 AS DOUBLE) AS v", 0.1),
    "decimal": (
        "SELECT CAST('12345678901234567890123456789012345.678' AS DECIMAL(38, 3)) AS v",
        decimal.Decimal("12345678901234567890123456789012345.678"),
    ),
    "boolean": ("SELECT TRUE AS v", True),
    "date": ("SELECT DATE '2024-02-29' AS v", datetime.date(2024, 2, 29)),
    "timestamp": (
        "SELECT CAST('2024-03-31T03:30:00.123456' AS TIMESTAMP) AS v",
        datetime.datetime(2024, 3, 31, 3, 30, 0, 123456),
    ),
    "null": ("SELECT CAST(NULL AS VARCHAR) AS v", None),
    "long_text": ("SELECT repeat('ä', 1500000) AS v", "ä" * 1_500_000),
    "bytes": ("SELECT X'00FF' AS v", b"\x00\xff"),
    "list": ("SELECT [1, 2, 3] AS v", [1, 2, 3]),
}
UNICODE_SQL = "SELECT 'Äänekoski – Čáhput 漢字 🦌' AS \"ääkkönen\""
UNICODE = ("ääkkönen", "Äänekoski – Čáhput 漢字 🦌")


class Fault:
    """A check that fails in the client itself, with this error, for this reason."""

    def __init__(self, check, says, why):
        self.check, self.says, self.why = check, says, why

    def __call__(self):
        raises(Exception, self.says, self.check)


class Client:
    """One column of the matrix."""

    def __init__(self, title, *packages):
        self.title = title
        self.versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
        self.checks = {}

    def feature(self, *names):
        """Marks the check of one feature, or of several that one call shows."""

        def mark(check):
            for name in names:
                self._add(name, check)
            return check

        return mark

    def types(self, fetch, **otherwise):
        """Checks a value of each type; `fetch` gives the one value of a query as Python knows it.

        `otherwise` has a check for each type that this client gives in a way of its own.
        """
        for name, (sql, wanted) in TYPES.items():
            own = otherwise.get(name)
            self._add(name, own or (lambda sql=sql, wanted=wanted: equal(fetch(sql), wanted)))

    def arrow_tables(self, table):
        """Checks the tables of a client that gives Arrow; `table` gives that of a query."""

        def query():
            found = table("SELECT 1 AS n, 'x' AS t UNION ALL SELECT 2, 'y' ORDER BY n")
            columns = [(field.name, str(field.type)) for field in found.schema]
            equal(columns, [("n", "int64"), ("t", "string")])
            equal(found.to_pydict(), {"n": [1, 2], "t": ["x", "y"]})

        def zero_rows():
            found = table("SELECT 1 AS n, 'x' AS t WHERE 1 = 0")
            equal((found.num_rows, found.schema.names), (0, ["n", "t"]))

        def large_result():
            found = table(MANY_SQL)
            equal((found.num_rows, sum(found["n"].to_pylist())), (MANY, MANY * (MANY + 1) // 2))

        for check in (query, zero_rows, large_result):
            self._add(check.__name__, check)

    def answers(self, rows, *but):
        """Checks what SQL alone shows, all `but` the features named.

        `rows` gives a query's rows as tuples.
        """

        def count(sql):
            ((found,),) = rows(sql)
            return found

        columns = "FROM information_schema.columns WHERE table_name = 'indicator_value'"

        def goes_on():
            raises(Exception, "SELEC", lambda: rows("SELEC 1"))
            equal(rows("SELECT 1 AS n"), [(1,)])

        def as_of():
            # The warehouse is younger: at that moment it had no values.
            values = "SELECT count(*) AS n FROM published.indicator_value"
            holds(count(values) > 0, "there are values now")
            rows("SET tietopohja.as_of = '2020-01-01'")
            try:
                equal(count(values), 0)
            finally:
                rows("RESET tietopohja.as_of")
            holds(count(values) > 0, "they are back")

        def update():
            rows("CREATE OR REPLACE TABLE workspace.matrix AS SELECT 41 AS a")
            equal(rows("SELECT a FROM workspace.matrix"), [(41,)])
            rows("DROP TABLE workspace.matrix")

        checks = {
            "error_text": lambda: raises(
                Exception, "missing", lambda: rows("SELECT missing FROM reference.county")
            ),
            "error_code": lambda: equal(
                status_of(raises(Exception, "missing", lambda: rows("SELECT * FROM missing"))),
                "INVALID_ARGUMENT",
            ),
            "goes_on": goes_on,
            "update": update,
            "information_schema": lambda: holds(
                count(f"SELECT count(*) {columns}") > 5, "columns are listed"
            ),
            "sql_types": lambda: holds(
                ("DOUBLE",) in rows(f"SELECT data_type {columns}"), "DOUBLE is a type"
            ),
            "constraints": lambda: holds(
                count("SELECT count(*) FROM information_schema.table_constraints"), "constraints"
            ),
            "show": lambda: holds(
                ("tietopohja", "published", "indicator_value")
                in [tuple(row[:3]) for row in rows("SHOW TABLES")],
                "the table is listed",
            ),
            "databases": lambda: holds(
                ("tietopohja",) in [tuple(row[:1]) for row in rows("SHOW DATABASES")],
                "the catalogue is listed",
            ),
            "as_of": as_of,
        }
        for name, check in checks.items():
            if name not in but:
                self._add(name, check)

    def not_offered(self, *names):
        """Features that the client has no call for."""
        for name in names:
            self._add(name, "not offered")

    def client_fault(self, name, says, why):
        """Marks a check that fails in the client itself: with this error, for this reason."""

        def mark(check):
            self._add(name, Fault(check, says, why))
            return check

        return mark

    def _add(self, name, check):
        if name not in NAMES:
            sys.exit(f"{self.title}: `{name}` is not in features.json")
        if name in self.checks:
            sys.exit(f"{self.title}: `{name}` is stated twice")
        self.checks[name] = check

    def run(self):
        """Runs every feature, prints how it went, and ends the program."""
        missing = [name for name in NAMES if name not in self.checks]
        if missing:
            sys.exit(f"{self.title}: says nothing about {', '.join(missing)}")
        print(f"{self.title} ({', '.join(self.versions)})")
        results = {name: self._one(name, self.checks[name]) for name in NAMES}
        record = os.environ.get("MATRIX_RESULTS")
        if record:
            with open(record, "a", encoding="utf-8") as file:
                for name, (result, note) in results.items():
                    line = {"client": self.title, "versions": self.versions, "feature": name}
                    line |= {"result": result} | ({"note": note} if note else {})
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
        ran = [result for result, _ in results.values() if result != "not offered"]
        failed = ran.count("fail")
        print(f"{self.title}: {len(ran) - failed} passed, {failed} failed")
        sys.exit(1 if failed else 0)

    def _one(self, name, check):
        if check == "not offered":
            return "not offered", None
        status = REFUSED.get(name)
        try:
            if status is None:
                check()
            else:
                refused_with(status, check, name)
        except Exception as error:  # a check may fail in any way
            print(f"  FAILED {name}: {type(error).__name__}: {str(error)[:1500]}")
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(f"         line {where.lineno}: {where.line}")
            return "fail", None
        if status is not None:
            print(f"  ok     {name} (refused: {status})")
            return "refused", status
        if isinstance(check, Fault):
            print(f"  ok     {name} (the client's fault: {check.why})")
            return "client fault", check.why
        print(f"  ok     {name}")
        return "pass", None


def refused_with(status, check, name):
    """Fails unless the server refuses what the check does, with this status."""
    try:
        check()
    except AssertionError as error:
        raise AssertionError(f"answered otherwise than with {status}: {error}") from error
    except Exception as error:
        equal(status_of(error), status)
        return
    raise AssertionError(f"it works now: take the line `{name}` out of matrix/refused.json")


# How drivers write the codes of gRPC.
SPELLINGS = {
    "NOT_IMPLEMENTED": "UNIMPLEMENTED",
    "INVALIDARGUMENT": "INVALID_ARGUMENT",
    "UNAUTHORIZED": "PERMISSION_DENIED",
}
PYARROW = {
    "ArrowNotImplementedError": "UNIMPLEMENTED",
    "ArrowInvalid": "INVALID_ARGUMENT",
    "ArrowKeyError": "NOT_FOUND",
    "ArrowCancelled": "CANCELLED",
    "FlightCancelledError": "CANCELLED",
    "FlightUnauthenticatedError": "UNAUTHENTICATED",
    "FlightUnauthorizedError": "PERMISSION_DENIED",
    "FlightUnavailableError": "UNAVAILABLE",
    "FlightTimedOutError": "DEADLINE_EXCEEDED",
}


def status_of(error):
    """The gRPC code behind an error of a driver; wrappers keep the cause."""
    while error is not None:
        kind = type(error).__name__
        if kind in PYARROW:
            return PYARROW[kind]
        code = getattr(error, "status_code", None)
        if code is not None:
            return SPELLINGS.get(code.name, code.name)
        error = getattr(error, "orig", None) or error.__cause__
    return None
