"""Joins of two streams. Next: `topology/stream_join_nodes`, what is left of them in the plan."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Generic, TypeVar

from streamlib.dsl.flow import Flow
from streamlib.dsl.graph import Graph, Step
from streamlib.dsl.idle import idle_ms
from streamlib.dsl.late import LateTo, add_late, passing_late
from streamlib.dsl.options import NewValues, StoreOptions
from streamlib.error_policies import OnError
from streamlib.serdes.base import AnySerde, Serde
from streamlib.serdes.primitives import BYTES
from streamlib.state.spec import StoreSpec
from streamlib.topology.nodes import Node, PassThrough
from streamlib.topology.stream_join_nodes import JoinWindow, StreamSelfJoin, StreamStreamJoin
from streamlib.topology.windows import JoinWindows

K = TypeVar("K")
V = TypeVar("V")
VO = TypeVar("VO")
VR = TypeVar("VR")


class StreamJoined(NewValues[VR], Generic[K, V, VO, VR], total=False):
    """How two streams are joined, and how their records are kept for it.

    Attributes:
        key_serde: Of the keys in repartition topics and stores, if not that of this stream.
        this_value_serde: Of this stream's values there, if not that of this stream.
        other_value_serde: Of the other stream's values there, if not that of the other stream.
        store: First part of the names of the stores, and so of their changelogs.
        logging: Whether the stores have changelog topics (the default); without, they are empty after a restart.
        in_memory: Whether records are kept in memory instead of RocksDB.
        topic_configs: Settings of the changelog topics.
        late_to: A topic for the records of both streams that come too late to be kept for the other side, each written
            as its stream is; or a function that is called with the stream of them, once for each side. Such a record is
            counted as ``expired``, and may have met records of the other stream all the same. Headers tell the window
            around it and the stream time, as in `TimeWindowedKStream`.
        close_after_idle: After so long without records of either stream those without a match come out all the same,
            instead of the worker's ``close_windows_after_idle_ms``; zero for never. Left and outer joins only.
    """

    key_serde: Serde[K] | None
    this_value_serde: Serde[V] | None
    other_value_serde: Serde[VO] | None
    store: str | None
    logging: bool
    in_memory: bool
    topic_configs: Mapping[str, str]
    late_to: "LateTo[K, V | VO] | None"
    close_after_idle: timedelta | None


@dataclass(frozen=True)
class StreamJoinOptions:
    """`StreamJoined` with its defaults."""

    name: str | None = None
    value_serde: AnySerde | None = None
    on_error: OnError | None = None
    key_serde: AnySerde | None = None
    this_value_serde: AnySerde | None = None
    other_value_serde: AnySerde | None = None
    store: str | None = None
    logging: bool = True
    in_memory: bool | None = None
    topic_configs: Mapping[str, str] = field(default_factory=dict)
    late_to: "LateTo[Any, Any] | None" = None
    close_after_idle: timedelta | None = None

    def suffixed(self, suffix: str) -> str | None:
        """The user's name with a suffix, None when there is no name."""
        return None if self.name is None else f"{self.name}{suffix}"


@dataclass(frozen=True)
class StreamJoin:
    """What a join of two streams is told.

    Attributes:
        joiner: The user's function.
        windows: Which records meet.
        with_key: Whether the joiner is called with the key first.
        outer: Whether records of this stream, and of the other, come out without a match.
        options: All else.
    """

    joiner: Callable[..., Any]
    windows: JoinWindows
    with_key: bool
    outer: tuple[bool, bool]
    options: StreamJoinOptions


@dataclass(eq=False, kw_only=True)
class StreamJoinStep(Step):
    """A join of two streams: a node for each side, each below the one that keeps its records, and a merge of both.

    Attributes:
        windowed: What keeps the records of this stream, and of the other.

    It hangs below both streams and not below ``windowed``, as in Java, where that decides about the order of writing.
    """

    windowed: tuple[Step, Step]

    def nodes_below(self, parents: tuple[str, ...]) -> list[Node]:
        """The nodes as they are: ``windowed`` feeds them."""
        return self.nodes

    def rewired(self, copies: Mapping[Step, Step]) -> None:
        """Refer to copies, of ``windowed`` too."""
        super().rewired(copies)
        this, other = self.windowed
        self.windowed = copies[this], copies[other]

    def join_with_itself(self) -> None:
        """Become a self-join: one node, in place of the merge, and the store of one side.

        Source: StreamStreamJoinNode.setSelfJoin, KStreamKStreamSelfJoin.
        """
        this, _, merge = self.nodes
        assert isinstance(this, StreamStreamJoin)
        self.nodes = [
            StreamSelfJoin(
                name=merge.name,
                parents=this.parents,
                stores=(this.this_store,),
                store=this.this_store,
                windows=this.windows,
                joiner=this.joiner,
                with_key=this.with_key,
                on_error=this.on_error,
            )
        ]
        self.stores = [spec for spec in self.stores if spec.name == this.this_store]


