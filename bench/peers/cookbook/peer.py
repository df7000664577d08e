"""A loop that paces one process by two limits, as OpenAI's cookbook describes it ("How to handle rate limits", parallel
processing), by the protocol of ../README.md: only `paced`.

Two capacities fill evenly up to a minute's worth. A request waits until both hold what it takes: one request, and its
prompt's tokens with `max_tokens`. After a refusal, nothing is sent for fifteen seconds. Five attempts a request are the
cookbook's; here a request is tried until it is answered, since all of the work has to be done.
"""

import asyncio
import json
import os
import sys
import time

import aiohttp
import uvloop

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from protocol import report, run, without_queue

PAUSE_AFTER_REFUSAL_S = 15
PAUSE_OF_LOOP_S = 0.001
# As the simulator counts; the cookbook takes the model's own tokenizer.
BYTES_PER_TOKEN = 4


def tokens_of(body: dict) -> int:
    prompt = sum(len(message["content"]) for message in body["messages"])
    return -(-prompt // BYTES_PER_TOKEN) + body["max_tokens"]


class Capacity:
    """What is left of a limit a minute."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self.left = float(per_minute)
        self.filled_at = time.monotonic()

    def fill(self) -> None:
        now = time.monotonic()
        self.left = min(self.left + self.per_minute * (now - self.filled_at) / 60, self.per_minute)
        self.filled_at = now


async def paced(options) -> None:
    with open(options.file, encoding="utf-8") as file:
        waiting = [json.loads(line)["body"] for line in file]
    waiting.reverse()
    requests, tokens = Capacity(options.requests_per_minute), Capacity(options.tokens_per_minute)
    refused_at, answered, wanted = 0.0, 0, len(waiting)
    url = f"{options.url}/v1/chat/completions"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def call(body: dict) -> None:
            nonlocal refused_at, answered
            async with session.post(url, json=body) as answer:
                await answer.read()
                if answer.status == 200:
                    answered += 1
                    return
                if answer.status == 429:
                    refused_at = time.monotonic()
            waiting.append(body)

        under_way = set()
        began = time.perf_counter()
        while answered < wanted:
            requests.fill()
            tokens.fill()
            if waiting and requests.left >= 1 and tokens.left >= (need := tokens_of(waiting[-1])):
                requests.left -= 1
                tokens.left -= need
                task = asyncio.create_task(call(waiting.pop()))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.sleep(PAUSE_OF_LOOP_S)
            pause = refused_at + PAUSE_AFTER_REFUSAL_S - time.monotonic()
            if refused_at and pause > 0:
                await asyncio.sleep(pause)
        await asyncio.gather(*under_way)
    report(calls=wanted, seconds=time.perf_counter() - began)


if __name__ == "__main__":
    uvloop.install()
    run(without_queue(paced=paced))
