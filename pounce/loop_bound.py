"""Does the application hold an object that belongs to one event loop?

Such an object fails, hangs or worse when several worker threads share it. What counts is public: the classes of
asyncio and of well-known libraries. Only what is imported already is looked at, and only once or twice, at start.
"""

import gc
import sys

# Module, and the names of its classes; a name may lie deeper (`aio.Channel`).
CLASSES = {
    "asyncio": "Lock Event Condition Semaphore Barrier Queue",
    "anyio._core._synchronization": "LockAdapter EventAdapter SemaphoreAdapter CapacityLimiterAdapter",
    "anyio": "Lock Event Condition Semaphore CapacityLimiter",
    "aiohttp": "ClientSession BaseConnector",
    "aiokafka": "AIOKafkaProducer AIOKafkaConsumer",
    "aiomysql": "Pool",
    "aiopg": "Pool",
    "aioredis": "Redis ConnectionPool",
    "aiosqlite": "Connection",
    "aio_pika": "RobustConnection Connection",
    "asyncpg": "Pool Connection",
    "asyncpg.pool": "Pool",
    "elasticsearch": "AsyncElasticsearch",
    "grpc.aio": "Channel",
    "httpx": "AsyncClient",
    "motor.motor_asyncio": "AsyncIOMotorClient",
    "nats": "NATS",
    "neo4j": "AsyncDriver",
    "psycopg": "AsyncConnection",
    "psycopg_pool": "AsyncConnectionPool",
    "pymongo": "AsyncMongoClient",
    "redis.asyncio": "Redis ConnectionPool",
    "sqlalchemy.ext.asyncio": "AsyncEngine",
    "tortoise": "Tortoise",
    "websockets": "ClientConnection",
}


def find() -> str | None:
    """The class of the first loop-bound object there is, as a person writes it; None when there is none."""
    classes: dict[type, str] = {}
    for module, names in CLASSES.items():
        if module in sys.modules:
            for name in names.split():
                found = getattr(sys.modules[module], name, None)
                if isinstance(found, type):
                    public = module.partition("._")[0]
                    classes.setdefault(found, f"{public}.{name.removesuffix('Adapter')}")
    wanted = tuple(classes)
    for thing in gc.get_objects() if wanted else ():
        # Not isinstance: it would ask objects that pretend (mocks, proxies) what they are.
        if issubclass(type(thing), wanted):
            return next(classes[base] for base in type(thing).__mro__ if base in classes)
    return None
