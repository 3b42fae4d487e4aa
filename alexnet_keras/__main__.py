"""``python -m alexnet_keras``."""

from alexnet_keras.cli import main

main()
