"""Laws of plugs: what the folder holds is put to the test, and fills the shape of a store."""

from __future__ import annotations

import inspect

import pytest

from penstock import plugs
from penstock.core.ports import Store
from penstock.errors import SettingsError
from tests.laws.stores import places

OPERATIONS = {name: member for name, member in vars(Store).items() if inspect.iscoroutinefunction(member)}


def test_every_store_plug_has_a_place_where_its_laws_are_tried() -> None:
    assert {name.partition("-")[0] for name in places.ALL} == set(plugs.names("stores"))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("plug", plugs.names("stores"))
def test_every_operation_takes_and_answers_what_the_shape_says(plug: str, operation: str) -> None:
    module = plugs.load("stores", plug)
    kind = inspect.signature(module.connect, eval_str=False).return_annotation
    member = getattr(getattr(module, kind), operation)
    assert inspect.iscoroutinefunction(member)
    assert inspect.signature(member) == inspect.signature(OPERATIONS[operation])


@pytest.mark.parametrize("plug", plugs.names("stores"))
def test_a_url_that_names_no_place_is_refused_with_the_settings_name(plug: str) -> None:
    connect = plugs.load("stores", plug).connect
    for url in (f"{plug}:", f"{plug}://", f"{plug}:///?x=1", "other://place", ""):
        with pytest.raises(SettingsError, match="PENSTOCK_STATE_URL"):
            connect(url, None)
