"""Where the files of a result are put together at home, before they get their names: whole, proven, on disk.

A folder beside them that no file of the result can lie in; its lock keeps two downloads into one place apart. What
was half fetched stays there for the next try, named by its hash and its path.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from trainyard.errors import DiskFull, StoreError, TrainyardError, UserError, disk_full
from trainyard.filelock import acquire
from trainyard.files import sync, sync_all
from trainyard.sizes import human_size

FOLDER = ".trainyard-download"
_LOCK = "lock"
_SHOWN = 8
_MANY = 64
"""So many files and more are brought to disk by one call for their whole file system."""
_ELSEWHERE = "Move it away, or choose another folder."
_OTHER_PLACE = "Choose a folder that can be made and written to here, or mend its rights."


class Staging:
    """The folder of one download; ``place`` gives a file its name, ``put_off`` leaves that to ``settle``."""

    def __init__(self, folder: Path, lock: int = -1) -> None:
        self.folder, self.lock = folder, lock
        self._waiting: list[tuple[Path, Path]] = []
        self._touched: set[Path] = set()

    def part(self, sha256: str, path: Path) -> Path:
        """Return where a file is put together; of any length its name may be, this one is short."""
        return self.folder / f"{sha256[:24]}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:24]}"

    def place(self, part: Path, path: Path) -> None:
        """Give a file, which is on disk, its name; raises UserError when something has it by now."""
        try:
            if os.path.lexists(path):
                raise taken([path])
            if path.parent not in self._touched:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._touched.add(path.parent)
            os.replace(part, path)
        except OSError as error:
            raise trouble(path, error) from None

    def put_off(self, part: Path, path: Path) -> None:
        """Let a whole file wait for its name: bringing small ones to disk one by one takes longer than fetching them."""
        self._waiting.append((part, path))

    def settle(self) -> None:
        """Bring what waits to disk, give it its names, and bring the names to disk."""
        self.place_all(self._waiting)
        _to_disk(self._touched, self.folder)

    def place_all(self, parts: Sequence[tuple[Path, Path]]) -> None:
        """Bring files to disk and give them their names."""
        _to_disk([part for part, _ in parts], self.folder)
        for part, path in parts:
            self.place(part, path)


def _to_disk(paths: Collection[Path], folder: Path) -> None:
    if len(paths) >= _MANY:
        return sync_all(folder)
    for path in paths:
        sync(path)


@contextmanager
def staging(dest: Path, names: Sequence[str], waiting: Callable[[str], None]) -> Iterator[Staging]:
    """Give the staging folder of ``dest``, alone; raises UserError, with nothing fetched, when the place cannot be used.

    ``waiting`` is told when another process works in the same folder. After an error what has arrived is kept.
    """
    try:
        _check(dest, names)
        dest.mkdir(parents=True, exist_ok=True)
        folder = dest / _free_name(names)
        lock = _lock(folder, waiting)
    except OSError as error:
        raise _unusable(dest, error) from None
    try:
        try:
            try:
                _check(dest, names)  # whoever was waited for may have put something there
                _refuse_twins(folder, names)
            except OSError as error:
                raise _unusable(dest, error) from None
            stage = Staging(folder, lock)
            yield stage
            stage.settle()
        except OSError as error:
            raise trouble(dest, error) from None
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        with contextlib.suppress(OSError):
            if os.listdir(folder) == [_LOCK]:
                shutil.rmtree(folder)
        os.close(lock)


def need_space(folder: Path, size: int) -> None:
    """Raise DiskFull when the disk of a folder has not so many bytes left for us: before anything is fetched, not at its end."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return  # what cannot be asked is found out
    if size > free:
        hint = "Make room, or choose another folder; what has arrived is kept: the same command goes on with it."
        raise DiskFull(f"{folder.parent}: {human_size(size)} more are needed here, and {human_size(free)} are free", hint=hint)


