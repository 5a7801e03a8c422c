"""Bytes to objects and back: ``from streamlib import serdes``, then ``serdes.STRING`` or ``serdes.json(Order)``."""

from streamlib.serdes.base import AnySerde as AnySerde
from streamlib.serdes.base import Serde as Serde
from streamlib.serdes.changed import changed as changed
from streamlib.serdes.json_serde import JSON as JSON
from streamlib.serdes.json_serde import json as json
from streamlib.serdes.primitives import BYTES as BYTES
from streamlib.serdes.primitives import FLOAT64 as FLOAT64
from streamlib.serdes.primitives import INT64 as INT64
from streamlib.serdes.primitives import STRING as STRING
from streamlib.serdes.windowed import session_windowed as session_windowed
from streamlib.serdes.windowed import time_windowed as time_windowed

__all__ = [
    "BYTES",
    "FLOAT64",
    "INT64",
    "JSON",
    "STRING",
    "AnySerde",
    "Serde",
    "changed",
    "json",
    "session_windowed",
    "time_windowed",
]
