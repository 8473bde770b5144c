"""docs/options.md, made from the table: `python -m tests.options_page > docs/options.md`."""

from __future__ import annotations

from cyclone_sse.options import OPTIONS, Option

HEAD = """\
# Options

A value comes from the command line, else from the environment (`CYCLONE_SSE_HTTP_SECRET` for
`--http-secret`), else it is the default. An empty value means "not set", so that a file can list every
option, one a line: `twistd -n cyclone-sse $(cat cyclone-sse.conf)`.

| option | default | what |
| --- | --- | --- |
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(map(_line, OPTIONS))


def _line(row: Option) -> str:
    name = f"`--{row.name}`" + (f", `-{row.short}`" if row.short else "")
    text = row.help.partition(" [default:")[0].replace("|", "\\|").replace("*", "\\*")
    return f"| {name} | {f'`{row.default}`' if row.default else ''} | {text} |\n"


if __name__ == "__main__":
    print(page(), end="")
