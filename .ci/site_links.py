"""Follows every link within a built site, anchors included. site_links.py FOLDER"""

import html.parser
import pathlib
import sys
import urllib.parse


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors.add(attrs.get("id"))
        self.links |= {attrs[name] for name in ("href", "src") if attrs.get(name)}


folder = pathlib.Path(sys.argv[1]).resolve()
pages = {path: Page(path.read_text()) for path in folder.rglob("*.html")}
wrong = []
for path, page in pages.items():
    # The printed book has the pages' links as they stand; the page of a 404 has the site's root.
    if path.name in ("print.html", "404.html", "toc.html"):
        continue
    for link in page.links:
        to = urllib.parse.urlsplit(link)
        if to.scheme or to.netloc:
            continue
        target = path if not to.path else (path.parent / urllib.parse.unquote(to.path)).resolve()
        anchor = urllib.parse.unquote(to.fragment)
        if not target.is_file() or anchor and target in pages and anchor not in pages[target].anchors:
            wrong.append(f"{path.relative_to(folder)}: {link}")
print(f"{len(pages)} pages, {sum(len(page.links) for page in pages.values())} links")
sys.exit("\n".join(sorted(wrong)) or 0)
