"""Model files of Keras 2 (``.h5``, and ``.keras`` of TensorFlow 2.12 to 2.15), brought to life in Keras 3.

Keras 3 reads few of them: it takes no option that it has dropped, no recurrent layer of TensorFlow's Keras, no raw
TensorFlow ops, no model within a model, and computes another ``hard_sigmoid``. Here the model that a file describes
is built as its own Keras would have: `configs` says what became of the options of each class, `building` makes
layers and puts them together, `operations` says which function of Keras 3's a raw TensorFlow op is, and `weights`
gives each layer its own, by name.
"""

from diglot.keras2.building import build
from diglot.keras2.configs import CHANGES
from diglot.keras2.operations import LAYERS
from diglot.keras2.weights import load_archive, load_h5

#: Classes that Keras 3 lacks, and that are read all the same.
OLD_NAMES = frozenset([*CHANGES, *LAYERS])

__all__ = ["OLD_NAMES", "build", "load_archive", "load_h5"]
