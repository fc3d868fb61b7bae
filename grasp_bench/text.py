"""Text that others wrote, made harmless before it is shown."""


def printable(text: str, also: str = "") -> str:
    r"""Return text that cannot steer a terminal: every character that is not printable, or in ``also``, as \uXXXX."""
    if text.isprintable() and not also:
        return text
    return "".join(each if each.isprintable() and each not in also else f"\\u{ord(each):04x}" for each in text)
