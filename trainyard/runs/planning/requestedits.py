"""``--from FILE``: a create request that a person has edited. What its fields say is taken as settings; all else must be as it was.

So price, estimate and limits are judged on what the file says, and the request that is sent is made as ever, with the run's own
name, lease, watchdog and host key. It is made before anything is rented and held against the file: nothing else is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainyard.clouds.protocol import Cloud, Offer
from trainyard.clouds.rendering import Leaf, leaves, parse
from trainyard.errors import Location, NoCapacity, UserError
from trainyard.reading import display, read
from trainyard.runs.planning.cloudrequest import cloud_request, row_that_renders
from trainyard.runs.planning.estimate import allowed_offers, query_of
from trainyard.runs.planning.requestdiffs import ROOM, Names, at, difference, other_cloud, refers, says_nothing
from trainyard.settings.clouds import CloudEntry
from trainyard.settings.flaws import clear_secret, flaw
from trainyard.settings.setting import is_secret
from trainyard.settings.table import OF_OURS, SETTINGS, StackSettings
from trainyard.textfile import read_text
from trainyard.yamlfile import Map, Node

MOST_OFFERS = 50
"""So many are held against a file: what is tried after them would hardly be had either."""
MOST_BYTES, PIPE_PATIENCE = 4 << 20, 5.0
"""A longer file is no create request; seconds that a pipe is read for before nobody is said to write into it."""
_WRITE = "Write one: invoke render lora request --stack {}\nIt is request/{} then."


@dataclass(frozen=True, slots=True)
class EditedRequest:
    """A file with a create request, read and not yet judged."""

    name: str
    text: str
    document: Map
    row: CloudEntry
    rehearsed: bool = False
    """It is a request to the real cloud, and an emulator is asked."""

    def settings(self, stated: StackSettings, stack: str) -> StackSettings:
        """Return the settings with what the file says in their place, variables of the pod left out: those are told by comparison.

        Raises UserError with the place of what no setting can be.
        """
        places: dict[str, Location | None] = {}
        said: dict[str, object] = {}
        for pattern, setting in self.row.request_edits:
            path = tuple(pattern.split("."))
            if setting == "pod_env" or (self.rehearsed and setting == ROOM):
                continue
            value, where = self._ports(path) if path[-1].endswith("*") else at(self.document, path)
            if says_nothing(value) or refers(value):
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
        return next((where for value, where in (at(self.document, path) for path in fields) if value is not None), None)

    def judged(self, cloud: Cloud, settings: StackSettings, offers: Sequence[Offer], hours: float, stack: str) -> StackSettings:
        """Return the settings by which exactly this file is sent: the variables that it adds, and the offers that it is true of.

        Raises UserError, with its place, for the first thing in it that would not be sent so.
        """
        settings = self._with_variables(settings, _sent(cloud, settings, offers[0], hours), stack)
        fitting, first = [], None
        for offer in offers[:MOST_OFFERS]:
            problem = difference(self.row, self.document, _sent(cloud, settings, offer, hours), settings, rehearsed=self.rehearsed)
            fitting += [offer.id] if problem is None else []
            first = first or problem
        if not fitting:
            raise first or NoCapacity(f"{cloud.name} has no offer for {self.name} now")
        return settings if len(fitting) == len(offers) else replace(settings, only_offers=tuple(fitting))

    def _variables(self) -> tuple[Names, dict[Names, Leaf]]:
        """Return where the pod's variables are, and those of the file."""
        pattern = next((one for one, setting in self.row.request_edits if setting == "pod_env"), "")
        path = tuple(pattern.split("."))[:-1]
        said = {key[len(path) :]: leaf for key, leaf in leaves(self.document).items() if key[: len(path)] == path and len(key) > len(path)}
        return path, said if path else {}

    def _with_variables(self, settings: StackSettings, sent: Mapping[Names, Node], stack: str) -> StackSettings:
        (path, said), stated = self._variables(), settings.pod_env
        if not path or not isinstance(stated, Mapping):
            return settings
        ours = {key[len(path)] for key in sent if key[: len(path)] == path and len(key) > len(path)} - set(stated)
        of_cloud = self.row.more if self.rehearsed else ()
        own = {key: leaf for key, leaf in said.items() if not (key[0] in (*ours, *of_cloud) or key[0].startswith((*OF_OURS, "-p ")))}
        variables = {key[0]: _variable(key, leaf, stated) for key, leaf in own.items()}
        if variables == stated:
            return settings
        edited = replace(settings, pod_env=variables, explicit=settings.explicit | {"pod_env"})  # type: ignore[arg-type]
        places = {key[0]: where for key, (_, where) in own.items()}
        for name in variables:
            try:
                read(SETTINGS["pod_env"].shape, {name: ""}, "pod_env")
            except UserError as error:
                raise UserError(error.message, where=places[name]) from None
        if (wrong := flaw(edited, stack) or clear_secret(edited)) is not None:
            raise UserError(f"{wrong.name} {wrong.message}", where=places.get(wrong.item), hint=wrong.hint)
        return edited

    def _ports(self, path: Names) -> tuple[Node, Location | None]:
        """Return ports that stand among the variables, as Docker's options: ``-p 8080:8080``; 22 comes with the way of starting."""
        node, where = at(self.document, path[:-1])
        prefix = path[-1].removesuffix("*")
        names = [name for name in node if name.startswith(prefix)] if isinstance(node, Map) else []
        return ["22/tcp", *(f"{name.removeprefix(prefix).partition(':')[0]}/tcp" for name in names)], where


