from . import circle_a


def b():
    return circle_a.__name__
