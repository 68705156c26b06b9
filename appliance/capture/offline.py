"""The front-end over recordings instead of devices: the very same chain, block by block.

Memory does not grow with the recording's length: it passes in pieces of a second.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from appliance.audio.blocks import BLOCK_MS, BLOCK_SAMPLES, RATE_HZ, Reblocker, Samples
from appliance.audio.files import SpeechInfo, inspect_speech
from appliance.capture.far_end import DriftingCount
from appliance.errors import ApplianceError

MAX_CHANNELS = 16
AHEAD_SAMPLES = 64
"""The reference is given so much early, for an echo must come after it, and some have no delay.
More would do no harm to who has found the echo, but to how soon it is cancelled before."""
_ROW_BLOCKS = 1000 // BLOCK_MS
_SUMMARISED = ("erle_linear_db", "erle_final_db", "delay_ms", "drift_ppm", "direction_deg")


class ProcessedBlock(Protocol):
    """What the chain gives for a block."""

    @property
    def samples(self) -> Samples:
        """Shape (160,)."""
        ...


class Chain(Protocol):
    """The front-end, as far as it is needed here."""

    @property
    def latency_samples(self) -> int:
        """How much later than its input the output is."""
        ...

    @property
    def drift_ppm(self) -> float:
        """How much faster the far-end's clock is taken to run."""
        ...

    def process(self, mic: Samples, far: Samples | None) -> ProcessedBlock:
        """Take a block of the microphones (channels, 160) and as much far-end, more or less."""
        ...

    def metrics(self) -> object:
        """Return the figures of the last second: a mapping, a dataclass or a message."""
        ...

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Return what is worth keeping."""
        ...

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Start from what was kept."""
        ...


@dataclass(frozen=True, kw_only=True)
class Files:
    """What is read and written."""

    mic: Path
    """Any number of channels up to 16, any rate from 8 to 192 kHz, any format of libsndfile."""
    reference: Path | None
    """What the loudspeaker played, beginning with the microphones; several channels are averaged.
    Silence follows its end; what goes on after the microphones is left out."""
    out: Path
    """The near-end: mono, 16-bit WAV, as long as `mic` and aligned with it."""
    metrics: Path | None = None
    """Figures once a second and in sum, as JSON."""
    state: Path | None = None
    """What the chain has learnt: read if it exists, written at the end."""

    def check(self) -> None:
        """Raise `ApplianceError` unless everything can be written, and nothing over its source."""
        sources = {path.resolve() for path in (self.mic, self.reference) if path}
        targets = [path for path in (self.out, self.metrics, self.state) if path]
        for number, path in enumerate(targets):
            others = (other.resolve() for other in targets[:number])
            if path.resolve() in sources or path.resolve() in others:
                raise ApplianceError(f"{path} is named twice. Name another file to write to.")
            if path.exists() and not path.is_file():
                raise ApplianceError(f"{path} is not a file. Name a file to write to.")
            if not path.parent.is_dir():
                raise ApplianceError(f"There is no folder {path.parent} to write {path.name} to.")
            if not os.access(path.parent, os.W_OK):
                raise ApplianceError(f"No permission to write to the folder {path.parent}.")


def filter_recording(
    files: Files,
    create: Callable[[int], Chain],
    *,
    channel_map: Sequence[int] = (),
    out_rate_hz: int = RATE_HZ,
    advance: Callable[[float], None] = lambda _: None,
) -> dict[str, Any]:
    """Run a chain over recordings; nothing is written unless all of it succeeds.

    Args:
        files: see there.
        create: makes the chain for a number of microphones.
        channel_map: channels of the file, from 0, that are the microphones, in their order; all
            when empty.
        out_rate_hz: of the output.
        advance: told the seconds of recording that were processed since the last call.

    Returns:
        The metrics: what was read and written, `latency_ms`, `rows` and `summary`.

    Raises:
        ApplianceError: a file cannot be read, written or used.
    """
    files.check()
    mic = _Track(files.mic, channel_map)
    if len(mic.channels) > MAX_CHANNELS:
        raise ApplianceError(
            f"{files.mic} has {len(mic.channels)} channels; at most {MAX_CHANNELS} can be "
            "microphones. Choose them with --channel-map."
        )
    far = None if files.reference is None else _Track(files.reference)
    chain = create(len(mic.channels))
    if files.state is not None and files.state.exists():
        _restore(chain, files.state)
    meter = _Meter(chain, advance)
    with _replacing(files.out) as temporary:
        with _open_for_writing(files.out, temporary, out_rate_hz) as sound:
            resample = _resampler(RATE_HZ, out_rate_hz, 1)
            for samples, last in _filtered(chain, meter, mic, far):
                _write(files.out, sound, resample(samples[:, None], last))
            # resampling twice may be a sample short or long
            length = round(mic.frames * out_rate_hz / mic.info.rate_hz)
            _write(files.out, sound, np.zeros(max(0, length - sound.tell()), np.float32))
            sound.truncate(length)
        metrics = {
            "mic": _describe(mic.info, mic.channels),
            "reference": None if far is None else _describe(far.info, far.channels),
            "out": {"path": str(files.out), "rate_hz": out_rate_hz, "samples": length},
            "latency_samples": chain.latency_samples,
            "latency_ms": 1000 * chain.latency_samples / RATE_HZ,
            "rows": meter.rows,
            "summary": meter.summary(mic.replaced + (far.replaced if far else 0)),
        }
        _save(files, chain, metrics)
    return metrics


