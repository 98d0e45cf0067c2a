import itertools

counter = itertools.count()
identity = object()
