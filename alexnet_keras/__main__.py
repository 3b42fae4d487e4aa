"""Entry point of ``python -m alexnet_keras``."""

from alexnet_keras.cli.main import main

main()
