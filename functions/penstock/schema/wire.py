"""OpenAI's request bodies, as far as Penstock checks them. Unknown fields are welcome and travel on.

https://platform.openai.com/docs/api-reference
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

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
Texts = Annotated[list[str], Field(min_length=1)]
Tokens = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
TokenLists = Annotated[list[Tokens], Field(min_length=1)]


TEMPLATE = "A template of this gateway that says the first message; messages may then be left out."
VARIABLES = "What the template's variables stand for."


class Wire(BaseModel):
    """A body that is checked strictly (no ``"5"`` for ``5``) and keeps what it does not know.

    Its check is built when it is first used, by a function that serves its route; a server builds it at its start.
    """

    model_config = ConfigDict(extra="allow", strict=True, defer_build=True)


class Message(Wire):
    """One turn of a conversation."""

    role: Annotated[str, Field(min_length=1, max_length=64)]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and not self.model_fields_set & {"content", "tool_calls"}:
            extra = self.model_extra or {}
            if not extra.keys() & {"function_call", "refusal", "audio", "reasoning_content"}:
                raise ValueError("needs 'content'")
        return self


class Function(Wire):
    """A function that the model may call; ``parameters`` is a JSON schema."""

    name: Annotated[str, Field(min_length=1)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(Wire):
    """Something that the model may use: a function, or a kind that the provider knows."""

    type: str = "function"
    function: Function | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.type == "function" and self.function is None:
            raise ValueError("needs 'function'")
        return self


class ChosenFunction(Wire):
    """The name of a function."""

    name: str


class ToolChoice(Wire):
    """The one tool that the model must use."""

    type: str
    function: ChosenFunction | None = None


class JsonSchema(Wire):
    """A JSON schema under a name."""

    name: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None


class ResponseFormat(Wire):
    """The form of the answer: ``text``, ``json_object``, ``json_schema``, or one that the provider knows."""

    type: str
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("needs 'json_schema'")
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
    template: Annotated[str | None, Field(description=TEMPLATE)] = None
    template_variables: Annotated[dict[str, Any] | None, Field(description=VARIABLES)] = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


class CompletionBody(Sampling):
    """``POST /v1/completions``. With ``echo``, no token at all is a way to have the prompt's own probabilities."""

    prompt: str | Texts | Tokens | TokenLists
    suffix: str | None = None
    echo: bool | None = None
    best_of: Annotated[int, Field(ge=1, le=128)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None


class ImageBody(Wire):
    """``POST /v1/images/generations``."""

    model: ModelName
    prompt: Annotated[str, Field(min_length=1, max_length=32_000)]
    n: Annotated[int, Field(ge=1, le=10)] | None = None
    size: str | None = None
    quality: str | None = None
    style: str | None = None
    response_format: Literal["url", "b64_json"] | None = None
    stream: Literal[False] | None = None
    user: str | None = None


class EmbeddingBody(Wire):
    """``POST /v1/embeddings``."""

    model: ModelName
    input: str | Texts | Tokens | TokenLists
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None
