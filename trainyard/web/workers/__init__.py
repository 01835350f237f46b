"""Machines that join by a token: the server's side, and the program that joins. All connections are opened by the machine."""
