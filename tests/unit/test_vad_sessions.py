"""The vad process's loop with several sessions: each heard by itself, on shared models."""

from __future__ import annotations

import select
import time
import uuid
from collections.abc import Iterator

import numpy as np
import pytest

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples
from appliance.bench.recordings import short_utterances
from appliance.config import Config
from appliance.ipc import audio_ring, segment
from appliance.ipc.audio_ring import RingWriter, mic_format
from appliance.messages import (
    BlocksReady,
    EndOfTurn,
    Message,
    NearEnd,
    OpenSession,
    Sessions,
    SpeechEnded,
    SpeechStarted,
)
from appliance.vad import main as vad

pytestmark = pytest.mark.models

LOCAL, ONE, TWO = "local", "remote.1", "remote.2"


class Bus:
    """Hands over one message a step, keeps what is published."""

    def __init__(self) -> None:
        self.incoming: list[Message] = []
        self.published: list[Message] = []
        self.descriptors: list[int] = []
        self.counters: dict[str, float] = {}
        self.busy = self.hung = None

    def wake_on(self, descriptor: int) -> None:
        self.descriptors.append(descriptor)

    def publish(self, message: Message) -> None:
        self.published.append(message)

    def receive(self) -> Message | None:
        return self.incoming.pop(0) if self.incoming else None


class Place:
    """The service, its rings, and who speaks into them."""

    def __init__(self, config: Config) -> None:
        self.bus = Bus()
        self.service = vad._Service(config, self.bus)  # type: ignore[arg-type]
        self.prefix = config.shm_prefix
        self.rings = {LOCAL: RingWriter(self.prefix, mic_format(LOCAL))}

    def tell(self, message: Message) -> None:
        self.bus.incoming.append(message)
        self.service.step()

    def opens(self, *session_ids: str) -> None:
        """From now on these and no others are open."""
        for session_id in set(self.rings) - {LOCAL, *session_ids}:
            self.rings.pop(session_id).close()
        for session_id in session_ids:
            self.rings[session_id] = RingWriter(self.prefix, mic_format(session_id))
        self.tell(Sessions(open=tuple(OpenSession(s, 5) for s in session_ids)))

    def say(self, voices: dict[str, Samples], *, far_end_active: bool = False) -> None:
        for n in range(max(map(len, voices.values())) // BLOCK_SAMPLES):
            for session_id, samples in voices.items():
                block = samples[n * BLOCK_SAMPLES : (n + 1) * BLOCK_SAMPLES]
                if len(block) == BLOCK_SAMPLES:
                    ready = self.rings[session_id].write(block, time.monotonic_ns())
                    self.tell(
                        BlocksReady(
                            ring=ready.ring,
                            epoch=ready.epoch,
                            sequence=ready.sequence,
                            far_end_active=far_end_active,
                        )
                    )

    def told(self, kind: type[Message]) -> list[str]:
        return [m.session_id for m in self.bus.published if isinstance(m, kind)]

    def until(self, kind: type[Message], count: int) -> None:
        while len(self.told(kind)) < count:
            assert select.select(self.bus.descriptors, [], [], 10)[0], "nothing came"
            self.service.step()


@pytest.fixture
def place(monkeypatch) -> Iterator[Place]:
    prefix = f"va-test-{uuid.uuid4().hex[:6]}-"
    monkeypatch.setattr(Config, "shm_prefix", prefix)
    it = Place(Config())
    yield it
    it.service.close()
    for ring in it.rings.values():
        ring.close()
    assert segment.list_segments(prefix) == []


def quiet(seconds: float, seed: int = 1) -> Samples:
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE_HZ))
    return (noise * 1e-4).astype(np.float32)


def utterance(number: int) -> Samples:
    return np.concatenate([quiet(0.5), short_utterances()[number].samples, quiet(1.2)])


