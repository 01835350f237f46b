"""Runs first on a machine of the user's, sent on stdin to whichever Python is there: lays out what is sent behind it, once for
each version, and calls its agent. Knows nothing but the standard library of Python 3.6.
"""

import datetime
import io
import json
import os
import shutil
import sys
import time
import typing
import zipfile

OLDEST = (3, 10)
KEPT = 40 * 86400


def main():  # type: () -> None
    """Answer one request: a line of JSON with sizes, the archive, the request itself."""
    head = json.loads(sys.stdin.buffer.readline().decode())
    packed = sys.stdin.buffer.read(head["size"])
    request = sys.stdin.buffer.read(head["request"])
    if len(request) < head["request"]:
        return  # the link broke while it was asked: nothing is done
    if sys.version_info < OLDEST or not sys.platform.startswith("linux"):
        what = f"Python {sys.version_info[0]}.{sys.version_info[1]} on {sys.platform}"
        return answer({"error": "unfit", "message": "it has " + what + "; Linux and Python 3.10 or newer are needed"})
    root = os.path.realpath(os.path.expanduser(head["folder"]))
    try:
        os.makedirs(root, 0o700, exist_ok=True)
        sys.path.insert(0, lay_out(root, head["version"], packed))
    except OSError as error:
        return answer({"error": "unfit", "message": f"{root}: {error.strerror or error}"})
    # What a Python of 3.10 lacks of what the modules name.
    for module, name, value in ((datetime, "UTC", datetime.timezone.utc), (typing, "Self", typing.Any)):  # noqa: UP017
        if not hasattr(module, name):
            setattr(module, name, value)
    from trainyard.clouds.ssh import agent

    answer(agent.act(root, json.loads(request.decode())))


def answer(value):  # type: (typing.Dict[str, typing.Any]) -> None
    """Say something in a frame: start-up files of the login may say something, too."""
    sys.stdout.write("\n\x1e" + json.dumps(value) + "\x1e\n")
    sys.stdout.flush()


def lay_out(root, version, packed):  # type: (str, str, bytes) -> str
    """Return the folder with this version's modules, made if it is not there; remove those that nobody has used for long."""
    folder = os.path.join(root, "agent", version)
    if not os.path.isdir(folder):
        fresh = folder + ".new-" + str(os.getpid())
        shutil.rmtree(fresh, ignore_errors=True)
        os.makedirs(fresh, 0o700)
        zipfile.ZipFile(io.BytesIO(packed)).extractall(fresh)
        try:
            os.rename(fresh, folder)
        except OSError:
            shutil.rmtree(fresh, ignore_errors=True)  # another one was faster
    os.utime(folder)
    for other in os.listdir(os.path.dirname(folder)):
        path = os.path.join(os.path.dirname(folder), other)
        if time.time() - os.stat(path).st_mtime > KEPT:
            shutil.rmtree(path, ignore_errors=True)
    return folder


if __name__ == "__main__":
    main()
