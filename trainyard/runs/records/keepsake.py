"""What a run cannot go on without, held in memory: ``.trainyard`` may be deleted while the run is driven (git clean)."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

from trainyard.files import is_gone, write_atomic
from trainyard.recipes.declaration import DECLARED
from trainyard.runs.context import CommandContext
from trainyard.runs.records.key import key_file
from trainyard.runs.records.record import RunFolder, RunRecord

_TIMES = 20


class FolderDeleted(FileNotFoundError):
    """A file of the run that is driven is not there any more."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.ENOENT, "was deleted while the run is driven", str(path))


class Keepsake:
    """The small files of a run: its record's folder, its SSH key. Log and metrics are fetched again from the pod."""

    def __init__(self) -> None:
        self._record: RunRecord | None = None
        self._files: dict[Path, bytes] = {}
        self._times = 0

    def take(self, context: CommandContext, record: RunRecord, folder: RunFolder) -> None:
        """Remember what is there."""
        self._record = record
        for path in (folder.config, folder.bundle / DECLARED, folder.bundle / "config.json", key_file(context, record)):
            with contextlib.suppress(OSError):
                self._files[path] = path.read_bytes()
        if record.reached("started") and not record.reached("trained"):
            for path in (folder.log, folder.metrics):
                with contextlib.suppress(OSError):
                    path.touch()
                    self._files[path] = b""

    def put_back(self, context: CommandContext, folder: RunFolder, error: BaseException) -> bool:
        """Write again what was deleted; False when nothing of it is missing, or it cannot be written.

        Whoever deletes may not be done yet: what is written is deleted once more, and then written once more. ``error`` is
        what was seen of it: after a FolderDeleted there may be nothing to write, because what comes next wrote it, or yet.
        """
        while self._record is not None and self._times < _TIMES:
            missing = [path for path in self._files if is_gone(path)]
            if not missing and not is_gone(folder.path / "run.json") and not isinstance(error, FolderDeleted):
                return False
            self._times += 1
            try:
                for path in missing:
                    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    write_atomic(path, self._files[path], durable=False, mode=0o600)
                folder.save(self._record)
            except FileNotFoundError:
                continue
            except OSError:
                return False
            context.ui.warn(f"{folder.path} was deleted while the run is driven: what it needs is written again, and it goes on")
            return True
        return False
