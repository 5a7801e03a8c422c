"""What is read of changelogs again, from what workers say."""

from types import SimpleNamespace
from typing import Any

from tests.chaos.watch import Watch

READ = "app-counts-changelog"


async def test_a_directory_that_is_read_below_where_it_had_come_to_is_seen() -> None:
    slot: Any = SimpleNamespace(number=0, restores=[])
    other: Any = SimpleNamespace(number=1, restores=[])
    watch = Watch("127.0.0.1:1", "app", [slot, other])
    try:
        slot.restores = [(READ, 3, (0, 100)), (READ, 3, None)]
        other.restores = [(READ, 3, (0, 150)), (READ, 4, (0, 10))]
        watch._look_at_restores()
        slot.restores = [(READ, 3, (120, 200))]  # and killed before it had read them
        watch._look_at_restores()
        slot.restores = [(READ, 3, (100, 200)), (READ, 3, None)]
        watch._look_at_restores()
        assert (watch.seen.restores, watch.seen.replayed_again) == (5, 0)
        slot.restores = [(READ, 3, (195, 300))]
        watch._look_at_restores()
        assert watch.seen.replayed_again == 5
        assert watch.seen.replayed_records == 100 + 150 + 10 + 80 + 100 + 105
    finally:
        await watch.close()
