"""Several conversations at once: each its own, and nothing left of those who have gone."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
from turn_world import MS, SETTINGS, World

from appliance.audio.blocks import BLOCK_SAMPLES
from appliance.conductor.checkpoint import Checkpoint
from appliance.conductor.conversations import Conversations
from appliance.ipc.audio_ring import MIC_RING, SPEAKER_RING, mic_format, speaker_format
from appliance.ipc.sessions import OpenSessions
from appliance.messages import (
    Cancel,
    ChatMessage,
    DialogueWords,
    Floor,
    Generate,
    Message,
    MuteState,
    OpenSession,
    PiecePlayed,
    Prepare,
    Sessions,
    Span,
    Speak,
    SpeechPaused,
    Transcribe,
    TurnRecord,
)
from appliance.processes import (
    LOCAL_SESSION,
    PROCESSES,
    REMOTE_SESSIONS,
    mic_ring,
    speaker_ring,
)


def sessions(**opened_ns: int) -> Sessions:
    """Those of the slots, as in ``remote_1=5``."""
    return Sessions(
        open=tuple(OpenSession(name.replace("_", "."), at) for name, at in opened_ns.items())
    )


class House:
    """The conductor's pure half."""

    def __init__(self, settings=SETTINGS, **more) -> None:
        self.conversations = Conversations(settings, life=7, **more)
        self.now_ms = 1_000
        self.sent: list[Message] = []

    def opens(self, **opened_ns: int) -> list[Message]:
        return self.conversations.step(sessions(**opened_ns), self.now_ms * MS)


class Voice(World):
    """Who speaks in one session, and the processes that serve it."""

    def __init__(self, house: House, session_id: str) -> None:
        super().__init__()
        self.house, self.session_id = house, session_id

    def hear(self, message: Message) -> list[Message]:
        if hasattr(message, "session_id"):
            message = msgspec.structs.replace(message, session_id=self.session_id)
        out = self.house.conversations.step(message, self.now_ns)
        own = [m for m in out if m.session_id == self.session_id]
        # all that one conversation costs another: what can wait makes way for it
        assert all(isinstance(m, Cancel) for m in out if m not in own)
        self.house.sent += out
        self.sent += own
        return out

    def wait(self, ms: int) -> list[Message]:
        self.now_ms += ms
        out = self.house.conversations.tick(self.now_ns)
        self.house.sent += out
        self.sent += [m for m in out if m.session_id == self.session_id]
        return out

    def asks(self, question: str) -> None:
        self.says()
        self.transcript(question)


def test_names_of_rings():
    assert (mic_ring(LOCAL_SESSION), speaker_ring(LOCAL_SESSION)) == ("mic", "speaker")
    assert (mic_ring("remote.3"), speaker_ring("remote.3")) == ("mic.3", "speaker.3")
    assert len(REMOTE_SESSIONS) == 4
    assert set(PROCESSES["gateway"].writes_rings) == {mic_ring(s) for s in REMOTE_SESSIONS}
    assert set(PROCESSES["gateway"].reads_rings) == {speaker_ring(s) for s in REMOTE_SESSIONS}
    for wrong in ("remote.5", "remote", "", "../mic"):
        with pytest.raises(ValueError, match="no session"):
            mic_ring(wrong)


def test_a_session_from_afar_has_rings_of_the_local_format():
    assert dataclasses.replace(mic_format("remote.1"), name="mic") == MIC_RING
    assert dataclasses.replace(speaker_format("remote.2"), name="speaker") == SPEAKER_RING
    assert mic_format("remote.1").name == "mic.1"
    assert mic_format(LOCAL_SESSION).block_samples == BLOCK_SAMPLES


def test_who_came_and_who_went():
    known = OpenSessions()
    assert known.step(sessions(remote_1=5, remote_2=6)) == ([], ["remote.1", "remote.2"])
    assert known.step(sessions(remote_1=5, remote_2=6)) == ([], [])
    assert known.step(sessions(remote_1=9)) == (["remote.1", "remote.2"], ["remote.1"])
    assert "remote.1" in known
    assert "remote.2" not in known
    assert (known.opened_ns("remote.1"), known.opened_ns("remote.2")) == (9, 0)
    assert known.step(sessions(attic_1=3)) == (["remote.1"], [])


