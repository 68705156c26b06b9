"""What the microphone heard, kept with the owner's consent only, and gone when it is withdrawn."""

from __future__ import annotations

import io
import os
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from panel_world import admin_process, await_that, record

from appliance.admin.recordings import Recordings
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import MIC_RING, RingWriter
from appliance.messages import Span, Transcribe

TONE = np.sin(np.arange(1600) / 5).astype(np.float32) / 2


@pytest.fixture
def ring(place) -> Iterator[tuple[str, RingWriter]]:
    """A mic ring with a tenth of a second in it, and its prefix."""
    prefix = Config(runtime_dir=str(place.runtime_dir)).shm_prefix
    writer = RingWriter(prefix, MIC_RING)
    for block in TONE.reshape(10, 160):
        writer.write(block, 0)
    yield prefix, writer
    writer.close()


def asked(epoch: int, last: int, **more: object) -> Transcribe:
    fields = {"session_id": "local", "request_id": "r", "utterance_id": "v", **more}
    return Transcribe(spans=(Span(epoch, 0, last),), **fields)


def heard(sound: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(sound)) as file:
        assert (file.getnchannels(), file.getframerate()) == (1, 16_000)
        frames = file.readframes(file.getnframes())
    return np.frombuffer(frames, "<i2") / 32767


def take(recordings: Recordings, epoch: int, turn_id: str = "t1") -> None:
    for message in (
        asked(epoch, 3),
        asked(epoch, 9),
        asked(epoch, 5, utterance_id="aside", quick=True),
        record(turn_id),
    ):
        recordings.note(message)


def test_nothing_is_kept_without_consent_and_what_was_goes_with_it(tmp_path, ring) -> None:
    prefix, writer = ring
    kept = Recordings(tmp_path, prefix, days=2)
    take(kept, writer.epoch)
    kept.close()
    (path,) = (tmp_path / "audio").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600 and kept.count() == 1
    np.testing.assert_allclose(heard(kept.sound("t1")), TONE, atol=1e-3)
    withdrawn = Recordings(tmp_path, prefix, days=0)
    take(withdrawn, writer.epoch, "t2")
    withdrawn.close()
    assert list((tmp_path / "audio").iterdir()) == []


def test_after_its_days_a_recording_is_deleted(tmp_path, ring) -> None:
    prefix, writer = ring
    first = Recordings(tmp_path, prefix, days=2)
    take(first, writer.epoch, "old")
    take(first, writer.epoch, "new")
    first.close()
    past = time.time() - 2 * 86_400 - 60
    os.utime(first._path("old"), (past, past))
    second = Recordings(tmp_path, prefix, days=2)
    second.note(record("t3", source="text"))
    second.close()
    assert second.sound("old") is None and second.has("new") and second.count() == 1


def test_with_a_key_it_is_sealed(tmp_path, ring, monkeypatch) -> None:
    prefix, writer = ring
    from appliance.mind.store.sealing import CREDENTIAL

    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / CREDENTIAL).write_bytes(os.urandom(32))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(keys))
    kept = Recordings(tmp_path, prefix, days=1)
    take(kept, writer.epoch)
    kept.close()
    (path,) = (tmp_path / "audio").iterdir()
    assert b"RIFF" not in path.read_bytes()
    assert len(heard(kept.sound("t1"))) == 1600
    (keys / CREDENTIAL).write_bytes(os.urandom(32))
    with pytest.raises(ApplianceError, match="key"):
        Recordings(tmp_path, prefix, days=1).sound("t1")


def test_the_owner_hears_it_and_deletes_all(place, tmp_path: Path, ring) -> None:
    _, writer = ring
    variables = {"APPLIANCE_ADMIN__KEEP_AUDIO_DAYS": "7"}
    with admin_process(place.runtime_dir, tmp_path, variables=variables) as running:
        running.pair()
        ended = asked(writer.epoch, 9)
        path = "/turns/t1/heard.wav"
        with running.client() as client:

            def there() -> bool:
                running.buses["conductor"].publish(ended)
                running.buses["conductor"].publish(record())
                return client.get(path).status_code == 200

            await_that(there)
            running.publish_until(
                "conductor", record("t2"), lambda: "t2" in client.get("/api/turns").text
            )
            answer = client.get(path)
            assert answer.headers["content-type"] == "audio/wav"
            np.testing.assert_allclose(heard(answer.content), TONE, atol=1e-3)
            assert f'src="{path}"' in client.get("/turns/t1").text
            assert "Delete all recordings" in client.get("/turns").text
            token = {"Authorization": f"Bearer {running.add_token('read', 'words')}"}
            with running.client(signed_in=False) as other:
                assert other.get(path, headers=token).status_code == 403
                assert path not in other.get("/turns/t1", headers=token).text
            erase = client.post("/recordings/erase", data={"csrf": running.csrf()})
            assert erase.status_code == 303
            assert client.get(path).status_code == 404
            assert list((tmp_path / "data" / "audio").iterdir()) == []
