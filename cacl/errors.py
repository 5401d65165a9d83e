"""The one error that is meant for a person to read."""


class UserError(Exception):
    """Bad input. Its message is one clear sentence that names the file, the field and the fix.

    `launch.main` prints it without a traceback and exits with `exit_code`.
    """

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code
