"""What is said in the vocabulary benchmark: names, things, medicines, and sentences around them.

Development and held-out lists share no entry, no carrier sentence and no voice. Invented names
come from a seeded generator, so that no model can have heard them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["person", "thing", "medicine"]


@dataclass(frozen=True)
class WordSet:
    """One half of the material."""

    entries: dict[str, Kind]
    carriers: dict[Kind, tuple[str, ...]]
    """Sentences with ``{}`` for the entry."""
    plain: tuple[str, ...]
    """Sentences without any entry: nothing in them may be changed."""
    voices: tuple[str, ...]
    """``piper:NAME``, ``espeak:VOICE`` or ``flite:VOICE``, with ``@FACTOR`` for another speed."""


_PEOPLE_DEVELOPMENT = (
    *("Siobhan", "Okonkwo", "Xiaoming", "Thandiwe", "Eluned", "Bartosz", "Ngozi", "Saoirse"),
    *("Kjersti", "Wojciech", "Anneliese", "Farrukh", "Iphigenia", "Zbigniew", "Tadhg", "Priyanka"),
    *("Gwendolyn", "Evander", "Lysandra", "Quillon", "Marjolein", "Torquil", "Ottoline", "Ximena"),
    *("Doctor Adeyemi", "Mister Krzywinski", "Aunt Philomena", "Professor Vandermeer"),
    *("Abernathy", "Featherstone", "Kowalczyk", "Rasmussen", "Delacroix", "Papadopoulos"),
    *("Hideyoshi", "Yevgenia", "Matthijs", "Oyelaran", "Bhattacharya", "Szymanski"),
)
_PEOPLE_HELD_OUT = (
    *("Aoife", "Niamh", "Chukwuemeka", "Ingeborg", "Zuleikha", "Caoimhe", "Dagny", "Katarzyna"),
    *("Padraig", "Rhiannon", "Leopoldine", "Thorvald", "Anaximander", "Cressida", "Ikechukwu"),
    *("Jocasta", "Kenzaburo", "Lakshmi", "Mstislav", "Nikolett", "Oluwaseun", "Peregrine"),
    *("Radoslav", "Sanjeevani", "Tomasz", "Ulrike", "Valdemar", "Wilhelmina", "Xanthippe"),
    *("Yaroslava", "Zephyrine", "Bronwen", "Eoghan", "Gaurav", "Hjalmar", "Isolde"),
    *("Doctor Nwachukwu", "Uncle Bogdan", "Missus Haverstock", "Professor Lindqvist"),
    *("Doctor Mukherjee", "Captain Ravenscroft", "Aunt Hortensia", "Mister Postlethwaite"),
    *("Cholmondeley", "Venkataraman", "Fitzwilliam", "Gallagher", "Hakkinen", "Ivanovic"),
    *("Jagielski", "Kirchhoff", "Lundgren", "Montefiore", "Nakagawa", "Okafor", "Pellegrino"),
    *("Quattrocchi", "Rosenqvist", "Schwarzkopf", "Takahashi", "Underhay", "Villanueva"),
)
_THINGS_DEVELOPMENT = (
    *("orangery lamp", "scullery", "Aqara hub", "Nanoleaf", "vestibule light", "Velux blind"),
    *("pergola heater", "Roborock", "inglenook", "Shelly relay", "Zigbee bridge", "box room fan"),
    *("Tado", "undercroft", "living room lamp", "Lutron dimmer"),
)
_THINGS_HELD_OUT = (
    *("solarium", "Ecobee", "loggia lamp", "Hue ribbon", "mezzanine fan", "Tuya socket"),
    *("buttery light", "Sonoff switch", "veranda heater", "Ewelink gateway", "snug", "Wyze cam"),
    *("garderobe", "Eufy vacuum", "Loxone panel", "conservatory blind", "Thermomix", "Jandy pump"),
    *("belvedere", "Noctua fan", "Meross plug", "cloakroom light", "Somfy shutter", "Hestan"),
)
_MEDICINES_DEVELOPMENT = (
    *("levothyroxine", "atorvastatin", "bisoprolol", "clopidogrel", "escitalopram", "gabapentin"),
    *("rivaroxaban", "tamsulosin", "omeprazole", "sitagliptin", "dutasteride", "nebivolol"),
)
_MEDICINES_HELD_OUT = (
    *("apixaban", "metoprolol", "rosuvastatin", "empagliflozin", "pantoprazole", "duloxetine"),
    *("ramipril", "furosemide", "finasteride", "quetiapine", "ezetimibe", "candesartan"),
    *("mirtazapine", "pregabalin", "solifenacin", "ticagrelor", "liraglutide", "venlafaxine"),
    *("amlodipine", "lisinopril", "dabigatran", "montelukast", "Xarelto", "Eliquis"),
)
_PLAIN_DEVELOPMENT = (
    "What is the weather going to be like tomorrow afternoon?",
    "Set a timer for twelve minutes.",
    "Tell me a short story about a fox and a crow.",
    "How many cups of flour do I need for the bread?",
    "Please read the next message to me.",
    "I would like to listen to some quiet music.",
    "Why is the sky blue in the morning?",
    "Could you call my brother when he gets home?",
    "Turn off all the lights in the house.",
    "Which day of the week is the first of March?",
)
_PLAIN_HELD_OUT = (
    "How long does it take to boil an egg?",
    "Wake me up at half past six tomorrow.",
    "Is there anything in my calendar for Friday evening?",
    "What was the name of that film with the two brothers?",
    "Add apples, butter and a loaf of bread to the shopping list.",
    "Can you make it a little warmer in here?",
    "Tell my sister that I will be late tonight.",
    "How far is the moon from the earth?",
    "Stop the music and close the curtains.",
    "When does the next bus to the city leave?",
    "I think somebody left the back door open.",
    "Do we have enough milk for the pancakes?",
    "Who won the football game last night?",
    "Please turn the radio down a bit.",
    "The neighbours are coming over for dinner on Saturday.",
    "What should I wear if it rains all day?",
    "Explain to me how a steam engine works.",
    "My grandmother used to bake the best cake in the village.",
    "Remind me to water the plants in the morning.",
    "How do you say good night in Italian?",
)
LOOK_ALIKES_DEVELOPMENT = (
    *("Watts", "Dade", "Saye", "Cole", "Massey", "Terne", "Stihl", "Nein", "Knead", "Mohr"),
    *("Tait", "Sande", "Didi", "Callum", "Kalle", "Liszt", "Lites", "Neena", "Abbott", "Mia"),
    *("Wether", "Tymer", "Cupps", "Bredd", "Reade", "Skye", "Holm", "Howes", "Furst", "Dey"),
)
"""Names that sound like ordinary words or nearly so."""
LOOK_ALIKES = (
    *("Wright", "Knumber", "Lyne", "Holt", "Wei", "Tyme", "Neumann", "Pound", "Kees", "Wesel"),
    *("Forbes", "Fyne", "Syst", "Hand", "Olde", "Marie", "Anne", "Elinor", "Mayne", "Herr"),
    *("Barr", "Nye", "Toome", "Thorne", "Goe", "Ford", "Tenn", "Meeters", "Sumner", "Dewey"),
    *("Hartz", "Spaid", "Kwean", "Jaques", "Seven", "Fore", "Tew", "Sykes", "Ayt", "Nein"),
    *("Bizzy", "Lyon", "Plee", "Trey", "Agnew", "Parr", "Tisa", "Pant", "Kurt", "Leigh"),
    *("Worrell", "Nott", "Vallid", "Eder", "Ekko", "Tess", "Kahl", "Oster", "Opin", "Sauce"),
)
_ONSETS = (
    *("b", "br", "c", "d", "dr", "f", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "r", "s"),
    *("st", "t", "tr", "v", "w", "z", "sh", "th"),
)
_VOWELS = ("a", "e", "i", "o", "u", "a", "e", "o", "ai", "ee")
_MIDDLES = ("l", "n", "r", "v", "d", "m", "nd", "lv", "rt", "st", "k", "z", "b", "sk", "mb")
_ENDS = ("a", "o", "en", "is", "ar", "in", "ova", "ek", "eth", "una", "ani", "oro", "ick", "ia")


def invented_names(count: int, seed: int) -> tuple[str, ...]:
    """Return pronounceable names of two to four syllables, no two the same."""
    return tuple(name for _, name in zip(range(count), _invent(seed), strict=False))


def _invent(seed: int) -> Iterator[str]:
    choice = random.Random(seed).choice  # noqa: S311 (nothing secret)
    seen = set()
    while True:
        middle = "".join(choice(_MIDDLES) + choice(_VOWELS) for _ in range(choice((0, 1, 1))))
        name = choice(_ONSETS) + choice(_VOWELS) + middle + choice(_MIDDLES) + choice(_ENDS)
        if name not in seen:
            seen.add(name)
            yield name.capitalize()


def development() -> WordSet:
    """For choosing thresholds."""
    people = (*_PEOPLE_DEVELOPMENT, *invented_names(24, seed=1))
    return WordSet(
        entries={
            **dict.fromkeys(people, "person"),
            **dict.fromkeys(_THINGS_DEVELOPMENT, "thing"),
            **dict.fromkeys(_MEDICINES_DEVELOPMENT, "medicine"),
        },
        carriers={
            "person": ("Call {}.", "What did {} say yesterday?", "Send {} a message, please."),
            "thing": ("Turn on the {}.", "Is the {} still on?", "Please check the {} for me."),
            "medicine": (
                "Did I take my {} this morning?",
                "Remind me about the {} at nine.",
                "I need more {}.",
            ),
        },
        plain=_PLAIN_DEVELOPMENT,
        voices=(
            *("espeak:en-us+m3", "espeak:en-gb+f2", "flite:slt", "flite:kal16@0.95"),
            *("espeak:en-us+f5@1.05", "piper@1.06", "flite:slt@1.1", "espeak:en-gb-scotland"),
        ),
    )


def held_out(seed: int) -> WordSet:
    """For the figures that are reported; ``seed`` chooses the invented names."""
    known = set(development().entries)
    invented = [name for name in invented_names(70, seed=1000 + seed) if name not in known]
    return WordSet(
        entries={
            **dict.fromkeys((*_PEOPLE_HELD_OUT, *invented[:40]), "person"),
            **dict.fromkeys(_THINGS_HELD_OUT, "thing"),
            **dict.fromkeys(_MEDICINES_HELD_OUT, "medicine"),
        },
        carriers={
            "person": (
                "Please ring {} for me.",
                "When is {} coming to dinner?",
                "Tell {} that I am at home.",
                "I had lunch with {} on Sunday.",
            ),
            "thing": (
                "Switch the {} off.",
                "How warm is the {} now?",
                "Make sure the {} is off at midnight.",
                "Somebody has left the {} on again.",
            ),
            "medicine": (
                "When do I have to take the {}?",
                "How many {} are left in the box?",
                "The pharmacy has run out of {}.",
                "Order another pack of {} today.",
            ),
        },
        plain=_PLAIN_HELD_OUT,
        voices=(
            *("piper", "espeak:en-us", "flite:rms", "espeak:en-gb-x-rp+f3", "flite:awb"),
            *("piper@0.93", "espeak:en-029+m7", "flite:rms@1.08", "espeak:en-us-nyc+f4@0.95"),
            "flite:awb@1.05",
        ),
    )
