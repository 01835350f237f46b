"""``--from FILE``: a create request that a person has edited. What its fields say is taken as settings; all else must be as it was.

So price, estimate and limits are judged on what the file says, and the request that is sent is made as ever, with the run's own
name, lease, watchdog and host key. It is made before anything is rented and held against the file: nothing else is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainyard.clouds.protocol import Cloud, Offer
from trainyard.clouds.rendering import leaves, parse
from trainyard.errors import Location, NoCapacity, UserError
from trainyard.nearest import suggest
from trainyard.reading import display, read
from trainyard.runs.planning.cloudrequest import REFERENCE, cloud_request, row_that_renders
from trainyard.runs.planning.estimate import allowed_offers, query_of
from trainyard.settings.clouds import CloudEntry
from trainyard.settings.flaws import flaw
from trainyard.settings.setting import is_secret
from trainyard.settings.table import OF_OURS, SETTINGS, StackSettings
from trainyard.settings.variables import never_sent
from trainyard.textfile import read_text
from trainyard.yamlfile import Map, Node, Seq

MOST_OFFERS = 50
"""So many are held against a file: what is tried after them would hardly be had either."""
MOST_BYTES, PIPE_PATIENCE = 4 << 20, 5.0
"""A longer file is no create request; seconds that a pipe is read for before nobody is said to write into it."""
Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EditedRequest:
    """A file with a create request, read and not yet judged."""

    name: str
    document: Map
    row: CloudEntry

    def settings(self, stated: StackSettings, stack: str) -> StackSettings:
        """Return the settings with what the file says in their place, variables of the pod left out: those are told by comparison.

        Raises UserError with the place of what no setting can be.
        """
        places: dict[str, Location | None] = {}
        said: dict[str, object] = {}
        for pattern, setting in self.row.request_edits:
            path = tuple(pattern.split("."))
            if setting == "pod_env":
                continue
            value, where = self._ports(path) if path[-1].endswith("*") else _at(self.document, path)
            if value is None or value == "" or (value == 0 and not isinstance(value, bool)) or _refers(value):
                continue
            try:
                said[setting] = read(SETTINGS[setting].shape, value, f"'{pattern}'")
            except UserError as error:
                raise UserError(error.message, where=where) from None
            places[setting] = where
        # A volume of ours would be mounted that the file does not show.
        edited = replace(stated, **said, cache="none", explicit=stated.explicit | set(said))  # type: ignore[arg-type]
        if (wrong := flaw(edited, stack)) is not None:
            raise UserError(f"{wrong.name} {wrong.message}", where=places.get(wrong.at), hint=wrong.hint)
        return edited

    def place_of(self, setting: str) -> Location | None:
        """Return where the file says what a setting says; None where it does not."""
        fields = (tuple(pattern.split(".")) for pattern, one in self.row.request_edits if one == setting)
        return next((where for value, where in (_at(self.document, path) for path in fields) if value is not None), None)

    def judged(self, cloud: Cloud, settings: StackSettings, offers: Sequence[Offer], hours: float, stack: str) -> StackSettings:
        """Return the settings by which exactly this file is sent: the variables that it adds, and the offers that it is true of.

        Raises UserError, with its place, for the first thing in it that would not be sent so.
        """
        fields_said, where = leaves(self.document), Location(self.name, 1)
        settings = self._with_variables(settings, _sent(cloud, settings, offers[0], hours), stack)
        fitting, first = [], None
        for offer in offers[:MOST_OFFERS]:
            problem = self._problem(fields_said, _sent(cloud, settings, offer, hours), where)
            fitting += [offer.id] if problem is None else []
            first = first or problem
        if not fitting:
            raise first or NoCapacity(f"{cloud.name} has no offer for {self.name} now")
        return settings if len(fitting) == len(offers) else replace(settings, only_offers=tuple(fitting))

    def _problem(
        self, fields_said: Mapping[Names, tuple[Node, Location | None]], sent: Mapping[Names, Node], top: Location
    ) -> UserError | None:
        hint = f"It is Trainyard's: put it back as `invoke render` writes it. What a file may say: {', '.join(self._fields(sent))}."
        for path, (value, where) in fields_said.items():
            named = ".".join(path)
            if path not in sent:
                return UserError(f"unknown field '{named}'{suggest(named, map('.'.join, sent))}", where=where or top, hint=hint)
            if value != sent[path]:
                said = f"'{named}' is {display(value)} here, and what would be sent has {display(sent[path])}"
                editable = self._setting(path) is not None
                return UserError(said, where=where or top, hint="The recipe, or what the cloud has, wants it so." if editable else hint)
        for path in sent:
            if path not in fields_said:
                return UserError(f"'{'.'.join(path)}' is missing", where=self._nearest(path) or top, hint=hint)
        return None

    def _setting(self, path: Names) -> str | None:
        """Return the setting that a field says, None for one that is Trainyard's."""
        return next((setting for pattern, setting in self.row.request_edits if _fits(pattern.split("."), path)), None)

    def _fields(self, sent: Mapping[Names, Node]) -> list[str]:
        """Return the fields that a file of this form may change."""
        tops = {*self.document, *(path[0] for path in sent)}
        return [pattern for pattern, _ in self.row.request_edits if pattern.partition(".")[0] in tops]

    def _nearest(self, path: Names) -> Location | None:
        """Return the place of the mapping that lacks a field."""
        node: Node = self.document
        place = None
        for name in path[:-1]:
            node, at = _at(node, (name,))
            place = at or place
        return place

    def _variables(self) -> tuple[Names, Mapping[str, tuple[Node, Location | None]]]:
        """Return where the pod's variables are, and those of the file."""
        pattern = next((one for one, setting in self.row.request_edits if setting == "pod_env"), "")
        path = tuple(pattern.split("."))[:-1]
        return path, {
            key[len(path)]: leaf for key, leaf in leaves(self.document).items() if key[: len(path)] == path and len(key) > len(path)
        }

    def _with_variables(self, settings: StackSettings, sent: Mapping[Names, Node], stack: str) -> StackSettings:
        path, fields_said = self._variables()
        if not path or not isinstance(settings.pod_env, Mapping):
            return settings
        stated = settings.pod_env
        ours = {key[len(path)] for key in sent if key[: len(path)] == path and len(key) > len(path)} - set(stated)
        variables: dict[str, object] = {}
        for name, (value, where) in fields_said.items():
            if name in ours or name.startswith((*OF_OURS, "-p ")):
                continue
            if _refers(value) and not is_secret(stated.get(name)):
                raise UserError(f"'{name}' refers to a value that nobody has", where=where, hint=f"Say it: {name}: VALUE")
            if isinstance(value, bool) or not isinstance(value, (str, int, float)):
                raise UserError(f"variable '{name}' must be a text, not {display(value)}", where=where)
            variables[name] = stated[name] if _refers(value) else str(value)
        if variables == stated:
            return settings
        edited = replace(settings, pod_env=variables, explicit=settings.explicit | {"pod_env"})  # type: ignore[arg-type]
        try:
            read(SETTINGS["pod_env"].shape, {name: "" for name in variables}, "pod_env")
        except UserError as error:
            raise UserError(error.message, where=self._nearest((*path, ""))) from None
        if (wrong := flaw(edited, stack)) is not None:
            at = next((where for name, (_, where) in fields_said.items() if name in never_sent()), None)
            raise UserError(f"{wrong.name} {wrong.message}", where=at or self._nearest((*path, "")), hint=wrong.hint)
        return edited

    def _ports(self, path: Names) -> tuple[Node, Location | None]:
        """Return ports that stand among the variables, as Docker's options: ``-p 8080:8080``; 22 comes with the way of starting."""
        node, where = _at(self.document, path[:-1])
        prefix = path[-1].removesuffix("*")
        names = [name for name in node if name.startswith(prefix)] if isinstance(node, Map) else []
        return ["22/tcp", *(f"{name.removeprefix(prefix).partition(':')[0]}/tcp" for name in names)], where


