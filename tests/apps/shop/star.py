__all__ = ["starred"]
starred = object()
