"""The speech probabilities of a turn: collected, cut to the turn, drawn."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from appliance.admin.charts import HEIGHT, WIDTH
from appliance.admin.speech_trace import SpeechTraces, drawing, to_json
from appliance.admin.view import View
from appliance.messages import (
    SpeechEnded,
    SpeechPaused,
    SpeechResumed,
    SpeechScores,
    SpeechStarted,
    TurnRecord,
)

MS = 1_000_000
FRAME_MS = 32.0


def scores(values, end_ms, session="local"):
    return SpeechScores(
        session_id=session,
        scores=tuple(values),
        end_ns=int(end_ms * MS),
        frame_ms=FRAME_MS,
        start_threshold=0.5,
        stop_threshold=0.35,
    )


def record(turn_id="t1", speech_end_ms=3_000):
    return TurnRecord(
        session_id="local",
        turn_id=turn_id,
        source="speech",
        outcome="answered",
        transcript="the oak",
        reply="the oak",
        utterance_ids=(),
        speech_end_ns=speech_end_ms * MS,
        audible_ns=(speech_end_ms + 600) * MS,
        voice_to_voice_ms=600.0,
        contributions_ms={"llm_ttft": 600.0},
    )


def said(kind, **changes):
    return kind(session_id="local", utterance_id="u", spans=(), speech_start_ns=0, **changes)


def noted(*messages):
    view = View()
    for message, now_ms in messages:
        view.note(message, now_ms * MS, 5.0)
    return view


def test_a_turn_tells_its_speech_with_times_from_its_end():
    start = SpeechStarted(
        session_id="local", utterance_id="u", spans=(), speech_start_ns=2_000 * MS
    )
    view = noted(
        (start, 2_200),
        (said(SpeechPaused, speech_end_ns=3_000 * MS), 3_100),
        (scores([0] * 300 + [255] * 40, 3_100), 3_100),
        (scores([0] * 20, 3_740), 3_740),
        (said(SpeechEnded, speech_end_ns=3_000 * MS, decided_ns=3_740 * MS), 3_740),
        (record(), 5_000),
    )
    turn = view.turn("t1", words=False)
    speech = turn["speech"]
    first, second = speech["parts"]
    assert -1_500 <= first["at_ms"] < -1_500 + FRAME_MS, "half a second before the speech"
    assert first["values"][-40:] == [1.0] * 40
    assert second["at_ms"] == first["at_ms"] + FRAME_MS * len(first["values"]) == 100.0
    shown = drawing(speech, turn["events"])
    assert shown.speech_ms == 40 * FRAME_MS
    (pause,) = shown.pauses
    assert (pause.from_ms, pause.to_ms) == (0.0, 740.0)
    assert round(pause.x + pause.width) == WIDTH
    assert 0 < shown.start_y < shown.stop_y < HEIGHT
    json.dumps(turn, allow_nan=False)
    assert "oak" not in json.dumps(turn)


def test_the_next_turn_begins_with_nothing_and_sessions_are_apart():
    view = noted(
        (said(SpeechStarted), 0),
        (scores([255] * 10, 320), 320),
        (scores([9] * 10, 320, session="remote.1"), 320),
        (record("t1", 320), 900),
        (said(SpeechStarted), 1_000),
        (record("t2", 1_500), 2_000),
    )
    assert view.turn("t1", words=False)["speech"]["parts"][0]["values"] == [1.0] * 10
    assert view.turn("t2", words=False)["speech"] is None


def test_a_turn_without_speech_has_no_picture():
    view = noted((scores([255] * 10, 320), 320), (record(), 900))
    turn = view.turn("t1", words=False)
    assert turn["speech"] is None and drawing(turn["speech"], turn["events"]) is None


def test_a_vad_that_was_restarted_tells_again_and_that_counts():
    traces = SpeechTraces()
    for message in (scores([1] * 10, 320), scores([2] * 10, 640), scores([3] * 20, 640)):
        traces.note(message)
    assert [set(message.scores) for message in traces.take("local")] == [{3}]


def test_clocks_that_do_not_quite_agree_cost_nothing():
    traces = SpeechTraces()
    for number in range(1, 5):
        traces.note(scores([number] * 10, 320 * number - 7 * number))
    assert [set(message.scores) for message in traces.take("local")] == [{1}, {2}, {3}, {4}]


def test_whatever_comes_little_is_kept():
    traces = SpeechTraces()
    for number in range(1_000):
        traces.note(scores([0], 32 * number))
        traces.note(scores([0], 0, session=f"s{number}"))
    assert len(traces._told) == 32
    for number in range(100):
        traces.note(scores([0] * 100, 3_200 * number))
    assert sum(len(part.scores) for part in traces.take("local")) == 1_000


def test_a_pause_ends_where_speech_goes_on():
    kinds = (
        *(("speech_started", -2_000), ("speech_paused", -1_500), ("speech_resumed", -1_200)),
        *(("speech_paused", -900), ("speech_ended", -100), ("speech_started", 50)),
    )
    events = [{"kind": kind, "at_ms": float(at), "value": None} for kind, at in kinds]
    events.append({"kind": "end_of_turn", "at_ms": 100.0, "value": 0.9})
    speech = to_json([scores([255] * 100, 1_200)], -2_000 * MS, 0)
    shown = drawing(speech, events)
    assert [(p.from_ms, p.to_ms) for p in shown.pauses] == [(-1_500, -1_200), (-900, 50)]
    (x,) = shown.decided_x
    assert 0 < x < WIDTH


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 255), max_size=40), st.integers(0, 5_000))),
    st.lists(
        st.tuples(
            st.sampled_from(["speech_paused", "speech_resumed", "speech_ended", "end_of_turn"]),
            st.floats(-1e6, 1e6),
        )
    ),
    st.integers(-10_000, 10_000),
)
def test_every_picture_stays_in_its_frame(told, events, start_ms):
    traces = SpeechTraces()
    for values, end_ms in told:
        traces.note(scores(values, end_ms))
    speech = to_json(traces.take("local"), start_ms * MS, 0)
    ordered = sorted(events, key=lambda event: event[1])
    shown = drawing(speech, [{"kind": kind, "at_ms": at, "value": 0.5} for kind, at in ordered])
    if shown is None:
        assert speech is None
        return
    for points in shown.curves:
        for point in points.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH and 0 < y < HEIGHT
    assert all(0 <= pause.x <= pause.x + pause.width <= WIDTH + 0.1 for pause in shown.pauses)


def test_resumed_speech_is_no_pause_at_all():
    view = noted(
        (said(SpeechStarted), 0),
        (said(SpeechPaused, speech_end_ns=200 * MS), 300),
        (scores([200] * 9, 300), 300),
        (said(SpeechResumed), 400),
        (scores([200] * 10, 620), 620),
        (record("t1", 620), 900),
    )
    turn = view.turn("t1", words=True)
    (pause,) = drawing(turn["speech"], turn["events"]).pauses
    assert pause.to_ms - pause.from_ms == 200
