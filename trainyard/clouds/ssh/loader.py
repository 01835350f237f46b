"""Runs first on a machine of the user's, sent on stdin to whichever Python is there: lays out what is sent behind it, once for
each version, and calls its agent. Knows nothing but the standard library of Python 3.6.
"""

import compileall
import datetime
import errno
import io
import json
import os
import shutil
import sys
import time
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
    if '"' in root:
        return answer({"error": "unfit", "message": root + ": a folder whose path has a quotation mark serves no sshd"})
    sys.dont_write_bytecode = True
    try:
        os.makedirs(root, 0o700, exist_ok=True)
        sys.path.insert(0, lay_out(root, head["version"], packed))
    except OSError as error:
        return answer({"error": "unfit", "message": f"{root}: {error.strerror or error}"})
    # What a Python of 3.10 lacks of what the modules name.
    if not hasattr(datetime, "UTC"):
        datetime.UTC = datetime.timezone.utc  # noqa: UP017
    from trainyard.clouds.ssh import agent

    answer(agent.act(root, json.loads(request.decode())))


def answer(value):  # type: (dict[str, object]) -> None
    """Say something in a frame: start-up files of the login may say something, too."""
    sys.stdout.write("\n\x1e" + json.dumps(value) + "\x1e\n")
    sys.stdout.flush()


def lay_out(root, version, packed):  # type: (str, str, bytes) -> str
    """Return the folder with this version's modules, made if it is not there; remove those that nobody has used for long."""
    folder = os.path.join(root, "agent", f"{version}-{sys.version_info[0]}{sys.version_info[1]}")
    if not os.path.isdir(folder):
        fresh = folder + ".new-" + str(os.getpid())
        try:
            os.makedirs(fresh, 0o700)
            zipfile.ZipFile(io.BytesIO(packed)).extractall(fresh)
            # Now or never: what a full disk cuts while it is written at a first import would break every later one.
            if not compileall.compile_dir(fresh, quiet=2):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.rename(fresh, folder)
        except OSError:
            shutil.rmtree(fresh, ignore_errors=True)
            if not os.path.isdir(folder):  # another one was not faster either
                raise
    os.utime(folder)
    for other in os.listdir(os.path.dirname(folder)):
        path = os.path.join(os.path.dirname(folder), other)
        if time.time() - os.stat(path).st_mtime > KEPT:
            shutil.rmtree(path, ignore_errors=True)
    return folder


if __name__ == "__main__":
    main()
