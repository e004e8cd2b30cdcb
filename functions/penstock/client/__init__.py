"""``LLMClient`` and ``AsyncLLMClient``: submit a prompt, follow its tokens, wait for its text (docs/tasks.md).

::

    LLMError
    ├── Unreachable         nobody answered, or no answer came to its end, as often as it was asked
    ├── Refused             the gateway said no: ``status``, ``retry_after``
    │   ├── Unauthorized    401, 403
    │   ├── TaskNotFound    404: no task of this key, or none any more
    │   └── TooManyRequests 429
    ├── TaskFailed          the task ended without a text: ``error_type`` says why in one word
    └── StillRunning        the time to wait was over first, and the task goes on; a ``TimeoutError`` too
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from typing import Any

from penstock.client._errors import (
    LLMError,
    Refused,
    StillRunning,
    TaskFailed,
    TaskNotFound,
    TooManyRequests,
    Unauthorized,
    Unreachable,
)
from penstock.client._lines import AsyncLine, Gateway, Line
from penstock.client._script import (
    Event,
    Script,
    T,
    awaited,
    cancelled,
    followed,
    following,
    result,
    status,
    submitted,
)
from penstock.outbound import HttpClient

__all__ = [
    "AsyncLLMClient",
    "LLMClient",
    "LLMError",
    "Refused",
    "StillRunning",
    "TaskFailed",
    "TaskNotFound",
    "TooManyRequests",
    "Unauthorized",
    "Unreachable",
]

OnProgress = Callable[[Event], object]


class LLMClient:
    """Calls a gateway, and waits. Every method raises ``LLMError``; what may pass is tried again before."""

    def __init__(self, base_url: str = "http://localhost:8000", api_key: str = "") -> None:
        self._gateway = Gateway(base_url, api_key)

    def generate(
        self,
        prompt: str,
        max_tokens: int | None = None,
        temperature: float | None = None,
        wait: bool = True,
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        **fields: Any,
    ) -> Event:
        """Submit a prompt, and wait for its result: ``result`` is the text, ``metrics`` say how long it took.

        With ``wait`` off it answers the ``task_id`` at once. ``timeout`` and ``on_progress`` are those of ``wait``;
        ``fields`` are others of the request: ``top_p``, ``user_id``, ``model``, ``stop``, …
        """
        fields = {"max_tokens": max_tokens, "temperature": temperature, **fields}
        task = self._run(submitted(prompt, fields))
        return self.wait(task["task_id"], timeout, on_progress=on_progress) if wait else task

    def status(self, task_id: str) -> Event:
        """``status`` is ``queued``, ``processing``, ``completed`` or ``failed``."""
        return self._run(status(task_id))

    def result(self, task_id: str) -> Event:
        """What there is now, without waiting; ``status`` is ``error`` where the task has failed."""
        return self._run(result(task_id))

    def cancel(self, task_id: str) -> Event:
        """End a task without a text; one that has ended stays as it is."""
        return self._run(cancelled(task_id))

    def wait(self, task_id: str, timeout: float | None = None, *, on_progress: OnProgress | None = None) -> Event:
        """The result, once there is one. Raises ``TaskFailed``, and ``StillRunning`` after so many seconds.

        ``on_progress`` is called with each event of the stream, tokens among them; without it the gateway is polled.
        """
        if on_progress is None:
            return self._run(awaited(task_id, timeout))
        with closing(self.stream(task_id, timeout)) as events:
            for event in events:
                on_progress(event)
        return self.result(task_id)

    def stream(self, task_id: str, timeout: float | None = None) -> Generator[Event, None, None]:
        """The task's events as they come, the last with its ``result``; a connection that is cut is taken up again.

        After ``restarted`` the tokens before it are void: the task was begun anew. Raises ``TaskFailed``, and
        ``StillRunning`` after so many seconds.
        """
        script = followed(task_id, timeout)
        with closing(Line(self._gateway)) as line:
            came: Any = None
            while (step := following(script, came)) is not None:
                came = None
                if isinstance(step, dict):
                    yield step
                else:
                    came = line.carry_out(step)

    def _run(self, script: Script[T]) -> T:
        with closing(Line(self._gateway)) as line:
            came: Any = None
            while True:
                try:
                    step = script.send(came)
                except StopIteration as stop:
                    value: T = stop.value
                    return value
                came = line.carry_out(step)


class AsyncLLMClient:
    """``LLMClient`` for an event loop. Close it, or use it in an ``async with`` block."""

    def __init__(self, base_url: str = "http://localhost:8000", api_key: str = "") -> None:
        self._gateway = Gateway(base_url, api_key)
        self._client = HttpClient()

    async def __aenter__(self) -> AsyncLLMClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        await self._client.aclose()

    async def generate(
        self,
        prompt: str,
        max_tokens: int | None = None,
        temperature: float | None = None,
        wait: bool = True,
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        **fields: Any,
    ) -> Event:
        """``LLMClient.generate``."""
        fields = {"max_tokens": max_tokens, "temperature": temperature, **fields}
        task = await self._run(submitted(prompt, fields))
        return await self.wait(task["task_id"], timeout, on_progress=on_progress) if wait else task

    async def status(self, task_id: str) -> Event:
        """``LLMClient.status``."""
        return await self._run(status(task_id))

    async def result(self, task_id: str) -> Event:
        """``LLMClient.result``."""
        return await self._run(result(task_id))

    async def cancel(self, task_id: str) -> Event:
        """``LLMClient.cancel``."""
        return await self._run(cancelled(task_id))

    async def wait(self, task_id: str, timeout: float | None = None, *, on_progress: OnProgress | None = None) -> Event:
        """``LLMClient.wait``."""
        if on_progress is None:
            return await self._run(awaited(task_id, timeout))
        async with aclosing(self.stream(task_id, timeout)) as events:
            async for event in events:
                on_progress(event)
        return await self.result(task_id)

    async def stream(self, task_id: str, timeout: float | None = None) -> AsyncGenerator[Event, None]:
        """``LLMClient.stream``."""
        script = followed(task_id, timeout)
        with closing(AsyncLine(self._gateway, self._client)) as line:
            came: Any = None
            while (step := following(script, came)) is not None:
                came = None
                if isinstance(step, dict):
                    yield step
                else:
                    came = await line.carry_out(step)

    async def _run(self, script: Script[T]) -> T:
        with closing(AsyncLine(self._gateway, self._client)) as line:
            came: Any = None
            while True:
                try:
                    step = script.send(came)
                except StopIteration as stop:
                    value: T = stop.value
                    return value
                came = await line.carry_out(step)
