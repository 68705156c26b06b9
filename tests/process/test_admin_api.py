"""The API against its own description: whatever is sent, nothing fails and nothing dies."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from panel_world import Running, admin_process, answering
from schemathesis.checks import CHECKS

from appliance.messages import Refused

_UNAVAILABLE = 503
_STREAM = "/events"
_EXAMPLES = 30


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """A panel, and a conductor that is always busy."""
    with (
        tempfile.TemporaryDirectory(prefix="va-s-", dir="/tmp") as runtime_dir,
        tempfile.TemporaryDirectory() as folder,
        admin_process(Path(runtime_dir), Path(folder), others=("conductor",)) as it,
    ):
        it.pair()
        with answering(it, ("conductor",), lambda _: Refused(reason="busy")):
            yield it


def test_no_request_makes_it_fail(running: Running) -> None:
    token = running.add_token("read", "words", "talk", "mute")
    headers = {"Authorization": f"Bearer {token}"}
    description = f"{running.base}/api/openapi.json"
    schema = schemathesis.openapi.from_url(description, headers=headers).exclude(path=_STREAM)
    conforms = CHECKS.get_by_names(["response_schema_conformance"])
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 9
    for operation in operations:

        @settings(
            max_examples=_EXAMPLES,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        )
        @given(case=strategy(operation))
        def holds(case: schemathesis.Case) -> None:
            answer = case.call(base_url=running.base, headers=headers)
            documented = case.operation.definition.raw["responses"]
            status = answer.status_code
            assert status < 500 or (status == _UNAVAILABLE and str(status) in documented), case
            if status == 200:
                case.validate_response(answer, checks=conforms)

        holds()
        assert running.process.poll() is None, operation.label


def strategy(operation: object) -> st.SearchStrategy[schemathesis.Case]:
    """What fits the description, and what does not."""
    return st.one_of(
        operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE),
    )
