"""Chooses the model of a request that names an alias: hard rules first, then what a classifier says of its prompt."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from penstock.core.classification.asking import Asked, Serving
from penstock.core.classification.prompt import read
from penstock.core.classification.sensitive import Sensitive
from penstock.core.counters import Counter
from penstock.core.ports.classifier import Classifier, Prompt, Verdict
from penstock.errors import (
    BudgetExceeded,
    ClassifierError,
    InvalidRequest,
    JobsOnly,
    ModelNotFound,
    NoDeploymentAvailable,
    PenstockError,
    PermissionDenied,
    RateLimited,
)
from penstock.schema.classification_section import AliasSection
from penstock.schema.decision import Decision
from penstock.schema.key import Caller
from penstock.schema.model import Deployment
from penstock.schema.request import CHAT, COMPLETIONS, Request
from penstock.schema.worker import WORKERS

log = logging.getLogger("penstock.classification")

CHOSEN = Counter(
    "penstock_classified_total",
    "Requests of an alias by the tier that was chosen, by whom, and whether they had to stay local.",
    ("alias", "tier", "classifier", "local"),
)
SECONDS = Counter("penstock_classification_seconds_total", "Seconds that choosing took.", ("alias", "classifier"))
FAILED = Counter(
    "penstock_classifier_failures_total",
    "Prompts that a classifier could not place: the default was taken, or the request was refused.",
    ("alias", "classifier", "result"),
)
SENSITIVE = Counter("penstock_sensitive_prompts_total", "Prompts of aliases that hold something sensitive.", ("kind",))

SIMULATED = "simulated"
RESULTS = ("refused", "default")


class Alias(NamedTuple):
    """A name that stands for models, and who chooses among them."""

    section: AliasSection
    classifier: Classifier


class Candidates(Protocol):
    """The registry, as far as choosing needs it."""

    async def candidates(self, model: str, caller: Caller) -> Sequence[Deployment]:
        """The deployments of a public model."""


class Classification:
    """The aliases of a configuration, by their names. ``local`` are globs of the providers that count as local."""

    def __init__(
        self,
        aliases: Mapping[str, Alias],
        sensitive: Sensitive,
        registry: Candidates,
        local: Sequence[str] | None = None,
    ) -> None:
        self.aliases = aliases
        self._sensitive = sensitive
        self._registry = registry
        self._local = local

    async def choose(self, request: Request, gateway: Serving) -> None:
        """Have a request be for the model that stands for its alias.

        Raises ``CallerError``, ``ClassifierError``, or ``NoDeploymentAvailable`` where it must stay local and cannot.
        """
        name, section = request.model, self.aliases[request.model].section
        decision = await self.decide(request, gateway)
        request.classified, request.model, request.local = decision, decision.model, decision.local
        if not request.chosen:
            CHOSEN.add(name, decision.tier, section.classifier, "true" if decision.local else "false")
            SECONDS.add(name, section.classifier, n=decision.seconds)
            for kind in decision.sensitive:
                SENSITIVE.add(kind)
        if not request.caller.may_use(decision.model):
            raise PermissionDenied(
                f"{name!r} stands for {decision.model!r} here, which this API key may not use.", param="model"
            )

    async def decide(self, request: Request, gateway: Serving | None) -> Decision:
        """The model that stands for a request's alias, and why. Without a ``gateway`` no model is asked: raises
        ``ClassifierError`` if that is needed.
        """
        began = time.perf_counter()
        name, section = request.model, self.aliases[request.model].section
        if request.endpoint not in (CHAT, COMPLETIONS):
            raise InvalidRequest(f"{name!r} stands for models that answer in text: name a model here.", param="model")
        if not request.caller.may_use(name):
            raise PermissionDenied(f"This API key may not use the model {name!r}.", param="model")
        prompt = read(request)
        sensitive = await self._sensitive.found(prompt.texts)
        if prompt.images and self._sensitive.images:
            sensitive = (*sensitive, "image")
        verdict, failed = await self._verdict(name, prompt, request, gateway, local=bool(sensitive))
        local = bool(sensitive) or verdict.tier in section.local_tiers
        tier, model = await self._target(name, verdict.tier, request, local=local, sensitive=sensitive)
        return Decision(
            alias=name,
            classifier=section.classifier,
            tier=tier,
            model=model,
            local=local,
            score=verdict.score,
            reasons=verdict.reasons,
            sensitive=sensitive,
            seconds=time.perf_counter() - began,
            failed=failed,
        )

    def is_local(self, place: Deployment) -> bool:
        """Whether what is sent to a place stays local."""
        if self._local is not None:
            return any(fnmatchcase(name, glob) for glob in self._local for name in (place.provider, place.pool))
        return place.pool == WORKERS or place.kind == SIMULATED or _is_inside(place.base_url)

    def only_local(self, found: Sequence[Deployment]) -> Sequence[Deployment]:
        """The local ones among a model's places. Raises ``NoDeploymentAvailable`` if there is none."""
        local = tuple(place for place in found if self.is_local(place))
        if not local:
            raise NoDeploymentAvailable("This request must stay local, and no local place serves its model now.")
        return local

    async def _verdict(
        self, name: str, prompt: Prompt, request: Request, gateway: Serving | None, *, local: bool
    ) -> tuple[Verdict, str]:
        """What the classifier says, or the alias's default and why it was taken."""
        section, classifier = self.aliases[name]
        chosen = [tier for tier, models in section.tiers.items() if request.chosen in models]
        if chosen:  # when its job was accepted; of several tiers it may have been the one that stays local
            return Verdict(next((tier for tier in chosen if tier in section.local_tiers), chosen[0])), ""
        if classifier.asks and gateway is None:
            raise ClassifierError(f"{section.classifier!r} of {name!r} asks a model about each prompt; none was asked.")
        asking = Asked(gateway, request, local=local) if gateway is not None else NOBODY
        try:
            verdict = await classifier.tier(prompt, asking)
            if verdict.tier not in section.tiers:
                raise ClassifierError(f"It answered {verdict.tier[:40]!r}, which is no tier of {name!r}.")
            return verdict, ""
        except (RateLimited, BudgetExceeded):
            raise  # its caller's own limits
        except (PenstockError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
            code = error.code if isinstance(error, PenstockError) else ClassifierError.code
            cause = (
                code if isinstance(error, PenstockError) else type(error).__name__
            )  # an upstream's words may quote it
            log.warning("the classifier of %s failed: %s", name, cause, extra={"request_id": request.id})
            FAILED.add(name, section.classifier, RESULTS[section.default is not None])
            if section.default is None:
                raise ClassifierError(
                    f"The model for this prompt could not be chosen: {section.classifier} failed ({code}).",
                    retry_after=1,
                ) from error
            return Verdict(section.default), code

    async def _target(
        self, name: str, tier: str, request: Request, *, local: bool, sensitive: Sequence[str]
    ) -> tuple[str, str]:
        """The first model of a tier that this caller may be sent to. One that must stay local goes to another tier,
        the best one first, where this one has no local place.
        """
        tiers = self.aliases[name].section.tiers
        if not local and (len(tiers[tier]) == 1 or request.chosen):
            return tier, request.chosen or tiers[tier][0]
        others = [other for other in reversed(tiers) if other != tier] if local else []
        for each in (tier, *others):
            for model in sorted(tiers[each], key=lambda model: model != request.chosen):  # as its job was accepted
                if request.caller.may_use(model) and await self._serves(model, request.caller, local=local):
                    return each, model
        if not local:
            return tier, tiers[tier][0]  # what is wrong with it is told as for any model
        why = f"it holds what stays local ({', '.join(sensitive)})" if sensitive else "its tier stays local"
        raise NoDeploymentAvailable(
            f"This prompt may not leave: {why}, and {name!r} has no local place that serves it now."
        )

    async def _serves(self, model: str, caller: Caller, *, local: bool) -> bool:
        """Whether there are places of a model, and such as count; workers that ask for jobs are some."""
        try:
            found = await self._registry.candidates(model, caller)
        except JobsOnly:
            return not local or self._local is None or any(fnmatchcase(WORKERS, glob) for glob in self._local)
        except (ModelNotFound, NoDeploymentAvailable):
            return False
        return not local or any(map(self.is_local, found))


class _Nobody:
    """Answers a classifier that asks although it said that it would not."""

    async def chat(self, *_: object, **__: object) -> str:
        raise ClassifierError("no model is asked here")

    async def embed(self, *_: object, **__: object) -> list[list[float]]:
        raise ClassifierError("no model is asked here")


NOBODY = _Nobody()


def _is_inside(url: str) -> bool:
    """Whether an address is this machine's or one of a private network; of a name nobody knows."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private