class _Track:
    """One sound file as a stream of 16 kHz blocks."""

    def __init__(self, path: Path, channel_map: Sequence[int] = ()) -> None:
        self.info = inspect_speech(path)
        self.channels = list(channel_map) or list(range(self.info.channels))
        self.frames = 0
        """Of the file, read so far."""
        self.samples = 0
        """The same at 16 kHz."""
        self.replaced = 0
        """Values that were not numbers and that resampling would have spread."""
        beyond = [number for number in self.channels if not 0 <= number < self.info.channels]
        if beyond:
            raise ApplianceError(
                f"{path} has no channel {beyond[0]}: its channels are 0 to "
                f"{self.info.channels - 1}. Correct --channel-map."
            )

    def blocks(self, late: int = 0) -> Iterator[Samples]:
        """Blocks (channels, 160) after `late` zeros, the last one padded with silence."""
        reblocker = Reblocker()
        yield from reblocker.push(np.zeros((late, len(self.channels)), np.float32))
        for frames in self._frames():
            self.samples += len(frames)
            yield from (np.ascontiguousarray(block.T) for block in reblocker.push(frames))
        rest = reblocker.flush()
        if rest is not None:
            yield np.ascontiguousarray(rest.T)

    def _frames(self) -> Iterator[Samples]:
        info = self.info
        resample = _resampler(info.rate_hz, RATE_HZ, len(self.channels))
        try:
            with soundfile.SoundFile(str(info.path)) as sound:
                left = sound.frames
                while left > 0:
                    frames = sound.read(info.rate_hz, dtype="float32", always_2d=True)
                    left = left - len(frames) if len(frames) else 0
                    self.frames += len(frames)
                    frames = np.ascontiguousarray(frames[:, self.channels])
                    if info.rate_hz != RATE_HZ:
                        frames = self._finite(frames)
                    yield resample(frames, left == 0)
        except soundfile.SoundFileError as error:
            raise ApplianceError(
                f"{info.path} is damaged. Record or copy it again. ({error})"
            ) from error

    def _finite(self, frames: Samples) -> Samples:
        finite = np.isfinite(frames)
        self.replaced += frames.size - int(np.count_nonzero(finite))
        return np.where(finite, frames, np.float32(0)).clip(-1, 1)


class _Reference:
    """The far-end, block by block in step with the microphones; silence follows its end.

    Args:
        track: one or more channels, to be averaged.
    """

    def __init__(self, track: _Track) -> None:
        mono = (block.mean(axis=0) for block in track.blocks())
        silence = np.zeros(BLOCK_SAMPLES, np.float32)
        self._blocks: Iterator[Samples] = itertools.chain(mono, itertools.repeat(silence))
        self._count = DriftingCount()
        self._rest = np.zeros(0, np.float32)

    def take(self, drift_ppm: float) -> Samples:
        """The samples of a block, when the far-end's clock runs so much faster."""
        count = self._count.next(drift_ppm)
        while len(self._rest) < count:
            self._rest = np.concatenate([self._rest, next(self._blocks)])
        samples, self._rest = self._rest[:count], self._rest[count:]
        return samples


def _resampler(
    rate_in_hz: int, rate_out_hz: int, channels: int
) -> Callable[[Samples, bool], Samples]:
    """From a piece (n, channels), and whether it is the last, to what is ready; without delay."""
    if rate_in_hz == rate_out_hz:
        return lambda frames, _: frames
    stream = soxr.ResampleStream(rate_in_hz, rate_out_hz, channels, dtype="float32", quality="HQ")

    def resample(frames: Samples, last: bool) -> Samples:
        result: Samples = stream.resample_chunk(frames, last=last)
        return result.reshape(-1, channels)

    return resample


