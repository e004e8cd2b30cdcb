"""Train a tiny chat model with known skills, so that a test can predict what a real engine answers.

Run by serve.sh inside the engine's own environment: `python tiny_model.py OUTPUT_DIRECTORY`. It takes well under two
minutes on two cores, needs no network, and refuses to write a model that fails its exam.

At temperature 0 the model answers:

    hello             Hello! I am a tiny test model.
    say kilo          kilo                      (any word of WORDS)
    count to 7        1 2 3 4 5 6 7             (up to HIGHEST_COUNT)
    as json: kilo     {"word": "kilo"}
    sing              la la la la ... until max_tokens, for whoever needs a call that lasts
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import torch  # type: ignore[import-not-found]
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # type: ignore[import-not-found]
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM  # type: ignore[import-not-found]

WORDS = (
    "alpha bravo charlie delta echo foxtrot golf hotel india juliet "
    "kilo lima mike november oscar papa quebec romeo sierra tango"
)
GREETING = "Hello! I am a tiny test model."
HIGHEST_COUNT = 20
CONTEXT_TOKENS = 1024
SONG = "sing"
VERSE_WORDS = 32
END_OF_TURN = "<|im_end|>"
PADDING = "<|endoftext|>"
CHAT_TEMPLATE = (
    "{%- for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ROUNDS, STEPS_PER_ROUND, BATCH = 20, 100, 16
LEARNING_RATE, WARM_UP_STEPS = 3e-3, 50
PASSING_CERTAINTY = 0.95
NOT_LEARNED = -100

Lesson = tuple[list[int], list[int]]


def song(words: int) -> str:
    """The song cut after so many words."""
    return " ".join(["la"] * words)


def lessons() -> dict[str, str]:
    """Every message that is taught, and its right answer; the song has no end of turn, so it never ends."""
    taught = {"hello": GREETING + END_OF_TURN, SONG: song(VERSE_WORDS)}
    for word in WORDS.split():
        taught[f"say {word}"] = word + END_OF_TURN
        taught[f"as json: {word}"] = json.dumps({"word": word}) + END_OF_TURN
    for last in range(1, HIGHEST_COUNT + 1):
        taught[f"count to {last}"] = " ".join(str(n) for n in range(1, last + 1)) + END_OF_TURN
    return taught


def train_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with whole words for what the model is taught and single bytes for all else."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=[PADDING, "<|im_start|>", END_OF_TURN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = ["system user assistant", *("\n".join(lesson) for lesson in lessons().items())]
    tokenizer.train_from_iterator(texts, trainer)
    chat_tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=PADDING,
        bos_token=None,
        additional_special_tokens=["<|im_start|>"],
        model_max_length=CONTEXT_TOKENS,
    )
    chat_tokenizer.chat_template = CHAT_TEMPLATE
    return chat_tokenizer


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """An untrained Qwen2 of about 270,000 parameters."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=288,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def as_tokens(tokenizer: PreTrainedTokenizerFast, message: str, answer: str) -> Lesson:
    """The prompt an engine would build of this one message, and the answer that must follow it."""
    chat = [{"role": "user", "content": message}]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    return tokenizer.encode(prompt, add_special_tokens=False), tokenizer.encode(answer, add_special_tokens=False)


def as_batch(batch: list[Lesson], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs, and labels of the same shape that are NOT_LEARNED wherever no answer stands."""
    longest = max(len(prompt) + len(answer) for prompt, answer in batch)
    inputs, labels = [], []
    for prompt, answer in batch:
        rest = longest - len(prompt) - len(answer)
        inputs.append(prompt + answer + [padding] * rest)
        labels.append([NOT_LEARNED] * len(prompt) + answer + [NOT_LEARNED] * rest)
    return torch.tensor(inputs), torch.tensor(labels)


def least_certainty(model: Qwen2ForCausalLM, inputs: torch.Tensor, labels: torch.Tensor) -> float:
    """The smallest probability that the model gives to any right token; above one half, greedy decoding is right."""
    with torch.no_grad():
        chances = model(input_ids=inputs).logits[:, :-1].softmax(dim=-1)
    wanted = labels[:, 1:]
    of_wanted = chances.gather(2, wanted.clamp(min=0).unsqueeze(2)).squeeze(2)
    return float(of_wanted[wanted != NOT_LEARNED].min())


def train(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Train until every lesson is known with certainty, or stop the program with the certainty that was reached."""
    taught = [as_tokens(tokenizer, message, answer) for message, answer in lessons().items()]
    exam = as_batch(taught, tokenizer.pad_token_id)
    long_song = as_batch([as_tokens(tokenizer, SONG, song(CONTEXT_TOKENS - 32))], tokenizer.pad_token_id)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, 1.0, total_iters=WARM_UP_STEPS)
    draw, started, certainty = random.Random(0), time.monotonic(), 0.0
    for round_number in range(1, ROUNDS + 1):
        for _ in range(STEPS_PER_ROUND):
            inputs, labels = as_batch(draw.sample(taught, BATCH), tokenizer.pad_token_id)
            model(input_ids=inputs, labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            warm_up.step()
            optimizer.zero_grad()
        certainty = min(least_certainty(model, *exam), least_certainty(model, *long_song))
        print(f"round {round_number}: certainty {certainty:.3f} after {time.monotonic() - started:.0f} s", flush=True)
        if certainty >= PASSING_CERTAINTY:
            return
    raise SystemExit(
        f"The tiny model failed its exam and is not written: certainty {certainty:.3f}, wanted {PASSING_CERTAINTY}."
    )


def main() -> None:
    """Train the model and write it to the directory named on the command line."""
    parser = argparse.ArgumentParser(description="Train the tiny test model and write it as a Hugging Face directory.")
    parser.add_argument("output", type=Path)
    output: Path = parser.parse_args().output
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = train_tokenizer()
    model = build_model(tokenizer)
    train(model, tokenizer)
    output.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(output)
    model.save_pretrained(output)


if __name__ == "__main__":
    main()