def load(path: Path, cloud: str) -> EditedRequest:
    """Read a file with a create request for a cloud; raises UserError with the place of what is wrong in its form."""
    row = row_that_renders(cloud)
    try:
        if path.exists() and not path.is_fifo() and (not path.is_file() or path.stat().st_size > MOST_BYTES):
            raise UserError(f"{path}: no create request: it is no file, or larger than any")
        text = read_text(path, str(path), patience=PIPE_PATIENCE)
    except FileNotFoundError:
        raise UserError(
            f"{path}: there is no such file", hint=f"Write one: invoke render RECIPE DIR --stack STACK (DIR/{row.request_file})"
        ) from None
    if path.suffix != Path(row.request_file).suffix:
        raise UserError(f"{path}: a request to {row.title} is a file like {row.request_file}")
    return EditedRequest(str(path), parse(text, str(path)), row)


def as_edited(edited: EditedRequest, cloud: Cloud, shaped: StackSettings, hours: float, stack: str) -> StackSettings:
    """Return the settings of a pod by which a file is sent as it stands; raises UserError, with its place, for what would not be."""
    offers = allowed_offers(cloud.offers(replace(query_of(shaped), hours=hours + shaped.rescue_minutes / 60)), shaped)
    # Where nothing is to be had, the estimate says what narrows the choice.
    return edited.judged(cloud, shaped, offers, hours, stack) if offers else shaped


def _sent(cloud: Cloud, settings: StackSettings, offer: Offer, hours: float) -> dict[Names, Node]:
    document = cloud_request(cloud, settings, offer, hours).document
    return {path: value for path, (value, _) in leaves(document).items()}  # type: ignore[arg-type]


def _refers(value: object) -> bool:
    return isinstance(value, str) and REFERENCE.search(value) is not None


def _fits(pattern: Sequence[str], path: Sequence[str]) -> bool:
    pairs = zip(pattern, path, strict=False)
    return len(pattern) <= len(path) and all(
        path_part.startswith(part[:-1]) if part.endswith("*") else part == path_part for part, path_part in pairs
    )


def _at(node: Node, path: Sequence[str]) -> tuple[Node, Location | None]:
    """Return what stands at a path, and where; None where nothing does."""
    where: Location | None = None
    for name in path:
        if isinstance(node, Map) and name in node:
            where, node = node.where(name, value=True), node[name]
        elif isinstance(node, Seq) and name.isdigit() and int(name) < len(node):
            where, node = node.where(int(name)), node[int(name)]
        else:
            return None, where
    return node, where
