"""Hugging Face models with random weights and small configurations."""

from __future__ import annotations

from typing import Any

import torch
import transformers as T


def ids(length: int = 7, batch: int = 3) -> dict[str, torch.Tensor]:
    """Token ids with a mask; the last sentence is shorter."""
    tokens = torch.randint(3, 97, (batch, length))
    mask = torch.ones_like(tokens)
    tokens[-1, length - 2 :] = 0
    mask[-1, length - 2 :] = 0
    return {"input_ids": tokens, "attention_mask": mask}


def both() -> dict[str, torch.Tensor]:
    """Tokens for an encoder and for a decoder."""
    return {**ids(), "decoder_input_ids": torch.randint(3, 97, (3, 5))}


def image(height: int = 30, width: int = 30) -> dict[str, torch.Tensor]:
    """Two images."""
    return {"pixel_values": torch.randn(2, 3, height, width)}


SMALL: dict[str, Any] = dict(
    vocab_size=97, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
    max_position_embeddings=50,
)  # fmt: skip
DECODER: dict[str, Any] = dict(
    vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=44, max_position_embeddings=50, use_cache=False, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
PAIR: dict[str, Any] = dict(
    vocab_size=97, d_model=24, encoder_layers=2, decoder_layers=2, encoder_attention_heads=3,
    decoder_attention_heads=3, encoder_ffn_dim=40, decoder_ffn_dim=40, max_position_embeddings=50, use_cache=False,
    pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2,
)  # fmt: skip
VISION: dict[str, Any] = dict(
    image_size=30,
    patch_size=10,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=40,
)
SIZES: dict[str, Any] = dict(hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 2, 1], num_labels=5)
SPECIAL: dict[str, Any] = dict(bos_token_id=1, eos_token_id=2)

