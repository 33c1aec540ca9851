"""Writes every dashboard as JSON into a folder: python3 render.py FOLDER"""

import pathlib
import sys

from dashboards import DASHBOARDS
from grafana_foundation_sdk.cog.encoder import JSONEncoder


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for board in DASHBOARDS:
        built = board.build()
        text = JSONEncoder(sort_keys=True, indent=2).encode(built)
        (folder / f"{built.uid}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
