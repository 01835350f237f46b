"""Write what a finished run has left as GGUF. Exit codes: 0 done, 2 wrong input, 1 failed."""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from typing import Any

import checks
import llamacpp
import plainlora
import sources
import transformers
from models import Refused
from telemetry import Status

OUTPUT_DIR = os.environ["OUTPUT_DIR"]
SCRATCH = os.path.join(os.environ["WORKSPACE"], ".gguf")
HELD = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def main() -> int:
    """Make the file; return the exit code."""
    status = Status(OUTPUT_DIR)
    try:
        result = make(status)
    except Refused as error:
        message, code = str(error), 2
    except Exception as error:  # the traceback goes to the log, the line to status.json
        traceback.print_exc()
        message, code = f"{type(error).__name__}: {error}", 1
    else:
        status.write("done", "done")
        print(f"gguf: done, {result['file']}, {result['bytes']:,} bytes, {result['tensors']} tensors", flush=True)
        return 0
    print(f"gguf: {message}", file=sys.stderr, flush=True)
    status.write("failed", message[:2000])
    return code


def make(status: Status) -> dict[str, Any]:
    """Write the file under another name, judge it, rename it, then write result.json; return what that says."""
    with open(os.path.join(os.environ["RUN_DIR"], "config.json"), encoding="utf-8") as file:
        values = json.load(file)
    shutil.rmtree(SCRATCH, ignore_errors=True)
    os.makedirs(SCRATCH)
    folder = os.path.join(OUTPUT_DIR, "model")
    shutil.rmtree(folder, ignore_errors=True)
    source = sources.look(os.environ["INPUT_DIR"], values["base_model"])
    named = os.path.basename(values["model_name"].rstrip("/"))
    made = (whole if values["what"] == "merged" else adapter)(status, source, named, values["quant"])
    result = {
        "recipe": "gguf", "what": values["what"], "quant": values["quant"], "base_model": values["base_model"],
        "base_revision": source.revision, "adapter_sha256": source.adapter_sha256, **llamacpp.versions(), **made,
    }  # fmt: skip
    os.makedirs(folder)
    for name in os.listdir(SCRATCH):
        if name == result["file"] or name == sources.LICENSE:
            os.rename(os.path.join(SCRATCH, name), os.path.join(folder, name))
    with open(os.path.join(folder, "gguf.json"), "w", encoding="utf-8") as out:
        json.dump(result, out, indent=2)
    with open(os.path.join(OUTPUT_DIR, ".result.partial"), "w", encoding="utf-8") as out:
        json.dump(result, out, indent=2)
    os.replace(os.path.join(OUTPUT_DIR, ".result.partial"), os.path.join(OUTPUT_DIR, "result.json"))
    shutil.rmtree(SCRATCH)
    return result


def whole(status: Status, source: sources.Source, named: str, quant: str) -> dict[str, Any]:
    """Make the file of the whole model; return what is to be said of it."""
    status.write("loading", f"loading {source.base}")
    weights = os.path.join(SCRATCH, "weights")
    model, folder = sources.whole_model(source, weights)
    held, tokenizer = HELD[str(model.dtype).removeprefix("torch.")], transformers.AutoTokenizer.from_pretrained(folder)
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
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.adapter)
    return {
        "file": os.path.basename(file), **checks.file(file, "adapter"), **checks.pairs(file, numbers), "base_shape": sources.shape_of(base),
        **checks.talk(source.adapter, tokenizer),
    }  # fmt: skip


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    sys.exit(main())
