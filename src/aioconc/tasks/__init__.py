"""Structured concurrency: scopes, groups, supervision."""

__all__: list[str] = []
