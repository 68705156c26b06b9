"""The panel's picture of the appliance: pure, bounded, and without words for whoever may not."""

from __future__ import annotations

import asyncio
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.admin.broadcast import Broadcaster
from appliance.admin.charts import HEIGHT, WIDTH, scores, trend, waterfall
from appliance.admin.latency import TOTAL, percentile
from appliance.admin.render import FOLDER
from appliance.admin.texts import LANGUAGES, choose, dictionary
from appliance.admin.timeline import EVENT_KINDS, event_of
from appliance.admin.view import EVENTS_KEPT, TURNS_KEPT, View
from appliance.conductor.ledger import SPEECH_STAGES
from appliance.config import Config, Section
from appliance.messages import (
    AudioGap,
    Considered,
    Done,
    EndOfTurn,
    Floor,
    Heartbeat,
    MuteState,
    NearEnd,
    Overlap,
    PartialTranscript,
    PlaybackEnded,
    Ringing,
    ServiceLevel,
    SpeechPaused,
    SpeechStarted,
    Transcript,
    TurnRecord,
)
from appliance.processes import PROCESSES

SECRET = "the oak"
MS = 1_000_000


def record(turn_id="t1", **changes):
    parts = {"end_of_turn_delay": 200.0, "llm_ttft": 300.0, "tts_ttfb": 100.0}
    fields = {
        "session_id": "local",
        "turn_id": turn_id,
        "source": "speech",
        "outcome": "answered",
        "transcript": SECRET,
        "reply": SECRET,
        "utterance_ids": ("u1", "u2"),
        "speech_end_ns": 1_000 * MS,
        "audible_ns": 1_600 * MS,
        "voice_to_voice_ms": 600.0,
        "contributions_ms": parts,
    }
    return TurnRecord(**{**fields, **changes})


def beat(process, state="ready", instance=0, **changes):
    return Heartbeat(
        process=process, instance=instance, life=0, pid=1, state=state, detail="", **changes
    )


def all_ready(view, now_ns=0):
    for name in PROCESSES:
        view.note(beat(name), now_ns, 0.0)


def note(view, *messages, now_ns=0):
    return [view.note(message, now_ns, 5.0) for message in messages]


def test_state_says_what_matters_most():
    view = View()
    assert view.snapshot(0)["state"] == "not_ready"
    all_ready(view)
    assert view.snapshot(0)["state"] == "idle"
    note(view, Floor(session_id="local", state="thinking", turn_id="t", since_ns=0))
    note(view, Floor(session_id="browser-1", state="speaking", turn_id="t", since_ns=0))
    snapshot = view.snapshot(0)
    assert snapshot["state"] == "thinking"
    assert snapshot["sessions"] == {"local": "thinking", "browser-1": "speaking"}
    mute = MuteState(session_id="local", hardware=True, software=False)
    assert note(view, mute, mute) == ["state", ""], "only what is new is news"
    assert view.snapshot(0)["state"] == "muted"
    late_ns = (PROCESSES["llm"].deadline_ms + 1) * MS
    assert view.snapshot(late_ns)["state"] == "not_ready"
    assert view.snapshot(late_ns)["degraded"]


def test_the_optimiser_and_the_losses_are_told():
    view = View()
    all_ready(view)
    level = ServiceLevel(
        session_id="local",
        level=2,
        asr_model="a",
        llm_model="b",
        history_turns=1,
        first_clause_words=0,
        reason="llm took 1200 ms",
        since_ns=0,
    )
    note(view, level, AudioGap(session_id="local", lost_ms=30.0, reason="restart"))
    snapshot = view.snapshot(0)
    assert snapshot["degraded"] and snapshot["level"]["reason"] == "llm took 1200 ms"
    assert snapshot["losses"] == {"audio_gaps": 1, "lost_ms": 30.0}


def test_each_ring_tells_its_writer_and_what_its_readers_missed():
    view = View()

    def beat(process, instance=0, state="ready", rings=None, **counters):
        fields = {"process": process, "instance": instance, "state": state, "rings": rings or {}}
        view.note(Heartbeat(life=1, pid=1, counters=counters, **fields), 10**9, 0)

    beat("capture", 1, rings={"mic": 7}, blocks=5)
    beat("capture", 0, state="standby")
    beat("vad", lost_blocks=2, unread_blocks=4)
    beat("asr", lost_blocks=0)
    beat("tts", rings={"speaker": 8, "speaker.1": 9}, underruns=1)
    rings = {ring["ring"]: ring for ring in view.snapshot(10**9)["rings"]}
    assert set(rings) == {"mic", "speaker", "speaker.1"}
    assert rings["mic"]["writer"] == "capture.1"
    assert rings["mic"]["readers"] == {
        "vad": {"lost_blocks": 2, "unread_ms": 40},
        "asr": {"lost_blocks": 0, "unread_ms": None},
    }
    assert set(rings["speaker"]["readers"]) == {"capture.1"}
    beat("tts", rings={"speaker": 8})
    beat("capture", 0, rings={"mic": 9})
    rings = {ring["ring"]: ring["writer"] for ring in view.snapshot(10**9)["rings"]}
    assert rings == {"mic": "capture.0", "speaker": "tts"}


