"""`python -m medgemma_visualizer`: the command line, where no script is on the path."""

from medgemma_visualizer.cli import main

if __name__ == "__main__":
    main()
