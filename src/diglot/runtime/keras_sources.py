"""What the user names on the Keras side, loaded, in the process that holds Keras:

    net.py:make             a function that returns a Keras model (or a keras.Model class, or a model);
    package.module:make     literal arguments may follow, as in net.py:make(depth=18)
    model.keras, model.h5   a file that model.save wrote, of Keras's own layers
    FOLDER                  a translation: model.py and its weights

Nothing that a file pickles is ever executed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diglot.errors import BadInput
from diglot.factories import Factory
from diglot.keras_files import load_keras

if TYPE_CHECKING:
    from diglot.runtime.keras_session import KerasSession

FORMS = "file.py:factory, package.module:factory, model.keras or the folder of a translation"


def load_model(spec: str, session: KerasSession) -> Any:
    """The live Keras model that `spec` names; `session` builds translations.

    Raises BadInput with one sentence for whatever cannot be loaded.
    """
    path = Path(spec).expanduser()
    if path.is_dir():
        return _load_folder(path, session)
    if path.suffix.lower() in (".keras", ".h5", ".hdf5"):
        return load_keras(path)
    if path.suffix.lower() in (".pb", ".tflite"):
        raise BadInput(f"{spec} holds a graph, not a Keras model.", expected=FORMS)
    import keras

    _, made = Factory.parse(spec, FORMS).make(keras.Model)
    if not isinstance(made, keras.Model):
        raise BadInput(
            f"{spec} made no Keras model.", expected="a keras.Model", received=type(made).__name__
        )
    return made


def _load_folder(path: Path, session: KerasSession) -> Any:
    for name in ("model.py", "weight_map.json", "model.weights.h5"):
        if not (path / name).is_file():
            raise BadInput(f"{path} is no translation.", expected=FORMS, received=f"no {name}")
    session.load(str(path))
    return session.model
