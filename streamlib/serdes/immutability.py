"""Whether the objects of a type can be changed in place, as far as the type tells. Next: `json_serde`, which asks."""

import msgspec
from msgspec import inspect

_PLAIN = (
    inspect.NoneType,
    inspect.BoolType,
    inspect.IntType,
    inspect.FloatType,
    inspect.StrType,
    inspect.BytesType,
    inspect.DateTimeType,
    inspect.DateType,
    inspect.TimeType,
    inspect.TimeDeltaType,
    inspect.DecimalType,
    inspect.UUIDType,
    inspect.EnumType,
    inspect.LiteralType,
)


def is_immutable(schema: object) -> bool:
    """True only for types whose objects cannot be changed: scalars, and frozen structures of nothing else."""
    try:
        return _is_immutable(inspect.type_info(schema), frozenset())
    except (TypeError, msgspec.MsgspecError):
        return False


def _is_immutable(info: inspect.Type, above: frozenset[type]) -> bool:
    """``above`` are the classes that hold this one: a recursive type is judged by its other fields."""
    if isinstance(info, _PLAIN):
        return True
    if isinstance(info, inspect.StructType | inspect.DataclassType):
        if info.cls in above:
            return True
        return _is_frozen(info.cls) and all(_is_immutable(field.type, above | {info.cls}) for field in info.fields)
    if isinstance(info, inspect.UnionType):
        return all(_is_immutable(each, above) for each in info.types)
    if isinstance(info, inspect.VarTupleType | inspect.FrozenSetType):
        return _is_immutable(info.item_type, above)
    if isinstance(info, inspect.TupleType):
        return all(_is_immutable(each, above) for each in info.item_types)
    return False


def _is_frozen(cls: type) -> bool:
    if issubclass(cls, msgspec.Struct):
        return bool(cls.__struct_config__.frozen)
    return bool(getattr(cls, "__dataclass_params__").frozen)  # noqa: B009 - not in the types of dataclasses
