"""The model class: a functional ``keras.Model`` that carries its preprocessing and class names wherever it is saved."""

from __future__ import annotations

import dataclasses

import keras

from alexnet_keras.spec import Architecture, Preprocessing


@keras.saving.register_keras_serializable("alexnet_keras")
class AlexNetModel(keras.Model):
    """A functional ``keras.Model`` with three facts that travel in its ``.keras`` file.

    ``architecture``: :class:`~alexnet_keras.spec.Architecture`; ``preprocessing``:
    :class:`~alexnet_keras.spec.Preprocessing`; ``class_names``: a name for each output, in order.
    """

    architecture: Architecture | None = None
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def get_config(self):
        return {**super().get_config(), "alexnet": {
            "architecture": self.architecture and self.architecture.to_dict(),
            "preprocessing": self.preprocessing and dataclasses.asdict(self.preprocessing),
            "class_names": list(self.class_names)}}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        facts = config.pop("alexnet")
        model = super().from_config(config, custom_objects)
        model.architecture = facts["architecture"] and Architecture.from_dict(facts["architecture"])
        model.preprocessing = facts["preprocessing"] and Preprocessing.from_dict(facts["preprocessing"])
        model.class_names = tuple(facts["class_names"])
        return model
