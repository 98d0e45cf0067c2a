"""Does the application hold an object that belongs to one event loop?

Such an object fails, hangs or worse when several worker threads share it. What counts is public: the classes of
asyncio and of well-known libraries. Only what is imported already is looked at, and only once or twice, at start.
"""

import gc
import sys

# Module, and the names of its classes.
CLASSES = {
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
    "anyio._core._synchronization": "LockAdapter EventAdapter SemaphoreAdapter CapacityLimiterAdapter",
    "anyio": "Lock Event Condition Semaphore CapacityLimiter",
    "asyncio": "Queue Condition Semaphore Barrier Lock Event",
}


def find() -> str | None:
    """The class of a loop-bound object there is, as a person writes it; None when there is none."""
    classes: dict[type, str] = {}
    for module, names in CLASSES.items():
        if module in sys.modules:
            for name in names.split():
                found = getattr(sys.modules[module], name, None)
                if isinstance(found, type):
                    public = module.partition("._")[0]
                    classes.setdefault(found, f"{public}.{name.removesuffix('Adapter')}")
    wanted = tuple(classes)
    held: set[str] = set()
    for thing in gc.get_objects() if wanted else ():
        # Not isinstance: it would ask objects that pretend (mocks, proxies) what they are.
        if issubclass(type(thing), wanted):
            held.update(classes[base] for base in type(thing).__mro__ if base in classes)
    # In the order of the table: a pool says more than the lock inside it.
    return next((name for name in classes.values() if name in held), None)
