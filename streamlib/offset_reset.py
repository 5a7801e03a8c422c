"""Where an input is read from that has no committed offset: what users may write, and what it means.

Source: AutoOffsetReset, ``auto.offset.reset`` (KIP-1106). Next: `runtime/starting_offsets`, which looks it up.
"""

import difflib
import re
from datetime import timedelta
from typing import Literal, get_args

NamedReset = Literal["earliest", "latest", "none"]
OffsetReset = NamedReset | timedelta
"""The first record, the end, a refusal to start; or the first record that is not older than so long."""

BY_DURATION = "by_duration:"
_DURATION = re.compile(
    r"P(?:(?P<days>\d+)D)?(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?",
    re.IGNORECASE,
)
_FORMS = (*get_args(NamedReset), f"{BY_DURATION}PT1H")


def offset_reset(given: str | timedelta) -> OffsetReset:
    """What was given, checked; text with a duration as the duration.

    Args:
        given: ``earliest``, ``latest``, ``none``, ``by_duration:`` with an ISO 8601 duration, or a timedelta.

    Raises:
        ValueError: It is none of these, or a negative duration. Says what would do.
    """
    if isinstance(given, timedelta):
        if given < timedelta():
            msg = f"cannot be negative: {given!r}"
            raise ValueError(msg)
        return given
    for name in get_args(NamedReset):
        if given == name:
            reset: NamedReset = name
            return reset
    text = str(given)
    found = _DURATION.fullmatch(text.removeprefix(BY_DURATION)) if text.startswith(BY_DURATION) else None
    if found is None or not any(found.groups()):
        near = difflib.get_close_matches(text, _FORMS, n=1)
        hint = f' Did you mean "{near[0]}"?' if near else ""
        msg = f"is one of {', '.join(_FORMS)}, not {given!r}.{hint}"
        raise ValueError(msg)
    return timedelta(**{unit: float(number) for unit, number in found.groupdict().items() if number is not None})
