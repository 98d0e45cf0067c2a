"""Floor 4: requests and applications. One request and its response is one exchange.

Knows the protocols, the streams and the kernel. Must never know which kind of scheduler drives the application,
nor whether its worker is a thread or a process: it asks the worker's `spawn`.
"""
