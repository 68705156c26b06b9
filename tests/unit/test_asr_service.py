"""The asr process's loop, without bus, ring or model: what is heard when, and what goes first."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from appliance.asr import main as asr
from appliance.asr.engine import (
    Context,
    EngineName,
    Timings,
    Transcription,
    TranscriptionCancelledError,
)
from appliance.asr.transcriber import Transcriber
from appliance.asr.words import Corrected, Vocabulary, from_tokens
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.messages import (
    Cancel,
    DialogueWords,
    Message,
    OpenSession,
    PartialTranscript,
    ServiceLevel,
    Sessions,
    Span,
    SpeechContinued,
    Transcribe,
    Transcript,
)

WAIT_S = 10.0


class Bus:
    """Hands over one message a step, waits for the workers in between, keeps what is published."""

    def __init__(self) -> None:
        self.incoming: list[Message] = []
        self.published: list[Message] = []
        self.descriptors: list[int] = []
        self.counters: dict[str, float] = {}
        self.detail = ""
        self.busy: Callable[[], int] = lambda: 0
        self.hung: Callable[[], bool] = lambda: False

    def wake_on(self, descriptor: int) -> None:
        self.descriptors.append(descriptor)

    def ready(self, *, detail: str) -> None:
        self.detail = detail

    def publish(self, message: Message) -> None:
        self.published.append(message)

    def receive(self) -> Message | None:
        return self.incoming.pop(0) if self.incoming else None


class RingReader:
    """Every block is a constant tone, except the numbers from ``silent_from``."""

    silent_from = 10_000
    lost_blocks = 0

    def __init__(self, _prefix: str, ring: str) -> None:
        self.ring = ring
        self.closed = False

    def attach(self, epoch: int) -> None: ...

    def read_span(self, spans: Sequence[Span]) -> tuple[np.ndarray, int]:
        numbers = np.concatenate([np.arange(s.first, s.last + 1) for s in spans] or [[]])
        loud = np.where((numbers >= 30) & (numbers < self.silent_from), 0.1, 0.0)
        return np.repeat(loud, 160).astype(np.float32), 0

    def close(self) -> None:
        self.closed = True


class Engine:
    """Says one word per second of audio, when it may."""

    name: EngineName = "ctranslate2"

    def __init__(self) -> None:
        self.may = threading.Event()
        self.may.set()
        self.began = threading.Event()
        self.calls: list[tuple[int, str]] = []

    def transcribe(
        self,
        samples: np.ndarray,
        *,
        language: str = "en",
        context: Context = "full",
        prompt: str = "",
        words: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Transcription:
        self.calls.append((len(samples), prompt))
        self.began.set()
        while not self.may.wait(0.005):
            if cancelled():
                raise TranscriptionCancelledError
        if cancelled():
            raise TranscriptionCancelledError
        text = " ".join(["one", "two", "three", "four", "five"][: max(1, len(samples) // 16_000)])
        pieces = [f" {word}".encode() for word in text.split()]
        heard = from_tokens(pieces, [0.9] * len(pieces), range(len(pieces)), len(pieces))
        return Transcription(text, (), -0.1, 0.0, True, Timings(0.0, 1.0, 0.0), heard)


class Place:
    """A service and what it hangs on."""

    def __init__(self, *, partials: bool = True, vocabulary: Vocabulary | None = None) -> None:
        self.bus = Bus()
        self.engine = Engine()
        config = Config.model_validate({"asr": {"partials": partials}})
        loaded = asr.Loaded("tiny", "fake", Transcriber(self.engine))
        self.service = asr.Service(self.bus, config, loaded, vocabulary)  # type: ignore[arg-type]

    def tell(self, *messages: Message) -> None:
        self.bus.incoming += messages
        while self.bus.incoming:
            self.service.step()

    def until(self, enough: Callable[[], bool]) -> None:
        while not enough():
            assert select.select(self.bus.descriptors, [], [], WAIT_S)[0], "nothing came"
            self.service.step()

    def published(self, kind: type[Message], count: int = 1) -> list[Message]:
        def found() -> list[Message]:
            return [m for m in self.bus.published if isinstance(m, kind)]

        self.until(lambda: len(found()) >= count)
        return found()

    def settle(self) -> None:
        """Wait until the worker has nothing to do: what it would have said is there."""
        until_ns = time.monotonic_ns() + int(WAIT_S * 1e9)
        while not self.service._worker.idle:
            assert time.monotonic_ns() < until_ns
            threading.Event().wait(0.001)
        self.service.step()


@pytest.fixture
def place(monkeypatch) -> Place:
    monkeypatch.setattr(asr, "RingReader", RingReader)
    return Place()


def continued(last: int, utterance: str = "u", session: str = "local") -> SpeechContinued:
    spans = (Span(1, 0, last),)
    return SpeechContinued(
        session_id=session, utterance_id=utterance, spans=spans, speech_start_ns=0
    )


def transcribe(
    last: int, request: str = "r", utterance: str = "u", session: str = "local"
) -> Transcribe:
    spans = (Span(1, 0, last),)
    return Transcribe(session_id=session, request_id=request, spans=spans, utterance_id=utterance)


def test_words_come_while_speech_goes_on_and_then_whole(place):
    place.tell(continued(299))
    (partial,) = place.published(PartialTranscript)
    assert (partial.stable, partial.tail, partial.heard_ms) == ("", "one two three", 3000.0)
    place.settle()
    place.tell(continued(399))
    assert place.published(PartialTranscript, 2)[1].stable.startswith("one two")
    place.tell(transcribe(499))
    (transcript,) = place.published(Transcript)
    assert (transcript.text, transcript.audio_ms) == ("one two three four five", 5000.0)
    assert transcript.avg_logprob == pytest.approx(-0.1)


def test_partials_never_queue(place):
    place.engine.may.clear()
    place.tell(continued(199), continued(299), continued(399))
    place.engine.may.set()
    place.published(PartialTranscript)
    place.settle()
    assert [samples for samples, _ in place.engine.calls] == [32_000]


def test_a_request_stops_the_partial_under_way(place):
    place.engine.may.clear()
    place.tell(continued(199))
    assert place.engine.began.wait(WAIT_S)
    place.tell(transcribe(299))
    place.engine.may.set()
    assert place.published(Transcript)[0].text == "one two three"
    assert not any(isinstance(m, PartialTranscript) for m in place.bus.published)


def test_a_partial_that_hears_everything_answers_the_request(place, monkeypatch):
    monkeypatch.setattr(RingReader, "silent_from", 300)
    place.engine.may.clear()
    place.tell(continued(299))
    assert place.engine.began.wait(WAIT_S)
    place.tell(transcribe(309))
    place.engine.may.set()
    assert place.published(Transcript)[0].text == "one two three"
    assert len(place.engine.calls) == 1


def test_cancelled_requests_say_nothing_and_the_next_is_answered(place):
    place.engine.may.clear()
    place.tell(transcribe(199, "a"), Cancel(session_id="local", id="a"), transcribe(299, "b"))
    place.engine.may.set()
    assert [m.request_id for m in place.published(Transcript)] == ["b"]


def test_partials_can_be_switched_off(monkeypatch):
    monkeypatch.setattr(asr, "RingReader", RingReader)
    place = Place(partials=False)
    place.tell(continued(199))
    place.settle()
    assert place.engine.calls == []


def test_a_request_without_its_utterance_is_answered(place):
    place.tell(continued(199), transcribe(299, utterance=""))
    assert place.published(Transcript)[0].text == "one two three"


def test_an_engine_that_fails_is_told(place, monkeypatch):
    def fail(*_: object, **__: object) -> Transcription:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(place.engine, "transcribe", fail)
    place.tell(continued(199))
    place.settle()
    place.tell(transcribe(299))
    assert "out of memory" in place.published(Transcript)[0].error


def test_the_dialogue_reaches_the_vocabulary(monkeypatch):
    class Names:
        def prompt(self, dialogue: str) -> str:
            return dialogue.upper()

        def correct(self, words, dialogue="", acoustics=None):
            return Corrected(tuple(words), (("heard", "meant"),))

    monkeypatch.setattr(asr, "RingReader", RingReader)
    place = Place(vocabulary=Names())
    for text in ("zero", "one", "two\nlines", "three"):
        place.tell(DialogueWords(session_id="local", text=text))
    place.tell(DialogueWords(session_id="remote.1", text="other"), transcribe(299))
    assert place.published(Transcript)[0].corrections == (("heard", "meant"),)
    assert place.engine.calls[0][1] == "ONE\nTWO LINES\nTHREE"


# --- several sessions --------------------------------------------------------------------------


def opened(**opened_ns: int) -> Sessions:
    return Sessions(
        open=tuple(OpenSession(name.replace("_", "."), at) for name, at in opened_ns.items())
    )


def heard(place: Place) -> list[str]:
    """Sessions whose words came, in order."""
    return [m.session_id for m in place.bus.published if isinstance(m, PartialTranscript)]


def test_each_session_is_heard_from_its_own_ring(place, monkeypatch):
    made = []
    monkeypatch.setattr(RingReader, "attach", lambda self, epoch: made.append(self.ring))
    place.tell(transcribe(99, "a"), transcribe(99, "b", session="remote.3"))
    assert made == ["mic", "mic.3"]
    assert {(m.session_id, m.request_id) for m in place.published(Transcript, 2)} == {
        ("local", "a"),
        ("remote.3", "b"),
    }


def test_requests_of_a_session_that_cannot_be_are_left(place, caplog):
    place.tell(transcribe(99, "a", session="remote.99"), continued(99, session="attic"))
    place.tell(DialogueWords(session_id="attic", text="x"), transcribe(99, "b"))
    assert [m.request_id for m in place.published(Transcript)] == ["b"]
    assert "cannot be" in caplog.text


def test_all_of_a_session_s_requests_are_cancelled_and_nobody_else_s(place):
    place.engine.may.clear()
    place.tell(
        transcribe(99, "a"),
        transcribe(99, "b", session="remote.1"),
        transcribe(199, "c", session="remote.2"),
        Cancel(session_id="remote.1", id="*"),
    )
    place.engine.may.set()
    assert [m.request_id for m in place.published(Transcript, 2)] == ["a", "c"]
    place.settle()
    assert len(place.published(Transcript, 2)) == 2


def test_utterances_of_one_session_do_not_push_out_another_s(place):
    place.tell(continued(199))
    place.published(PartialTranscript)
    place.settle()
    for number in range(4):
        place.tell(transcribe(99, f"r{number}", f"v{number}", "remote.1"))
    place.published(Transcript, 4)
    place.settle()
    place.tell(continued(299))
    assert place.published(PartialTranscript, 2)[-1].stable.startswith("one")


def test_unfinished_speech_is_heard_by_turns(place):
    """Who is heard at the moment does not come again before those who wait."""
    place.engine.may.clear()
    place.tell(continued(99))
    assert place.engine.began.wait(WAIT_S)
    place.tell(
        continued(99, session="remote.1"),
        continued(99, session="remote.2"),
        continued(199),
        continued(199, session="remote.1"),
    )
    place.engine.may.set()
    place.until(lambda: len(heard(place)) == 3)
    place.settle()
    assert heard(place) == ["local", "remote.1", "remote.2"]
    assert [samples for samples, _ in place.engine.calls] == [16_000, 32_000, 16_000]


def test_a_request_of_one_session_stops_the_hearing_of_another_which_then_goes_on(place):
    place.engine.may.clear()
    place.tell(continued(199, session="remote.1"))
    assert place.engine.began.wait(WAIT_S)
    place.tell(transcribe(299))
    place.engine.may.set()
    place.until(lambda: len(heard(place)) == 1)
    told = [type(m) for m in place.bus.published]
    assert told == [Transcript, PartialTranscript]


def test_a_request_makes_what_is_waiting_of_its_own_session_void(place):
    place.engine.may.clear()
    place.tell(transcribe(99, "a"))
    assert place.engine.began.wait(WAIT_S)
    place.tell(continued(199, session="remote.1"), transcribe(299, "b", session="remote.1"))
    place.engine.may.set()
    place.published(Transcript, 2)
    place.settle()
    assert heard(place) == []


def test_a_session_that_has_closed_is_forgotten(place, monkeypatch):
    readers = []
    monkeypatch.setattr(RingReader, "attach", lambda self, _: readers.append(self))
    place.tell(opened(remote_1=5), transcribe(99, session="remote.1"))
    place.published(Transcript)
    place.tell(DialogueWords(session_id="remote.1", text="secret"), opened(remote_1=5))
    (reader,) = readers
    assert not reader.closed
    place.engine.may.clear()
    place.tell(transcribe(199, "late", session="remote.1"), opened(remote_1=6))
    place.engine.may.set()
    assert reader.closed
    assert place.service._ears.of("remote.1").dialogue == ""
    place.settle()
    assert len(place.published(Transcript)) == 1


def test_a_restarted_asr_hears_a_session_before_it_knows_who_is_there(place):
    place.tell(transcribe(99, session="remote.1"))
    assert place.published(Transcript)[0].session_id == "remote.1"
    place.tell(opened(remote_1=5))
    ear = place.service._ears.of("remote.1")
    place.tell(opened(remote_1=5))
    assert place.service._ears.of("remote.1") is ear
    place.tell(opened())
    assert place.service._ears.of("remote.1") is not ear


# --- another model -----------------------------------------------------------------------------


def level(model: str) -> ServiceLevel:
    return ServiceLevel(
        session_id="local",
        level=1,
        asr_model=model,
        llm_model="",
        history_turns=1,
        first_clause_words=1,
        reason="",
        since_ns=0,
    )


def test_another_model_is_loaded_and_used(place, monkeypatch):
    other = Engine()
    monkeypatch.setattr(
        asr, "load", lambda _, model: asr.Loaded(model, "other", Transcriber(other))
    )
    place.tell(level("tiny"), level("base"))
    place.until(lambda: place.bus.detail == "other, base")
    place.tell(transcribe(299))
    assert place.published(Transcript)[0].engine == "other"
    assert (len(place.engine.calls), len(other.calls)) == (0, 1)


def test_a_model_that_is_not_there_leaves_the_old_one(place, monkeypatch, caplog):
    loaded = threading.Event()

    def missing(*_: object) -> None:
        loaded.set()
        raise ApplianceError("model file x is missing; run: appliance models fetch x")

    monkeypatch.setattr(asr, "load", missing)
    place.tell(level("x"), level("x"))
    assert loaded.wait(WAIT_S)
    place.tell(transcribe(299))
    assert place.published(Transcript)[0].engine == "fake"
    place.until(lambda: place.service._loader.idle)
    assert caplog.text.count("appliance models fetch x") == 1
