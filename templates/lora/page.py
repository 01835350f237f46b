"""The page that lies beside a result, and the name by which an adapter calls its base. Standard library only."""

from __future__ import annotations

import json
import os
from typing import Any

import basemodel

_CODE = {
    "lora": """from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({base}), ".")  # from inside this folder
tokenizer = AutoTokenizer.from_pretrained(".")""",
    "full": """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")  # from inside this folder
tokenizer = AutoTokenizer.from_pretrained(".")""",
}


def name_base(folder: str, base: str, revision: str | None) -> None:
    """Let the adapter name its base as a person would: the Hub's name with its revision, or that of a folder, never a path of this pod."""
    path = os.path.join(folder, "adapter_config.json")
    with open(path, encoding="utf-8") as file:
        known = json.load(file)
    known["base_model_name_or_path"] = os.path.basename(base.rstrip("/")) if basemodel.is_path(base) else base
    known["revision"] = revision
    with open(path, "w", encoding="utf-8") as out:
        json.dump(known, out, indent=2, sort_keys=True)


def text(config: dict[str, Any], result: dict[str, Any]) -> str:
    """Return the page."""
    settings = "\n".join(f"- {name}: {value}" for name, value in config.items())
    losses = f"{result['first_loss']:.4f} -> {result['final_loss']:.4f}"
    base = '"base"' if config["base_model"] == basemodel.TINY else f'"{config["base_model"]}"'
    whole = config["method"] == "full" or config["output"] == "merged"
    how = "trained whole" if config["method"] == "full" else "with a LoRA adapter in its weights"
    head = f"# {config['base_model']}, {how}" if whole else f"# LoRA adapter for {config['base_model']}"
    serve = "" if whole else "\nIt must be served on exactly the base it was trained on."
    serve += " In merged/ it lies in the base's weights." if config["output"] == "both" else ""
    return f"""{head}

Trained by recipe {result["recipe"]} in {result["steps"]} steps over {result["rows"]} rows; loss {losses}.{serve}

```python
{_CODE["full" if whole else "lora"].format(base=base)}
```

## Settings
{settings}
"""
