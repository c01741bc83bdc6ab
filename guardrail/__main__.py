"""`python -m guardrail`: the command line."""

from guardrail.desk.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
