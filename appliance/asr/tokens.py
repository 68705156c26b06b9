"""Whisper's byte-level vocabulary, read from the file that ships beside the weights.

Byte-pair encoding needs no separate list of merges: in GPT-2's and Whisper's vocabularies a
token's number is its merge rank (as tiktoken uses it).
"""

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from appliance.errors import ApplianceError

_WORDS = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
"""GPT-2's pre-tokeniser, with the letters and digits that Python's ``re`` knows."""


@cache
def _byte_of_character() -> dict[str, int]:
    """Return GPT-2's printable stand-in for each byte, reversed."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    stand_ins = {chr(byte): byte for byte in printable}
    return stand_ins | {chr(0x100 + index): byte for index, byte in enumerate(others)}


class Vocabulary:
    """Text to tokens and back."""

    def __init__(self, tokens: Sequence[str]) -> None:
        """Take the tokens in the order of their ids, written with GPT-2's stand-in characters."""
        self._ids = {token: index for index, token in enumerate(tokens)}
        self.end_of_text = self.special("<|endoftext|>")
        byte_of = _byte_of_character()
        text_tokens = tokens[: self.end_of_text]
        self._bytes = [bytes(byte_of[char] for char in token) for token in text_tokens]
        self._ranks = {token: index for index, token in enumerate(self._bytes) if token}

    @classmethod
    def load(cls, model_dir: Path) -> "Vocabulary":
        """Read ``vocabulary.txt`` or ``vocabulary.json`` of a CTranslate2 model.

        Raises:
            ApplianceError: neither file is there, or it is not such a vocabulary.
        """
        repair = f"fetch it again with: appliance models fetch {model_dir.name}"
        for path in (model_dir / "vocabulary.txt", model_dir / "vocabulary.json"):
            if not path.is_file():
                continue
            try:
                content = path.read_text("utf-8")
                tokens = json.loads(content) if path.suffix == ".json" else content.split("\n")
                return cls(tokens)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise ApplianceError(
                    f"The vocabulary {path} cannot be used ({type(error).__name__}); {repair}"
                ) from error
        raise ApplianceError(f"The vocabulary in {model_dir} is missing; {repair}")

    def special(self, token: str) -> int:
        """Return the id of a token such as ``<|notimestamps|>``; KeyError if there is none."""
        return self._ids[token]

    def text_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the UTF-8 of the text tokens among ``ids``; special tokens are left out."""
        return b"".join(self._bytes[token] for token in ids if token < self.end_of_text)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ``ids``; a character cut in half becomes U+FFFD."""
        return self.text_bytes(ids).decode("utf-8", errors="replace")

    def encode(self, text: str) -> list[int]:
        """Return the tokens of ``text``."""
        return [token for word in _WORDS.findall(text) for token in self._encode_word(word)]

    def _encode_word(self, word: str) -> list[int]:
        parts = [bytes([byte]) for byte in word.encode()]
        unmergeable = len(self._ranks)
        while len(parts) > 1:
            ranks = [
                self._ranks.get(left + right, unmergeable)
                for left, right in itertools.pairwise(parts)
            ]
            best = min(range(len(ranks)), key=ranks.__getitem__)
            if ranks[best] == unmergeable:
                break
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        return [self._ranks[part] for part in parts]
