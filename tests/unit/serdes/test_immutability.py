"""Which types' objects may be handed out twice."""

import dataclasses
from datetime import datetime
from enum import Enum
from typing import Literal, TypedDict

import msgspec
import pytest

from streamlib import serdes
from streamlib.serdes.immutability import is_immutable


class Tier(Enum):
    GOLD = "gold"


class Frozen(msgspec.Struct, frozen=True):
    name: str
    at: datetime | None
    tier: Tier
    parts: tuple[int, ...]
    kind: Literal["a", "b"] = "a"


class Nested(msgspec.Struct, frozen=True):
    inner: Frozen
    again: "Nested | None" = None


class HoldsList(msgspec.Struct, frozen=True):
    items: list[int]


class Open(msgspec.Struct):
    name: str


@dataclasses.dataclass(frozen=True)
class FrozenData:
    number: int


@dataclasses.dataclass
class OpenData:
    number: int


class Typed(TypedDict):
    name: str


@pytest.mark.parametrize("schema", [int, str | None, Frozen, Nested, FrozenData, tuple[int, str], frozenset[str]])
def test_scalars_and_frozen_structures_of_them_are_immutable(schema) -> None:
    assert is_immutable(schema)
    assert serdes.json(schema).immutable


@pytest.mark.parametrize("schema", [dict, list[int], Open, OpenData, HoldsList, Typed, tuple[list[int], int], object])
def test_whatever_holds_something_that_changes_is_not(schema) -> None:
    assert not is_immutable(schema)


def test_untyped_json_is_not() -> None:
    assert not serdes.JSON.immutable
