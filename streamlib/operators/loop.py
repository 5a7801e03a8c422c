"""Writes the source of one region's loop: rows go through the whole tree one at a time, depth first.

Next: `codegen`, which compiles it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

from streamlib.operators.codegen import Source
from streamlib.operators.region import Exit, Region
from streamlib.topology.interference import FUSED
from streamlib.topology.nodes import (
    Branch,
    Filter,
    FlatMap,
    FlatMapValues,
    MapRows,
    MapValues,
    Node,
    RepartitionFilter,
    SelectKey,
)

LOOPS_MAX = 5  # Python nests at most 20 blocks; a flat map takes two of them
DEPTH_MAX = 40  # and indents at most 100 deep

COLUMNS = {"k": "keys", "v": "values", "t": "timestamps", "o": "offsets", "h": "headers"}


@dataclass(frozen=True)
class Row:
    """Where the loop is: the variables that hold the row, and what leaves the present node.

    Attributes:
        key, value: Variable names; ``k`` and ``v`` hold the incoming ones.
        skip: The statement that goes on with the next row, or None where siblings must still get this one.
        loops: How many flat maps are open in this function.
    """

    key: str = "k"
    value: str = "v"
    skip: str | None = "continue"
    loops: int = 0


class Loop:
    """Writes the source of one region's loop.

    Node by node it emits the call of the user function, the way out for a row that stops there, and the children.
    Where nothing else is left to do for a row (``Row.skip``) the way out is a ``continue``; elsewhere the children
    are nested in an ``else``.

    Args:
        run: The region.
        headers: Whether rows have headers.
        ordered: Whether a row leaves at once at each exit that it reaches; the batch has one row then.
    """

    def __init__(self, run: Region, *, headers: bool, ordered: bool = False) -> None:
        self._run = run
        self._headers = headers
        self._ordered = ordered
        self._used: set[str] = set()
        self._numbers = count(1)
        self._parts = Source(depth=1)
        self._junctions: dict[str, str] = {}
        self._out = Source(depth=2)
        self._children(run.parent, Row())

    def text(self) -> str:
        """The source: a function ``process(batch)`` that collects each exit's columns and forwards them.

        Or, if the order is to be kept, one that forwards each row to each exit as it goes.
        """
        exits = {} if self._ordered else self._run.exits
        source = Source()
        with source.block("def process(batch):", f"below {self._run.parent}"):
            for column in COLUMNS.values():
                source.line(f"{column} = batch.{column}")
            for exit_ in exits.values():
                for letter in self._collected(exit_):
                    source.line(f"x{exit_.number}{letter} = []")
                if exit_.way.one_to_one and exit_.way.touched:
                    source.line(f"holes_{exit_.number} = []")
            if self._used or (self._ordered and self._out.lines):
                source.lines.extend(self._parts.lines)
                self._header(source)
                source.lines.extend(self._out.lines)
            for name, exit_ in exits.items():
                self._forward(source, name, exit_)
        return source.text()

    def _header(self, source: Source) -> None:
        # Only the columns somebody reads are walked over; the first one's iterator tells where a failure happened.
        letters = [letter for letter in COLUMNS if letter in self._used] or ["k"]
        columns = [COLUMNS[letter] for letter in letters]
        others = ["offsets or repeat(None)" if column == "offsets" else column for column in columns[1:]]
        source.line(f"rows = iter({columns[0]})")
        over = f"zip({', '.join(['rows', *others])})" if others else "rows"
        source.line(f"for {', '.join(letters)} in {over}:")

    def _forward(self, source: Source, name: str, exit_: Exit) -> None:
        number, letters = exit_.number, self._collected(exit_)
        if exit_.direct:
            source.line(f"exit_{number}(batch)", name)
            return
        if exit_.way.one_to_one:
            taken = [
                f"x{number}{letter}" if letter in letters else f"kept({column}, holes_{number})"
                for letter, column in COLUMNS.items()
            ]
            some = f"len(holes_{number}) < len(keys)"
        else:
            taken = [
                f"x{number}o if offsets else None" if letter == "o" else f"x{number}{letter}" for letter in letters
            ]
            some = f"x{number}k"
        with source.block(f"if {some}:", name):
            source.line(f"exit_{number}(RecordBatch({', '.join(taken)}))", name)

    def _collected(self, exit_: Exit) -> str:
        return exit_.columns if self._headers else exit_.columns.replace("h", "")

    def _fresh(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers)}"

    def _children(self, name: str, row: Row) -> None:
        children = self._run.topology.children(name)
        for child in children:
            self._enter(child, row if child is children[-1] else replace(row, skip=None))

    def _enter(self, node: Node, row: Row) -> None:
        if not isinstance(node, FUSED):
            self._collect(node.name, row)
        elif self._run.is_junction(node.name):
            self._call_junction(node, row)
        elif row.loops >= LOOPS_MAX or self._out.depth >= DEPTH_MAX:
            self._use(row.key, row.value)
            self._out.line(f"{self._part(node, row)}({row.key}, {row.value})", node.name)
        else:
            self._node(node, row)

    def _call_junction(self, node: Node, row: Row) -> None:
        part = self._junctions.get(node.name)
        if part is None:
            part = self._part(node, Row(self._fresh("k"), self._fresh("v")))
            self._junctions[node.name] = part
        self._use(row.key, row.value)
        self._out.line(f"{part}({row.key}, {row.value})", node.name)

    def _part(self, node: Node, row: Row) -> str:
        """Write a node and what is below it as a function of its own, and return the function's name."""
        name = self._fresh("part_")
        out, self._out = self._out, Source(depth=1)
        with self._out.block(f"def {name}({row.key}, {row.value}):", node.name):
            self._node(node, replace(row, skip="return", loops=0))
        self._parts.lines.extend(self._out.lines)
        self._out = out
        return name

    def _use(self, *variables: str) -> None:
        self._used.update(COLUMNS.keys() & set(variables))

    def _collect(self, name: str, row: Row) -> None:
        exit_ = self._run.exits[name]
        if self._ordered:
            self._forward_row(name, exit_, row)
            return
        for letter in self._collected(exit_):
            variable = {"k": row.key, "v": row.value}.get(letter, letter)
            self._use(variable)
            self._out.line(f"x{exit_.number}{letter}.append({variable})", name)

    def _forward_row(self, name: str, exit_: Exit, row: Row) -> None:
        if exit_.direct:
            self._out.line(f"exit_{exit_.number}(batch)", name)
            return
        headers = ", [h]" if self._headers else ""
        self._use(row.key, row.value, "t", "o", *("h" if headers else ""))
        columns = f"[{row.key}], [{row.value}], [t], [o] if offsets else None{headers}"
        self._out.line(f"exit_{exit_.number}(RecordBatch({columns}))", name)

    def _node(self, node: Node, row: Row) -> None:
        if isinstance(node, RepartitionFilter) and not node.keep_null_keys:
            self._use(row.key)
            with self._out.block(f"if {row.key} is not None:", node.name):
                self._below(node, row)
        elif isinstance(node, Filter):
            self._filter(node, row)
        elif isinstance(node, Branch) and node.predicates:
            self._branch(node, row)
        elif isinstance(node, (FlatMap, FlatMapValues)):
            self._flat_map(node, row)
        elif self._run.called[node.name]:
            self._map(node, row)
        else:
            self._below(node, row)

    def _below(self, node: Node, row: Row) -> None:
        written = len(self._out.lines)
        self._children(node.name, row)
        if len(self._out.lines) == written:
            self._out.line("pass", node.name)

    def _call(self, node: Node, row: Row, function: str) -> str:
        """The call of a user function with what it takes."""
        by_value = isinstance(node, (MapValues, FlatMapValues)) and not node.with_key
        arguments = [row.value] if by_value else [row.key, row.value]
        self._use(*arguments)
        return f"{function}({', '.join(arguments)})"

    def _failure(self, node: Node, row: Row, *, leave: bool) -> None:
        """The handler of a user function: report, tell the exits that lose a row, and leave."""
        key = "keys[row]" if row.key == "k" else row.key
        value = "values[row]" if row.value == "v" else row.value
        place = "timestamps[row], offsets[row] if offsets else None"
        with self._out.block("except Exception as error:", node.name):
            self._out.line("row = len(keys) - 1 - length_hint(rows)", node.name)
            self._out.line(f"failed(error, {node.name!r}, {key}, {value}, {place})", node.name)
            for exit_ in [] if self._ordered else self._run.aligned_below(node.name):
                self._out.line(f"holes_{exit_.number}.append(row)", node.name)
            if leave and row.skip:
                self._out.line(row.skip, node.name)

    def _after_try(self, node: Node, row: Row, below: Callable[[Row], None]) -> None:
        """The handler, then what follows success."""
        self._failure(node, row, leave=True)
        if row.skip:
            below(row)
        else:
            with self._out.block("else:", node.name):
                below(row)

    def _filter(self, node: Filter, row: Row) -> None:
        call = self._call(node, row, self._run.called[node.name][0])
        if row.skip:
            with (
                self._out.block("try:", node.name),
                self._out.block(f"if {'' if node.negate else 'not '}{call}:", node.name),
            ):
                self._out.line(row.skip, node.name)
            self._after_try(node, row, lambda row: self._below(node, row))
            return
        passes = self._fresh("passes_")
        with self._out.block("try:", node.name):
            self._out.line(f"{passes} = {'not' if node.negate else 'not not'} {call}", node.name)

        def below(row: Row) -> None:
            with self._out.block(f"if {passes}:", node.name):
                self._below(node, row)

        self._after_try(node, row, below)

    def _branch(self, node: Branch, row: Row) -> None:
        way = self._fresh("way_")
        with self._out.block("try:", node.name):
            for number, function in enumerate(self._run.called[node.name]):
                call = self._call(node, row, function)
                with self._out.block(f"{'el' if number else ''}if {call}:", node.name):
                    self._out.line(f"{way} = {number}", node.name)
            with self._out.block("else:", node.name):
                self._out.line(f"{way} = {len(node.predicates)}", node.name)

        def below(row: Row) -> None:
            for number, target in enumerate([*node.targets, node.default]):
                if target is not None:
                    with self._out.block(f"{'el' if number else ''}if {way} == {number}:", target):
                        self._enter(self._run.topology.nodes[target], row)

        self._after_try(node, row, below)

    def _map(self, node: Node, row: Row) -> None:
        """One row in, one row out: map, map_values, select_key, peek; or nothing out, for_each."""
        call = self._call(node, row, self._run.called[node.name][0])
        new = row
        with self._out.block("try:", node.name):
            if isinstance(node, MapRows):
                new = replace(row, key=self._fresh("k"), value=self._fresh("v"))
                self._out.line(f"pair = {call}", node.name)
                self._unpack(node, new)
            elif isinstance(node, MapValues):
                new = replace(row, value=self._fresh("v"))
                self._out.line(f"{new.value} = {call}", node.name)
            elif isinstance(node, SelectKey):
                new = replace(row, key=self._fresh("k"))
                self._out.line(f"{new.key} = {call}", node.name)
            else:
                self._out.line(call, node.name)
        self._after_try(node, row, lambda _: self._below(node, new))

    def _flat_map(self, node: Node, row: Row) -> None:
        """The function's result is walked lazily, inside the try: what raises while walking is this node's error too.

        So the nodes below are inside the try as well; their own errors never reach it, except the decision to fail.
        """
        call = self._call(node, row, self._run.called[node.name][0])
        new = replace(row, value=self._fresh("v"), skip="continue", loops=row.loops + 1)
        with self._out.block("try:", node.name):
            if isinstance(node, FlatMap):
                new = replace(new, key=self._fresh("k"))
                with self._out.block(f"for pair in {call}:", node.name):
                    self._unpack(node, new)
                    self._below(node, new)
            else:
                with self._out.block(f"for {new.value} in {call}:", node.name):
                    self._below(node, new)
        with self._out.block("except StreamlibError:" if self._ordered else "except ProcessingError:", node.name):
            self._out.line("raise", node.name)
        self._failure(node, row, leave=False)

    def _unpack(self, node: Node, new: Row) -> None:
        with self._out.block("try:", node.name):
            self._out.line(f"{new.key}, {new.value} = pair", node.name)
        with self._out.block("except (TypeError, ValueError):", node.name):
            self._out.line("raise not_a_pair(pair) from None", node.name)
