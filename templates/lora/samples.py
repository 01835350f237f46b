"""Rows become token ids with a loss mask: only what the model shall say is learnt."""

import io
import json
import os

import numpy
import torch

import rows

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class Samples(torch.utils.data.Dataset):
    """Token ids of all rows, and where the loss counts; 5 bytes a token."""

    def __init__(self):
        self._items = []
        self.tokens = self.learnt = self.cut = self.dropped = 0
        self.forms = {}

    def __len__(self):
        return len(self._items)

    def __getitem__(self, index):
        return self._items[index]

    def add(self, form, ids, mask, limit):
        """Keep a row, cut to the limit; a row of which nothing is left to learn is counted and dropped."""
        self.cut += len(ids) > limit
        ids, mask = numpy.asarray(ids[:limit], numpy.int32), numpy.asarray(mask[:limit], bool)
        if not mask[1:].any():
            self.dropped += 1
            return
        self.forms[form] = self.forms.get(form, 0) + 1
        self.tokens += len(ids)
        self.learnt += int(mask.sum())
        self._items.append((ids, mask))


def read(run_dir, input_dir):
    """Yield every row of the run's data, in the order of data.json. Raises rows.RowError with file:line."""
    with open(os.path.join(run_dir, "data.json"), encoding="utf-8") as file:
        data = json.load(file)
    if data["hub"]:
        names = hub_files(input_dir)
    else:
        names = [item["dest"] for item in data["files"]]
    for name in names:
        with io.BufferedReader(io.FileIO(os.path.join(input_dir, name)), 1 << 17) as stream:
            yield from rows.read_rows(stream, name)


def hub_files(input_dir):
    """Return the files of rows of a data set of the Hub: the training split where files are named so, else all."""
    names = []
    for root, folders, found in os.walk(os.path.join(input_dir, "hub")):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        names += [os.path.relpath(os.path.join(root, name), input_dir) for name in found
                  if name.endswith(rows.SUFFIXES) and not name.startswith("dataset_info")]
    chosen = sorted([name for name in names if "train" in name.lower()] or names)
    print(f"train: data {', '.join(chosen) or 'none'} ({len(chosen)} of {len(names)} files)", flush=True)
    return chosen


def texts(row):
    """Return the texts of a row, for training a tokenizer."""
    messages = rows.messages_of(row)
    if messages:
        return [message["content"] for message in messages]
    return [row.fields["text"]] if row.form == "text" else [row.fields["prompt"], row.fields["completion"]]


def encode(found, tokenizer, limit):
    """Return the Samples of all rows."""
    template = chat_template(tokenizer)
    samples = Samples()
    for row in found:
        ids, mask = _encode(row, tokenizer, template)
        samples.add(row.form, ids, mask, limit)
    return samples


def chat_template(tokenizer):
    """Return a template that marks what the assistant says, None when the tokenizer's own must be taken apart by prefix."""
    own = tokenizer.chat_template
    if own and "{% generation" in own:
        return own
    if not own or "<|im_start|>" in tokenizer.get_vocab():
        return CHATML
    return None


def collate(pad_id):
    """Return the function that makes a batch: padded on the right, labels -100 where nothing is learnt."""

    def batch(items):
        width = max(len(ids) for ids, _ in items)
        ids = torch.full((len(items), width), pad_id, dtype=torch.long)
        seen = torch.zeros((len(items), width), dtype=torch.long)
        labels = torch.full((len(items), width), -100, dtype=torch.long)
        for number, (row, mask) in enumerate(items):
            values = torch.from_numpy(row.astype(numpy.int64))
            ids[number, : len(row)] = values
            seen[number, : len(row)] = 1
            labels[number, : len(row)][torch.from_numpy(mask)] = values[torch.from_numpy(mask)]
        return {"input_ids": ids, "attention_mask": seen, "labels": labels}

    return batch


def _encode(row, tokenizer, template):
    messages = rows.messages_of(row)
    if messages and template:
        found = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        return found["input_ids"], found["assistant_masks"]
    if messages:
        return _by_prefix(messages, tokenizer)
    if row.form == "text":
        ids = tokenizer(row.fields["text"])["input_ids"]
        return _ended(ids, [1] * len(ids), tokenizer)
    asked = tokenizer(row.fields["prompt"])["input_ids"]
    if asked and asked[-1] == tokenizer.eos_token_id:
        asked = asked[:-1]
    said = tokenizer(row.fields["completion"], add_special_tokens=False)["input_ids"]
    return _ended(asked + said, [0] * len(asked) + [1] * len(said), tokenizer)


def _ended(ids, mask, tokenizer):
    if tokenizer.eos_token_id is not None and (not ids or ids[-1] != tokenizer.eos_token_id):
        return [*ids, tokenizer.eos_token_id], [*mask, 1]
    return ids, mask


def _by_prefix(messages, tokenizer):
    """What an answer adds to the text of the conversation before it is what is learnt."""

    def text(count, asked=False):
        return tokenizer.apply_chat_template(messages[:count], tokenize=False, add_generation_prompt=asked)

    whole, spans = text(len(messages)), []
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            before, after = text(number, asked=True), text(number + 1)
            if not whole.startswith(after) or not after.startswith(before):
                raise SystemExit("train: the chat template of this model rewrites earlier turns: use rows of prompt/completion or text")
            spans.append((len(before), len(after)))
    found = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    return found["input_ids"], [any(end > first and start < last for first, last in spans) for start, end in found["offset_mapping"]]
