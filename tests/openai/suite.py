"""What the official client does, unchanged, with Sluice as its server. Started by `run`."""

import asyncio
import io
import json
import os
import time
import unittest
import urllib.request
import uuid

import openai

UP = json.loads(os.environ["SLUICE_UP"])
OTHER = json.loads(os.environ["SLUICE_SCHEDULER"])["url"]
CHAT = "deepseek-flash"


def client(url=UP["url"], **options):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="sk-any", **options)


def prompt(order=""):
    """A prompt that nobody else has, with an order to the simulator."""
    return f"{uuid.uuid4()} {order}"


def messages(text):
    return [{"role": "user", "content": text}]


def get(url, headers=None):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {})) as answer:
        return answer.read()


def total_calls():
    return json.loads(get(UP["simulator"] + "/sim/stats"))["calls"]


class Calls(unittest.TestCase):
    def setUp(self):
        self.client = client()
        self.addCleanup(self.client.close)

    def test_chat(self):
        raw = self.client.chat.completions.with_raw_response.create(
            model=CHAT,
            messages=messages(prompt()),
            extra_headers={"x-sluice-priority": "5", "x-sluice-tag-team": "search"},
        )
        answer = raw.parse()
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertTrue(answer.choices[0].message.content)
        self.assertGreater(answer.usage.total_tokens, 0)
        job = json.loads(get(f"{UP['url']}/v1/jobs/{raw.headers['x-sluice-job-id']}"))
        self.assertEqual((job["priority"], job["tags"]), (5, {"team": "search"}))
        self.assertEqual(job["result"]["body"]["id"], answer.id)

    def test_a_stream_says_the_same_as_a_whole_answer(self):
        text = prompt("[[sim:none tokens=60]]")
        whole = self.client.chat.completions.create(model=CHAT, messages=messages(text))
        said, chunks = "", 0
        for chunk in self.client.chat.completions.create(model=CHAT, messages=messages(text), stream=True):
            chunks += 1
            # Nobody asked for the chunk of the usage, which has no choices.
            said += chunk.choices[0].delta.content or ""
        self.assertEqual(said, whole.choices[0].message.content)
        self.assertGreater(chunks, 5)

    def test_a_stream_brings_its_usage_to_who_asks_for_it(self):
        stream = self.client.chat.completions.create(
            model=CHAT, messages=messages(prompt()), stream=True, stream_options={"include_usage": True}
        )
        last = list(stream)[-1]
        self.assertEqual(last.choices, [])
        self.assertGreater(last.usage.total_tokens, 0)

    def test_completions_embeddings_images_and_models(self):
        answer = self.client.completions.create(model=CHAT, prompt=prompt())
        self.assertTrue(answer.choices[0].text)
        said = "".join(c.choices[0].text for c in self.client.completions.create(model=CHAT, prompt=prompt(), stream=True))
        self.assertTrue(said)
        embeddings = self.client.embeddings.create(model="text-embedding-sim", input=["one", "two"])
        self.assertEqual([item.index for item in embeddings.data], [0, 1])
        images = self.client.images.generate(model="image-sim", prompt="a lighthouse")
        self.assertEqual(len(images.data), 1)
        self.assertEqual(self.client.models.list().object, "list")

    def test_two_hundred_at_once(self):
        async def all_of_them():
            async with openai.AsyncOpenAI(base_url=f"{UP['url']}/v1", api_key="sk-any") as asked:
                texts = [prompt() for _ in range(200)]
                calls = [asked.chat.completions.create(model=CHAT, messages=messages(text)) for text in texts]
                return await asyncio.gather(*calls)

        before = total_calls()
        answers = asyncio.run(all_of_them())
        self.assertEqual(len({answer.id for answer in answers}), 200)
        self.assertEqual(total_calls() - before, 200)


