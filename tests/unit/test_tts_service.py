"""The tts process without a device and a voice: what it plays, and when, and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tts_room import BLOCK, RATE_HZ, Room, cancel, loud_ms, near_end, release, speak

from appliance.messages import (
    Floor,
    FloorState,
    PiecePlayed,
    PlaybackDucked,
    PlaybackStarted,
    Restore,
)
from appliance.tts import service as service_module


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    it = Room(tmp_path, monkeypatch)
    yield it
    it.close()


def test_what_is_said_is_played_and_told(room: Room) -> None:
    room.send(speak("one two three", last=False), speak("four five.", index=1))
    room.settle()
    room.play(1500)
    assert loud_ms(room.heard) == pytest.approx(1000, abs=60)
    assert [m.index for m in room.said(PiecePlayed)] == [0, 1]
    (started,) = room.said(PlaybackStarted)
    assert started.audible_ns > started.synthesised_ns > 0
    assert room.ended("a").played_text == "one two three four five."
    assert not room.ended("a").interrupted


# --- held ----------------------------------------------------------------------------------------


def test_nothing_held_is_heard_before_its_release_and_all_of_it_after(room: Room) -> None:
    room.send(speak("one two", last=False, hold=True))
    room.settle()
    assert loud_ms(room.play(300)) == 0
    room.send(release())
    assert loud_ms(room.play(20)) > 8, "ready audio starts with the next block"
    room.send(speak("three", index=1, hold=True))
    room.settle()
    room.play(1000)
    assert room.ended("a").played_text == "one two three"
    assert room.ended("a").underruns == 0


def test_a_release_while_synthesis_runs_or_before_it_works(room: Room) -> None:
    room.voice.gate.clear()
    room.send(speak("one", hold=True), release())
    room.voice.gate.set()
    room.settle()
    room.send(release("b"), speak("two", "b", hold=True))
    room.settle()
    room.play(1000)
    assert room.ended("a").played_text == "one"
    assert room.ended("b").played_text == "two"


def test_a_cancelled_hold_is_dropped_at_once_and_never_heard(room: Room) -> None:
    room.send(speak("one two", hold=True))
    room.settle()
    room.send(cancel("a"))
    assert room.ended("a").played_text == ""
    assert room.ended("a").interrupted
    room.send(release(), speak("late", index=1))
    room.settle()
    assert loud_ms(room.play(500)) == 0


def test_a_hold_that_nobody_releases_stands_in_nobodys_way_and_ends(room: Room) -> None:
    room.send(speak("one", hold=True))
    room.settle()
    room.send(speak("two", "b"))
    room.settle()
    room.play(500)
    assert room.ended("b").played_text == "two"
    room.now_ns += 31_000_000_000
    room.send(release("nobody"))
    assert room.ended("a").interrupted


def test_a_released_answer_waits_for_what_is_being_said(room: Room) -> None:
    room.send(speak("one", hold=True), speak("two three", "b"))
    room.settle()
    room.play(100)
    room.send(release())
    room.play(1000)
    assert [m.utterance_id for m in room.said(PlaybackStarted)] == ["b", "a"]
    assert room.ended("b").ended_ns <= room.said(PlaybackStarted)[1].audible_ns


def test_a_synthesis_that_is_cancelled_does_not_delay_the_next(room: Room) -> None:
    room.voice.gate.clear()
    room.send(speak("one two three four", hold=True))
    room.send(cancel("a"))
    assert room.voice.interruptions == 1
    room.send(speak("five", "b"))
    while room.service._synthesiser._in_hand is not None and (
        room.service._synthesiser._in_hand.id == "a"
    ):
        room.service.step()
    room.voice.gate.set()
    room.settle()
    assert room.voice.spoken == ["five"]


def test_the_rest_of_a_held_answer_does_not_delay_another_ones_beginning(room: Room) -> None:
    room.voice.gate.clear()
    room.send(speak("one two three four five six", hold=True))
    room.send(speak("seven", "b"))
    room.voice.gate.set()
    room.settle()
    assert room.voice.spoken.index("seven") == 1


def test_synthesis_keeps_a_bounded_distance_from_playback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(tmp_path, monkeypatch, ahead_ms=1000.0)
    room.send(speak(" ".join(["word"] * 20)))
    room.settle()
    assert len(room.voice.spoken) == 6  # the first one over the bound, and what is held back
    for _ in range(500):
        room.play(10)
        room.settle()
    assert len(room.voice.spoken) == 20
    assert room.ended("a").underruns == 0
    room.close()


# --- interruption --------------------------------------------------------------------------------


@pytest.mark.parametrize("after_ms", [20, 130, 190, 400, 770, 1010])
def test_after_a_cancel_only_what_was_played_counts(room: Room, after_ms: int) -> None:
    text = "one two three four five six"
    room.send(speak(text))
    room.settle()
    room.play(after_ms // 10 * 10)
    room.send(cancel("a"))
    tail = room.play(300)
    assert loud_ms(tail) <= 10
    assert np.abs(np.diff(tail)).max() < 0.05, "no click"
    words = room.ended("a").played_text.split()
    assert words == text.split()[: len(words)]
    played = (after_ms + 8) / 200
    assert played - 1 <= len(words) <= played + 0.3


def test_an_answer_can_follow_a_cancel_at_once(room: Room) -> None:
    room.send(speak("one two three"))
    room.settle()
    room.play(100)
    room.send(cancel("*"), speak("four", "b"))
    room.settle()
    room.play(500)
    assert room.ended("a").interrupted
    assert room.ended("b").played_text == "four"


def test_a_voice_that_breaks_ends_the_utterance_with_what_was_heard(room: Room) -> None:
    room.send(speak("one two", last=False))
    room.settle()
    room.play(300)
    room.send(speak("crash", index=1, last=False))
    room.settle()
    room.play(100)
    assert room.ended("a").error
    assert room.ended("a").played_text == "one"
    room.send(speak("three", "b"))
    room.settle()
    room.play(500)
    assert room.ended("b").played_text == "three"


@pytest.mark.parametrize("text", ["", "   ", "…", "😀", "\x00\x1b", "\ufeff"])
def test_nothing_to_say_ends_at_once(room: Room, text: str) -> None:
    room.send(speak(text))
    room.settle()
    assert room.ended("a").played_text == ""
    room.send(speak("two", "b"))
    room.settle()
    room.play(400)
    assert room.ended("b").played_text == "two"


# --- the reflex ----------------------------------------------------------------------------------

DUCK = 10 ** (-18 / 20)


def level(samples: np.ndarray) -> float:
    return float(np.abs(samples[-BLOCK * 2 :]).max())


def test_playback_is_lowered_within_20_ms_and_goes_on(room: Room) -> None:
    room.send(speak("one two three four five"))
    room.settle()
    full = level(room.play(200))
    onset_ns = room.now_ns
    room.send(near_end(room, active=True))
    assert level(room.play(40)) == pytest.approx(full * DUCK, rel=0.02)
    assert np.abs(np.diff(room.heard)).max() < 1.2 * full * 2 * np.pi * 400 / RATE_HZ
    room.play(100)
    (ducked,) = room.said(PlaybackDucked)
    assert ducked.onset_ns == onset_ns
    assert 0 < ducked.audible_ns - onset_ns <= 60_000_000
    room.send(Restore(session_id="local", utterance_id="a"))
    assert level(room.play(90)) == pytest.approx(full, rel=0.02)
    room.play(1000)
    sounding = np.flatnonzero(np.abs(room.heard) > 0.001)
    assert (sounding[-1] - sounding[0]) / 16 == pytest.approx(1000, abs=15), "no gap"
    assert room.ended("a").underruns == 0


def test_the_reference_of_the_echo_canceller_is_lowered_too(room: Room) -> None:
    taken: list[np.ndarray] = []
    take = room.device.played
    room.device.played = lambda: [taken.append(b.samples) or b for b in take()]  # type: ignore
    room.send(speak("one two three"))
    room.settle()
    room.play(100)
    room.send(near_end(room, active=True))
    room.play(200)
    reference = np.concatenate(taken)
    np.testing.assert_array_equal(reference, room.heard[: len(reference)])
    assert level(reference) < 0.02


def test_it_comes_back_by_itself_when_the_near_end_is_quiet(room: Room) -> None:
    room.send(speak(" ".join(["word"] * 10)))
    room.settle()
    full = level(room.play(100))
    room.send(near_end(room, active=True))
    room.play(100)
    room.send(near_end(room, active=False))
    assert level(room.play(350)) < 0.2 * full
    assert level(room.play(150)) == pytest.approx(full, rel=0.02)


def test_it_comes_back_although_the_near_end_never_ends(room: Room) -> None:
    room.send(speak(" ".join(["word"] * 25)))
    room.settle()
    full = level(room.play(100))
    room.send(near_end(room, active=True))
    assert level(room.play(2900)) < 0.2 * full
    assert level(room.play(300)) == pytest.approx(full, rel=0.02)
    assert max(room.bus.timeouts_ms) <= 500


def test_an_answer_over_speech_begins_lowered_and_a_silent_room_knows_no_reflex(room: Room) -> None:
    room.send(near_end(room, active=True), speak("one"))
    room.settle()
    lowered = level(room.play(100))
    room.play(500)
    room.send(near_end(room, active=False), speak("one", "b"))
    room.settle()
    assert level(room.play(100)) == pytest.approx(lowered / DUCK, rel=0.05)


def test_after_an_interruption_the_next_answer_has_its_full_level(room: Room) -> None:
    room.send(speak("one two three"))
    room.settle()
    full = level(room.play(100))
    room.send(near_end(room, active=True))
    room.play(50)
    room.send(cancel("a"))
    room.play(100)
    room.send(near_end(room, active=False), speak("four", "b"))
    room.settle()
    assert level(room.play(100)) == pytest.approx(full, rel=0.02)


def test_without_a_reflex_nothing_is_lowered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(tmp_path, monkeypatch, duck_db=0.0)
    room.send(speak("one two"))
    room.settle()
    full = level(room.play(100))
    room.send(near_end(room, active=True))
    assert level(room.play(100)) == pytest.approx(full, rel=0.02)
    assert not room.said(PlaybackDucked)
    room.close()


# --- at rest -------------------------------------------------------------------------------------


def test_prepared_texts_are_ready_and_give_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(tmp_path, monkeypatch, prepared=["One moment."])  # type: ignore[arg-type]
    room.service.step()
    assert room.voice.spoken == []
    room.now_ns += service_module._PREPARE_AFTER_NS + 1
    room.voice.gate.clear()
    room.service.step()
    room.send(speak("hello"))
    assert room.voice.interruptions == 1
    room.voice.gate.set()
    room.settle()
    assert room.voice.spoken == ["hello"]
    room.play(400)  # and at rest again
    room.settle()
    assert room.voice.spoken == ["hello", "One", "moment."]
    room.voice.gate.clear()
    room.send(speak("One moment.", "b"))
    room.settle()
    room.play(600)
    assert room.ended("b").played_text == "One moment."
    room.voice.gate.set()
    room.close()


def test_nothing_is_prepared_while_somebody_speaks_or_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def floor(state: FloorState, session_id: str) -> Floor:
        return Floor(session_id=session_id, state=state, turn_id="t", since_ns=0)

    room = Room(tmp_path, monkeypatch, prepared=["One moment."])  # type: ignore[arg-type]
    room.now_ns += service_module._PREPARE_AFTER_NS + 1
    room.voice.gate.clear()
    room.service.step()
    room.send(floor("listening", "local"))
    assert room.voice.interruptions == 1
    room.voice.gate.set()
    room.settle()
    room.send(floor("listening", "a"), floor("thinking", "local"), floor("idle", "local"))
    room.settle()
    assert room.voice.spoken == []
    room.send(floor("idle", "a"))
    room.settle()
    assert room.voice.spoken == ["One", "moment."]
    room.close()


def test_at_rest_the_loop_sleeps(room: Room) -> None:
    room.send(speak("one", hold=True))
    room.settle()
    room.send(near_end(room, active=True))
    room.bus.timeouts_ms.clear()
    room.service.step()
    assert room.bus.timeouts_ms == [500]
