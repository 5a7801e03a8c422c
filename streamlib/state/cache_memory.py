"""Memory of the write caches of a worker, shared by what they have a use for.

An even split leaves much of it idle: a table of few rows needs little, while another asks its store again and again
for rows that have no room. Next: `cache` and `session_cache`, which have a share each.
"""

from weakref import WeakSet

_WORTH_DIVIDING = 1 / 8
"""A demand that changes by a smaller part than this stays as it was."""


class CacheMemory:
    """So many bytes, divided again whenever a cache comes or wants more or less.

    Each cache gets what it wants, or an even part of what smaller demands leave; what nobody wants is spread evenly.
    Half of an even part is for each in any case: a cache that was idle must not be full at once when records come.
    A cache that nobody holds any more gives back its share.

    Args:
        total_bytes: For all shares together; 0 if nothing is to be cached.

    Source: max-min fairness; Kafka's ``ThreadCache`` lets all tasks of a thread share its memory as well.
    """

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._shares: WeakSet[CacheShare] = WeakSet()

    def share(self, entry_bytes: int) -> "CacheShare":
        """The share of another cache, whose entries may be so large: at first it wants as much as there is."""
        share = CacheShare(self, entry_bytes)
        self._shares.add(share)
        self.divide()
        return share

    def divide(self) -> None:
        """Give each share its part."""
        count, left_bytes = len(self._shares), self.total_bytes
        shares = sorted(self._shares, key=lambda share: share.wanted_bytes)
        for number, share in enumerate(shares):
            demand_bytes = max(share.wanted_bytes, self.total_bytes // (2 * count))
            share.granted_bytes = min(demand_bytes, left_bytes // (count - number))
            left_bytes -= share.granted_bytes
        for share in shares:
            share.granted_bytes += left_bytes // count


class CacheShare:
    """What one cache may take.

    Attributes:
        granted_bytes: As of now.
        wanted_bytes: What it has asked for.
        entry_bytes: Of an entry, as estimated last.
        trimmed: Whether clean entries had no room since the last flush.
    """

    def __init__(self, memory: CacheMemory, entry_bytes: int) -> None:
        self.granted_bytes = 0
        self.wanted_bytes = memory.total_bytes
        self.entry_bytes = entry_bytes
        self.trimmed = False
        self._memory = memory

    @property
    def max_entries(self) -> int:
        """How many dirty entries fit, and how many clean ones beside them."""
        return self.granted_bytes // self.entry_bytes

    def ask(self, dirty: int, clean: int) -> None:
        """Ask for what so many entries need."""
        self.want(max(dirty, clean) * self.entry_bytes, short=self.trimmed or dirty > self.max_entries)

    def want(self, needed_bytes: int, *, short: bool) -> None:
        """Ask for what a cache needs, and some more for when it grows; for as much again if it was short of memory."""
        wanted_bytes = 2 * self.granted_bytes if short else needed_bytes * 5 // 4
        wanted_bytes = min(wanted_bytes, self._memory.total_bytes)
        if abs(wanted_bytes - self.wanted_bytes) > self.wanted_bytes * _WORTH_DIVIDING:
            self.wanted_bytes = wanted_bytes
            self._memory.divide()
