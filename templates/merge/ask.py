"""Ask a model one question: FOLDER BASE QUESTION TOKENS. FOLDER holds a model, or an adapter of BASE; the answer goes to stdout."""

from __future__ import annotations

import json
import os
import sys

import adapters
import torch
import transformers


def main() -> int:
    """Answer; return the exit code: 2 for an adapter that does not fit its base."""
    folder, base, question, tokens = sys.argv[1:]
    try:
        if os.path.exists(os.path.join(folder, "adapter_config.json")):
            with open(os.path.join(folder, "adapter_config.json"), encoding="utf-8") as file:
                revision = json.load(file).get("revision")
            made = os.path.join(folder, "base")
            model = adapters.with_adapter(adapters.base_of(made if os.path.isdir(made) else base, revision), folder)
        else:
            model = adapters.base_of(folder, None)
    except adapters.Refused as error:
        print(f"ask: {error}", file=sys.stderr)
        return 2
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if tokenizer.chat_template:
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
    else:
        asked = tokenizer(question, return_tensors="pt")
    with torch.inference_mode():
        said = model.generate(**asked, max_new_tokens=int(tokens), do_sample=False)
    print(tokenizer.decode(said[0][asked["input_ids"].shape[1] :], skip_special_tokens=True))
    return 0


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    sys.exit(main())
