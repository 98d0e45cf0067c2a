"""What an operator asks of the server, on a listener of its own: whether it is well.

Knows the connections, the protocols and the streams. Must never know the supervisor: it is given what it shows.
"""
