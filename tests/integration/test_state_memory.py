"""A windowed store holds far more rows than its memory, and gives the disk back when windows expire.

Two million rows; STREAMLIB_STATE_ROWS=10000000 is the full size, with the full bound.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.integration import windows_filled

ROWS = int(os.environ.get("STREAMLIB_STATE_ROWS", "2000000"))
BASE_BYTES, BYTES_PER_ROW = 260_000_000, 34
"""10 million rows fit into 600 MB; less may be used by fewer, since budgets are not filled at once."""
LOG_BYTES = 16 * 1024 * 1024
"""What commits that were logged may still take: RocksDB gives it back when a few more have come."""


@pytest.mark.slow
async def test_memory_stays_within_its_budget_and_disk_comes_back_when_a_windowed_store_grows(tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, windows_filled.__file__, str(tmp_path), str(ROWS), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await child.communicate()
    assert child.returncode == 0
    found = json.loads(output)
    assert found["windows_of_one_key"] == ROWS // windows_filled.KEYS
    assert found["peak_rss"] < BASE_BYTES + ROWS * BYTES_PER_ROW, found
    assert found["full"] > ROWS * 20, found  # they really went to disk
    assert found["after"] < found["full"] // 50 + LOG_BYTES, found
