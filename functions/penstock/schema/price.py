"""What tokens, images and time cost. Money is counted in whole nano-dollars: a billion of them are one dollar."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.schema.outcome import Usage

NANO = 1_000_000_000
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars per million tokens, per image and per second of a GPU.

    Where ``cached_input`` is ``None``, tokens that the provider had in its cache cost as much as others.
    """

    input: int = 0
    cached_input: int | None = None
    output: int = 0
    image: int = 0
    gpu_second: int = 0

    def cost(self, usage: Usage, *, seconds: float = 0.0, images: int = 0) -> int:
        """Nano-dollars for what was used, rounded up once. Cached tokens are a part of the prompt's."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        cached_input = self.input if self.cached_input is None else self.cached_input
        tokens = (usage.prompt_tokens - cached) * self.input + cached * cached_input
        return self._sum(tokens + usage.completion_tokens * self.output, seconds, images)

    def bound(self, prompt_tokens: int, completion_tokens: int, *, seconds: float = 0.0, images: int = 0) -> int:
        """The most nano-dollars that so much can cost, whatever part of the prompt is cached."""
        dearer = max(self.input, self.cached_input or 0)
        return self._sum(prompt_tokens * dearer + completion_tokens * self.output, seconds, images)

    def _sum(self, tokens: int, seconds: float, images: int) -> int:
        """Nano-dollars, rounded up; seconds are taken to the nanosecond, which makes all of it whole numbers."""
        nanoseconds = round(seconds * NANO)
        exact = (tokens + images * self.image * MILLION) * NANO + nanoseconds * self.gpu_second * MILLION
        return -(-exact // (MILLION * NANO))


def nanos(dollars: float) -> int:
    """Dollars as whole nano-dollars, to the nearest."""
    return round(dollars * NANO)


def dollars(nanos: int) -> float:
    """Nano-dollars as dollars, for showing."""
    return nanos / NANO