def trouble(path: Path, error: OSError) -> TrainyardError:
    """Return the error of a file or folder of this machine."""
    if full := disk_full(error, path):
        return full
    return StoreError(f"{path}: {error.strerror or error}", hint="What has arrived is kept: the same command goes on with it.")


def _unusable(dest: Path, error: OSError) -> TrainyardError:
    """Return the error of a place into which nothing can be fetched at all."""
    if full := disk_full(error, dest):
        return full
    at = f" ({os.fsdecode(error.filename)})" if error.filename and os.fsdecode(error.filename) != str(dest) else ""
    return UserError(f"nothing can be fetched to {dest}: {error.strerror or error}{at}; nothing was fetched", hint=_OTHER_PLACE)


def taken(paths: Sequence[Path]) -> UserError:
    """Return the error for files that are there with other bytes than those of the result."""
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    verb = "is there with other bytes than the result's" if len(paths) == 1 else "are there with other bytes than the result's"
    return UserError(f"{', '.join(map(str, paths[:_SHOWN]))}{more} {verb}; nothing there was changed", hint=_ELSEWHERE)


def twins(names: Iterable[str], *, case: bool, form: bool) -> tuple[str, str] | None:
    """Return two names that are one to a file system which ignores case, or the form of Unicode."""
    seen: dict[str, str] = {}
    for name in names:
        folded = unicodedata.normalize("NFC", name) if form else name
        folded = folded.casefold() if case else folded
        other = seen.setdefault(folded, name)
        if other != name:
            return other, name
    return None


def ignores(folder: Path) -> tuple[bool, bool]:
    """Tell whether the file system of a folder ignores case, and the form of Unicode; asked by a file that is removed again."""
    probe = folder / "probe-\u00e5A"
    probe.touch()
    try:
        return (folder / "probe-\u00e5a").exists(), (folder / "probe-a\u030aA").exists()
    finally:
        probe.unlink()


def _refuse_twins(folder: Path, names: Sequence[str]) -> None:
    case, form = ignores(folder)
    if pair := twins(names, case=case, form=form):
        raise UserError(
            f"the result has '{pair[0]}' and '{pair[1]}', which are one name to the file system of {folder.parent}; nothing was fetched",
            hint="Fetch it to a file system that keeps them apart, or each of them by its own name.",
        )


def _check(dest: Path, names: Sequence[str]) -> None:
    """Raise UserError when something else lies where a file or folder of the result must be."""
    folders = {dest}
    for name in names:
        path = dest / name
        kind = _kind(path)
        if stat.S_ISDIR(kind) or (kind and path.is_dir()):
            raise UserError(f"{path} is a folder, and the result has a file of that name; nothing was changed", hint=_ELSEWHERE)
        if kind and not (stat.S_ISREG(kind) or stat.S_ISLNK(kind)):
            raise UserError(f"{path} is no regular file, and would be replaced; nothing was changed", hint=_ELSEWHERE)
        for parent in path.parents:
            if parent in folders:
                break
            folders.add(parent)
    for folder in folders:
        if _kind(folder) and not folder.is_dir():
            what = "a file" if folder.exists() else "a link to nothing"
            raise UserError(f"{folder} is {what}, and the result needs a folder of that name; nothing was changed", hint=_ELSEWHERE)
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            raise _unusable(dest, PermissionError(errno.EACCES, "it may not be written to", str(folder)))


def _kind(path: Path) -> int:
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _free_name(names: Sequence[str]) -> str:
    """Return a name that no path of the result begins with, the same one at every try."""
    taken = {name.partition("/")[0].casefold() for name in names}
    name = FOLDER
    while name in taken:
        name += "_"
    return name


def _lock(folder: Path, waiting: Callable[[str], None]) -> int:
    while True:
        folder.mkdir(exist_ok=True)
        try:
            return acquire(folder / _LOCK, lambda: waiting(f"another process fetches into {folder.parent}; waiting for it"))
        except FileNotFoundError:
            continue  # whoever was done has just removed the folder
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
            # A file system without locks: the hashes still tell when two writers met.
            return os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
