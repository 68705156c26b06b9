"""Recordings of people speaking, with what they say, from packages of the distribution.

`pocketsphinx-testdata`: five sentences of an audio book (librivox), five commands of a card game
(cards), two short utterances, one sequence of digits. `asterisk-core-sounds-en-g722`: a woman's
telephone announcements (Allison Smith; CC-BY-SA-3.0), whose text is the one published with them
(where it is what she says). `asterisk-core-sounds-{es,fr,it,ru}-g722` (es, fr, it: CC-BY-SA-3.0,
ru: CC-BY-3.0) have the same announcements by four more voices, without text: sound for scenes in
which somebody else speaks.
Each set is spoken by another person in another room.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from appliance.audio.blocks import RATE_HZ, Samples
from appliance.audio.files import read_speech
from appliance.errors import ApplianceError

_SPHINX = Path("/usr/share/pocketsphinx/test/data")
_ASTERISK = Path("/usr/share/asterisk/sounds")
_ENGLISH = "en_US_f_Allison"
PromptVoice = Literal["es_MX_f_Allison", "fr_CA_f_June", "it_IT_m_Carlo", "ru_RU_f_IvrvoiceRU"]
_PROMPT_SECONDS = (2.0, 8.0)
_G722_BYTES_PER_SECOND = 8_000
_TRANSCRIPT = re.compile(r"<s>\s*(.*?)\s*</s>\s*\((.*)\)")
_RAW_TEXTS = {
    "goforward": "go forward ten meters",
    "something": "go somewhere and do something",
}
FLITE_VOICES = ("slt", "rms", "awb", "kal16")
QUESTIONS = (
    "What is the capital city of Italy?",
    "How many legs does a spider have?",
    "Which planet is the closest to the sun?",
    "Who wrote the play Romeo and Juliet?",
    "What do bees collect from the flowers?",
    "How many days are there in a leap year?",
    "What is the largest ocean in the world?",
    "Can you tell me what a compass is used for?",
    "What colour do you get from blue and yellow?",
    "Why does the moon change its shape every month?",
    "What is the opposite of the word expensive?",
    "How do I keep my bread from going stale?",
)
_ANNOUNCEMENTS = {
    "agent-incorrect": "Login incorrect. Please enter your agent number followed by the pound key.",
    "agent-pass": "Please enter your password followed by the pound key.",
    "conf-invalid": "That is not a valid conference number. Please try again.",
    "conf-onlyone": "There is currently one other participant in the conference.",
    "conf-onlyperson": "You are currently the only person in this conference.",
    "conf-placeintoconf": "You will now be placed into the conference.",
    "conf-waitforleader": "The conference will begin when the leader arrives.",
    "demo-echodone": "The echo test has been completed.",
    "demo-thanks": "Goodbye. Thank you for trying out the Asterisk open source PBX.",
    "dir-nomatch": "No directory entries match your search.",
    "dir-nomore": "There are no more compatible entries in the directory.",
    "hello-world": "Hello world.",
    "priv-recordintro": "At the tone, please say your name.",
    "privacy-prompt": "Please enter your phone number, starting with the area code.",
    "privacy-unident": "The party you are trying to reach does not accept unidentified calls.",
    "queue-periodic-announce": "All of our representatives are currently busy. Please stay on the "
    "line and your call will be answered by the next available representative.",
    "queue-thankyou": "Thank you for your patience.",
    "queue-youarenext": "Your call is now first in line and will be answered by the next "
    "available representative.",
    "ss-noservice": "The number you have dialed is not in service. "
    "Please check the number and try again.",
    "transfer": "Please hold while I try that extension.",
    "tt-allbusy": "All representatives of the household are currently assisting other "
    "telemarketers. Please hold and your call will be answered in the order it was received.",
    "tt-somethingwrong": "Something is terribly wrong.",
    "tt-weasels": "Weasels have eaten our phone system.",
    "vm-enter-num-to-call": "Please enter the number you wish to call.",
}


@dataclass(frozen=True)
class Recording:
    """One utterance."""

    name: str
    samples: Samples
    """Shape (n,), 16 kHz."""
    text: str
    """What is said; upper case, digits and punctuation as in the source."""

    @property
    def seconds(self) -> float:
        """Length."""
        return len(self.samples) / RATE_HZ


def librivox() -> list[Recording]:
    """Five sentences of Sense and Sensibility, 3 to 7 s."""
    return _transcribed_folder("librivox", "transcription")


def cards() -> list[Recording]:
    """Five utterances of a card game, 1 to 4 s, noisy."""
    return _transcribed_folder("cards", "cards.transcription")


def short_utterances() -> list[Recording]:
    """A command for a robot and the like, 3 to 4 s."""
    return [
        Recording(name, _raw(_need(_SPHINX / f"{name}.raw")), text)
        for name, text in _RAW_TEXTS.items()
    ]


def digits() -> list[Recording]:
    """A sequence of digits of the TIDIGITS corpus."""
    path = _need(_SPHINX / "tidigits" / "dhd.2934z.raw")
    return [Recording("dhd.2934z", _raw(path), "two nine three four zero")]


def announcements() -> list[Recording]:
    """Telephone announcements, 1 to 9 s."""
    return [_announcement(name) for name in _ANNOUNCEMENTS]


def prompts(voice: PromptVoice) -> list[Recording]:
    """Telephone announcements of 2 to 8 s in another language, without their text."""
    shortest, longest = (seconds * _G722_BYTES_PER_SECOND for seconds in _PROMPT_SECONDS)
    folder = _need(_ASTERISK / voice)
    return [
        Recording(path.stem, _g722(path), "")
        for path in sorted(folder.glob("*.g722"))
        if shortest < path.stat().st_size < longest
    ]


def questions() -> list[Recording]:
    """Questions of 2 to 4 s, spoken by the four other synthesised voices of `flite`."""
    return [
        synthesised(text, FLITE_VOICES[number % len(FLITE_VOICES)])
        for number, text in enumerate(QUESTIONS)
    ]


@cache
def synthesised(text: str, voice: str) -> Recording:
    """A text spoken by one of the voices of `flite`."""
    if shutil.which("flite") is None:
        raise ApplianceError("The questions need a voice: apt-get install flite")
    with tempfile.TemporaryDirectory(prefix="voice-question-") as folder:
        path = Path(folder) / "question.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True)
        return Recording(f"{voice}: {text}", read_speech(path)[0], text)


def all_recordings() -> list[Recording]:
    """Every set."""
    return [*librivox(), *cards(), *short_utterances(), *digits(), *announcements()]


def recording(name: str) -> Recording:
    """One recording by name; of the librivox set the number suffices, for example `0880`."""
    for candidate in all_recordings():
        if name in (candidate.name, candidate.name.rsplit("-", 1)[-1]):
            return candidate
    raise KeyError(name)


def _transcribed_folder(folder: str, transcription: str) -> list[Recording]:
    lines = _need(_SPHINX / folder / transcription).read_text().splitlines()
    matches = [match for line in lines if (match := _TRANSCRIPT.match(line))]
    return [
        Recording(name, read_speech(_need(_SPHINX / folder / f"{name}.wav"))[0], text)
        for text, name in (match.groups() for match in matches)
    ]


def _announcement(name: str) -> Recording:
    path = _need(_ASTERISK / _ENGLISH / f"{name}.g722")
    return Recording(name, _g722(path), _ANNOUNCEMENTS[name])


@cache
def _g722(path: Path) -> Samples:
    try:
        from G722 import G722
    except ImportError as error:
        raise ApplianceError(
            "The recordings need a decoder: install the development dependencies with scripts/test."
        ) from error
    decoded = np.frombuffer(G722(RATE_HZ, 64_000).decode(path.read_bytes()), np.int16)
    return (decoded / 32768).astype(np.float32)


def _raw(path: Path) -> Samples:
    return (np.frombuffer(path.read_bytes(), "<i2") / 32768).astype(np.float32)


def _need(path: Path) -> Path:
    if path.exists():
        return path
    package = "pocketsphinx-testdata"
    if path.is_relative_to(_ASTERISK):
        language = path.relative_to(_ASTERISK).parts[0][:2]
        package = f"asterisk-core-sounds-{language}-g722"
    raise ApplianceError(f"The recording {path} is missing: apt-get install {package}")
