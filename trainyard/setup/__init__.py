"""From a fresh machine to a ready one: the packages, the tools, and the check of both.

Two levels, so that a package that is not there yet is never imported:

* standard library only, run by ``./bootstrap`` before anything is installed: console, pipsettings, starter,
  packages, s3server, bootstrap. ``s3server`` is also what ``storage/local.py`` asks for the S3 server's program.
* with the packages there, on the level of ``tasks.py``: tools, pulumicli, doctor.
"""
