"""The current folder of a server. It may be removed and made again while the server runs, as by a checkout of another
branch or a deployment. The process is then in a folder that nobody else sees, and has to go back by the path.

Owner: the supervisor's thread.
"""

import contextlib
import os


class CurrentFolder:
    def __init__(self) -> None:
        self.path = ""
        """Empty if there was none when the server was made."""
        with contextlib.suppress(OSError):
            self.path = os.getcwd()

    def return_to(self) -> bool:
        """Goes back to it if the process has lost its current folder. False if there is none now."""
        try:
            os.getcwd()
        except OSError:
            try:
                os.chdir(self.path)
            except OSError:
                return False
        return True
