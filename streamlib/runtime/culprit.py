"""Names what a thread is doing, from its stack: the task, the node of the topology, and the function of the user.

Generated loops carry the node of each line as its comment; operators know the node they were made for. The user's
function is what our code has called last.
"""

import linecache
import os
import sysconfig
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGE = Path(__file__).parents[1]
OPERATORS, *OTHERS = (
    f"{PACKAGE / name}{os.sep}" for name in ("operators", "runtime", "serdes", "state", "testing", "transport")
)
TASK = str(Path(__file__).with_name("task.py"))
PYTHON = tuple(f"{sysconfig.get_paths()[kind]}{os.sep}" for kind in ("stdlib", "platstdlib"))
GENERATED = "<streamlib "


def culprit(frame: FrameType) -> str:
    """What the stack that ends with ``frame`` is about, e.g. ``task=0_1 node="enrich" in look_up (app.py:12)``."""
    frames = [frame]
    while (caller := frames[-1].f_back) is not None:
        frames.append(caller)
    place = _called_by_us(frames)
    parts = [f"in {place.f_code.co_name} ({place.f_code.co_filename}:{place.f_lineno})"]
    if node := next(filter(None, map(_node, frames)), None):
        parts.insert(0, f'node="{node}"')
    task_id = next((_owner(each, "task_id") for each in frames if each.f_code.co_filename == TASK), None)
    if task_id is not None:
        parts.insert(0, f"task={task_id}")
    return " ".join(parts)


def _called_by_us(frames: list[FrameType]) -> FrameType:
    """The frame that matters, of a stack that begins with the innermost one."""
    for number, frame in enumerate(frames):
        if frame.f_code.co_filename.startswith((GENERATED, OPERATORS, *OTHERS)):
            return frames[max(0, number - 1)]
    return next((each for each in frames if not each.f_code.co_filename.startswith(("<", *PYTHON))), frames[0])


def _node(frame: FrameType) -> str | None:
    """The node that a frame works for, if it tells."""
    filename = frame.f_code.co_filename
    if filename.startswith(GENERATED):
        return linecache.getline(filename, frame.f_lineno).partition("  # ")[2].strip() or None
    if not filename.startswith(OPERATORS):
        return None
    node = _owner(frame, "_node")
    name = getattr(node, "name", node) if node is not None else _owner(frame, "_name")
    return name if isinstance(name, str) else None


def _owner(frame: FrameType, attribute: str) -> Any:
    """An attribute of the object whose method a frame runs."""
    return getattr(frame.f_locals.get("self"), attribute, None)
