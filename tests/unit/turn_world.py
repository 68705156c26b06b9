"""Plays the other processes to a `TurnTaker`; the clock is a number."""

from __future__ import annotations

from typing import Any, TypeVar

from appliance.conductor.turn import TurnSettings
from appliance.conductor.turns import TurnTaker
from appliance.messages import (
    ChatMessage,
    EndOfTurn,
    Generate,
    Heartbeat,
    Message,
    NearEnd,
    PartialTranscript,
    PlaybackDucked,
    PlaybackEnded,
    PlaybackStarted,
    ReplyChunk,
    Span,
    Speak,
    SpeechContinued,
    SpeechEnded,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    Transcribe,
    Transcript,
)

M = TypeVar("M", bound=Message)

MS = 1_000_000
SESSION = "local"
SETTINGS = TurnSettings(
    asr_timeout_ms=8_000,
    llm_timeout_ms=15_000,
    tts_timeout_ms=10_000,
    preroll_ms=300,
    history_turns=2,
    think_ahead=True,
    max_tokens=100,
    opening=(ChatMessage("system", "Be brief."),),
)


class World:
    """Plays the other processes; the clock is a number."""

    def __init__(self, settings: TurnSettings = SETTINGS) -> None:
        self.now_ms = 1_000
        self.taker = TurnTaker(SESSION, settings, life=7)
        self.sent: list[Message] = []

    @property
    def now_ns(self) -> int:
        return self.now_ms * MS

    def hear(self, message: Message) -> list[Message]:
        out = self.taker.step(message, self.now_ns)
        self.sent += out
        return out

    def wait(self, ms: int) -> list[Message]:
        self.now_ms += ms
        out = self.taker.tick(self.now_ns)
        self.sent += out
        return out

    def last(self, kind: type[M]) -> M:
        return next(m for m in reversed(self.sent) if isinstance(m, kind))

    def count(self, kind: type[Message]) -> int:
        return sum(isinstance(m, kind) for m in self.sent)

    # one of each stage, with plausible times

    def started(self, name: str = "u1", start_ms: int | None = None) -> list[Message]:
        start_ms = self.now_ms - 300 if start_ms is None else start_ms
        return self.hear(
            SpeechStarted(
                session_id=SESSION,
                utterance_id=name,
                spans=(Span(1, start_ms // 10, self.now_ms // 10),),
                speech_start_ns=start_ms * MS,
            )
        )

    def speech(
        self, kind: type[Message], name: str, start_ms: int, end_ms: int, **more: Any
    ) -> list[Message]:
        return self.hear(
            kind(
                session_id=SESSION,
                utterance_id=name,
                spans=(Span(1, start_ms // 10, end_ms // 10),),
                speech_start_ns=start_ms * MS,
                speech_end_ns=end_ms * MS,
                **more,
            )
        )

    def says(self, name: str = "u1", voiced_ms: float = 0.0) -> None:
        """A whole utterance of one second, with its early transcription request."""
        start_ms = self.now_ms
        self.now_ms += 300
        self.started(name, start_ms)
        self.now_ms += 900
        self.speech(SpeechPaused, name, start_ms, start_ms + 1_000, voiced_ms=voiced_ms)
        self.now_ms += 600
        self.speech(
            SpeechEnded,
            name,
            start_ms,
            start_ms + 1_000,
            decided_ns=(start_ms + 1_800) * MS,
            voiced_ms=voiced_ms,
        )

    def transcript(self, text: str, **more: Any) -> list[Message]:
        request = self.last(Transcribe)
        return self.hear(
            Transcript(
                session_id=SESSION,
                request_id=request.request_id,
                text=text,
                audio_ms=1_000,
                lost_blocks=0,
                received_ns=self.now_ns,
                finished_ns=self.now_ns,
                engine="test",
                **more,
            )
        )

    def reply(self, text: str, index: int = 0, last: bool = False, **more: Any) -> list[Message]:
        return self.hear(
            ReplyChunk(
                session_id=SESSION,
                request_id=self.last(Generate).request_id,
                index=index,
                text=text,
                last=last,
                received_ns=self.now_ns - 3 * MS,
                first_token_ns=self.now_ns - 2 * MS,
                finished_ns=self.now_ns - MS,
                prompt_tokens=50,
                cached_tokens=40,
                **more,
            )
        )

    def plays(self, utterance_id: str) -> list[Message]:
        return self.hear(
            PlaybackStarted(
                session_id=SESSION,
                utterance_id=utterance_id,
                received_ns=self.now_ns,
                synthesised_ns=self.now_ns + MS,
                audible_ns=self.now_ns + 2 * MS,
            )
        )

    def ends(self, utterance_id: str, played: str, **more: Any) -> list[Message]:
        return self.hear(
            PlaybackEnded(
                session_id=SESSION,
                utterance_id=utterance_id,
                ended_ns=self.now_ns,
                played_text=played,
                interrupted=more.pop("interrupted", False),
                **more,
            )
        )

    def beat(self, process: str, life: int, state: str = "ready") -> list[Message]:
        return self.hear(Heartbeat(process=process, instance=0, life=life, pid=1, state=state))

    def whole_turn(self, question: str = "hello", answer: str = "Hi.", name: str = "u1") -> None:
        self.says(name)
        self.transcript(question)
        self.reply(answer, last=True)
        speak = self.last(Speak)
        self.plays(speak.utterance_id)
        self.now_ms += 500
        self.ends(speak.utterance_id, answer)

    # speech in the middle of things

    def continues(self, name: str, start_ms: int) -> list[Message]:
        return self.hear(
            SpeechContinued(
                session_id=SESSION,
                utterance_id=name,
                spans=(Span(1, start_ms // 10, self.now_ms // 10),),
                speech_start_ns=start_ms * MS,
            )
        )

    def resumes(self, name: str, start_ms: int) -> list[Message]:
        return self.hear(
            SpeechResumed(
                session_id=SESSION,
                utterance_id=name,
                spans=(Span(1, start_ms // 10, self.now_ms // 10),),
                speech_start_ns=start_ms * MS,
            )
        )

    def sounds_finished(self, name: str, end_ms: int, probability: float) -> list[Message]:
        return self.hear(
            EndOfTurn(
                session_id=SESSION,
                utterance_id=name,
                speech_end_ns=end_ms * MS,
                probability=probability,
                decided_ns=self.now_ns,
            )
        )

    def partial(self, name: str, stable: str, tail: str = "") -> list[Message]:
        return self.hear(
            PartialTranscript(
                session_id=SESSION,
                utterance_id=name,
                stable=stable,
                tail=tail,
                heard_ms=500,
                finished_ns=self.now_ns,
            )
        )

    def near_end(self, *, active: bool) -> list[Message]:
        return self.hear(
            NearEnd(
                session_id=SESSION,
                active=active,
                onset_ns=self.now_ns,
                far_end_active=True,
                spans=() if active else (Span(1, 1, 50),),
            )
        )

    def ducks(self) -> list[Message]:
        return self.hear(
            PlaybackDucked(
                session_id=SESSION,
                utterance_id=self.last(Speak).utterance_id,
                onset_ns=self.now_ns - 60 * MS,
                audible_ns=self.now_ns + 20 * MS,
            )
        )

    def speaks(self, answer: str = "Rome is the capital of Italy.", name: str = "u1") -> str:
        """A turn up to its audible answer; returns the answer's utterance."""
        self.says(name)
        self.transcript("What is the capital of Italy?")
        self.reply(answer, last=True)
        utterance = self.last(Speak).utterance_id
        self.plays(utterance)
        self.now_ms += 400
        return utterance

    def over(self, name: str = "over", speech_ms: int = 250) -> int:
        """Someone begins to speak over the answer; returns the start of its audio."""
        start_ms = self.now_ms - 300
        self.now_ms += 100
        self.near_end(active=True)
        self.ducks()
        self.now_ms += speech_ms - 100
        self.started(name, start_ms)
        return start_ms

    def over_ends(self, name: str, start_ms: int) -> int:
        """Its first pause; returns the end of the speech."""
        end_ms = self.now_ms
        self.now_ms += 100
        self.speech(SpeechPaused, name, start_ms, end_ms)
        return end_ms
