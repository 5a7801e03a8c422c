"""A run of stateless nodes becomes one generated loop over columns.

The run is a tree: from the output of a source or stateful operator down to its exits, the nodes that follow it. The
loop takes one row at a time through the whole tree, depth first and children in the order they were connected, as the
Java library does; what reaches an exit is collected in columns, and each exit gets one batch when the loop is done.

A user function that raises concerns its own row at its own node: `ErrorHandler.failed` is asked, and when it returns,
the siblings of that node still get the row (KIP-1033). Since Python 3.11 a ``try`` costs nothing until it raises.

Source: ProcessorContextImpl.forward, ProcessorNode.process. Next: `loop`, which writes the source; then the stateful
operators, beginning with `table_source`; `runtime/lowering` puts them together.
"""

from collections.abc import Mapping
from itertools import repeat
from operator import length_hint
from typing import Any

from streamlib.errors import ProcessingError, StreamlibError
from streamlib.operators.base import ErrorHandler, Forward
from streamlib.operators.codegen import load
from streamlib.operators.loop import Loop
from streamlib.operators.region import Region
from streamlib.operators.selection import single_rows
from streamlib.record import RecordBatch
from streamlib.topology.interference import region
from streamlib.topology.topology import Topology


def fuse(
    topology: Topology,
    parent: str,
    forwards: Mapping[str, Forward],
    errors: ErrorHandler,
    file_name: str,
    *,
    ordered: bool = False,
) -> Forward:
    """What takes the output of ``parent`` to everything below it.

    Args:
        topology: The plan.
        parent: A node that is not stateless: where the region begins.
        forwards: The entry of each node that follows the region, by name.
        errors: Asked when a user function raises.
        file_name: Of the generated source, e.g. ``<streamlib topology words subtopology 0 KSTREAM-SOURCE-0000000000>``.
        ordered: Whether each row goes all the way down before the next one, and not only through this region: where
            what follows one exit touches what follows another.
    """
    fused, exits = region(topology, parent)
    if not fused:
        forward_all = in_order([forwards[name] for name in exits])
        return row_by_row(forward_all) if ordered else forward_all
    run = Region(topology, parent)
    names: dict[str, Any] = {
        "ProcessingError": ProcessingError,
        "RecordBatch": RecordBatch,
        "StreamlibError": StreamlibError,
        "failed": errors.failed,
        "kept": kept,
        "length_hint": length_hint,
        "not_a_pair": not_a_pair,
        "repeat": repeat,
        **{f"exit_{exit_.number}": forwards[name] for name, exit_ in run.exits.items()},
        **run.functions,
    }
    plain = _generate(run, file_name, names, headers=False, ordered=ordered)
    if not run.collects_headers and not ordered:
        return plain
    with_headers = _generate(run, f"{file_name.removesuffix('>')} with headers>", names, headers=True, ordered=ordered)

    def forward(batch: RecordBatch) -> None:
        if batch.headers is None:
            plain(batch)
        else:
            with_headers(batch)

    return row_by_row(forward) if ordered else forward


def row_by_row(forward: Forward) -> Forward:
    """A forward that hands on one row at a time."""

    def forward_rows(batch: RecordBatch) -> None:
        if len(batch) == 1:
            forward(batch)
        else:
            for row in single_rows(batch):
                forward(row)

    return forward_rows


def in_order(forwards: list[Forward]) -> Forward:
    """One forward that calls several."""
    if len(forwards) == 1:
        return forwards[0]

    def forward(batch: RecordBatch) -> None:
        for each in forwards:
            each(batch)

    return forward


def kept(column: list[Any] | None, holes: list[int]) -> list[Any] | None:
    """A column without the rows that were lost to errors; the very same list when there are none."""
    if not holes or column is None:
        return column
    lost = set(holes)
    return [entry for row, entry in enumerate(column) if row not in lost]


def not_a_pair(got: object) -> TypeError:
    """What is wrong with the result of a map or flat_map function that is not a pair."""
    return TypeError(f"the function must give (key, value) pairs, not {got!r}: write `return key, value`")


def _generate(run: Region, file_name: str, names: dict[str, Any], *, headers: bool, ordered: bool) -> Forward:
    process: Forward = load(Loop(run, headers=headers, ordered=ordered).text(), file_name, names)["process"]
    return process
