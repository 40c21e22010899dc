"""`python -m hipedge` is `hipedge`."""


def main() -> None:
    """Run the command line. A worker process imports this file too, and needs no command line."""
    from hipedge.cli import main as run

    run()


if __name__ == "__main__":
    main()
