"""Ask a model: an order as JSON on stdin, an answer as a line of JSON on stdout for each prompt, in their order.

Exit codes: 2 an adapter that does not fit its base, 69 the Hub does not answer, 137 not enough memory.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import huggingface_hub
import transformers
from answering import answer, prompt_of
from answers import Sampling, Unanswerable
from models import Refused, load, load_base

_NO_HUB = (huggingface_hub.errors.LocalEntryNotFoundError, huggingface_hub.errors.OfflineModeIsEnabled, ConnectionError)
_NOT_THERE = (huggingface_hub.errors.RepositoryNotFoundError, huggingface_hub.errors.RevisionNotFoundError)


def main() -> int:
    """Answer; return the exit code."""
    order = json.load(sys.stdin)
    try:
        model, tokenizer = (load_base if order["of"] == "base" else load)(order["folder"], order["base"])
        for messages in order["prompts"]:
            said = answer(model, tokenizer, prompt_of(tokenizer, messages), Sampling(order["tokens"]))
            print(json.dumps(asdict(said)), flush=True)
    except (Refused, Unanswerable) as error:
        print(f"ask: {error}", file=sys.stderr)
        return 2
    except MemoryError:
        return 137
    except Exception as error:
        return trouble(error)
    return 0


def trouble(error: BaseException) -> int:
    """Say what went wrong outside this program and return its exit code; raises any other error again."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, (*_NOT_THERE, *_NO_HUB)):
            print(f"ask: {type(behind).__name__}: {behind}", file=sys.stderr)
            return 2 if isinstance(behind, _NOT_THERE) else 69
        behind = behind.__cause__ or behind.__context__
    raise error


def _quiet(library: Any) -> None:
    library.disable_progress_bar()
    library.set_verbosity_error()


if __name__ == "__main__":
    _quiet(transformers.utils.logging)
    sys.exit(main())
