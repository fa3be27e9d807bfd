#!/usr/bin/env python3
"""Records first-run.svg anew: a real session, in a clone of this project, as a terminal shows it.

    pip install rich pyte && python3 docs/pictures/first-run.py

`imgbuild` must be on the PATH. Builds an image: needs what a build needs.
"""

import fcntl
import os
import pty
import struct
import subprocess
import tempfile
import termios
from itertools import groupby
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

COLUMNS, ROWS = 110, 200
PROJECT = Path(__file__).resolve().parents[2]
PICTURE = PROJECT / "docs/pictures/first-run.svg"

# Each with the code that it ends with.
COMMANDS = [
    ("imgbuild build haproxy --site campus --format lxc", 0),
    ("sed -i '/^.images.haproxy/a max_conections = 40000' overlays/campus/overlay.toml", 0),
    ("imgbuild check", 1),
    ("sed -i s/conections/connections/ overlays/campus/overlay.toml", 0),
    ("imgbuild diff HEAD:haproxy --site campus", 0),
    ("imgbuild build haproxy --site campus --format lxc", 0),
]

# Legible on light and dark pages; the same contrast on all colours (WCAG AA on the background).
THEME = TerminalTheme(
    (24, 26, 31),
    (220, 223, 228),
    [(24, 26, 31), (240, 113, 120), (152, 195, 121), (229, 192, 123),
     (97, 175, 239), (198, 140, 230), (86, 182, 194), (220, 223, 228)],
    [(128, 135, 148), (240, 113, 120), (152, 195, 121), (229, 192, 123),
     (97, 175, 239), (198, 140, 230), (86, 182, 194), (255, 255, 255)],
)

# As rich's own, without its title bar and the fonts that it would fetch.
FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title">
<title id="title">A terminal: an image is built, a slip of the pen is found, the effect of a value is shown, and the image is built again</title>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
<rect fill="#181a1f" width="100%" height="100%" rx="8"/>
<g transform="translate({terminal_x}, 14)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def run(command: str, code: int, directory: str, stream: pyte.ByteStream) -> None:
    """Runs a command in a terminal, and shows it and what it writes on `stream`."""
    stream.feed(f"\x1b[90m$\x1b[0m \x1b[1m{command}\x1b[0m\r\n".encode())
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        ["bash", "-c", command], cwd=directory, env=environment,
        stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal,
    )
    os.close(terminal)
    while True:
        try:
            read = os.read(controller, 65536)
        except OSError:
            break
        if not read:
            break
        stream.feed(read)
    if process.wait() != code:
        raise SystemExit(f"{command}: {process.returncode}")


def colour(name: str) -> str | None:
    if name == "default":
        return None
    names = {"brown": "yellow"}
    bright = name.startswith("bright")
    plain = name.removeprefix("bright")
    plain = names.get(plain, plain)
    return f"bright_{plain}" if bright else plain


def text(screen: pyte.Screen) -> Text:
    """What stands on the screen, with its colours."""
    lines = []
    for row in range(screen.cursor.y):
        line = Text()
        cells = (screen.buffer[row][column] for column in range(COLUMNS))
        for (foreground, bold), alike in groupby(cells, lambda cell: (cell.fg, cell.bold)):
            style = Style(color=colour(foreground), bold=bold)
            line.append("".join(cell.data for cell in alike), style)
        line.rstrip()
        lines.append(line)
    return Text("\n").join(lines)


def main() -> None:
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    with tempfile.TemporaryDirectory() as directory:
        clone = f"{directory}/imgbuild"
        subprocess.run(["git", "clone", "--quiet", PROJECT, clone], check=True)
        for command, code in COMMANDS:
            run(command, code, clone, stream)
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)
    console.print(text(screen), soft_wrap=False, highlight=False)
    picture = console.export_svg(theme=THEME, code_format=FORMAT, unique_id="terminal")
    PICTURE.write_text(picture)


if __name__ == "__main__":
    main()
