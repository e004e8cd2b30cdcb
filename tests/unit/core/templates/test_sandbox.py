"""Templates in their sandbox: what they say, what they refuse, and that they end."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from penstock.core.templates import sandbox
from penstock.core.templates.sandbox import Sandbox
from penstock.errors import InvalidRequest, TemplateBroken


def said(folder: Path, text: str, **variables: Any) -> str:
    """What a template of this text says."""
    (folder / "t.j2").write_text(text, encoding="utf-8")
    return Sandbox(folder, 10, reload=True).render("t", variables)


def test_variables_are_put_into_the_text(tmp_path: Path) -> None:
    text = "Hello {{ name }}!\n{% for it in items %}\n- {{ loop.index }}/{{ loop.length }} {{ it.x }}\n{% endfor %}"
    assert said(tmp_path, text, name="<Ada>", items=[{"x": 1}, {"x": "b"}]) == "Hello <Ada>!\n- 1/2 1\n- 2/2 b\n"


def test_a_template_may_be_plain_text_with_or_without_its_ending(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("Just words.")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "one.j2").write_text("{% include 'plain.txt' %}")
    box = Sandbox(tmp_path, 10, reload=True)
    assert box.render("plain.txt", {}) == box.render("deep/one", {}) == box.render("deep/one.j2", {}) == "Just words."


@pytest.mark.parametrize(
    ("text", "name"), [("{{ who }}", "who"), ("{{ a.b }}", "b"), ("{% for x in xs %}{% endfor %}", "xs")]
)
def test_an_undefined_variable_is_named(tmp_path: Path, text: str, name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"'{name}'") as caught:
        said(tmp_path, text, a={})
    assert caught.value.param == "template_variables"


def test_a_variable_of_the_wrong_kind_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="not iterable"):
        said(tmp_path, "{% for x in xs %}{% endfor %}", xs=5)


@pytest.mark.parametrize(
    "text",
    [
        "{% if %}",
        "{% include 'nobody' %}",
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ [].append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ x|nosuchfilter }}",
    ],
)
def test_a_template_that_is_wrong_or_reaches_out_is_broken(tmp_path: Path, text: str) -> None:
    with pytest.raises(TemplateBroken) as caught:
        said(tmp_path, text, x=1)
    assert str(tmp_path) not in caught.value.public


ENDLESS = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "loops that speak": "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "numbers": "{{ 'x' * 10 ** 9 }}",
    "powers": "{{ n ** n }}",
    "powers of powers": "{{ (10 ** 9999) ** 9999 }}",
    "doubling": "{% set s = namespace(x=x) %}{% for i in range(60) %}{% set s.x = s.x ~ s.x %}{% endfor %}",
    "doubling by a sum": "{% set s = namespace(x=x) %}{% for i in range(60) %}{% set s.x = s.x + s.x %}{% endfor %}",
    "wrapping": "{{ (long ~ long)|wordwrap(1) }}",
    "products": "{{ x * n }}",
    "padding": "{{ x.ljust(n) }}",
    "centred": "{{ x|center(n) }}",
    "batches": "{{ [1]|batch(n, 0)|list }}",
    "wide formats": "{{ '%1000000000d'|format(1) }}",
    "wide formats of an operator": "{{ '%1000000000d' % 1 }}",
    "wide formats of a method": "{{ '{:1000000000}'.format(1) }}",
    "widths from outside": "{{ '{:{}}'.format(1, n) }}",
    "joined": "{{ range(99999)|list|join(long) }}",
    "joined by a method": "{{ long.join(many) }}",
    "replaced": "{{ long.replace('x', long) }}",
    "replaced by a filter": "{{ long|replace('x', long) }}",
    "words": "{{ lipsum(n) }}",
}


@pytest.mark.parametrize("text", ENDLESS.values(), ids=ENDLESS.keys())
def test_no_template_goes_on_for_ever_or_fills_the_memory(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 0.05)
    began = time.monotonic()
    with pytest.raises(InvalidRequest, match=r"says more than|takes longer than"):
        said(tmp_path, text, x="x", n=10**9, long="x" * 100_000, many=["y"] * 1000)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("text", ["{" * 10**6, "{:" * 500_000, "{" + ":" * 10**6, "%" * 10**6, "%1" * 500_000])
def test_a_format_that_a_caller_sends_is_looked_at_in_no_time(tmp_path: Path, text: str) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidRequest):
        said(tmp_path, "{{ x.format(1) }}{{ x % 1 }}", x=text)
    assert time.monotonic() - began < 5


def test_recursion_ends(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="do not fit"):
        said(tmp_path, "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}")


def test_large_numbers_and_small_widths_are_fine(tmp_path: Path) -> None:
    text = "{{ n }} {{ n|default(1700000000) }} {{ 'x'|center(5) }} {{ '%05.1f'|format(2.25) }} {{ [1, 2]|join(', ') }}"
    assert said(tmp_path, "{{ 'a' ~ 1 ~ n }} {{ 2 ** 10 }} {{ 'one two'|wordwrap(3) }}", n=2.5) == "a12.5 1024 one\ntwo"
    assert said(tmp_path, text, n=10**18) == f"{10**18} {10**18}   x   002.2 1, 2"


def test_a_file_that_changes_is_read_again_only_where_that_is_wanted(tmp_path: Path) -> None:
    file = tmp_path / "t.j2"
    file.write_text("one")
    eager, lazy = Sandbox(tmp_path, 10, reload=True), Sandbox(tmp_path, 10, reload=False)
    assert eager.render("t", {}) == lazy.render("t", {}) == "one"
    file.write_text("two")
    os.utime(file, (1, 1))
    assert (eager.render("t", {}), lazy.render("t", {})) == ("two", "one")


def test_a_half_of_a_surrogate_pair_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        said(tmp_path, r"{{ '\ud83d' }}")
