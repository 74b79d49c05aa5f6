"""Make a Qwen2-shaped model with RANDOM weights, from a fixed seed, in the directory named by the first argument.

It exists so that a first `deployer up` needs no download: the server, the tokenizer and the HTTP interface are real,
the text that comes out is noise. Runs in the engine's virtual environment (torch, transformers, tokenizers).
"""

import json
import sys
from pathlib import Path

SEED = 20240601
VOCABULARY = 320  # 256 bytes, three special tokens, and padding that is never chosen
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def make_tokenizer(directory: Path) -> None:
    """Write a byte-level tokenizer: 256 bytes and three special tokens, no merges, so that every text has tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: index for index, token in enumerate(alphabet + specials)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(directory)


def printable_tokens() -> "set[int]":
    """Token ids of printable ASCII: ByteLevel maps those bytes to themselves, and a blank to 'Ġ'."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return {index for index, symbol in enumerate(alphabet) if "!" <= symbol <= "~" or symbol == "Ġ"}


def make_weights(directory: Path) -> None:
    """Write config.json and model.safetensors: 2 layers, hidden size 256, head size 64 (vLLM refuses 16)."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=258,
        pad_token_id=256,
        torch_dtype="float32",
    )
    model = Qwen2ForCausalLM(config).to(torch.float32)
    # Only printable ASCII keeps its output row: the noise can then be read, and never ends a completion early.
    printable = printable_tokens()
    with torch.no_grad():
        for token in range(VOCABULARY):
            if token not in printable:
                model.lm_head.weight[token] = 0.0
    model.save_pretrained(directory)
    (directory / "RANDOM_WEIGHTS.json").write_text(
        json.dumps({"random_weights": True, "seed": SEED, "made_by": "deployer"}) + "\n", encoding="utf-8"
    )


def main() -> int:
    """Make tokenizer and weights."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    make_tokenizer(directory)
    make_weights(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
