"""A worker is started with another topology than the one that ran last."""

import shutil
from typing import Any

import pytest

from streamlib import ConfigError, StreamsBuilder, Topology, serdes
from tests.runtime.conftest import Application


def counting(store: str, key: Any = None) -> Topology:
    builder = StreamsBuilder("app")
    stream = builder.stream("in", serdes.STRING, serdes.STRING)
    grouped = stream.group_by_key() if key is None else stream.group_by(key, name="by")
    grouped.count(store=store).to_stream().to("out")
    return builder.build()


async def start(app: Application) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "x", 1)])
    await app.run(counting("counts"), "in")


@pytest.mark.parametrize("lost", [False, True], ids=["with its state", "on a new machine"])
async def test_a_renamed_store_is_refused_with_what_would_be_lost(app: Application, lost: bool) -> None:
    await start(app)
    if lost:
        shutil.rmtree(app.state_dir)
    with pytest.raises(ConfigError, match="not that which ran last") as refused:
        await app.run(counting("totals"), "in")
    assert "counts" in str(refused.value)
    assert "totals" in str(refused.value)
    assert "accept_topology_change=true" in str(refused.value)


async def test_nothing_is_created_when_a_topology_is_refused(app: Application) -> None:
    await start(app)
    with pytest.raises(ConfigError):
        await app.run(counting("totals"), "in")
    async with app.opened() as transport:
        admin = await transport.admin()
        topics = await admin.partition_counts(None)
        await admin.close()
    assert set(topics) == {"in", "out", "app-counts-changelog"}


async def test_a_change_is_asked_about_once_when_it_was_accepted(app: Application) -> None:
    await start(app)
    await app.run(counting("totals"), "in", accept_topology_change=True)
    await app.run(counting("totals"), "in")


async def test_a_store_more_needs_no_acceptance(app: Application) -> None:
    await start(app)
    builder = StreamsBuilder("app")
    grouped = builder.stream("in", serdes.STRING, serdes.STRING).group_by_key()
    grouped.count(store="counts").to_stream().to("out")
    grouped.reduce(lambda _, value: value, store="last")
    await app.run(builder.build(), "in")


@pytest.mark.parametrize("lost", [False, True], ids=["with its state", "on a new machine"])
async def test_what_a_reset_has_deleted_stands_against_nothing(app: Application, lost: bool) -> None:
    await start(app)
    if lost:
        shutil.rmtree(app.state_dir)
    async with app.opened() as transport:
        admin = await transport.admin()
        await admin.delete_topics(["app-counts-changelog"])
        await admin.close()
    await app.run(counting("totals"), "in")


async def test_a_topology_that_was_kept_in_another_format_is_left_out_of_account(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    await start(app)
    (kept,) = app.state_dir.glob("*/app/topology.json")
    kept.write_text('{"format": 99}')
    await app.run(counting("counts"), "in")
    assert "left out of account" in caplog.text
    assert '"format": 1' in kept.read_text()
