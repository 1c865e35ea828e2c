"""Helpers without a topic of their own. Imports nothing of aioconc but errors, and no asyncio."""
