"""A client of OpenAI-compatible chat endpoints."""

import http.client
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from typing import Any

from arith.errors import EndpointError
from arith.study.judging.refusal import Passing, refused, why_unreachable
from arith.study.judging.reply import Reply, reply_in

FIRST_WAIT, LONGEST_BACKOFF = 1.0, 60.0  # seconds between tries, doubled each time
LONGEST_WAIT = 600.0  # seconds: an endpoint that asks for more is given up
PATH = "/chat/completions"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected request would carry the key to another host, and lose its body."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Endpoint:
    """`POST {url}/chat/completions`, from as many threads as one likes.

    What fails in passing (rate limits, errors of the server, no or broken answers) is tried again `retries`
    times, after the time that the endpoint asks for in `Retry-After`, or else after waits that double.
    `troubles` counts these failures by their cause.
    """

    def __init__(self, url: str, *, key_env: str | None, timeout: float, retries: int):
        self.url = url.rstrip("/") if url.rstrip("/").endswith(PATH) else url.rstrip("/") + PATH
        self.key_env = key_env
        self.timeout = timeout
        self.retries = retries
        self.troubles: Counter[str] = Counter()
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._lock = threading.Lock()
        self._not_before = 0.0  # of the monotonic clock: what one thread is told to wait goes for all
        self._reached = False
        self._closed = threading.Event()

    def close(self) -> None:
        """Nothing is sent from now on; threads that wait come back with `EndpointError`."""
        self._closed.set()

    def refuse_without_key(self) -> None:
        """Raises `EndpointError` where the environment lacks the key, or has one that can't be sent."""
        _authorization(self.key_env)

    def ask(self, body: Mapping[str, object]) -> Reply:
        """The reply to the request. Raises `EndpointError` where there is none to be had."""
        for attempt in range(self.retries + 1):
            self._wait()
            try:
                reply = self._once(body)
            except Passing as failure:
                last = failure
            else:
                self._reached = True
                return reply
            self._note(last)
            if last.unreachable and not self._reached:
                break  # a mistyped address, most likely
            if not last.wait and attempt < self.retries:
                self._pause(min(FIRST_WAIT * 2**attempt, LONGEST_BACKOFF) * random.uniform(0.5, 1.0))
        tries = "" if attempt == 0 else f", {attempt + 1} times in a row"
        raise EndpointError(f"the judge at {self.url}: {last.message}{tries}", last.hint)

    def _once(self, body: Mapping[str, object]) -> Reply:
        """One request. Raises `Passing` for what may be over the next time, or `EndpointError`."""
        data = json.dumps(body).encode("ascii")
        headers = {"Content-Type": "application/json", **_authorization(self.key_env)}
        request = urllib.request.Request(self.url, data=data, headers=headers, method="POST")
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                content = response.read()
        except urllib.error.HTTPError as error:
            with error:
                return refused(error, self.url, self.key_env)
        except (OSError, http.client.HTTPException) as error:
            raise why_unreachable(error, self.timeout) from None
        try:
            reply = reply_in(json.loads(content))
        except (ValueError, RecursionError):
            reply = None
        if reply is None:
            start = content[:80].decode("utf-8", "replace")
            message = f"its answer is no chat completion: {start!r}"
            raise Passing("broken answers", message, "is `url` that of an OpenAI-compatible API?")
        return reply

    def _note(self, failure: Passing) -> None:
        """Counts it, and puts off all requests for as long as the endpoint asks. Raises `EndpointError` where
        that is too long."""
        wait = failure.wait or 0.0
        with self._lock:
            self.troubles[failure.cause] += 1
            self._not_before = max(self._not_before, time.monotonic() + min(wait, LONGEST_WAIT))
        if wait > LONGEST_WAIT:
            message = f"the judge at {self.url}: {failure.message}, and asks to wait {wait:.0f} seconds"
            raise EndpointError(message, "try again then: the replies so far are kept")

    def _wait(self) -> None:
        """Until the endpoint takes requests again, as far as it has said so."""
        while (left := self._not_before - time.monotonic()) > 0:
            self._pause(left)
        self._pause(0)

    def _pause(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise EndpointError(f"the judge at {self.url}: stopped")


def _authorization(key_env: str | None) -> dict[str, str]:
    if key_env is None:
        return {}
    key = os.environ.get(key_env, "").strip()
    if not key:
        message = f"the environment variable {key_env}, which `key_env` names, isn't set"
        raise EndpointError(message, f"export {key_env}=...")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise EndpointError(f"the environment variable {key_env} holds what can't be a key")
    return {"Authorization": f"Bearer {key}"}
