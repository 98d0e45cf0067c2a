"""A shop on FastAPI and SQLAlchemy with 30 routes, as people write it: what `python -m stress reload` edits."""
