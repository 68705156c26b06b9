"""The outside of a running appliance: ask it, have it speak, see how it is.

Used by the command line, the benches and the tests. Everything goes through the real processes:
a recording is heard by capture in place of the microphone, in real time.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples
from appliance.audio.files import stream_speech, write_wav
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.health import Board
from appliance.ipc.audio_ring import SPEAKER_RING, Block, RingReader
from appliance.ipc.bus import Client, subscribe
from appliance.messages import (
    LOCAL_SESSION,
    Accepted,
    AskText,
    Attend,
    AudioGap,
    BlocksReady,
    Floor,
    FloorIs,
    FloorState,
    GetFloor,
    Heartbeat,
    InjectAudio,
    InjectProgress,
    Message,
    MuteState,
    Refused,
    SayText,
    SetMute,
    TurnRecord,
    heartbeat_topic,
    ring_topic,
)
from appliance.processes import HEARTBEAT_INTERVAL_MS, PROCESSES
from appliance.tts.reference import stream_id

PIECE_SAMPLES = RATE_HZ // 10
CREDIT_SAMPLES = 2 * RATE_HZ
LEAD_IN_SAMPLES = RATE_HZ // 2
"""Silence before a recording, so that its first word has a beginning."""
_POLL_MS = 50
_FLOOR_BOUND_MS = 500
"""A conductor answers within milliseconds; one that does not is asked again at its next beat."""
_CONDUCTOR_BOUND_S = 5.0
_NO_ANSWER = "The appliance does not answer. See 'appliance status', or start it: scripts/run"
_ANSWER_BOUND_S = 60.0
"""Longest silence before or within an answer."""
_SILENT_START_S = 60
"""A recording in which nobody speaks for so long is not a question."""
_MEANT_MS = 60_000
"""So soon an asked recording must begin to speak."""
_SILENT_END_S = 3.0
"""After the end of a recording: how long to wait for vad to say that it heard somebody."""


@dataclass
class Answer:
    """One finished turn, and what the loudspeaker played of it."""

    record: TurnRecord
    audio: Samples = field(repr=False)
    """Shape (n,), mono, 16 kHz."""

    def to_json(self, reply_wav: Path | None = None) -> dict[str, Any]:
        """The form that ``appliance ask --json`` prints."""
        record = self.record
        return {
            "turn_id": record.turn_id,
            "outcome": record.outcome,
            "transcript": record.transcript,
            "reply": record.reply,
            "reply_wav": str(reply_wav) if reply_wav else None,
            "latency_ms": {
                "voice_to_voice": round(record.voice_to_voice_ms, 3),
                **{name: round(ms, 3) for name, ms in record.contributions_ms.items()},
            },
            "marks": list(record.marks),
        }

    def save(self, path: Path) -> None:
        """Write the audio as a WAV file."""
        write_wav(path, self.audio)


class ApplianceClient:
    """A connection to the appliance that runs in a runtime folder, and to its own room in it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._runtime_dir = config.runtime_path
        self._bus = subscribe(
            self._runtime_dir,
            [
                Floor.topic,  # before the heartbeats: who hears these will not miss the next floor
                *(heartbeat_topic(name) for name in PROCESSES),
                AudioGap.topic,
                MuteState.topic,
                TurnRecord.topic,
                ring_topic(SPEAKER_RING.name),
            ],
        )
        self._board = Board()
        self._speaker = RingReader(config.shm_prefix, SPEAKER_RING.name)
        self._played: deque[Block] = deque(maxlen=60_000)
        self._played_s = 0.0
        """When the loudspeaker last played something, by this process's clock."""
        self._records: deque[TurnRecord] = deque(maxlen=1_000)
        self.floor: FloorState | None = None
        """Who has the floor; None until the conductor that is there has said so."""
        self._conductor_life = 0
        self._mute: MuteState | None = None

    def __enter__(self) -> ApplianceClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._bus.close()
        self._speaker.close()

    # --- listening --------------------------------------------------------------------------

    def pump(self, timeout_ms: int = _POLL_MS) -> Message | None:
        """Take one message from the bus, if one comes in time."""
        message = self._bus.receive(timeout_ms)
        match message:
            case Heartbeat():
                self._board.note(message, time.monotonic_ns())
                if message.process == "conductor":
                    self._note_conductor(message)
            case BlocksReady():
                self._speaker.announced(message, rewind_blocks=1)
                self._played.extend(self._speaker.read())
                self._played_s = time.monotonic()
            case TurnRecord(session_id=session_id) if session_id == LOCAL_SESSION:
                self._records.append(message)
            case Floor(session_id=session_id, state=state) if session_id == LOCAL_SESSION:
                self.floor = state
            case MuteState():
                self._mute = message
        return message

    def _note_conductor(self, beat: Heartbeat) -> None:
        """A floor is published when it changes: what came before must be asked for."""
        if beat.life != self._conductor_life:
            self._conductor_life, self.floor = beat.life, None
        if self.floor is not None or beat.state == "starting":
            return
        client = Client(self._runtime_dir, "conductor")
        try:
            client.send(GetFloor())
            match client.receive(_FLOOR_BOUND_MS):
                case FloorIs(state=state):
                    self.floor = state
        finally:
            client.close()

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Listen until the condition holds; False when the time is up before."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.pump()
        return True

    def forget_turns(self) -> None:
        """Let ``next_turn`` wait for one that ends from now on."""
        self._records.clear()

    def next_turn(self, timeout_s: float) -> TurnRecord | None:
        """The next turn that has ended and was not given yet; None when none ends in time."""
        if not self.wait_for(lambda: bool(self._records), timeout_s):
            return None
        return self._records.popleft()

    def status(self, timeout_s: float = 1.5 * HEARTBEAT_INTERVAL_MS / 1000) -> dict[str, Any]:
        """The state of every process, after listening for their heartbeats."""
        self.wait_for(self._board.complete, timeout_s)
        return self._board.snapshot(time.monotonic_ns())

    def working_pid(self, process: str) -> int:
        """Process id of the instance that does a process's work; 0 when none does."""
        for label, entry in self._board.snapshot(time.monotonic_ns())["processes"].items():
            if label.split(".")[0] == process and entry["state"] in ("ready", "degraded"):
                pid: int = entry["pid"]
                return pid
        return 0

    def is_ready(self) -> bool:
        """Whether, by what was heard so far, a spoken question would be answered."""
        return bool(self._board.snapshot(time.monotonic_ns())["ready"])

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until a spoken question would be answered."""
        return self.wait_for(self.is_ready, timeout_s)

    # --- asking -----------------------------------------------------------------------------

    def ask_text(self, text: str) -> Answer:
        """Put a question as text and wait until the answer was played."""
        return self._request(AskText(text=text))

    def say(self, text: str) -> Answer:
        """Have a text spoken and wait until it was played."""
        return self._request(SayText(text=text))

    def _request(self, request: AskText | SayText) -> Answer:
        turn_id = self._to_conductor(request)
        return self._answer(lambda record: record.turn_id == turn_id)

    def _to_conductor(self, request: AskText | SayText | Attend) -> str:
        """Send a request; returns the id of the turn that it became, if any.

        Raises:
            ApplianceError: it is refused, or nobody answers.
        """
        return self._ask(Client(self._runtime_dir, "conductor"), request)

    def _ask(self, client: Client, request: AskText | SayText | Attend | SetMute) -> str:
        try:
            client.send(request)
            answer: Any = None
            deadline = time.monotonic() + _CONDUCTOR_BOUND_S
            while answer is None and time.monotonic() < deadline:
                answer = client.receive(0)
                self.pump(10)
        finally:
            client.close()
        match answer:
            case Accepted(turn_id=turn_id):
                return turn_id
            case Refused(reason=reason):
                raise ApplianceError(f"The appliance refuses: {reason}.")
        raise ApplianceError(_NO_ANSWER)

    def mute(self, muted: bool) -> None:
        """Mute the microphones, or listen again; kept until it is asked for otherwise.

        Raises:
            ApplianceError: the switch on the box forbids it, or capture does not answer.
        """
        if not self.wait_for(lambda: self._board.active_instance("capture") is not None, 2.0):
            raise ApplianceError(
                "The appliance's capture process is not there. See 'appliance status'."
            )
        instance = self._board.active_instance("capture")
        assert instance is not None
        self._ask(Client(self._runtime_dir, "capture", instance), SetMute(muted=muted))

    def mute_state(self, timeout_s: float = 3.0) -> MuteState | None:
        """Whether the microphones are muted and why; None when nobody says so in time."""
        self.wait_for(lambda: self._mute is not None, timeout_s)
        return self._mute

    def ask_recording(self, path: Path) -> Answer:
        """Speak a recording into the microphone's place and wait for the spoken answer.

        Only its first turn is asked: what comes after the answer has begun is left out.

        Raises:
            ApplianceError: not a usable recording, nobody speaks in it, or no answer came.
        """
        blocks, _ = stream_speech(path, PIECE_SAMPLES)
        return self.ask_samples(blocks, str(path))

    def ask_samples(self, pieces: Iterator[Samples], name: str) -> Answer:
        """Like ``ask_recording``, from pieces of mono 16 kHz samples."""
        if not self.wait_for(lambda: self._board.active_instance("capture") is not None, 2.0):
            raise ApplianceError(
                "The appliance's capture process is not there. See 'appliance status'."
            )
        instance = self._board.active_instance("capture")
        assert instance is not None
        if not self.wait_for(lambda: self.floor is not None, _CONDUCTOR_BOUND_S):
            raise ApplianceError(_NO_ANSWER)
        if not self.wait_for(lambda: self.floor == "idle", _ANSWER_BOUND_S):
            raise ApplianceError("The appliance is busy with another turn; try again later.")
        self._to_conductor(Attend(for_ms=_MEANT_MS))
        client = Client(self._runtime_dir, "capture", instance)
        started_ns = time.monotonic_ns()
        try:
            self._inject(client, self._with_silence(pieces), started_ns)
        finally:
            client.close()

        def ours(record: TurnRecord) -> bool:
            return record.source == "speech" and record.speech_end_ns >= started_ns

        if not self.wait_for(
            lambda: self._engaged() or any(ours(r) for r in self._records), _SILENT_END_S
        ):
            raise ApplianceError(f"Nobody speaks in {name}: no speech was found in it.")
        answer = self._answer(ours)
        if answer.record.outcome == "nothing_said":
            raise ApplianceError(f"No words were recognised in {name}.")
        return answer

    def _with_silence(self, pieces: Iterator[Samples]) -> Iterator[Samples]:
        yield np.zeros(LEAD_IN_SAMPLES, np.float32)
        yield from pieces
        end_ms = self._config.vad.fallback_ms + 500
        yield np.zeros(end_ms * RATE_HZ // 1000, np.float32)

    def _inject(self, client: Client, pieces: Iterator[Samples], started_ns: int) -> None:
        sent = consumed = 0
        ended = False
        last_progress = time.monotonic()
        while True:
            while not ended and sent - consumed < CREDIT_SAMPLES:
                piece = next(pieces, None)
                ended = piece is None or self._answered(started_ns)
                samples = np.zeros(0, np.float32) if piece is None else piece
                client.send(InjectAudio(samples=samples.astype("<f4").tobytes(), last=ended))
                sent += len(samples)
            self.pump(20)
            while (progress := client.receive(0)) is not None:
                last_progress = time.monotonic()
                match progress:
                    case InjectProgress(consumed=consumed, finished=finished):
                        if finished:
                            return
                    case Refused(reason=reason):
                        raise ApplianceError(f"capture does not take the recording: {reason}.")
            if consumed > _SILENT_START_S * RATE_HZ and not self._heard(started_ns):
                raise ApplianceError(
                    f"Nobody speaks in the first {_SILENT_START_S} s of it: no speech was found."
                )
            if time.monotonic() - last_progress > 5:
                raise ApplianceError(
                    "capture stopped taking the recording. See 'appliance status'."
                )

    def _engaged(self) -> bool:
        """Whether somebody is known to have the floor."""
        return self.floor not in (None, "idle")

    def _heard(self, started_ns: int) -> bool:
        return self._engaged() or any(r.speech_end_ns > started_ns for r in self._records)

    def _answered(self, started_ns: int) -> bool:
        return self.floor == "speaking" or any(r.audible_ns > started_ns for r in self._records)

    def _answer(self, wanted: Callable[[TurnRecord], bool]) -> Answer:
        started_s = time.monotonic()

        def ended() -> bool:
            return any(wanted(record) for record in self._records)

        def silent() -> bool:
            return time.monotonic() > max(started_s, self._played_s) + _ANSWER_BOUND_S

        self.wait_for(lambda: ended() or silent(), math.inf)
        if not ended():
            raise ApplianceError(
                f"No answer within {_ANSWER_BOUND_S:.0f} s. See 'appliance status' and the log."
            )
        record = next(r for r in self._records if wanted(r))
        for _ in range(5):  # announcements of the last blocks may still be on their way
            self.pump(20)
        ids = {stream_id(utterance_id) for utterance_id in record.utterance_ids}
        blocks = [block.samples for block in self._played if block.stream_id in ids]
        audio = np.concatenate(blocks) if blocks else np.zeros(BLOCK_SAMPLES, np.float32)
        return Answer(record, audio)
