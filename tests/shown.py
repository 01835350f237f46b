"""Every command that a message, a page or a comment shows, found in the sources and held against the real verbs."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.cli.usage import folder_named, names_of, runs_named

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
HOLE = "HOLE1"
"""Stands for what an f-string fills in."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
START = re.compile(r"(?<![\w/.-])(?:\./bootstrap|invoke|trainyard|python -m trainyard\.engine|aws s3)(?= )")
ENDS = ".,;:)`'\""
NO_VERB = {"transforms", "itself"}
"""What Pulumi calls invoke, too; and the package, not the command."""
KNOWS_ITS_STACK = {
    "setup",
    "train",
    "resume",
    "rehearse",
    "doctor",
    "download",
    "deliver",
    "show",
    "serve-model",
    "compare-answers",
    "rerun",
    "diff",
    "compare",
    "play",
    "runs",
    "cache",
    "cache.clean",
}
"""Verbs with --stack that are right without it: it is a choice of the person's, the run's record has it, or all are meant."""
ENGINE = ("preview", "up", "refresh", "destroy", "outputs", "history", "cancel", "export", "import", "init", "config")


@dataclass(frozen=True)
class Shown:
    """One command: who runs it, its words, and whether they are all of it (else prose follows)."""

    where: str
    program: str
    words: tuple[str, ...]
    whole: bool
    message: bool
    """It is printed to a person, not only written in a page or a docstring."""
    quoted: bool = False
    """It stands in quotes: with nothing behind its verb, the verb itself is meant."""


def tasks() -> Any:
    """Return the module of the verbs."""
    sys.path.insert(0, str(ROOT))
    try:
        import tasks
    finally:
        sys.path.remove(str(ROOT))
    return tasks


def commands(text: str, where: str, *, message: bool, code: bool = False) -> Iterator[Shown]:
    """Yield the commands in a text; in ``code`` whatever follows belongs to them."""
    for line in text.splitlines():
        for match in START.finditer(line):
            words, whole = _words(line[match.end() :], code)
            if words or code:
                yield Shown(where, match[0], tuple(words), whole, message, line[: match.start()].endswith(("'", "`")))


def _words(rest: str, code: bool) -> tuple[list[str], bool]:
    words: list[str] = []
    for token in re.findall(r"""'[^']*'|"[^"]*"(?=\s|$)|\S+""", rest):
        if code and len(token) > 1 and token[0] == token[-1] and token[0] in "'\"":
            words.append(token[1:-1])
            continue
        if token in ("|", "#", "--", "&&", "...") or token.startswith("("):
            return words, True
        bare = re.sub(r"(?<=[a-z])HOLE1$", "", token.rstrip(')"' if code else ENDS))
        if not code and words and not _belongs(bare, words[-1]):
            return words, False
        if bare:
            words.append(bare)
        if bare != token:
            return words, True
    return words, True


def _belongs(word: str, before: str) -> bool:
    """Tell whether a word is an argument and not prose: an option, its value, a NAME, a hole, a path."""
    return bool(re.match(r"-{1,2}[a-z]|[A-Z][A-Z0-9]*$|.*HOLE1|\S*[/=]\S|\.", word)) or (before.startswith("--") and before != "--now")


