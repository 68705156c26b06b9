"""Several sessions at once: each has a loudspeaker of its own, and none starves another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tts_room import RATE_HZ, Room, cancel, loud_ms, near_end, release, speak

from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import RingReader, RingWriter
from appliance.ipc.segment import list_segments
from appliance.messages import (
    BlocksReady,
    Message,
    OpenSession,
    Pause,
    PiecePlayed,
    PlaybackDucked,
    PlaybackEnded,
    PlaybackStarted,
    Release,
    Restore,
    Ringing,
    Sessions,
    SpeechSettings,
)
from appliance.processes import REMOTE_SESSIONS, speaker_ring
from appliance.tts.outlet import volume_db
from appliance.tts.reference import stream_id
from appliance.tts.schedule import Want, most_urgent

ALL = ("local", *REMOTE_SESSIONS)


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    it = Room(tmp_path, monkeypatch)
    yield it
    it.close()


def heard(room: Room, session_id: str) -> np.ndarray:
    """What is in a session's ring, read as its announcements say."""
    reader = RingReader(room.prefix, speaker_ring(session_id))
    for message in room.said(BlocksReady):
        assert isinstance(message, BlocksReady)
        if message.ring == speaker_ring(session_id):
            reader.announced(message, rewind_blocks=1_000)
    blocks = reader.read()
    reader.close()
    return np.concatenate([np.zeros(0, np.float32), *(block.samples for block in blocks)])


def opened(*sessions: str, at_ns: int = 1) -> Sessions:
    return Sessions(open=tuple(OpenSession(session, at_ns) for session in sessions))


def volume(percent: int, session: str = "local", speed: float = 1.0) -> SpeechSettings:
    return SpeechSettings(session_id=session, volume_percent=percent, speed=speed)


# --- who is heard where --------------------------------------------------------------------------


def test_all_sessions_speak_at_once_and_each_hears_its_own(room: Room) -> None:
    for n, session in enumerate(ALL):
        room.send(speak(" ".join(["word"] * (n + 1)), session, session=session))
    room.settle()
    room.play(1_500)
    assert loud_ms(room.heard) == pytest.approx(200, rel=0.08)
    for n, session in enumerate(ALL):
        assert room.ended(session).session_id == session
        assert room.ended(session).played_text == " ".join(["word"] * (n + 1))
        assert room.ended(session).underruns == 0
        assert loud_ms(heard(room, session)) == pytest.approx(200 * (n + 1), rel=0.08)
    assert {m.session_id for m in room.said(PlaybackStarted)} == set(ALL)
    assert {m.session_id for m in room.said(PiecePlayed)} == set(ALL)


def test_a_remote_answer_is_in_the_ring_at_once_with_its_name_and_time(room: Room) -> None:
    room.send(speak("one two", session="remote.2"))
    room.settle()
    spoken_ns = room.now_ns
    room.play(10)
    reader = RingReader(room.prefix, "speaker.2")
    (message,) = room.said(BlocksReady)
    assert isinstance(message, BlocksReady)
    reader.announced(message, rewind_blocks=100)
    blocks = reader.read()
    reader.close()
    assert len(blocks) == 3, "a packet of 20 ms is there although 10 ms have passed"
    assert blocks[0].captured_ns == spoken_ns
    assert [block.position for block in blocks] == [0, 160, 320]
    assert {block.stream_id for block in blocks} == {stream_id("a")}
    assert np.abs(blocks[0].samples).max() > 0.01
    room.play(10)
    (started,) = room.said(PlaybackStarted)
    assert isinstance(started, PlaybackStarted)
    assert 0 <= started.audible_ns - spoken_ns < 10_000_000


def test_a_session_nobody_uses_costs_nothing(room: Room) -> None:
    room.send(volume(50, "remote.3"), near_end(room, active=True, session="remote.3"))
    room.send(cancel("*", "remote.3"))
    assert list_segments(room.prefix) == list_segments(room.prefix, "speaker")
    assert list(room.bus.rings) == ["speaker"]
    room.send(speak("one", session="remote.3"))
    assert set(room.bus.rings) == {"speaker", "speaker.3"}
    room.send(speak("one", "b", session="remote.4"))
    room.settle()
    room.play(400)
    lower, full = (np.abs(heard(room, f"remote.{n}")).max() for n in (3, 4))
    assert lower == pytest.approx(full * 10 ** (volume_db(50) / 20), rel=0.02), "it was noted"


