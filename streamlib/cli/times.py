"""Durations and moments as users type them, to milliseconds; usage errors name the forms that work."""

import re
from datetime import UTC, datetime, timedelta

import typer

_MILLISECOND = timedelta(milliseconds=1)
UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = r"(?:(\d+(?:\.\d+)?)({unit}))?"
_ISO = re.compile(
    r"P" + _PART.format(unit="D") + r"(?:T" + "".join(_PART.format(unit=unit) for unit in "HMS") + r")?", re.IGNORECASE
)


def duration_ms(text: str) -> int:
    """Milliseconds of ``1500`` (ms), ``250ms``, ``30s``, ``5m``, ``1h``, ``7d`` or ISO 8601 ``PT1H30M``.

    Raises:
        typer.BadParameter: Anything else, negative durations included.
    """
    text = text.strip()
    if text.isdecimal():
        return int(text)
    if plain := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", text):
        return round(float(plain[1]) * UNITS_MS[plain[2]])
    if (iso := _ISO.fullmatch(text)) and any(iso.groups()):
        parts = zip(iso.groups()[::2], "dhms", strict=True)
        return round(sum(float(number) * UNITS_MS[unit] for number, unit in parts if number))
    msg = f'"{text}" is no duration: write 250ms, 30s, 5m, 1h, 7d, PT1H30M, or milliseconds'
    raise typer.BadParameter(msg)


def moment_ms(text: str) -> int:
    """Milliseconds since the epoch, of such a number or an ISO 8601 date and time (UTC unless it names an offset).

    Raises:
        typer.BadParameter: Neither of the two.
    """
    text = text.strip()
    if text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        msg = f'"{text}" is no moment: write 2026-01-31T12:00:00+01:00 (UTC without an offset), or ms since the epoch'
        raise typer.BadParameter(msg) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - datetime.fromtimestamp(0, UTC)) // _MILLISECOND


def as_text(timestamp_ms: int) -> str:
    """A moment as ISO 8601 in UTC."""
    moment = datetime.fromtimestamp(0, UTC) + timestamp_ms * _MILLISECOND
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