def test_the_optimisers_steps_are_kept_with_their_reasons():
    view = View()
    for number, level in enumerate((0, 1, 1, 2)):
        step = ServiceLevel(
            session_id="local",
            level=level,
            asr_model="a",
            llm_model="b",
            history_turns=3,
            first_clause_words=0,
            reason=f"because {number}",
            since_ns=0,
        )
        view.note(step, number, float(number))
    assert [(s["level"], s["reason"]) for s in view.steps()] == [
        *((2, "because 3"), (1, "because 1"), (0, "because 0")),
    ]


def test_scores_are_dots_from_left_to_right_and_higher_for_likelier():
    def event(kind, at_ms, value):
        return {"kind": kind, "at_ms": at_ms, "value": value}

    events = [
        event("near_end", 0, 1.0),
        event("end_of_turn", 10, 0.1),
        event("first_token", 20, None),
    ]
    events += [event("end_of_turn", 60, 0.9), event("understood", 70, 1.0)]
    dots = scores(events)
    assert [dot.at_ms for dot in dots] == [10, 60, 70]
    assert 0 < dots[0].x < dots[1].x < dots[2].x < WIDTH
    assert HEIGHT > dots[0].y > dots[1].y > dots[2].y > 0
    assert scores([]) == [] and scores(events[:1]) == []


def test_quiet_is_when_nobody_has_had_the_floor_for_a_while():
    second = 1_000 * MS
    view = View()

    def floor(state, at_s, session="local"):
        view.note(Floor(session_id=session, state=state, turn_id="", since_ns=0), at_s * second, 0)

    assert view.quiet_ns(5 * second) > 0
    floor("speaking", 10)
    floor("idle", 11, "remote.1")
    assert view.quiet_ns(20 * second) == 0
    floor("idle", 21)
    floor("idle", 22)  # said again: nothing has changed
    assert view.quiet_ns(23 * second) == 2 * second
    floor("listening", 24)
    assert view.quiet_ns(300 * second) == 0
    assert view.quiet_ns(330 * second) > 0, "a session that was never ended blocks nobody for ever"
    floor("speaking", 331)
    beat = Heartbeat(process="conductor", instance=0, life=7, pid=1, state="ready")
    view.note(beat, 332 * second, 0)
    assert view.quiet_ns(333 * second) > 0, "another conductor, another conversation"


def test_the_time_of_a_start_is_known_when_it_was_seen():
    view = View()

    def beat(state, at_ms, life=100 * MS):
        message = Heartbeat(process="llm", instance=0, life=life, pid=1, state=state)
        view.note(message, at_ms * MS, 0)

    beat("ready", 500)
    assert view.start_ms("llm") is None
    beat("starting", 1_000, life=900 * MS)
    beat("ready", 3_000, life=900 * MS)
    beat("ready", 4_000, life=900 * MS)
    assert view.start_ms("llm") == 2_100


def test_a_turn_explains_itself_in_order_and_parts_sum_to_the_whole():
    view = View()
    note(
        view,
        EndOfTurn(
            session_id="local",
            utterance_id="v",
            speech_end_ns=1_000 * MS,
            probability=0.91,
            decided_ns=1_090 * MS,
        ),
        SpeechStarted(session_id="local", utterance_id="v", spans=(), speech_start_ns=0),
        SpeechStarted(session_id="other", utterance_id="w", spans=(), speech_start_ns=0),
        PartialTranscript(
            session_id="local",
            utterance_id="v",
            stable=SECRET,
            tail="is",
            heard_ms=1,
            finished_ns=500 * MS,
        ),
        *(
            PlaybackEnded(
                session_id="local",
                utterance_id=name,
                ended_ns=2_000 * MS,
                played_text=f"{name} {SECRET}",
                interrupted=False,
            )
            for name in ("u1", "u2", "u3")
        ),
    )
    overlap = Overlap(1_700 * MS, 1_900 * MS, "noise", "no words in it", 1_720 * MS, 0)
    assert note(view, record(overlaps=(overlap,))) == ["turn"]
    turn = view.turn("t1", words=True)
    assert sum(turn["contributions_ms"].values()) == turn["voice_to_voice_ms"]
    assert turn["played"] == f"u1 {SECRET} u2 {SECRET}"
    times = [event["at_ms"] for event in turn["events"]]
    assert times == sorted(times)
    kinds = [event["kind"] for event in turn["events"]]
    assert kinds[:3] == ["speech_started", "partial", "end_of_turn"]
    assert kinds.count("speech_started") == 1, "another session's speech is not this turn's"
    assert next(e for e in turn["events"] if e["kind"] == "end_of_turn")["at_ms"] == 90.0
    assert turn["overlaps"] == [
        {
            "kind": "noise",
            "reason": "no words in it",
            "onset_ms": 100.0,
            "lasted_ms": 200.0,
            "ducked_after_ms": 20.0,
            "silent_after_ms": None,
        }
    ]
    note(view, record("t2"))
    assert view.turn("t2", words=True)["events"] == [], "events belong to one turn"
    assert view.turn("t9", words=True) is None


