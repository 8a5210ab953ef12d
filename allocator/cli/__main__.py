"""`python -m allocator.cli`: the same as `allocator`."""

from allocator.cli import main

if __name__ == "__main__":
    main()
