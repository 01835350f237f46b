"""Put the adapter of a finished run into the weights of its base. Exit codes: 0 done, 2 wrong input, 1 failed."""

from __future__ import annotations

import os
import shutil
import sys

import peft
import torch
import transformers
from ending import OUTPUT_DIR, ended, sha256, values, write_result
from models import WEIGHTS, Refused, base_of, settings_of, tokenizer_of, with_adapter
from telemetry import Status


def main() -> int:
    """Merge; return the exit code."""
    return ended("merge", merge)


def merge(status: Status) -> str:
    """Write model/ under another name, rename it, then write result.json; return what is to be said."""
    named = values()["base_model"]
    adapter = adapter_in(os.environ["INPUT_DIR"])
    known, words = settings_of(adapter) or {}, tokenizer_of(adapter)
    made, revision = os.path.join(adapter, "base"), known.get("revision")
    base = made if os.path.isdir(made) else named
    called = os.path.basename(named.rstrip("/")) if os.path.isdir(named) else named
    if base == named and called != known.get("base_model_name_or_path"):
        raise Refused(f"the adapter is one of {known.get('base_model_name_or_path')}, not of {called}")
    status.write("loading", f"loading {named}")
    model = base_of(base, revision)
    status.write("saving", "putting the adapter into the base's weights")
    merged = with_adapter(model, adapter)
    partial, folder = os.path.join(OUTPUT_DIR, ".model.partial"), os.path.join(OUTPUT_DIR, "model")
    shutil.rmtree(partial, ignore_errors=True)
    merged.save_pretrained(partial, safe_serialization=True)
    words.save_pretrained(partial)
    if os.path.exists(os.path.join(adapter, "generation_config.json")):
        shutil.copyfile(os.path.join(adapter, "generation_config.json"), os.path.join(partial, "generation_config.json"))
    result = {
        "recipe": "merge", "base_model": named, "base_revision": revision, "adapter_sha256": sha256(os.path.join(adapter, WEIGHTS)),
        "parameters": sum(parameter.numel() for parameter in merged.parameters()), "dtype": str(merged.dtype).removeprefix("torch."),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
    }  # fmt: skip
    with open(os.path.join(partial, "README.md"), "w", encoding="utf-8") as out:
        out.write(page(called, revision, result["adapter_sha256"]))
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(partial, folder)
    write_result(result)
    return f"done, {result['parameters']:,} parameters in {result['dtype']}"


def adapter_in(folder: str) -> str:
    """Return where the adapter lies among the data."""
    found = [place for place, _, files in os.walk(folder) if "adapter_config.json" in files]
    if len(found) != 1:
        raise Refused(f"the data hold {len(found) or 'no'} adapters (adapter_config.json); one is needed")
    return found[0]


def page(base: str, revision: str | None, adapter: str) -> str:
    """Return the page that lies beside the model."""
    return f"""# {base}, with a LoRA adapter in its weights

The base is {base}{f" at revision {revision}" if revision else ""}; the adapter's adapter_model.safetensors has sha256 {adapter}.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")  # from inside this folder
tokenizer = AutoTokenizer.from_pretrained(".")
```
"""


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    sys.exit(main())
