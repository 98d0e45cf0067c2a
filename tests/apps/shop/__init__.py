"""An application with the shapes that copying must get right: packages, circles, late and dynamic imports."""

import shop.numbers  # noqa: F401
from shop import circle_a  # noqa: F401
