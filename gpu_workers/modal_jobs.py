#!/usr/bin/env python3
"""Spawns a call on a deployed modal_app.py and polls for its answer, from anywhere with a Modal token.

gpu_workers/modal_jobs.py spawn qwen3-8b <body.json     prints the call's id
gpu_workers/modal_jobs.py poll fc-…                     prints the answer; status 75 while there is none
"""

from __future__ import annotations

import json
import sys
from typing import Any

import modal

NOT_YET = 75


def spawn(model: str, body: dict[str, Any]) -> str:
    """Hand an OpenAI chat body to the model's jobs; the call's id, good for a week."""
    jobs = modal.Cls.from_name(f"penstock-{model}", "Jobs")()
    call: str = jobs.complete.spawn(body).object_id
    return call


def poll(call: str) -> dict[str, Any] | None:
    """The answer; None while there is none. Raises what the call raised, or `modal.exception.Error`."""
    try:
        answer: dict[str, Any] = modal.FunctionCall.from_id(call).get(timeout=0)
    except TimeoutError:
        return None
    return answer


def main(words: list[str]) -> int:
    """Do what the command line says; the exit status."""
    match words:
        case ["spawn", model]:
            print(spawn(model, json.load(sys.stdin)))
        case ["poll", call]:
            answer = poll(call)
            if answer is None:
                return NOT_YET
            print(json.dumps(answer))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
