"""`python -m adapters_xling` is `xling`."""

from adapters_xling.cli import main

main()
