"""One worker: an event loop, the connections that it accepts, and their balance with its siblings'."""
