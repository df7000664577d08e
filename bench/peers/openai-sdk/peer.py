"""Python's OpenAI SDK with a semaphore, by the protocol of ../README.md: a loop without a queue, so only `calls`."""

import asyncio
import os
import sys
import time

import httpx2
import uvloop
from openai import AsyncOpenAI, DefaultAioHttpClient, DefaultAsyncHttpxClient

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from protocol import report, run, without_queue

# What the simulator serves.
MODEL = "gpt-sim"
# With the rest of the request's body, 300 bytes.
CONTENT = "x" * 230
# README of the SDK, "With aiohttp": "for improved concurrency performance".
TRANSPORTS = {"httpx": DefaultAsyncHttpxClient, "aiohttp": DefaultAioHttpClient}


async def calls(options) -> None:
    # The default is 1,000 connections of which 100 are kept: too few for 2,000 at once.
    limits = httpx2.Limits(
        max_connections=options.concurrency, max_keepalive_connections=options.concurrency
    )
    client = AsyncOpenAI(
        base_url=f"{options.url}/v1",
        api_key="none",
        # Connections refused in the first rush are tried again; nothing else fails.
        max_retries=10,
        # The default gives up a connection after 5 s, which 2,000 at once exceed.
        timeout=httpx2.Timeout(600),
        http_client=TRANSPORTS[options.transport](limits=limits),
    )
    semaphore = asyncio.Semaphore(options.concurrency)
    messages = [{"role": "user", "content": CONTENT}]

    async def call() -> None:
        async with semaphore:
            answer = await client.chat.completions.create(model=MODEL, messages=messages)
            assert answer.choices[0].message.content is not None

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(call() for _ in range(options.calls)))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    report(calls=options.calls, seconds=seconds, cpu_ms_per_call=cpu * 1000 / options.calls)


if __name__ == "__main__":
    uvloop.install()
    run(without_queue(calls=calls))
