"""Makes the certificates of the tests anew: python make.py (needs the package `cryptography`).

They are for tests only. Their keys are public, so nobody must ever trust `authority.pem`.

authority.pem      vouches for the next three; its key is thrown away
server.pem, .key   a server on this machine
renewed.pem, .key  the same server, later
client.pem, .key   a client
stranger.pem       an authority that vouches for nobody here
"""

import datetime
import ipaddress
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HERE = pathlib.Path(__file__).parent
BEGIN, END = datetime.datetime(2020, 1, 1), datetime.datetime(2120, 1, 1)


def certificate(subject, issuer, key, signed_by, extensions):
    def name(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGIN)
        .not_valid_after(END)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(signed_by, hashes.SHA256())


def write(name, made, key=None):
    pem = made.public_bytes(serialization.Encoding.PEM)
    (HERE / f"{name}.pem").write_bytes(pem)
    if key is not None:
        text = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (HERE / f"{name}.key").write_bytes(text)


def authority(name):
    key = ec.generate_private_key(ec.SECP256R1())
    title = f"Tietopohja tests: {name}"
    is_authority = x509.BasicConstraints(ca=True, path_length=0)
    write(name, certificate(title, title, key, key, [is_authority]))
    return key, title


def leaf(name, names, usage, signed_by):
    key = ec.generate_private_key(ec.SECP256R1())
    extensions = [x509.SubjectAlternativeName(names), x509.ExtendedKeyUsage([usage])]
    write(name, certificate(name, signed_by[1], key, signed_by[0], extensions), key)


here = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
known = authority("authority")
authority("stranger")
leaf("server", here, ExtendedKeyUsageOID.SERVER_AUTH, known)
leaf("renewed", here, ExtendedKeyUsageOID.SERVER_AUTH, known)
leaf("client", [x509.DNSName("client")], ExtendedKeyUsageOID.CLIENT_AUTH, known)
