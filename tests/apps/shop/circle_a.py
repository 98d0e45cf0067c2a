from . import circle_b


def a():
    return circle_b.b()
