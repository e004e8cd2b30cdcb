"""Every failure that Penstock names, as one tree.

::

    PenstockError
    ├── CallerError                 the caller can mend it
    │   ├── InvalidRequest          400  invalid_request
    │   ├── Authentication          401  invalid_api_key
    │   ├── PermissionDenied        403  insufficient_permissions
    │   ├── ModelNotFound           404  model_not_found
    │   ├── NotFound                404  not_found
    │   ├── MethodNotAllowed        405  method_not_allowed
    │   ├── KeyReused               409  idempotency_key_reused
    │   ├── KeyInUse                409  idempotency_key_in_use
    │   ├── AnswerNotKept           409  idempotency_answer_not_kept
    │   ├── BatchEnded              409  batch_ended
    │   ├── DeliveryUnderWay        409  delivery_under_way
    │   ├── RequestTooLarge         413  request_too_large
    │   ├── NotCached               504  not_cached: only a kept answer was wanted, and there is none
    │   ├── RateLimited             429  rate_limited
    │   │   └── ModelFull           429  as many requests of the model are under way as may be
    │   └── BudgetExceeded          429  insufficient_quota
    ├── UpstreamError               a provider failed; another one may do better
    │   ├── UpstreamUnavailable     502  refused connection, DNS, TLS, 5xx
    │   │   ├── UpstreamLacks       502  it has no such route or model
    │   │   └── AddressRefused      502  it lies where callers may not have us call
    │   ├── UpstreamBusy            503  its queue is full or it limits our rate: busy, not broken
    │   ├── UpstreamTimeout         504
    │   ├── UpstreamProtocolError   502  what it sent is not what it promised, or was cut
    │   └── UpstreamRefused         4xx  it says that the request itself is wrong: passed on, never retried
    ├── NoDeploymentAvailable       503  every candidate failed; carries the attempts
    │   ├── JobsOnly                400  jobs_only: its workers take jobs, and cannot be called
    │   └── NoTimeLeft              504  the deadline passed while there were others to try
    ├── ClassifierError             503
    ├── TemplateBroken              500  template_broken: its author must mend it
    ├── NotConfigured               501  this gateway was not set up for it
    ├── Restarting                  503  this process is being stopped
    ├── MemoryShort                 503  memory_short: this process has too little memory left for another request
    ├── StateError                  503  the store cannot answer
    │   └── StateConflict           a named condition did not hold
    ├── JobError                    500  a job ended without a result
    │   ├── JobCancelled            410  its caller cancelled it
    │   ├── GenerationRestarted     410  what was read of its stream is void: it is written anew
    │   ├── StreamLost              410  what its stream said is not kept any more
    │   └── TaskTimeout             504  it took longer than its time limit
    └── SettingsError               names the setting, the file and the line

An error knows its HTTP status and code; how it looks on a wire belongs to the dialect of the route.
"""

from __future__ import annotations

from typing import Any, ClassVar


class PenstockError(Exception):
    """A failure with words for a person and a code for a program.

    ``message`` says what is wrong and what to do. ``param`` names the request field at fault, if there is one.
    ``retry_after`` is in seconds. ``public`` is what callers are told instead, where the message is for operators;
    ``summary`` the few words by which older clients know it.
    """

    status: int = 500
    code: ClassVar[str] = "internal_error"
    type: ClassVar[str] = "api_error"
    public: str = ""
    summary: str = ""

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after


class CallerError(PenstockError):
    """The caller's request cannot be served as it is."""

    status = 400
    code = "invalid_request"
    type = "invalid_request_error"


class InvalidRequest(CallerError):
    """The request is malformed; ``param`` names the field."""


class Authentication(CallerError):
    """No key, or one that is unknown, expired or revoked."""

    status = 401
    code = "invalid_api_key"
    type = "authentication_error"


class PermissionDenied(CallerError):
    """The key is good, but not for this."""

    status = 403
    code = "insufficient_permissions"
    type = "permission_error"


class NotFound(CallerError):
    """There is nothing at this address."""

    status = 404
    code = "not_found"


class ModelNotFound(CallerError):
    """No deployment serves a model of this name."""

    status = 404
    code = "model_not_found"


class MethodNotAllowed(CallerError):
    """The address exists, but does not take this method."""

    status = 405
    code = "method_not_allowed"


class KeyReused(CallerError):
    """The ``Idempotency-Key`` belongs to another request: another body, or another address."""

    status = 409
    code = "idempotency_key_reused"


class KeyInUse(CallerError):
    """The first request with this ``Idempotency-Key`` is still being served; ask again."""

    status = 409
    code = "idempotency_key_in_use"


class DeliveryUnderWay(CallerError):
    """This delivery to a webhook is being sent just now."""

    status = 409
    code = "delivery_under_way"


class AnswerNotKept(CallerError):
    """The request with this ``Idempotency-Key`` was served, and its answer is told only once."""

    status = 409
    code = "idempotency_answer_not_kept"


class BatchEnded(CallerError):
    """The batch has ended, so that nothing can be done to it."""

    status = 409
    code = "batch_ended"


class RequestTooLarge(CallerError):
    """The body has too many bytes, or the prompt too many tokens."""

    status = 413
    code = "request_too_large"


