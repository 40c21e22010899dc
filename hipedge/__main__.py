"""`python -m hipedge` is `hipedge`."""

from hipedge.cli import main

if __name__ == "__main__":
    main()
