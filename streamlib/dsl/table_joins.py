"""`TableJoins`: what a table can be joined with.

Next: `primary_key_joins` and `foreign_key_joins`, the nodes that takes; `table`, all else.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack, cast, overload

from streamlib.dsl.flow import Flow
from streamlib.dsl.foreign_key_joins import ForeignKeyJoin, ForeignKeyJoined, foreign_key_join, join_by_foreign_key
from streamlib.dsl.graph import TableStep
from streamlib.dsl.options import MaterializedValues, values_and_store
from streamlib.dsl.primary_key_joins import JoinKind, join_tables

if TYPE_CHECKING:
    from streamlib.dsl.table import KTable

K = TypeVar("K")
V = TypeVar("V")
KO = TypeVar("KO")
VO = TypeVar("VO")
VR = TypeVar("VR")


class TableJoins(Generic[K, V]):
    """The joins of a `KTable`, which is the only class made of it."""

    def __init__(self, flow: Flow, store_name: str | None = None) -> None:
        assert isinstance(flow.step, TableStep)
        self._flow = flow
        self._table = flow.step
        self._store_name = store_name

    @overload
    def join(
        self, other: "KTable[K, VO]", joiner: Callable[[V, VO], VR], **options: Unpack[MaterializedValues[VR]]
    ) -> "KTable[K, VR]": ...
    @overload
    def join(
        self,
        other: "KTable[KO, VO]",
        joiner: Callable[[V, VO], VR],
        *,
        foreign_key: Callable[[K, V], KO | None],
        **options: Unpack[ForeignKeyJoined[VR]],
    ) -> "KTable[K, VR]": ...
    def join(
        self,
        other: "KTable[Any, Any]",
        joiner: Callable[..., Any],
        *,
        foreign_key: Callable[[K, V], Any] | None = None,
        **options: Unpack[ForeignKeyJoined[Any]],
    ) -> "KTable[K, Any]":
        """The table of ``joiner(value, other value)`` for the keys that both tables have.

        Args:
            other: A table with the same keys, or the same table; both need equal partition counts. With a
                ``foreign_key`` it may have any keys and any number of partitions.
            joiner: A result of None deletes the row.
            foreign_key: ``foreign_key(key, value)`` of a row of this table gives the key of the other table's row.
                Rows for which it gives None are left out and counted. It must depend on nothing but the row.
            options: ``name``, ``value_serde``, and how the result is stored; with a ``foreign_key`` also how the tables
                are partitioned (`TableJoined`). Without a store the result is computed when somebody asks for its rows,
                and its deletions come out also where there was no row.

        Ordering: An update of either side meets the other side as it is when the update is processed. By a foreign key
            the two sides meet by way of two topics: each result belongs to rows that were there at one time, of several
            updates at once some may make no result, and the last result is that of the last rows.
        Time: Results have the later of both timestamps; an update of the other side found by a foreign key gives its
            own.
        State: Both tables get stores if they have none. A foreign key adds a store of the rows that wait for each row
            of the other table, and repartition topics to it and back.
        Source: KTable.join; KIP-213 for foreign keys.
        """
        if foreign_key is not None:
            return self._join_by_foreign_key(other, foreign_key_join(foreign_key, joiner, options, left=False))
        return self._join(other, joiner, "inner", options)

    @overload
    def left_join(
        self, other: "KTable[K, VO]", joiner: Callable[[V, VO | None], VR], **options: Unpack[MaterializedValues[VR]]
    ) -> "KTable[K, VR]": ...
    @overload
    def left_join(
        self,
        other: "KTable[KO, VO]",
        joiner: Callable[[V, VO | None], VR],
        *,
        foreign_key: Callable[[K, V], KO | None],
        **options: Unpack[ForeignKeyJoined[VR]],
    ) -> "KTable[K, VR]": ...
    def left_join(
        self,
        other: "KTable[Any, Any]",
        joiner: Callable[..., Any],
        *,
        foreign_key: Callable[[K, V], Any] | None = None,
        **options: Unpack[ForeignKeyJoined[Any]],
    ) -> "KTable[K, Any]":
        """The table of ``joiner(value, other value)`` for the keys of this table; None where the other has no row.

        As `join` otherwise; rows without a foreign key come out too. Source: KTable.leftJoin.
        """
        if foreign_key is not None:
            return self._join_by_foreign_key(other, foreign_key_join(foreign_key, joiner, options, left=True))
        return self._join(other, joiner, "left", options)

    def outer_join(
        self,
        other: "KTable[K, VO]",
        joiner: Callable[[V | None, VO | None], VR],
        **options: Unpack[MaterializedValues[VR]],
    ) -> "KTable[K, VR]":
        """The table of ``joiner(value, other value)`` for the keys of either table; None where one has no row.

        As `join` otherwise. Source: KTable.outerJoin.
        """
        return self._join(other, joiner, "outer", options)

    def _join(
        self, other: "KTable[K, Any]", joiner: Callable[..., Any], kind: JoinKind, options: MaterializedValues[Any]
    ) -> "KTable[K, Any]":
        if not isinstance(other, TableJoins):
            msg = f"a table can be joined with another KTable, got {other!r}"  # type: ignore[unreachable]
            self._flow.graph.problems.append(msg)
            return self._made(self._flow, None)
        return self._made(*join_tables(self._flow, other._flow, joiner, kind, values_and_store(options)))

    def _join_by_foreign_key(self, other: "KTable[Any, Any]", join: ForeignKeyJoin) -> "KTable[K, Any]":
        if not isinstance(other, TableJoins):
            msg = f"a table can be joined with another KTable, got {other!r}"  # type: ignore[unreachable]
            self._flow.graph.problems.append(msg)
            return self._made(self._flow, None)
        return self._made(*join_by_foreign_key(self._flow, other._flow, join))

    def _made(self, flow: Flow, store_name: str | None) -> "KTable[K, Any]":
        return cast("KTable[K, Any]", type(self)(flow, store_name))
