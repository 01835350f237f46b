"""Run one of llama.cpp's converters: ROOT ASSUMED PROGRAM ARGUMENTS. Exit codes: 3 unknown tokenizer, 4 unknown architecture, else its own.

It takes unknown tokenizers by their hash alone; ASSUMED is the pre-tokenizer of one that is not among them.
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import Any


class _UnknownTokenizer(Exception):
    """The converter has no name for how a tokenizer splits text."""


def main() -> int:
    """Run it."""
    root, assumed, program = sys.argv[1:4]
    sys.path[:0] = [root, os.path.join(root, "gguf-py")]
    import conversion
    from conversion.base import TextModel

    known = TextModel.get_vocab_base_pre

    def named(self: Any, tokenizer: Any) -> str:
        try:
            return str(known(self, tokenizer))
        except NotImplementedError:
            if assumed:
                return assumed
            raise _UnknownTokenizer from None

    TextModel.get_vocab_base_pre = named
    asked = conversion.get_model_class

    def of_kind(name: str, *words: Any, **more: Any) -> Any:
        try:
            return asked(name, *words, **more)
        except NotImplementedError:
            print(f"gguf: llama.cpp's converter does not know {name}", file=sys.stderr, flush=True)
            sys.exit(4)

    conversion.get_model_class = of_kind
    sys.argv = [os.path.join(root, program), *sys.argv[4:]]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except _UnknownTokenizer:
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
