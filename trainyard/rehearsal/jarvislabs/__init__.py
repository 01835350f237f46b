"""An emulator of JarvisLabs' API, made from what its own client asks and takes: no specification is published."""

from trainyard.rehearsal.jarvislabs.emulated import JARVISLABS

__all__ = ["JARVISLABS"]
