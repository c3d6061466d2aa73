"""The colours of what is drawn, in both themes; without the library that draws charts, which takes its time to load."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Colours:
    text: str
    muted: str
    line: str
    accent: str
    history: str


DARK = Colours("#ECEDEE", "#9BA1A6", "#2A2D36", "#E5484D", "#C9CDD2")
LIGHT = Colours("#1B1D22", "#5F6670", "#E4E4E0", "#C4323A", "#3B3F46")


def colours(dark: bool) -> Colours:
    return DARK if dark else LIGHT
