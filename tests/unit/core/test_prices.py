"""Which price holds for a deployment, and that the packaged list is in order."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from penstock.core import prices
from penstock.core.prices import Catalog, price_of
from penstock.core.streams import MAX_TOKENS
from penstock.providers._profiles import PROFILES
from penstock.schema.config import PriceRow
from penstock.schema.model import Deployment
from penstock.schema.outcome import Usage
from penstock.schema.price import NANO, Price, nanos

PLACE = Deployment("main/4o", "4o", "main", "openai", "gpt-4o", "https://api.openai.com/v1")


def at(kind: str, upstream: str, *, model: str = "public", provider: str = "mine") -> Deployment:
    return Deployment(f"{provider}/{upstream}", model, provider, kind, upstream, "")


# the packaged list


def test_the_list_is_read_whole_and_without_mistakes() -> None:
    catalog = Catalog()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", catalog.version)
    assert 40 <= len(catalog.rows) <= 200
    for row in catalog.rows:
        assert "*" not in row.provider, row
        assert row.provider in {*PROFILES, "anthropic"}, row
        assert row.input is not None, row
        assert row.cached_input is None or row.cached_input <= row.input, f"the cache is dearer than none: {row}"


def test_every_row_can_be_reached() -> None:
    catalog = Catalog()
    for row in catalog.rows:
        sample = re.sub(r"\[(.).*?\]", r"\1", row.model).replace("*", "")
        assert catalog.price(at(row.provider, sample)) == price_of(row), f"an earlier row hides {row}"


@pytest.mark.parametrize(
    ("kind", "upstream", "dollars"),
    [
        ("openai", "gpt-4o", (2.5, 1.25, 10)),
        ("openai", "gpt-4o-2024-08-06", (2.5, 1.25, 10)),
        ("openai", "gpt-6.1-sol", (2, 0.1, 10)),
        ("openai", "gpt-4o-mini-2024-07-18", (0.15, 0.075, 0.6)),
        ("openai", "gpt-4-0613", (30, None, 60)),
        ("openai", "gpt-5-chat-latest", (1.25, 0.125, 10)),
        ("openai", "gpt-5-mini", (0.25, 0.025, 2)),
        ("openai", "text-embedding-3-small", (0.02, None, 0)),
        ("anthropic", "claude-3-5-haiku-20241022", (0.8, 0.08, 4)),
        ("anthropic", "claude-opus-4-1-20250805", (15, 1.5, 75)),
        ("anthropic", "claude-opus-4-5-20251101", (5, 0.5, 25)),
        ("anthropic", "claude-sonnet-5-5", (2, 0.2, 10)),
        ("xai", "grok-4-0709", (3, 0.75, 15)),
        ("grok", "grok-4-0709", (3, 0.75, 15)),
        ("mistral", "mistral-large-2512", (0.5, 0.05, 1.5)),
        ("mistral", "mistral-large-2411", (2, None, 6)),
        ("groq", "openai/gpt-oss-120b", (0.15, 0.075, 0.6)),
        ("deepseek", "deepseek-v4-pro", (0.435, 0.003625, 0.87)),
        ("bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", (3, 0.3, 15)),
        ("bedrock", "us.amazon.nova-lite-v1:0", (0.06, 0.015, 0.24)),
    ],
)
def test_a_model_and_its_snapshots_have_a_price(
    kind: str, upstream: str, dollars: tuple[float, float | None, float]
) -> None:
    given, cached, made = dollars
    expected = Price(nanos(given), None if cached is None else nanos(cached), nanos(made))
    assert Catalog().price(at(kind, upstream)) == expected


@pytest.mark.parametrize(
    ("kind", "upstream"),
    [
        ("openai", "gpt-4o-audio-preview"),
        ("openai", "gpt-4o-realtime-preview"),
        ("openai", "gpt-9"),
        ("sglang", "gpt-4o"),
        ("vllm", "meta-llama/Llama-3.1-8B-Instruct"),
        ("ollama", "llama3"),
        ("simulated", "echo"),
        ("groq", "gpt-4o"),
    ],
)
def test_what_is_not_listed_has_no_price(kind: str, upstream: str) -> None:
    assert Catalog().price(at(kind, upstream)) is None


# what configuration says


@pytest.mark.parametrize(
    "row",
    [
        PriceRow(input=7),
        PriceRow(provider="main", input=7),
        PriceRow(provider="openai", input=7),
        PriceRow(provider="m*", model="gpt-*", input=7),
        PriceRow(model="4o", input=7),
        PriceRow(model="gpt-4o", input=7),
    ],
)
def test_configuration_goes_first_by_provider_or_type_and_by_public_or_upstream_name(row: PriceRow) -> None:
    assert Catalog([row]).price(PLACE) == Price(input=nanos(7))


def test_an_override_holds_for_snapshots_too() -> None:
    dated = replace(PLACE, upstream_model="gpt-4o-2024-08-06", model="dated")
    assert Catalog([PriceRow(model="gpt-4o", input=7)]).price(dated) == Price(input=nanos(7))


def test_of_several_rows_the_first_that_fits_counts() -> None:
    rows = [PriceRow(model="other", input=1), PriceRow(model="4o", output=2), PriceRow(input=3)]
    assert Catalog(rows).price(PLACE) == Price(output=nanos(2))


def test_a_row_that_fits_only_the_provider_or_only_the_model_does_not_count() -> None:
    rows = [PriceRow(provider="main", model="other", input=1), PriceRow(provider="other", model="4o", input=1)]
    assert Catalog(rows).price(PLACE) == Catalog().price(PLACE)


def test_engines_of_ones_own_cost_what_configuration_says() -> None:
    rows = [PriceRow(provider="sglang", gpu_second=0.0011), PriceRow(provider="ollama", input=0)]
    assert Catalog(rows).price(at("sglang", "llama")) == Price(gpu_second=1_100_000)
    assert Catalog(rows).price(at("ollama", "llama")) == Price()


@pytest.mark.parametrize("name", [field.name for field in fields(PriceRow) if field.name not in ("provider", "model")])
@pytest.mark.parametrize("dollars", [-1.0, float("nan"), float("inf"), 2000.0])
def test_a_price_below_nothing_or_beyond_reason_is_refused(name: str, dollars: float) -> None:
    with pytest.raises(ValueError, match=f"{name}: must be from 0 to 1000 dollars"):
        PriceRow(**{name: dollars})


def test_whatever_a_provider_counts_a_store_can_hold_its_cost() -> None:
    dearest = price_of(PriceRow(input=1000, cached_input=1000, output=1000, gpu_second=1000))
    assert dearest.cost(Usage(MAX_TOKENS, MAX_TOKENS), seconds=86_400) < 2**63


# when it is read


def test_importing_and_making_a_catalog_reads_nothing() -> None:
    code = (
        "import sys; from penstock.core.prices import Catalog; Catalog();"
        "heavy = {'tomllib', 'pydantic', 'fastapi'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=prices.PACKAGED.parents[1], check=True)


def test_a_price_is_looked_for_once(tmp_path: Path) -> None:
    packaged = tmp_path / "prices.toml"
    packaged.write_text('version = "2026-01-01"\n[[price]]\nprovider = "openai"\nmodel = "*"\ninput = 1\n')
    catalog = Catalog(packaged=packaged)
    assert catalog.price(PLACE) == Price(input=NANO)
    packaged.unlink()
    assert catalog.price(PLACE) == Price(input=NANO)
    assert catalog.price(replace(PLACE, id="another")) == Price(input=NANO)
    assert catalog.version == "2026-01-01"
