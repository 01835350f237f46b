"""Runs a Pulumi program with an interpreter of its own. Started as a script by ``program.py``; imports only the SDK."""

import asyncio
import json
import logging
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor


def main() -> int:
    """Run ``argv[1]`` with the settings of ``argv[2]``."""
    import pulumi
    import pulumi.runtime as runtime

    program, given = sys.argv[1], json.loads(sys.argv[2])
    sys.argv = [program]
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    runtime.reset_options(**given)
    runtime.set_all_config(runtime.get_config_env(), runtime.get_config_secret_keys_env())
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_default_executor(ThreadPoolExecutor(max(given["parallel"], 1) * 4))

    def run() -> None:
        runpy.run_path(program, run_name="__main__")

    try:
        loop.run_until_complete(runtime.run_in_stack(run))
    except pulumi.RunError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.path.pop(0)  # this folder is no place for the program's imports
    sys.path.insert(0, ".")
    sys.exit(main())
