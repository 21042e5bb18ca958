"""``python -m miase``."""

from miase.cli import main

main()
