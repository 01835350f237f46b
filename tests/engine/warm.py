"""All that an engine imports, and the key of the test stacks: loaded once, in the process that engines are forked from.

That process has no other thread: a fork takes along no lock that a thread held.
"""

import os
import threading

import pulumi
import pulumi.runtime

from tests.engine.bench import SALT
from trainyard.engine import adopt, cli, configure, deletes, direct, foresee, monitor, plugin, refresh, secrets, server, stubs, transfer

LOADED = (adopt, cli, configure, deletes, direct, foresee, monitor, plugin, refresh, secrets, server, stubs, transfer, pulumi.runtime)
KEY = secrets._derive("x", secrets._split_salt(SALT)[0])  # a million rounds once, not once a run
ALONE = threading.active_count() == 1 and len(os.listdir("/proc/self/task")) == 1
