"""`python -m deployer` is the console script."""

from deployer.cli.main import main

if __name__ == "__main__":
    main()
