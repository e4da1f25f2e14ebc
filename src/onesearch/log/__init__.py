"""Raw logs → canonical tables → what was known at each search's own time."""
