"""JSON through msgspec, untyped or typed, or through pydantic for its models.

msgspec reads and writes untyped objects too, as fast as orjson does, so one library serves both. Next: `windowed`, for
keys of windowed tables.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, overload

import msgspec

from streamlib.serdes.base import Serde
from streamlib.serdes.immutability import is_immutable

T = TypeVar("T")


class PydanticModel(Protocol):
    """What is used of a pydantic model; pydantic itself is never imported here."""

    @classmethod
    def model_validate_json(cls, json_data: bytes) -> Any:
        """An instance from JSON."""

    def model_dump_json(self) -> str:
        """The instance as JSON."""


@overload
def json(schema: type[T], *, sort_keys: bool = False) -> Serde[T]: ...
@overload
def json(schema: object = None, *, sort_keys: bool = False) -> Serde[Any]: ...
def json(schema: object = None, *, sort_keys: bool = False) -> Serde[Any]:
    """A serde for JSON in UTF-8.

    Args:
        schema: What the bytes decode to, checked while decoding: a `msgspec.Struct`, a dataclass, a TypedDict, any
            other type msgspec knows (``dict[str, list[int]]``), or a pydantic model. None decodes to plain dicts,
            lists, strings, numbers and booleans.
        sort_keys: Whether members are written in the order of their names, so that equal values have equal bytes:
            needed where JSON is a key. Pydantic models are always written in the order of their fields.

    A frozen Struct or dataclass of fields that cannot be changed in place either makes lookups in tables cheaper: what
    was decoded once is handed out again.

    Raises:
        TypeError: A type that neither msgspec nor pydantic can decode.
    """
    name = "json" if schema is None else f"json[{getattr(schema, '__name__', schema)}]"
    if hasattr(schema, "model_validate_json"):
        return Serde(name, _dump_model, schema.model_validate_json)
    encode: Callable[[Any], bytes] = msgspec.json.Encoder(order="sorted" if sort_keys else None).encode
    decode = msgspec.json.Decoder(Any if schema is None else schema).decode
    return Serde(name, encode, decode, immutable=schema is not None and is_immutable(schema))


def _dump_model(model: PydanticModel) -> bytes:
    return model.model_dump_json().encode()


JSON: Serde[Any] = json()
"""Untyped JSON: dicts, lists, strings, numbers, booleans."""
