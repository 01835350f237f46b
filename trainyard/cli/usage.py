"""The words of a command line: put as Invoke takes them, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from trainyard.nearest import suggest


def help_first(argv: Sequence[str]) -> list[str]:
    """Return ``invoke VERB --help`` as ``invoke --help VERB``, which needs none of the verb's arguments."""
    name, *words = argv
    ours = words[: words.index("--")] if "--" in words else words
    verb = next((word for word in ours if not word.startswith("-")), None)
    if verb is None or not ({"--help"} & set(ours) or ours[-1:] == ["-h"]) or ours[0] in ("--help", "-h"):
        return list(argv)
    return [name, *ours[: ours.index(verb)], "--help", verb]


_NAMED = {
    "compare": ("--run", ("--run", "--stack", "-s", "--png")),
    "sweep": ("--name", ("--name", "-n", "--png")),
    "play": (
        "--playbook",
        (
            "--playbook",
            "--stack",
            "-s",
            "--host",
            "--inventory",
            "-i",
            "--limit",
            "-l",
            "--tags",
            "-t",
            "--skip-tags",
            "--start-at-task",
            "--extra-vars",
            "-e",
            "--forks",
            "-f",
            "--user",
            "-u",
            "--log",
            "--ssh-config",
            "--vault-password-file",
            "--key",
            "-k",
        ),
    ),
    "data.build": ("--src", ("--src", "--to", "-t", "--config", "-c", "--set", "-e")),
}
"""Verbs behind which words may stand, none or several: the option that each of them is, and the options that have a word of their own."""


def folder_named(argv: Sequence[str]) -> list[str]:
    """Return ``init DIR`` as ``init --dir DIR``: Invoke knows no word that may be left out."""
    words = list(argv)
    if words[1:2] != ["init"]:
        return words
    valued = ("--cloud", "--ci", "-i", "--dir")
    at = next((at for at in range(2, len(words)) if not words[at].startswith("-") and words[at - 1] not in valued), None)
    return words if at is None else [*words[:2], "--dir", words[at], *words[2:at], *words[at + 1 :]]


def runs_named(argv: Sequence[str]) -> list[str]:
    """Return ``compare RUN RUN`` as ``compare --run RUN --run RUN``: Invoke takes a word that is one more for another verb."""
    words, behind = (list(argv), []) if "--" not in argv else (list(argv[: argv.index("--")]), list(argv[argv.index("--") :]))
    option, valued = _NAMED.get("".join(words[1:2]), ("", ()))
    if not option:
        return list(argv)
    named = words[:2]
    for before, word in pairwise(words[1:]):
        named += [word] if word.startswith("-") or before in valued else [option, word]
    return [*named, *behind]


def names_of(collection: Any) -> list[str]:
    """Return the names of all verbs; of a word with verbs behind it that is a verb, too (results), both of its names."""
    return [name for verb, others in collection.task_names.items() for name in (verb, *others)]


def usage_problem(words: Sequence[str], collection: Any, said: str) -> str:
    """Return what is wrong with a command line, and what comes nearest; ``said`` is for what we cannot tell better."""
    verbs = dict.fromkeys(names_of(collection)) if collection is not None else {}
    ours = list(words[: words.index("--")] if "--" in words else words)
    asked = ours[ours.index("--help") + 1 :] if "--help" in ours else ours
    verb = next((word for word in asked if not word.startswith("-")), "")
    if verbs and verb not in verbs:
        near = f". Verbs behind it: {', '.join(name for name in verbs if name.startswith(verb + '.'))}"
        return f"there is no verb '{verb}'{near if verb + '.' in ' '.join(verbs) else suggest(verb, verbs)}\ninvoke --list shows them all"
    if not verbs:
        return said
    said_of = _argument_problem(verb, collection[verb].get_arguments(), ours[ours.index(verb) + 1 :])
    return f"{said_of or f'{verb}: the command line cannot be understood: {said}'}\ninvoke --help {verb} shows its options"


_NUMBERS: dict[type, str] = {int: "a whole number", float: "a number"}


def _is_of(kind: type, value: str) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True


def _of_ansible(flag: str) -> str | None:
    """Return what to write instead of an option of ansible-playbook."""
    from trainyard.playbook.elsewhere import OPTIONS

    return OPTIONS.get(flag)


def _argument_problem(verb: str, arguments: Sequence[Any], words: Sequence[str]) -> str | None:
    """Return what is wrong with the words behind a verb, None when that cannot be told."""
    known = {f"--{name.replace('_', '-')}" if len(name) > 1 else f"-{name}": each for each in arguments for name in each.names}
    stray, behind = [], iter([*words, "--"])
    word = next(behind)
    while word != "--":
        flag, equals, value = word.partition("=")
        after = next(behind, "--")
        if verb == "play" and flag not in known and (instead := _of_ansible(flag)):
            return f"{verb} has no option {flag}. {instead}"
        if flag.startswith("--") and flag not in known:
            return f"{verb} has no option {flag}{suggest(flag, [name for name in known if name.startswith('--')])}"
        if len(flag) > 1 and flag[0] == "-" != flag[1] and flag[:2] not in known:
            return f"{verb} has no option {flag}"
        if flag in known and known[flag].takes_value and not equals:
            if after.startswith("--"):
                return f"{verb}: {flag} needs a value behind it"
            value, after = after, next(behind, "--")
        elif not flag.startswith("-"):
            stray.append(word)
        if flag in known and known[flag].kind in _NUMBERS and not _is_of(known[flag].kind, value):
            return f"{verb}: {flag} takes {_NUMBERS[known[flag].kind]}, not '{value}'"
        word = after
    places = [each for each in arguments if each.positional]
    needed = [each.name.upper() for each in places if each.default is None]
    if len(stray) < len(needed):
        return f"{verb} needs {' and '.join(needed)}"
    extra = stray[len(places) :]
    if not extra:
        return None
    own = f": a command of yours stands behind --, like: invoke train -- {' '.join(words[words.index(extra[0]) :])}"
    return f"{verb} takes no word '{extra[0]}'{own if verb == 'train' else ''}"
