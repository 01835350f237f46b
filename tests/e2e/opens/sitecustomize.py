"""On PYTHONPATH: each Python process notes whenever it opens a settings file, into the file that OPENS_LOG names."""

import os
import re
import sys


def note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and re.search(r"/Pulumi\.\w+\.yaml$", str(arguments[0])):
        with open(os.environ["OPENS_LOG"], "a", encoding="utf-8") as log:
            log.write(f"{arguments[0]}\n")


if "OPENS_LOG" in os.environ:
    sys.addaudithook(note)
