"""Write what a finished run has left as GGUF. Exit codes: 0 done, 2 wrong input, 1 failed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import Any

import checks
import llamacpp
import plainlora
import sources
import transformers
from ending import OUTPUT_DIR, ended, values, write_result
from models import Refused, tokenizer_of
from telemetry import Status

SCRATCH = os.path.join(os.environ["WORKSPACE"], ".gguf")
HELD = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def main() -> int:
    """Make the file; return the exit code."""
    return ended("gguf", make)


def make(status: Status) -> str:
    """Write the file under another name, judge it, rename it, then write result.json; return what is to be said."""
    config = values()
    shutil.rmtree(SCRATCH, ignore_errors=True)
    os.makedirs(SCRATCH)
    folder = os.path.join(OUTPUT_DIR, "model")
    shutil.rmtree(folder, ignore_errors=True)
    source = sources.look(os.environ["INPUT_DIR"], config["base_model"])
    named = os.path.basename(config["model_name"].rstrip("/"))
    made = (whole if config["what"] == "merged" else adapter)(status, source, named, config["quant"])
    result = {
        "recipe": "gguf", "what": config["what"], "quant": config["quant"], "base_model": config["base_model"],
        "base_revision": source.revision, "adapter_sha256": source.adapter_sha256, **llamacpp.versions(), **made,
    }  # fmt: skip
    os.makedirs(folder)
    for name in os.listdir(SCRATCH):
        if name == result["file"] or name == sources.LICENSE:
            os.rename(os.path.join(SCRATCH, name), os.path.join(folder, name))
    with open(os.path.join(folder, "gguf.json"), "w", encoding="utf-8") as out:
        json.dump(result, out, indent=2)
    write_result(result)
    shutil.rmtree(SCRATCH)
    return f"done, {result['file']}, {result['bytes']:,} bytes, {result['tensors']} tensors"


def whole(status: Status, source: sources.Source, named: str, quant: str) -> dict[str, Any]:
    """Make the file of the whole model; return what is to be said of it."""
    status.write("loading", f"loading {source.base}")
    weights = os.path.join(SCRATCH, "weights")
    model, folder = sources.whole_model(source, weights)
    held, tokenizer = HELD[str(model.dtype).removeprefix("torch.")], tokenizer_of(folder)
    asked = checks.asked_of(model, tokenizer)
    config = model.config
    del model
    file = os.path.join(SCRATCH, f"{named}-{quant}.gguf")
    first = quant if quant in llamacpp.CONVERTED else held
    plain = file if first == quant else os.path.join(SCRATCH, f"plain-{first}.gguf")
    status.write("converting", f"writing {first}")
    pre = llamacpp.convert(folder, plain, first, named)
    if plain != file:
        status.write("quantizing", f"writing {quant}")
        llamacpp.quantize(plain, file, quant)
    status.write("checking", "loading the file with llama.cpp")
    found = checks.file(file, "model") | checks.template(file, tokenizer) | checks.talk(folder, tokenizer)
    found |= {"pre_tokenizer_assumed": pre, "unlike": checks.unlike(config)} | checks.answers(
        plain, file, tokenizer, asked, assumed=pre is not None
    )
    return {"file": os.path.basename(file), **found, "fallback": checks.fallback(file, quant)}


def adapter(status: Status, source: sources.Source, named: str, quant: str) -> dict[str, Any]:
    """Make the file of the adapter alone; return what is to be said of it."""
    if source.adapter is None:
        raise Refused("the data hold a whole model and no adapter: leave --what adapter")
    status.write("loading", f"reading what {source.base} is made of")
    base = sources.described(source, os.path.join(SCRATCH, "base"))
    plain = os.path.join(SCRATCH, "adapter")
    numbers = plainlora.write(source.adapter, base, plain)
    file = os.path.join(SCRATCH, f"{named}-{quant}-LoRA.gguf")
    status.write("converting", f"writing {quant}")
    llamacpp.convert_adapter(plain, base, file, quant)
    status.write("checking", "reading the file")
    tokenizer = tokenizer_of(source.adapter)
    return {
        "file": os.path.basename(file), **checks.file(file, "adapter"), **checks.pairs(file, numbers), "base_shape": sources.shape_of(base),
        **checks.talk(source.adapter, tokenizer),
    }  # fmt: skip


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    sys.exit(main())
