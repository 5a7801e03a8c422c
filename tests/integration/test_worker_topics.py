"""Topics are deleted under a running worker: it stops, and says which and what to do."""

import pytest

from tests.integration.counting import Counting

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


async def test_deleted_topics_stop_the_worker_with_their_names_and_the_mend(app: Counting) -> None:
    await app.create(2)
    await app.write(1_000)
    worker = app.worker("w", shutdown_timeout_ms=1_000)
    await app.drained()
    # Deliveries to a topic that is gone are tried again without end: nothing else would show it.
    await (await app.admin()).delete_topics([f"{app.name}-counts-changelog", f"{app.name}-out"])
    await app.write(1_000)
    assert await worker.ended(30) == 78
    changelog, sink = worker.text.partition("error: ")[2].splitlines()
    assert changelog.startswith(f'the changelog topic "{app.name}-counts-changelog" does not exist any more. The state')
    assert sink == f'the sink topic "{app.name}-out" does not exist any more. Create it again, and start again.'
