"""What a training row means: its form, its turns, which of them are learnt. Travels in the bundle beside rows.py.

A field that would change what the model learns is served or refused by name; every other one is named as unused.
Whether a base's chat template carries what a row says is found out where the tokenizer is (templates/lora/chat.py).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

MESSAGES, COMPLETION, INSTRUCTION, TEXT = ("messages", "prompt/completion", "instruction/input/output", "text")
ROLES = ("system", "user", "assistant", "tool", "developer")

_PREFERENCE = "compares good answers with bad ones (DPO, KTO), and this recipe learns every answer it is shown: keep the good ones alone"
_PICTURE = "is no text, and this recipe trains on text alone"
_PAIR = "compares answers: set method to dpo, which learns from prompt, chosen and rejected"
_REFUSED = {
    "chosen": _PAIR,
    "rejected": _PAIR,
    "kto_tag": _PREFERENCE,
    **dict.fromkeys(("image", "images", "video", "videos", "audio", "audios", "input_audio"), _PICTURE),
    "functions": "is the older way to name tools: write 'tools', and 'tool_calls' in the messages",
    "function_call": "is the older way to call a tool: write 'tool_calls'",
    "documents": "changes the prompt, and no form here carries it: write it into the user's message",
    "refusal": "is an answer outside 'content': write it there",
}
_SPEECH = ("reasoning_content", "reasoning", "thinking")
"""What an assistant says beside its content; the template decides whether it is carried."""
_MEANING = frozenset(("system", "history", "context", "tools", "weight", *_SPEECH))
"""Refused beside forms that do not serve them. A label that is neither true nor false is a class: named as unused."""
_SERVED: Mapping[str, tuple[str, ...]] = {
    MESSAGES: ("messages", "conversations", "system", "tools", "weight"),
    COMPLETION: ("prompt", "completion", "weight"),
    INSTRUCTION: ("instruction", "input", "context", "output", "response", "system", "history", "weight"),
    TEXT: ("text", "weight"),
}
_WEIGHTS = frozenset(("weight", "train", "training", "loss", "loss_mask"))
_SHAREGPT = {"human": "user", "gpt": "assistant", "observation": "tool", "function_response": "tool"}


class RowFlaw(ValueError):
    """Why a row cannot be learnt as it stands."""


class Row(NamedTuple):
    """A row as it is meant: a conversation (``messages``), or a prompt and what follows it.

    ``learnt`` says of each message whether the loss counts there; a row of plain text has one entry. ``muted``: those that weigh 0.
    """

    form: str
    messages: tuple[dict[str, Any], ...]
    learnt: tuple[bool, ...]
    tools: list[Any] | None
    prompt: str
    answer: str
    unused: tuple[str, ...]
    muted: frozenset[int] = frozenset()

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text of the row."""
        if self.messages:
            spoken = [str(message.get(name) or "") for message in self.messages for name in ("content", *_SPEECH)]
            calls = [json.dumps(call["function"]) for message in self.messages for call in message.get("tool_calls", [])]
            return tuple(text for text in (*spoken, *calls, *map(json.dumps, self.tools or [])) if text)
        return (self.prompt, self.answer) if self.prompt else (self.answer,)


def understand(fields: Any, ignored: Collection[str] = ()) -> Row:
    """Return what a row means; ``ignored`` are fields that the user says to leave out. Raises RowFlaw."""
    if not isinstance(fields, dict):
        raise RowFlaw(f"a row must be an object {{...}}, not {_kind(fields)}")
    if ignored:
        fields = {name: value for name, value in fields.items() if name not in ignored}
    _refuse(fields, "")
    form = _form(fields)
    _refuse_dropped(fields, form)
    weights = {name: value for name, value in fields.items() if name == "weight" or (name in _WEIGHTS and isinstance(value, bool))}
    unused = {name for name in fields if name not in (*_SERVED[form], *weights) and not _empty(fields[name])}
    if form == MESSAGES and fields.get("messages") is not None and not _empty(fields.get("conversations")):
        unused.add("conversations")
    keep = _weight(weights, "")
    if form == TEXT or (form == COMPLETION and not isinstance(fields["prompt"], list)):
        prompt = "" if form == TEXT else _text(fields, "prompt")
        answer = _answer(fields, "text" if form == TEXT else "completion")
        return Row(form, (), (keep,), None, prompt, answer, tuple(sorted(unused)))
    messages, learnt, muted = _conversation(form, fields, ignored, unused)
    return Row(form, messages, tuple(each and keep for each in learnt), _tools(fields), "", "", tuple(sorted(unused)), muted)


