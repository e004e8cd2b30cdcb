"""The OpenAPI document: what FastAPI knows, with the bodies of hot routes, the keys, and errors in their wire forms."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel

from penstock.dialects._exchange import ErrorForm, stem
from penstock.errors import InvalidRequest
from penstock.schema.wire_error import error_document

KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "url": {"type": "apiKey", "in": "query", "name": "api_key"},
}
IN_URL = "/stream/{task_id}"
"""The one route that takes a key in its address."""
_TYPES = {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}


def describe(
    document: dict[str, Any],
    bodies: Mapping[str, type[BaseModel]],
    forms: Mapping[str, ErrorForm],
    unguarded: Collection[str],
) -> dict[str, Any]:
    """Complete the document that FastAPI has generated. What it says of refusals of its own is not how we refuse."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name, body in bodies.items():
        schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[name] = schema
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components["securitySchemes"] = KEYS
    for path, operations in document["paths"].items():
        form = forms.get(stem(path), error_document)
        schemas[_name(form)] = _shape(form(InvalidRequest("")))
        refused = {"schema": {"$ref": f"#/components/schemas/{_name(form)}"}}
        keys = [] if path in unguarded else [name for name in KEYS if name != "url" or path == IN_URL]
        for operation in operations.values():
            operation["security"] = [{name: []} for name in keys]
            operation["responses"].pop("422", None)
            for status, words in (("4XX", "The request is refused"), ("5XX", "The request has failed")):
                operation["responses"][status] = {"description": words, "content": {"application/json": refused}}
    return document


def _name(form: ErrorForm) -> str:
    """What the schema of an error's form is called: ``Error`` at OpenAI's routes, after its dialect elsewhere."""
    room = form.__module__.rpartition(".")[2].strip("_").partition("_")[0].title()
    return "Error" if form is error_document else f"{room}Error"


def _shape(example: Any) -> dict[str, Any]:
    """The schema of what looks like an example; of ``None`` it tells nothing."""
    if isinstance(example, dict):
        properties = {name: _shape(value) for name, value in example.items()}
        return {"type": "object", "required": list(properties), "properties": properties}
    return {} if example is None else {"type": _TYPES[type(example)]}
