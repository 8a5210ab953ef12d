"""What others have said, on a terminal: names, errors and types may hold anything, also what a terminal obeys."""

from rich.text import Text


def printable(text: str) -> str:
    return "".join(character if character.isprintable() or character in "\n\t" else "\ufffd" for character in text)


def shown(text: str, style: str = "") -> Text:
    """As it is: no word of it is a mark-up or a command."""
    return Text(printable(text), style=style)