MODELS = {
    "bert": lambda: (T.BertModel(T.BertConfig(**SMALL)), ids()),
    "bert_mlm": lambda: (T.BertForMaskedLM(T.BertConfig(**SMALL)), ids()),
    "bert_tokens": lambda: (T.BertForTokenClassification(T.BertConfig(num_labels=5, **SMALL)), ids()),
    "bert_qa": lambda: (T.BertForQuestionAnswering(T.BertConfig(**SMALL)), ids()),
    "distilbert": lambda: (
        T.DistilBertForSequenceClassification(
            T.DistilBertConfig(
                vocab_size=97, dim=24, n_layers=2, n_heads=3, hidden_dim=40, max_position_embeddings=50
            )
        ),
        ids(),
    ),
    "roberta": lambda: (T.RobertaForSequenceClassification(T.RobertaConfig(**SMALL)), ids()),
    "xlm_roberta": lambda: (T.XLMRobertaModel(T.XLMRobertaConfig(**SMALL)), ids()),
    "electra": lambda: (T.ElectraModel(T.ElectraConfig(embedding_size=16, **SMALL)), ids()),
    "electra_discriminator": lambda: (T.ElectraForPreTraining(T.ElectraConfig(embedding_size=16, **SMALL)), ids()),
    "albert": lambda: (T.AlbertModel(T.AlbertConfig(embedding_size=16, **SMALL)), ids()),
    "mpnet": lambda: (T.MPNetModel(T.MPNetConfig(**SMALL)), ids()),
    "deberta": lambda: (
        T.DebertaModel(T.DebertaConfig(relative_attention=True, pos_att_type=["p2c", "c2p"], type_vocab_size=0, **SMALL)),
        ids(),
    ),
    "deberta_v2": lambda: (
        T.DebertaV2Model(
            T.DebertaV2Config(relative_attention=True, pos_att_type=["p2c", "c2p"], type_vocab_size=0, **SMALL)
        ),
        ids(),
    ),
    "modernbert": lambda: (
        T.ModernBertModel(T.ModernBertConfig(pad_token_id=0, cls_token_id=1, sep_token_id=2, **SPECIAL, **SMALL)),
        ids(),
    ),
    "gpt2": lambda: (
        T.GPT2LMHeadModel(
            T.GPT2Config(vocab_size=97, n_embd=24, n_layer=2, n_head=3, n_positions=50, use_cache=False, **SPECIAL)
        ),
        ids(),
    ),
    "gpt_neo": lambda: (
        T.GPTNeoForCausalLM(
            T.GPTNeoConfig(
                vocab_size=97, hidden_size=24, num_layers=2, num_heads=3, intermediate_size=40, use_cache=False,
                max_position_embeddings=50, attention_types=[[["global", "local"], 1]], window_size=5, **SPECIAL,
            )
        ),
        ids(),
    ),
    "gpt_neox": lambda: (T.GPTNeoXForCausalLM(T.GPTNeoXConfig(use_cache=False, **SPECIAL, **SMALL)), ids()),
    "gptj": lambda: (
        T.GPTJForCausalLM(
            T.GPTJConfig(
                vocab_size=97, n_embd=24, n_layer=2, n_head=3, n_positions=50, rotary_dim=4, use_cache=False, **SPECIAL
            )
        ),
        ids(),
    ),
    "opt": lambda: (
        T.OPTForCausalLM(
            T.OPTConfig(
                vocab_size=97, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, ffn_dim=40, use_cache=False,
                max_position_embeddings=50, word_embed_proj_dim=24, pad_token_id=1, bos_token_id=2, eos_token_id=2,
            )
        ),
        ids(),
    ),
    "llama": lambda: (T.LlamaForCausalLM(T.LlamaConfig(head_dim=8, **DECODER)), ids()),
    "mistral": lambda: (T.MistralForCausalLM(T.MistralConfig(head_dim=8, **DECODER)), ids()),
    "qwen2": lambda: (T.Qwen2ForCausalLM(T.Qwen2Config(**DECODER)), ids()),
    "qwen3": lambda: (T.Qwen3ForCausalLM(T.Qwen3Config(head_dim=8, **DECODER)), ids()),
    "gemma": lambda: (T.GemmaForCausalLM(T.GemmaConfig(head_dim=8, **DECODER)), ids()),
    "phi": lambda: (T.PhiForCausalLM(T.PhiConfig(**{**DECODER, "num_key_value_heads": 4})), ids()),
    "mixtral": lambda: (
        T.MixtralForCausalLM(T.MixtralConfig(num_local_experts=3, num_experts_per_tok=2, **DECODER)),
        ids(),
    ),
    "t5": lambda: (
        T.T5Model(
            T.T5Config(
                vocab_size=97, d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=3, use_cache=False,
                decoder_start_token_id=0,
            )
        ),
        both(),
    ),
    "bart": lambda: (T.BartModel(T.BartConfig(**PAIR)), both()),
    "mbart": lambda: (T.MBartModel(T.MBartConfig(**PAIR)), both()),
    "marian": lambda: (
        T.MarianMTModel(T.MarianConfig(decoder_vocab_size=97, forced_eos_token_id=2, **PAIR)),
        both(),
    ),
    "vit": lambda: (T.ViTForImageClassification(T.ViTConfig(num_labels=5, **VISION)), image()),
    "deit": lambda: (T.DeiTForImageClassification(T.DeiTConfig(num_labels=5, **VISION)), image()),
    "beit": lambda: (T.BeitForImageClassification(T.BeitConfig(num_labels=5, **VISION)), image()),
    "dinov2": lambda: (
        T.Dinov2Model(
            T.Dinov2Config(image_size=28, patch_size=7, hidden_size=24, num_hidden_layers=2, num_attention_heads=3)
        ),
        image(28, 28),
    ),
    "clip_vision": lambda: (T.CLIPVisionModel(T.CLIPVisionConfig(**VISION)), image()),
    "clip_text": lambda: (T.CLIPTextModel(T.CLIPTextConfig(pad_token_id=0, **SPECIAL, **SMALL)), ids()),
    "convnext": lambda: (T.ConvNextForImageClassification(T.ConvNextConfig(**SIZES)), image(64, 96)),
    "resnet": lambda: (T.ResNetForImageClassification(T.ResNetConfig(embedding_size=8, **SIZES)), image(64, 96)),
    "mobilenet_v2": lambda: (
        T.MobileNetV2ForImageClassification(T.MobileNetV2Config(depth_multiplier=0.25, num_labels=5)),
        image(64, 96),
    ),
    "swin": lambda: (
        T.SwinForImageClassification(
            T.SwinConfig(
                image_size=32, patch_size=2, embed_dim=12, depths=[2, 2], num_heads=[2, 3], window_size=4, num_labels=5
            )
        ),
        image(32, 32),
    ),
    "segformer": lambda: (
        T.SegformerForSemanticSegmentation(
            T.SegformerConfig(
                hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 4],
                decoder_hidden_size=24, num_labels=5,
            )
        ),
        image(64, 96),
    ),
    "whisper_encoder": lambda: (
        T.models.whisper.modeling_whisper.WhisperEncoder(
            T.WhisperConfig(
                d_model=24, encoder_layers=2, encoder_attention_heads=3, encoder_ffn_dim=40, num_mel_bins=10,
                max_source_positions=20,
            )
        ),
        {"input_features": torch.randn(2, 10, 40)},
    ),
    "wav2vec2": lambda: (
        T.Wav2Vec2Model(
            T.Wav2Vec2Config(
                hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, conv_dim=(8, 8),
                conv_stride=(3, 2), conv_kernel=(5, 3), num_feat_extract_layers=2, num_conv_pos_embeddings=8,
                num_conv_pos_embedding_groups=2, mask_time_prob=0.0,
            )
        ),
        {"input_values": torch.randn(2, 400)},
    ),
}  # fmt: skip
