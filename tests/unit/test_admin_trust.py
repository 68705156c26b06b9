"""The box's own certificate authority: what it vouches for, for how long, and who may read it."""

from __future__ import annotations

import datetime
import ssl
import subprocess

import pytest
import segno
from cryptography import x509

from appliance.admin import encryption as encryption_module
from appliance.admin.authority import RENEW_DAYS, SERVER_DAYS, Authority, Reach
from appliance.admin.encryption import Encryption, read_fingerprint
from appliance.admin.settings import PanelSettings
from appliance.admin.trust import draw

HOME = Reach(("localhost", "box", "box.local"), ("127.0.0.1", "::1", "192.168.1.20"))
NOW = datetime.datetime(2026, 11, 23, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path / "tls")


def handshake(authority: Authority, name: str, certificate: str = "", key: str = "") -> str:
    """What a client that trusts the authority says to the server under this name."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(
        certificate or authority.server_certificate_file, key or authority.server_key_file
    )
    client = ssl.create_default_context(cafile=str(authority.certificate_file))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = server.wrap_bio(to_server, to_client, server_side=True)
    here = client.wrap_bio(to_client, to_server, server_hostname=name)
    try:
        for _ in range(4):
            for side in (here, there):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        here.version() or pytest.fail("no handshake")
    except ssl.SSLCertVerificationError as error:
        return str(error.verify_message)
    return ""


def served(authority: Authority) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority.server_certificate_file.read_bytes())


def test_a_device_that_trusts_it_trusts_the_box_under_all_its_names(authority):
    assert authority.ensure(HOME) == []
    for name in ("localhost", "box", "box.local", "192.168.1.20", "127.0.0.1", "::1"):
        assert handshake(authority, name) == "", name
    assert "mismatch" in handshake(authority, "other.local")
    assert "mismatch" in handshake(authority, "192.168.1.21")


def test_its_stolen_key_opens_nothing_else(authority, tmp_path):
    authority.ensure(HOME)
    key, request, forged = (str(tmp_path / name) for name in ("k.pem", "r.pem", "c.pem"))
    extensions = tmp_path / "extensions"
    extensions.write_text("subjectAltName=DNS:bank.example,IP:8.8.8.8\n", encoding="ascii")
    folder = authority.certificate_file.parent
    for command in (
        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=bank.example "
        f"-keyout {key} -out {request}",
        f"openssl x509 -req -in {request} -CA {folder / 'ca.pem'} -CAkey {folder / 'ca-key.pem'} "
        f"-days 30 -extfile {extensions} -out {forged}",
    ):
        subprocess.run(command.split(), check=True, capture_output=True)
    for name in ("bank.example", "8.8.8.8"):
        assert "permitted subtree violation" in handshake(authority, name, forged, key)


def test_keys_are_private(authority):
    authority.ensure(HOME)
    for path in authority.certificate_file.parent.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    assert authority.certificate_file.parent.stat().st_mode & 0o077 == 0


def test_the_certificate_is_renewed_before_its_end_and_the_authority_stays(authority):
    authority.ensure(HOME, NOW)
    first, fingerprint = served(authority), authority.fingerprint()
    authority.ensure(HOME, NOW + (SERVER_DAYS - RENEW_DAYS - 1) * DAY)
    assert served(authority) == first
    authority.ensure(HOME, NOW + (SERVER_DAYS - RENEW_DAYS + 1) * DAY)
    assert served(authority) != first
    assert authority.fingerprint() == fingerprint
    assert served(authority).not_valid_after_utc - served(authority).not_valid_before_utc <= (
        398 * DAY
    ), "phones refuse longer ones"


def test_another_address_makes_another_certificate(authority):
    authority.ensure(HOME)
    moved = Reach(HOME.names, ("127.0.0.1", "10.0.0.7", "fd12::5"))
    assert authority.ensure(moved) == []
    assert handshake(authority, "10.0.0.7") == ""
    assert handshake(authority, "fd12::5") == ""
    assert "mismatch" in handshake(authority, "192.168.1.20")


def test_what_it_may_not_vouch_for_is_left_out_and_named(authority):
    authority.ensure(HOME)
    wide = Reach((*HOME.names, "www.example.com", "den.home.arpa"), (*HOME.addresses, "8.8.8.8"))
    assert authority.ensure(wide) == ["www.example.com", "8.8.8.8"]
    assert handshake(authority, "den.home.arpa") == ""
    assert "mismatch" in handshake(authority, "www.example.com")


def test_an_address_in_public_is_vouched_for_when_it_was_there_from_the_start(authority):
    assert authority.ensure(Reach(HOME.names, ("192.0.2.2", "127.0.0.1"))) == []
    assert handshake(authority, "192.0.2.2") == ""


@pytest.mark.parametrize("file", ["server.pem", "server-key.pem"])
def test_a_damaged_or_foreign_certificate_is_replaced(authority, tmp_path, file):
    authority.ensure(HOME)
    other = Authority(tmp_path / "other")
    other.ensure(HOME)
    for content in (b"", b"nonsense", (tmp_path / "other" / file).read_bytes()):
        (tmp_path / "tls" / file).write_bytes(content)
        authority.ensure(HOME)
        assert handshake(authority, "box.local") == ""


def test_a_clock_that_was_never_set_makes_no_useless_authority(authority):
    authority.ensure(HOME, datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc))
    authority.ensure(HOME, NOW)
    assert authority.certificate().not_valid_before_utc < NOW
    assert authority.certificate().not_valid_after_utc > NOW + 365 * DAY
    assert served(authority).not_valid_before_utc < NOW < served(authority).not_valid_after_utc


def test_this_machine_has_a_name_and_an_address():
    reach = Reach.now(("Den.local", "[fd00::5]"))
    assert {"localhost", "den.local"} <= set(reach.names)
    assert {"127.0.0.1", "fd00::5"} <= set(reach.addresses)
    assert not {"127.0.0.1", "::1"} & set(reach.outside)


def test_the_code_for_the_camera_is_drawn_once(monkeypatch):
    made = []
    segno_make = segno.make
    monkeypatch.setattr(segno, "make", lambda *a, **k: made.append(a) or segno_make(*a, **k))
    draw.cache_clear()
    drawn = {draw("https://10.0.0.7:8643/trust") for _ in range(100)}
    assert len(drawn) == len(made) == 1 and drawn.pop().startswith(b"<?xml")
    assert draw("https://10.0.0.8:8643/trust") not in drawn and len(made) == 2


def test_nothing_is_made_where_it_is_not_used(tmp_path):
    for settings in (
        PanelSettings(),
        PanelSettings(host="0.0.0.0", tls_certificate="c.pem", tls_key="k.pem"),
    ):
        Encryption(settings, tmp_path / "data", tmp_path).prepare()
    assert not (tmp_path / "data").exists()
    assert read_fingerprint(tmp_path) == ""


def test_who_connects_later_sees_the_renewed_certificate(tmp_path, monkeypatch):
    settings = PanelSettings(host="0.0.0.0")
    encryption = Encryption(settings, tmp_path, tmp_path)
    reach = [HOME]
    monkeypatch.setattr(encryption, "reach", lambda: reach[0])
    encryption.context()
    assert read_fingerprint(tmp_path) == encryption.authority().fingerprint()
    encryption.look_every_s = 0.0
    turns = []

    async def soon(_seconds: float) -> None:
        turns.append(1)
        reach[0] = Reach(HOME.names, ("10.9.8.7",))
        if len(turns) > 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(encryption_module.asyncio, "sleep", soon)
    with pytest.raises(KeyboardInterrupt):
        encryption_module.asyncio.run(encryption.keep_current())
    assert handshake(encryption.authority(), "10.9.8.7") == ""
