"""What a process finds around it, and how it speaks to what its configuration names."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock import bootstrap, plugs, settings
from penstock.providers._profiles import PROFILES
from penstock.schema.model import Deployment


def around(**environment: str) -> dict[str, Deployment]:
    """The places that are looked at without a configuration, by their names."""
    configured, sources, spare = bootstrap._deployments(settings.load(environment))
    assert not configured
    assert [place.kind for place in spare] == ["simulated"]
    return {place.provider: place for place in sources}


def test_a_vendor_is_found_by_its_key() -> None:
    found = around(ANTHROPIC_API_KEY="sk-ant-x", GROQ_API_KEY="gsk_x")
    assert found["anthropic"].base_url == "https://api.anthropic.com"
    assert found["anthropic"].credential
    assert found["anthropic"].credential.reveal() == "sk-ant-x"
    assert found["groq"].kind == "groq"
    assert "anthropic" not in around(OTHER_API_KEY="x")


def test_engines_are_looked_for_at_their_usual_ports() -> None:
    found = around()
    assert found["ollama"].base_url == "http://127.0.0.1:11434/v1"
    assert found["sglang"].base_url == "http://127.0.0.1:30000/v1"


@pytest.mark.parametrize(
    ("kind", "address"), [("anthropic", "https://api.anthropic.com"), ("ollama", "http://127.0.0.1:11434")]
)
def test_a_type_has_its_usual_address_and_key(tmp_path: Path, kind: str, address: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"providers: [{{name: mine, type: {kind}, models: [m]}}]\n", encoding="utf-8")
    environment = {"PENSTOCK_CONFIG": str(config), "ANTHROPIC_API_KEY": "sk-ant-x"}
    (place,), _, _ = bootstrap._deployments(settings.load(environment))
    assert place.base_url == address
    assert bool(place.credential) is (kind == "anthropic")


def test_each_row_of_vendors_names_a_plug_that_there_is() -> None:
    assert {profile.plug for profile in PROFILES.values()} <= set(plugs.names("providers"))
