"""Who gets in, what they may change, and what leaves the box."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import logging
import os
import signal
import stat
import time
import zipfile
from dataclasses import replace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import config as configuration
from appliance.admin.applying import Applier
from appliance.admin.audit import Audit
from appliance.admin.configfile import LIVE, ConfigFile, changes, entries, parse, restarts
from appliance.admin.diagnosis import Logs, bundle, without_words
from appliance.admin.doors import _local
from appliance.admin.encryption import Encryption
from appliance.admin.gate import form_of
from appliance.admin.pairing import Pairing, read_code
from appliance.admin.panel import Panel
from appliance.admin.passwords import AttemptLimiter, BusyError, Passwords
from appliance.admin.render import FOLDER
from appliance.admin.settingpages import vocabulary_of
from appliance.admin.settings import PanelSettings, is_loopback
from appliance.admin.store import CONFIGURE, READ, WORDS, Accounts
from appliance.admin.view import View
from appliance.config import PROJECT_ROOT, Config, Section
from appliance.errors import ApplianceError
from appliance.ipc.log import keep_log
from appliance.messages import Heartbeat
from appliance.mind.understanding import load as load_intents
from appliance.processes import PROCESSES

# --- passwords and attempts --------------------------------------------------------------------


def test_a_password_is_checked_and_an_unknown_user_costs_the_same():
    async def scenario():
        passwords = Passwords()
        hashed = await passwords.hash("four plain words here")
        return hashed, [
            await passwords.verify(hashed, "four plain words here"),
            await passwords.verify(hashed, "another"),
            await passwords.verify("not a hash", "another"),
            await passwords.verify(None, "nobody has this one"),
        ]

    hashed, verdicts = asyncio.run(scenario())
    assert hashed.startswith("$argon2id$")
    assert verdicts == [True, False, False, False]


def test_a_check_leaves_no_memory_behind():
    async def scenario():
        passwords = Passwords()
        hashed = await passwords.hash("four plain words here")
        before = psutil.Process().memory_info().rss
        for _ in range(4):
            await passwords.verify(hashed, "another")
        return psutil.Process().memory_info().rss - before

    assert asyncio.run(scenario()) < 10_000_000


def test_only_a_few_wait_for_the_slow_check():
    async def scenario():
        passwords = Passwords()
        waiting = [passwords.verify("$argon2id$x", "x") for _ in range(40)]
        return await asyncio.gather(*waiting, return_exceptions=True)

    results = asyncio.run(scenario())
    assert sum(isinstance(result, BusyError) for result in results) == 36
    assert results.count(False) == 4


def test_a_hundred_thousand_attempts_are_a_handful():
    """At 1000 a second, from one address: what is worked out stays within the lock-outs."""
    limiter = AttemptLimiter()
    made = sum(limiter.attempt("192.0.2.1", n / 1000) == 0 for n in range(100_000))
    assert made <= 7


def test_many_addresses_gain_little_and_cost_no_memory():
    limiter = AttemptLimiter()
    made = sum(
        limiter.attempt(f"2001:db8:{n // 65536:x}:{n % 65536:x}::1", n / 1000) == 0
        for n in range(20_000)
    )
    assert made <= 10 + 0.5 * 20 + 1
    assert len(limiter._by_address) <= 1024


def test_locks_grow_and_end_and_success_forgets():
    limiter = AttemptLimiter()
    assert [limiter.attempt("192.0.2.1", 3.0 * n) for n in range(5)] == [0.0] * 5
    now_s, waits = 12.0, []
    for _ in range(7):
        waits.append(limiter.attempt("192.0.2.1", now_s))
        now_s += waits[-1]
        assert limiter.attempt("192.0.2.1", now_s) == 0
    assert waits == [30, 60, 120, 240, 480, 900, 900]
    assert limiter.attempt("192.0.2.2", now_s) == 0, "others are not locked out"
    limiter.succeeded("192.0.2.1")
    assert limiter.attempt("192.0.2.1", now_s) == 0


def test_a_network_of_ipv6_counts_as_one():
    limiter = AttemptLimiter()
    made = sum(limiter.attempt(f"2001:db8::{n:x}", 3.0 * n) == 0 for n in range(8))
    assert made == 5


# --- accounts ----------------------------------------------------------------------------------


def test_nothing_is_written_before_the_first_account(tmp_path):
    folder = tmp_path / "data"
    accounts = Accounts(folder)
    assert not accounts.paired() and accounts.session("x") is None and accounts.token("x") is None
    assert accounts.password("Ada") is None and accounts.users() == []
    assert not folder.exists()


def test_sessions_and_tokens_open_and_close_and_are_not_in_the_file(tmp_path):
    accounts = Accounts(tmp_path / "data")
    assert accounts.add_user("Ada", "owner", "hash") and accounts.add_user("Bob", "viewer", "hash")
    assert not accounts.add_user("Ada", "viewer", "hash"), "the name is taken"
    cookie, viewer = accounts.open_session("Ada"), accounts.open_session("Bob")
    token = accounts.add_token("grafana", ["read"])
    assert accounts.session(cookie).may(CONFIGURE) and accounts.session(cookie).may(WORDS)
    assert accounts.session(viewer).scopes == {READ}
    assert accounts.token(token).scopes == {READ} and not accounts.token(token).csrf
    with pytest.raises(ValueError, match="configure"):
        accounts.add_token("evil", ["configure"])
    accounts.close()
    file = tmp_path / "data" / "panel.sqlite3"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not any(secret.encode() in file.read_bytes() for secret in (cookie, viewer, token))
    accounts.set_password("Bob", "other")
    assert accounts.session(viewer) is None, "a new password ends all sessions"
    assert accounts.remove_token(accounts.tokens()[0]["id"]) and accounts.token(token) is None
    assert not accounts.remove_viewer("Ada"), "an owner stays"
    accounts.close_session(cookie)
    assert accounts.session(cookie) is None
    accounts.reset()
    assert not accounts.paired()
    accounts.close()


def test_sessions_end_by_age_and_number(tmp_path, monkeypatch):
    accounts = Accounts(tmp_path, session_days=1)
    accounts.add_user("Ada", "owner", "hash")
    cookies = [accounts.open_session("Ada") for _ in range(40)]
    assert [accounts.session(cookie) is not None for cookie in cookies] == [False] * 8 + [True] * 32
    now = time.time()
    monkeypatch.setattr("appliance.admin.store.time.time", lambda: now + 86_500)
    assert accounts.session(cookies[-1]) is None
    accounts.close()


def test_the_code_changes_after_five_wrong_ones(tmp_path, caplog):
    pairing = Pairing(tmp_path, "http://localhost/pair")
    first = pairing.offer()
    assert read_code(tmp_path) == first and f"{first[:4]} {first[4:]}" in caplog.text
    assert stat.S_IMODE((tmp_path / "pairing-code").stat().st_mode) == 0o600
    wrong = f"{(int(first) + 1) % 10**8:08d}"
    assert not any(pairing.redeem(code) for code in (wrong, "", "x", "١٢٣", wrong))
    assert pairing.offer() != first and not pairing.redeem(first)
    assert pairing.redeem(f" {pairing.offer()[:4]}-{pairing.offer()[4:]} ")
    pairing.done()
    assert read_code(tmp_path) is None


# --- routes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "goes_to"),
    [("/turns", "/turns"), ("//evil.example", "/"), ("/\\evil", "/"), ("http://x", "/"), ("", "/")],
)
def test_nobody_is_sent_elsewhere(target, goes_to):
    assert _local(target) == goes_to


@given(st.binary(max_size=200))
def test_any_body_is_a_form(body):
    fields = form_of(body)
    assert all(isinstance(value, str) for value in fields.values())


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("192.168.1.5", False),
        ("0.0.0.0", False),
        ("", False),
        ("evil", False),
    ],
)
def test_what_is_this_machine(address, own):
    assert is_loopback(address) is own


def test_other_names_are_answered_only_when_given():
    assert PanelSettings().allowed_hosts() == {"127.0.0.1", "localhost", "[::1]"}
    wide = PanelSettings(host="0.0.0.0", names=("Box.local",)).allowed_hosts()
    assert "box.local" in wide and "0.0.0.0" not in wide
    assert "evil.example" not in wide and "192.168.1.2" not in wide
    assert "[fd00::1]" in PanelSettings(host="fd00::1").allowed_hosts()


def test_other_machines_are_not_answered_in_the_clear(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    panel = Panel(Config(), tmp_path)
    panel.settings = PanelSettings(host="0.0.0.0", tls_certificate="half.pem")
    panel.encryption = Encryption(panel.settings, tmp_path, tmp_path)
    opened = []

    async def open_outside(tls):
        opened.append(tls)

    panel.open_outside = open_outside
    asyncio.run(panel.open_if_paired())
    assert not opened and not caplog.text, "without an owner nothing is even tried"
    panel.accounts.add_user("Ada", "owner", "hash")
    asyncio.run(panel.open_if_paired())
    assert not opened and "tls_key" in caplog.text
    panel.accounts.close()


# --- settings ----------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "appliance.toml"
    path.write_text('# mine\nprofile = "auto"\n\n[llm]\nmax_tokens = 50  # short\n', "utf-8")
    path.chmod(0o640)
    return ConfigFile(path)


def test_a_change_keeps_comments_and_permissions_and_can_be_undone(file):
    before = file.path.read_text()
    config = file.change(
        {
            "llm.max_tokens": 60,
            "asr.vocabulary": {"Ada": 3.0},
            "front_end.look_direction_deg": 30.0,
            "front_end.microphones_m": [[0.0, 0.0, 0.0]],
        }
    )
    assert (config.llm.max_tokens, config.asr.vocabulary) == (60, {"Ada": 3.0})
    text = file.path.read_text()
    assert text.startswith("# mine") and "max_tokens = 60  # short" in text
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o640
    assert configuration.load(file.path) == config
    assert file.restore().llm.max_tokens == 50
    assert file.path.read_text() == before
    assert file.restore() == config, "undoing twice does it again"
    file.change({"front_end.look_direction_deg": None})
    assert configuration.load(file.path).front_end.look_direction_deg is None


@pytest.mark.parametrize(
    "values",
    [
        {"llm.max_tokens": 1},
        {"llm.nothing": 1},
        {"vad.pause_ms": 1999},
        {"asr.vocabulary": {"x": None}},
        {"audio.input_device": "\ud800"},
        {"profile.x": 1},
    ],
)
def test_what_is_not_valid_changes_nothing(file, values):
    before = file.path.read_text()
    with pytest.raises(ApplianceError):
        file.change(values)
    assert file.path.read_text() == before and not file.restorable
    assert [entry.name for entry in file.path.parent.iterdir()] == ["appliance.toml"]


def test_forms_know_every_key_and_give_back_what_they_show():
    config = Config()
    found = entries(config, {"APPLIANCE_LLM__THREADS": "2"})
    keys = {entry.key for section in found.values() for entry in section}
    assert "llm.max_tokens" in keys and not any("." not in key for key in keys)
    for section, fields in found.items():
        for entry in fields:
            assert entry.text, f"{entry.key} has no docstring"
            value = parse(entry, entry.value)
            actual = getattr(getattr(config, section), entry.key.split(".")[1])
            assert value == (list(actual) if isinstance(actual, tuple) else actual), entry.key
            assert (entry.kind == "choice") == bool(entry.choices)
    by_key = {entry.key: entry for section in found.values() for entry in section}
    assert by_key["llm.threads"].environment == "APPLIANCE_LLM__THREADS"
    assert (by_key["llm.max_tokens"].least, by_key["llm.max_tokens"].most) == (8, 2048)
    assert by_key["asr.engine"].choices[0] == "auto" and len(by_key["asr.engine"].choices) == 4
    assert by_key["front_end.look_direction_deg"].optional


@pytest.mark.parametrize(
    ("key", "text"),
    [("llm.max_tokens", "many"), ("asr.vocabulary", "{"), ("audio.output_gain_db", "")],
)
def test_nonsense_in_a_form_names_the_key(key, text):
    found = entries(Config(), {})
    entry = next(e for e in found[key.partition(".")[0]] if e.key == key)
    with pytest.raises(ApplianceError, match=key):
        parse(entry, text)


def keys_read_by(process):
    """What the modules of a process read of the configuration: (section, key), the key empty where
    a whole section is handed on."""
    sections = {name for name, section in Config() if isinstance(section, Section)}
    for path in (PROJECT_ROOT / "appliance" / process).rglob("*.py"):
        if path.name in ("cli.py", "checkup.py"):  # programs of their own
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parents = {
            id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Attribute) and node.attr in sections):
                continue
            owner = getattr(node.value, "id", getattr(node.value, "attr", ""))
            if owner in ("config", "_config"):
                above = parents[id(node)]
                key = above.attr if isinstance(above, ast.Attribute) else ""
                yield (
                    node.attr,
                    key if key in type(getattr(Config(), node.attr)).model_fields else "",
                )


def test_whoever_reads_a_key_is_restarted_for_it():
    keys = {entry.key for section in entries(Config(), {}).values() for entry in section}
    for key in keys:
        assert set(restarts(key)) <= set(PROCESSES)
    for process in PROCESSES:
        found = set(keys_read_by(process))
        assert found or process == "gateway", process
        for section, key in found:
            if process == "admin":  # takes over some keys itself, and shows the others
                continue
            for name in keys if not key else [f"{section}.{key}"]:
                if name.startswith(f"{section}."):
                    assert process in restarts(name), (process, name)
    assert restarts("logging.level") == tuple(PROCESSES)
    assert restarts("admin.port") == ("admin",)
    for key in LIVE:
        assert restarts(f"admin.{key}") == ()


def test_who_does_not_come_back_is_named(monkeypatch):
    prompt = replace(PROCESSES["vad"], start_timeout_ms=300)
    monkeypatch.setitem(PROCESSES, "vad", prompt)
    ended = []
    monkeypatch.setattr("os.kill", lambda pid, how: ended.append((pid, how)))
    view = View()

    def beat(process, pid, instance=0, state="ready"):
        fields = {"process": process, "instance": instance, "state": state}
        view.note(Heartbeat(life=pid, pid=pid, **fields), time.monotonic_ns(), 0)

    async def until(holds):
        deadline_s = time.monotonic() + 10
        while not holds():
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.02)

    async def apply():
        applier = Applier(view)

        def done():
            state = applier.state()
            return not state["waiting"] and not state["restarting"]

        beat("vad", 11)
        applier.want(["vad", "llm"])  # llm does not run: it will read what is new when it does
        await until(done)
        assert applier.state()["failed"] == ["vad"]
        assert ended == [(11, signal.SIGTERM)]
        beat("vad", 12)
        applier.want(["vad"])
        assert applier.state()["failed"] == [], "another attempt"
        await until(lambda: len(ended) == 2)
        beat("vad", 13)
        await until(done)
        assert applier.state()["failed"] == []

    asyncio.run(apply())


def test_a_standby_is_restarted_first_and_the_panel_itself_last():
    view = View()
    for process, instance, state, pid in (
        ("capture", 0, "ready", 1),
        ("capture", 1, "standby", 2),
        ("admin", 0, "ready", os.getpid()),
    ):
        beat = Heartbeat(process=process, instance=instance, life=pid, pid=pid, state=state)
        view.note(beat, time.monotonic_ns(), 0)
    labels = ["admin", "capture.0", "capture.1"]
    assert sorted(labels, key=Applier(view)._order) == ["capture.1", "capture.0", "admin"]


def test_what_changed_is_found():
    before = Config()
    after = before.model_copy(update={"llm": before.llm.model_copy(update={"max_tokens": 9})})
    assert changes(before, after) == ["llm.max_tokens"] and changes(before, before) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", {}),
        ("Ada\n Grace  Hopper 10 \n\nR2 D2", {"Ada": 3.0, "Grace Hopper": 10.0, "R2 D2": 3.0}),
        ("Ada 2\nAda 0.5", {"Ada": 0.5}),
        ("小米 4", {"小米": 4.0}),
    ],
)
def test_a_vocabulary_is_lines(text, words):
    assert vocabulary_of(text) == words


@pytest.mark.parametrize("text", ["Ada 11", "Ada -1", "Ada nan", "7", "x" * 81, "a\n" + "b" * 90])
def test_a_vocabulary_out_of_range_is_refused(text):
    with pytest.raises(ApplianceError, match="a boost from 0 to 10"):
        vocabulary_of(text)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_intent_has_an_example_that_is_understood(language):
    understanding = load_intents(PROJECT_ROOT / "config" / "intents", language)
    examples = json.loads((FOLDER / "examples.json").read_text(encoding="utf-8"))[language]
    # these tell what it cannot do, or leaves to the language model
    assert set(examples) == understanding.intents - {"model", "unknowable", "undoable"}
    for intent, sentences in examples.items():
        for sentence in sentences:
            understood = understanding.understand(sentence)
            assert understood and understood.intent == intent, sentence


# --- what leaves the box -----------------------------------------------------------------------


@pytest.fixture
def logs(tmp_path):
    root = logging.getLogger()
    before = list(root.handlers)
    keep_log(tmp_path, "vad")
    yield Logs(tmp_path)
    for handler in set(root.handlers) - set(before):
        root.removeHandler(handler)
        handler.close()


def test_a_log_is_followed_line_by_line(logs):
    logger = logging.getLogger("appliance.test")
    logger.warning("first")
    one = logs.tail("vad")
    assert one["lines"][-1].endswith("first")
    logger.warning("second")
    two = logs.tail("vad", one["next"])
    assert len(two["lines"]) == 1 and two["lines"][0].endswith("second")
    assert logs.tail("vad", two["next"])["lines"] == []
    assert logs.tail("vad", 10**9)["lines"], "a position of another file begins anew"
    for name in ("../vad", "nobody", ""):
        with pytest.raises(KeyError):
            logs.tail(name)


def test_the_bundle_has_no_words(logs):
    logging.getLogger("appliance.test").warning("a line")
    config = Config.model_validate(
        {"llm": {"system_prompt": "my secret"}, "asr": {"vocabulary": {"Hortensia": 3}}}
    )
    archive = zipfile.ZipFile(io.BytesIO(bundle(config, logs, {"state": {"ready": True}})))
    names = set(archive.namelist())
    assert {"about.json", "config.json", "state.json", "log/vad.txt"} == names
    everything = b"".join(archive.read(name) for name in names)
    assert b"secret" not in everything and b"Hortensia" not in everything
    assert b"a line" in everything
    spoken = Config.model_validate({"logging": {"words": True}})
    archive = zipfile.ZipFile(io.BytesIO(bundle(spoken, logs, {})))
    assert not any(name.startswith("log/") for name in archive.namelist())
    assert without_words(config)["llm"]["system_prompt"] == "…"


def test_the_bundle_has_no_secret_whatever_section_it_is_in():
    config = Config.model_validate(
        {
            "mind": {
                "room": "swordfish",
                "rooms": ["swordfish"],
                "mcp_servers": {
                    "swordfish": {
                        "command": ["swordfish"],
                        "tools": ["swordfish"],
                        "environment": {"API_KEY": "swordfish"},
                    }
                },
            },
            "admin": {"otlp_endpoint": "https://me:swordfish@example/", "names": ["swordfish"]},
        }
    )
    shown = without_words(config)
    assert "swordfish" not in json.dumps(shown)
    assert shown["mind"]["mcp_servers"] == shown["admin"]["otlp_endpoint"] == "…"
    assert shown["llm"]["max_tokens"] == config.llm.max_tokens
    assert shown["asr"]["model"] == config.asr.model and shown["asr"]["engine"] == "auto"
    assert without_words(Config())["mind"]["mcp_servers"] == {}


def test_the_audit_log_is_cut_private_and_never_fatal(tmp_path, caplog):
    audit = Audit(tmp_path / "data")
    audit.note("Ada", "set", key="llm.system_prompt", new="x" * 5_000)
    audit.note("Ada\n{}", "set", key="k", new={"a": 1})
    first, second = audit.last(10)[::-1]
    assert len(first["new"]) < 250 and second["who"] == "Ada\n{}"
    path = tmp_path / "data" / "audit.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text().splitlines()) == 2
    Audit(path).note("Ada", "set")  # its folder is a file
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize("name", ["a\u2028b", "a\u0085b", "a\nb", "\u2029", "\x1c"])
def test_no_name_breaks_the_audit_log(tmp_path, name):
    audit = Audit(tmp_path)
    audit.note(name, "sign_in_failed")
    audit.note("Ada", "set", key="k", new=name)
    assert {line["who"] for line in audit.last(10)} == {name, "Ada"}


def test_a_line_that_was_cut_off_or_damaged_is_left_out(tmp_path):
    audit = Audit(tmp_path)
    audit.note("Ada", "mute")
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"at": "2026\n[]\n\xff\n{}\n')
    assert [line["who"] for line in audit.last(10)] == ["Ada"]


def test_a_flood_of_refusals_pushes_out_no_change(tmp_path, monkeypatch):
    monkeypatch.setattr("appliance.admin.audit._MOST_BYTES", 2_000)
    audit = Audit(tmp_path)
    audit.note("Ada", "set", key="admin.host", old="127.0.0.1", new="0.0.0.0")
    for _ in range(200):
        audit.note("?", "sign_in_failed", address="192.0.2.1")
    text = (tmp_path / "audit.jsonl").read_text()
    assert "admin.host" in text and "sign_in_failed" not in text
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 10_000
