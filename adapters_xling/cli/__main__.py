"""`python -m adapters_xling.cli` is `xling`."""

from adapters_xling.cli import main

main()
