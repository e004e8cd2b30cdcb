"""``python -m bench.classification``: print the matrices; with ``--wrong`` the tuning part's mistakes as well."""

from __future__ import annotations

import sys

from bench.classification import judged, page, rows

if __name__ == "__main__":
    print("\n".join(page()))
    if "--wrong" in sys.argv:  # of the tuning part alone: nobody looks at the other's
        for row, score in judged(rows("tuning")).wrong:
            print(f"{score:.2f} {row.label} {row.language} {row.kind}: {row.words[:150]!r}")