def join_streams(this: Flow, other: Flow, join: StreamJoin) -> Flow:
    """The flow after a join of two streams with the same keys, in the same partitions.

    Numbers for names are taken for the two nodes that keep records, the two sides and the merge, in this order.
    Source: KStreamImplJoin.join, StreamStreamJoinNode.
    """
    graph, options = this.graph, join.options

    def name(prefix: str, suffix: str) -> tuple[str, str]:
        generated = graph.names.node(prefix)
        return options.suffixed(suffix) or generated, generated

    this_outer, other_outer = join.outer
    this_suffix, other_suffix = _suffixes(join)
    this_windowed, _ = name("KSTREAM-WINDOWED-", "-this-windowed")
    other_windowed, _ = name("KSTREAM-WINDOWED-", "-other-windowed")
    this_name, this_generated = name("KSTREAM-OUTERTHIS-" if other_outer else "KSTREAM-JOINTHIS-", this_suffix)
    other_name, other_generated = name("KSTREAM-OUTEROTHER-" if this_outer else "KSTREAM-JOINOTHER-", other_suffix)
    merge_name, _ = name("KSTREAM-MERGE-", "-merge")
    stores = _stores(graph, this, other, join, (this_generated, other_generated))
    this_store, other_store, *unmatched = (spec.name for spec in stores)
    late_to, windows = options.late_to, join.windows
    mirrored = replace(windows, before_ms=windows.after_ms, after_ms=windows.before_ms)
    windowed = (
        _windowed(this, JoinWindow(name=this_windowed, stores=(this_store,), store=this_store), join.windows, late_to),
        _windowed(other, JoinWindow(name=other_windowed, stores=(other_store,), store=other_store), mirrored, late_to),
    )
    this_node = StreamStreamJoin(
        name=this_name,
        parents=(this_windowed,),
        stores=(other_store, *unmatched),
        left=True,
        this_store=this_store,
        other_store=other_store,
        unmatched_store=unmatched[0] if unmatched else None,
        windows=join.windows,
        joiner=join.joiner,
        with_key=join.with_key,
        outer=this_outer,
        on_error=options.on_error,
        idle_ms=idle_ms(graph, options.close_after_idle, f'"{merge_name}"'),
    )
    other_node = replace(
        this_node,
        name=other_name,
        parents=(other_windowed,),
        stores=(this_store, *unmatched),
        left=False,
        this_store=other_store,
        other_store=this_store,
        outer=other_outer,
    )
    merge = PassThrough(name=merge_name, parents=(this_name, other_name))
    step = StreamJoinStep(
        [this_node, other_node, merge], stores, relaxes_null_keys=this_outer or other_outer, windowed=windowed
    )
    graph.add(step, this.step, other.step)
    sources = this.sources | other.sources
    graph.copartitioned.append(sources)
    joined = replace(this, sources=sources, rekeyed=False)
    return joined.after(step, value_serde=this.new_value_serde(options.value_serde, merge_name))


def _suffixes(join: StreamJoin) -> tuple[str, str]:
    """What the names of the two sides and of their stores end with."""
    this_outer, other_outer = join.outer
    return "-outer-this-join" if other_outer else "-this-join", "-outer-other-join" if this_outer else "-other-join"


def _windowed(flow: Flow, node: JoinWindow, windows: JoinWindows, late_to: "LateTo[Any, Any] | None") -> Step:
    step = Step([passing_late(replace(node, windows=windows), late_to)])
    flow.graph.add(step, flow.step)
    add_late(flow, step, late_to)
    return step


def _stores(graph: Graph, this: Flow, other: Flow, join: StreamJoin, generated: tuple[str, str]) -> list[StoreSpec]:
    """What keeps this stream's records, the other's, and in a left or outer join those without a match.

    Source: StreamJoinedStoreFactory, OuterStreamJoinStoreFactory.
    """
    options, windows = join.options, join.windows

    def store(name: str, value_serde: AnySerde) -> StoreSpec:
        given = StoreOptions(
            store=f"{name}-store",
            caching=False,
            logging=options.logging,
            in_memory=options.in_memory,
            topic_configs=options.topic_configs,
        )
        spec = graph.store(given, "", this.key_serde, value_serde)
        return replace(spec, timestamped=False, retain_duplicates=True)

    def windowed(name: str, value_serde: AnySerde) -> StoreSpec:
        spec = store(name, value_serde)
        return replace(
            spec,
            kind="window",
            window_size_ms=windows.size_ms,
            retention_ms=windows.retention_ms,
            exact_expiry=not spec.persistent,
            topic_configs={**spec.topic_configs, "cleanup.policy": "delete"},
        )

    base = options.store
    names = generated if base is None else tuple(f"{base}{suffix}" for suffix in _suffixes(join))
    stores = [windowed(names[0], this.value_serde), windowed(names[1], other.value_serde)]
    if join.outer[0]:
        number = generated[0].rpartition("-")[2]
        kind = "-outer-shared-join" if join.outer[1] else "-left-shared-join"
        stores.append(store(f"KSTREAM-OUTERSHARED-{number}" if base is None else f"{base}{kind}", BYTES))
    return stores