def test_whoever_has_gone_is_silent_and_whoever_comes_next_hears_nothing_of_it(room: Room) -> None:
    room.send(opened("remote.1", "remote.2"))
    assert set(room.bus.rings) == {"speaker", "speaker.1", "speaker.2"}, "ready for the answer"
    room.send(volume(10, "remote.1"), speak("one two three", session="remote.1"))
    room.send(speak("one two three", "b", session="remote.2"))
    room.settle()
    room.play(100)
    room.send(opened("remote.2"))
    assert room.ended("a").interrupted
    assert set(room.bus.rings) == {"speaker", "speaker.2"}
    assert list_segments(room.prefix, "speaker.1") == []
    before = room.bus.rings["speaker.2"]
    room.send(opened("remote.1", "remote.2", at_ns=2))
    assert room.ended("b").interrupted, "its slot is somebody else's now"
    assert room.bus.rings["speaker.2"] != before
    room.send(speak("four", "c", session="remote.1"))
    room.settle()
    room.play(400)
    assert room.ended("c").played_text == "four"
    assert np.abs(heard(room, "remote.1")).max() > 0.05, "at its own volume"


def test_repeated_news_of_sessions_change_nothing(room: Room) -> None:
    for _ in range(3):
        room.send(opened("remote.1"))
    epoch = room.bus.rings["speaker.1"]
    room.send(speak("one two", session="remote.1"), opened("remote.1"))
    room.settle()
    room.play(600)
    assert room.bus.rings["speaker.1"] == epoch
    assert room.ended("a").played_text == "one two"


@pytest.mark.parametrize("session", ["remote.5", "", "speaker", "remote.1\x00", "../remote.1"])
def test_a_session_that_does_not_exist_is_told_so(room: Room, session: str) -> None:
    room.send(speak("one", session=session), volume(3, session), opened(session))
    room.settle()
    assert room.ended("a").error
    assert list(room.bus.rings) == ["speaker"]
    room.send(speak("two", "b"))
    room.settle()
    room.play(400)
    assert room.ended("b").played_text == "two"


def test_without_room_for_its_ring_a_session_is_told_and_the_others_go_on(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_session_id: str) -> RingWriter:
        raise ApplianceError("/dev/shm is too small")

    monkeypatch.setattr(room.service._outlets, "_open_ring", full)
    room.send(speak("one", session="remote.1"), speak("two", "b"))
    room.settle()
    room.play(400)
    assert room.ended("a").error
    assert room.ended("b").played_text == "two"


ACTIONS = [
    *("speak", "hold", "release", "cancel", "everything", "pause", "restore", "near", "far"),
    *("rings", "quiet", "volume", "come", "go", "play", "play"),
]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 4), st.integers(0, 9)), max_size=40)
)
def test_whatever_happens_each_utterance_ends_once_in_its_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, actions: list[tuple[str, int, int]]
) -> None:
    with contextlib.closing(Room(tmp_path, monkeypatch)) as room:
        spoken = act(room, actions)
        room.send(*(cancel("*", session) for session in ALL))
        room.settle()
        room.play(300)
        ends = [m for m in room.said(PlaybackEnded) if isinstance(m, PlaybackEnded)]
        assert sorted(end.utterance_id for end in ends) == sorted(spoken)
        assert all(end.session_id == spoken[end.utterance_id] for end in ends)
        assert np.abs(np.diff(room.heard)).max(initial=0.0) < 0.5
    assert list_segments(room.prefix) == []


def act(room: Room, actions: list[tuple[str, int, int]]) -> dict[str, str]:
    """Let it all happen; returns whose each utterance is."""
    spoken: dict[str, str] = {}
    for action, number, n in actions:
        session = ALL[number]
        utterance = f"{number}.{n}"
        if action in ("speak", "hold"):
            spoken[utterance] = session
        if action == "play":
            room.settle()
            room.play(30 * n + 10)
            continue
        present = REMOTE_SESSIONS[:number] if action == "come" else ()
        message: dict[str, Message] = {
            "speak": speak("one two", utterance, session=session),
            "hold": speak("one two", utterance, session=session, hold=True),
            "release": Release(session_id=session, utterance_id=utterance),
            "cancel": cancel(utterance, session),
            "everything": cancel("*", session),
            "pause": Pause(session_id=session, utterance_id=utterance),
            "restore": Restore(session_id=session, utterance_id=utterance),
            "near": near_end(room, active=True, session=session),
            "far": near_end(room, active=False, session=session),
            "rings": Ringing(session_id=session, ids=(utterance,), text=""),
            "quiet": Ringing(session_id=session, ids=(), text=""),
            "volume": volume(11 * n, session),
            "come": opened(*present, at_ns=n),
            "go": opened(),
        }
        room.send(message[action])
    return spoken


