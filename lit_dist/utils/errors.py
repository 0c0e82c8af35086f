"""The one error class for what a user can mend."""


class InputError(ValueError):
    """Something that the user gave is wrong: a setting, a file or a row.

    The message says what, where, and what to do about it. The command line prints it without a traceback.
    """
