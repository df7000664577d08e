"""pgqueuer, by the protocol of ../README.md. One event loop, as its own benchmark (tools/benchmark.py) has it."""

import asyncio
import itertools
import os
import sys
import time

import asyncpg
import uvloop

from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from protocol import DATABASE_URL, percentiles, report, run, unsupported

ENTRYPOINT = "no_op"
# {"text":"…"} is eleven bytes around the text.
PAYLOAD = b'{"text":"' + b"x" * 289 + b'"}'
# enqueue() takes lists of any length and makes one INSERT of them.
BULK = 5_000
# docs/guides/performance-tuning.md: "Increase batch_size when jobs are short-lived"; completions are buffered by the
# same number. Beyond this nothing is gained.
BATCH_SIZE = 1_000
STALLED_AFTER_SECONDS = 60


async def connect() -> asyncpg.Connection:
    return await asyncpg.connect(DATABASE_URL)


async def queries() -> Queries:
    return Queries(AsyncpgDriver(await connect()))


async def setup(_) -> None:
    store = await queries()
    await store.uninstall()
    # Durable tables are the default, "balanced" and "volatile" lose jobs and aren't compared.
    await store.install()
    # `pgq autovac`, first on the checklist of docs/guides/performance-tuning.md.
    await store.optimize_autovacuum()


async def submit_many(store: Queries, jobs: int) -> None:
    for start in range(0, jobs, BULK):
        count = min(BULK, jobs - start)
        await store.enqueue([ENTRYPOINT] * count, [PAYLOAD] * count, [0] * count)


async def fill(options) -> None:
    await submit_many(await queries(), options.jobs)


async def enqueue_bulk(options) -> None:
    store = await queries()
    began = time.perf_counter()
    await submit_many(store, options.jobs)
    report(jobs=options.jobs, seconds=time.perf_counter() - began)


async def enqueue_single(options) -> None:
    stores = [await queries() for _ in range(options.clients)]
    left = iter(range(options.jobs))
    latencies = []

    async def client(store: Queries) -> None:
        for _ in left:
            began = time.perf_counter()
            await store.enqueue(ENTRYPOINT, PAYLOAD)
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*map(client, stores))
    report(jobs=options.jobs, seconds=time.perf_counter() - began, **percentiles(latencies))


async def worker(handler) -> PgQueuer:
    # "Always use a direct asyncpg connection (not a pool) for the QueueManager": performance-tuning.md.
    queuer = PgQueuer(AsyncpgDriver(await connect()))
    queuer.entrypoint(ENTRYPOINT)(handler)
    return queuer


async def unfinished(connection: asyncpg.Connection) -> int:
    # A job that is done is deleted from this table.
    return await connection.fetchval("SELECT count(*) FROM pgqueuer")


async def drain(options) -> None:
    counter = itertools.count(1)
    handled = 0

    async def handler(job) -> None:
        nonlocal handled
        handled = next(counter)

    connection = await connect()
    target = await unfinished(connection) - options.jobs
    queuers = [await worker(handler) for _ in range(options.workers)]
    began = time.perf_counter()
    tasks = [asyncio.create_task(queuer.run(batch_size=BATCH_SIZE)) for queuer in queuers]
    progress = (0, began)
    while handled < options.jobs or await unfinished(connection) > target:
        if ended := [task for task in tasks if task.done()]:
            sys.exit(f"a worker ended by itself: {ended[0]}")
        if handled > progress[0]:
            progress = (handled, time.perf_counter())
        if time.perf_counter() - progress[1] > STALLED_AFTER_SECONDS:
            sys.exit(f"stalled after {handled} of {options.jobs} jobs")
        await asyncio.sleep(0.005)
    report(jobs=options.jobs, seconds=time.perf_counter() - began)


async def start_latency(options) -> None:
    started: asyncio.Queue[float] = asyncio.Queue()

    async def handler(job) -> None:
        started.put_nowait(time.perf_counter())

    store = await queries()
    queuer = await worker(handler)
    # The default batch size; NOTIFY wakes it.
    task = asyncio.create_task(queuer.run())
    await asyncio.sleep(1)
    latencies = []
    for number in range(options.jobs):
        submitted = time.perf_counter()
        await store.enqueue(ENTRYPOINT, PAYLOAD)
        latencies.append(await asyncio.wait_for(started.get(), STALLED_AFTER_SECONDS) - submitted)
        # As the Rust peers: idle again, and never in step with anything.
        await asyncio.sleep(0.020 + number * 7 % 11 / 1000)
    task.cancel()
    report(**percentiles(latencies))


if __name__ == "__main__":
    uvloop.install()
    run(
        {
            "setup": setup,
            "fill": fill,
            "enqueue-bulk": enqueue_bulk,
            "enqueue-single": enqueue_single,
            "drain": drain,
            "start-latency": start_latency,
            "calls": unsupported("it runs jobs and makes no calls by itself"),
        }
    )
