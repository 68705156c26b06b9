"""Which model answers when the one that is wanted does not load."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.llm import loading
from appliance.llm.engine import LlmError
from appliance.llm.ladder import LLM_LADDER
from appliance.llm.loading import RETRY_NS, Retry, candidates, load_engine, load_first

BEST, MIDDLE, LEAST = LLM_LADDER


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in LLM_LADDER:
        (tmp_path / name).mkdir()
    return tmp_path


def test_smaller_models_stand_in_that_are_there(root: Path) -> None:
    assert candidates(BEST, root) == [BEST, MIDDLE, LEAST]
    (root / MIDDLE).rmdir()
    assert candidates(BEST, root) == [BEST, LEAST]
    assert candidates(LEAST, root) == [LEAST]
    assert candidates("own", root) == ["own", BEST, LEAST]
    assert candidates(MIDDLE, root) == [MIDDLE, LEAST], "what is wanted is tried in any case"


def test_while_one_runs_only_better_ones_are_of_interest(root: Path) -> None:
    assert candidates(BEST, root, running=LEAST) == [BEST, MIDDLE]
    assert candidates(BEST, root, running=MIDDLE) == [BEST]
    assert candidates(LEAST, root, running=BEST) == [LEAST], "stepping down"
    assert candidates(BEST, root, running=BEST) == []


class Engine:
    def __init__(self, name: str) -> None:
        self.name = name


@pytest.mark.parametrize(
    "error", [ApplianceError("damaged"), OSError("damaged"), MemoryError("damaged")]
)
def test_the_first_that_loads_answers_and_says_for_whom(error: Exception) -> None:
    def load(_config: Config, name: str) -> Engine:
        if name == BEST:
            raise error
        return Engine(name)

    loaded = load_first(Config(), LLM_LADDER, load)  # type: ignore[arg-type]
    assert loaded.model == MIDDLE
    assert loaded.problem == f"{MIDDLE} answers instead: damaged"
    assert load_first(Config(), [MIDDLE], load).problem == ""  # type: ignore[arg-type]
    nothing = load_first(Config(), [BEST], load)  # type: ignore[arg-type]
    assert (nothing.engine, nothing.model, nothing.problem) == (None, "", "damaged")


def test_without_memory_a_model_is_not_even_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "weights.gguf").write_bytes(b"x")
    monkeypatch.setattr(loading, "ensure_model", lambda *_args, **_named: tmp_path)
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=100 << 20))
    with pytest.raises(LlmError, match=r"not enough memory.*150 MB, 100 MB are available.*smaller"):
        load_engine(Config(), BEST)


def test_it_is_tried_again_when_time_has_passed_or_the_file_has_changed(root: Path) -> None:
    path = root / BEST / "weights.gguf"
    path.write_bytes(b"damaged")
    retry = Retry(root, BEST, now_ns=5)
    assert not retry.due(RETRY_NS)
    assert retry.due(5 + RETRY_NS)
    os.utime(path, ns=(0, 0))
    assert retry.due(6)


def test_a_folder_that_appears_is_a_change(tmp_path: Path) -> None:
    retry = Retry(tmp_path, BEST, now_ns=0)
    assert not retry.due(1)
    (tmp_path / BEST).mkdir()
    assert not retry.due(1), "nothing in it yet"
    (tmp_path / BEST / "weights.gguf").touch()
    assert retry.due(1)
