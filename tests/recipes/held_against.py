"""Hold the builder's own reading of a base's tokenizer against transformers, in the environment of recipe lora.

python -P held_against.py FOLDER ROWS: makes a base's tokenizer in FOLDER, encodes the rows (JSON Lines) by both under several chat
templates, and prints the tokens of all rows under the base's own; ends with code 1 where they differ.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

chat, forms, tokens = map(import_module, ("chat", "forms", "tokens"))  # as they stand beside each other in a bundle
TEMPLATE = (
    "{{ bos_token }}{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}{% if m.role == 'developer' %}{{ raise_exception('no developer here') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content | trim }}"
    "{% for call in m.tool_calls or [] %}<call>{{ call.function.arguments | tojson(indent=2) }}</call>{% endfor %}<|im_end|>"
    "{% endgeneration %}"
    "{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_base(folder: Path, texts: list[str]) -> None:
    """Write the tokenizer of a base: byte-level BPE with control tokens, a first token and a chat template."""
    own = Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<s>", "<|im_end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    own.train_from_iterator(texts, trainer)
    own.add_tokens([AddedToken("<call>", normalized=False), AddedToken("</call>", normalized=False)])
    own.add_special_tokens(["<|im_start|>"])
    own.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", own.token_to_id("<s>"))])
    made = PreTrainedTokenizerFast(
        tokenizer_object=own, bos_token="<s>", eos_token="<|im_end|>", additional_special_tokens=["<|im_start|>"]
    )
    made.chat_template = TEMPLATE
    made.save_pretrained(folder)


def encoded(encoder: Any, row: Any) -> Any:
    """Return the tokens of a row and which are learnt, or why it cannot be encoded."""
    try:
        return [(list(map(int, ids)), list(map(int, mask))) for ids, mask in encoder.samples(row)]
    except forms.RowFlaw as flaw:
        return str(flaw)


def main(folder: Path, source: Path) -> int:
    lines = source.read_text().splitlines()
    rows = [forms.understand(json.loads(line)) for line in lines]
    make_base(folder, lines)
    total, differ = 0, 0
    for template in ("auto", "chatml", "plain"):
        pair: list[Any] = [AutoTokenizer.from_pretrained(folder), tokens.BaseTokenizer(str(folder))]
        assert chat.choose(pair[0], template) == chat.choose(pair[1], template)
        encoders = [chat.Encoder(each) for each in pair]
        for row, line in zip(rows, lines, strict=True):
            theirs, ours = (encoded(each, row) for each in encoders)
            if theirs != ours:
                differ += 1
                print(f"{template}: {line}\n  theirs {theirs}\n  ours   {ours}", file=sys.stderr)
            elif template == "auto" and not isinstance(theirs, str):
                total += sum(len(ids) for ids, _ in theirs)
    print(total)
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