class Errors(unittest.TestCase):
    def setUp(self):
        self.client = client()
        self.addCleanup(self.client.close)

    def fails(self, kind, order, tries=1):
        text = prompt(f"[[sim:{order}]]")
        with self.assertRaises(kind) as caught:
            self.client.chat.completions.create(
                model=CHAT, messages=messages(text), extra_headers={"x-sluice-max-attempts": str(tries)}
            )
        # The job's own tries, and none of the client's.
        job = caught.exception.response.headers["x-sluice-job-id"]
        attempts = self.client.get(f"/jobs/{job}/attempts", cast_to=object)["data"]
        self.assertEqual(len(attempts), tries)
        return caught.exception

    def test_the_provider_s_errors_are_the_client_s_exceptions(self):
        self.fails(openai.UnprocessableEntityError, "http_422")
        self.fails(openai.PermissionDeniedError, "http_403")
        self.fails(openai.InternalServerError, "http_500", tries=2)
        error = self.fails(openai.NotFoundError, "http_404")
        self.assertTrue(error.response.headers["x-sluice-job-id"])

    def test_our_own_errors_are_the_client_s_exceptions(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.chat.completions.create(model="", messages=messages("x"))
        self.assertEqual(caught.exception.param, "/model")
        with self.assertRaises(openai.BadRequestError):
            self.client.chat.completions.create(
                model=CHAT, messages=messages("x"), extra_headers={"x-sluice-priority": "high"}
            )
        with self.assertRaises(openai.NotFoundError):
            self.client.files.retrieve("file-00000000000000000000000000000000")

    def test_a_stream_that_fails_before_its_first_token_raises_at_once(self):
        with self.assertRaises(openai.UnprocessableEntityError):
            self.client.chat.completions.create(
                model=CHAT, messages=messages(prompt("[[sim:http_422]]")), stream=True
            )

    def test_a_stream_that_breaks_off_raises(self):
        stream = self.client.chat.completions.create(
            model=CHAT,
            messages=messages(prompt("[[sim:close_mid_stream times=1 tokens=60]]")),
            stream=True,
        )
        with self.assertRaises(openai.APIError) as caught:
            for _ in stream:
                pass
        self.assertEqual(caught.exception.code, "stream_broken")


class GoingAway(unittest.TestCase):
    def test_the_client_s_own_retries_join_the_call_that_timed_out(self):
        impatient = client(timeout=1.0, max_retries=4)
        self.addCleanup(impatient.close)
        before = total_calls()
        answer = impatient.chat.completions.create(
            model=CHAT, messages=messages(prompt("[[sim:none latency_ms=2500]]"))
        )
        self.assertTrue(answer.choices[0].message.content)
        self.assertEqual(total_calls() - before, 1)

    def test_an_answer_is_fetched_by_its_key_after_the_client_gave_up(self):
        key = {"Idempotency-Key": str(uuid.uuid4())}
        asked = messages(prompt("[[sim:none latency_ms=1500]]"))
        before = total_calls()
        with client(timeout=0.5, max_retries=0) as impatient:
            with self.assertRaises(openai.APITimeoutError):
                impatient.chat.completions.create(model=CHAT, messages=asked, extra_headers=key)
        with client(OTHER) as patient:
            raw = patient.chat.completions.with_raw_response.create(
                model=CHAT, messages=asked, extra_headers=key
            )
        self.assertEqual(raw.headers["x-sluice-known"], "true")
        self.assertEqual(total_calls() - before, 1)

    def test_a_stream_goes_on_at_another_scheduler(self):
        body = json.dumps(
            {"model": CHAT, "stream": True, "messages": messages(prompt("[[sim:stall tokens=80 duration_ms=1500]]"))}
        ).encode()
        first = urllib.request.urlopen(urllib.request.Request(f"{UP['url']}/v1/chat/completions", data=body))
        with first:
            job = first.headers["x-sluice-job-id"]
            lines = [first.readline().decode() for _ in range(3)]
        self.assertEqual(lines[0], f"id: {job}/1/0\n")
        rest = get(f"{OTHER}/v1/jobs/{job}/stream", {"Last-Event-ID": f"{job}/1/0"}).decode()
        ids = [line.removeprefix(f"id: {job}/1/") for line in rest.splitlines() if line.startswith("id: ")]
        self.assertEqual(ids, [str(number) for number in range(1, len(ids) + 1)])
        self.assertTrue(rest.endswith("data: [DONE]\n\n"))
        data = [line.removeprefix("data: ") for line in lines + rest.splitlines() if line.startswith("data: {")]
        deltas = [json.loads(line)["choices"] for line in data]
        said = "".join(choices[0]["delta"].get("content") or "" for choices in deltas if choices)
        whole = json.loads(get(f"{UP['url']}/v1/jobs/{job}"))["result"]["body"]
        self.assertEqual(said, whole["choices"][0]["message"]["content"])


class Batches(unittest.TestCase):
    def setUp(self):
        self.client = client()
        self.addCleanup(self.client.close)

    def lines(self, texts):
        for number, text in enumerate(texts):
            body = {"model": CHAT, "messages": messages(text)}
            yield {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}

    def submit(self, lines, **more):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        file = self.client.files.create(file=("in.jsonl", io.BytesIO(text.encode())), purpose="batch")
        self.assertEqual((file.bytes, file.purpose, file.filename), (len(text), "batch", "in.jsonl"))
        return self.client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **more
        )

    def until_over(self, batch):
        begun = time.monotonic()
        while batch.status not in ("failed", "completed", "expired", "cancelled"):
            self.assertLess(time.monotonic() - begun, 120, batch)
            time.sleep(0.1)
            batch = self.client.batches.retrieve(batch.id)
        return batch

    def content(self, file):
        return [json.loads(line) for line in self.client.files.content(file).text.splitlines()]

    def test_from_upload_to_download(self):
        texts = [prompt() for _ in range(300)] + [prompt("[[sim:http_422]]") for _ in range(3)]
        batch = self.until_over(self.submit(self.lines(texts), metadata={"team": "search"}))
        self.assertEqual(batch.status, "completed")
        counts = batch.request_counts
        self.assertEqual((counts.total, counts.completed, counts.failed), (303, 300, 3))
        output = self.content(batch.output_file_id)
        self.assertEqual([line["custom_id"] for line in output], [f"line-{number}" for number in range(300)])
        used = sum(line["response"]["body"]["usage"]["total_tokens"] for line in output)
        self.assertEqual(batch.usage.total_tokens, used)
        errors = self.content(batch.error_file_id)
        self.assertEqual([line["response"]["status_code"] for line in errors], [422] * 3)
        self.assertIn(batch.id, [each.id for each in self.client.batches.list()])
        self.assertIn(batch.output_file_id, [each.id for each in self.client.files.list(purpose="batch_output")])
        self.assertTrue(self.client.files.delete(batch.output_file_id).deleted)
        with self.assertRaises(openai.NotFoundError):
            self.client.files.content(batch.output_file_id)

    def test_a_wrong_file_fails(self):
        lines = list(self.lines([prompt(), prompt()]))
        lines[1]["custom_id"] = "line-0"
        batch = self.until_over(self.submit(lines))
        self.assertEqual(batch.status, "failed")
        error = batch.errors.data[0]
        self.assertEqual((error.code, error.line), ("duplicate_custom_id", 2))

    def test_a_cancelled_batch_keeps_what_was_done(self):
        texts = [prompt(), prompt("[[sim:none latency_ms=60000]]")]
        batch = self.submit(self.lines(texts))
        begun = time.monotonic()
        while self.client.batches.retrieve(batch.id).request_counts.completed < 1:
            self.assertLess(time.monotonic() - begun, 60)
            time.sleep(0.1)
        self.client.batches.cancel(batch.id)
        batch = self.until_over(batch)
        self.assertEqual(batch.status, "cancelled")
        self.assertEqual([line["custom_id"] for line in self.content(batch.output_file_id)], ["line-0"])
        self.assertEqual(self.content(batch.error_file_id)[0]["error"]["code"], "batch_cancelled")


if __name__ == "__main__":
    unittest.main()
