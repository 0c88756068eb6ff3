"""A server on this machine that plays the judge behind an OpenAI-compatible endpoint."""

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Body = dict[str, Any]
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


@dataclass(frozen=True)
class Answer:
    """What the server sends back: after `delay` seconds this, or nothing at all where it drops the line."""

    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False


def chat(text: str | None, **choice: Any) -> Answer:
    """A chat completion with this text."""
    message = {"role": "assistant", "content": text}
    whole = {"choices": [{"index": 0, "finish_reason": "stop", "message": message, **choice}]}
    return Answer(json.dumps({**whole, "usage": USAGE}).encode())


def failure(status: int, message: str = "no", code: str | None = None, **headers: str) -> Answer:
    """An error as OpenAI's API words it; `Retry_After="3"` is a header."""
    content = json.dumps({"error": {"message": message, "code": code}}).encode()
    return Answer(content, status, {name.replace("_", "-"): value for name, value in headers.items()})


def answers_in(body: Body) -> tuple[str, str]:
    """The two answers that a question of the package holds, as they stand in it."""
    content = body["messages"][0]["content"]
    found = [re.search(rf"<answer_{side}>\n(.*)\n</answer_{side}>", content, re.DOTALL) for side in "ab"]
    first, second = (one[1] for one in found if one is not None)
    return first, second


def by_length(bias: float = 0.0) -> Callable[[Body], Answer]:
    """A judge that gives an answer a point a character, and the one that stands first `bias` on top."""

    def judge(body: Body) -> Answer:
        first, second = (float(min(len(text), 8)) for text in answers_in(body))
        return chat(f"Longer is better.\nRatings: A={first + bias:g}, B={second:g}")

    return judge


class StandIn:
    """The server, while it is open.

    answers: gives one to each request.
    bodies, headers, paths: of what came; `times`, of the monotonic clock; `most`, how many at the same time.
    """

    def __init__(self, answers: Callable[[Body], Answer]):
        self.answers = answers
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answered(self, path: str, headers: dict[str, str], content: bytes) -> Answer:
        with self._lock:
            body = json.loads(content)
            self.paths.append(path)
            self.headers.append(headers)
            self.bodies.append(body)
            self.times.append(time.monotonic())
            self._now += 1
            self.most = max(self.most, self._now)
        answer = self.answers(body)
        time.sleep(answer.delay)
        with self._lock:
            self._now -= 1
        return answer

    def _handler(stand_in) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                answer = stand_in.answered(self.path, dict(self.headers), content)
                if answer.drop:
                    return
                try:
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(answer.content)))
                    self.end_headers()
                    self.wfile.write(answer.content)
                except BrokenPipeError:
                    pass  # the client has gone away

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler
