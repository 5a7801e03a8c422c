"""What the proxy does with frames of one kind: so many times, or until the rule is lifted. Next: `proxy`."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from tests.proxy.frames import Api, Frame, Kind

Deliver = Callable[[Frame], Awaitable[bytes]]


class Action(Enum):
    """What becomes of a frame.

    What comes behind it on the same connection meets what TCP would do to it: it waits behind a delayed frame, and is
    lost with a connection. Only `DROP`, `HOLD` and `REPEAT` are the work of something between that knows Kafka.
    """

    DROP = auto()  # it alone does not arrive
    DELAY = auto()  # it arrives later
    HOLD = auto()  # a request is kept aside until `Rule.deliver`, the connection goes on
    HOLD_AND_CLOSE = auto()  # the same, and the connection ends: the client has to ask again on another one
    REPEAT = auto()  # it arrives, and a copy of the request is kept aside until `Rule.deliver`
    CLOSE = auto()  # it does not arrive, and the connection ends
    HALF_CLOSE = auto()  # it does not arrive; its receiver sees the end of the stream, its sender may go on writing
    SILENCE = auto()  # from here on nothing arrives either way, and the connection stays
    EDIT = auto()  # it arrives with other contents


@dataclass
class Rule:
    """Frames that it concerns, and what becomes of them.

    Attributes:
        api: Of this request.
        kind: The request, or its answer.
        action: What to do.
        times: How often; None until it is lifted.
        seconds: Of a delay.
        where: Which of those frames.
        edit: For `Action.EDIT`, the other contents.
        hits: How often it was applied.
        kept: Requests kept aside.
    """

    api: Api
    kind: Kind
    action: Action
    times: int | None = None
    seconds: float = 0.0
    where: Callable[[Frame], bool] = lambda _: True
    edit: Callable[[Frame], bytes] | None = None
    hits: int = 0
    kept: list[Frame] = field(default_factory=list)
    lifted: bool = False
    delivery: Deliver | None = None
    hit: asyncio.Event = field(default_factory=asyncio.Event)

    def concerns(self, frame: Frame) -> bool:
        """Whether it is to be applied to a frame."""
        if self.lifted or (self.times is not None and self.hits >= self.times):
            return False
        return frame.api == self.api and frame.kind is self.kind and self.where(frame)

    def lift(self) -> None:
        """End it."""
        self.lifted = True

    async def deliver(self) -> bytes:
        """Send the oldest request kept aside to the broker, on a connection of its own; its answer, without header."""
        assert self.delivery is not None
        return await self.delivery(self.kept.pop(0))
