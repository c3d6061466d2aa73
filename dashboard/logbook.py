"""The dashboard's log, `dashboard.log` under MARQUEE_HOME: for whoever runs it, not for those who look at it."""

import datetime as dt

from data import home


def keep(text: str) -> str:
    """Append `text` with the time; returns the log's name for a notice."""
    path = home.home() / "dashboard.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as handle:
            handle.write(f"{dt.datetime.now(dt.UTC).isoformat(timespec='seconds')} {text}\n")
    except OSError:
        return "the terminal that runs the dashboard"
    return str(path)
