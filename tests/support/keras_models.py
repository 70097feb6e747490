"""Keras models that several tests build."""

import keras
from keras import layers


def cnn():
    return keras.Sequential(
        [
            keras.Input((12, 15, 3)),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ],
        name="cnn",
    )


def residual():
    inputs = keras.Input((16, 21, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.BatchNormalization(name="stem_norm")(x)
    x = layers.ReLU(name="stem_relu")(x)
    x = layers.Add(name="add")([x, layers.Conv2D(8, 3, padding="same", name="inner")(x)])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(5, name="head")(x), name="little")


def block(x, name, inner):
    y = layers.LayerNormalization(name=f"{name}_norm")(x)
    y = layers.MultiHeadAttention(2, 4, name=f"{name}_attention")(y, y)
    x = layers.Add(name=f"{name}_add")([x, y])
    y = layers.Dense(16, activation="relu", name=f"{name}_{inner}")(x)
    return layers.Dense(8, name=f"{name}_down")(y)


def blocks(inners):
    ids = keras.Input((7,), dtype="int32", name="ids")
    x = layers.Embedding(50, 8, name="words")(ids)
    for number, inner in enumerate(inners):
        x = block(x, f"block{number + 1}", inner)
    return keras.Model(ids, layers.Dense(5, name="head")(x), name="encoder")


def towers():
    inputs = keras.Input((7,), name="left")
    tower = keras.Model(inputs, layers.Dense(6, name="first")(inputs), name="tower")
    side = keras.Sequential(
        [layers.Dense(4, name="wide"), layers.Dense(6, name="last")], name="side"
    )
    features = keras.Input((7,), name="features")
    joined = layers.Concatenate(name="joined")([tower(features), side(features)])
    return keras.Model(features, layers.Dense(2, name="out")(joined), name="outer")
