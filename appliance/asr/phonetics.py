"""How words sound, and how far apart two sounds are.

Pronunciations come from espeak-ng, which piper-tts carries (GPL-3.0, as this project): any word,
any language, 0.15 ms, nothing to download. A phoneme is spelt as a few characters, one for each
articulatory feature (manner, place, voice; height, backness), so that the plain edit distance of
two such codes is the weighted phoneme distance: p and b differ in one character of three, and
leaving out a schwa costs less than leaving out a stop.
"""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from appliance.errors import ApplianceError

_CONSONANTS = {
    **{"p": "Pb0", "b": "Pb1", "t": "Pd0", "d": "Pd1", "k": "Pk0", "g": "Pk1", "q": "Pk0"},
    **{"c": "Pk0", "ɟ": "Pk1", "ɖ": "Pd1", "ʈ": "Pd0", "ɾ": "Pd1", "ʔ": "P"},
    **{"m": "Nb1", "n": "Nd1", "ŋ": "Nk1", "ɲ": "Nd1", "ɳ": "Nd1", "ɱ": "Nb1"},
    **{"f": "Fb0", "v": "Fb1", "θ": "Ft0", "ð": "Ft1", "s": "Fd0", "z": "Fd1", "β": "Fb1"},
    **{"ʃ": "Fj0", "ʒ": "Fj1", "ç": "Fj0", "x": "Fk0", "ɣ": "Fk1", "χ": "Fk0", "ʂ": "Fj0"},
    **{"h": "Fh", "ɦ": "Fh", "ɸ": "Fb0", "ʐ": "Fj1", "ɕ": "Fj0", "ʑ": "Fj1"},
    **{"ʧ": "Aj0", "ʤ": "Aj1", "ʦ": "Ad0", "ʣ": "Ad1"},
    **{"l": "Ld1", "ɫ": "Ld1", "ʎ": "Lj1", "ɬ": "Ld0", "ɭ": "Ld1"},
    **{"ɹ": "Rd1", "r": "Rd1", "ʁ": "Rk1", "ɻ": "Rd1", "ʀ": "Rk1", "ɽ": "Rd1"},
    **{"w": "Gw", "j": "Gj", "ɥ": "Gw", "ʋ": "Fb1", "ʍ": "Gw"},
}
_VOWELS = {
    **{"i": "Vif", "y": "Vif", "ɪ": "Vif", "ᵻ": "Vi", "ɨ": "Vi", "ʏ": "Vif"},
    **{"e": "Vef", "ɛ": "Vef", "ø": "Vef", "œ": "Vef", "æ": "Vaf", "a": "Vac"},
    **{
        "ə": "Ve",
        "ɐ": "Ve",
        "ʌ": "Vec",
        "ɜ": "VecR",
        "ɚ": "VeR",
        "ɝ": "VecR",
        "ɘ": "Ve",
        "ɵ": "Ve",
    },
    **{
        "ɑ": "Vab",
        "ɒ": "Vab",
        "ɔ": "Vob",
        "o": "Vob",
        "ɤ": "Vob",
        "u": "Vub",
        "ʊ": "Vub",
        "ɯ": "Vub",
    },
}
_CODES = {**_CONSONANTS, **_VOWELS, "D": "Gj", "B": "Gw"}
_PAIRS = (
    *(("tʃ", "ʧ"), ("dʒ", "ʤ"), ("ts", "ʦ"), ("dz", "ʣ"), ("eɪ", "e"), ("oʊ", "o"), ("əʊ", "o")),
    *(("aɪ", "aD"), ("aʊ", "aB"), ("ɔɪ", "ɔD"), ("ɡ", "g"), ("əl", "l"), ("ən", "n")),
)


_VOICES = {"en": "en-us", "zh": "cmn", "no": "nb"}
"""Where espeak-ng names a language of Whisper differently."""
_OTHER_LANGUAGE = re.compile(r"\([^)]*\)")


@lru_cache(maxsize=1)
def _espeak() -> ModuleType:
    """Load espeak-ng from piper-tts without its package, which brings 40 MB of ONNX Runtime."""
    package = importlib.util.find_spec("piper")
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parent
        for library in folder.glob("espeakbridge*"):
            spec = importlib.util.spec_from_file_location("espeakbridge", library)
            if library.suffix in (".so", ".pyd") and spec is not None and spec.loader is not None:
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                module.initialize(str(folder / "espeak-ng-data"))
                return module
    raise ApplianceError(
        "The pronunciation of the vocabulary needs piper-tts, which is not installed completely; "
        "install it again, or empty [asr.vocabulary]"
    )


def is_pronounceable(language: str) -> bool:
    """Return whether espeak-ng knows ``language`` (a code of Whisper's)."""
    try:
        _espeak().set_voice(_VOICES.get(language, language))
    except RuntimeError:
        return False
    return True


@lru_cache(maxsize=8192)
def sound(text: str, language: str = "en") -> str:
    """Return the feature code of how ``text`` sounds; empty for what nobody can say.

    Raises:
        ApplianceError: espeak-ng is missing or does not know ``language``.
    """
    speakable = "".join(c if c.isalnum() or c in "'’" else " " for c in text)
    if not speakable.strip():
        return ""
    if not is_pronounceable(language):
        raise ApplianceError(
            f"There is no pronunciation for the language {language!r}; empty [asr.vocabulary]"
        )
    clauses = _espeak().get_phonemes(speakable)
    spoken = _OTHER_LANGUAGE.sub("", "".join(clause[0] for clause in clauses))
    phonemes = unicodedata.normalize("NFD", spoken)
    phonemes = "".join(c for c in phonemes if c.isalpha() and c not in "ːˈˌ")
    for pair, single in _PAIRS:
        phonemes = phonemes.replace(pair, single)
    return "".join(_CODES.get(phoneme, "") for phoneme in phonemes)
