"""``python -m diglot``: the command line."""

from diglot.cli import main

if __name__ == "__main__":
    main()
