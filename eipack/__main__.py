"""`python -m eipack`: the command line of the interpreter at hand."""

from eipack.cli import main

if __name__ == "__main__":
    main()
