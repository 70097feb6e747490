"""Pairs of DNA strings as batches, for Keras: a tf.data pipeline, which runs beside the training step."""

import tensorflow as tf

PAD, SOS, EOS = 0, 5, 6
TOKENS = tf.lookup.StaticHashTable(
    tf.lookup.KeyValueTensorInitializer(["A", "C", "G", "T"], tf.constant([1, 2, 3, 4], tf.int64)),
    default_value=PAD,
)


def tokenise(ancestor, descendant):
    """Ancestor and descendant as token ids; the decoder sees the target one step late."""
    src = TOKENS.lookup(tf.strings.bytes_split(ancestor))
    bases = TOKENS.lookup(tf.strings.bytes_split(descendant))
    tgt = tf.pad(bases, [[1, 0]], constant_values=SOS)
    return {"src": src, "tgt": tgt}, tf.pad(bases, [[0, 1]], constant_values=EOS)


def batches(pairs, batch_size, shuffle=False):
    """Batches of {"src", "tgt"} and targets, each (batch, length): padded to the longest of the batch."""
    ancestors, descendants = map(list, zip(*pairs, strict=True))
    dataset = tf.data.Dataset.from_tensor_slices((ancestors, descendants))
    if shuffle:
        dataset = dataset.shuffle(len(pairs))
    dataset = dataset.map(tokenise, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.padded_batch(batch_size).prefetch(tf.data.AUTOTUNE)
