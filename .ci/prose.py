"""Checks the width of prose: Markdown within 120 columns, comments of other files within 100; and
that no paragraph or item of Markdown has more than five lines.

Tables and code of Markdown, and links, may be longer. prose.py FILE…
"""

import pathlib
import re
import sys


def markdown(text):
    code, paragraph = False, 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            code = not code
        if code or not line.strip() or line.startswith(("|", "#", "    ", "```", "<!--")):
            paragraph = 0
        else:
            paragraph = 1 if re.match(r" *([-*]|[0-9]+\.) ", line) else paragraph + 1
        if paragraph == 6:
            yield number
        shown = re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "`", line))
        if not code and not line.startswith("|") and len(line) > 120 and len(shown) > 120:
            yield number


def comments(text, marks=("#", "//")):
    for number, line in enumerate(text.splitlines(), 1):
        is_comment = line.lstrip().startswith(marks) or " // " in line
        if is_comment and len(line) > 100 and "http" not in line:
            yield number


def rust(text):
    return comments(text, "//")


found = [
    f"{file}:{number}"
    for file in map(pathlib.Path, sys.argv[1:])
    for number in {".md": markdown, ".rs": rust}.get(file.suffix, comments)(file.read_text())
]
sys.exit("\n".join([*found, f"{len(found)} lines are too long, or the sixth of a paragraph"]) if found else 0)
