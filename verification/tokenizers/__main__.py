"""Compare tokenizers with llama.cpp and transformers: ``python -m verification.tokenizers FOLDER``.

A folder with vocabularies (``*.gguf``, perhaps with ``.inp`` and ``.out`` beside them) and chat templates
(``templates/*.jinja``), such as ``vendor/llama.cpp/models`` of the source archive of ``llama-cpp-python``.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from .compare import compare_template, compare_vocabulary


def main() -> int:
    """Print a table; the exit code is 0 if nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", type=int, default=500, help="random texts for each vocabulary")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="names that have this in them")
    given = parser.parse_args()
    failed = 0
    total = equal = 0
    for path in sorted(given.folder.glob("*.gguf")):
        if given.only not in path.name:
            continue
        c = compare_vocabulary(path, np.random.default_rng(given.seed), given.texts)
        total, equal, failed = total + c.texts, equal + c.texts - len(c.different), failed + (not c.equal)
        counts = [
            f"{c.texts - len(c.different)} of {c.texts} texts",
            f"ends {'equal' if c.ends else 'DIFFERENT'}",
            f"{c.pieces} tokens with another text",
            *(
                []
                if c.published is None
                else [f"published tokens: {c.published[0] - c.published[1]} of {c.published[0]} lines"]
            ),
        ]
        verdict = "equal" if c.equal else "DIFFERENT"
        print(f"{verdict}: {c.name} ({c.how})" + (f": {', '.join(counts)}" if c.texts else ""), flush=True)
        for text in c.different[:5]:
            print(f"    {text!r}")
    print(f"{equal} of {total} texts have llama.cpp's tokens")
    total = equal = 0
    for path in sorted((given.folder / "templates").glob("*.jinja")):
        if given.only not in path.name:
            continue
        t = compare_template(path.name, path.read_text(encoding="utf-8"))
        total, equal, failed = total + t.conversations, equal + t.conversations - len(t.different), failed + bool(t.different)
        note = f", {t.refused} refused by both" if t.refused else ""
        print(
            f"{'DIFFERENT' if t.different else 'equal'}: {t.name}: {t.conversations} conversations{note} {t.different or ''}",
            flush=True,
        )
    print(f"{equal} of {total} prompts are those of transformers")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
