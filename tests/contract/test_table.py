"""Every row of the contract has a test that names it, and the page that says so is true."""

from __future__ import annotations

from tests.contract.table import PAGE, page, place, rows


def test_the_table_of_the_contract_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/contract.md is stale: run python -m tests.contract.table"


def test_every_row_has_a_test_or_says_why_it_has_none() -> None:
    silent = [row.id for row in rows().values() if not row.tests and not row.pending]
    assert not silent, f"no test is marked with @pytest.mark.row of {silent}"


def test_a_row_that_is_proved_is_not_pending() -> None:
    proved = [row.id for row in rows().values() if row.tests and row.pending]
    assert not proved, f"there are tests of {proved}: take `pending` away in tests/contract/rows.toml"


def test_a_row_that_is_proved_says_where_it_is_implemented() -> None:
    nowhere = [row.id for row in rows().values() if row.tests and not row.where]
    assert not nowhere, f"say `where` {nowhere} are implemented in tests/contract/rows.toml"


def test_what_the_rows_name_is_there() -> None:
    lost = [path for row in rows().values() for path in row.where if not place(path).exists()]
    assert not lost, f"tests/contract/rows.toml names {lost}, which are not there"


def test_the_rows_of_the_documents_are_driven_over_http_on_both_stores() -> None:
    elsewhere = [
        row.id
        for row in rows().values()
        if row.tests and row.id[0] != "D" and not any(test.startswith("tests/contract/") for test in row.tests)
    ]
    assert not elsewhere, f"no test in tests/contract/ proves {elsewhere}"
