"""The turn state machine: what it asks for, when it speaks, what it does when others die."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from turn_world import MS, SESSION, SETTINGS, World

from appliance.conductor import phrases
from appliance.conductor.ledger import SPEECH_STAGES, Ledger
from appliance.conductor.turn import merge_spans
from appliance.conductor.turns import (
    LISTENING_BOUND_MS,
    MOST_RETRIES,
)
from appliance.messages import (
    Cancel,
    Floor,
    Generate,
    PiecePlayed,
    Prepare,
    Release,
    ReplyChunk,
    Span,
    Speak,
    SpeechEnded,
    SpeechPaused,
    SpeechResumed,
    Transcribe,
    TurnRecord,
)


@pytest.fixture
def world() -> World:
    return World()


def test_a_plain_turn_goes_through_every_state_and_its_parts_sum(world: World) -> None:
    world.whole_turn("what is two and two", "Four.")
    states = [m.state for m in world.sent if isinstance(m, Floor)]
    assert states == ["listening", "thinking", "speaking", "idle"]
    record = world.last(TurnRecord)
    assert (record.transcript, record.reply, record.outcome) == (
        "what is two and two",
        "Four.",
        "answered",
    )
    assert sum(record.contributions_ms.values()) == pytest.approx(record.voice_to_voice_ms)
    assert record.voice_to_voice_ms == pytest.approx(
        (record.audible_ns - record.speech_end_ns) / MS
    )
    assert list(record.contributions_ms) == [
        stage for stage in SPEECH_STAGES if stage not in ("understanding", "action")
    ]


def test_latency_is_counted_from_the_talkers_end_and_silence_from_the_end_of_all_sound(
    world: World,
) -> None:
    start_ms = world.now_ms
    world.now_ms += 300
    world.started("u1", start_ms)
    world.now_ms += 900
    said = {"talker_end_ns": (start_ms + 910) * MS}
    world.speech(SpeechPaused, "u1", start_ms, start_ms + 1_000, **said)
    world.now_ms += 600
    decided_ns = (start_ms + 1_800) * MS
    world.speech(SpeechEnded, "u1", start_ms, start_ms + 1_000, decided_ns=decided_ns, **said)
    world.transcript("hello")
    world.reply("Hi.", last=True)
    world.plays(world.last(Speak).utterance_id)
    world.now_ms += 500
    world.ends(world.last(Speak).utterance_id, "Hi.")
    record = world.last(TurnRecord)
    assert record.speech_end_ns == (start_ms + 1_000) * MS
    assert record.talker_end_ns == (start_ms + 910) * MS
    assert record.contributions_ms["end_of_turn_delay"] == pytest.approx(890)
    assert sum(record.contributions_ms.values()) == pytest.approx(record.voice_to_voice_ms)
    assert record.voice_to_voice_ms == pytest.approx(
        (record.audible_ns - record.talker_end_ns) / MS
    )


def test_transcription_starts_in_the_pause_and_is_not_repeated_at_the_end(world: World) -> None:
    world.says()
    assert world.count(Transcribe) == 1
    world.transcript("hello")
    assert world.count(Generate) == 1


def test_a_transcript_that_came_in_the_pause_answers_at_once_when_the_turn_ends(
    world: World,
) -> None:
    start = world.now_ms
    world.now_ms += 300
    world.started("u1", start)
    world.now_ms += 900
    world.speech(SpeechPaused, "u1", start, start + 1_000)
    world.transcript("hello")
    assert world.count(Generate) == 1, "llm works ahead in the pause"
    world.reply("Hi.")
    world.reply("There.", index=1, last=True)
    assert all(m.hold for m in world.sent if isinstance(m, Speak)), "the turn is not over yet"
    assert world.count(Release) == 0
    world.now_ms += 600
    out = world.speech(SpeechEnded, "u1", start, start + 1_000, decided_ns=world.now_ns)
    assert world.count(Generate) == 1
    assert [m.text for m in world.sent if isinstance(m, Speak)] == ["Hi.", "There."]
    assert any(isinstance(m, Release) for m in out)


def test_what_was_written_ahead_is_forgotten_when_the_user_goes_on(world: World) -> None:
    start = world.now_ms
    world.now_ms += 1_300
    world.started("u1", start)
    world.speech(SpeechPaused, "u1", start, start + 1_000)
    world.transcript("hello")
    ahead = world.last(Generate)
    world.reply("Hi.")
    world.hear(
        SpeechResumed(
            session_id=SESSION,
            utterance_id="u1",
            spans=(Span(1, start // 10, world.now_ms // 10),),
            speech_start_ns=start * MS,
        )
    )
    cancelled = {m.id for m in world.sent if isinstance(m, Cancel)}
    assert cancelled == {ahead.request_id, world.last(Speak).utterance_id}
    world.now_ms += 1_500
    world.speech(SpeechEnded, "u1", start, start + 2_000, decided_ns=world.now_ns)
    world.transcript("hello world")
    assert world.last(Generate).messages[-1].text == "hello world"
    assert world.count(Release) == 0
    world.reply("Hi you.", last=True)
    dropped, wanted = (m for m in world.sent if isinstance(m, Speak))
    assert (dropped.text, dropped.hold) == ("Hi.", True)
    assert (wanted.text, wanted.hold) == ("Hi you.", False)
    assert wanted.utterance_id != dropped.utterance_id


def test_resuming_voids_the_early_transcription(world: World) -> None:
    start = world.now_ms
    world.now_ms += 1_300
    world.started("u1", start)
    world.speech(SpeechPaused, "u1", start, start + 1_000)
    early = world.last(Transcribe)
    world.hear(
        SpeechResumed(
            session_id=SESSION,
            utterance_id="u1",
            spans=(Span(1, start // 10, world.now_ms // 10),),
            speech_start_ns=start * MS,
        )
    )
    assert world.last(Cancel).id == early.request_id
    world.now_ms += 1_500
    world.speech(SpeechEnded, "u1", start, start + 2_000, decided_ns=world.now_ns)
    assert world.last(Transcribe).request_id != early.request_id
    assert world.last(Transcribe).spans[0].last == (start + 2_000) // 10


def test_going_on_before_the_answer_is_heard_reopens_the_turn(world: World) -> None:
    world.says("u1")
    world.transcript("what is the capital")
    generate = world.last(Generate)
    world.reply("The capital")
    assert world.count(Speak) == 1
    world.says("u2")
    cancelled = {m.id for m in world.sent if isinstance(m, Cancel)}
    assert {generate.request_id, world.last(Speak).utterance_id} <= cancelled
    world.transcript("of Italy")
    assert world.last(Generate).messages[-1].text == "what is the capital of Italy"
    assert world.count(TurnRecord) == 0


def test_a_long_turn_in_segments_is_one_question(world: World) -> None:
    start = world.now_ms
    world.now_ms += 28_000
    world.started("u1", start)
    world.speech(SpeechEnded, "u1", start, world.now_ms, decided_ns=world.now_ns, more_follows=True)
    world.transcript("first half")
    assert world.count(Speak) == 0
    world.says("u2")
    world.transcript("second half")
    assert world.last(Generate).messages[-1].text == "first half second half"


def test_nothing_said_returns_to_idle_without_a_word(world: World) -> None:
    world.says()
    world.transcript("")
    assert world.last(TurnRecord).outcome == "nothing_said"
    assert world.count(Speak) == 0
    assert world.taker.state == "idle"


def test_without_barge_in_speech_while_it_speaks_is_not_a_turn() -> None:
    world = World(replace(SETTINGS, barge_in=False))
    world.says("u1")
    world.transcript("hello")
    world.reply("Hi.", last=True)
    utterance = world.last(Speak).utterance_id
    world.plays(utterance)
    world.says("echo")
    world.ends(utterance, "Hi.")
    assert world.count(TurnRecord) == 1
    world.speech(SpeechEnded, "echo", 0, world.now_ms, decided_ns=world.now_ns)
    assert world.taker.state == "idle"
    world.now_ms += 200
    world.says("u2")
    assert world.taker.state == "thinking", "after draining it listens again"


def test_a_vad_that_tells_again_does_not_ask_again(world: World) -> None:
    world.whole_turn(name="u1")
    records = world.count(TurnRecord)
    world.speech(SpeechEnded, "u1", 1_000, 2_000, decided_ns=world.now_ns)
    world.speech(SpeechPaused, "u1-found-elsewhere", 1_100, 2_000)
    assert world.taker.state == "idle"
    assert world.count(TurnRecord) == records


def test_history_holds_what_was_played(world: World) -> None:
    world.says("u1")
    world.transcript("tell me a story")
    world.reply("Once upon a time there was a king.", last=True)
    utterance = world.last(Speak).utterance_id
    world.plays(utterance)
    world.ends(utterance, "Once upon", interrupted=True)
    world.now_ms += 400
    world.says("u2")
    world.transcript("go on")
    assert [m.text for m in world.last(Generate).messages] == [
        "Be brief.",
        "tell me a story",
        "Once upon",
        "go on",
    ]


def test_history_is_bounded_and_its_beginning_rarely_moves() -> None:
    world = World(replace(SETTINGS, history_turns=4))
    beginnings = []
    for turn in range(12):
        world.whole_turn(f"question {turn}", name=f"u{turn}")
        world.now_ms += 400
        messages = world.last(Generate).messages
        assert messages[-1].text == f"question {turn}"
        assert min(turn, 2) <= len(messages[1:-1]) / 2 <= 4
        beginnings.append(messages[1].text)
    moves = sum(a != b for a, b in itertools.pairwise(beginnings))
    assert moves == 3, "llm has read what follows an unchanged beginning already"


def test_llm_reads_the_conversation_between_questions(world: World) -> None:
    world.says("u1")
    world.transcript("where is it")
    world.reply("In Rome.", last=True)
    ahead = [(m.role, m.text) for m in world.last(Prepare).messages]
    assert ahead[-2:] == [("user", "where is it"), ("assistant", "In Rome.")]
    utterance = world.last(Speak).utterance_id
    world.plays(utterance)
    world.ends(utterance, "In", interrupted=True)
    assert world.last(Prepare).messages[-1].text == "In", "only what was played is remembered"


@pytest.mark.parametrize("process", ["asr", "llm", "tts"])
def test_a_restarted_process_is_asked_again_and_nothing_is_lost(world: World, process: str) -> None:
    for name in ("asr", "llm", "tts"):
        world.beat(name, life=1)
    world.says()
    if process != "asr":
        world.transcript("hello")
    if process == "tts":
        world.reply("One. ", index=0)
        world.reply("Two.", index=1, last=True)
        utterance = world.last(Speak).utterance_id
        world.plays(utterance)
        world.hear(PiecePlayed(session_id=SESSION, utterance_id=utterance, index=0))
    owed = {"asr": Transcribe, "llm": Generate, "tts": Speak}[process]
    request = world.last(owed)
    world.beat(process, life=2, state="starting")
    out = world.beat(process, life=2)
    assert request in out
    spoken = [m.text for m in world.sent if isinstance(m, Speak)]
    if process == "tts":
        assert phrases.WHERE_WAS_I in spoken
        assert [m.text for m in out if isinstance(m, Speak)] == [phrases.WHERE_WAS_I, "Two."]
        world.ends(request.utterance_id, "Two.")
        assert world.last(TurnRecord).reply == "One. Two."
    else:
        assert phrases.ONE_MOMENT in spoken
        if process == "asr":
            world.transcript("hello")
        world.reply("Hi.", last=True)
        world.ends(world.last(Speak).utterance_id, "Hi.")
        assert world.last(TurnRecord).outcome == "answered"
    assert f"{process}_restarted" in world.last(TurnRecord).marks


def test_a_restarted_llm_does_not_say_twice_what_tts_has(world: World) -> None:
    for name in ("asr", "llm", "tts"):
        world.beat(name, life=1)
    world.says()
    world.transcript("hello")
    world.reply("One.", index=0)
    world.plays(world.last(Speak).utterance_id)
    world.beat("llm", life=2)
    world.reply("One.", index=0)
    world.reply("Two.", index=1, last=True)
    assert [m.text for m in world.sent if isinstance(m, Speak)] == ["One.", "Two."]


@pytest.mark.parametrize("process", ["asr", "llm", "tts"])
@pytest.mark.parametrize("state", ["starting", "ready"])
def test_a_turn_that_kills_whoever_takes_it_ends(world: World, process: str, state: str) -> None:
    for name in ("asr", "llm", "tts"):
        world.beat(name, life=1)
    world.says()
    if process != "asr":
        world.transcript("hello")
    if process == "tts":
        world.reply("One.", last=True)
    for life in range(2, 3 + MOST_RETRIES):
        world.beat(process, life=life, state="starting")
        world.beat(process, life=life, state=state)
    if process != "tts":
        apology = [m for m in world.sent if isinstance(m, Speak)][-1]
        assert apology.text in (phrases.CANNOT_HEAR, phrases.CANNOT_THINK)
        world.ends(apology.utterance_id, apology.text)
    assert world.last(TurnRecord).outcome == "lost"
    assert f"{process}_failed" in world.last(TurnRecord).marks
    assert world.taker.state == "idle"


def test_a_tts_that_died_after_the_last_word_leaves_an_answered_turn(world: World) -> None:
    world.beat("tts", life=1)
    world.says()
    world.transcript("hello")
    world.reply("Hi.", last=True)
    utterance = world.last(Speak).utterance_id
    world.plays(utterance)
    world.hear(PiecePlayed(session_id=SESSION, utterance_id=utterance, index=0))
    world.beat("tts", life=2)
    record = world.last(TurnRecord)
    assert (record.outcome, record.reply) == ("answered", "Hi.")
    assert world.last(Speak).text == "Hi."


@pytest.mark.parametrize("text", ["One. Two is more! " * 50, "word " * 800, "", " ", "Hm"])
def test_a_text_is_said_in_pieces_that_a_voice_can_take(world: World, text: str) -> None:
    """One job per piece: a voice that needs too long for its job is taken for hung."""
    turn_id, out = world.taker.say(text, world.now_ns)
    pieces = [m for m in out if isinstance(m, Speak)]
    assert turn_id
    assert " ".join(piece.text for piece in pieces).split() == text.split()
    assert max(len(piece.text) for piece in pieces) <= 400
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert [piece.index for piece in pieces] == list(range(len(pieces)))


def test_an_answer_that_is_cut_frees_the_llm(world: World) -> None:
    world.says()
    world.transcript("hello")
    world.reply("One.", index=0)
    generate = world.last(Generate)
    world.ends(world.last(Speak).utterance_id, "", error="voice broken")
    assert generate.request_id in [m.id for m in world.sent if isinstance(m, Cancel)]


def test_a_restart_of_an_idle_appliance_says_nothing(world: World) -> None:
    for life in (1, 2):
        for name in ("asr", "llm", "tts"):
            world.beat(name, life=life)
    assert world.sent == []


@pytest.mark.parametrize(
    ("stage", "bound_ms", "phrase"),
    [
        ("asr", SETTINGS.asr_timeout_ms, phrases.CANNOT_HEAR),
        ("llm", SETTINGS.llm_timeout_ms, phrases.CANNOT_THINK),
    ],
)
def test_waiting_is_bounded_and_ends_with_a_spoken_word(
    world: World, stage: str, bound_ms: int, phrase: str
) -> None:
    world.says()
    if stage == "llm":
        world.transcript("hello")
    assert world.wait(bound_ms - 1) == []
    world.wait(2)
    speak = world.last(Speak)
    assert speak.text == phrase
    world.plays(speak.utterance_id)
    world.ends(speak.utterance_id, phrase)
    assert world.last(TurnRecord).outcome == "lost"
    assert world.taker.state == "idle"


def test_a_silent_tts_does_not_hold_the_floor_for_ever(world: World) -> None:
    world.says()
    world.transcript("hello")
    world.reply("Hi.", last=True)
    world.wait(SETTINGS.tts_timeout_ms + 1_000)
    assert world.last(TurnRecord).outcome == "lost"
    assert world.last(Cancel).id == world.last(Speak).utterance_id
    assert world.taker.state == "idle"


def test_listening_is_bounded(world: World) -> None:
    world.started()
    world.wait(LISTENING_BOUND_MS + 1)
    assert world.count(Transcribe) == 1, "what was heard before the microphone went is answered"
    world.transcript("hello")
    assert world.count(Generate) == 1
    world.reply("Hi.", last=True)
    world.ends(world.last(Speak).utterance_id, "Hi.")
    assert world.last(TurnRecord).outcome == "answered"


def test_errors_of_asr_and_llm_are_spoken(world: World) -> None:
    world.says()
    world.transcript("", error="broken")
    assert world.last(Speak).text == phrases.CANNOT_HEAR
    world.ends(world.last(Speak).utterance_id, phrases.CANNOT_HEAR)
    world.now_ms += 400
    world.says("u2")
    world.transcript("hello")
    world.reply("", error="broken", last=True)
    assert world.last(Speak).text == phrases.CANNOT_THINK


def test_an_empty_answer_is_not_silence(world: World) -> None:
    world.says()
    world.transcript("hello")
    world.reply("", last=True)
    assert world.last(Speak).text == phrases.NO_ANSWER


def test_text_questions_take_the_floor_only_when_it_is_free(world: World) -> None:
    turn_id, out = world.taker.ask("hello", world.now_ns)
    assert turn_id
    assert any(isinstance(m, Generate) for m in out)
    assert world.taker.ask("again", world.now_ns) == ("", [])
    assert world.taker.say("text", world.now_ns) == ("", [])


def test_a_successor_takes_up_the_turn_from_the_names_of_its_audio(world: World) -> None:
    world.says()
    spans = world.taker.open_spans()
    assert spans
    successor = World()
    successor.sent += successor.taker.recover(spans, successor.now_ns)
    assert successor.last(Transcribe).spans == spans
    assert successor.last(Speak).text == phrases.ONE_MOMENT
    successor.transcript("hello")
    successor.reply("Hi.", last=True)
    successor.ends(successor.last(Speak).utterance_id, "Hi.")
    record = successor.last(TurnRecord)
    assert (record.outcome, record.reply) == ("answered", "Hi.")


def test_spans_merge_per_life() -> None:
    merged = merge_spans((Span(1, 5, 9), Span(2, 0, 3)), (Span(2, 2, 8),))
    assert merged == (Span(1, 5, 9), Span(2, 0, 8))


def test_a_ledger_never_counts_time_twice_nor_backwards() -> None:
    ledger = Ledger(1_000 * MS)
    ledger.mark("end_of_turn_delay", 1_800 * MS)
    ledger.mark("transcription_delay", 1_500 * MS)  # was done ahead
    ledger.mark("llm_ttft", 2_000 * MS)
    ledger.mark("llm_ttft", 9_000 * MS)  # only the first counts
    assert ledger.contributions_ms() == {
        "end_of_turn_delay": 800,
        "transcription_delay": 0,
        "llm_ttft": 200,
    }
    assert ledger.total_ms() == 1_000
    with pytest.raises(ValueError, match="unknown stage"):
        ledger.mark("nonsense", 1)


@given(st.dictionaries(st.sampled_from(SPEECH_STAGES), st.integers(0, 10**10)))
def test_contributions_always_sum_to_the_total(marks: dict[str, int]) -> None:
    ledger = Ledger(0)
    for stage, end_ns in marks.items():
        ledger.mark(stage, end_ns)
    assert sum(ledger.contributions_ms().values()) == pytest.approx(ledger.total_ms())


EVENTS = st.lists(
    st.sampled_from(
        ["says", "started", "transcript", "reply", "last", "plays", "ends", "wait", "kill", "ask"]
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(EVENTS)
def test_whatever_happens_it_returns_to_idle(events: list[str]) -> None:
    world = World()
    lives = itertools.count(1)
    names = itertools.count(1)
    for process in ("asr", "llm", "tts"):
        world.beat(process, life=next(lives))
    for event in events:
        world.now_ms += 37
        match event:
            case "says":
                world.says(f"u{next(names)}")
            case "started":
                world.started(f"u{next(names)}")
            case "transcript" if world.count(Transcribe):
                world.transcript("hello")
            case "reply" if world.count(Generate):
                world.reply("Hi.", index=world.count(ReplyChunk))
            case "last" if world.count(Generate):
                world.reply("Bye.", index=99, last=True)
            case "plays" if world.count(Speak):
                world.plays(world.last(Speak).utterance_id)
            case "ends" if world.count(Speak):
                world.ends(world.last(Speak).utterance_id, "Hi.")
            case "wait":
                world.wait(5_000)
            case "kill":
                for process in ("asr", "llm", "tts"):
                    world.beat(process, life=next(lives))
            case "ask":
                world.sent += world.taker.ask("hello", world.now_ns)[1]
    for _ in range(60):
        world.wait(5_000)
    assert world.taker.state == "idle"
    closed = [m.turn_id for m in world.sent if isinstance(m, TurnRecord)]
    assert len(closed) == len(set(closed)), "a turn ends once"
