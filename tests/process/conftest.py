"""Fixtures of the tests with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from panel_world import Running, admin_process


@pytest.fixture
def running(place, tmp_path: Path) -> Iterator[Running]:
    """A panel that has no owner yet."""
    with admin_process(place.runtime_dir, tmp_path) as it:
        yield it


@pytest.fixture
def paired(running: Running) -> Running:
    """A panel whose owner is signed in."""
    running.pair()
    return running
