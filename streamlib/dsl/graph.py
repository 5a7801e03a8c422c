"""What the DSL calls leave behind: a graph of steps, one for each call that adds nodes to the plan.

Steps are kept apart from nodes because a later call can change what an earlier one adds: a join needs the rows of a
table, so the table gets a store; a second `stream` of a topic is read by the source of the first. Numbers are taken
from the counter of names at the time of the call. Source: InternalStreamsBuilder, GraphNode.
Next: `layout`, which writes the plan.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from streamlib.dsl.options import StoreOptions
from streamlib.serdes.base import AnySerde, Serde
from streamlib.serdes.primitives import BYTES
from streamlib.state.spec import StoreSpec
from streamlib.topology.naming import Names, what_is_wrong
from streamlib.topology.nodes import Node, TableSource
from streamlib.topology.plan import SourceKind
from streamlib.topology.subtopologies import RepartitionTopic
from streamlib.topology.topic_names import takes_context
from streamlib.topology.windows import to_ms


@dataclass(eq=False)
class Step:
    """One operation.

    Attributes:
        nodes: What it adds to the plan, in that order. The steps above feed the first, the last feeds the steps below.
        stores: Stores it adds.
        source_kind: What its source is read as; None when it has no source.
        repartition_topic: The topic between its sink and its source.
        mergeable: Whether its repartition topic may be shared with others: the user has not asked for this one.
        merges: Whether it is a merge of two streams.
        relaxes_null_keys: Whether it wants records without a key, so that repartitioning above must not drop them.
        priority: Its place in the order of writing.
    """

    nodes: list[Node] = field(default_factory=list)
    stores: list[StoreSpec] = field(default_factory=list)
    source_kind: SourceKind | None = None
    repartition_topic: RepartitionTopic | None = None
    mergeable: bool = False
    merges: bool = False
    relaxes_null_keys: bool = False
    priority: int = 0
    parents: list["Step"] = field(default_factory=list)
    children: list["Step"] = field(default_factory=list)

    @property
    def output(self) -> str:
        """Name of the node that feeds the steps below."""
        return self.nodes[-1].name

    def nodes_below(self, parents: tuple[str, ...]) -> list[Node]:
        """The nodes, the first of them fed by ``parents``: the outputs of the steps above, in their order."""
        return [replace(self.nodes[0], parents=parents), *self.nodes[1:]]

    def rewired(self, copies: Mapping["Step", "Step"]) -> None:
        """Refer to copies of the steps around, where there are some; for a step that is a copy itself."""
        self.parents = [copies[parent] for parent in self.parents]
        self.children = [copies[child] for child in self.children]
        self.nodes, self.stores = list(self.nodes), list(self.stores)

    def change(self, **changes: object) -> None:
        """Replace attributes of the last node."""
        self.nodes[-1] = replace(self.nodes[-1], **changes)  # type: ignore[arg-type]


@dataclass(eq=False)
class TableStep(Step):
    """A step whose last node is a table.

    Attributes:
        spec: The store a source table gets once someone needs its rows; None when it has one, or never gets one.
        above: The table whose rows this one's are computed from; None for a source or an aggregation.
        unversioned: Whether its updates count as the latest, also those of a versioned table above.
    """

    spec: StoreSpec | None = None
    above: "TableStep | None" = None
    unversioned: bool = False

    @property
    def has_store(self) -> bool:
        """Whether the table's own rows are stored."""
        return getattr(self.nodes[-1], "store", None) is not None

    @property
    def is_versioned(self) -> bool:
        """Whether its updates may be older than its rows: it has a versioned store, or the table above is versioned.

        Source: GraphNode.isOutputVersioned, InternalStreamsBuilder.isVersionedUpstream.
        """
        if self._own_stores or self.above is None:
            return self.history_ms is not None
        return not self.unversioned and self.above.is_versioned

    @property
    def history_ms(self) -> int | None:
        """For how long its rows of the past can be had; None if only those of the present can."""
        if self._own_stores:
            return next((spec.retention_ms for spec in self._own_stores if spec.kind == "versioned"), None)
        return None if self.above is None else self.above.history_ms

    @property
    def _own_stores(self) -> list[StoreSpec]:
        return self.stores if self.spec is None else [*self.stores, self.spec]

    def view(self) -> tuple[str, ...]:
        """Names of the stores from which the table's rows can be had; a source table is given one.

        Source: KTableImpl.valueGetterSupplier.
        """
        if self.above is not None and not self.has_store:
            return self.above.view()
        self.materialize()
        return (self.nodes[-1].store,)  # type: ignore[attr-defined]

    def send_old_values(self, *, force: bool) -> bool:
        """Make updates of the table carry the values before them; whether they do.

        Args:
            force: Give source tables a store if that is what it takes.

        Source: KTableImpl.enableSendingOldValues.
        """
        if self.above is not None and not self.has_store and not self.above.send_old_values(force=force):
            return False
        if isinstance(self.nodes[-1], TableSource) and not self.has_store and not force:
            return False
        self.materialize()
        self.change(send_old=True)
        return True

    def materialize(self) -> None:
        """Give the table its store, unless it has one or cannot have one."""
        if self.spec is not None:
            self.stores.append(self.spec)
            used = getattr(self.nodes[-1], "used", ())  # by user code
            self.change(store=self.spec.name, stores=(*used, self.spec.name))
            self.spec = None


@dataclass(frozen=True)
class Defaults:
    """What a builder uses where an operation names nothing."""

    key_serde: AnySerde | None = None
    value_serde: AnySerde | None = None
    in_memory: bool = False


