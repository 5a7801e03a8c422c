"""`StreamCalls`: operations of a stream whose functions are asynchronous. Next: `topology/async_nodes`."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, Unpack, overload

from streamlib.dsl.flow import Flow
from streamlib.dsl.options import NewValues, ValueOptions
from streamlib.record import Record
from streamlib.serdes.base import Serde
from streamlib.topology.async_nodes import AsyncCalls, CallPolicy, Gives
from streamlib.topology.windows import to_ms

if TYPE_CHECKING:
    from streamlib.dsl.stream import KStream

K = TypeVar("K")
V = TypeVar("V")
KR = TypeVar("KR")
VR = TypeVar("VR")


class Calling(NewValues[V], Generic[V], total=False):
    """Options of operations with asynchronous functions; what they mean is told in `StreamCalls.map_values_async`."""

    concurrency: int
    ordered: bool
    one_per_key: bool
    timeout: timedelta
    retries: int
    backoff: timedelta


@dataclass(frozen=True)
class CallOptions(ValueOptions):
    """`Calling` with its defaults."""

    concurrency: int = 64
    ordered: bool = True
    one_per_key: bool = False
    timeout: timedelta = timedelta(seconds=30)
    retries: int = 0
    backoff: timedelta = timedelta(milliseconds=100)


class StreamCalls(Generic[K, V]):
    """What a `KStream`, which is the only class made of it, can do with asynchronous functions."""

    _flow: Flow

    @overload
    def map_values_async(
        self, mapper: Callable[[V], Awaitable[VR]], *, with_key: Literal[False] = False, **options: Unpack[Calling[VR]]
    ) -> "KStream[K, VR]": ...
    @overload
    def map_values_async(
        self, mapper: Callable[[K, V], Awaitable[VR]], *, with_key: Literal[True], **options: Unpack[Calling[VR]]
    ) -> "KStream[K, VR]": ...
    def map_values_async(
        self, mapper: Callable[..., Awaitable[Any]], *, with_key: bool = False, **options: Unpack[Calling[Any]]
    ) -> "KStream[K, Any]":
        """The same keys with what awaiting ``mapper(value)``, or ``mapper(key, value)``, gives.

        Many calls run at once, on the worker's event loop. Results have the timestamps and headers of their records.
        A record is committed once its call, and all calls for earlier records of its partition, have ended. So a crash
        loses nothing; what was not committed is called again, also calls that had ended, and what came of those is
        there twice. Behind a state store the task waits for all its calls before each commit. After a crash the store
        may be ahead of the calls, so what gives nothing for a record it has seen already belongs behind them. Under
        ``exactly_once_v2`` every task waits for all calls of its worker before each commit, so that calls should be
        short, or commits further apart; a worker refuses to start with calls that a transaction does not last for.

        A call that has failed after all retries is treated by the policy for processing errors, like any user function
        that raises. When a worker stops or its tasks may move, it waits for calls, at most half of
        ``shutdown_timeout_ms`` or a quarter of ``rebalance_timeout_ms``; then they are cancelled, to be made again. A
        task takes no more records while ``4 * concurrency`` wait for a call or for the results before theirs.

        Args:
            mapper: An asynchronous function.
            with_key: Whether it takes the key.
            options: ``name`` of the node and ``value_serde`` of the new values, as in `map_values`; and

                ``concurrency``: so many calls run at once in each task, that is for each partition (64);

                ``ordered``: whether results come in the order of the records (True). If not, they come as calls end,
                and only those of one key keep their order; records without a key have none then;

                ``one_per_key``: whether calls for equal keys follow each other, so that what they do elsewhere happens
                in order, too (False: only their results are in order);

                ``timeout``: an attempt that takes longer has failed (30 seconds);

                ``retries``: how many attempts follow a failed one (0);

                ``backoff``: time before the first of them (100 ms); it doubles with each up to a minute, less a part of
                up to a half that differs from call to call.
        """
        given = CallOptions(**options)
        node = self._node("KSTREAM-MAPVALUES-ASYNC-", mapper, "value", given, with_key=with_key)
        serde = self._flow.new_value_serde(given.value_serde, node.name)
        return self._stream(self._flow.then(node, value_serde=serde))

    def map_async(
        self,
        mapper: Callable[[K, V], Awaitable[tuple[KR, VR]]],
        *,
        key_serde: Serde[KR] | None = None,
        **options: Unpack[Calling[VR]],
    ) -> "KStream[KR, VR]":
        """The ``(key, value)`` that awaiting ``mapper(key, value)`` gives for each record.

        Later grouping and joining repartitions; use `map_values_async` where the key stays.

        Args:
            mapper: An asynchronous function.
            key_serde: Of the new keys.
            options: As in `map_values_async`, and so is everything else; order is that of the keys before.
        """
        return self._rekeyed("KSTREAM-MAP-ASYNC-", mapper, "pair", CallOptions(**options), key_serde)

    def process_async(
        self,
        function: Callable[[Record[K, V]], Awaitable[Iterable[Record[KR, VR]] | None]],
        *,
        key_serde: Serde[KR] | None = None,
        **options: Unpack[Calling[VR]],
    ) -> "KStream[KR, VR]":
        """All records that awaiting ``function(record)`` gives, in their order; None for none.

        Later grouping and joining repartitions, since keys may change.

        Args:
            function: An asynchronous function; it may give records new timestamps and headers.
            key_serde: Of the new keys.
            options: As in `map_values_async`, and so is everything else; order is that of the keys before.
        """
        return self._rekeyed("KSTREAM-PROCESS-ASYNC-", function, "records", CallOptions(**options), key_serde)

    def _rekeyed(
        self,
        prefix: str,
        mapper: Callable[..., Awaitable[Any]],
        gives: Gives,
        options: CallOptions,
        key_serde: Serde[Any] | None,
    ) -> "KStream[Any, Any]":
        node = self._node(prefix, mapper, gives, options)
        return self._stream(self._flow.rekeyed_by(node, key_serde, options.value_serde))

    def _node(
        self,
        prefix: str,
        mapper: Callable[..., Awaitable[Any]],
        gives: Gives,
        options: CallOptions,
        *,
        with_key: bool = False,
    ) -> AsyncCalls:
        graph = self._flow.graph
        name = graph.name(options.name, prefix)
        policy = CallPolicy(to_ms(options.timeout), options.retries, to_ms(options.backoff))
        for what, number, least in (
            ("a concurrency of", options.concurrency, 1),
            ("a timeout in ms of", policy.timeout_ms, 1),
            ("a number of retries of", policy.retries, 0),
            ("a backoff in ms of", policy.backoff_ms, 0),
        ):
            if number < least:
                graph.problems.append(f'"{name}" needs {what} at least {least}, got {number}')
        return AsyncCalls(
            name=name,
            mapper=mapper,
            gives=gives,
            with_key=with_key,
            concurrency=options.concurrency,
            ordered=options.ordered,
            one_per_key=options.one_per_key,
            policy=policy,
            on_error=options.on_error,
        )

    def _stream(self, flow: Flow) -> "KStream[Any, Any]":
        stream: KStream[Any, Any] = self._flow.graph.make_stream(flow)
        return stream
