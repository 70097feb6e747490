"""An encoder-only Transformer that tags every token, in Keras."""

import keras
from keras import layers, ops

PAD = 0


@keras.saving.register_keras_serializable(package="dna_tagger")
class TokenAndPositionEmbedding(layers.Layer):
    """Token ids (batch, length) to vectors (batch, length, embed_dim); positions are learned, too."""

    def __init__(self, maxlen, vocab_size, embed_dim, **kwargs):
        super().__init__(**kwargs)
        self.maxlen = maxlen
        self.vocab_size = vocab_size
        self.embed_dim = embed_dim
        self.token_emb = layers.Embedding(vocab_size, embed_dim)
        self.pos_emb = layers.Embedding(maxlen, embed_dim)

    def call(self, x):
        positions = ops.arange(ops.shape(x)[1])
        return self.token_emb(x) + self.pos_emb(positions)

    def get_config(self):
        return {
            **super().get_config(),
            "maxlen": self.maxlen,
            "vocab_size": self.vocab_size,
            "embed_dim": self.embed_dim,
        }


@keras.saving.register_keras_serializable(package="dna_tagger")
class TransformerBlock(layers.Layer):
    """Attention and a feed-forward network, each followed by Norm(x + Sublayer(x)): post-norm."""

    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.1, **kwargs):
        super().__init__(**kwargs)
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.ff_dim = ff_dim
        self.rate = rate
        self.att = layers.MultiHeadAttention(num_heads, key_dim=embed_dim)
        self.ffn1 = layers.Dense(ff_dim, activation="relu")
        self.ffn2 = layers.Dense(embed_dim)
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, x, mask, training=None):
        attn_output = self.att(x, x, attention_mask=mask)
        x = self.layernorm1(x + self.dropout1(attn_output, training=training))
        ffn_output = self.ffn2(self.ffn1(x))
        return self.layernorm2(x + self.dropout2(ffn_output, training=training))

    def get_config(self):
        return {
            **super().get_config(),
            "embed_dim": self.embed_dim,
            "num_heads": self.num_heads,
            "ff_dim": self.ff_dim,
            "rate": self.rate,
        }


def build_model(
    maxlen, vocab_size, embed_dim, num_heads, ff_dim, num_transformer_blocks, dropout_rate=0.1
):
    """Token ids (batch, length), padded with PAD at the end, to logits (batch, length, vocab_size)."""
    ancestor = keras.Input((None,), dtype="int64", name="ancestor")
    mask = ops.not_equal(ancestor, PAD)[:, None, :]  # (batch, 1, length): nobody attends to padding
    x = TokenAndPositionEmbedding(maxlen, vocab_size, embed_dim, name="embedding")(ancestor)
    for i in range(num_transformer_blocks):
        x = TransformerBlock(embed_dim, num_heads, ff_dim, dropout_rate, name=f"block_{i}")(x, mask)
    outputs = layers.Dense(vocab_size, name="classifier")(x)
    return keras.Model(ancestor, outputs, name="tagger")


def compile_model(model, optimizer):
    # The mean over all tokens that are no padding: padding has a sample weight of 0.
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    model.compile(optimizer, loss, weighted_metrics=["accuracy"])
