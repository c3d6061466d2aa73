"""The one exception for a user's mistake."""


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one sentence that names the file, row or flag and the fix. Commands print it
    and exit with code 2; the dashboard shows it as a notice. Anything else is a defect of ours.
    """
