"""The examples of the five documents, as they stand: the documents themselves are in ``documents/``, unchanged."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

DOCUMENTS = Path(__file__).with_name("documents")


def example(document: str, title: str) -> str:
    """The first block of code in a document after a line that holds the title."""
    text = (DOCUMENTS / f"{document}.md").read_text(encoding="utf-8")
    found = re.search(rf"^.*{re.escape(title)}.*\n(?:.*\n)*?( *)```\w*\n((?:.*\n)*?)\1```", text, re.MULTILINE)
    assert found, f"the document {document} has no example {title!r}"
    return textwrap.dedent(found[2])
