"""docs/options.md, made from the table of options by `make docs`."""

from __future__ import annotations

import re

from cyclone_sse.options import OPTIONS, Option

HEAD = """\
# Options

All options, with their defaults. An option can be set on the command line, in the environment
(`CYCLONE_SSE_HTTP_SECRET` for `--http-secret`) or in the file that `--config` names; if it is set in several
of these, the first one counts. An empty value means "not set", so that a file can list every option, one on
each line. The first command shows all options; the other two read a file:

```sh
twistd -n cyclone-sse -h
twistd -n cyclone-sse --config=cyclone-sse.conf
twistd -n cyclone-sse $(cat cyclone-sse.conf)
```

`make docs` writes this page from the table in `cyclone_sse/options.py`.

| option | default | meaning |
| --- | --- | --- |
"""

_DERIVED = re.compile(r" \[default: (.*)\]")  # a default in a help text that is no fixed value


def page() -> str:
    """The whole page."""
    return HEAD + "".join(map(_line, OPTIONS))


def _line(row: Option) -> str:
    name = f"`--{row.name}`" + (f", `-{row.short}`" if row.short else "")
    derived = _DERIVED.search(row.help)
    default = derived[1] if derived else f"`{row.default}`" if row.default else ""
    text = _DERIVED.sub("", row.help)
    return f"| {name} | {_escape(default)} | {_escape(text)} |\n"


def _escape(text: str) -> str:
    """Escape the text for Markdown, except in backticks."""
    return text if text.startswith("`") else text.replace("|", "\\|").replace("*", "\\*")


if __name__ == "__main__":
    print(page(), end="")