class Graph:
    """The steps of one builder, its counter of names, and the mistakes noted so far.

    Attributes:
        root: What is above all sources.
        steps: All others, in the order they were added first.
        make_stream: Makes the facade of a stream; handed in, because tables turn into streams and streams into tables.
    """

    def __init__(self, defaults: Defaults, make_stream: Callable[..., Any]) -> None:
        self.root = Step()
        self.steps: list[Step] = []
        self.problems: list[str] = []
        self.copartitioned: list[frozenset[str]] = []
        self.names = Names()
        self.make_stream = make_stream
        self._added = 0
        self._in_memory = defaults.in_memory
        self._key_serde = defaults.key_serde and self.serde(defaults.key_serde, BYTES, "the builder's default")
        self._value_serde = defaults.value_serde and self.serde(defaults.value_serde, BYTES, "the builder's default")

    def add(self, step: Step, *parents: Step) -> None:
        """Put a step below others (below the root without any), behind all steps added so far.

        A step may be added again below the same parents, which only moves it back in the order of writing.
        """
        self._added += 1
        step.priority = self._added
        if not step.parents:
            self.steps.append(step)
        for parent in parents or (self.root,):
            if parent not in step.parents:
                step.parents.append(parent)
                parent.children.append(step)

    def name(self, given: str | None, prefix: str, suffix: str = "") -> str:
        """The name of a node: what the user gave, with a suffix, or a generated one. Takes one number either way."""
        generated = self.names.node(prefix)
        if given is None:
            return generated
        self.check_name(given, "the name")
        return f"{given}{suffix}"

    def check_name(self, name: str, what: str) -> None:
        """Note a name that a broker would refuse."""
        if (wrong := what_is_wrong(name)) is not None:
            self.problems.append(f"{what} {name!r} cannot be used: {wrong}")

    def takes_context(self, extractor: Callable[..., Any], node: str) -> bool:
        """Whether a function that names topics takes the record context; one that cannot be called is noted."""
        try:
            return takes_context(extractor)
        except TypeError as error:
            self.problems.append(f'"{node}" cannot ask for topics: {error}')
            return False

    def is_foreign(self, other: "Graph", where: str) -> bool:
        """Whether something comes from another builder, which is noted."""
        if other is not self:
            self.problems.append(
                f'"{where}" combines streams or tables of two builders: make both with one StreamsBuilder'
            )
        return other is not self

    def serde(self, given: AnySerde | None, fallback: AnySerde, where: str) -> AnySerde:
        """The serde the user gave, else the fallback; something that is no serde is noted."""
        if given is None:
            return fallback
        if not isinstance(given, Serde):
            msg = f"{where}: {given!r} is not a serde, use one of streamlib.serdes (STRING, INT64, JSON, json(Type)...)"  # type: ignore[unreachable]
            self.problems.append(msg)
            return fallback
        return given

    def new_key_serde(self, given: AnySerde | None, before: AnySerde, where: str) -> AnySerde:
        """The serde of keys that an operation makes: what it was given, the builder's default, or the one before."""
        return self.serde(given, self._key_serde or before, where)

    def new_value_serde(self, given: AnySerde | None, before: AnySerde, where: str) -> AnySerde:
        """The same for values."""
        return self.serde(given, self._value_serde or before, where)

    def store(
        self, options: StoreOptions, prefix: str, key_serde: AnySerde, value_serde: AnySerde, *, windowed: bool = False
    ) -> StoreSpec:
        """A key-value store, plain or versioned; takes a number for its name unless the user gave one."""
        if options.store_name is not None:
            self.check_name(options.store_name, "the store name")
        name = self.names.store(prefix) if options.store_name is None else str(options.store_name)
        if options.retention is not None and not windowed:
            self.problems.append(f'the store "{name}" has no windows: leave out its retention')
        history_ms = None if options.versioned is None else self._history_ms(options, name, windowed=windowed)
        ttl_ms = None if options.ttl is None else self._ttl_ms(options, name, windowed=windowed)
        return StoreSpec(
            name=name,
            kind="key_value" if history_ms is None else "versioned",
            key_serde=key_serde,
            value_serde=value_serde,
            persistent=not (self._in_memory if options.in_memory is None else options.in_memory),
            caching=options.caching and history_ms is None and ttl_ms is None,
            ttl_ms=ttl_ms,
            retention_ms=history_ms or 0,
            logging=options.logging,
            topic_configs=dict(options.topic_configs),
        )

    def _ttl_ms(self, options: StoreOptions, name: str, *, windowed: bool) -> int:
        """How long rows of a store live."""
        ttl_ms = to_ms(options.ttl)
        if windowed or options.versioned is not None:
            what = "windows" if windowed else "versions"
            self.problems.append(f'the store "{name}" has {what}, which expire by themselves: leave out ttl=')
        if options.store_name is None:
            self.problems.append(f'the store "{name}" needs a name for its rows to expire: give it one with store=')
        if ttl_ms < 1:
            self.problems.append(f'rows of the store "{name}" cannot live for {ttl_ms} ms: give them 1 ms or more')
        return max(ttl_ms, 1)

    def _history_ms(self, options: StoreOptions, name: str, *, windowed: bool) -> int:
        """How long a versioned store keeps what was replaced."""
        history_ms = to_ms(options.versioned)
        if windowed:
            self.problems.append(f'the store "{name}" has windows and cannot be versioned: leave out versioned=')
        if options.store_name is None:
            self.problems.append(f'the versioned store "{name}" needs a name: give it one with store=')
        if history_ms < 0:
            self.problems.append(f'the store "{name}" cannot keep versions for {history_ms} ms: give it 0 or more')
        return max(history_ms, 0)