def in_python(path: Path) -> Iterator[Shown]:
    """Yield the commands in a module's strings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    where = path.relative_to(ROOT).as_posix()
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            text = node.value
        else:
            continue
        yield from commands(text, f"{where}:{node.lineno}", message=id(node) not in bare)


def in_page(path: Path, text: str | None = None) -> Iterator[Shown]:
    """Yield the commands in the code of a Markdown page, inline or fenced."""
    where = path.relative_to(ROOT).as_posix()
    text = path.read_text(encoding="utf-8") if text is None else text
    for kind, body in FENCE.findall(text):
        if kind in ("sh", "console"):
            yield from commands(re.sub(r"^\$ ", "", body, flags=re.M), where, message=False, code=True)
    for piece in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)):
        yield from commands(piece, where, message=False, code=True)


def pages() -> list[Path]:
    """Return every page that a person reads, the changelog apart."""
    return [ROOT / "README.md", *(ROOT / name for name in PAGES), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "docker" / "README.md"]


def dead_links(path: Path, text: str | None = None) -> list[str]:
    """Return the links of a page that lead to no file of this repository, or to a heading that is not there."""
    where = path.relative_to(ROOT).as_posix()
    text = path.read_text(encoding="utf-8") if text is None else text
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]+`", "", FENCE.sub("", text)))
    return [f"{where}: {link}" for link in links if not re.match(r"[a-z]+:", link) and not _leads(path, link, text)]


def _leads(path: Path, link: str, text: str) -> bool:
    name, _, anchor = link.partition("#")
    target = path.parent / name if name else path
    if not target.exists():
        return False
    return not anchor or anchor in _anchors(target.read_text(encoding="utf-8") if name else text)


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def in_comments(path: Path) -> Iterator[Shown]:
    """Yield the commands in a file of settings, a script or a playbook, comments included."""
    yield from commands(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix(), message=False)


def everything() -> list[Shown]:
    """Return every command that is shown anywhere."""
    found: list[Shown] = []
    for path in (ROOT / "tasks.py", *(ROOT / "trainyard").rglob("*.py"), *(ROOT / "infra").rglob("*.py")):
        found += in_python(path)
    for path in pages():
        found += in_page(path)
    for folder, pattern in (
        (ROOT, "Pulumi*.yaml"),
        (ROOT, "bootstrap"),
        (ROOT, ".pre-commit-config.yaml"),
        (ROOT / ".github", "**/*.yml"),
        (ROOT / "templates", "**/*.yaml"),
        (ROOT / "playbooks", "**/*.yml"),
    ):
        for path in (ROOT / folder).glob(pattern):
            found += in_comments(path)
    return found


def problem(shown: Shown, verbs: Any) -> str | None:
    """Return what is wrong with a command, None when it would work as it is shown."""
    words = list(shown.words)
    if shown.program == "aws s3":
        return None if words and words[0] in ("sync", "cp", "ls", "rm", HOLE) else f"aws s3 has no {words[:1]}"
    if shown.program.startswith("python"):
        named = words[0].split("|") if words else []
        return None if named and (named[0].isupper() or set(named) <= set(ENGINE)) else f"the engine has no verb {words[:1]}"
    words = folder_named(runs_named(["trainyard", *words]))[1:]
    if words and words[0].partition("=")[0] in ("--list", "--help", "-h", "-l", "--version", "--print-completion-script"):
        words = words[1:] if shown.whole else []
    if not words or words[0].isupper() or words[0] in NO_VERB or HOLE in words[0]:
        return None
    if words[0] not in names_of(verbs):
        # `run ./bootstrap again`: the script alone, and prose behind it.
        prose = shown.program == "./bootstrap" and shown.message
        return None if prose else f"there is no verb {words[0]}"
    return _unparsable(words, shown, verbs)


def _unparsable(words: list[str], shown: Shown, verbs: Any) -> str | None:
    from invoke.exceptions import ParseError
    from invoke.parser import Parser, ParserContext

    verb = words[0]
    arguments = {argument.name: argument for argument in verbs[verb].get_arguments()}
    # Only this verb's: the contexts of all of them, made again for each command, were a minute of the suite.
    context = ParserContext(name=verb, args=list(arguments.values()))
    if words[1:2] == ["--help"]:
        return None
    flags = {f"--{name.strip('_').replace('_', '-')}" for name in arguments}
    flags |= {f"-{name}" for each in arguments.values() for name in each.names}
    unknown = [word.partition("=")[0] for word in words[1:] if re.match(r"-{1,2}[a-z]", word)]
    for flag in unknown:
        if flag not in flags:
            return f"{verb} has no {flag}"
    if not shown.whole or (len(words) == 1 and (shown.quoted or not shown.message)):
        return None  # prose follows, or the verb itself is meant
    try:
        Parser(initial=ParserContext(args=[]), contexts=[context]).parse_argv(words)
    except (ParseError, ValueError) as error:
        return f"{' '.join(words)}: {error}"
    if shown.message and "stack" in arguments and verb not in KNOWS_ITS_STACK and not {"--stack", "-s", "--all-stacks"} & set(words):
        return f"{' '.join(words)}: on another stack than local this finds nothing: it lacks --stack"
    return None
