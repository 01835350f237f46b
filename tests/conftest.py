"""One seed for every sample that the suite draws: printed, and the same in each worker (they collect the same tests)."""

import os
import random

# Workers of pytest-xdist inherit the environment of the process that draws it.
SEED = int(os.environ.setdefault("TRAINYARD_TEST_SEED", str(random.SystemRandom().randrange(10**6))))

# ./bootstrap names its checkout to everything it starts; the tests make checkouts of their own.
os.environ.pop("TRAINYARD_PROJECT_DIR", None)


def pytest_report_header() -> str:
    return f"samples drawn with TRAINYARD_TEST_SEED={SEED}"
