"""What is shown in a browser while one talks to the appliance. Pure.

Follows the messages of one session; what comes out is sent over the data channel as JSON.
"""

from __future__ import annotations

from typing import Any

from appliance.messages import (
    Floor,
    Message,
    PartialTranscript,
    PiecePlayed,
    PlaybackEnded,
    PlaybackStarted,
    Speak,
    Transcript,
    TurnRecord,
)

TOPICS = (
    PartialTranscript.topic,
    Transcript.topic,
    Floor.topic,
    Speak.topic,
    PlaybackStarted.topic,
    PiecePlayed.topic,
    PlaybackEnded.topic,
    TurnRecord.topic,
)
_MOST_UTTERANCES = 8
Event = dict[str, Any]


class Captions:
    """Words and state of one session.

    Args:
        session_id: whose messages count.
    """

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._pieces: dict[str, dict[int, str]] = {}
        """What is to be said, by utterance; nothing is shown before it is heard."""
        self._saying: tuple[str, int] | None = None
        """Utterance and piece that are heard at present."""
        self.state = "idle"

    def step(self, message: Message) -> list[Event]:  # noqa: PLR0911 one for each message
        """What a message changes for whoever looks on."""
        if getattr(message, "session_id", None) != self._session_id:
            return []
        match message:
            case PartialTranscript():
                return [_heard(message.stable, message.tail)]
            case Transcript(text=text) if text:
                return [_heard(text)]
            case Floor(state=state):
                self.state = state
                return [self.now()]
            case Speak():
                return self._to_say(message)
            case PlaybackStarted(utterance_id=utterance_id):
                self._saying = (utterance_id, 0)
                return self._said_next()
            case PiecePlayed(utterance_id=utterance_id, index=index):
                self._saying = (utterance_id, index + 1)
                return self._said_next()
            case PlaybackEnded(utterance_id=utterance_id):
                self._pieces.pop(utterance_id, None)
                if self._saying is not None and self._saying[0] == utterance_id:
                    self._saying = None
                if not message.played_text:
                    return []
                return [
                    {
                        "type": "said",
                        "utterance": utterance_id,
                        "text": message.played_text,
                        "interrupted": message.interrupted,
                    }
                ]
            case TurnRecord():
                return [_turn(message)]
        return []

    def now(self) -> Event:
        """Who has the floor."""
        return {"type": "state", "state": self.state}

    def _to_say(self, speak: Speak) -> list[Event]:
        pieces = self._pieces.setdefault(speak.utterance_id, {})
        while len(self._pieces) > _MOST_UTTERANCES:  # prepared, and never said
            del self._pieces[next(iter(self._pieces))]
        pieces[speak.index] = speak.text
        if self._saying == (speak.utterance_id, speak.index):
            return self._said_next()
        return []

    def _said_next(self) -> list[Event]:
        assert self._saying is not None
        utterance_id, index = self._saying
        text = self._pieces.get(utterance_id, {}).get(index, "")
        if not text:
            return []
        return [{"type": "saying", "utterance": utterance_id, "piece": index, "text": text}]


def _heard(stable: str, tail: str = "") -> Event:
    return {"type": "heard", "stable": stable, "tail": tail}


def _turn(record: TurnRecord) -> Event:
    return {
        "type": "turn",
        "id": record.turn_id,
        "outcome": record.outcome,
        "heard": record.transcript,
        "said": record.reply,
        "voice_to_voice_ms": round(record.voice_to_voice_ms),
    }
