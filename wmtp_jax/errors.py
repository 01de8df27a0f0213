"""The root of every error that the person at the keyboard can correct."""


class UserError(Exception):
    """What was wrong, where, what was expected and what to do, in one sentence.

    Each subsystem derives one exception from it. Entry points print the sentence and leave with exit code 2;
    anything else is a defect of ours and keeps its traceback.
    """
