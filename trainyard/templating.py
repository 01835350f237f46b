"""Jinja as every template here is rendered: undefined names are errors, shell quoting is one filter away."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import jinja2

from trainyard.errors import Location, TrainyardError, UserError


def environment(folder: Path | None = None) -> jinja2.Environment:
    """Return the Jinja environment; ``folder`` is where templates and their includes lie."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder) if folder else None,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    env.filters["quote"] = lambda value: shlex.quote(str(value))
    env.filters["python"] = repr
    env.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    return env


def render_file(folder: Path, name: str, variables: Mapping[str, object]) -> str:
    """Render one template of a folder. Raises UserError with file:line for syntax errors and undefined names."""
    return guarded(lambda: _of_folder(folder).get_template(name).render(variables), str(folder / name))


def render_text(text: str, variables: Mapping[str, object], *, name: str = "<text>") -> str:
    """Render a text. Raises UserError like render_file()."""
    return guarded(lambda: environment().from_string(text).render(variables), name)


@lru_cache(16)
def _of_folder(folder: Path) -> jinja2.Environment:
    """Return the environment of a folder, which keeps what it has compiled until the file changes."""
    return environment(folder)


def guarded(call: Callable[[], str], name: str) -> str:
    """Return what a call renders; whatever it raises becomes a UserError at its line of the template."""
    try:
        return call()
    except jinja2.TemplateNotFound as error:
        raise UserError(f"{name}: there is no template '{error.name}'") from None
    except jinja2.TemplateSyntaxError as error:
        raise UserError(error.message or "template syntax error", where=Location(error.filename or name, error.lineno)) from None
    except jinja2.UndefinedError as error:
        raise UserError(str(error.message), where=Location(name, _template_line(error))) from None
    except UnicodeDecodeError:
        raise UserError(f"{name}: is not text (UTF-8)") from None
    except TrainyardError:
        raise
    except Exception as error:
        raise UserError(f"cannot be rendered: {error or type(error).__name__}", where=Location(name, _template_line(error))) from None


def _template_line(error: Exception) -> int:
    line, trace = 1, error.__traceback__
    while trace is not None:
        if "<template>" in trace.tb_frame.f_code.co_filename or trace.tb_frame.f_code.co_name in ("root", "top-level template code"):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
