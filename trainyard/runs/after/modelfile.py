"""What Ollama is told of a GGUF: its Modelfile, and the same as the body of a request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.errors import UserError

QUOTES = '"""'


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaModel:
    """A model of Ollama's: its file, or an adapter's file and the model that it is put onto."""

    file: str
    base: str = ""
    """For an adapter: a model that the server has. Empty: ``file`` is a whole model."""
    template: str = ""
    system: str = ""
    stops: tuple[str, ...] = ()
    licence: str = ""

    def text(self) -> str:
        """Return the Modelfile; raises UserError for what cannot stand in one."""
        lines = [f"FROM {self.base}", f"ADAPTER ./{self.file}"] if self.base else [f"FROM ./{self.file}"]
        for name, text in (("TEMPLATE", self.template), ("SYSTEM", self.system), ("LICENSE", self.licence)):
            if QUOTES in text:
                raise UserError(f"{name} holds {QUOTES}, which ends a text in a Modelfile")
            if text:
                lines.append(f"{name} {QUOTES}{text}{QUOTES}")
        return "\n".join([*lines, *(f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in self.stops)]) + "\n"

    def request(self, name: str, sha256: str) -> dict[str, Any]:
        """Return the body of the request that makes it under a name, of a file that the server has."""
        files = {self.file: f"sha256:{sha256}"}
        said: dict[str, Any] = {"model": name, **({"from": self.base, "adapters": files} if self.base else {"files": files})}
        more = {"template": self.template, "system": self.system, "license": self.licence}
        stops = {"parameters": {"stop": list(self.stops)}} if self.stops else {}
        return said | {key: text for key, text in more.items() if text} | stops


def template_of(turns: Mapping[str, str]) -> str:
    """Return the Go template that writes a conversation as a model's own does, of the texts between its turns (turns.py of the recipe)."""
    put = {name: f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else "" for name, text in turns.items()}
    system = ""
    later = "else"
    if "system" in put:
        system = f'{{{{ if eq $m.Role "system" }}}}{put["system"]}{{{{ $m.Content }}}}{put["after_system"]}{{{{ else }}}}'
        later = 'else if not (and (eq $i 1) (eq (index $.Messages 0).Role "system"))'
    begin = f"{{{{ if eq $i 0 }}}}{put['first']}{{{{ {later} }}}}{put['next']}{{{{ end }}}}"
    user = f'{{{{ if eq $m.Role "user" }}}}{begin}{{{{ $m.Content }}}}{put["answer"]}'
    answer = f"{{{{ else }}}}{put['before']}{{{{ $m.Content }}}}{put['after']}{{{{ end }}}}"
    return f"{{{{ range $i, $m := .Messages }}}}{system}{user}{answer}{'{{ end }}' if system else ''}{{{{ end }}}}"