def test_two_sessions_are_answered_each_in_its_own_conversation():
    house = House()
    house.opens(remote_1=5, remote_2=6)
    local, one, two = (Voice(house, s) for s in (LOCAL_SESSION, "remote.1", "remote.2"))
    local.asks("what is the capital of Italy")
    one.asks("what is the capital of France")
    two.asks("what is the capital of Spain")
    for voice, city in ((two, "Madrid."), (local, "Rome."), (one, "Paris.")):
        voice.reply(city, last=True)
        utterance = voice.last(Speak).utterance_id
        voice.plays(utterance)
        voice.ends(utterance, city)
        record = voice.last(TurnRecord)
        assert (record.session_id, record.reply, record.outcome) == (
            voice.session_id,
            city,
            "answered",
        )
    one.asks("and of Portugal")
    assert [m.text for m in one.last(Generate).messages[-3:]] == [
        "what is the capital of France",
        "Paris.",
        "and of Portugal",
    ]


def test_no_two_sessions_name_anything_alike():
    house = House()
    house.opens(remote_1=5, remote_2=6)
    voices = [Voice(house, s) for s in (LOCAL_SESSION, "remote.1", "remote.2")]
    for voice in voices:
        voice.asks("hello")
        voice.reply("Hi.", last=True)
    ids = [
        {
            *(m.request_id for m in voice.sent if isinstance(m, Transcribe | Generate)),
            *(m.utterance_id for m in voice.sent if isinstance(m, Speak)),
            *(m.turn_id for m in voice.sent if isinstance(m, Floor) and m.turn_id),
        }
        for voice in voices
    ]
    assert all(len(own) >= 4 for own in ids)
    assert not ids[0] & ids[1] and not ids[0] & ids[2] and not ids[1] & ids[2]


def test_a_session_that_is_not_open_is_not_listened_to():
    house = House()
    stranger = Voice(house, "remote.1")
    assert stranger.started() == []
    assert house.conversations.taker("remote.1") is None


def test_a_session_that_goes_in_mid_turn_takes_all_of_it_along():
    house = House()
    house.opens(remote_1=5, remote_2=6)
    one, two = Voice(house, "remote.1"), Voice(house, "remote.2")
    one.speaks("Rome is the capital of Italy.")
    two.asks("what is the capital of Spain")
    out = house.opens(remote_2=6)
    assert Cancel(session_id="remote.1", id="*") in out
    (record,) = (m for m in out if isinstance(m, TurnRecord))
    assert (record.session_id, record.outcome, record.marks[-1]) == (
        "remote.1",
        "lost",
        "session_closed",
    )
    assert [m.state for m in out if isinstance(m, Floor)] == ["idle"]
    assert not any(isinstance(m, Prepare | DialogueWords | Generate | Speak) for m in out)
    two.reply("Madrid.", last=True)
    assert two.last(Speak).text == "Madrid."
    assert one.ends("x", "y") == []


def test_what_was_heard_before_it_went_is_recorded():
    house = House()
    house.opens(remote_1=5)
    one = Voice(house, "remote.1")
    utterance = one.speaks("Rome is the capital.")
    one.hear(PiecePlayed(session_id="", utterance_id=utterance, index=0))
    (record,) = (m for m in house.opens() if isinstance(m, TurnRecord))
    assert (record.outcome, record.reply) == ("interrupted", "Rome is the capital.")


def test_who_comes_next_into_the_slot_hears_nothing_of_who_was_there():
    house = House()
    house.opens(remote_1=5)
    before = Voice(house, "remote.1")
    before.whole_turn("my name is Ada", "Hello Ada.")
    house.opens(remote_1=99)
    after = Voice(house, "remote.1")
    after.asks("what is my name")
    assert after.last(Generate).messages == (
        *SETTINGS.opening,
        ChatMessage("user", "what is my name"),
    )
    assert {m.request_id for m in before.sent if isinstance(m, Transcribe)}.isdisjoint(
        m.request_id for m in after.sent if isinstance(m, Transcribe)
    )


def test_from_afar_no_wake_word_is_needed():
    house = House(dataclasses.replace(SETTINGS, wake_word=True))
    house.opens(remote_1=5)
    local, one = Voice(house, LOCAL_SESSION), Voice(house, "remote.1")
    local.started()
    one.started()
    assert local.count(Floor) == 0
    assert one.last(Floor).state == "listening"


def test_the_box_muted_leaves_the_browser_s_microphone_open():
    house = House()
    house.opens(remote_1=5)
    house.conversations.step(
        MuteState(session_id=LOCAL_SESSION, hardware=False, software=True), 1_000 * MS
    )
    local, one = Voice(house, LOCAL_SESSION), Voice(house, "remote.1")
    local.started()
    one.started()
    assert (local.count(Floor), one.count(Floor)) == (0, 1)


