"""Why an endpoint gave no reply: whether to try again, and what to tell the user."""

import email.utils
import json
import math
import socket
import time
import urllib.error
from http import HTTPStatus
from http.client import HTTPException

from arith.errors import EndpointError
from arith.study.judging.reply import Reply

FILTERED = ("content_filter", "content_policy_violation")
"""Codes of a request that is refused for what the texts say, and would be each time."""
TOO_LONG = ("context_length_exceeded", "exceed_context_size_error")
"""Codes, or types, of a request that is over the model's context window, and"""
TOO_LONG_WORDS = ("context length", "context size", "context window", "input tokens exceed")
"""what endpoints say of it that have no such code."""
SPENT = "insufficient_quota"
SHOWN = 200  # characters of an endpoint's own message


class Passing(Exception):
    """A failure that may be over the next time.

    cause: by which it is counted.
    wait: seconds that the endpoint asks for; None where it doesn't say.
    unreachable: nobody was there at all.
    """

    def __init__(
        self,
        cause: str,
        message: str,
        hint: str | None = None,
        *,
        wait: float | None = None,
        unreachable: bool = False,
    ):
        super().__init__(message)
        self.cause = cause
        self.message = message
        self.hint = hint
        self.wait = wait
        self.unreachable = unreachable


def refused(error: urllib.error.HTTPError, url: str, key_env: str | None) -> Reply:
    """The reply that an HTTP error stands for: one that declines, where a filter took offence at the texts or
    they are too long.

    Raises `Passing` for rate limits and errors of the server, and `EndpointError` for what stays as it is.
    """
    code, said = _told(error)
    if code in FILTERED or code in TOO_LONG or (error.code == HTTPStatus.BAD_REQUEST and _too_long(said)):
        return Reply(None, None, None)
    status = f"{error.code} {_phrase(error.code)}" + (f" ({said})" if said else "")
    who = f"the judge at {url}"
    if code == SPENT:
        raise EndpointError(f"{who}: the account is used up: {status}")
    if error.code == HTTPStatus.TOO_MANY_REQUESTS:
        wait = _retry_after(error)
        raise Passing("rate limits", status, "lower `concurrency`, or go on later", wait=wait)
    if error.code >= 500 or error.code in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT):
        raise Passing("server errors", status, wait=_retry_after(error))
    if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        if key_env is None:
            raise EndpointError(f"{who} wants a key: {status}", "name its variable by `key_env`")
        raise EndpointError(f"{who} refuses the key in {key_env}: {status}")
    if error.code == HTTPStatus.NOT_FOUND:
        raise EndpointError(f"{who}: {status}", "is `url` right, and does the endpoint have this `model`?")
    if 300 <= error.code < 400:
        raise EndpointError(f"{who} leads on to {error.headers.get('Location')}", "give that as `url`")
    raise EndpointError(f"{who} refuses the request: {status}")


def why_unreachable(error: Exception, timeout: float) -> Passing:
    """What a failed connection is: no answer in time, a dropped one, or nobody there."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return Passing("timeouts", f"no answer within {timeout:g} seconds")
    nobody = isinstance(reason, ConnectionRefusedError | socket.gaierror)
    words = (getattr(reason, "strerror", None) or str(reason) or type(reason).__name__).lower()
    cause = "unreachable" if nobody else "dropped connections"
    return Passing(cause, f"can't be reached: {words}", "is `url` right?", unreachable=nobody)


def _too_long(said: str) -> bool:
    return any(words in said.lower() for words in TOO_LONG_WORDS)


def _told(error: urllib.error.HTTPError) -> tuple[str | None, str]:
    """The code, or else the type, and the words of the error in the body, which OpenAI's API has under
    `error`."""
    try:
        told = json.loads(error.read())["error"]
        codes, message = (told.get("code"), told.get("type")), told.get("message")
    except (OSError, HTTPException, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None, ""
    text = " ".join(str(message or "").split())
    code = next((one for one in codes if isinstance(one, str)), None)
    return code, text if len(text) <= SHOWN else text[:SHOWN] + "..."


def _phrase(code: int) -> str:
    try:
        return HTTPStatus(code).phrase.lower()
    except ValueError:
        return "unknown status"


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    """Seconds from now, given as such or as a date (RFC 9110, 10.2.3); None without either."""
    value = error.headers.get("Retry-After", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
