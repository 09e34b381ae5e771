"""mdBook's preprocessor: pages may stand outside docs/, and links are those of the repository.

A page such as ../SECURITY.md becomes security.html of the site. A link to a page of the book leads
there, a link to anything else of the repository to where that is shown.
"""

import json
import os
import re
import sys

REPOSITORY = "https://github.com/keda-kinesis-scaler/keda-kinesis-scaler"
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def chapters(items):
    for item in items:
        if isinstance(item, dict) and "Chapter" in item:
            yield item["Chapter"]
            yield from chapters(item["Chapter"]["sub_items"])


def place(source):
    """Where the page of a file of the repository stands in the site."""
    if source == "README.md":
        return "index.md"
    if source.startswith("docs/"):
        return source.removeprefix("docs/")
    folder, name = os.path.split(source)
    return (os.path.basename(folder) if name == "README.md" else name.removesuffix(".md").lower()) + ".md"


def shown(target):
    """Where the repository shows a file or a folder."""
    return f"{REPOSITORY}/{'tree' if os.path.isdir(target) else 'blob'}/main/{target}"


def link(source, target, pages):
    """A link of `source`, as the site has it."""
    if target.startswith(f"{REPOSITORY}/blob/main/"):
        path = target.removeprefix(f"{REPOSITORY}/blob/main/")
    elif re.match(r"[a-z]+:|#", target):
        return target
    else:
        path = os.path.join(os.path.dirname(source), target)
    path, _, anchor = path.partition("#")
    path = os.path.normpath(path)
    here = os.path.dirname(pages[source])
    page = pages.get(path) or pages.get(os.path.join(path, "README.md"))
    if page:
        path = os.path.relpath(page, here)
    elif path.startswith("docs/") and os.path.isfile(path):
        path = os.path.relpath(path.removeprefix("docs/"), here)
    else:
        path = shown(path)
    return path + ("#" + anchor if anchor else "")


if sys.argv[1:2] == ["supports"]:
    sys.exit(0)
_, book = json.load(sys.stdin)
items = book["items"] if "items" in book else book["sections"]
written = [chapter for chapter in chapters(items) if chapter["path"]]
sources = {id(chapter): os.path.normpath(os.path.join("docs", chapter["source_path"])) for chapter in written}
pages = {source: place(source) for source in sources.values()}
assert len(set(pages.values())) == len(pages), "two pages of one name"
for chapter in written:
    source = sources[id(chapter)]
    chapter["path"] = chapter["source_path"] = pages[source]
    chapter["content"] = LINK.sub(
        lambda found: found[1] + link(source, found[2], pages) + found[3], chapter["content"]
    )
json.dump(book, sys.stdout)
