"""Audio that clients want heard in place of the microphone: queued, paced, acknowledged. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples
from appliance.messages import InjectAudio, InjectProgress, Span

QUEUE_LIMIT_SAMPLES = 10 * RATE_HZ
"""A client that ignores its credit is cut off beyond this."""
_REPORT_SAMPLES = RATE_HZ // 10
PATIENCE_BLOCKS = 200
"""How long a client may owe its next piece: one that has died must not close the ear for ever."""


@dataclass
class _Client:
    id: bytes
    queue: deque[Samples] = field(default_factory=deque)
    queued: int = 0
    consumed: int = 0
    reported: int = 0
    starved: int = 0
    """Blocks in a row for which there was nothing to hear."""
    last: bool = False
    span: Span | None = None


class Injector:
    """One client at a time speaks; whoever comes while it does is refused."""

    def __init__(self) -> None:
        self._client: _Client | None = None

    def accept(self, client_id: bytes, request: InjectAudio) -> str:
        """Queue a client's audio. Returns why it is refused, empty when it is not."""
        client = self._client or _Client(client_id)
        if client.id != client_id:
            return "another recording is being heard"
        if len(request.samples) % 4:
            return "not audio"
        samples = np.frombuffer(request.samples, np.float32)
        if client.queued + len(samples) > QUEUE_LIMIT_SAMPLES or not np.isfinite(samples).all():
            self._client = None
            return "not audio, or more than the credit"
        if len(samples):
            client.queue.append(np.clip(samples, -1.0, 1.0))
            client.queued += len(samples)
        client.last = client.last or request.last
        self._client = client
        return ""

    def replace(self, block: Samples) -> Samples:
        """The block to hear instead of the microphone's; the same one when nobody injects."""
        client = self._client
        if client is None:
            return block
        if client.queued < BLOCK_SAMPLES and not client.last:
            client.starved += 1
            if client.starved > PATIENCE_BLOCKS:
                self._client = None
                return block
            return np.zeros_like(block)  # its next piece is on the way: neither gap nor room noise
        client.starved = 0
        out = np.zeros(BLOCK_SAMPLES, np.float32)
        filled = 0
        while filled < BLOCK_SAMPLES and client.queue:
            piece = client.queue[0]
            n = min(len(piece), BLOCK_SAMPLES - filled)
            out[filled : filled + n] = piece[:n]
            filled += n
            if n < len(piece):
                client.queue[0] = piece[n:]
            else:
                client.queue.popleft()
        client.queued -= filled
        client.consumed += filled
        return out

    def note(self, epoch: int, sequence: int) -> tuple[bytes, InjectProgress] | None:
        """Note the block's name after it was written; returns a report when one is due."""
        client = self._client
        if client is None or (client.consumed == 0 and not client.last):
            return None
        first = client.span.first if client.span and client.span.epoch == epoch else sequence
        client.span = Span(epoch, first, sequence)
        finished = client.last and not client.queue
        if not finished and client.consumed - client.reported < _REPORT_SAMPLES:
            return None
        client.reported = client.consumed
        if finished:
            self._client = None
        return client.id, InjectProgress(
            consumed=client.consumed, finished=finished, span=client.span
        )
