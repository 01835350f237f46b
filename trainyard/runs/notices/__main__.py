"""The process that sends what waits, after and beside whoever has put it there: ``python -m trainyard.runs.notices FOLDER``.

Addresses and key come by stdin: neither a command line nor an environment shows them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from trainyard.jsontext import parse_json
from trainyard.runs.notices.outbox import Outbox
from trainyard.runs.notices.sender import send_waiting
from trainyard.secret import Secret

if __name__ == "__main__":
    handed = parse_json(sys.stdin.buffer.read())
    send_waiting(
        Outbox(Path(sys.argv[1])),
        {name: Secret(address) for name, address in handed["addresses"].items()},
        Secret(handed["key"]) if handed["key"] else None,
    )
