"""Who is in the conversation, by bearing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from turn_world import MS, SESSION, World

from appliance.capture.aside import AsideGauge
from appliance.capture.doa import Direction
from appliance.capture.look import LookDirection
from appliance.conductor.bearings import Bearings
from appliance.messages import (
    Company,
    Generate,
    Span,
    Speak,
    SpeechAside,
    SpeechContinued,
    SpeechEnded,
    SpeechPaused,
    SpeechStarted,
    Transcribe,
)

SECOND = 1_000_000_000
USER_DEG, TELEVISION_DEG = 37.0, 150.0


def with_partner() -> Bearings:
    bearings = Bearings()
    bearings.answered(USER_DEG, SECOND)
    return bearings


def test_who_listens_to_an_answer_is_the_partner() -> None:
    bearings = Bearings()
    assert bearings.partner_deg(0) is None
    bearings.answered(None, SECOND)
    assert bearings.partner_deg(SECOND) is None, "one microphone knows no bearings"
    bearings.answered(USER_DEG, SECOND)
    assert bearings.is_partner(USER_DEG - 20, 2 * SECOND)
    assert not bearings.is_partner(TELEVISION_DEG, 2 * SECOND)
    assert not bearings.is_partner(None, 2 * SECOND)
    assert bearings.partner_deg(700 * SECOND) is None, "that was long ago"


def test_somebody_else_is_the_partner_after_two_exchanges() -> None:
    bearings = with_partner()
    bearings.answered(TELEVISION_DEG, 2 * SECOND)
    assert bearings.partner_deg(2 * SECOND) == USER_DEG
    bearings.answered(TELEVISION_DEG + 5, 3 * SECOND)
    assert bearings.partner_deg(3 * SECOND) == TELEVISION_DEG + 5


def test_a_word_aside_makes_no_television_but_a_sentence_does_until_it_is_off() -> None:
    bearings = with_partner()
    bearings.aside(TELEVISION_DEG, 500, 2 * SECOND, learn=True)
    assert bearings.background_deg(2 * SECOND) == ()
    bearings.aside(TELEVISION_DEG + 4, 600, 3 * SECOND, learn=True)
    bearings.aside(TELEVISION_DEG - 4, 600, 4 * SECOND, learn=True)
    assert bearings.background_deg(5 * SECOND) == (TELEVISION_DEG,)
    assert bearings.is_background(TELEVISION_DEG + 10, 5 * SECOND)
    assert bearings.background_deg(25 * SECOND) == ()


def test_what_talks_beside_the_conversation_never_becomes_its_partner() -> None:
    bearings = with_partner()
    bearings.aside(TELEVISION_DEG, 2_000, 2 * SECOND, learn=True)
    for second in (3, 4, 5):
        bearings.answered(TELEVISION_DEG, second * SECOND)
    assert bearings.partner_deg(6 * SECOND) == USER_DEG


def test_the_partner_is_never_the_background() -> None:
    bearings = with_partner()
    bearings.aside(USER_DEG + 10, 5_000, 2 * SECOND, learn=True)
    bearings.aside(TELEVISION_DEG, 5_000, 2 * SECOND, learn=False)
    assert bearings.background_deg(2 * SECOND) == ()


def test_the_gauge_follows_who_is_heard() -> None:
    gauge = AsideGauge()
    assert not gauge.aside
    for _ in range(15):
        gauge.process(-0.7)
    assert gauge.aside
    for _ in range(100):
        gauge.process(None)
    assert gauge.aside, "silence says nothing about who was heard"
    for _ in range(15):
        gauge.process(-0.1)
    assert not gauge.aside, "the partner speaks too"
    gauge.reset()
    assert not gauge.aside


def test_a_look_that_is_kept_follows_the_partner_alone() -> None:
    look = LookDirection()
    look.keep(USER_DEG)
    for _ in range(200):
        assert look.process(Direction(TELEVISION_DEG, 1)) == USER_DEG
    for _ in range(200):
        moved = look.process(Direction(USER_DEG + 10, 1))
    assert moved == pytest.approx(USER_DEG + 10, abs=1)
    look.keep(None)
    for _ in range(200):
        moved = look.process(Direction(TELEVISION_DEG, 1))
    assert moved == TELEVISION_DEG


# --- in the conversation -----------------------------------------------------------------------


def from_bearing(
    world: World, kind: type, name: str, start_ms: int, direction_deg: float, **more: object
) -> None:
    world.hear(
        kind(
            session_id=SESSION,
            utterance_id=name,
            spans=(Span(1, start_ms // 10, world.now_ms // 10),),
            speech_start_ns=start_ms * MS,
            direction_deg=direction_deg,
            **more,
        )
    )


def exchange(world: World, name: str, direction_deg: float) -> None:
    """A question from there, and its answer, in silence."""
    start = world.now_ms
    world.now_ms += 300
    from_bearing(world, SpeechStarted, name, start, direction_deg)
    world.now_ms += 900
    end = (start + 1_000) * MS
    from_bearing(world, SpeechPaused, name, start, direction_deg, speech_end_ns=end)
    world.now_ms += 700
    from_bearing(
        world, SpeechEnded, name, start, direction_deg, speech_end_ns=end, decided_ns=world.now_ns
    )
    world.transcript("why is the sky blue")
    world.reply("Because of the air.", last=True)
    answer = world.last(Speak).utterance_id
    world.plays(answer)
    world.now_ms += 2_000
    world.ends(answer, "Because of the air.")


def test_while_the_partner_has_the_floor_the_others_are_told_apart() -> None:
    world = World()
    exchange(world, "u1", USER_DEG)
    told = world.last(Company)
    assert (told.partner_deg, told.engaged) == (USER_DEG, False)
    start = world.now_ms
    world.now_ms += 300
    from_bearing(world, SpeechStarted, "u2", start, USER_DEG + 3)
    assert world.last(Company).engaged
    for _ in range(3):
        world.hear(SpeechAside(session_id=SESSION, direction_deg=TELEVISION_DEG, voiced_ms=512))
    assert world.last(Company).background_deg == (TELEVISION_DEG,)


def test_somebody_elses_turn_is_not_the_partners() -> None:
    world = World()
    exchange(world, "u1", USER_DEG)
    world.now_ms += 1_000
    start = world.now_ms
    from_bearing(world, SpeechStarted, "u2", start, TELEVISION_DEG)
    assert world.taker.state == "listening", "nobody had the floor: anybody may take it"
    assert not world.last(Company).engaged


def test_the_partner_takes_over_from_whoever_talks_without_end() -> None:
    world = World()
    exchange(world, "u1", USER_DEG)
    world.now_ms += 1_000
    start = world.now_ms
    world.now_ms += 300
    from_bearing(world, SpeechStarted, "tv", start, TELEVISION_DEG)
    world.now_ms += 2_700
    from_bearing(world, SpeechContinued, "tv", start, USER_DEG)
    assert world.last(Company).engaged
    world.now_ms += 1_000
    end = world.now_ms - 100
    from_bearing(world, SpeechPaused, "tv", start, TELEVISION_DEG, speech_end_ns=end * MS)
    asked = world.last(Transcribe)
    assert asked.spans[0].first * 10 >= start + 2_000, "what the television said is left out"
    assert asked.spans[0].last * 10 >= end
    world.transcript("how many legs has a spider")
    assert world.last(Generate).messages[-1].text == "how many legs has a spider"


def test_without_directions_nothing_is_ever_told() -> None:
    world = World()
    for name in ("u1", "u2"):
        world.whole_turn(name=name)
    assert world.count(Company) == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["start", "continue", "pause", "end", "aside", "words", "exchange"]),
            st.sampled_from(["a", "b"]),
            st.sampled_from([USER_DEG, TELEVISION_DEG, 260.0]),
            st.integers(20, 1_500),
        ),
        max_size=30,
    )
)
def test_whoever_talks_from_wherever_the_floor_is_free_in_the_end(
    events: list[tuple[str, str, float, int]],
) -> None:
    world = World()
    exchange(world, "u1", USER_DEG)
    start = world.now_ms
    for kind, name, direction, wait_ms in events:
        world.wait(wait_ms)
        end = {"speech_end_ns": (world.now_ms - 15) * MS}
        match kind:
            case "start":
                from_bearing(world, SpeechStarted, name, start, direction)
            case "continue":
                from_bearing(world, SpeechContinued, name, start, direction)
            case "pause":
                from_bearing(world, SpeechPaused, name, start, direction, **end)
            case "end":
                decided = {"decided_ns": world.now_ns}
                from_bearing(world, SpeechEnded, name, start, direction, **end, **decided)
            case "aside":
                world.hear(SpeechAside(session_id=SESSION, direction_deg=direction, voiced_ms=512))
            case "words" if world.count(Transcribe):
                world.transcript("how many legs has a spider")
            case "exchange" if world.taker.state == "idle":
                start = world.now_ms
                exchange(world, f"u{start}", direction)
    for _ in range(400):
        world.wait(500)
        if world.taker.state == "idle":
            break
        for speak in [m for m in world.sent if isinstance(m, Speak)][-1:]:
            world.plays(speak.utterance_id)
            world.ends(speak.utterance_id, speak.text)
    assert world.taker.state == "idle"
    assert not world.last(Company).engaged
