"""The peers' protocol (README.md) for those in Python: arguments, figures, exit codes."""

import argparse
import asyncio
import json
import os
import sys

DATABASE_URL = os.environ.get("DATABASE_URL", "")
UNSUPPORTED = 64


def report(**figures) -> None:
    """Prints the one line; then the process ends without waiting for workers that never end by themselves."""
    print(json.dumps(figures), flush=True)
    os._exit(0)


def percentiles(latencies: list[float]) -> dict[str, float]:
    """Of seconds, in milliseconds."""
    ordered = sorted(latencies)

    def at(percent: int) -> float:
        return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] * 1000

    return {"p50_ms": at(50), "p99_ms": at(99)}


def unsupported(reason: str):
    async def operation(_) -> None:
        print(reason, file=sys.stderr)
        sys.exit(UNSUPPORTED)

    return operation


async def nothing(_) -> None:
    """Nothing is stored."""


def without_queue(**operations) -> dict:
    """All operations, of which those of queues are refused."""
    refused = unsupported("it has no queue")
    queues = ["fill", "enqueue-bulk", "enqueue-single", "drain", "start-latency"]
    return {"setup": nothing, **dict.fromkeys(queues, refused), **operations}


def run(operations: dict) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("operation", choices=operations)
    for number in ["--jobs", "--clients", "--workers", "--concurrency", "--calls"]:
        parser.add_argument(number, type=int)
    for limit in ["--requests-per-minute", "--tokens-per-minute"]:
        parser.add_argument(limit, type=int)
    parser.add_argument("--file")
    parser.add_argument("--url")
    parser.add_argument("--transport", default="httpx")
    options = parser.parse_args()
    asyncio.run(operations[options.operation](options))
