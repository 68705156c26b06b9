"""Sound files of any kind in, the appliance's format out; and WAV files written.

Reading is bounded in memory: an hour at 192 kHz passes in pieces of a second.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from appliance.audio.blocks import RATE_HZ, Reblocker, Samples
from appliance.errors import ApplianceError

log = logging.getLogger(__name__)

_LOWEST_RATE_HZ, _HIGHEST_RATE_HZ = 8_000, 192_000
_LEAST_USABLE_MS = 100
_WAV_HEADER_BYTES = 44


@dataclass(frozen=True)
class SpeechInfo:
    """What a sound file was before it was converted."""

    path: Path
    rate_hz: int
    channels: int
    encoding: str
    """libsndfile's name of the sample format, for example `PCM_24`."""
    duration_s: float
    """Length of the audio that is there."""
    truncated: bool
    """The file's header promises more than the file holds."""


def inspect_speech(path: Path | str) -> SpeechInfo:
    """Look at a sound file without reading its audio.

    Raises:
        ApplianceError: as `read_speech`, except for what only shows in the audio itself.
    """
    path = Path(path)
    with _open(path) as sound:
        return _info(path, sound)


def read_speech(path: Path | str) -> tuple[Samples, SpeechInfo]:
    """Read a whole sound file as mono float32 at 16 kHz.

    Several channels are averaged. A truncated file gives what is there, with a warning in the log.
    Needs 64 kB of memory per second of audio; use `stream_speech` for long files.

    Returns:
        Samples of shape (n,) within ±1, and what the file was.

    Raises:
        ApplianceError: no such file, not a sound file, empty, less than 0.1 s left of a truncated
            one, a rate outside 8 to 192 kHz, or values that are not numbers.
    """
    info = inspect_speech(path)
    pieces = list(_resampled(info))
    return np.concatenate(pieces), info


def stream_speech(path: Path | str, block_samples: int) -> tuple[Iterator[Samples], SpeechInfo]:
    """Like `read_speech`, in blocks of `block_samples`, the last one padded with zeros.

    Opening errors are raised at once, errors within the audio while the blocks are consumed.
    """
    info = inspect_speech(path)
    return _blocks(info, block_samples), info


def write_wav(path: Path | str, samples: Samples, rate_hz: int = RATE_HZ) -> None:
    """Write mono (n,) or multichannel (n, channels) audio as 16-bit WAV; values beyond ±1 clip.

    Raises:
        ApplianceError: the file cannot be written there.
    """
    try:
        soundfile.write(str(path), samples, rate_hz, subtype="PCM_16", format="WAV")
    except (OSError, soundfile.SoundFileError) as error:
        raise ApplianceError(
            f"Cannot write {path}: {_short(error)} Check the folder, its permissions and space."
        ) from error


def _open(path: Path) -> soundfile.SoundFile:
    if not path.exists():
        raise ApplianceError(f"There is no file {path}. Check the path.")
    if path.is_dir():
        raise ApplianceError(f"{path} is a folder. Name a sound file in it.")
    try:
        if path.stat().st_size == 0:
            raise ApplianceError(f"{path} is empty (0 bytes). Record it again.")
        return soundfile.SoundFile(str(path))
    except soundfile.SoundFileError as error:
        raise ApplianceError(
            f"{path} is not a sound file that can be read ({_short(error)}). "
            "Convert it, for example with: ffmpeg -i FILE -ar 16000 -ac 1 out.wav"
        ) from error
    except OSError as error:
        raise ApplianceError(f"Cannot read {path}: {error.strerror}.") from error


def _info(path: Path, sound: soundfile.SoundFile) -> SpeechInfo:
    if not _LOWEST_RATE_HZ <= sound.samplerate <= _HIGHEST_RATE_HZ:
        raise ApplianceError(
            f"{path} has a sample rate of {sound.samplerate} Hz; only 8 to 192 kHz can be read."
        )
    duration_s = sound.frames / sound.samplerate
    truncated = _is_truncated(path)
    if sound.frames == 0 or (truncated and duration_s < _LEAST_USABLE_MS / 1000):
        why = "is cut off before any usable audio" if truncated else "holds no audio"
        raise ApplianceError(f"{path} {why}. Record or copy it again.")
    if truncated:
        log.warning("%s is cut off; using the %.2f s that are there", path, duration_s)
    return SpeechInfo(path, sound.samplerate, sound.channels, sound.subtype, duration_s, truncated)


def _is_truncated(path: Path) -> bool:
    """Whether a RIFF file's data chunk promises more bytes than follow it.

    libsndfile reads such files without complaint, up to their end. Sizes of 0 and of 0xFFFFFFFF
    are written by streaming recorders that cannot go back, and promise nothing.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return False
        file.seek(12)
        while len(header := file.read(8)) == 8:
            length = int.from_bytes(header[4:], "little")
            if header[:4] == b"data":
                return 0 < length < 0xFFFF_FF00 and file.tell() + length > size
            file.seek(length + length % 2, 1)
    return size < _WAV_HEADER_BYTES


def _resampled(info: SpeechInfo) -> Iterator[Samples]:
    """Mono pieces at 16 kHz of about a second each."""
    resampler = (
        None
        if info.rate_hz == RATE_HZ
        else soxr.ResampleStream(info.rate_hz, RATE_HZ, 1, dtype="float32", quality="HQ")
    )
    with _open(info.path) as sound:
        left = sound.frames
        while left > 0:
            try:
                frames = sound.read(info.rate_hz, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                raise ApplianceError(
                    f"{info.path} is damaged ({_short(error)}). Record or copy it again."
                ) from error
            left = left - len(frames) if len(frames) else 0
            mono: Samples = frames[:, 0] if info.channels == 1 else frames.mean(axis=1)
            if not np.isfinite(mono).all():
                raise ApplianceError(
                    f"{info.path} holds values that are not numbers (NaN or infinity). "
                    "Record or convert it again."
                )
            if resampler is not None:
                mono = resampler.resample_chunk(np.ascontiguousarray(mono), last=left == 0)
            # Floating-point files and resampling may exceed full scale.
            yield np.clip(mono, -1.0, 1.0)


def _blocks(info: SpeechInfo, block_samples: int) -> Iterator[Samples]:
    reblocker = Reblocker(block_samples)
    for piece in _resampled(info):
        yield from reblocker.push(piece)
    rest = reblocker.flush()
    if rest is not None:
        yield rest


def _short(error: Exception) -> str:
    """libsndfile's reason without the path that it puts before it."""
    return str(error).rsplit(": ", 1)[-1].strip()
