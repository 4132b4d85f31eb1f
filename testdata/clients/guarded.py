"""Checks a server with users, TLS and certificates of clients, with ADBC and pyarrow.flight.

    python guarded.py grpc+tls://127.0.0.1:50051 FOLDER NAME PASSWORD

FOLDER holds the test certificates. The user must be a reader. Prints a line for each check and
`N passed, N failed`; the exit status is 0 when all passed.
"""

import pathlib
import sys
import warnings

import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import pyarrow.flight
from adbc_driver_flightsql import DatabaseOptions

from checks import Checks, equal, raises

warnings.filterwarnings("ignore", message="Cannot disable autocommit")


class House:
    """A server and what a client needs to be let in."""

    def __init__(self, address, folder, name, password):
        self.address = address.replace("127.0.0.1", "localhost")
        self.name, self.password = name, password
        self.folder = pathlib.Path(folder)

    def text(self, name):
        return (self.folder / name).read_text()

    def options(self, **changed):
        options = {
            "username": self.name,
            "password": self.password,
            DatabaseOptions.TLS_ROOT_CERTS.value: self.text("authority.pem"),
            DatabaseOptions.MTLS_CERT_CHAIN.value: self.text("client.pem"),
            DatabaseOptions.MTLS_PRIVATE_KEY.value: self.text("client.key"),
        }
        options.update(changed)
        return {name: value for name, value in options.items() if value is not None}

    def one(self, options, address=None):
        address = address or self.address
        with flight_sql.connect(address, db_kwargs=options, autocommit=True) as connection:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                return cursor.fetchall()


def adbc_reads(house):
    equal(house.one(house.options()), [(1,)])


def adbc_is_refused(house, says, **changed):
    error = adbc_driver_manager.Error
    raises(error, says, lambda: house.one(house.options(**changed)))


def adbc_without_tls_is_refused(house):
    plain = house.address.replace("grpc+tls", "grpc")
    raises(adbc_driver_manager.Error, "", lambda: house.one(house.options(), plain))


def pyarrow_reads(house):
    client = pyarrow.flight.FlightClient(
        house.address,
        tls_root_certs=house.text("authority.pem"),
        cert_chain=house.text("client.pem"),
        private_key=house.text("client.key"),
    )
    name, bearer = client.authenticate_basic_token(house.name, house.password)
    equal(name, b"authorization")
    options = pyarrow.flight.FlightCallOptions(headers=[(name, bearer)])
    equal([action.type for action in client.list_actions(options)][:1], ["CreatePreparedStatement"])


def main():
    house = House(*sys.argv[1:5])
    checks = Checks("Users, TLS and certificates of clients")
    checks.run("ADBC reads", adbc_reads, house)
    for name, says, changed in [
        ("a wrong password", "the user name or the password is wrong", {"password": "wrong"}),
        ("no password", "", {"username": None, "password": None}),
        (
            "a server nobody vouches for",
            "certificate",
            {DatabaseOptions.TLS_ROOT_CERTS.value: house.text("stranger.pem")},
        ),
        (
            "a client without a certificate",
            "",
            {
                DatabaseOptions.MTLS_CERT_CHAIN.value: None,
                DatabaseOptions.MTLS_PRIVATE_KEY.value: None,
            },
        ),
    ]:
        check = lambda house: adbc_is_refused(house, says, **changed)
        checks.run(f"ADBC is refused: {name}", check, house)
    checks.run("ADBC is refused: no TLS", adbc_without_tls_is_refused, house)
    checks.run("pyarrow.flight reads", pyarrow_reads, house)
    checks.finish()


main()
