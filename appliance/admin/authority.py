"""A certificate authority of this box alone: without one, no browser gives a page from another
machine the microphone, and no public authority vouches for a name in somebody's home.

Its certificate is installed on a phone or laptop once. What it may vouch for is named in it: this
box's names, names of home networks, private addresses. Stolen, its key opens nothing else.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
SERVER_DAYS = 90
RENEW_DAYS = 30
"""A server certificate is renewed when it is good for less than this."""
_NO_EARLIER = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
"""A clock before this is wrong: boxes without a battery start anywhere."""
_DAY = datetime.timedelta(days=1)
HOME_DOMAINS = ("local", "lan", "home.arpa", "internal")
_PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        (
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8"),
            *("100.64.0.0/10", "fc00::/7", "fe80::/10", "::1/128"),
        ),
    )
)
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Reach:
    """Under what this machine is called by others."""

    names: tuple[str, ...]
    addresses: tuple[str, ...]

    @classmethod
    def now(cls, configured: Iterable[str] = ()) -> Reach:
        """As it is at present.

        Args:
            configured: further names and addresses, from the configuration.
        """
        host = socket.gethostname().lower().partition(".")[0] or "localhost"
        names = ["localhost", host, f"{host}.local"]
        addresses = ["127.0.0.1", "::1"]
        for interface in psutil.net_if_addrs().values():
            addresses += [
                entry.address
                for entry in interface
                if entry.family in (socket.AF_INET, socket.AF_INET6) and "%" not in entry.address
            ]
        for name in configured:
            plain = name.strip("[]").lower()
            if address := _address(plain):
                addresses.append(str(address))  # written as in the certificate
            else:
                names.append(plain)
        return cls(tuple(dict.fromkeys(names)), tuple(dict.fromkeys(addresses)))

    @property
    def outside(self) -> list[str]:
        """Addresses by which others come, the likeliest first."""
        own = [a for a in self.addresses if not ipaddress.ip_address(a).is_loopback]
        return sorted(own, key=lambda address: ":" in address)


class Authority:
    """The authority's files, and the server's certificate that it signs.

    Args:
        folder: where they are kept, private to this user; made when needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.certificate_file = folder / "ca.pem"
        self._key_file = folder / "ca-key.pem"
        self.server_certificate_file = folder / "server.pem"
        self.server_key_file = folder / "server-key.pem"

    @property
    def exists(self) -> bool:
        """Whether it has been made."""
        return self.certificate_file.exists() and self._key_file.exists()

    def certificate(self) -> x509.Certificate:
        """Its certificate, which devices install."""
        return x509.load_pem_x509_certificate(self.certificate_file.read_bytes())

    def fingerprint(self) -> str:
        """SHA-256 of its certificate, as browsers and phones show it."""
        return self.certificate().fingerprint(hashes.SHA256()).hex(":").upper()

    def ensure(self, reach: Reach, now: datetime.datetime | None = None) -> list[str]:
        """Make what is missing, and renew the server's certificate where it is time to, or where
        the machine is called otherwise by now.

        Args:
            reach: under what the machine is called.
            now: another time than the clock's, for tests.

        Returns:
            Names and addresses that the authority may not vouch for: they are left out.

        Raises:
            OSError, ValueError: the folder cannot be written, or holds something else.
        """
        now = max(now or datetime.datetime.now(datetime.timezone.utc), _NO_EARLIER)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.exists:
            self._make(reach, now)
        certificate = self.certificate()
        wanted = [name for name in (*reach.names, *reach.addresses) if _may(certificate, name)]
        if not self._is_good(wanted, certificate, now):
            self._sign(wanted, certificate, now)
        return [name for name in (*reach.names, *reach.addresses) if name not in wanted]

    def _make(self, reach: Reach, now: datetime.datetime) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        host = reach.names[1] if len(reach.names) > 1 else reach.names[0]
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, f"Voice appliance {host}"[:64]),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Voice appliance, this box only"),
            ]
        )
        networks: list[_Network] = list(_PRIVATE)
        for text in reach.addresses:
            address = ipaddress.ip_address(text)
            if not any(address in network for network in _PRIVATE):
                networks.append(ipaddress.ip_network(address))
        allowed = [
            *map(x509.DNSName, dict.fromkeys((*reach.names, *HOME_DOMAINS))),
            *map(x509.IPAddress, networks),
        ]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_NO_EARLIER)
            .not_valid_after(now + AUTHORITY_DAYS * _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.NameConstraints(allowed, None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        _write(self._key_file, _pem(key))
        _write(self.certificate_file, certificate.public_bytes(serialization.Encoding.PEM))

    def _is_good(
        self, wanted: list[str], authority: x509.Certificate, now: datetime.datetime
    ) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(self.server_certificate_file.read_bytes())
            key = serialization.load_pem_private_key(self.server_key_file.read_bytes(), None)
            certificate.verify_directly_issued_by(authority)
            found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
            return False
        except Exception:  # a signature of another authority: InvalidSignature has no base
            return False
        return (
            certificate.public_key() == key.public_key()
            and {str(name.value) for name in found.value} == set(wanted)
            and certificate.not_valid_before_utc <= now
            and certificate.not_valid_after_utc > now + RENEW_DAYS * _DAY
        )

    def _sign(self, wanted: list[str], authority: x509.Certificate, now: datetime.datetime) -> None:
        authority_key = serialization.load_pem_private_key(self._key_file.read_bytes(), None)
        assert isinstance(authority_key, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = []
        for name in wanted:
            address = _address(name)
            names.append(x509.IPAddress(address) if address else x509.DNSName(name))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Voice appliance")]))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + SERVER_DAYS * _DAY)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
                critical=False,
            )
            .sign(authority_key, hashes.SHA256())
        )
        _write(self.server_key_file, _pem(key))
        _write(
            self.server_certificate_file,
            certificate.public_bytes(serialization.Encoding.PEM)
            + authority.public_bytes(serialization.Encoding.PEM),
        )


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _may(authority: x509.Certificate, name: str) -> bool:
    """Whether an authority's certificate lets it vouch for a name or address."""
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    address = _address(name)
    for permitted in constraints.permitted_subtrees or ():
        if address is not None:
            if isinstance(permitted, x509.IPAddress) and address in permitted.value:  # type: ignore[operator]
                return True
        elif isinstance(permitted, x509.DNSName) and (
            name == permitted.value or name.endswith(f".{permitted.value}")
        ):
            return True
    return False


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes) -> None:
    """Replace a file as a whole; nobody else may read it, not even for a moment."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