def test_each_session_is_told_what_was_said_in_it(place: Place) -> None:
    place.opens(ONE, TWO)
    place.say({LOCAL: quiet(5), ONE: utterance(0), TWO: utterance(1)})
    assert sorted(place.told(SpeechStarted)) == [ONE, TWO]
    assert sorted(place.told(SpeechEnded)) == [ONE, TWO]
    place.until(EndOfTurn, 2)
    assert set(place.told(EndOfTurn)) == {ONE, TWO}
    assert LOCAL not in place.told(NearEnd)


def test_a_session_is_judged_as_if_it_were_alone(place: Place) -> None:
    def spans(session_id: str) -> list[tuple[int, int]]:
        ends = [m for m in place.bus.published if isinstance(m, SpeechEnded)]
        return [(s.first, s.last) for m in ends if m.session_id == session_id for s in m.spans]

    place.opens(ONE, TWO)
    place.say({ONE: utterance(0), TWO: utterance(1), LOCAL: utterance(1)})
    place.say({LOCAL: quiet(4)})
    place.opens()
    place.opens(ONE)
    place.bus.published, together = [], spans(ONE)
    place.say({ONE: utterance(0)})
    assert spans(ONE) == together
    assert together


def test_who_is_not_open_is_not_heard_and_who_has_closed_no_more(place: Place) -> None:
    place.rings[ONE] = RingWriter(place.prefix, mic_format(ONE))
    place.say({ONE: utterance(0)})
    assert place.bus.published == []
    place.rings.pop(ONE).close()
    place.opens(ONE)
    place.say({ONE: utterance(0)[: 2 * RATE_HZ]})
    assert place.told(SpeechStarted) == [ONE]
    place.bus.published.clear()
    place.tell(Sessions())
    place.say({ONE: utterance(0)[2 * RATE_HZ :]})
    assert place.bus.published == []


def test_the_next_in_a_slot_begins_with_nothing(place: Place) -> None:
    place.opens(ONE)
    place.say({ONE: utterance(0)[: 2 * RATE_HZ]})
    place.opens()
    place.opens(ONE)
    place.bus.published.clear()
    place.say({ONE: quiet(3)})
    assert place.bus.published == []


def test_a_pause_of_one_does_not_keep_another_s_from_being_judged(place: Place) -> None:
    """Both end at the same time: neither takes the other's place in the queue."""
    place.opens(ONE, TWO)
    place.say({ONE: utterance(0), TWO: utterance(0), LOCAL: utterance(0)})
    place.until(EndOfTurn, 3)
    assert set(place.told(EndOfTurn)) == {ONE, TWO, LOCAL}


def test_a_rustle_over_a_browser_s_answer_is_no_alarm(place: Place) -> None:
    """The local front-end knows what is left of its echo; of a browser nobody does."""
    rustle = quiet(1.5)
    rustle[RATE_HZ : RATE_HZ + 4_000] *= 300
    place.opens(ONE)
    place.say({ONE: rustle, LOCAL: rustle}, far_end_active=True)
    assert set(place.told(NearEnd)) == {LOCAL}


def test_speech_over_a_browser_s_answer_is_an_alarm_at_once(place: Place) -> None:
    place.opens(ONE)
    place.say({ONE: utterance(0)}, far_end_active=True)
    first = next(m for m in place.bus.published if isinstance(m, NearEnd))
    started = next(m for m in place.bus.published if isinstance(m, SpeechStarted))
    assert first.far_end_active
    assert place.bus.published.index(first) < place.bus.published.index(started)


def test_lost_blocks_count_on_when_a_session_has_gone(place: Place) -> None:
    place.opens(ONE)
    place.say({ONE: quiet(0.1)})
    ring = place.rings[ONE]
    for _ in range(audio_ring.MIC_RING.slots + 7):
        ready = ring.write(np.zeros(BLOCK_SAMPLES, np.float32), time.monotonic_ns())
    place.tell(ready)
    place.opens()
    place.say({LOCAL: quiet(0.1)})
    assert place.bus.counters["lost_blocks"] == 7
