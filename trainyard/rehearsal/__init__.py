"""Emulators of the clouds, built from their specifications; never reached by production code unasked."""
