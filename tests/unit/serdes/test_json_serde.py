from dataclasses import dataclass
from typing import TypedDict

import msgspec
import pydantic
import pytest

from streamlib import serdes
from streamlib.serdes import AnySerde


class Order(msgspec.Struct):
    id: int
    total: float = 0.0


@dataclass
class Customer:
    id: int
    name: str


class Point(TypedDict):
    x: int
    y: int


class Alert(pydantic.BaseModel):
    id: int
    text: str


def test_plain_objects_come_back_when_no_type_is_given() -> None:
    value = {"b": [1, 2.5, None, True], "a": "é"}
    data = serdes.JSON.serialize(value)
    assert data == '{"b":[1,2.5,null,true],"a":"é"}'.encode()
    assert serdes.JSON.deserialize_many([data, None]) == [value, None]


def test_members_are_in_the_order_of_names_when_keys_are_sorted() -> None:
    assert serdes.json(sort_keys=True).serialize({"b": 1, "a": 2}) == b'{"a":2,"b":1}'
    assert serdes.json(Point, sort_keys=True).serialize({"y": 1, "x": 2}) == b'{"x":2,"y":1}'


@pytest.mark.parametrize(
    ("schema", "value", "data"),
    [
        (Order, Order(1, 2.5), b'{"id":1,"total":2.5}'),
        (Customer, Customer(1, "a"), b'{"id":1,"name":"a"}'),
        (Point, {"x": 1, "y": 2}, b'{"x":1,"y":2}'),
        (Alert, Alert(id=1, text="a"), b'{"id":1,"text":"a"}'),
        (dict[str, list[int]], {"a": [1]}, b'{"a":[1]}'),
    ],
)
def test_an_instance_comes_back_when_a_type_is_given(schema: type, value: object, data: bytes) -> None:
    serde: AnySerde = serdes.json(schema)
    assert serde.serialize(value) == data
    assert serde.deserialize_many([data, None]) == [value, None]
    assert isinstance(serde.deserialize(data), type(value))


@pytest.mark.parametrize("schema", [Order, Customer, Point, Alert])
def test_bytes_are_refused_when_they_do_not_fit_the_type(schema: type) -> None:
    serde: AnySerde = serdes.json(schema)
    with pytest.raises(ValueError, match=r"id|x"):
        serde.deserialize(b'{"id":"one","name":"a","text":"b","x":"c","y":1}')


def test_the_name_tells_the_type_when_a_serde_is_printed() -> None:
    assert [serdes.JSON.name, serdes.json(Order).name, serdes.json(Alert).name] == [
        "json",
        "json[Order]",
        "json[Alert]",
    ]


def test_a_type_is_refused_when_nothing_can_decode_it() -> None:
    with pytest.raises(TypeError, match="may not contain"):
        serdes.json(Order | Customer)
