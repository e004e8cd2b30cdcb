"""What is counted of outcomes, for ``GET /metrics``; docs/metrics.md says what each number means."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.core.counters import Counter, Histogram
from penstock.core.traffic import provider_of
from penstock.schema.outcome import FAILED, REFUSED, Outcome
from penstock.schema.price import dollars

# Those of OpenTelemetry's conventions for generative AI, as far as a request's longest time goes.
SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68)
FIRST_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

REQUESTS = Counter(
    "penstock_requests_total",
    "Requests by how they ended; the model is empty where no place that serves it was found.",
    ("endpoint", "model", "ended", "status"),
)
DURATION = Histogram(
    "penstock_request_duration_seconds",
    "From a request's admission to the end of its answer, by who answered or was tried last.",
    ("provider", "model"),
    SECONDS,
)
FIRST_TOKEN = Histogram(
    "penstock_time_to_first_token_seconds",
    "From a request's admission to its first token, where it is streamed.",
    ("provider", "model"),
    FIRST_SECONDS,
)
TOKENS = Counter(
    "penstock_tokens_total",
    "Tokens as the provider counts them, by direction: input, output, and cached, which are a part of the input.",
    ("provider", "model", "direction"),
)
COST = Counter(
    "penstock_cost_dollars_total", "Dollars that requests cost, where prices are known.", ("provider", "model")
)
UNPRICED = Counter("penstock_unpriced_requests_total", "Requests whose price nobody knows.", ("provider", "model"))
ATTEMPTS = Counter(
    "penstock_attempts_total",
    "Attempts at a provider by how they ended: ok, failed, refused, cancelled.",
    ("provider", "model", "result"),
)
ATTEMPT_SECONDS = Counter(
    "penstock_attempt_seconds_total", "Seconds that attempts at a provider took.", ("provider", "model")
)
RETRIES = Counter(
    "penstock_retries_total", "Attempts at a place that had failed the same request.", ("provider", "model")
)
FALLBACKS = Counter(
    "penstock_fallbacks_total",
    "Requests that moved on to another place, by the provider that failed.",
    ("provider", "model"),
)


def count(batch: Sequence[Outcome]) -> None:
    """Count each outcome."""
    for outcome in batch:
        _count(outcome)


def _count(outcome: Outcome) -> None:
    deployment = outcome.deployment
    if not deployment:
        REQUESTS.add(outcome.endpoint, "", outcome.ended, str(outcome.status))
        return
    model, provider, usage = outcome.model, provider_of(deployment), outcome.usage
    REQUESTS.add(outcome.endpoint, model, outcome.ended, str(outcome.status))
    DURATION.see(provider, model, value=outcome.duration)
    if outcome.cached:
        return
    if outcome.ttft is not None:
        FIRST_TOKEN.see(provider, model, value=outcome.ttft)
    TOKENS.add(provider, model, "input", n=usage.prompt_tokens)
    TOKENS.add(provider, model, "output", n=usage.completion_tokens)
    if usage.cached_tokens:
        TOKENS.add(provider, model, "cached", n=usage.cached_tokens)
    if outcome.cost_nanos is None:
        UNPRICED.add(provider, model)
    else:
        COST.add(provider, model, n=dollars(outcome.cost_nanos))
    lost = _count_failures(outcome) if outcome.failures else 0.0
    if outcome.ended != FAILED or not outcome.failures:  # else the last failure was the last attempt
        ATTEMPTS.add(provider, model, outcome.ended)
        ATTEMPT_SECONDS.add(provider, model, n=max(0.0, outcome.duration - lost))


def _count_failures(outcome: Outcome) -> float:
    """Count the attempts that failed, and what came after each; answers their seconds."""
    lost, model = 0.0, outcome.model
    places = [failure.deployment for failure in outcome.failures]
    if outcome.ended != FAILED:
        places.append(outcome.deployment)
    for number, failure in enumerate(outcome.failures):
        provider = provider_of(failure.deployment)
        ATTEMPTS.add(provider, model, "refused" if failure.code == REFUSED else FAILED)
        ATTEMPT_SECONDS.add(provider, model, n=failure.seconds)
        lost += failure.seconds
        if number + 1 < len(places):
            following = places[number + 1]
            if following in places[: number + 1]:
                RETRIES.add(provider_of(following), model)
            else:
                FALLBACKS.add(provider, model)
    return lost
