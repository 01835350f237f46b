"""Modal: sandboxes of its official SDK, each one container whose command is the run; no SSH.

Only ``cloud`` and ``sdk`` import the SDK, which takes a second, and ``grpcstatus`` its transport: the emulator needs prices alone.
"""
