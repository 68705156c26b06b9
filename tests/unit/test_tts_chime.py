"""The chime of a timer that rings: over the conversation, below every voice, silent at once."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tts_room import Device, Room, cancel, near_end, speak

from appliance.audio.devices import DeviceLost
from appliance.ipc.audio_ring import RingReader
from appliance.messages import (
    BlocksReady,
    Message,
    PiecePlayed,
    PlaybackDucked,
    PlaybackEnded,
    PlaybackStarted,
    Ringing,
    SpeechSettings,
)
from appliance.tts import output
from appliance.tts.chime import Chime

RATE_HZ = 16_000
BLOCK = 160
PERIOD_MS = 2_000
LOW = 10 ** (-18 / 20)


def ring(chime: Chime, ms: int, block: int = BLOCK) -> np.ndarray:
    silence = np.zeros(block, np.float32)
    count = chime.rate_hz * ms // 1000 // block
    blocks = [chime.mix(None, block) for _ in range(count)]
    return np.concatenate([silence if b is None else b for b in blocks])


def loudness(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def steepest(samples: np.ndarray) -> float:
    return float(np.abs(np.diff(samples)).max())


# --- the sound -----------------------------------------------------------------------------------


def test_it_touches_nothing_unless_it_rings() -> None:
    chime = Chime(RATE_HZ)
    block = np.ones(BLOCK, np.float32)
    assert chime.mix(block, BLOCK) is block
    assert chime.mix(None, BLOCK) is None
    assert block.min() == block.max() == 1


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
def test_it_is_two_notes_again_and_again(rate_hz: int) -> None:
    chime = Chime(rate_hz)
    chime.start(1.0)
    sound = ring(chime, 2 * PERIOD_MS, rate_hz // 100)
    period = rate_hz * PERIOD_MS // 1000
    np.testing.assert_array_equal(sound[:period], sound[period:])
    assert 0.2 < np.abs(sound).max() < 0.32
    assert np.abs(sound[: rate_hz // 20]).max() > 0.1, "it begins at once"
    assert np.abs(sound[period - rate_hz // 5 : period]).max() < 1e-3, "it draws breath"
    for start_ms, frequency_hz in ((20, 784), (210, 1046)):
        begin = rate_hz * start_ms // 1000
        spectrum = np.abs(np.fft.rfft(sound[begin : begin + rate_hz // 10], rate_hz))
        assert abs(int(spectrum.argmax()) - frequency_hz) < 12


@pytest.mark.parametrize("after_ms", [10, 50, 210, 400, 760])
def test_it_ends_within_15_ms_without_a_click(after_ms: int) -> None:
    chime = Chime(RATE_HZ)
    chime.start(1.0)
    before = ring(chime, after_ms)
    chime.stop()
    after = ring(chime, 200)
    assert not after[2 * BLOCK :].any()
    assert steepest(np.concatenate([before, after])) < 0.2
    assert not chime.is_sounding
    assert chime.mix(None, BLOCK) is None


def test_a_level_moves_without_a_click_down_faster_than_up() -> None:
    chime = Chime(RATE_HZ)
    chime.start(1.0)
    whole = [ring(chime, PERIOD_MS + 60)]
    chime.ramp(LOW)
    whole.append(ring(chime, 20))
    whole.append(ring(chime, 2 * PERIOD_MS - 80))
    np.testing.assert_allclose(whole[-1], LOW * np.roll(whole[0][: PERIOD_MS * 16], -80 * 16)[
        np.arange(len(whole[-1])) % (PERIOD_MS * 16)], atol=1e-6)  # fmt: skip
    chime.ramp(1.0)
    whole.append(ring(chime, 100))
    assert loudness(whole[-1]) < 0.5 * loudness(whole[0][:1600])
    whole.append(ring(chime, PERIOD_MS))
    assert np.abs(whole[-1]).max() == pytest.approx(np.abs(whole[0]).max())
    assert steepest(np.concatenate(whole)) < 1.05 * steepest(whole[0])


def test_it_gives_up_after_ten_minutes() -> None:
    chime = Chime(4_000)
    chime.start(1.0)
    sound = ring(chime, 602_000, 4_000)
    assert np.abs(sound[598 * 4_000 : 600 * 4_000]).max() > 0.2
    assert not sound[600 * 4_000 :].any()
    assert chime.mix(None, 4_000) is None
    chime.ramp(1.0)
    assert chime.mix(None, 4_000) is None
    chime.start(1.0)
    assert chime.mix(None, 4_000) is not None


@given(
    st.lists(
        st.tuples(st.sampled_from(["start", "ramp", "stop", "play"]), st.integers(1, 500)),
        max_size=30,
    )
)
def test_nothing_makes_it_click_or_exceed_full_scale(actions: list[tuple[str, int]]) -> None:
    chime = Chime(RATE_HZ)
    given_: list[np.ndarray] = [np.zeros(1, np.float32)]
    for action, n in actions:
        match action:
            case "start":
                chime.start(n / 500)
            case "ramp":
                chime.ramp(n / 500)
            case "stop":
                chime.stop()
            case _:
                block = chime.mix(None, n)
                given_.append(np.zeros(n, np.float32) if block is None else block)
    sound = np.concatenate(given_)
    assert steepest(sound) < 0.25 if len(sound) > 1 else True
    loud = chime.mix(np.ones(BLOCK, np.float32), BLOCK)
    assert loud is not None
    assert loud.max() <= 1


# --- in the process ------------------------------------------------------------------------------


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    it = Room(tmp_path, monkeypatch, gain_db=0.0)
    yield it
    it.close()


def rings(*ids: str, session: str = "local") -> Ringing:
    return Ringing(session_id=session, ids=ids, text="The pasta is done.")


def test_it_is_heard_at_once_and_stands_in_the_reference(room: Room) -> None:
    taken: list[np.ndarray] = []
    take = room.device.played
    room.device.played = lambda: [taken.append(b.samples) or b for b in take()]  # type: ignore
    room.play(50)
    room.send(rings("t1"))
    assert np.abs(room.play(50)).max() > 0.1
    room.play(PERIOD_MS)
    np.testing.assert_array_equal(np.concatenate(taken), room.heard[5 * BLOCK :])
    room.send(rings())
    after = room.play(100)
    assert not after[2 * BLOCK :].any()
    assert steepest(room.heard) < 0.2


def test_it_is_low_under_an_answer_and_the_answer_is_the_same_as_without_it(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def talk(it: Room) -> tuple[np.ndarray, list[Message]]:
        begin_ns = it.now_ns
        it.send(speak("one two", last=False), speak("three four five six", index=1))
        it.settle()
        sound = it.play(1_400)
        it.send(speak("seven eight nine", "b"))
        it.settle()
        sound = np.concatenate([sound, it.play(300)])
        it.send(cancel("b"))
        sound = np.concatenate([sound, it.play(300)])
        told = [
            {**{f: getattr(m, f) for f in m.__struct_fields__},
             **{f: getattr(m, f) - begin_ns for f in m.__struct_fields__ if f.endswith("_ns")}}
            for m in it.bus.published
            if isinstance(m, (PlaybackStarted, PlaybackEnded, PiecePlayed))
        ]  # fmt: skip
        return sound, told

    (tmp_path / "other").mkdir()
    other = Room(tmp_path / "other", monkeypatch, gain_db=0.0)
    other.prefix += "o-"
    plain, told_plain = talk(other)
    other.close()
    monkeypatch.setattr("time.monotonic_ns", lambda: room.now_ns)
    room.send(rings("t1"))
    full = np.abs(room.play(PERIOD_MS)).max()
    mixed, told = talk(room)
    assert told == told_plain
    chime = mixed - plain
    assert np.abs(chime[BLOCK * 2 : BLOCK * 100]).max() == pytest.approx(full * LOW, rel=0.02)
    assert np.abs(room.play(PERIOD_MS)).max() == pytest.approx(full, rel=0.02), "and loud again"


def test_it_is_low_while_someone_speaks_and_until_the_answer(room: Room) -> None:
    room.send(rings("t1"))
    full = np.abs(room.play(PERIOD_MS)).max()
    room.send(near_end(room, active=True))
    room.play(20)
    assert np.abs(room.play(PERIOD_MS)).max() == pytest.approx(full * LOW, rel=0.02)
    room.play(PERIOD_MS)
    room.send(near_end(room, active=False))
    assert np.abs(room.play(1_400)).max() < full * 2 * LOW
    room.play(500)
    assert np.abs(room.play(PERIOD_MS)).max() == pytest.approx(full, rel=0.02)
    assert not room.said(PlaybackDucked)


def test_a_near_end_that_never_ends_does_not_silence_it_for_ever(room: Room) -> None:
    room.send(near_end(room, active=True), rings("t1"))
    assert np.abs(room.play(9_900)).max() < 0.05, "from its first note on"
    room.play(600)
    assert np.abs(room.play(PERIOD_MS)).max() > 0.2


def test_repetition_changes_nothing_until_the_ids_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "Chime", functools.partial(Chime, longest_s=3.0))
    room = Room(tmp_path, monkeypatch)
    room.send(rings("t1"))
    sound = []
    for _ in range(6):
        sound.append(room.play(1_000))
        room.send(rings("t1"), rings("t1"))
    assert [bool(np.abs(part).max() > 0.003) for part in sound] == [True] * 3 + [False] * 3
    assert steepest(np.concatenate(sound)) < 0.2
    room.send(rings("t1", "t2"))
    assert np.abs(room.play(500)).max() > 0.05
    room.send(rings("t2", "t1"))
    room.play(2_500)
    assert not room.play(600)[2 * BLOCK :].any(), "in another order they are the same"
    room.close()


def test_an_alarm_is_heard_at_the_lowest_volume(room: Room) -> None:
    room.send(rings("t1"))
    full = np.abs(room.play(PERIOD_MS)).max()
    room.send(SpeechSettings(session_id="local", volume_percent=0))
    room.play(100)
    assert np.abs(room.play(PERIOD_MS)).max() == pytest.approx(full / 10, rel=0.02)
    room.send(SpeechSettings(session_id="local", volume_percent=50))
    room.play(300)
    assert np.abs(room.play(PERIOD_MS)).max() == pytest.approx(full / 4, rel=0.02)


def test_each_session_has_its_own(room: Room) -> None:
    room.send(rings(session="remote.1"))
    assert list(room.bus.rings) == ["speaker"], "silence needs no ring"
    room.send(rings("t1", session="remote.1"))
    assert not room.play(PERIOD_MS).any()
    reader = RingReader(room.prefix, "speaker.1")
    for message in room.said(BlocksReady):
        assert isinstance(message, BlocksReady)
        reader.announced(message, rewind_blocks=100)
    sound = np.concatenate([block.samples for block in reader.read()])
    reader.close()
    assert len(sound) == (PERIOD_MS // 10 + 2) * BLOCK, "without a gap, a packet ahead"
    assert np.abs(sound).max() > 0.2
    room.send(rings(session="remote.1"))
    room.play(300)
    far = room.service._outlets["remote.1"].output
    assert far.advance(room.now_ns) is None, "its clock rests"  # type: ignore[attr-defined]


def test_it_begins_when_the_loudspeaker_appears_and_again_when_it_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise OSError("no such device")

    monkeypatch.setattr(Device, "is_open", False)
    monkeypatch.setattr(Device, "start", lambda _self: absent())
    monkeypatch.setattr(Device, "reopen_if_due", lambda self: self.is_open)
    room = Room(tmp_path, monkeypatch)
    room.send(rings("t1"), SpeechSettings(session_id="local", volume_percent=80))
    monkeypatch.setattr(Device, "reopen_if_due", lambda _self: True)
    room.service.step()
    monkeypatch.setattr(Device, "is_open", True)
    assert np.abs(room.play(PERIOD_MS)).max() > 0.05

    def lost() -> list[object]:
        monkeypatch.setattr(Device, "is_open", False)
        monkeypatch.setattr(Device, "reports", output.Output.reports)
        raise DeviceLost("gone")

    monkeypatch.setattr(Device, "reports", lambda _self: lost())
    room.service.step()
    room.service.step()
    monkeypatch.setattr(Device, "is_open", True)
    assert np.abs(room.play(PERIOD_MS)).max() > 0.05
    room.close()
