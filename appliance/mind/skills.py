"""What is done for each intent: a plan, of which nothing happens before the turn is over.

A plan's reply is what will be said if it works; what was really done is told by the `Outcome`.
"""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import msgspec

from appliance.mind.memory import Forgotten, Memory, MemoryLimitError, WhichOne, Who
from appliance.mind.perspective import for_speech, turned
from appliance.mind.sayings import called, length, phrase
from appliance.mind.store import StoreCorruptError, StoreError, StoreFullError
from appliance.mind.timer_items import Due, Item, Timer, TimerError
from appliance.mind.timers import Timers
from appliance.mind.tools import Notes, Registry, ToolError
from appliance.mind.tools.registry import Language
from appliance.mind.understanding import (
    Understanding,
    Understood,
    day_of,
    next_time,
    spoken_date,
    spoken_time,
)

logger = logging.getLogger(__name__)

OWNER = "local"
"""Timers and notes belong to the box, whoever asks for them."""
_VOLUME_STEP = 15
_LEAST_VOLUME = 10
_SPEED_STEP = 1.2
_SPEEDS = (0.5, 2.0)
_TOLD = 3
"""Facts that are told at once."""
_ALL = re.compile(r"\b(?:all|every|everything|both)\b|全部|所有|都")


class Voice(msgspec.Struct, frozen=True):
    """How a session's answers are spoken at present; a record of the store."""

    id: str = OWNER
    """Of the session."""
    volume_percent: int = 100
    speed: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """What became of a plan."""

    reply: str
    volume_percent: int | None = None
    """Answers are as loud as this from now on."""
    speed: float | None = None
    """Answers are as fast as this from now on."""
    if_not_muted: str = ""
    """The microphones are to be muted; what is said where that fails."""
    ask: Plan | None = None
    """What is done if the user says yes to the reply."""
    forgotten: bool = False
    """Something is not to be known any more."""
    undo: Callable[[], object] | None = None
    """Takes it back, where that is possible: the user went on, and meant something else."""

    def voice(self, before: Voice) -> Voice:
        """How answers are spoken after it."""
        return msgspec.structs.replace(
            before,
            volume_percent=before.volume_percent
            if self.volume_percent is None
            else self.volume_percent,
            speed=before.speed if self.speed is None else self.speed,
        )


Act = Callable[[], Outcome]


@dataclass(frozen=True)
class Plan:
    """What is to become of a sentence."""

    reply: str = ""
    """To be said; of a plan that acts: if it works, and empty where only the act can tell."""
    act: Act | None = None


VOICE_DECODER = msgspec.json.Decoder(Voice)
"""For the store's table ``voices``."""


@dataclass(frozen=True)
class Said:
    """A sentence that was understood, and what it was said to."""

    understood: Understood
    slots: Mapping[str, object]
    language: Language
    voice: Voice
    last_reply: str

    def text(self, slot: str) -> str:
        """Free text of a slot; empty without one."""
        return str(self.slots.get(slot, ""))