def test_without_the_right_no_word_is_anywhere():
    view = View()
    all_ready(view)
    note(
        view,
        Transcript(
            session_id="local",
            request_id="r",
            text=SECRET,
            audio_ms=1,
            lost_blocks=0,
            received_ns=0,
            finished_ns=0,
            engine="e",
            corrections=(("oak", SECRET),),
        ),
        PartialTranscript(
            session_id="local", utterance_id="v", stable=SECRET, tail="", heard_ms=1, finished_ns=0
        ),
        Considered(
            session_id="local",
            request_id="r",
            reply=SECRET,
            question=SECRET,
            facts=SECRET,
            intent="recall",
            confidence=0.9,
        ),
        Done(session_id="local", request_id="r", reply=SECRET),
        Ringing(session_id="local", ids=("1",), text=SECRET),
        record(),
    )
    kinds = [event["kind"] for event in view.turn("t1", words=False)["events"]]
    assert {"understood", "done", "ringing"} <= set(kinds)
    shown = [view.snapshot(0), view.health(0), view.turns(words=False), view.latency()]
    shown += [view.turn("t1", words=False), view.trends(), view.against_thresholds()]
    assert SECRET not in json.dumps(shown)
    assert SECRET in json.dumps(view.turn("t1", words=True))


def test_everything_is_bounded():
    view = View()
    for number in range(3 * TURNS_KEPT):
        session = f"s{number}"
        note(
            view,
            Floor(session_id=session, state="idle", turn_id="t", since_ns=0),
            NearEnd(session_id="nobody", active=True, onset_ns=0, far_end_active=False),
            PlaybackEnded(
                session_id=session,
                utterance_id=session,
                ended_ns=0,
                played_text="x",
                interrupted=False,
            ),
            record(f"t{number}", utterance_ids=()),
        )
    assert len(view.turns(words=True)) == TURNS_KEPT
    assert view.turns(2, words=True)[0]["turn_id"] == f"t{3 * TURNS_KEPT - 1}"
    assert len(view.snapshot(0)["sessions"]) <= 32
    assert len(view._events) <= EVENTS_KEPT and len(view._played) <= 64
    assert view.outcomes["speech", "answered"] == 3 * TURNS_KEPT, "counters never forget"


def test_latencies_are_of_spoken_answers_alone():
    view = View()
    note(
        view,
        record("a"),
        record("b", voice_to_voice_ms=1200.0, contributions_ms={"llm_ttft": 1200.0}),
        record("c", source="text", contributions_ms={"llm_ttft": 9e4}, voice_to_voice_ms=9e4),
        record("d", outcome="nothing_said", audible_ns=0, voice_to_voice_ms=9e4),
    )
    assert view.latency()["llm_ttft"] == {"p50_ms": 300.0, "p95_ms": 1200.0, "turns": 2}
    figures = view.against_thresholds()["end_to_end"]
    assert (figures["p50_ms"], figures["threshold_ms"]) == (600.0, 2000.0)
    assert view.trends()["llm"]["p95_ms"] == [300.0, 1200.0]
    histogram = view.histograms[TOTAL]
    assert sum(histogram.counts) == 2 and histogram.sum_ms == 1800.0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_percentile_is_a_value_with_enough_below_it(values, share):
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_numbers_that_json_cannot_say_become_null():
    view = View()
    note(view, beat("vad", counters={"level_dbfs": -math.inf, "ratio": math.nan}))
    for shown in (view.snapshot(0), view.health(0)):
        text = json.dumps(shown, allow_nan=False)
        assert '"level_dbfs": null' in text


