"""Entry point of `hipedge` and `python -m hipedge`."""


def main() -> None:
    """Run the command line, which is imported here: worker processes import this module too."""
    from hipedge.cli import main as run

    run()


if __name__ == "__main__":
    main()
