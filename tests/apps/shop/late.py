identity = object()
