"""Where tables come from, what they look like and where everything that Marquee makes is kept."""
