"""The far-end reference: what the loudspeaker really played, as blocks of the speaker ring."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable

from appliance.audio.blocks import BLOCK_NS
from appliance.capture.framer import BlockFramer
from appliance.ipc.audio_ring import RingWriter
from appliance.messages import BlocksReady
from appliance.tts.playback import PlayedBlock


def stream_id(utterance_id: str) -> int:
    """Under which stream id an utterance's blocks stand in the speaker ring."""
    return zlib.crc32(utterance_id.encode())


class FarEnd:
    """Dates, resamples and names what was played.

    A block is written once the time of its last sample has passed: only then is it certain which
    utterance was heard in it.
    """

    def __init__(self, writer: RingWriter) -> None:
        self._writer = writer
        self._framer: BlockFramer | None = None
        self._next_frame = -1
        self._waiting: deque[PlayedBlock] = deque()
        self._starts: deque[tuple[int, int]] = deque(maxlen=64)
        """(time, stream id) of the utterances' first audible samples."""

    def started(self, utterance_id: str, dac_ns: int) -> None:
        """An utterance was first heard at this time."""
        self._starts.append((dac_ns, stream_id(utterance_id)))

    def take(self, played: Iterable[PlayedBlock], rate_hz: int, now_ns: int) -> list[BlocksReady]:
        """Take what was handed to the device, at its rate; returns the announcements to publish."""
        self._waiting.extend(played)
        announcements = []
        while self._waiting and self._waiting[0].dac_ns + 2 * BLOCK_NS < now_ns:
            announcements += self._write(self._waiting.popleft(), rate_hz)
        return announcements

    def _write(self, block: PlayedBlock, rate_hz: int) -> list[BlocksReady]:
        if self._framer is None or block.first_frame != self._next_frame:
            self._framer = BlockFramer(rate_hz)
        self._next_frame = block.first_frame + len(block.samples)
        return [
            self._writer.write(samples, at_ns, self._stream_at(at_ns + BLOCK_NS))
            for at_ns, samples in self._framer.push(block.samples[:, None], block.dac_ns)
        ]

    def _stream_at(self, at_ns: int) -> int:
        current = 0
        for start_ns, stream in self._starts:
            if start_ns < at_ns:
                current = stream
        return current
