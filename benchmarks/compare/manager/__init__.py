"""Shared objects: what each process does with them, and how long it says that took."""