# --- interruption --------------------------------------------------------------------------------


def test_only_the_session_that_is_spoken_over_is_lowered(room: Room) -> None:
    room.send(
        speak("one two three four", "a"), speak("one two three four", "b", session="remote.1")
    )
    room.settle()
    room.play(200)
    room.send(near_end(room, active=True, session="remote.1"))
    local = room.play(200)
    assert np.abs(local[-320:]).max() > 0.03
    remote = heard(room, "remote.1")
    full, low = np.abs(remote[1_600:3_200]).max(), np.abs(remote[-320:]).max()
    assert low == pytest.approx(full * 10 ** (-18 / 20), rel=0.05)
    (ducked,) = room.said(PlaybackDucked)
    assert isinstance(ducked, PlaybackDucked)
    assert (ducked.session_id, ducked.utterance_id) == ("remote.1", "b")


def test_cancelling_everything_means_one_session(room: Room) -> None:
    room.send(speak("one two", "a"), speak("one two", "b", session="remote.1"))
    room.settle()
    room.play(100)
    room.send(cancel("*", "remote.1"))
    room.play(600)
    assert room.ended("b").interrupted
    assert room.ended("a").played_text == "one two"


def test_a_remote_answer_is_paused_goes_on_and_is_never_forgotten(room: Room) -> None:
    room.send(speak("one two three", session="remote.1"))
    room.settle()
    room.play(200)
    room.send(Pause(session_id="remote.1", utterance_id="a"))
    room.play(1_000)
    quiet = loud_ms(heard(room, "remote.1"))
    assert quiet < 300
    room.send(Restore(session_id="remote.1", utterance_id="a"))
    room.play(1_000)
    assert room.ended("a").played_text == "one two three"
    room.send(speak("four five", "b", session="remote.1"))
    room.settle()
    room.play(50)
    room.send(Pause(session_id="remote.1", utterance_id="b"))
    room.play(6_000)
    assert room.ended("b").played_text == "four five", "nobody said what was to become of it"


def test_a_held_remote_answer_waits_for_its_release(room: Room) -> None:
    room.send(speak("one", hold=True, session="remote.4"))
    room.settle()
    room.play(300)
    assert not len(heard(room, "remote.4"))
    room.send(release())
    room.play(300)
    assert room.ended("a").played_text == "one"


# --- volume --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("percent", "db"), [(100, 0), (50, -12.04), (10, -40), (1, -60), (0, -60)])
def test_half_the_volume_is_a_quarter_of_the_amplitude(percent: int, db: float) -> None:
    assert volume_db(percent) == pytest.approx(db, abs=0.01)


@given(st.integers(-1_000, 1_000))
def test_any_volume_is_a_level_and_more_is_never_less(percent: int) -> None:
    assert -60 <= volume_db(percent) <= volume_db(percent + 1) <= 0


def test_the_volume_moves_without_a_click_and_stays(room: Room) -> None:
    room.send(speak(" ".join(["word"] * 10)))
    room.settle()
    full = np.abs(room.play(300)).max()
    room.send(volume(50))
    assert np.abs(room.play(200)[-800:]).max() == pytest.approx(full / 4, rel=0.02)
    room.send(volume(100))
    assert np.abs(room.play(200)[-800:]).max() == pytest.approx(full, rel=0.02)
    steepest = full * 2 * np.pi * 400 / RATE_HZ
    assert np.abs(np.diff(room.heard)).max() < 1.1 * steepest
    room.send(volume(50))
    room.play(2_000)
    room.send(speak("one", "b"))
    room.settle()
    assert np.abs(room.play(150)).max() == pytest.approx(full / 4, rel=0.02)


