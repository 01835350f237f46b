"""YAML and JSON as the engine reads and writes it: the package's own reader, which knows the place of every node (see ``hook.py``)."""

from trainyard.jsontext import parse_json
from trainyard.nearest import suggest
from trainyard.yamlfile import Map, dump, load_map, parse

__all__ = ["Map", "dump", "load_map", "parse", "parse_json", "suggest"]
