"""``streamlib reset``: let an application start again. Next: `reset_plan`, what exactly that changes."""

import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from streamlib.cli.connection import BrokerOptions, administering
from streamlib.cli.options import command, option
from streamlib.cli.output import say, say_table
from streamlib.cli.reset_plan import (
    Application,
    ResetPlan,
    Target,
    carry_out,
    input_topics_of,
    internal_topics_of,
    plan_reset,
)
from streamlib.cli.times import duration_ms, moment_ms
from streamlib.cli.worker_options import TARGET_HELP


@dataclass(frozen=True)
class TargetOptions:
    """Where to start again; at most one of them."""

    to_earliest: Annotated[
        bool, option("--to-earliest", scope="reset", help="The first record that still exists (the default).")
    ] = False
    to_latest: Annotated[bool, option("--to-latest", scope="reset", help="After the last record.")] = False
    to_offset: Annotated[int | None, option("--to-offset", scope="reset", min=0, help="This offset.")] = None
    to_datetime: Annotated[
        str | None, option("--to-datetime", scope="reset", help="The first record of this moment (ISO 8601).")
    ] = None
    by_duration: Annotated[
        str | None, option("--by-duration", scope="reset", help="So long before now, e.g. 6h or PT6H.")
    ] = None
    shift_by: Annotated[
        int | None, option("--shift-by", scope="reset", help="So many records on from here; back if negative.")
    ] = None


@dataclass(frozen=True)
class ResetOptions:
    """What to reset, and how."""

    application_id: Annotated[str | None, option("--application-id", help="The application, by its id.")] = None
    input_topics: Annotated[
        list[str] | None,
        option("--input-topics", scope="reset", help="Its input topics: repeated, or with commas between."),
    ] = None
    internal_topics: Annotated[
        list[str] | None,
        option(
            "--internal-topics",
            scope="reset",
            help="Delete only these internal topics.",
            show_default="all whose names show that they are the application's",
        ),
    ] = None
    local_state: Annotated[
        bool, option("--local-state", scope="reset", help="Delete the state of this machine's workers, too.")
    ] = False
    state_dir: Annotated[
        Path | None, option("--state-dir", help="Where that state is.", show_default="~/.local/state/streamlib")
    ] = None
    dry_run: Annotated[bool, option("--dry-run", scope="reset", help="Only say what would be done.")] = False
    yes: Annotated[bool, option("--yes", "-y", scope="reset", help="Do not ask.")] = False


@command
async def reset(
    topology: Annotated[str | None, typer.Argument(metavar="MODULE:ATTRIBUTE", help=TARGET_HELP)] = None,
    *,
    options: ResetOptions,
    target: TargetOptions,
    broker: BrokerOptions,
) -> None:
    """Let an application process its input again.

    It begins at the first record that exists, or at another place. Moves the group's offsets on the input topics and
    deletes the internal topics; output topics stay. Local state is deleted on this machine only, with --local-state.
    """
    where = target_of(target)
    application = application_of(topology, options)
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(administering(broker))
        plan = await plan_reset(admin, application, where)
        _show(plan, where)
        if options.dry_run or plan.is_empty:
            say("nothing to do" if plan.is_empty else "nothing was changed (--dry-run)")
            return
        if not options.yes:
            typer.confirm("Do this?", abort=True)
        await carry_out(admin, plan)
    say(f"reset {plan.group}: {len(plan.offsets)} offsets, {len(plan.topics)} topics, {len(plan.directories)} folders")


def target_of(options: TargetOptions) -> Target:
    """The one place that was asked for.

    Raises:
        typer.BadParameter: More than one was.
    """
    chosen: list[Target] = []
    if options.to_earliest:
        chosen.append(Target("earliest"))
    if options.to_latest:
        chosen.append(Target("latest"))
    if options.to_offset is not None:
        chosen.append(Target("offset", options.to_offset))
    if options.to_datetime is not None:
        chosen.append(Target("moment", moment_ms(options.to_datetime)))
    if options.by_duration is not None:
        from streamlib.clock import SystemClock

        chosen.append(Target("moment", SystemClock().time_ms() - duration_ms(options.by_duration)))
    if options.shift_by is not None:
        chosen.append(Target("shift", options.shift_by))
    if len(chosen) > 1:
        msg = "give only one of --to-earliest, --to-latest, --to-offset, --to-datetime, --by-duration and --shift-by"
        raise typer.BadParameter(msg)
    return chosen[0] if chosen else Target()


def application_of(target: str | None, options: ResetOptions) -> Application:
    """The application, as its topology or the flags tell it.

    Raises:
        typer.BadParameter: Neither does.
        ConfigError: The topology cannot be loaded.
    """
    from streamlib.config import StreamsConfig

    application_id, inputs, own = options.application_id, _names(options.input_topics), frozenset[str]()
    patterns: list[re.Pattern[str]] = []
    if target is not None:
        from streamlib.cli.loading import load_topology
        from streamlib.topology.patterns import patterns_of

        loaded = load_topology(target)
        application_id = application_id or loaded.name
        if application_id:
            patterns = [] if inputs else patterns_of(loaded)
            inputs = inputs or input_topics_of(loaded)
            own = internal_topics_of(loaded, application_id)
    if not application_id:
        msg = "name the application: MODULE:ATTRIBUTE of a topology with a name, or --application-id"
        raise typer.BadParameter(msg)
    if target is None and options.input_topics is None:
        msg = "without a topology, name the input topics: --input-topics a,b"
        raise typer.BadParameter(msg)
    internal = None if options.internal_topics is None else _names(options.internal_topics)
    if outside := [name for name in internal or () if not name.startswith(f"{application_id}-")]:
        msg = f"--internal-topics: {outside[0]} is no internal topic of {application_id}, they begin with its id"
        raise typer.BadParameter(msg)
    state_dir = options.state_dir or StreamsConfig(application_id).state_dir
    return Application(application_id, inputs, internal, own, state_dir if options.local_state else None, patterns)


def _names(values: Sequence[str] | None) -> list[str]:
    return [name.strip() for value in values or () for name in value.split(",") if name.strip()]


def _show(plan: ResetPlan, where: Target) -> None:
    if plan.offsets:
        say(f"Offsets of the group {plan.group} move {where}:")
        rows = [
            (tp.topic, tp.partition, "-" if old is None else old, new)
            for tp, (old, new) in sorted(plan.offsets.items())
        ]
        say_table(["topic", "partition", "committed", "new"], rows)
    _list("Internal topics are deleted:", plan.topics)
    _list("Folders with local state are deleted:", [str(each) for each in plan.directories])
    _list(
        "Left alone, because they seem to belong to another application (else: --internal-topics):",
        [f"{topic} (of {group})" for topic, group in plan.left_alone.items()],
    )


def _list(heading: str, entries: Sequence[str]) -> None:
    if entries:
        say("\n".join([heading, *(f"  {entry}" for entry in entries)]))
