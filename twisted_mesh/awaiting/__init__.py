"""The code behind aio.Mesh: calls that an asyncio loop awaits while the reactor runs in another thread."""
