"""Plays cog in a rehearsal's pod: calls the wrapper's function with the inputs of a request, as Replicate's own server does.

Runs ON the pod, out of one folder with the wrapper (``run.py``) and the request (``request.json``). Standard library only.
"""

from __future__ import annotations

import importlib
import json
import pathlib
import sys
import types


def describe(description: str = "") -> str:
    """Stand for cog's Input."""
    return description


def main(folder: pathlib.Path) -> None:
    """Call what the request is about; what it raises ends this program with 1, as a job of Replicate's fails."""
    asked = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    (folder / "request.json").unlink()  # its secrets are in memory now
    cog = types.ModuleType("cog")
    fields = types.SimpleNamespace
    vars(cog).update(BaseModel=fields, BasePredictor=object, Input=describe, Path=pathlib.Path, Secret=fields)
    sys.modules["cog"] = cog
    sys.path.insert(0, str(folder))
    wrapper = importlib.import_module("run")
    secrets = asked["input"].pop("secrets")
    inputs = {**asked["input"], "secrets": fields(get_secret_value=lambda: secrets)}  # as cog's Secret shows its value
    wrapper.train(**inputs) if asked["kind"] == "trainings" else wrapper.Predictor().predict(**inputs)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
