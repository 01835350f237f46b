"""Runs a Pulumi program with an interpreter of its own. Started as a script by ``program.py``; imports the SDK and what is refused.

How it ended goes to the descriptor of ``argv[3]`` as JSON: stdout belongs to the program.
"""

import json
import os
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

OURS = Path(__file__).resolve().parents[2]
_TERMINATED = "Resource monitor has terminated, shutting down"


def is_terminated(error: Exception) -> bool:
    """Tell whether an error only says that the engine had stopped serving the program: the SDK has a text for it, and no type."""
    return _TERMINATED in str(error) or _TERMINATED in str(error.__cause__ or "")


def main() -> int:
    """Run ``argv[1]`` with the settings of ``argv[2]``."""
    # Not with the module: the engine reads is_terminated() from here, and a user waits for its start.
    import asyncio
    import logging

    import pulumi
    import pulumi.runtime as runtime

    program, request, verdict, lacks_command = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), bool(sys.argv[4])
    sys.argv = [program]
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    runtime.reset_options(**request)
    runtime.set_all_config(runtime.get_config_env(), runtime.get_config_secret_keys_env())
    _guard(request["root_directory"], verdict, lacks_command)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_default_executor(ThreadPoolExecutor(max(request["parallel"], 1) * 4))

    def run() -> None:
        runpy.run_path(program, run_name="__main__")

    try:
        loop.run_until_complete(runtime.run_in_stack(run))
    except pulumi.RunError as error:
        _say(verdict, "failed", "" if is_terminated(error) else str(error))
        return 1
    except SystemExit as error:
        if error.code not in (None, 0):
            _say(verdict, "failed", f"the program ended itself with code {error.code}")
            return 1
    except KeyboardInterrupt:
        _say(verdict, "failed", "the program was interrupted (KeyboardInterrupt)")
        return 1
    except Exception as error:
        _say(verdict, "failed", "" if is_terminated(error) else _traceback(error, request["root_directory"]))
        return 1
    _say(verdict, "done", "")  # an exit code of 0 alone may be an os._exit in the middle
    return 0


def _guard(root: str, verdict: int, lacks_command: bool) -> None:
    """Refuse what is not supported while the program builds its resources: nothing has been sent by then."""
    sys.path.append(str(OURS))
    try:
        from trainyard.engine.refusals import Guard, without_command_plugin
    finally:
        sys.path.remove(str(OURS))

    def refuse(error: Exception) -> None:
        _say(verdict, "refused", str(error))
        sys.stdout.flush()
        os._exit(1)  # what was built before must not be sent

    guard = Guard(Path(root))
    guard.on_refusal = refuse
    if lacks_command:
        guard.unserved = without_command_plugin
    guard.install()


def _say(verdict: int, kind: str, message: str) -> None:
    os.write(verdict, json.dumps({"kind": kind, "message": message}).encode())


def _traceback(error: Exception, root: str) -> str:
    """Return the error with the part of its traceback that is the program's."""
    import traceback

    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(root) and "site-packages" not in f.filename]
    lines = traceback.format_list(frames) + traceback.format_exception_only(type(error), error)
    return "the program failed:\n" + "".join(lines).rstrip()


if __name__ == "__main__":
    sys.path.pop(0)  # this folder is no place for the program's imports
    sys.path.insert(0, ".")
    sys.exit(main())