def load(path: Path, cloud: str, name: str | None = None, *, stack: str = "") -> EditedRequest:
    """Read a file with a create request for a cloud; raises UserError with the place of what is wrong in its form.

    ``name`` is what messages call it; ``stack`` the one that such a file can be written of.
    """
    row, name = row_that_renders(cloud), name or str(path)
    write = _WRITE.format(stack or cloud, row.request_file)
    try:
        if path.exists() and not path.is_fifo() and (not path.is_file() or path.stat().st_size > MOST_BYTES):
            raise UserError(f"{name}: no create request: it is no file, or larger than any")
        text = read_text(path, name, patience=PIPE_PATIENCE)
    except FileNotFoundError:
        raise UserError(f"{name}: there is no such file", hint=write) from None
    if path.suffix != Path(row.request_file).suffix:
        raise UserError(f"{name}: a request to {row.title} is a file like {row.request_file}", hint=write)
    document = parse(text, name)
    if not text.strip() or not leaves(document):
        raise UserError(f"{name}: is empty: it asks for nothing", hint=write)
    if (other := other_cloud(row, document)) is not None:
        raise UserError(
            f"this looks like a request to {other.title} ({other.request_file}), and the stack's cloud is {row.title}",
            where=document.where(), hint=write,
        )  # fmt: skip
    return EditedRequest(name, text, document, row)


def as_edited(edited: EditedRequest, cloud: Cloud, shaped: StackSettings, hours: float, stack: str) -> StackSettings:
    """Return the settings of a pod by which a file is sent as it stands; raises UserError, with its place, for what would not be."""
    offers = allowed_offers(cloud.offers(replace(query_of(shaped), hours=hours + shaped.rescue_minutes / 60)), shaped)
    # Where nothing is to be had, the estimate says what narrows the choice.
    return edited.judged(cloud, shaped, offers, hours, stack) if offers else shaped


def _sent(cloud: Cloud, settings: StackSettings, offer: Offer, hours: float) -> dict[Names, Node]:
    document = cloud_request(cloud, settings, offer, hours).document
    return {path: value for path, (value, _) in leaves(document).items()}  # type: ignore[arg-type]


def _variable(key: Names, leaf: Leaf, stated: Mapping[str, object]) -> object:
    """Return what a variable of the file is set to; raises UserError for what none can be."""
    (value, where), name = leaf, key[0]
    if refers(value) and not is_secret(stated.get(name)):
        raise UserError(f"'{name}' refers to a value that nobody has", where=where, hint=f"Say it: {name}: VALUE")
    if len(key) > 1 or isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UserError(f"variable '{name}' must be a text, not {display(value) if len(key) == 1 else 'a map or a list'}", where=where)
    return stated[name] if refers(value) else str(value)