def _filtered(
    chain: Chain, meter: _Meter, mic: _Track, far: _Track | None
) -> Iterator[tuple[Samples, bool]]:
    """The output without its latency, as long as `mic`: pieces (n,), and whether it is the last."""
    silence = np.zeros((len(mic.channels), BLOCK_SAMPLES), np.float32)
    reference = None if far is None else _Reference(far)
    meter.ahead = AHEAD_SAMPLES if reference else 0
    early = chain.latency_samples + meter.ahead
    drain = -(-early // BLOCK_SAMPLES)
    given = 0
    for block in itertools.chain(mic.blocks(meter.ahead), itertools.repeat(silence, drain)):
        out = meter.process(block, reference.take(chain.drift_ppm) if reference else None)
        late, early = min(early, BLOCK_SAMPLES), max(0, early - BLOCK_SAMPLES)
        out = out[late : late + mic.samples - given]
        given += len(out)
        if len(out):
            yield out, False
    yield np.zeros(0, np.float32), True


@dataclass
class _Meter:
    """Times the chain and collects its figures."""

    chain: Chain
    advance: Callable[[float], None]
    rows: list[dict[str, Any]] = field(default_factory=list)
    ahead: int = 0
    """Samples of far-end given before those of the microphones."""
    _times_ms: list[float] = field(default_factory=list)
    _cpu_started_s: float = field(default_factory=time.process_time)

    def process(self, mic: Samples, far: Samples | None) -> Samples:
        started_ns = time.perf_counter_ns()
        samples = self.chain.process(mic, far).samples
        self.ahead += 0 if far is None else len(far) - BLOCK_SAMPLES
        self._times_ms.append((time.perf_counter_ns() - started_ns) / 1e6)
        if len(self._times_ms) % _ROW_BLOCKS == 0:
            self._row()
        return samples

    def _row(self) -> None:
        at_s = len(self._times_ms) * BLOCK_MS / 1000
        figures = msgspec.to_builtins(self.chain.metrics(), enc_hook=_python_number)
        if figures.get("delay_ms") is not None:  # in the recordings' own time
            figures["delay_ms"] -= self.ahead * 1000 / RATE_HZ
        self.advance(at_s - (self.rows[-1]["at_s"] if self.rows else 0.0))
        self.rows.append({"at_s": at_s, **figures})

    def summary(self, replaced: int) -> dict[str, Any]:
        """Medians over the rows, last values, faults and cost."""
        audio_ms = len(self._times_ms) * BLOCK_MS
        if len(self._times_ms) % _ROW_BLOCKS:
            self._row()
        figures: dict[str, Any] = {}
        for name in _SUMMARISED:
            values = [row[name] for row in self.rows if row.get(name) is not None]
            figures[name] = values[-1] if values else None
            if name.startswith("erle") and values:
                figures[name] = float(np.median(values))
        faults = dict(self.rows[-1].get("faults", {}))
        faults["nan_samples"] = faults.get("nan_samples", 0) + replaced
        return {
            **figures,
            "faults": faults,
            "audio_s": audio_ms / 1000,
            "real_time_factor": sum(self._times_ms) / audio_ms,
            "cpu_real_time_factor": 1000 * (time.process_time() - self._cpu_started_s) / audio_ms,
            "block_p50_ms": float(np.percentile(self._times_ms, 50)),
            "block_p99_ms": float(np.percentile(self._times_ms, 99)),
        }


def _describe(info: SpeechInfo, channels: Sequence[int]) -> dict[str, Any]:
    return {
        "path": str(info.path),
        "rate_hz": info.rate_hz,
        "channels": info.channels,
        "used_channels": list(channels),
        "encoding": info.encoding,
        "duration_s": info.duration_s,
        "truncated": info.truncated,
    }


def _restore(chain: Chain, path: Path) -> None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            chain.restore({name: stored[name] for name in stored.files})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ApplianceError(
            f"{path} is not a state of this front-end ({error}). Remove it to start cold."
        ) from error


def _save(files: Files, chain: Chain, metrics: dict[str, Any]) -> None:
    if files.state is not None:
        with _replacing(files.state) as temporary, temporary.open("wb") as file:
            arrays: dict[str, Any] = dict(chain.state())
            np.savez(file, **arrays)
    if files.metrics is not None:
        with _replacing(files.metrics) as temporary:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(metrics), indent=1))


def _python_number(value: np.generic) -> object:
    return value.item()


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place at the end, or vanishes on an error."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.fchmod(descriptor, 0o644)
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ApplianceError(f"Cannot write {path}: {error.strerror or error}.") from error


def _open_for_writing(path: Path, temporary: Path, rate_hz: int) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(str(temporary), "w", rate_hz, 1, "PCM_16", format="WAV")
    except soundfile.SoundFileError as error:
        raise ApplianceError(f"Cannot write {path} at {rate_hz} Hz: {error}") from error


def _write(path: Path, sound: soundfile.SoundFile, frames: Samples) -> None:
    try:
        sound.write(frames)
    except soundfile.SoundFileError as error:
        raise ApplianceError(f"Cannot write {path}: {error} Is the disk full?") from error
