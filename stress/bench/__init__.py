"""What Pounce costs, beside what other servers cost, and the floor under all of them.

compare.py    the command `bench`: which servers, which workloads, in which order
workloads.py  what is asked of a server, and what it must answer
runs.py       how one run of a workload is measured
results.py    medians, ratios, tables, JSON
servers.py    the command line of each server
floor.py      the least that a server on Python's selectors can cost
profile.py    the cost of a request, stage by stage
ws.py         the cost of WebSocket messages and idle WebSockets
database.py   FastAPI over PostgreSQL
"""
