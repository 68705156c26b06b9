"""Each language has its voice, and each voice others behind it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tts_room import Room, cancel, speak

from appliance.config import PROJECT_ROOT, Config, TtsConfig
from appliance.messages import SpeechSettings
from appliance.models.manifest import MANIFEST_NAME
from appliance.models.store import models_dir
from appliance.tts.cache import CachedEngine
from appliance.tts.engine import Rendered, TtsEngine, create_tts_engine
from appliance.tts.languages import LanguagesEngine, by_voice, espeak_name, other_language
from appliance.tts.main import load_voices

JOE = "piper-en_US-joe-medium"
HUAYAN = "piper-zh_CN-huayan-medium"
needs_espeak = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng not installed")


def never() -> bool:
    return False


class Voice:
    """Gives 100 samples for a text."""

    def __init__(self, language: str, rate_hz: int = 1000) -> None:
        self.language, self.rate_hz = language, rate_hz
        self.problem = ""
        self.said: list[tuple[str, float]] = []
        self.interrupted = self.closed = False

    def synthesise(
        self, text: str, *, cancelled: Callable[[], bool], speed: float = 1.0
    ) -> Iterator[Rendered]:
        self.said.append((text, speed))
        yield Rendered(np.zeros(100, np.float32), True, word_ends=(100,))

    def interrupt(self) -> None:
        self.interrupted = True

    def close(self) -> None:
        self.closed = True


def say(engine: TtsEngine, text: str, speed: float = 1.0) -> list[Rendered]:
    return list(engine.synthesise(text, cancelled=never, speed=speed))


@pytest.mark.parametrize(
    ("tag", "name"),
    [("zh-CN", "cmn"), ("en-US", "en-us"), ("en-GB", "en-gb"), ("en-AU", "en"), ("de-DE", "de")],
)
def test_languages_have_names_for_espeak(tag: str, name: str) -> None:
    assert espeak_name(tag) == name


def test_what_a_voice_cannot_say_is_for_the_other() -> None:
    assert by_voice("It is 你好。 Yes.", "en-us") == [
        ("en-us", "It is "),
        ("cmn", "你好。 "),
        ("en-us", "Yes."),
    ]
    assert by_voice("Ja, das ist 你好", "de")[-1] == ("cmn", "你好")
    assert by_voice("你好。 Nice to meet you.", "cmn") == [
        ("cmn", "你好。 "),
        ("en-us", "Nice to meet you."),
    ]
    assert by_voice("5", "cmn") == [("cmn", "5")]
    assert by_voice("日本 and more words here", "ja") == [("ja", "日本 and more words here")]


@given(st.text(max_size=60), st.sampled_from(["en-us", "cmn", "de", "ja", ""]))
def test_nothing_is_lost_between_voices(text: str, language: str) -> None:
    parts = by_voice(text, language)
    assert "".join(part for _, part in parts) == text
    assert {voice for voice, _ in parts} <= {language, other_language(language)}


def test_the_other_voice_is_loaded_when_it_is_needed() -> None:
    english, chinese = Voice("en-us"), Voice("cmn", rate_hz=500)
    loaded = []
    engine = LanguagesEngine(english, lambda language: loaded.append(language) or chinese)  # type: ignore[func-returns-value]
    say(engine, "Hello, 5.")
    assert loaded == []
    (rendered,) = say(engine, "你好。", speed=1.5)
    say(engine, "再见。")
    assert loaded == ["cmn"]
    assert rendered.samples.size == 200, "at the first voice's rate"
    assert rendered.word_ends == (200,)
    assert english.said == [("Hello, 5.", 1.0)]
    assert chinese.said == [("你好。", 1.5), ("再见。", 1.0)]
    assert (engine.rate_hz, engine.language, engine.problem) == (1000, "en-us", "")
    chinese.problem = "gone"
    assert engine.problem == "gone"
    english.problem = "gone too"
    assert engine.problem == "gone too"
    engine.interrupt()
    engine.close()
    assert english.interrupted
    assert chinese.interrupted
    assert english.closed
    assert chinese.closed


def test_a_chinese_voice_has_an_english_one_beside_it() -> None:
    english, chinese = Voice("en-us"), Voice("cmn")
    engine = LanguagesEngine(chinese, lambda _: english)
    say(engine, "你好 Tom。")
    say(engine, "五")
    say(engine, "5")
    say(engine, "Nice to meet you.")
    assert [text for text, _ in chinese.said] == ["你好 Tom。", "五", "5"]
    assert [text for text, _ in english.said] == ["Nice to meet you."]


def test_each_speed_is_remembered_on_its_own() -> None:
    voice = Voice("en-us")
    engine = CachedEngine(voice)
    assert engine.prepare("One moment.", cancelled=never)
    for speed in (1.0, 1.5, 1.0, 1.5):
        say(engine, "One moment.", speed)
        say(engine, "Yes.", speed)
    assert sorted(voice.said) == [
        ("One moment.", 1.0),
        ("One moment.", 1.5),
        ("Yes.", 1.0),
        ("Yes.", 1.5),
    ]
    assert engine.knows("Yes.", 1.5)
    assert not engine.knows("Yes.", 0.8)


@pytest.mark.parametrize(
    "kind",
    [pytest.param("piper", marks=pytest.mark.models), pytest.param("espeak", marks=needs_espeak)],
)
def test_the_speed_is_heard(kind: str) -> None:
    path = models_dir() / JOE / "en_US-joe-medium.onnx"
    engine = create_tts_engine(kind, model_path=path, model_name=JOE)  # type: ignore[arg-type]
    text = "The quick brown fox jumped over the lazy dog, and went home."
    slow, own, fast = (
        sum(rendered.samples.size for rendered in say(engine, text, speed))
        for speed in (0.5, 1.0, 2.0)
    )
    # Piper's shortest sounds and its pauses stay as long as they are
    assert 1.3 < slow / own < 2.4
    assert 1.3 < own / fast < 2.4


# --- in the process ----------------------------------------------------------------------------


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    room = Room(tmp_path, monkeypatch)
    yield room
    room.close()


def test_whoever_speaks_for_the_wanted_voice_is_told(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(
        room.bus, "ready", lambda state="ready", detail="": told.append((state, detail))
    )
    room.service.step()
    assert told == []
    room.voice.problem = "the voice broke"
    for _ in range(3):
        room.service.step()
    assert told == [("degraded", "the voice broke")]
    room.service.open()  # the loudspeaker was lost and is there again
    assert told[1:] == [("degraded", "the voice broke")]
    room.voice.problem = ""
    room.service.step()
    assert told[2:] == [("ready", "virtual")]


def test_the_wanted_speed_reaches_the_voice(room: Room) -> None:
    speeds = []
    synthesise = room.voice.synthesise

    def recorded(text: str, *, cancelled: Callable[[], bool], speed: float = 1.0) -> object:
        speeds.append(speed)
        return synthesise(text, cancelled=cancelled)

    room.voice.synthesise = recorded  # type: ignore[method-assign, assignment]
    for name, speed in (("a", 0.8), ("b", 1.5)):
        room.send(SpeechSettings(session_id="local", speed=speed), speak("One two.", name))
        room.settle()
    assert speeds == [0.8, 1.5]


def test_of_an_interrupted_chinese_sentence_the_beginning_was_said(room: Room) -> None:
    text = "一二三四五六七八九十"
    room.send(speak(text))
    room.settle()
    room.play(130)  # of the 200 ms that it takes
    room.send(cancel("a"))
    room.play(300)
    played = room.ended("a").played_text
    assert text.startswith(played)
    assert 3 <= len(played) <= 8


# --- with what is in the models folder ---------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A models folder with nothing in it but the manifest."""
    shutil.copy(PROJECT_ROOT / "models" / MANIFEST_NAME, tmp_path)
    return tmp_path


