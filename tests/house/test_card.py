"""The design card: what stands at the top of the tree, and that each part which the card names does a real job."""

from __future__ import annotations

import pytest

from tests.house.tree import ROOT, files, imports, name

TOP = (
    *("functions", "gpu_workers", "infra", "events", "tests"),
    *("samconfig.toml", "template.yaml", "pyproject.toml", "README.md"),
)
IMPORTED = {
    "aws_lambda_powertools": "functions/",
    "mangum": "functions/http_api/",
    "fastapi": "functions/penstock/",
    "pydantic": "functions/penstock/",
    "modal": "gpu_workers/",
    "boto3": "tests/",
    "moto": "tests/",
}
STARTED = {"sglang": "gpu_workers/catalogue.py", "LocalStack": "make/deploy_local.py"}


@pytest.mark.row("D5")
def test_the_top_of_the_tree_is_the_cards() -> None:
    assert [entry for entry in TOP if not (ROOT / entry).exists()] == []


@pytest.mark.row("D5")
@pytest.mark.parametrize("library", IMPORTED)
def test_each_library_of_the_card_is_used_where_it_belongs(library: str) -> None:
    users = [name(path) for path in files(".py") if {module.partition(".")[0] for module in imports(path)} & {library}]
    assert any(user.startswith(IMPORTED[library]) for user in users), f"{library} is used by {users} alone"


@pytest.mark.row("D5")
@pytest.mark.parametrize("program", STARTED)
def test_each_program_of_the_card_is_started(program: str) -> None:
    assert program in (ROOT / STARTED[program]).read_text(encoding="utf-8")
