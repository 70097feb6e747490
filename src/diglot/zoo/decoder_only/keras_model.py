"""A decoder-only Transformer, as GPT: a causal language model, in Keras."""

import math

import keras
from keras import layers, ops


def sinusoids(length, width):
    """The fixed positions of "Attention is all you need": (length, width)."""
    position = ops.arange(length, dtype="float32")[:, None]
    rate = ops.exp(ops.arange(0, width, 2, dtype="float32") * (-math.log(10000.0) / width))
    angle = position * rate  # (length, width / 2)
    return ops.reshape(ops.stack([ops.sin(angle), ops.cos(angle)], axis=-1), (length, width))


@keras.saving.register_keras_serializable("decoder_only")
class Block(layers.Layer):
    """Attention and a feed-forward network, each followed by a norm of its sum with its input.

    With ``self_memory`` a second attention looks at a memory.
    """

    def __init__(self, d_model, num_heads, d_ff, dropout, self_memory, **kwargs):
        super().__init__(**kwargs)
        self.sizes = dict(
            d_model=d_model,
            num_heads=num_heads,
            d_ff=d_ff,
            dropout=dropout,
            self_memory=self_memory,
        )
        head = (num_heads, d_model // num_heads)
        self.attention = layers.MultiHeadAttention(*head, dropout=dropout)
        self.attention_norm = layers.LayerNormalization(epsilon=1e-5)
        if self_memory:
            self.memory_attention = layers.MultiHeadAttention(*head, dropout=dropout)
            self.memory_norm = layers.LayerNormalization(epsilon=1e-5)
        self.hidden = layers.Dense(d_ff, activation="relu")
        self.hidden_dropout = layers.Dropout(dropout)
        self.output_dense = layers.Dense(d_model)
        self.output_norm = layers.LayerNormalization(epsilon=1e-5)
        self.dropout = layers.Dropout(dropout)

    def call(self, x, memory=None):
        a = self.attention(x, x, use_causal_mask=True)  # (batch, length, d_model)
        x = self.attention_norm(x + self.dropout(a))
        if memory is not None:
            a = self.memory_attention(x, memory, use_causal_mask=True)
            x = self.memory_norm(x + self.dropout(a))
        return self.feed_forward(x)

    def feed_forward(self, x):
        h = self.output_dense(self.hidden_dropout(self.hidden(x)))
        return self.output_norm(x + self.dropout(h))

    def extend(self, x, memory, seen, cache):
        """What call() gives for the positions of x, which follow those in the cache."""
        x = self.attention_norm(x + attend(self.attention, x, x, seen, cache))
        if memory is not None:
            a = attend(self.memory_attention, x, memory, seen, cache)
            x = self.memory_norm(x + a)
        return self.feed_forward(x)

    def get_config(self):
        return {**super().get_config(), **self.sizes}


@keras.saving.register_keras_serializable("decoder_only")
class DecoderOnlyTransformer(keras.Model):
    """Predict at each position the next token, from itself and those before it.

    With ``self_memory`` the blocks also attend to the model's own input, as to a memory.
    """

    def __init__(
        self,
        vocab_size,
        d_model=512,
        num_heads=8,
        num_layers=6,
        d_ff=2048,
        max_length=512,
        dropout=0.1,
        self_memory=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.sizes = dict(
            vocab_size=vocab_size,
            d_model=d_model,
            num_heads=num_heads,
            num_layers=num_layers,
            d_ff=d_ff,
            max_length=max_length,
            dropout=dropout,
            self_memory=self_memory,
        )
        self.max_length = max_length
        self.scale = math.sqrt(d_model)
        self.self_memory = self_memory
        # times sqrt(d_model): as large as the positions that are added
        normal = keras.initializers.RandomNormal(stddev=d_model**-0.5)
        self.embedding = layers.Embedding(vocab_size, d_model, embeddings_initializer=normal)
        self.positions = self.add_weight(
            shape=(max_length, d_model),
            initializer=lambda shape, dtype: ops.cast(sinusoids(*shape), dtype),
            trainable=False,
            name="positions",
        )
        self.dropout = layers.Dropout(dropout)
        self.blocks = [
            Block(d_model, num_heads, d_ff, dropout, self_memory) for _ in range(num_layers)
        ]
        self.logits = layers.Dense(vocab_size)

    def call(self, tokens, training=None):
        # fit() says that it trains only to a model that has this argument; without it no layer inside
        # would ever drop anything.
        length = ops.shape(tokens)[1]
        x = self.embedding(tokens) * self.scale  # (batch, length, d_model)
        x = self.dropout(x + self.positions[:length])
        memory = x if self.self_memory else None
        for block in self.blocks:
            x = block(x, memory)
        return self.logits(x)  # (batch, length, vocab)

    def extend(self, tokens, start, cache):
        """The logits of `tokens` (batch, new), which stand at `start` and after.

        `cache` holds every attention's keys and values of the positions before `start`, and grows by
        the new ones. They never change, since no position sees a later one: call() would compute
        them again for each token that is generated.
        """
        end = start + tokens.shape[1]
        x = self.embedding(tokens) * self.scale + self.positions[start:end]
        seen = ops.tril(ops.ones((end - start, end), dtype="bool"), k=start)
        memory = x if self.self_memory else None
        for block in self.blocks:
            x = block.extend(x, memory, seen, cache)
        return self.logits(x)

    def get_config(self):
        return {**super().get_config(), **self.sizes}


def attend(attention, x, source, seen, cache):
    """What x (batch, new, d_model) sees of `source` and of the earlier sources in the cache."""
    query = attention.query_dense(x)  # (batch, new, heads, d_model / heads)
    key, value = attention.key_dense(source), attention.value_dense(source)
    if attention in cache:
        earlier_key, earlier_value = cache[attention]
        key = ops.concatenate([earlier_key, key], axis=1)
        value = ops.concatenate([earlier_value, value], axis=1)
    cache[attention] = key, value
    x = ops.dot_product_attention(query, key, value, mask=seen[None, None])
    return attention.output_dense(x)


def generate(model, tokens, count, temperature=1.0, top_k=None, top_p=None, cached=True, seed=None):
    """Put `count` tokens behind tokens (batch, length), one after the other; see `choose`."""
    if tokens.shape[1] + count > model.max_length:
        raise ValueError(f"The model has positions for {model.max_length} tokens in all.")
    seed = keras.random.SeedGenerator(seed)
    tokens = ops.convert_to_tensor(tokens, dtype="int32")
    cache, start = {}, 0
    for _ in range(count):
        if cached:
            logits = model.extend(tokens[:, start:], start, cache)
            start = tokens.shape[1]
        else:
            logits = model(tokens)
        chosen = choose(logits[:, -1], temperature, top_k, top_p, seed)
        tokens = ops.concatenate([tokens, chosen], axis=1)
    return tokens


def choose(logits, temperature, top_k, top_p, seed=None):
    """One token (batch, 1) for logits (batch, vocab): the likeliest at temperature 0, else a draw."""
    if temperature == 0:
        return ops.argmax(logits, axis=-1, keepdims=True)
    logits = likeliest(logits / temperature, top_k, top_p)
    return keras.random.categorical(logits, 1, seed=seed)


def likeliest(logits, top_k=None, top_p=None):
    """The logits with -inf for all but the top_k likeliest tokens, or but the fewest that together
    have the probability top_p."""
    if top_k is not None:
        least = ops.top_k(logits, min(top_k, logits.shape[-1]))[0][:, -1:]
        logits = ops.where(logits < least, -math.inf, logits)
    if top_p is not None:
        falling = ops.flip(ops.sort(logits), axis=-1)
        probability = ops.softmax(falling)
        before = ops.cumsum(probability, axis=-1) - probability  # that of the likelier ones
        least = ops.amin(ops.where(before >= top_p, math.inf, falling), axis=-1, keepdims=True)
        logits = ops.where(logits < least, -math.inf, logits)
    return logits


def build_model(**sizes):
    model = DecoderOnlyTransformer(**sizes)
    model(keras.Input((None,), dtype="int32", name="tokens"))
    return model


def compile_model(model, optimizer):
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
