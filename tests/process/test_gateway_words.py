"""What a bad network costs in words: recordings as a browser would send them, through losses and
jitter, to the recogniser."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

import numpy as np
import pytest

from appliance.asr.engine import create_engine
from appliance.asr.evaluation import evaluate_wer
from appliance.asr.transcriber import Transcriber
from appliance.audio.blocks import Samples
from appliance.bench.recordings import announcements, cards, librivox, short_utterances
from appliance.gateway.microphone import MicrophoneStream, Packet
from appliance.gateway.opus import OpusDecoder, OpusEncoder
from appliance.models.store import ensure_model

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.timeout(500)]

LOSS, JITTER_MS = 0.05, 30
_FRAME, _FRAME_NS = 320, 20_000_000


def over_the_network(samples: Samples, *, loss: float, jitter_ms: float, seed: int) -> Samples:
    """What gateway makes of it."""
    chance = random.Random(seed)
    encoder, stream = OpusEncoder(), MicrophoneStream(OpusDecoder())
    padded = np.concatenate([samples, np.zeros(-len(samples) % _FRAME + 10 * _FRAME, np.float32)])
    events: list[tuple[int, Packet | None]] = []
    for number in range(len(padded) // _FRAME):
        payload = encoder.encode(padded[number * _FRAME : (number + 1) * _FRAME])
        at_ns = (number + 1) * _FRAME_NS
        events.append((at_ns, None))
        if number == 0 or chance.random() >= loss:
            at_ns += int(chance.uniform(0, jitter_ms if number else 0) * 1e6)
            events.append((at_ns, Packet(number, number * 960, payload, at_ns)))
    heard = []
    for at_ns, packet in sorted(events, key=lambda event: event[0]):
        heard += stream.poll(at_ns) if packet is None else stream.push(packet)
    return np.concatenate([block.samples for block in heard])


def test_a_bad_network_costs_at_most_two_points_of_word_error_rate() -> None:
    recordings = [*librivox(), *cards(), *short_utterances(), *announcements()]
    ears = Transcriber(create_engine("ctranslate2", ensure_model("whisper-tiny.en"), threads=1))

    def wer(change: Callable[[Samples], Samples]) -> float:
        found = evaluate_wer(lambda samples: ears.transcribe(change(samples)).text, recordings)
        return found["wer_percent"]

    plain = wer(lambda samples: samples)
    clean = wer(lambda samples: over_the_network(samples, loss=0, jitter_ms=0, seed=1))
    bad = [
        wer(lambda s, seed=seed: over_the_network(s, loss=LOSS, jitter_ms=JITTER_MS, seed=seed))
        for seed in (1, 2, 3)
    ]
    mean = sum(bad) / len(bad)
    sys.stdout.write(f"WER plain {plain:.1f} %, Opus {clean:.1f} %, 5 % lost {mean:.1f} % {bad}\n")
    assert mean <= clean + 2
