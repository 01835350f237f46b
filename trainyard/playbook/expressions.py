"""Jinja as Ansible 2.19 means it: native types, names that are undefined in a chain, variables rendered when they are read.

A text that is one expression keeps the type of its result; several parts make a text, in which None is nothing. Inside ``{{ }}``
of a YAML value a backslash is a backslash. In a condition and in a template file it is what Jinja makes of it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import jinja2
from jinja2 import lexer, meta, nodes, parser

from trainyard import templating
from trainyard.errors import UserError
from trainyard.nearest import suggest
from trainyard.playbook.bounds import counted
from trainyard.playbook.filters import FILTERS, INSTEAD, TESTS
from trainyard.playbook.jinja import LazyContext, PlaybookJinja, Undefined, concat, finalized, finalized_here, through
from trainyard.playbook.lookups import LOOKUPS, Sight, names_of
from trainyard.playbook.natives import OMIT, NotDue, Variables, Written, plain
from trainyard.playbook.templatevars import NAMES, known_in
from trainyard.pythontext import parse_python

Call = Callable[..., object]
SEARCHED = "__folders__"
"""The variable that holds the folders in which lookups and includes of templates look for files."""
AHEAD = "__ahead__"
"""The variable that says that this is a look at what is not yet due: what is another each time it is asked for is asked once only."""
_RUNS = ("pipe", "lines", "random_choice")
_CHANGING = ("random", "shuffle", "password_hash", "strftime")
"""Filters that may give something else the next time."""
_COMPILED = 1024
"""So many texts are compiled once only: a worker loads the same playbook for every run, and a playbook says most of its words twice."""
MARKS = ("{{", "{%", "{#")
_HEADER = "#jinja2:"
_LAZY = ("default", "d", "mandatory", "ternary", "type_debug")
"""Filters that take what is undefined, and parts of a mapping unseen."""


@cache
def jinja_environment() -> jinja2.Environment:
    """Return the Jinja environment of template files and conditions."""
    env = PlaybookJinja(undefined=Undefined, trim_blocks=True, optimized=False, finalize=finalized)
    env.concat = concat  # type: ignore[method-assign]
    env.filters.update(templating.environment().filters)
    env.filters.update(FILTERS)
    env.filters = {name: filter_ if name in _LAZY else through(name, filter_, name in FILTERS) for name, filter_ in env.filters.items()}
    env.tests.update(TESTS)
    env.filters.update({name: _in_turn(env.filters[name]) for name in _CHANGING})
    env.globals.update(omit=OMIT, lookup=_lookup, query=_query, q=_query, now=_in_turn(_now), undef=_undef)
    env.globals.update(lipsum=_in_turn(cast(Any, env.globals["lipsum"])))
    return env


@cache
def _of_values() -> jinja2.Environment:
    env = jinja_environment().overlay()
    assert isinstance(env, PlaybookJinja)
    env.backslashes = True
    return env


@lru_cache(_COMPILED)
def template(source: str) -> Call:
    """Compile a text with Jinja in it."""
    tree = _of_values().parse(source)
    _check(tree)
    compiled = _of_values().from_string(tree)

    def call(variables: Variables, open_: tuple[Written, ...] = ()) -> object:
        result = concat(compiled.root_render_func(_context(compiled, variables, open_)))
        return ended(source, result)

    return call


@lru_cache(_COMPILED)
def expression(source: str) -> Call:
    """Compile a bare expression, as conditions are; what is undefined raises jinja2.UndefinedError."""
    env = jinja_environment()
    reader = parser.Parser(env, source, state="variable")
    parsed = reader.parse_expression()
    if not reader.stream.eos:
        raise jinja2.TemplateSyntaxError("something stands behind the end of the expression", reader.stream.current.lineno)
    parsed.set_environment(env)
    _check(parsed)
    compiled = env.from_string(nodes.Template([nodes.Output([parsed], lineno=1)], lineno=1))

    def call(variables: Variables, open_: tuple[Written, ...] = ()) -> object:
        (result,) = compiled.root_render_func(_context(compiled, variables, open_))
        return result

    return call


@lru_cache(_COMPILED)
def indirect(source: str) -> Call:
    """Compile what stands between the braces of ``when: "{{ x }}"``: a variable that holds the word true or false is meant."""
    call = expression(source)

    def said(variables: Variables, open_: tuple[Written, ...] = ()) -> object:
        result = call(variables, open_)
        word = result.strip() if isinstance(result, str) else None
        return {"true": True, "True": True, "false": False, "False": False}.get(word, result) if word is not None else result

    return said


def in_braces(source: str) -> str | None:
    """Return the expression of a text that is one ``{{ expression }}``, None of any other text."""
    text = source.strip()
    if not (text.startswith("{{") and text.endswith("}}")):
        return None
    kinds = [kind for _, kind, _ in _of_values().lexer.tokeniter(text, None)]
    return text[2:-2].strip("-+") if kinds.count(lexer.TOKEN_VARIABLE_BEGIN) == 1 and kinds[-1] == lexer.TOKEN_VARIABLE_END else None


def names_in_template(path: Path, wishes: Mapping[str, Any] = MappingProxyType({})) -> frozenset[str]:
    """Return the variables that a template file needs. Raises TemplateSyntaxError with the line in the file."""
    source = path.read_bytes().decode()
    options, text = _header(source)
    tree = _below(jinja_environment().overlay(**{**wishes, **options}).parse(text), source.count("\n") - text.count("\n"))
    return frozenset(_read_in(tree) - _guarded_in(tree) - set(jinja_environment().globals) - NAMES)


def render_template(
    path: Path, variables: Variables, wishes: Mapping[str, Any] = MappingProxyType({}), written: str = "", dest: str | None = None
) -> str:  # fmt: skip
    """Render a template file, which may begin with Ansible's ``#jinja2:`` line; ``wishes`` are options of Jinja that it may change.

    ``written`` and ``dest`` are its paths as the task has them. Raises UserError with file:line.
    """
    folders = [path.parent, *_searched(variables)]
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a file (a pipe or a device?)")

    def call() -> str:
        source = path.read_bytes().decode()
        options, text = _header(source)
        if text is source and not wishes and not any(mark in text for mark in MARKS):
            return text
        env = jinja_environment().overlay(loader=jinja2.FileSystemLoader(folders), **{**wishes, **options})
        env.finalize = finalized_here
        tree = _below(env.parse(text), source.count("\n") - text.count("\n"))
        known = known_in(path, written or str(path), dest, variables)
        try:
            compiled = env.from_string(tree)
            with counted():
                result = plain(ended(text, concat(compiled.root_render_func(_context(compiled, known, ())))))
        except Exception:
            env.handle_exception()  # raises it again, with the lines of the template
        return "" if result is None or result is OMIT else str(result)

    return templating.guarded(call, str(path))


def _read_in(tree: nodes.Template) -> set[str]:
    names = meta.TrackingCodeGenerator(jinja_environment())
    names.optimizer = None  # nothing is worked out while names are looked for: 10 ** 10 ** 10 would be
    names.visit(tree)
    return names.undeclared_identifiers


@lru_cache(_COMPILED)
def free_names(source: str) -> frozenset[str]:
    """Return the variables that a text reads, but those it reads only to see whether they exist."""
    tree = jinja_environment().parse(source)
    return frozenset(_read_in(tree) - _guarded_in(tree) - set(jinja_environment().globals))


@lru_cache(_COMPILED)
def guarded_in(source: str) -> frozenset[str]:
    """Return the variables that a text tests with ``is defined`` or gives a ``default``."""
    return frozenset(_guarded_in(jinja_environment().parse(source)))


def _guarded_in(tree: nodes.Template) -> set[str]:
    tests = (node.node for node in tree.find_all(nodes.Test) if node.name in ("defined", "undefined"))
    filters = (node.node for node in tree.find_all(nodes.Filter) if node.name in ("default", "d"))
    return {name for node in (*tests, *filters) if (name := _root_name(node)) is not None}


def _root_name(node: nodes.Node | None) -> str | None:
    while isinstance(node, (nodes.Getattr, nodes.Getitem, nodes.Filter)):
        node = node.node
    return node.name if isinstance(node, nodes.Name) else None


def _check(tree: nodes.Node) -> None:
    """Refuse at load time what could only fail later: filters and tests by name, and templates inside of expressions."""
    for node in tree.find_all((nodes.Filter, nodes.Test)):
        known, what = (FILTERS, "filter") if isinstance(node, nodes.Filter) else (TESTS, "test")
        table = jinja_environment().filters if what == "filter" else jinja_environment().tests
        name = node.name.removeprefix("ansible.builtin.").removeprefix("ansible.legacy.")
        if name not in table:
            hint = INSTEAD.get(name)
            raise jinja2.TemplateSyntaxError(
                f"the {what} '{node.name}' is not there: {hint}" if hint else f"there is no {what} '{node.name}'{suggest(name, known)}",
                node.lineno,
            )
        node.name = name
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name in ("lookup", "query", "q"):
            _check_lookup(call)


def _check_lookup(call: nodes.Call) -> None:
    for text in call.find_all(nodes.Const):
        if isinstance(text.value, str) and "{{" in text.value:
            raise jinja2.TemplateSyntaxError("braces inside of an expression: write the name itself, joined with ~", text.lineno)
    first = call.args[0] if call.args else None
    if isinstance(first, nodes.Const) and (wrong := names_of(str(first.value))[1]):
        raise jinja2.TemplateSyntaxError(wrong, call.lineno)


def _context(compiled: jinja2.Template, variables: Variables, open_: tuple[Written, ...]) -> LazyContext:
    context = LazyContext(compiled.environment, variables, compiled.name, compiled.blocks)  # type: ignore[arg-type]
    context.open_ = open_
    return context


def ended(source: str, result: object) -> object:
    """Return a text with as many ends of lines as its template has, of which Jinja drops one."""
    if not isinstance(result, str) or not source.endswith("\n"):
        return result
    missing = len(source) - len(source.rstrip("\n")) - (len(result) - len(result.rstrip("\n")))
    return result + "\n" * max(missing, 0)


def _below(tree: nodes.Template, lines: int) -> nodes.Template:
    for node in tree.find_all(nodes.Node) if lines else ():
        node.lineno += lines
    return tree


def _header(source: str) -> tuple[dict[str, Any], str]:
    if not source.startswith(_HEADER):
        return {}, source
    line, _, rest = source.partition("\n")
    options: dict[str, Any] = {}
    for pair in line[len(_HEADER) :].split(","):
        name, colon, value = pair.partition(":")
        if not colon or name.strip() not in _OPTIONS:
            raise jinja2.TemplateSyntaxError(f"'{_HEADER}' knows: {', '.join(_OPTIONS)}; not '{pair.strip()}'", 1)
        body = parse_python(value.strip()).body
        if len(body) != 1 or not isinstance(body[0], ast.Expr) or not isinstance(body[0].value, ast.Constant):
            raise jinja2.TemplateSyntaxError(f"'{_HEADER}': {value.strip()} is neither a text in quotes nor True or False", 1)
        options[name.strip()] = body[0].value.value
    return options, rest


_OPTIONS = (
    "block_start_string", "block_end_string", "variable_start_string", "variable_end_string", "comment_start_string",
    "comment_end_string", "line_statement_prefix", "line_comment_prefix", "trim_blocks", "lstrip_blocks", "newline_sequence",
    "keep_trailing_newline",
)  # fmt: skip


def _searched(variables: Variables) -> Sequence[Path]:
    folders = variables.get(SEARCHED)
    return folders if isinstance(folders, tuple) else ()


@jinja2.pass_context
def _query(context: LazyContext, name: str, *terms: Any, **options: Any) -> Any:
    """Return what a lookup finds, as a list."""
    missing = [term for term in terms if isinstance(term, jinja2.Undefined)]
    on_errors = options.pop("errors", "strict")
    known = {key: item if isinstance(item, jinja2.Undefined) else plain(item) for key, item in options.items()}
    if missing:
        return missing[0]
    try:
        return look_up(name, [plain(term) for term in terms], context.get_all(), context.open_, False, **known)
    except (UserError, OSError, ValueError):
        if on_errors == "strict":
            raise
        return None


@jinja2.pass_context
def _lookup(context: LazyContext, name: str, *terms: Any, **options: Any) -> Any:
    """Return what a lookup finds: several texts joined by commas, one thing as itself."""
    chosen = bool(options.pop("wantlist", False))
    hits = _query(context, name, *terms, **options)
    if chosen or not isinstance(hits, list):
        return [] if chosen and hits is None else hits
    if len(hits) > 1 and all(isinstance(item, str) for item in hits):
        return ",".join(hits)
    return hits[0] if len(hits) == 1 else hits


def look_up(
    name: str, terms: list[Any], variables: Variables, open_: tuple[Written, ...] = (), repeats: bool = False, **options: Any
) -> list[Any]:
    """Return what a lookup finds. Raises UserError for one that is not there, ValueError or UserError for what it cannot do."""
    known, wrong = names_of(name)
    if wrong:
        raise UserError(wrong)
    if AHEAD in variables and known in _RUNS:
        raise NotDue(f"lookup('{known}')")

    def read(variable: str) -> Any:
        value = variables[variable]
        return value.lazily(variables, open_) if isinstance(value, Written) else value

    sight = Sight(variables, read, _searched(variables), partial(_looked_up, variables), repeats)
    return LOOKUPS[known](terms, sight, **options)


def _looked_up(variables: Variables, path: Path, written: str, more: Mapping[str, object]) -> str:
    return render_template(path, {**variables, **more}, written=written)


def _in_turn(changing: Callable[..., Any]) -> Callable[..., Any]:
    @jinja2.pass_context
    def call(context: LazyContext, *args: Any, **options: Any) -> Any:
        if AHEAD in context:
            raise NotDue("something that is another each time")
        return changing(*args, **options)

    return call


def _now(utc: bool = False, fmt: str | None = None) -> Any:
    moment = datetime.now(UTC).replace(tzinfo=None) if utc else datetime.now()
    return moment.strftime(fmt) if fmt else moment


def _undef(hint: str | None = None) -> Undefined:
    return Undefined(hint or "a variable that must be values is not")
