"""What stands around a page: metadata in its head, licence and citation at a chapter's foot.

`book_repository` in `_config.yml` names the repository, https://github.com/OWNER/NAME. Then pages
have links to it, to edit, to report and to launch, and name the address of GitHub Pages as their
own, with a sitemap; `html_baseurl` names another one. Without it they have none of these.
"""

import re
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

LONGEST = 200  # characters of a description
BRANCH = "notebooks"  # of the repository, where the notebooks lie that the buttons open
# where the source of a page is, from what the site was built of
SOURCE_OF = (
    "{{ file_name.replace('.ipynb', '.md') if file_name.startswith('chapters/')"
    " else 'book/' + file_name }}"
)


def links(app: Sphinx, config: Config) -> None:
    """At ``config-inited``: the theme's buttons and the site's address, with a repository."""
    if not config.book_repository:
        return
    owner, name = _owner_and_name(config)
    config.html_baseurl = config.html_baseurl or f"https://{owner.lower()}.github.io/{name}/"
    config.html_theme_options |= {
        "repository_url": config.book_repository,
        "use_repository_button": True,
        "use_edit_page_button": True,
        "use_issues_button": True,
    }
    config.html_context |= {
        "edit_page_provider_name": "GitHub",
        "edit_page_url_template": f"{config.book_repository}/edit/main/{SOURCE_OF}",
    }


def launch(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """At ``html-page-context``: a chapter's buttons that open its notebook elsewhere.

    The notebooks lie on the branch that `publish.yml` makes of each published site.
    """
    if not app.config.book_repository or not page.startswith("chapters/"):
        return
    notebook = f"{Path(page).name}.ipynb"
    place = "/".join(_owner_and_name(app.config))
    addresses = {
        "Colab": f"https://colab.research.google.com/github/{place}/blob/{BRANCH}/{notebook}",
        "Binder": f"https://mybinder.org/v2/gh/{place}/{BRANCH}?urlpath=lab/tree/{notebook}",
    }
    buttons = [
        {
            "type": "link",
            "url": url,
            "text": name,
            "tooltip": f"Open in {name}",
            "icon": f"_static/images/logo_{name.lower()}.{'png' if name == 'Colab' else 'svg'}",
        }
        for name, url in addresses.items()
    ]
    group = {"type": "group", "label": "launch-buttons", "icon": "fas fa-rocket"}
    context.setdefault("header_buttons", []).append(
        {**group, "tooltip": "Open the notebook elsewhere", "buttons": buttons}
    )


def _owner_and_name(config: Config) -> tuple[str, str]:
    *_, owner, name = config.book_repository.rstrip("/").split("/")
    return owner, name


def description(doctree: nodes.document | None) -> str:
    """The first paragraph of a page in plain words, cut at a word."""
    for part in doctree.findall(nodes.paragraph) if doctree else ():
        text = " ".join(part.astext().replace("\\", "").split())
        if len(text) > 40:
            return text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0] + " …"
    return ""


def describe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """At ``html-page-context``: add the metadata, and the foot of a chapter."""
    book = app.config.html_title
    title = re.sub(r"<[^>]+>", "", context.get("title", "")) or book
    title = re.sub(r"^[\d.]+\s+", "", title)
    facts = {"og:title": title, "og:site_name": book, "og:type": "article"}
    names = {}
    if words := description(doctree):
        names["description"] = facts["og:description"] = words
    if app.config.html_baseurl:
        facts["og:url"] = f"{app.config.html_baseurl.rstrip('/')}/{page}.html"
    if page.startswith("chapters/"):
        names |= {
            "citation_title": title,
            "citation_inbook_title": book,
            "citation_author": app.config.author,
            "citation_publication_date": app.config.copyright,
        }
        context["body"] += foot(Path(page).name, title, app.config)
    tags = [f'<meta name="{name}" content="{escape(text)}">' for name, text in names.items()]
    tags += [f'<meta property="{name}" content="{escape(text)}">' for name, text in facts.items()]
    context["metatags"] = context.get("metatags", "") + "\n" + "\n".join(tags) + "\n"


def foot(name: str, title: str, config: Config) -> str:
    """Licence, and how to cite a chapter."""
    address = config.html_baseurl or config.book_repository
    fields = {
        "author": f"{{{config.author}}}",
        "title": title,
        "booktitle": config.html_title,
        "year": config.copyright,
        **({"url": address} if address else {}),
    }
    entry = "".join(f"  {key} = {{{value}}},\n" for key, value in fields.items())
    bibtex = escape(f"@incollection{{zotk-{name.replace('_', '-')},\n{entry}}}")
    return (
        '<div class="chapter-foot"><p>Text and figures: CC BY 4.0. Code: MIT.</p>'
        f"<details><summary>Cite this chapter</summary><pre>{bibtex}</pre></details></div>"
    )


def finish(app: Sphinx, error: Exception | None) -> None:
    """At ``build-finished``: a page for addresses that do not exist; a sitemap."""
    if error is not None or app.builder.format != "html":
        return
    base = app.config.html_baseurl.rstrip("/")
    home = f"{base}/" if base else "index.html"
    Path(app.outdir, "404.html").write_text(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><title>No such page</title></head>'
        '<body style="font-family: sans-serif; margin: 2rem; background: Canvas">'
        "<main><h1>No such page</h1>"
        f'<p>Perhaps it has moved: see the <a href="{home}">title page</a>.</p>'
        "</main></body></html>\n",
        encoding="utf-8",
    )
    if base:
        pages = "".join(
            f"<url><loc>{escape(f'{base}/{name}.html')}</loc></url>\n"
            for name in sorted(app.env.found_docs)
        )
        head = '<?xml version="1.0" encoding="UTF-8"?>\n'
        space = "http://www.sitemaps.org/schemas/sitemap/0.9"
        text = f'{head}<urlset xmlns="{space}">\n{pages}</urlset>\n'
        Path(app.outdir, "sitemap.xml").write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register."""
    app.add_config_value("book_repository", "", "html", str)
    app.connect("config-inited", links)
    app.connect("html-page-context", describe)
    app.connect("html-page-context", launch, priority=502)  # after the theme's buttons (501)
    app.connect("build-finished", finish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
