"""LiteLLM's router with the limits of its deployment enforced (its documentation: "Enforce model rate limits"), by the
protocol of ../README.md: only `paced`.

What the router or the upstream refuses is asked again after the time that the refusal names, or after a second.
"""

import asyncio
import json
import os
import random
import sys
import time

import litellm
import uvloop
from litellm import Router

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from protocol import report, run, without_queue

# As many as Sluice's workers may have under way.
CONCURRENCY = 800
USUAL_WAIT_S = 1.0


def wait_of(refusal: litellm.RateLimitError) -> float:
    headers = getattr(getattr(refusal, "response", None), "headers", None) or {}
    try:
        told = float(headers.get("retry-after", USUAL_WAIT_S))
    except ValueError:
        told = USUAL_WAIT_S
    return max(told, 0.05) + random.random() * 0.25


async def paced(options) -> None:
    litellm.suppress_debug_info = True
    with open(options.file, encoding="utf-8") as file:
        bodies = [json.loads(line)["body"] for line in file]
    deployment = {
        "model": f"openai/{bodies[0]['model']}",
        "api_base": f"{options.url}/v1",
        "api_key": "none",
        "rpm": options.requests_per_minute,
        "tpm": options.tokens_per_minute,
    }
    router = Router(
        model_list=[{"model_name": "work", "litellm_params": deployment}],
        optional_pre_call_checks=["enforce_model_rate_limits"],
        num_retries=0,
        # A refusal must not take the only deployment away.
        disable_cooldowns=True,
    )
    slots = asyncio.Semaphore(CONCURRENCY)

    async def call(body: dict) -> None:
        arguments = {key: value for key, value in body.items() if key != "model"}
        while True:
            try:
                async with slots:
                    await router.acompletion(model="work", **arguments)
                return
            except litellm.RateLimitError as refusal:
                await asyncio.sleep(wait_of(refusal))

    began = time.perf_counter()
    await asyncio.gather(*(call(body) for body in bodies))
    report(calls=len(bodies), seconds=time.perf_counter() - began)


if __name__ == "__main__":
    uvloop.install()
    run(without_queue(paced=paced))
