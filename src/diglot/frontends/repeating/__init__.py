"""Parts of a model that repeat become blocks, each a class: of a Functional Keras model, and of TensorFlow's graphs."""
