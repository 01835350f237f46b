"""One seed for every sample that the suite draws: printed, and the same in each worker (they collect the same tests)."""

import contextlib
import gc
import importlib.util
import os
import random
import signal
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.measured import MEASURED

pytest_plugins = ("tests.here",)

# Workers of pytest-xdist inherit the environment of the process that draws it.
SEED = int(os.environ.setdefault("TRAINYARD_TEST_SEED", str(random.SystemRandom().randrange(10**6))))

# ./bootstrap names its checkout to everything it starts; the tests make checkouts of their own.
os.environ.pop("TRAINYARD_PROJECT_DIR", None)
# No test asks the Hub: nobody listens there.
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"

# Many containers forbid Python to keep what it compiles. The tests start some thousand processes, and each would compile
# Trainyard again: a fifth of their time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell starts what it puts into the background with Ctrl-C ignored, and so it would be for every verb that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    return f"samples drawn with TRAINYARD_TEST_SEED={SEED}"


def pytest_addoption(parser: pytest.Parser) -> None:
    help_ = "the S3 server that tests/storage runs against (invoke servers.minio, invoke servers.ceph)"
    parser.addoption("--store", choices=("versitygw", "minio", "ceph"), default="versitygw", help=help_)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Load the tests without looking for garbage, and let each worker begin elsewhere: what one has compiled the others find."""
    gc.disable()
    worker = getattr(session.config, "workerinput", {"workerid": "gw0", "workercount": 1})
    modules = _modules(session.config)
    begin = len(modules) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    for name in modules[begin:] + modules[:begin] if worker["workercount"] > 1 else ():
        with contextlib.suppress(Exception, pytest.skip.Exception):  # pytest loads it again, and says what it is
            importlib.import_module(name)
    result = yield
    gc.freeze()
    gc.enable()
    return result


def _modules(config: pytest.Config) -> list[str]:
    """Return the names of the modules that hold the tests which were asked for."""
    top = config.rootpath
    asked = [Path(config.invocation_params.dir, word.partition("::")[0]) for word in config.args]
    files = [file for path in asked for file in ([path] if path.is_file() else sorted(path.rglob("test_*.py")))]
    return [".".join(file.relative_to(top).with_suffix("").parts) for file in files if file.is_relative_to(top)]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs a package that is not here, aloud. Measure no branches where a test outside of MEASURED runs."""
    for item in items:
        if (needed := item.get_closest_marker("extras")) and importlib.util.find_spec(needed.args[0]) is None:
            item.add_marker(pytest.mark.skip(reason=f"{needed.args[0]} is not installed: invoke extras"))
    if config.getoption("cov_source", None):
        for item in items:
            if not item.nodeid.startswith(MEASURED):
                item.add_marker("no_cover")
