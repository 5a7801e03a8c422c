"""Session-windowed aggregations: their stores, and what is refused."""

import logging
from datetime import timedelta
from typing import Any

import pytest

from streamlib import EmitStrategy, SessionWindowedKStream, SessionWindows, StreamsBuilder, TopologyError, serdes
from streamlib.record import Windowed
from streamlib.topology.internal_topics import internal_topics

pytestmark = pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")
SECOND = timedelta(seconds=1)


def windowed(builder: StreamsBuilder, windows: Any = None) -> SessionWindowedKStream[str, str]:
    grouped = builder.stream("in", serdes.STRING, serdes.STRING).group_by_key()
    return grouped.windowed_by(windows or SessionWindows.of(SECOND, grace=2 * SECOND))


def test_sessions_are_kept_for_gap_and_grace_unless_a_retention_is_given() -> None:
    builder = StreamsBuilder("app")
    windowed(builder).count(store="short")
    windowed(builder).count(store="long", retention=timedelta(minutes=1))
    topology = builder.build()
    assert {name: (spec.kind, spec.retention_ms) for name, spec in topology.stores.items()} == {
        "short": ("session", 3_000),
        "long": ("session", 60_000),
    }
    configs = {topic.name: topic.configs for topic in internal_topics(topology, "app")}
    assert configs["app-long-changelog"]["cleanup.policy"] == "compact,delete"
    assert configs["app-long-changelog"]["retention.ms"] == "86460000"


def test_keys_of_the_result_are_written_as_sessions() -> None:
    builder = StreamsBuilder()
    windowed(builder).reduce(str.__add__, store="r").to_stream().to("out")
    topology = builder.build()
    serde = topology.nodes["KSTREAM-SINK-0000000003"].key_serde  # type: ignore[attr-defined]
    assert serde.serialize(Windowed("k", 5, 17)).hex() == "6b" + "0000000000000011" + "0000000000000005"


def test_a_store_has_no_cache_when_results_wait_for_the_close() -> None:
    builder = StreamsBuilder()
    stream = windowed(builder)
    stream.emit_strategy(EmitStrategy.ON_WINDOW_CLOSE).count(store="final")
    stream.count(store="updates")
    stores = builder.build().stores
    assert (stores["final"].caching, stores["updates"].caching) == (False, True)


@pytest.mark.parametrize(("retention", "warned"), [(None, True), (timedelta(seconds=4), False)])
def test_a_warning_is_logged_when_sessions_in_memory_are_gone_before_they_close(
    retention: Any, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    options = {} if retention is None else {"retention": retention}
    final = windowed(StreamsBuilder()).emit_strategy(EmitStrategy.ON_WINDOW_CLOSE)
    with caplog.at_level(logging.WARNING):
        final.count(store="final", in_memory=True, **options)
    assert ("longer than gap and grace, 3000 ms" in caplog.text) is warned


def test_every_mistake_is_told_when_the_topology_is_built() -> None:
    builder = StreamsBuilder()
    windowed(builder).count(store="s", retention=SECOND)
    windowed(builder).emit_strategy("close").count(store="t")  # type: ignore[arg-type]
    windowed(builder).aggregate(list, lambda k, v, agg: agg, None, store="u", name="u")  # type: ignore[arg-type]
    windowed(builder, "5 s").count(store="v")
    with pytest.raises(TopologyError) as raised:
        builder.build()
    for part in (
        'the store "s" keeps sessions for 1000 ms, but gap and grace make 3000 ms',
        "emit_strategy needs EmitStrategy.ON_WINDOW_UPDATE or ON_WINDOW_CLOSE, got 'close'",
        '"u" needs a function as its merger, got None',
        "windowed_by needs windows",
    ):
        assert part in str(raised.value)
