"""What runs on the pod: standard library only, Python >= 3.8; podprogram.py tells which modules are sent together."""
