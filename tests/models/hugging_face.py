"""Small Hugging Face models: the library's own code, tiny configurations, random weights."""

import torch
import transformers
from randomise import seeded


def _ids(vocab, length, batch=3, pad_id=0):
    """Token ids (batch, length) and their attention mask; the last row ends in padding."""
    input_ids = torch.randint(3, vocab, (batch, length))
    attention_mask = torch.ones_like(input_ids)
    input_ids[-1, length - 2 :] = pad_id
    attention_mask[-1, length - 2 :] = 0
    return {"input_ids": input_ids, "attention_mask": attention_mask}


@seeded
def make_bert():
    config = transformers.BertConfig(
        vocab_size=97,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=50,
    )
    return transformers.BertModel(config), _ids(97, 7)


@seeded
def make_roberta():
    config = transformers.RobertaConfig(
        vocab_size=97,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=50,
        num_labels=5,
    )
    return transformers.RobertaForSequenceClassification(config), _ids(97, 7, pad_id=1)


@seeded
def make_gpt2():
    config = transformers.GPT2Config(
        vocab_size=97,
        n_embd=24,
        n_layer=2,
        n_head=3,
        n_positions=50,
        bos_token_id=1,
        eos_token_id=2,
        use_cache=False,
    )
    return transformers.GPT2LMHeadModel(config), _ids(97, 7)


@seeded
def make_t5():
    config = transformers.T5Config(
        vocab_size=97,
        d_model=24,
        d_kv=6,
        d_ff=40,
        num_layers=2,
        num_heads=3,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=20,
        use_cache=False,
    )
    decoder_input_ids = torch.randint(3, 97, (3, 5))
    return (
        transformers.T5ForConditionalGeneration(config),
        {**_ids(97, 7), "decoder_input_ids": decoder_input_ids},
    )


@seeded
def make_llama():
    config = transformers.LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=44,
        max_position_embeddings=50,
        use_cache=False,
    )
    return transformers.LlamaForCausalLM(config), _ids(97, 7)


@seeded
def make_vit():
    config = transformers.ViTConfig(
        image_size=30,
        patch_size=10,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        num_labels=5,
    )
    return (
        transformers.ViTForImageClassification(config),
        {"pixel_values": torch.randn(2, 3, 30, 30)},
    )


make = make_bert
