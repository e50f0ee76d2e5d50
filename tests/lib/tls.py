# SPDX-License-Identifier: MIT
"""A certificate authority for one test run, and certificates that are wrong in one way each.

`Authority(directory)` writes PEM files there and `context(name)` gives an ssl.SSLContext for a
server. Keys are EC P-256 where nothing else is wanted: fast to make, so nothing is kept between
runs. Needs python3-cryptography.
"""
import base64
import datetime
import ipaddress
import math
import os
import secrets
import ssl
import warnings

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dh, ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
LOCAL = ("localhost", "127.0.0.1", "::1")

# name: (issuer, names, first day, last day); days count from today
LEAVES = {
    "good": ("ca", LOCAL, -1, 30),
    "expired": ("ca", LOCAL, -30, -1),
    "not-yet": ("ca", LOCAL, 10, 30),
    "wrong-host": ("ca", ("elsewhere.example",), -1, 30),
    "self-signed": (None, LOCAL, -1, 30),
    "untrusted": ("other", LOCAL, -1, 30),
    "incomplete": ("intermediate", LOCAL, -1, 30),
    "chained": ("intermediate", LOCAL, -1, 30),
    "rsa": ("ca", LOCAL, -1, 30),
    "dear": ("ca", LOCAL, -1, 30),
    "names": ("ca", ("one.test", "two.test", "*.wild.test"), -1, 30),
}


def _rsa_key(exponent_bits=17):
    """Of 2048 bits; what it costs others to verify with grows with the exponent, of which more than 17
    bits are chosen at random."""
    key = rsa.generate_private_key(65537, 2048)
    if exponent_bits == 17:
        return key
    p, q = key.private_numbers().p, key.private_numbers().q
    e = phi = (p - 1) * (q - 1)
    while math.gcd(e, phi) != 1:
        e = secrets.randbits(exponent_bits - 1) | 1 << exponent_bits - 1 | 1
    d = pow(e, -1, phi)
    return rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(e, p * q)
    ).private_key()


# leaves with another key than the others
KEYS = {"rsa": _rsa_key, "dear": lambda: _rsa_key(1000)}


def _ffdhe2048():
    """The prime of RFC 7919, A.1."""
    euler = sum((1 << 2000) // math.factorial(n) for n in range(400)) >> 2000 - 1918
    return (1 << 2048) - (1 << 1984) + ((euler + 560316) << 64) - 1


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(names):
    return x509.SubjectAlternativeName(
        [
            x509.IPAddress(ipaddress.ip_address(n))
            if ":" in n or n[-1].isdigit()
            else x509.DNSName(n)
            for n in names
        ]
    )


class Authority:
    """`ca_file` is what the client shall trust; `context(NAME)` serves one of LEAVES."""

    def __init__(self, directory):
        self.directory = str(directory)
        self._issued = {}
        self._authority("ca", None)
        self._authority("other", None)
        self._authority("intermediate", "ca")
        self.ca_file = self.path("ca.pem")

    def path(self, name):
        return os.path.join(self.directory, name)

    def _write(self, name, key, *certificates):
        pem = serialization.Encoding.PEM
        with open(self.path(name + ".pem"), "wb") as file:
            for certificate in certificates:
                file.write(certificate.public_bytes(pem))
        with open(self.path(name + ".key"), "wb") as file:
            file.write(
                key.private_bytes(
                    pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )

    def _build(self, subject, issuer, first, last, extensions, key=None):
        key = key or ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        issuer_key, issuer_name = (key, subject) if issuer is None else self._issued[issuer]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + first * DAY)
            .not_valid_after(now + last * DAY)
        )
        # Strict verifiers (Python 3.13's default) want both key identifiers.
        extensions.append((x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False
        )
        return key, builder.sign(issuer_key, hashes.SHA256())

    def _authority(self, name, issuer):
        subject = _name("gatherd test " + name)
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        key, certificate = self._build(
            subject, issuer, -2, 60, [(x509.BasicConstraints(True, None), True), (usage, True)]
        )
        self._issued[name] = (key, subject)
        self._write(name, key, certificate)

    def issue(self, name):
        """Makes the leaf `name` of LEAVES once; returns (certificate path, key path)."""
        paths = self.path(name + ".pem"), self.path(name + ".key")
        if os.path.exists(paths[0]):
            return paths
        issuer, names, first, last = LEAVES[name]
        key, certificate = self._build(
            _name(names[0]),
            issuer,
            first,
            last,
            [
                (x509.BasicConstraints(False, None), True),
                (_alternative(names), False),
                (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            ],
            KEYS[name]() if name in KEYS else None,
        )
        chain = []
        if name == "chained":
            with open(self.path("intermediate.pem"), "rb") as file:
                chain = [x509.load_pem_x509_certificate(file.read())]
        self._write(name, key, certificate, *chain)
        return paths

    def _with_more(self, name, more):
        """A leaf's file with `more` certificates after it that are no part of its chain."""
        longer = self.path("%s-%d.pem" % (name, more))
        with open(longer, "wb") as out:
            for part, times in ((name, 1), ("intermediate", more)):
                with open(self.path(part + ".pem"), "rb") as file:
                    out.write(file.read() * times)
        return longer

    def _dh_params(self):
        path = self.path("dh.pem")
        if not os.path.exists(path):
            params = dh.DHParameterNumbers(_ffdhe2048(), 2).parameters()
            pem = params.parameter_bytes(
                serialization.Encoding.PEM, serialization.ParameterFormat.PKCS3
            )
            with open(path, "wb") as file:
                file.write(pem)
        return path

    def context(self, name="good", version=None, ciphers=None, alpn=(), more=0):
        """A server's context; `version` pins the protocol, e.g. ssl.TLSVersion.TLSv1; `alpn` are the
        protocols that it knows, the best first; `more`: certificates sent for nothing, some 420 bytes
        each. Ciphers with DHE have 2,048 bits."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate, key = self.issue(name)
        context.load_cert_chain(self._with_more(name, more) if more else certificate, key)
        if version is not None:
            with warnings.catch_warnings():  # old versions are what some tests are about
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.maximum_version = version
                context.minimum_version = version
        if ciphers is not None:
            context.set_ciphers(ciphers)
            if "DHE" in ciphers:
                context.load_dh_params(self._dh_params())
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context
