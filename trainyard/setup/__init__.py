"""From a fresh machine to a ready one: the packages, the tools, and the check of both.

Two levels, so that a package that is not there yet is never imported (tests/test_imports.py holds them apart):

* just above the ground floor, standard library only, run by ``./bootstrap`` before anything is installed: console,
  pipsettings, packages, release, s3server, bootstrap. ``s3server`` is also what ``storage/local.py`` asks
  for the S3 server's program, console and pipsettings are what ``recipes/venvs.py`` calls uv with.
* on the level of the verbs, with the packages there: tools, pulumicli, doctor, check, machine, stackneeds.
"""
