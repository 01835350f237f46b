"""Files that run on the pod: standard library only, one file each, Python >= 3.8."""
