"""``python -m veil`` is ``veil``."""

from veil.cli.main import main

if __name__ == "__main__":
    main()