@dataclass
class Skills:
    """Everything that can be done without a language model.

    Args:
        understandings: by language.
        timers: all of them.
        notes: all of them.
        memory: of facts; None when it is switched off.
        registry: the shipped tools.
        who: in whose name facts are kept.
        now: local time, aware of its zone.
        listens: languages that are understood when spoken.
    """

    understandings: Mapping[str, Understanding]
    timers: Timers
    notes: Notes
    memory: Memory | None
    registry: Registry
    who: Who
    now: Callable[[], dt.datetime]
    listens: Sequence[str] = ("en",)
    _granted: tuple[str, ...] = field(default=("timers", "notes"), init=False)

    def plan(self, understood: Understood, voice: Voice, last_reply: str) -> Plan | None:
        """What to do, or None when it is for the language model after all.

        Args:
            understood: the intent.
            voice: how answers are spoken in this session.
            last_reply: the last answer that was heard in it.
        """
        language: Language = "zh" if understood.language == "zh" else "en"
        said = Said(understood, understood.slots, language, voice, last_reply)
        if make := _PLANS.get(understood.intent):
            return make(self, said)
        reply = self.understandings[understood.language].answer(understood, self.now())
        return None if reply is None else Plan(reply)

    def _tool(self, name: str, arguments: str, language: Language) -> Outcome:
        result = self.registry.call(
            name, arguments, self._granted, language=language, confirmed=True
        )
        return Outcome(result.spoken)

    # --- timers ------------------------------------------------------------------------------

    def _list_timers(self, said: Said) -> Plan:
        return Plan(self._tool("timer_list", "{}", said.language).reply)

    def _set_timer(self, said: Said) -> Plan:
        slots, language = said.slots, said.language
        seconds = slots.get("duration_s")
        if not isinstance(seconds, int | float):
            return Plan(phrase("for_how_long", language))
        name, reminder = said.text("name"), bool(slots.get("reminder"))
        milliseconds = round(seconds * 1000)
        reply = phrase(
            "is_set",
            language,
            what=called("timer", name, language, reminder=reminder),
            length=length(milliseconds, language),
        )

        def act() -> Outcome:
            if slots.get("replace"):
                self._take_back(Timer, name)
            item = self.timers.set_timer(milliseconds, name, OWNER, reminder=reminder)
            spoken = called("timer", item.name, language, reminder=reminder)
            done = length(item.duration_ms, language)
            reply = phrase("is_set", language, what=spoken, length=done)
            return Outcome(reply, undo=lambda: self.timers.cancel([item.id]))

        return Plan(reply, _kept(act, language))

    def _set_alarm(self, said: Said) -> Plan:
        slots, language = said.slots, said.language
        if "time" not in slots:
            return Plan(phrase("at_what_time", language))
        now = self.now()
        at = next_time(slots, now)
        name, reminder = said.text("name"), bool(slots.get("reminder"))
        what = called("alarm", name, language, reminder=reminder)
        time = spoken_time(at, language)
        days = (at.date() - now.date()).days
        if days == 0:
            reply = phrase("is_set_at", language, what=what, time=time)
        elif days == 1:
            reply = phrase("is_set_tomorrow", language, what=what, time=time)
        else:
            day = " ".join(spoken_date(at.date(), language))
            reply = phrase("is_set_on", language, what=what, time=time, day=day)

        def act() -> Outcome:
            if slots.get("replace"):
                self._take_back(None, name)
            item = self.timers.set_alarm(
                at.hour, at.minute, name=name, date=at.date(), owner=OWNER, reminder=reminder
            )
            return Outcome(reply, undo=lambda: self.timers.cancel([item.id]))

        return Plan(reply, _kept(act, language))

    def _take_back(self, kind: type[Timer] | None, name: str) -> None:
        """Cancel the one that was set last: it is being corrected."""
        items = [
            item
            for item in self.timers.list(OWNER)
            if isinstance(item, Timer) == (kind is Timer) and item.name == name
        ]
        if items:
            self.timers.cancel([max(items, key=lambda item: item.saved_wall_ns).id])

    def _cancel(self, said: Said) -> Plan:
        return Plan(act=_kept(lambda: self._cancel_now(said), said.language))

    def _cancel_now(self, said: Said) -> Outcome:
        slots, language = said.slots, said.language
        named_kind = said.understood.intent.partition("_")[0]
        reminders = named_kind == "reminder"
        kind = None if reminders else named_kind
        ringing = self.timers.acknowledge()
        if slots.get("all") or _ALL.search(said.understood.text):
            items = self.timers.find(kind=cast(Any, kind), owner=OWNER)
            items = tuple(item for item in items if item.reminder or not reminders)
            return self._cancelled(items, language, ringing)
        seconds, time = slots.get("duration_s"), slots.get("time")
        found = self.timers.find(
            name=said.text("name"),
            duration_ms=round(1000 * seconds) if isinstance(seconds, int | float) else None,
            time_of_day=self._time_of_day(time, slots),
            kind=cast(Any, kind),
            owner=OWNER,
        )
        found = tuple(item for item in found if item.reminder or not reminders)
        named = slots.keys() & {"name", "duration_s", "time"}
        if len(found) > 1 and not named and slots.keys() & {"days", "weekday"}:
            day = day_of(slots, self.now().date())
            found = tuple(i for i in found if self._rings_on(i) == day)
        if ringing and not named:
            found = ()
        if len(found) > 1:
            names = ", ".join(self._described(item, language) for item in found)
            return Outcome(phrase("which_one", language, what=names))
        return self._cancelled(found, language, ringing)

    def _time_of_day(self, time: object, slots: Mapping[str, object]) -> tuple[int, int] | None:
        if not isinstance(time, str):
            return None
        hour, minute = (int(part) for part in time.split(":"))
        if slots.get("either_half"):  # the half of the day in which there is one
            for half in (hour % 12, hour % 12 + 12):
                if self.timers.find(time_of_day=(half, minute), kind="alarm", owner=OWNER):
                    return half, minute
        return hour, minute

    def _rings_on(self, item: Item) -> dt.date:
        return dt.datetime.fromtimestamp(item.due_wall_ns // 10**9, self.now().tzinfo).date()

    def _cancelled(
        self, items: Sequence[Item], language: Language, ringing: Sequence[Item]
    ) -> Outcome:
        gone = self.timers.cancel([item.id for item in items])
        if not gone:
            return Outcome(phrase("okay" if ringing else "no_such", language))
        if len(gone) > 2:
            return Outcome(phrase("all_cancelled", language))
        names = ", ".join(self._described(item, language) for item in gone)
        return Outcome(phrase("cancelled", language, what=names))

    def _described(self, item: Item, language: Language) -> str:
        if isinstance(item, Timer):
            extra = length(item.duration_ms, language)
            return f"{called('timer', item.name, language, reminder=item.reminder)} ({extra})"
        extra = spoken_time(f"{item.hour}:{item.minute:02}", language)
        return f"{called('alarm', item.name, language, reminder=item.reminder)} ({extra})"

    def _stop(self, said: Said) -> Plan:
        def act() -> Outcome:
            self.timers.acknowledge()
            return Outcome(phrase("okay", said.language))

        return Plan(phrase("okay", said.language), act)

    # --- memory and notes ----------------------------------------------------------------------

    def _remember(self, said: Said) -> Plan:
        memory, language, text = self.memory, said.language, said.text("text")
        if memory is None:
            return Plan(phrase("memory_off", language))

        def act() -> Outcome:
            fact = memory.remember(text, self.who).fact
            reply = phrase("remembered", language, text=for_speech(fact.text))
            return Outcome(reply, undo=lambda: memory.forget_these([fact.id]))

        return Plan(phrase("remembered", language, text=for_speech(text)), _kept(act, language))

    def _forget(self, said: Said) -> Plan:
        memory, language = self.memory, said.language
        if memory is None:
            return Plan(phrase("memory_off", language))

        def everything() -> Outcome:
            memory.erase(self.who)
            return Outcome(phrase("all_forgotten", language), forgotten=True)

        def one() -> Outcome:
            found = memory.forget(said.text("text"), self.who)
            if isinstance(found, Forgotten):
                told = " ".join(for_speech(fact.text) for fact in found.facts[:_TOLD])
                return Outcome(phrase("forgotten", language, text=told), forgotten=True)
            if isinstance(found, WhichOne):
                told = " ".join(for_speech(fact.text) for fact in found.facts[:_TOLD])
                return Outcome(phrase("which_fact", language, text=told))
            return Outcome(phrase("no_such_fact", language))

        if not said.slots.get("all"):
            return Plan(act=_kept(one, language))
        question = phrase("confirm_forget", language)
        erase = Plan(act=_kept(everything, language))
        return Plan(question, lambda: Outcome(question, ask=erase))

    def _recall(self, said: Said) -> Plan:
        memory, language, about = self.memory, said.language, said.text("text")
        if memory is None:
            return Plan(phrase("memory_off", language))
        facts = memory.relevant(about, self.who) if about else memory.about(self.who)
        if not facts:
            return Plan(phrase("no_such_fact" if about else "no_facts", language))
        told = " ".join(for_speech(fact.text) for fact in facts[:_TOLD])
        if len(facts) > _TOLD:
            return Plan(phrase("more_facts", language, text=told, count=len(facts) - _TOLD))
        return Plan(told)

    def _add_note(self, said: Said) -> Plan:
        text = said.text("text")
        if said.text("list"):
            text = phrase(said.text("list"), said.language, text=text)
        arguments = _json({"text": text})

        def act() -> Outcome:
            before = self.notes.find("", OWNER)
            outcome = self._tool("note_add", arguments, said.language)
            new = [note for note in self.notes.find("", OWNER) if note not in before]
            return replace(outcome, undo=lambda: self.notes.delete(new))

        return Plan(act=act)

    def _read_notes(self, said: Said) -> Plan:
        if said.text("list"):
            return self._read_list(said)
        arguments = _json({"about": said.text("text")})
        return Plan(self._tool("note_list", arguments, said.language).reply)

    def _read_list(self, said: Said) -> Plan:
        """A list is the notes that begin with its name, in whichever language."""
        name, language = said.text("list"), said.language
        openings = tuple(phrase(name, spoken, text="").strip() for spoken in ("en", "zh"))
        items = [
            note.text.split(opening, 1)[1].strip()
            for note in self.notes.find("", OWNER)
            for opening in openings
            if note.text.startswith(opening)
        ]
        if not items:
            return Plan(phrase("empty_list", language))
        told = phrase(name, language, text=("；" if language == "zh" else "; ").join(items))
        return Plan(phrase("on_list", language, text=told))

    def _delete_notes(self, said: Said) -> Plan:
        slots, language = said.slots, said.language
        notes = self.notes.find("", OWNER)
        if not notes:
            return Plan(phrase("no_notes", language))
        if slots.get("all") and len(notes) > 1:
            question = phrase("confirm_notes", language, count=len(notes))

            def everything() -> Outcome:
                self.notes.delete(notes)
                return Outcome(phrase("all_notes_deleted", language))

            delete = Plan(act=_kept(everything, language))
            return Plan(question, lambda: Outcome(question, ask=delete))
        number = 1 if slots.get("all") else slots.get("number")
        if not isinstance(number, int):
            about = _json({"about": said.text("text")})
            return Plan(act=lambda: self._tool("note_delete", about, language))
        index = number if number < 0 else number - 1
        if not -len(notes) <= index < len(notes):
            return Plan(phrase("no_such_note", language))
        note = notes[index]

        def one() -> Outcome:
            self.notes.delete([note])
            return Outcome(phrase("note_deleted", language, text=note.text))

        return Plan(act=_kept(one, language))

    # --- the appliance itself ------------------------------------------------------------------

    def _status(self, said: Said) -> Plan:
        return Plan(self._tool("system_status", "{}", said.language).reply)

    def _language(self, said: Said) -> Plan:
        return Plan(phrase("speaks" if "zh" in self.listens else "speaks_not", said.language))


def rings(due: Sequence[Due], now: dt.datetime, language: Language) -> str:
    """What is said when these ring."""
    said = []
    for one in due:
        item = one.item
        kind: Literal["timer", "alarm"] = "timer" if isinstance(item, Timer) else "alarm"
        what = called(kind, item.name, language, reminder=item.reminder)
        if kind == "timer" and one.late:
            said.append(
                phrase("was_due", language, what=what, length=length(one.late_ms, language))
            )
        elif item.reminder and item.name:
            said.append(phrase("reminds", language, name=turned(item.name)))
        elif kind == "timer":
            said.append(phrase("is_done", language, what=what))
        else:
            said.append(phrase("alarm_rings", language, time=spoken_time(now, language), what=what))
    return " ".join(said)


def _repeat(_skills: Skills, said: Said) -> Plan:
    return Plan(said.last_reply or phrase("nothing_to_repeat", said.language))


def _mute(_skills: Skills, said: Said) -> Plan:
    outcome = Outcome(
        phrase("muted", said.language), if_not_muted=phrase("cannot_mute", said.language)
    )
    return Plan(outcome.reply, lambda: outcome)


def _unmute(_skills: Skills, said: Said) -> Plan:
    """Muted, it hears nobody in the room: words that come all the same come from elsewhere."""
    return Plan(phrase("unmute_how", said.language))


def _set_volume(_skills: Skills, said: Said) -> Plan:
    percent = said.slots.get("percent")
    if said.understood.intent != "volume_set" or not isinstance(percent, int | float):
        step = percent if isinstance(percent, int | float) else _VOLUME_STEP
        step = step if said.understood.intent == "volume_up" else -step
        percent = max(_LEAST_VOLUME, said.voice.volume_percent + step)  # silence is asked for
    wanted = min(100, max(0, round(percent)))
    reply = phrase("volume", said.language, percent=wanted)
    return Plan(reply, lambda: Outcome(reply, volume_percent=wanted))


def _set_speed(_skills: Skills, said: Said) -> Plan:
    factor = _SPEED_STEP if said.understood.intent == "faster" else 1 / _SPEED_STEP
    speed = min(_SPEEDS[1], max(_SPEEDS[0], round(said.voice.speed * factor, 3)))
    reply = said.last_reply or phrase("okay", said.language)
    return Plan(act=lambda: Outcome(reply, speed=speed))  # not to be synthesised before


_PLANS: Mapping[str, Callable[[Skills, Said], Plan]] = {
    "timer_set": Skills._set_timer,
    "alarm_set": Skills._set_alarm,
    "timer_cancel": Skills._cancel,
    "alarm_cancel": Skills._cancel,
    "reminder_cancel": Skills._cancel,
    "timer_left": Skills._list_timers,
    "timer_list": Skills._list_timers,
    "alarm_list": Skills._list_timers,
    "volume_up": _set_volume,
    "volume_down": _set_volume,
    "volume_set": _set_volume,
    "slower": _set_speed,
    "faster": _set_speed,
    "stop": Skills._stop,
    "repeat": _repeat,
    "mute": _mute,
    "unmute": _unmute,
    "status": Skills._status,
    "language": Skills._language,
    "remember": Skills._remember,
    "forget": Skills._forget,
    "recall": Skills._recall,
    "note_add": Skills._add_note,
    "note_read": Skills._read_notes,
    "note_delete": Skills._delete_notes,
}
"""Whatever is not here needs nothing but a clock."""


def _kept(act: Act, language: Language) -> Act:
    """The act; what keeps it from being done is said."""

    def tried() -> Outcome:
        try:
            return act()
        except StoreCorruptError:
            raise
        except (TimerError, MemoryLimitError, ToolError) as error:
            return Outcome(phrase("cannot_keep", language, why=str(error)))
        except StoreError as error:
            logger.error("%s", error)
            why = "disk_full" if isinstance(error, StoreFullError) else "disk_fails"
            return Outcome(phrase("cannot_keep", language, why=phrase(why, language)))

    return tried


def _json(arguments: Mapping[str, object]) -> str:
    return msgspec.json.encode(arguments).decode()
