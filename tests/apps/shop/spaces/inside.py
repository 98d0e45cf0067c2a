"""In a namespace package: the folder has no __init__.py."""

identity = object()
