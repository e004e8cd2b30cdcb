"""OpenAI's request bodies, as far as Penstock checks them. Unknown fields are welcome and travel on.

https://platform.openai.com/docs/api-reference
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from penstock.schema.model import MODEL_NAME


def _model_name(value: str) -> str:
    if not MODEL_NAME.fullmatch(value):
        raise ValueError(
            "must be 1 to 200 of the characters A-Z a-z 0-9 . _ : / @ + -, beginning with a letter or digit"
        )
    return value


ModelName = Annotated[str, AfterValidator(_model_name), Field(examples=["simulated/echo"])]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Wire(BaseModel):
    """A body that is checked strictly (no ``"5"`` for ``5``) and keeps what it does not know."""

    model_config = ConfigDict(extra="allow", strict=True)


class Message(Wire):
    """One turn of a conversation."""

    role: Annotated[str, Field(min_length=1, max_length=64)]
    content: str | list[dict[str, Any]] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        extra = self.model_extra or {}
        if "content" not in self.model_fields_set and not extra.keys() & {
            "tool_calls", "function_call", "refusal", "audio", "reasoning_content"
        }:  # fmt: skip
            raise ValueError("a message needs 'content'")
        return self


class StreamOptions(Wire):
    """What a stream carries besides its chunks."""

    include_usage: bool | None = None


class Sampling(Wire):
    """What chat and text completions share."""

    model: ModelName
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: str | list[str] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    presence_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, Annotated[Number, Field(ge=-100, le=100)]] | None = None
    seed: int | None = None
    user: str | None = None


class ChatBody(Sampling):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


class CompletionBody(Sampling):
    """``POST /v1/completions``."""

    prompt: str | list[str] | list[int] | list[list[int]]
    suffix: str | None = None
    echo: bool | None = None
    best_of: Annotated[int, Field(ge=1, le=128)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


class EmbeddingBody(Wire):
    """``POST /v1/embeddings``."""

    model: ModelName
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Annotated[str, Field(pattern="^(float|base64)$")] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None
