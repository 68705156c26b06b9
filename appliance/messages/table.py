"""The one table of messages: every topic, its message, its one publisher, its rate."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.messages.asr import DialogueWords, PartialTranscript, Transcribe, Transcript
from appliance.messages.base import Message
from appliance.messages.capture import AudioGap, FrontEndReport, MuteState
from appliance.messages.conversation import Cancel, Company, Floor, ServiceLevel, TurnRecord
from appliance.messages.life import Heartbeat
from appliance.messages.llm import Generate, Prepare, QuestionRead, ReplyChunk
from appliance.messages.mind import Commit, Consider, Considered, Done, Ringing, SpeechSettings
from appliance.messages.rings import BlocksReady
from appliance.messages.sessions import Sessions
from appliance.messages.speech import (
    EndOfTurn,
    NearEnd,
    SpeechAside,
    SpeechContinued,
    SpeechEnded,
    SpeechPaused,
    SpeechResumed,
    SpeechScores,
    SpeechStarted,
    WakeWord,
)
from appliance.messages.tts import (
    Pause,
    PiecePlayed,
    PlaybackDucked,
    PlaybackEnded,
    PlaybackStarted,
    Release,
    Restore,
    Speak,
)
from appliance.processes import HEARTBEAT_INTERVAL_MS, PROCESSES, RING_WRITERS


@dataclass(frozen=True, kw_only=True)
class TopicSpec:
    """One row: a topic, its message, who alone publishes it and, if periodic, how often."""

    topic: str
    message: type[Message]
    publisher: str
    rate_hz: float | None = None


def _event(publisher: str, *messages: type[Message]) -> list[TopicSpec]:
    return [TopicSpec(topic=m.topic, message=m, publisher=publisher) for m in messages]


def heartbeat_topic(process: str) -> str:
    """Topic of a process's heartbeat."""
    return f"heartbeat.{process}"


def ring_topic(ring: str) -> str:
    """Topic of a ring's announcements."""
    return f"ring.{ring}"


ANNOUNCEMENT_RATE_HZ = 50.0
"""Two blocks of 10 ms at a time."""


TOPICS: dict[str, TopicSpec] = {
    spec.topic: spec
    for spec in [
        *(
            TopicSpec(
                topic=ring_topic(ring),
                message=BlocksReady,
                publisher=writer,
                # a speaker ring carries blocks only while something is played, a remote session's
                # mic ring only while it is open
                rate_hz=ANNOUNCEMENT_RATE_HZ if ring == "mic" else None,
            )
            for ring, writer in RING_WRITERS.items()
        ),
        *(
            TopicSpec(
                topic=heartbeat_topic(name),
                message=Heartbeat,
                publisher=name,
                rate_hz=1000.0 / HEARTBEAT_INTERVAL_MS,
            )
            for name in PROCESSES
        ),
        *_event("capture", AudioGap),
        TopicSpec(
            topic=FrontEndReport.topic,
            message=FrontEndReport,
            publisher="capture",
            rate_hz=1.0,
        ),
        TopicSpec(topic=MuteState.topic, message=MuteState, publisher="capture", rate_hz=1.0),
        TopicSpec(topic=Sessions.topic, message=Sessions, publisher="gateway", rate_hz=1.0),
        *_event(
            "vad",
            SpeechStarted,
            SpeechContinued,
            SpeechPaused,
            SpeechResumed,
            SpeechEnded,
            EndOfTurn,
            SpeechScores,
            NearEnd,
            SpeechAside,
            WakeWord,
        ),
        *_event("asr", Transcript, PartialTranscript),
        *_event("llm", QuestionRead, ReplyChunk),
        *_event("mind", Considered, Done, Ringing),
        TopicSpec(
            topic=SpeechSettings.topic, message=SpeechSettings, publisher="mind", rate_hz=1.0
        ),
        *_event("tts", PlaybackStarted, PlaybackDucked, PiecePlayed, PlaybackEnded),
        *_event("conductor", Transcribe, Prepare, Generate, Speak, Release, Pause, Restore, Cancel),
        *_event("conductor", Consider, Commit),
        *_event("conductor", Floor, Company, DialogueWords, ServiceLevel, TurnRecord),
    ]
}