def test_repeated_settings_do_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.send(volume(50))
    ramps: list[float] = []
    monkeypatch.setattr(room.device, "ramp_gain", lambda *args: ramps.append(args[0]))
    for _ in range(5):
        room.send(volume(50), volume(50, speed=1.5))
    assert ramps == []
    room.send(volume(60))
    assert len(ramps) == 1


def test_a_silent_answer_is_still_accounted_for(room: Room) -> None:
    room.send(volume(0))
    room.play(200)
    room.send(speak("one two"))
    room.settle()
    room.play(600)
    assert loud_ms(room.heard) == 0
    assert len(room.said(PlaybackStarted)) == 1
    assert room.ended("a").played_text == "one two"


def test_the_volume_and_the_reflex_add_up_and_only_the_reflex_is_told(room: Room) -> None:
    room.send(speak(" ".join(["word"] * 10)))
    room.settle()
    full = np.abs(room.play(300)).max()
    room.send(volume(50))
    room.play(200)
    assert not room.said(PlaybackDucked)
    room.send(near_end(room, active=True))
    room.play(50)
    room.send(volume(70))
    lowered = np.abs(room.play(200)[-320:]).max()
    assert lowered == pytest.approx(full * 0.49 * 10 ** (-18 / 20), rel=0.02)
    assert len(room.said(PlaybackDucked)) == 1


def test_an_utterance_knows_how_fast_it_is_to_be_said(room: Room) -> None:
    room.send(volume(100, speed=1.5), speak("one", "a"), volume(100, speed=0.8), speak("two", "b"))
    speeds = {u.id: u.speed for u in room.service._utterances.values()}
    assert speeds == {"a": 1.5, "b": 0.8}


# --- whose synthesis -----------------------------------------------------------------------------


def want(name: str, *, begun: bool = True, **figures: float) -> Want:
    figures = {"ahead_ms": 0.0} | figures
    return Want(name, held=False, begun=begun, **figures)


@pytest.mark.parametrize(
    ("wants", "first"),
    [
        # one that is heard, and one whose listener waits
        ([want("a", ahead_ms=400), want("b", begun=False, waited_ms=50)], "a"),
        ([want("a", ahead_ms=400), want("b", begun=False, waited_ms=150)], "b"),
        # starving, all of them: whoever was not served for longest
        ([want("a", waited_ms=10), want("b", waited_ms=90)], "b"),
        # what comes second in its session is not wanted yet
        ([want("a", ahead_ms=100), want("b", begun=False, before_ms=100)], "a"),
        ([want("a", ahead_ms=900), want("b", begun=False, before_ms=5_000)], "a"),
    ],
)
def test_the_first_to_fall_silent_goes_first(wants: list[Want], first: str) -> None:
    assert most_urgent(wants, 6_000.0) == first


@given(
    st.lists(st.integers(0, 3_000), min_size=2, max_size=5),
    st.floats(0.05, 3.0),
    st.integers(100, 500),
)
def test_no_session_starves(starts_ms: list[int], rtf: float, stretch_ms: int) -> None:
    """Everybody speaks without end, on a machine that is fast enough for all or for none."""
    begun: dict[int, float] = {}
    served_ms: dict[int, float] = {}
    now_ms = 0.0
    waits = dict.fromkeys(range(len(starts_ms)), 0.0)
    ahead = dict.fromkeys(range(len(starts_ms)), 0.0)
    while now_ms < 20_000:
        wants = [
            Want(
                str(n),
                False,
                n in begun,
                ahead[n],
                waited_ms=now_ms - served_ms.get(n, start_ms),
            )
            for n, start_ms in enumerate(starts_ms)
            if start_ms <= now_ms
        ]
        chosen = most_urgent(wants, 6_000.0)
        took_ms = stretch_ms * rtf if chosen is not None else 10.0
        now_ms += took_ms
        for n in ahead:
            ahead[n] = max(0.0, ahead[n] - took_ms)
        if chosen is not None:
            n = int(chosen)
            waits[n] = max(waits[n], now_ms - served_ms.get(n, starts_ms[n]))
            begun[n] = served_ms[n] = now_ms
            ahead[n] += stretch_ms
    turn_ms = len(starts_ms) * stretch_ms * rtf
    for n, start_ms in enumerate(starts_ms):
        if start_ms < 10_000:
            first_ms = begun.get(n)
            assert first_ms is not None
            last_ms = now_ms - served_ms[n]
            assert max(waits[n], last_ms) <= 6_500 + 2 * turn_ms
