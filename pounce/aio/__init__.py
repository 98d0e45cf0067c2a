"""asyncio for applications that need it. The only room that may import asyncio, and only after the application has."""