@given(st.dictionaries(st.sampled_from(SPEECH_STAGES), st.floats(0, 5_000)), st.floats(0, 9_000))
def test_waterfall_bars_follow_each_other_and_fit(parts, longest_ms):
    bars = waterfall(parts, longest_ms)
    reached = 0.0
    for bar in bars:
        assert bar.x == pytest.approx(reached, abs=0.1)
        reached = bar.x + bar.width
    assert reached <= WIDTH + 0.1
    assert sum(bar.ms for bar in bars) == pytest.approx(sum(parts.values()))


def test_a_trend_goes_from_left_to_right_and_up():
    assert trend([5.0], 10.0) == ""
    assert trend([0.0, 10.0], 10.0) == "0.0,100.0 1000.0,0.0"


def test_every_event_has_a_kind_that_is_listed():
    paused = SpeechPaused(
        session_id="local", utterance_id="v", spans=(), speech_start_ns=0, speech_end_ns=7
    )
    assert event_of(paused, 99).at_ns == 7
    assert event_of(paused, 99).kind in EVENT_KINDS
    assert event_of(beat("vad"), 0) is None


# --- languages ---------------------------------------------------------------------------------


def test_dictionaries_are_complete_and_say_something():
    english, chinese = dictionary("en"), dictionary("zh")
    fields = {
        f"field.{section}.{key}"
        for section in Config.model_fields
        if isinstance(model := getattr(Config(), section), Section)
        for key in type(model).model_fields
    }
    assert set(chinese) == set(english) | fields, "English field texts are the models' own"
    assert all(text.strip() for text in (*english.values(), *chinese.values()))
    needed = {f"event.{kind}" for kind in EVENT_KINDS} | {f"stage.{s}" for s in SPEECH_STAGES}
    assert needed <= set(english)
    untranslated = [
        key
        for key, text in chinese.items()
        if not any("\u4e00" <= char <= "\u9fff" for char in text)
    ]
    assert untranslated == []


def test_templates_use_no_key_that_is_missing():
    english = dictionary("en")
    for path in (FOLDER / "templates").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        for key in re.findall(r'\bt\(["\']([^"\']+)["\']\)', text):
            assert key in english, (path.name, key)
        for prefix in re.findall(r'\bt\("([^"]+\.)" ~', text):
            known = any(key.startswith(prefix) for key in english)
            assert known or prefix == "field.", (path.name, prefix)


@pytest.mark.parametrize(
    ("wanted", "accepted", "chosen"),
    [
        ("zh", "en", "zh"),
        ("xx", "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("", "fr,en;q=0.5", "en"),
        ("", "de", "en"),
        ("", "", "en"),
    ],
)
def test_the_language_is_the_chosen_or_the_browsers(wanted, accepted, chosen):
    assert choose(wanted, accepted) == chosen
    assert chosen in LANGUAGES


# --- updates -----------------------------------------------------------------------------------


def test_the_latest_wins_and_words_are_for_those_who_may():
    async def scenario():
        broadcaster = Broadcaster()
        broadcaster.publish("state", b"nobody watches")
        viewer, owner = broadcaster.watch(words=False), broadcaster.watch(words=True)
        for number in range(10_000):
            broadcaster.publish("state", str(number).encode())
        broadcaster.publish("words", b"secret", words=True)
        seen = await anext(viewer.updates(5)), await anext(owner.updates(5))
        broadcaster.leave(viewer)
        broadcaster.leave(owner)
        return seen, broadcaster.watched

    seen, watched = asyncio.run(scenario())
    assert seen == ({"state": b"9999"}, {"state": b"9999", "words": b"secret"})
    assert not watched


def test_a_watcher_that_does_not_collect_keeps_one_update_per_topic():
    async def scenario():
        broadcaster = Broadcaster()
        deaf = broadcaster.watch(words=False)
        for number in range(50):
            broadcaster.publish("state", str(number).encode())
            broadcaster.publish("turn", b"x")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        kept = await anext(deaf.updates(5))
        broadcaster.leave(deaf)
        return kept, broadcaster.replaced

    kept, replaced = asyncio.run(scenario())
    assert kept == {"state": b"49", "turn": b"x"}
    assert replaced == 98


def test_updates_tell_of_silence_and_end_when_told():
    async def scenario():
        broadcaster = Broadcaster()
        watcher = broadcaster.watch(words=False)
        updates = watcher.updates(0.01)
        silence = await anext(updates)
        broadcaster.end()
        return silence, [update async for update in updates if update]

    assert asyncio.run(scenario()) == ({}, [])
