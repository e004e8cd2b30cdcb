"""The routes of InfiniLM's router: OpenAI's without ``/v1``, whose errors are one text."""

from __future__ import annotations

from typing import Any

from penstock.dialects._exchange import WireRouter
from penstock.dialects._openai import inference
from penstock.errors import PenstockError
from penstock.schema.request import CHAT, COMPLETIONS
from penstock.schema.wire import ChatBody, CompletionBody


def error_document(error: PenstockError) -> dict[str, Any]:
    """An error as these routes tell it."""
    return {"error": error.public or error.message}


router = WireRouter(error_document)
router.stems |= {"models", "services", "stats"}  # others serve these, and tell their errors alike
router.wire(
    "/chat/completions",
    inference(CHAT, ChatBody, "create_chat_completion_without_v1", error_document),
    body=ChatBody,
    summary="The same as /v1/chat/completions",
)
router.wire(
    "/completions",
    inference(COMPLETIONS, CompletionBody, "create_completion_without_v1", error_document),
    body=CompletionBody,
    summary="The same as /v1/completions",
)
