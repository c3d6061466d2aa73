"""Whether a change may be made: what is asked before everything that a person can change in the dashboard.

Commands ask nobody. The dashboard sets a question (dashboard/access.py), and then no function that writes on a person's
behalf does so before it is answered: events, reviews and replies in the database, background jobs, the run in use.
"""

from collections.abc import Callable

_question: Callable[[], None] | None = None


def ask_first(question: Callable[[], None]) -> None:
    """Have `question` asked before each change; it raises a UserError where the change must not be made."""
    global _question
    _question = question


def check() -> None:
    """Ask.

    Raises:
        UserError: whoever asks for the change may not make it.
    """
    if _question is not None:
        _question()
