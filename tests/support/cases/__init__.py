"""The table of raw requests: what arrives, what may come back, and where that is written.

An outcome is the statuses of the answers in their order. `!` at the end: the connection is closed and nothing that
came later was answered. `~` after a status: that answer is cut off. Alternatives stand between `|`; where the RFC
allows several and this server has chosen one, only that one stands here.

After each case a further request is sent, so that a message whose end was misjudged shows: it swallows that request
or lets something else be taken for one.
"""

from tests.support.cases import connections, content, heads  # noqa: F401
from tests.support.cases.case import CASES, GET, Case, fields, line, post

__all__ = ["CASES", "GET", "Case", "fields", "line", "post"]