def _form(fields: Mapping[str, Any]) -> str:
    if fields.get("messages") is not None or fields.get("conversations") is not None:
        return MESSAGES
    if fields.get("prompt") is not None and fields.get("completion") is not None:
        return COMPLETION
    if fields.get("instruction") is not None and (fields.get("output") is not None or fields.get("response") is not None):
        return INSTRUCTION
    if fields.get("text") is not None:
        return TEXT
    have = ", ".join(sorted(fields)[:8]) or "nothing"
    for first, second in (("instruction", "output"), ("prompt", "completion")):
        for has, lacks in ((first, second), (second, first)):
            if fields.get(has) is not None and fields.get(lacks) is None:
                raise RowFlaw(f"the row has '{has}' but no '{lacks}' (it has: {have})")
    raise RowFlaw(
        f"the row fits no known form: it has {have}; expected messages, prompt + completion, instruction + output (+ input), or text"
    )


def _refuse(fields: Mapping[str, Any], where: str) -> None:
    for name in sorted(_REFUSED.keys() & fields.keys()):
        if not _empty(fields[name]):
            raise RowFlaw(f"{where}'{name}' {_REFUSED[name]}; or name it in ignore_columns")
    label = fields.get("label")
    if isinstance(label, bool) or (isinstance(label, str) and label.lower() in ("true", "false")):
        raise RowFlaw(f"{where}'label' {_PREFERENCE}; or name it in ignore_columns")


def _refuse_dropped(fields: Mapping[str, Any], form: str) -> None:
    serves = (*_SERVED[form], "system", "tools") if form == COMPLETION and isinstance(fields["prompt"], list) else _SERVED[form]
    for name in sorted(_MEANING & fields.keys()):
        if name not in serves and not _empty(fields[name]):
            raise RowFlaw(
                f"'{name}' would not be learnt: rows of {form} carry no '{name}'; write it into messages, or name it in ignore_columns"
            )


def _conversation(
    form: str, fields: dict[str, Any], ignored: Collection[str], unused: set[str]
) -> tuple[tuple[dict[str, Any], ...], tuple[bool, ...], frozenset[int]]:
    """Return the turns of a row, which are learnt and which weigh 0; message fields that nobody reads are added to ``unused``."""
    context = 0
    if form == MESSAGES:
        messages = fields["messages"] if fields.get("messages") is not None else sharegpt(fields["conversations"])
    elif form == COMPLETION:
        unused -= {"tools", "system"}
        messages, context = _both(fields), len(fields["prompt"])
    else:
        messages = _instruction(fields)
    messages = _list_of_messages(messages)
    system = fields.get("system")
    if not _empty(system):
        if any(isinstance(message, dict) and message.get("role") == "system" for message in messages):
            raise RowFlaw("'system' stands beside a message of role system: keep one of them")
        messages, context = [{"role": "system", "content": _text(fields, "system")}, *messages], context + 1
    turns = [_message(message, number, ignored, unused) for number, message in enumerate(messages, 1)]
    answers = [message["role"] == "assistant" and number >= context for number, (message, _) in enumerate(turns)]
    if not any(answers):
        raise RowFlaw("there is no message of the assistant: nothing to learn in this row")
    learnt = tuple(answer and weight for answer, (_, weight) in zip(answers, turns, strict=True))
    return tuple(message for message, _ in turns), learnt, frozenset(number for number, (_, weight) in enumerate(turns) if not weight)


