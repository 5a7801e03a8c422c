"""A topology inside a FastAPI server: the worker starts and stops with it, on the same event loop.

Run: ``uvicorn apps.fastapi_lifespan:app``. The broker comes from ``STREAMLIB_BROKER``, like that of the command line.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from streamlib import KafkaStreams, StreamsConfig

from .word_count import topology


@asynccontextmanager
async def lifespan(server: FastAPI) -> AsyncIterator[None]:
    """Run the worker for as long as the server runs; leaving commits what is done."""
    config = StreamsConfig(application_id="word-count", commit_interval_ms=1_000)
    async with KafkaStreams(topology, config, broker=os.environ.get("STREAMLIB_BROKER", "local:.streamlib")) as streams:
        server.state.streams = streams
        server.state.worker = asyncio.ensure_future(streams.wait())
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
def health(request: Request, response: Response) -> dict[str, object]:
    """The state of each task; status 503 once the worker has stopped by itself."""
    stopped = request.app.state.worker.done()
    if stopped:
        response.status_code = 503
    return {"running": not stopped, "tasks": dict(request.app.state.streams.tasks)}
