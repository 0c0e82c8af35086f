"""Lets ``python -m lit_dist`` be ``lit-dist``."""

from lit_dist.cli.main import main

if __name__ == "__main__":
    main()
