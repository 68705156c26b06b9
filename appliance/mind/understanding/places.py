"""Cities to time zones: the names of the time-zone database, and what a language adds."""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping

_REGIONS = ("Africa/", "America/", "Asia/", "Atlantic/", "Australia/", "Europe/", "Pacific/")


def cities() -> dict[str, str]:
    """The several hundred cities of the installed time-zone database, in lower case.

    Empty where neither the system nor the package ``tzdata`` brings one: then questions about
    other places go to the language model.
    """
    return {
        name.rpartition("/")[2].replace("_", " ").lower(): name
        for name in sorted(zoneinfo.available_timezones())
        if name.startswith(_REGIONS)
    }


def zone(place: str, places: Mapping[str, str]) -> zoneinfo.ZoneInfo | None:
    """The time zone of ``place``, or None when it is unknown here."""
    try:
        return zoneinfo.ZoneInfo(places[place.lower()])
    except (KeyError, zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None
