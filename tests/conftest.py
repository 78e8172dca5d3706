"""For every test: no event loop is made behind its back.

pytest-asyncio asks for the current loop after each test; where none was ever set, asyncio makes one that nobody closes,
and the collector's ResourceWarning then fails some later, innocent test.
"""

import asyncio

asyncio.set_event_loop(None)