def voices(root: Path, **settings: str) -> TtsEngine:
    return load_voices(Config(models_dir=str(root), tts=TtsConfig.model_validate(settings)))


@needs_espeak
def test_without_its_file_a_voice_is_replaced_by_espeak(root: Path) -> None:
    engine = voices(root)
    assert JOE in engine.problem
    assert "missing" in engine.problem
    assert engine.language == "en-us"
    assert say(engine, "Hello.")[0].samples.size > 5000


def test_without_any_program_there_are_tones(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(root))
    engine = voices(root)
    assert "espeak-ng is not installed" in engine.problem
    assert engine.language == ""
    for text in ("Hello.", "你好。"):
        assert say(engine, text)[0].word_ends == ()


@needs_espeak
def test_chinese_is_spoken_by_espeak_where_there_is_no_voice(root: Path) -> None:
    engine = voices(root, engine="espeak-ng")
    assert say(engine, "你好，今天天气很好。")[0].samples.size > 10_000
    assert engine.problem == "", "nothing else was wanted"


@pytest.mark.models
@needs_espeak
def test_chinese_is_spoken_by_its_own_voice_where_that_is(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (JOE, HUAYAN):  # what is not hashed here may be the same voice
        (root / name).mkdir()
        for file in (PROJECT_ROOT / "models" / JOE).iterdir():
            (root / name / file.name).symlink_to(file)
    monkeypatch.setattr("appliance.tts.main.ensure_model", lambda name, root: root / name)
    loaded = []

    def create(kind: str, **options: object) -> TtsEngine:
        loaded.append((kind, options.get("model_name")))
        return create_tts_engine(kind, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("appliance.tts.main.create_tts_engine", create)
    engine = voices(root)
    say(engine, "Hello.")
    assert loaded == [("piper", JOE)]
    say(engine, "你好。")
    assert loaded == [("piper", JOE), ("piper", HUAYAN)]


@needs_espeak
def test_a_damaged_chinese_voice_is_replaced_and_told(root: Path) -> None:
    (root / HUAYAN).mkdir()
    engine = voices(root, model=HUAYAN)
    assert engine.language == "cmn", "espeak speaks the language that is configured"
    engine = voices(root)
    say(engine, "你好。")
    assert engine.problem