class NotCached(CallerError):
    """Only a kept answer was wanted (``Cache-Control: only-if-cached``), and none is: 504 is HTTP's word for it."""

    status = 504
    code = "not_cached"


class RateLimited(CallerError):
    """A limit does not admit this request yet; ``retry_after`` says when it will."""

    status = 429
    code = "rate_limited"
    type = "rate_limit_error"
    summary = "Rate limit exceeded"


class ModelFull(RateLimited):
    """As many requests of the model are under way as its limit allows."""


class BudgetExceeded(CallerError):
    """The money is spent."""

    status = 429
    code = "insufficient_quota"
    type = "insufficient_quota"


class UpstreamError(PenstockError):
    """A provider failed. ``provider`` names it; ``where`` is its address, which only operators are told.

    ``injected``: it did not, chaos was wanted.
    """

    injected = False
    status = 502
    code = "upstream_error"
    type = "upstream_error"

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        where: str = "",
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{where} {message}" if where else message, param=param, retry_after=retry_after)
        self.provider = provider
        if where:
            self.public = f"The provider {message}."


class UpstreamUnavailable(UpstreamError):
    """No connection (refused, DNS, TLS), or a 5xx."""

    code = "upstream_unavailable"


class UpstreamLacks(UpstreamUnavailable):
    """The provider has no such route, or no such model: it may serve other calls all the same."""


class AddressRefused(UpstreamUnavailable):
    """A caller's address leads to a place that this gateway does not call: a private, local or reserved one."""


class UpstreamBusy(UpstreamError):
    """A full queue or a rate limit of the provider's: busy, not broken."""

    status = 503
    code = "upstream_busy"


class UpstreamTimeout(UpstreamError):
    """The provider did not answer within the deadline."""

    status = 504
    code = "upstream_timeout"
    type = "timeout_error"


class UpstreamProtocolError(UpstreamError):
    """The answer is not what was promised: cut short, not JSON, not SSE, or without content."""

    code = "upstream_protocol_error"


class UpstreamRefused(UpstreamError):
    """The provider says that the request itself is wrong. ``status`` and ``upstream_code`` are its own."""

    type = "invalid_request_error"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        upstream_code: str | None = None,
        provider: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message, provider=provider, param=param)
        self.status = status
        self.upstream_code = upstream_code


class NoDeploymentAvailable(PenstockError):
    """Every candidate failed, or none may be tried. ``attempts`` lists what was tried, in order."""

    status = 503
    code = "provider_unavailable"

    def __init__(
        self, message: str, *, attempts: tuple[dict[str, Any], ...] = (), retry_after: float | None = None
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.attempts = attempts


class JobsOnly(NoDeploymentAvailable):
    """The model is served by workers that ask for jobs and cannot be called: the request must become one."""

    status = 400
    code = "jobs_only"
    type = "invalid_request_error"


class NoTimeLeft(NoDeploymentAvailable):
    """The request's time was over before a deployment had answered."""

    status = 504
    code = "upstream_timeout"
    type = "timeout_error"


class ClassifierError(PenstockError):
    """The model could not be chosen from the prompt."""

    status = 503
    code = "classifier_error"


class TemplateBroken(PenstockError):
    """The template that a request names is no good, whatever is put into it."""

    code = "template_broken"
    public = "The template that this request names is broken; the gateway's log says how."


class NotConfigured(PenstockError):
    """This gateway could do it, but was not set up for it; the message says how."""

    status = 501
    code = "not_configured"


class Restarting(PenstockError):
    """This process is being stopped; another one, or the next, will serve the request."""

    status = 503
    code = "restarting"


class MemoryShort(PenstockError):
    """This process has too little memory left to take another request; ``retry_after`` says when to try again."""

    status = 503
    code = "memory_short"


class StateError(PenstockError):
    """The store cannot answer: unreachable, full, read-only or too slow."""

    status = 503
    code = "state_unavailable"
    public = "The gateway's state cannot be reached at the moment; try again soon."


class StateConflict(StateError):
    """A named condition of a write did not hold: somebody else was first."""

    status = 409
    code = "conflict"


class JobError(PenstockError):
    """A job ended without a result."""

    code = "job_failed"


class JobCancelled(JobError):
    """The job was cancelled by its caller, so there is no answer."""

    status = 410
    code = "job_cancelled"
    type = "invalid_request_error"


class TaskTimeout(JobError):
    """The work on a job, all its tries together, took longer than the time limit."""

    status = 504
    code = "task_timeout"
    type = "timeout_error"


class GenerationRestarted(JobError):
    """Who wrote the answer died while it was read, and another begins it anew."""

    status = 410
    code = "generation_restarted"


class StreamLost(JobError):
    """A stream cannot be told on from here; the whole answer may still be had."""

    status = 410
    code = "stream_lost"


class SettingsError(PenstockError):
    """A setting is missing or wrong. ``str()`` is one line: where, which key, what to do."""

    code = "settings_error"
    public = "The gateway is not configured correctly; its log says why."

    def __init__(self, message: str, *, setting: str | None = None, where: str | None = None) -> None:
        self.setting = setting
        self.where = where
        super().__init__(": ".join(part for part in (where, setting, message) if part))
