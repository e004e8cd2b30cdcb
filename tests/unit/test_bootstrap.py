"""What a process finds around it, and how it speaks to what its configuration names."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock import plugs, settings
from penstock.bootstrap import backends, places
from penstock.errors import SettingsError
from penstock.outbound import HttpClient
from penstock.providers._profiles import PROFILES
from penstock.schema.model import Deployment


def around(**environment: str) -> dict[str, Deployment]:
    """The places that are looked at without a configuration, by their names."""
    configured, sources, spare = places.deployments(settings.load(environment))
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
    (place,), _, _ = places.deployments(settings.load(environment))
    assert place.base_url == address
    assert bool(place.credential) is (kind == "anthropic")


def test_each_row_of_vendors_names_a_plug_that_there_is() -> None:
    assert {profile.plug for profile in PROFILES.values()} <= set(plugs.names("providers"))


def test_bedrock_is_found_by_its_key_where_a_region_is_known() -> None:
    found = around(AWS_BEARER_TOKEN_BEDROCK="bedrock-api-key-x", AWS_REGION="eu-west-1")
    assert found["bedrock"].base_url == "https://bedrock-runtime.eu-west-1.amazonaws.com"
    assert found["bedrock"].options == (("region", "eu-west-1"),)
    assert "bedrock" not in around(AWS_BEARER_TOKEN_BEDROCK="bedrock-api-key-x")
    assert "bedrock" not in around(AWS_REGION="eu-west-1", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x")


VPC = "https://vpce-0abc.bedrock-runtime.us-east-1.vpce.amazonaws.com"


@pytest.mark.parametrize(
    ("row", "environment", "address", "region"),
    [
        (
            "options: {region: us-gov-west-1}",
            {},
            "https://bedrock-runtime.us-gov-west-1.amazonaws.com",
            "us-gov-west-1",
        ),
        ("", {"AWS_DEFAULT_REGION": "us-east-2"}, "https://bedrock-runtime.us-east-2.amazonaws.com", "us-east-2"),
        (f"base_url: '{VPC}'", {"AWS_REGION": "eu-west-1"}, VPC, "us-east-1"),
        ("base_url: 'http://proxy:8080'", {"AWS_REGION": "eu-west-1"}, "http://proxy:8080", "eu-west-1"),
    ],
)
def test_bedrock_has_an_address_in_each_region(
    tmp_path: Path, row: str, environment: dict[str, str], address: str, region: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"providers: [{{name: mine, type: bedrock, models: [m], {row}}}]\n", encoding="utf-8")
    (place,), _, _ = places.deployments(settings.load({"PENSTOCK_CONFIG": str(config), **environment}))
    assert (place.base_url, dict(place.options)) == (address, {"region": region})


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("", r"1: providers.0.options: type 'bedrock' is in no region: write {region: eu-west-1}, or set AWS_REGION"),
        ("options: {region: x, size: 1}", r"type 'bedrock' has one option: {region: eu-west-1}"),
        ("options: {region: 5}", r"type 'bedrock' has one option: {region: eu-west-1}"),
    ],
)
def test_bedrock_in_no_region_is_a_mistake_with_its_line(tmp_path: Path, row: str, told: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"providers: [{{name: mine, type: bedrock, {row}}}]\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=told):
        places.deployments(settings.load({"PENSTOCK_CONFIG": str(config)}))


@pytest.mark.parametrize(
    ("state", "queue"),
    [
        ("sqlite:///there/state.db", "there/state.queue.db"),
        ("dynamodb://penstock?region=eu-west-1", ".penstock/state.queue.db"),
    ],
)
def test_a_queue_that_nobody_names_is_a_file_beside_the_state(state: str, queue: str) -> None:
    made = backends.build_queue(settings.load({}, state=state), HttpClient())
    assert str(made._db.path) == queue  # type: ignore[attr-defined]


def test_a_queue_at_an_emulator_is_found_by_aws_s_own_variable() -> None:
    environ = {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566", "AWS_REGION": "eu-west-1"}
    told = settings.load(environ, queue="sqs://queues/000000000000/jobs")
    assert told.queue_url == "sqs://queues/000000000000/jobs?endpoint=http://127.0.0.1:4566&region=eu-west-1"


def test_a_queue_of_no_known_kind_is_refused_with_the_settings_name() -> None:
    with pytest.raises(SettingsError, match=r"PENSTOCK_QUEUE_URL.*'redis://x' names no queue"):
        backends.build_queue(settings.load({}, queue="redis://x"), HttpClient())
