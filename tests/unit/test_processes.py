"""The table of processes against everything that is made from it."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance import systemd
from appliance.messages import TOPICS
from appliance.processes import PROCESSES, RING_WRITERS
from appliance.supervisor import MAX_BACKOFF_S, RESTARTS_AT_ONCE, restart_delay_s


def test_units_are_what_the_table_says() -> None:
    on_disk = {p.name: p.read_text() for p in systemd.UNITS_DIR.iterdir()}
    assert on_disk == systemd.render_all(), "run: python -m appliance.systemd"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_accepts_the_units() -> None:
    result = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(systemd.UNITS_DIR.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [
        line
        for line in result.stderr.splitlines()
        # neither the installed program nor its account is on the machine that runs the tests
        if "voice-appliance" in line and "is not executable" not in line
    ]
    assert complaints == []


@pytest.mark.parametrize("name", list(PROCESSES))
def test_each_process_is_a_module_with_main_and_topics(name: str) -> None:
    spec = importlib.util.find_spec(PROCESSES[name].module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert [a.arg for a in functions["main"].args.args] == ["config", "bus"]
    names = {
        t.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for t in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(t, ast.Name)
    }
    names |= {a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert "TOPICS" in names


def test_each_ring_has_one_writer_and_readers_name_existing_rings() -> None:
    written = [ring for spec in PROCESSES.values() for ring in spec.writes_rings]
    assert len(written) == len(set(written)) == len(RING_WRITERS)
    assert {ring for spec in PROCESSES.values() for ring in spec.reads_rings} <= set(written)


def test_publishers_exist() -> None:
    assert {spec.publisher for spec in TOPICS.values()} <= set(PROCESSES)


def test_restarts_back_off_within_bounds() -> None:
    delays = [restart_delay_s(n) for n in range(20)]
    assert delays[:RESTARTS_AT_ONCE] == [0.0] * RESTARTS_AT_ONCE
    assert delays == sorted(delays)
    assert max(delays) == MAX_BACKOFF_S