def test_whoever_waits_for_others_does_not_hear_that_it_failed():
    """Answers of other sessions are the proof that llm is at work."""
    house = House()
    house.opens(remote_1=5, remote_2=6)
    one, two = Voice(house, "remote.1"), Voice(house, "remote.2")
    one.asks("a question")
    two.asks("another question")
    for index in range(4):  # 40 s of one's answer, each piece sooner than the bound
        one.now_ms += 10_000
        two.now_ms = one.now_ms
        one.reply("A sentence.", index=index)
        two.wait(0)
    assert two.count(Speak) == 0
    two.wait(SETTINGS.llm_timeout_ms + 1)
    assert two.count(Speak) == 1  # then it says so


def test_others_excuse_a_wait_for_a_minute_only():
    house = House()
    house.opens(remote_1=5, remote_2=6)
    one, two = Voice(house, "remote.1"), Voice(house, "remote.2")
    one.asks("a question")
    two.asks("another question")
    for index in range(9):
        one.now_ms += 10_000
        two.now_ms = one.now_ms
        one.reply("A sentence.", index=index)
        two.wait(0)
    assert two.count(Speak) == 1


def test_a_killed_conductor_s_successor_answers_each_session_that_is_still_there():
    house = House()
    house.opens(remote_1=5, remote_2=6)
    voices = [Voice(house, s) for s in (LOCAL_SESSION, "remote.1", "remote.2")]
    for voice in voices:
        voice.says()
    owed = house.conversations.checkpoints(3_000 * MS)
    assert [(c.session_id, c.opened_ns) for c in owed] == [
        (LOCAL_SESSION, 0),
        ("remote.1", 5),
        ("remote.2", 6),
    ]
    later = House(owed=owed, now_ns=3_100 * MS)
    asked = later.conversations.tick(3_200 * MS)
    assert [m.session_id for m in asked if isinstance(m, Transcribe)] == [LOCAL_SESSION]
    assert later.opens(remote_1=5, remote_2=77) == []
    asked = later.conversations.tick(3_300 * MS)
    assert [m.session_id for m in asked if isinstance(m, Transcribe)] == ["remote.1"]
    assert later.conversations.tick(3_400 * MS) == []


def test_what_is_owed_is_forgotten_in_time():
    owed = (
        Checkpoint(
            session_id="remote.1",
            opened_ns=5,
            state="thinking",
            spans=(Span(1, 2, 3),),
            saved_ns=1_000 * MS,
        ),
    )
    house = House(owed=owed, now_ns=1_100 * MS)
    house.conversations.tick(11_001 * MS)
    house.opens(remote_1=5)
    assert house.conversations.tick(11_002 * MS) == []


def test_the_sooner_of_two_sessions_sets_when_to_wake():
    house = House()
    house.opens(remote_1=5)
    one = Voice(house, "remote.1")
    assert house.conversations.due_ns() is None
    start_ms = one.now_ms
    one.started("u1", start_ms)
    one.now_ms += 1_000
    one.speech(SpeechPaused, "u1", start_ms, start_ms + 900)
    one.sounds_finished("u1", start_ms + 900, 0.99)
    one.transcript("stop it")
    assert house.conversations.due_ns() is not None


def test_the_history_s_bound_holds_for_who_comes_later():
    house = House()
    house.conversations.use_history(0)
    house.opens(remote_1=5)
    one = Voice(house, "remote.1")
    one.whole_turn("my name is Ada", "Hello Ada.")
    one.asks("what is my name")
    assert len(one.last(Generate).messages) == len(SETTINGS.opening) + 1


def test_a_summary_makes_way_for_who_speaks_elsewhere():
    house = House()
    house.opens(remote_1=5)
    local, one = Voice(house, LOCAL_SESSION), Voice(house, "remote.1")
    for number in range(SETTINGS.history_turns + 1):
        local.whole_turn(f"question {number}", "An answer.", f"u{number}")
        local.now_ms += 1_000

    def generated() -> list[Generate]:
        return [m for m in house.sent if isinstance(m, Generate)]

    questions = len(generated())
    one.now_ms = local.now_ms
    one.started()
    local.wait(10_000)
    assert len(generated()) == questions  # somebody speaks: it is not begun
    one.now_ms = local.now_ms + 60_000
    one.wait(0)  # and was never heard again
    one.transcript("")
    one.wait(0)
    summary = generated()[questions]
    assert summary.session_id == LOCAL_SESSION
    one.now_ms += 5_000
    one.started("again")
    assert house.sent[-1] == Cancel(session_id=LOCAL_SESSION, id=summary.request_id)
