"""What is known of engines and vendors: one row each, no code. Most speak OpenAI's wire; ``plug`` names another."""

from __future__ import annotations

import re
from dataclasses import dataclass

SAMPLING = frozenset(
    (  # noqa: SIM905 - a sentence of names reads better than a column of strings
        "temperature top_p n stop max_tokens max_completion_tokens presence_penalty frequency_penalty "
        "logit_bias seed logprobs top_logprobs response_format stream_options user"
    ).split()
)
SGLANG = SAMPLING | frozenset(
    (  # noqa: SIM905 - a sentence of names reads better than a column of strings
        "model messages prompt input stream tools tool_choice parallel_tool_calls reasoning_effort echo "
        "suffix best_of encoding_format dimensions top_k min_p min_tokens repetition_penalty stop_token_ids "
        "ignore_eos no_stop_trim skip_special_tokens regex ebnf chat_template_kwargs separate_reasoning "
        "stream_reasoning continue_final_message priority"
    ).split()
)

ENGINES = frozenset(
    (  # noqa: SIM905 - a sentence of names reads better than a column of strings
        "top_k min_p min_tokens repetition_penalty stop_token_ids ignore_eos no_stop_trim skip_special_tokens regex "
        "ebnf chat_template_kwargs separate_reasoning stream_reasoning continue_final_message"
    ).split()
)
"""Fields that engines know, and the vendors named below do not."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One vendor or engine. ``base_url`` has ``{region}`` where AWS has an address in each.

    ``always_stream``: stream upstream and fold the answer for plain callers, because only a closed stream frees the
    engine at once. ``fields``: the body fields it may be sent, all where ``None``. ``busy``: the statuses by which it
    says that its queue is full. ``port``: where it listens on a laptop. ``key_env``: the variable of its credential.
    ``about``: a path, beside ``/v1``, that tells whether the engine generates text: SGLang's embedding engines die of
    a chat call. ``cap``: the field that bounds a chat's answer; OpenAI's reasoning models refuse the older one.
    ``window``: it lists a model's context as ``max_model_len``, and refuses an answer whose bound goes past that.
    ``ready``: a path, beside ``/v1``, that says cheaply whether it can serve, instead of the list of models.
    ``lacks``: fields of other engines that it refuses or ignores. ``at_home``: only at its usual address; the same type
    elsewhere is somebody else's engine. ``foreign``: it speaks none of OpenAI's wire, but has endpoints of its own.
    ``lower_first``: of two priorities it serves the lower first, other than we do.
    """

    name: str
    plug: str = "openai"
    base_url: str = ""
    key_env: str = ""
    port: int | None = None
    always_stream: bool = False
    stream_usage: bool = True
    fields: frozenset[str] | None = None
    busy: frozenset[int] = frozenset({429, 529})
    about: str = ""
    cap: str = "max_tokens"
    window: bool = False
    ready: str = ""
    lacks: frozenset[str] = frozenset()
    at_home: bool = False
    foreign: bool = False
    lower_first: bool = False

    @property
    def regional(self) -> bool:
        """Whether there is one in each region of AWS."""
        return "{region}" in self.base_url


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "openai",
            base_url="https://api.openai.com/v1",
            key_env="OPENAI_API_KEY",
            cap="max_completion_tokens",
            lacks=ENGINES,
            at_home=True,
        ),
        Profile(
            "sglang",
            port=30000,
            always_stream=True,
            fields=SGLANG,
            busy=frozenset({429, 503}),
            about="/model_info",
            window=True,
            ready="/ready",
        ),
        Profile("vllm", port=8000, always_stream=True, window=True, ready="/health", lower_first=True),
        Profile("ollama", plug="ollama", port=11434, base_url="http://127.0.0.1:11434", busy=frozenset({429, 503})),
        Profile("infinilm", always_stream=True),
        Profile("anthropic", plug="anthropic", base_url="https://api.anthropic.com", key_env="ANTHROPIC_API_KEY"),
        Profile(
            "bedrock",
            plug="bedrock",
            base_url="https://bedrock-runtime.{region}.amazonaws.com",
            key_env="AWS_BEARER_TOKEN_BEDROCK",
        ),
        Profile("xai", base_url="https://api.x.ai/v1", key_env="XAI_API_KEY", lacks=ENGINES),
        Profile("grok", base_url="https://api.x.ai/v1", key_env="XAI_API_KEY", lacks=ENGINES),
        Profile("groq", base_url="https://api.groq.com/openai/v1", key_env="GROQ_API_KEY", lacks=ENGINES),
        Profile(
            "mistral",
            base_url="https://api.mistral.ai/v1",
            key_env="MISTRAL_API_KEY",
            stream_usage=False,
            lacks=ENGINES,
        ),
        Profile("deepseek", base_url="https://api.deepseek.com/v1", key_env="DEEPSEEK_API_KEY", lacks=ENGINES),
        Profile("openrouter", base_url="https://openrouter.ai/api/v1", key_env="OPENROUTER_API_KEY"),
        Profile("together", base_url="https://api.together.xyz/v1", key_env="TOGETHER_API_KEY"),
        Profile("blackbox", base_url="https://api.blackbox.ai/v1", key_env="BLACKBOX_API_KEY"),
        Profile("custom", foreign=True),
    )
}

_REGION = re.compile(r"\.([a-z]{2}(?:-[a-z]+)+-\d)\.")


def region_in(url: str) -> str:
    """The region that an address of AWS's names, ``eu-west-1``; empty for another's."""
    found = _REGION.search(url)
    return found[1] if found else ""