def _list_of_messages(messages: Any) -> list[Any]:
    if isinstance(messages, str):  # a cell of CSV
        messages = _parsed(messages, "messages")
    if not isinstance(messages, list) or not messages:
        raise RowFlaw(f"'messages' must be a list of {{role, content}}, not {_kind(messages)}")
    return messages


def _both(fields: Mapping[str, Any]) -> list[Any]:
    if not isinstance(fields["completion"], list):
        raise RowFlaw("'prompt' is a list of messages, but 'completion' is not: write both as messages, or both as text")
    return [*sharegpt(fields["prompt"]), *sharegpt(fields["completion"])]


def _instruction(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    answers = [name for name in ("output", "response") if fields.get(name) is not None]
    if len(answers) > 1:
        raise RowFlaw("'output' and 'response' are both given: keep the one to be learnt, or name the other in ignore_columns")
    return [*asked(fields), {"role": "assistant", "content": _answer(fields, answers[0])}]


def asked(fields: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what stands before the answer in a row of instruction and input. Raises RowFlaw."""
    history = fields.get("history")
    for pair in [] if _empty(history) else _items(_parsed(history, "history"), "'history'"):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise RowFlaw("'history' must be a list of pairs [asked, answered]")
        yield {"role": "user", "content": pair[0]}
        yield {"role": "assistant", "content": pair[1]}
    inputs = [name for name in ("input", "context") if not _empty(fields.get(name))]
    if len(inputs) > 1:
        raise RowFlaw("'input' and 'context' both hold text: keep one of them")
    yield {"role": "user", "content": "\n\n".join(_text(fields, name) for name in ("instruction", *inputs))}


def sharegpt(conversation: Any) -> list[Any]:
    """Return conversations of {from, value} as messages."""
    named: list[Any] = []
    for number, item in enumerate(_list_of_messages(conversation), 1):
        if not isinstance(item, dict) or "from" not in item:
            named.append(item)
            continue
        if not isinstance(item["from"], str):
            raise RowFlaw(f"message {number}: 'from' must be text, not {_kind(item['from'])}")
        if item["from"] == "function_call":
            raise RowFlaw(f"message {number} is a 'function_call': write it as a message of the assistant with 'tool_calls'")
        rest = {name: value for name, value in item.items() if name not in ("from", "value")}
        named.append({"role": _SHAREGPT.get(item["from"], item["from"]), "content": item.get("value"), **rest})
    return named


def _message(raw: Any, number: int, ignored: Collection[str], unused: set[str]) -> tuple[dict[str, Any], bool]:
    """Return a message as chat templates take it, and whether it weighs anything."""
    where = f"message {number}: "
    if not isinstance(raw, dict) or not isinstance(raw.get("role"), str):
        raise RowFlaw(f"message {number} must have 'role' and 'content' as text")
    role = raw["role"]
    if role not in ROLES:
        raise RowFlaw(f"message {number} has role '{role}'; known: {', '.join(ROLES)}")
    if len(raw) == 2 and isinstance(raw.get("content"), str) and not raw["content"].isspace() and raw["content"]:
        return {"role": role, "content": _encodable(raw["content"], where + "'content'")}, True
    raw = {name: value for name, value in raw.items() if name not in ignored}
    _refuse(raw, where)
    message: dict[str, Any] = {"role": role, "content": _content(raw, where)}
    read = {"role", "content", *_WEIGHTS}
    if role == "assistant":
        speech = {name: raw[name] for name in _SPEECH if not _empty(raw.get(name))}
        message |= {name: _text(speech, name) for name in speech}
        if not _empty(raw.get("tool_calls")):
            calls = _items(_parsed(raw["tool_calls"], "tool_calls"), f"{where}'tool_calls'")
            message["tool_calls"] = [_call(call, where) for call in calls]
        read |= {"tool_calls", *_SPEECH}
    elif role == "tool":
        message |= {name: _text(raw, name) for name in ("name", "tool_call_id") if not _empty(raw.get(name))}
        read |= {"name", "tool_call_id"}
    unused |= {f"messages[].{name}" for name, value in raw.items() if name not in read and not _empty(value)}
    if not message["content"].strip() and (role != "assistant" or set(message) == {"role", "content"}):
        if role == "assistant":
            raise RowFlaw(f"{where}the assistant says nothing (no content, no tool_calls): there is nothing to learn there")
        if raw.get("content") is None:
            raise RowFlaw(f"message {number} must have 'role' and 'content' as text")
    return message, _weight(raw, where)


def _content(message: Mapping[str, Any], where: str) -> str:
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, list):
        parts = []
        for part in content:
            if isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
                parts.append(part["text"])
            else:
                kind = part.get("type", "something unknown") if isinstance(part, dict) else _kind(part)
                raise RowFlaw(f"{where}a part of its content is '{kind}', which is no text, and this recipe trains on text alone")
        content = "".join(parts)
    if not isinstance(content, str):
        raise RowFlaw(f"{where}'content' must be text, not {_kind(content)}")
    return _encodable(content, where + "'content'")


def _call(raw: Any, where: str) -> dict[str, Any]:
    """Return a call of a tool with its arguments as an object, which is what chat templates print."""
    function = raw.get("function", raw) if isinstance(raw, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowFlaw(f"{where}a tool call must have a function with a name")
    arguments = function.get("arguments")
    arguments = {} if _empty(arguments) else _parsed(arguments, f"arguments of {function['name']}")
    if not isinstance(arguments, dict):
        raise RowFlaw(f"{where}the arguments of {function['name']} must be an object")
    call = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    _plain_json(call, f"{where}the call of a tool")
    return {"id": raw["id"], **call} if not _empty(raw.get("id")) else call


def _tools(fields: Mapping[str, Any]) -> list[Any] | None:
    if _empty(fields.get("tools")):
        return None
    tools = _parsed(fields["tools"], "tools")
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise RowFlaw("'tools' must be a list of objects, each a function with its name and parameters")
    _plain_json(tools, "'tools'")
    return tools


def _weight(message: Mapping[str, Any], where: str) -> bool:
    """Return whether a row or message is learnt. Weights between 0 and 1 are refused."""
    for name in _WEIGHTS & message.keys():
        value = message[name]
        if value is None:
            continue
        text = str(value).strip().lower()
        if text not in ("0", "0.0", "-0.0", "1", "1.0", "true", "false", ""):
            raise RowFlaw(f"{where}'{name}' is {value}: only 0 (not learnt) and 1 (learnt) are served")
        if text in ("0", "0.0", "-0.0", "false"):
            return False
    return True


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise RowFlaw(f"'{name}' must be text, not {_kind(value)}")
    return _encodable(value, f"'{name}'")


def _answer(fields: Mapping[str, Any], name: str) -> str:
    if not _text(fields, name).strip():
        raise RowFlaw(f"'{name}' is empty: there is nothing to learn in this row")
    return str(fields[name])


def _encodable(value: str, what: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise RowFlaw(f"{what} holds half of a surrogate pair (\\ud800 to \\udfff), which is no character") from None
    return value


def _items(value: Any, what: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise RowFlaw(f"{what} must be a list, not {_kind(value)}")
    return value


def _plain_json(value: Any, what: str) -> None:
    """Raise RowFlaw for what a template would write and no reader of JSON takes: NaN, or half of a character."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError, TypeError) as error:
        raise RowFlaw(f"{what} cannot be written as JSON: {error}") from None
    _encodable(text, what)


def _parsed(value: Any, what: str) -> Any:
    """Return a value that may be written as JSON inside a text, as cells of CSV and arguments of tools are."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(_encodable(value, f"'{what}'"))
    except (ValueError, RecursionError) as error:
        raise RowFlaw(f"'{what}' is text that is no JSON: {error}") from None


def _empty(value: Any) -> bool:
    """Tell whether a field says nothing; 0 and false do say something."""
    return value is None or (isinstance(value, (str, list, dict, tuple)) and not value)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "nothing" if value is None else type(value).__name__)
