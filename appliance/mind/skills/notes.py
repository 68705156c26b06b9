"""Notes and the lists that are kept as notes."""

from __future__ import annotations

from dataclasses import replace

from appliance.mind.sayings import phrase
from appliance.mind.skills.plans import OWNER, Outcome, Plan, Said, Skills, kept


def add_note(skills: Skills, said: Said) -> Plan:
    """Take a note, or put something on a list."""
    text = said.text("text")
    if said.text("list"):
        text = phrase(said.text("list"), said.language, text=text)

    def act() -> Outcome:
        before = skills.notes.find("", OWNER)
        outcome = skills.tool("note_add", said.language, text=text)
        new = [note for note in skills.notes.find("", OWNER) if note not in before]
        return replace(outcome, undo=lambda: skills.notes.delete(new))

    return Plan(act=act)


def read_notes(skills: Skills, said: Said) -> Plan:
    """Tell notes, or a list."""
    if said.text("list"):
        return _read_list(skills, said)
    return Plan(skills.tool("note_list", said.language, about=said.text("text")).reply)


def _read_list(skills: Skills, said: Said) -> Plan:
    """A list is the notes that begin with its name, in whichever language."""
    name, language = said.text("list"), said.language
    openings = tuple(phrase(name, spoken, text="").strip() for spoken in ("en", "zh"))
    items = [
        note.text.split(opening, 1)[1].strip()
        for note in skills.notes.find("", OWNER)
        for opening in openings
        if note.text.startswith(opening)
    ]
    if not items:
        return Plan(phrase("empty_list", language))
    told = phrase(name, language, text=("；" if language == "zh" else "; ").join(items))
    return Plan(phrase("on_list", language, text=told))


def delete_notes(skills: Skills, said: Said) -> Plan:
    """Delete one, by its place or by what it is about; or all, after a yes."""
    slots, language = said.slots, said.language
    notes = skills.notes.find("", OWNER)
    if not notes:
        return Plan(phrase("no_notes", language))
    if slots.get("all") and len(notes) > 1:
        question = phrase("confirm_notes", language, count=len(notes))

        def everything() -> Outcome:
            skills.notes.delete(notes)
            return Outcome(phrase("all_notes_deleted", language))

        delete = Plan(act=kept(everything, language))
        return Plan(question, lambda: Outcome(question, ask=delete))
    number = 1 if slots.get("all") else slots.get("number")
    if not isinstance(number, int):
        about = said.text("text")
        return Plan(act=lambda: skills.tool("note_delete", language, about=about))
    index = number if number < 0 else number - 1
    if not -len(notes) <= index < len(notes):
        return Plan(phrase("no_such_note", language))
    note = notes[index]

    def one() -> Outcome:
        skills.notes.delete([note])
        return Outcome(phrase("note_deleted", language, text=note.text))

    return Plan(act=kept(one, language))
