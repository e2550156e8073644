#!/usr/bin/env python3
"""Writes a tiny language model with weights made on the spot, for engines that read GGUF files.

The weights are noise from a seed, but for two things that make the model behave in a test:

- Residual dimension 0 is the same large number for every token, so the output row of a token can hold a bias there.
  The biases are a prior over tokens (`token_biases`): how often a word, a quote or the end of a turn comes.
- Dimensions 1 to 4 carry a hand-made attention head (`Model.hand_made_head`) and a bigram: when tools are offered, a
  tool call becomes likely; when one was made or answered, it becomes unlikely again.
"""

import argparse
import math
import pathlib
import string

import gguf
import numpy as np

CHAT_TEMPLATE = pathlib.Path(__file__).with_name("chat_template.jinja")

WORDS = """
a about agent all an and answer api are as at be build by call check code collect compare compute count data
date depends do each error fetch file find first for from get goal has have if in index input into is it item json key
last list load log map merge model name new next node not of on one or order out output page parse plan query read report
result root run save search second send server set sort source start step stop store sum summary table task test text
that the then this time to tool type update url use value verify was weather web when where which with word work write
""".split()

MARKS = [
    "<tools>",
    "</tools>",
    "<tool_response>",
    "</tool_response>",
    "<tool_call>",
    "</tool_call>",
    "<think>",
    "</think>",
]

SPACE = "\u2581"  # how SentencePiece writes a space
BEGIN, END_OF_TURN, UNKNOWN = 1, 4, 0

HEADS, KEY_HEADS = 4, 2
RESERVED = 5  # dimensions 0 to 4, which only the hand-made parts may use


class Vocabulary:
    """The tokens: control tokens, bytes, marks, printable characters, and words with all of their prefixes."""

    def __init__(self):
        self.texts, self.scores, self.types = [], [], []
        self.words = set()
        kind = gguf.TokenType
        self.add("<unk>", 0.0, kind.UNKNOWN)
        for control in ("<s>", "</s>", "<|im_start|>", "<|im_end|>"):
            self.add(control, 0.0, kind.CONTROL)
        for byte in range(256):
            self.add(f"<0x{byte:02X}>", 0.0, kind.BYTE)
        for mark in MARKS:
            self.add(mark, 0.0, kind.USER_DEFINED)
        self.add(SPACE, -100.0, kind.NORMAL)
        for character in string.printable[:95]:
            if character != " ":
                self.add(character, -100.0, kind.NORMAL)
        for word in WORDS:
            for form in (word, SPACE + word):
                self.words.add(form)
                # Every prefix, so that the tokenizer's merges reach the whole word.
                for length in range(2, len(form) + 1):
                    self.add(form[:length], -10.0 + 0.1 * length, kind.NORMAL)

    def add(self, text, score, kind):
        if text not in self.texts:
            self.texts.append(text)
            self.scores.append(score)
            self.types.append(kind)

    def number(self, text):
        return self.texts.index(text)

    def __len__(self):
        return len(self.texts)


def token_biases(vocabulary, end_probability):
    """The prior over tokens, in logits."""
    biases = np.full(len(vocabulary), -9.0)
    for number, text in enumerate(vocabulary.texts):
        if vocabulary.types[number] == gguf.TokenType.BYTE:
            continue
        if text in vocabulary.words:
            biases[number] = 1.0 if text.startswith(SPACE) else -1.5
        elif len(text) == 1 and text.isalpha():
            biases[number] = -4.0
        elif len(text) == 1 and text.isdigit():
            biases[number] = -2.0
    # Quotes and lists close often, so that constrained JSON ends; separators keep it small. A list is about as often
    # empty as not, whether it is of texts or of objects, so that some plans refer to nothing that is not there.
    signs = {
        '"': 4.0, "}": 0.0, "]": 3.5, ",": -1.2, ":": -1.0, "{": 2.5, "[": -1.0, ".": 0.0, "_": -2.0, "-": -2.0,
        SPACE: -4.0, "\\": -9.0, "<": -9.0, ">": -9.0,
    }  # fmt: skip
    for sign, bias in signs.items():
        biases[vocabulary.number(sign)] = bias
    for mark in MARKS:
        biases[vocabulary.number(mark)] = -12.0
    biases[END_OF_TURN] = math.log(np.exp(biases).sum() * end_probability)
    biases[:END_OF_TURN] = -30.0
    return biases


class Model:
    """The tensors, in the order in which their noise is drawn."""

    def __init__(self, vocabulary, options):
        self.random = np.random.default_rng(options.seed)
        self.width, self.layers, self.forward = options.embedding, options.layers, 2 * options.embedding
        self.head = self.width // HEADS
        self.noise_scale = 8 / math.sqrt(self.width)
        # Large enough for dimension 0 to dominate the norm.
        self.constant = 3.0 * math.sqrt(self.width)
        self.embeddings(vocabulary, token_biases(vocabulary, options.end))

    def noise(self, *shape, scale=None):
        scale = 4 / math.sqrt(self.width) if scale is None else scale
        return (self.random.standard_normal(shape) * scale).astype(np.float32)

    def embeddings(self, vocabulary, biases):
        self.embedding = self.noise(len(vocabulary), self.width, scale=1.0)
        self.embedding[:, 0] = self.constant
        self.embedding[:, 1:RESERVED] = 0
        # Dimension 1: how strongly the last position attends to the token (an attention sink at the beginning, the
        # offer of tools, and above both a call or its answer). Dimension 2: what it then learns.
        offer, answer, call = (vocabulary.number(mark) for mark in ("<tools>", "<tool_response>", "<tool_call>"))
        for token, attention, lesson in ((BEGIN, 8.0, 0.0), (offer, 16.0, 8.0), (answer, 28.0, 0.0), (call, 28.0, 0.0)):
            self.embedding[token, 1:3] = attention, lesson
        # What dimension 0 is after the output norm.
        normed = math.sqrt(self.width) * self.constant / math.sqrt(self.constant**2 + self.width)
        self.output = self.noise(len(vocabulary), self.width, scale=0.25 * self.noise_scale)
        self.output[:, 0] = biases / normed
        self.output[:, 1:RESERVED] = 0
        # A closing brace is followed by the end of a call, so that a list of calls ends.
        self.embedding[vocabulary.number("}"), 4] = 20.0
        self.output[vocabulary.number("</tool_call>"), 4] = 3.0
        # With tools offered, a call beats the end of the turn about five to one.
        self.output[call, 3] = 14.0

    def layer(self, number):
        """The tensors of one layer by name. Its noise neither reads nor writes the reserved dimensions."""
        width, forward, keys = self.width, self.forward, KEY_HEADS * self.head
        attention_output = self.noise(width, width, scale=0.02 * self.noise_scale)
        down = self.noise(width, forward, scale=0.01 * self.noise_scale)
        attention_output[:RESERVED] = 0
        down[:RESERVED] = 0
        query, key, value = self.noise(width, width), self.noise(keys, width), self.noise(keys, width)
        gate, up = self.noise(forward, width), self.noise(forward, width)
        for tensor in (query, key, value, gate, up):
            tensor[:, :RESERVED] = 0
        if number == 0:
            self.hand_made_head(query, key, value, attention_output)
        ones = np.ones(width, np.float32)
        return {
            "attn_norm": ones,
            "attn_q": query,
            "attn_k": key,
            "attn_v": value,
            "attn_output": attention_output,
            "ffn_norm": ones,
            "ffn_gate": gate,
            "ffn_up": up,
            "ffn_down": down,
        }

    def hand_made_head(self, query, key, value, attention_output):
        """Head 0 looks for the strongest token of dimension 1 and writes its dimension 2 to dimension 3."""
        query[: 2 * self.head] = 0
        key[: self.head] = 0
        value[: self.head] = 0
        attention_output[:, : 2 * self.head] = 0
        # The slowest pair of the rotary embedding: nearly independent of the position.
        query[self.head - 2, 0] = 4.0
        key[self.head - 2, 1] = 1.0
        value[0, 2] = 1.0
        attention_output[3, 0] = 1.8


def write(path, vocabulary, model, context):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-random")
    writer.add_context_length(context)
    writer.add_embedding_length(model.width)
    writer.add_block_count(model.layers)
    writer.add_feed_forward_length(model.forward)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(model.head)
    writer.add_rope_freq_base(1e8)
    writer.add_vocab_size(len(vocabulary))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text.encode() for text in vocabulary.texts])
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END_OF_TURN)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE.read_text())
    writer.add_tensor("token_embd.weight", model.embedding)
    writer.add_tensor("output.weight", model.output)
    writer.add_tensor("output_norm.weight", np.ones(model.width, np.float32))
    for number in range(model.layers):
        for name, tensor in model.layer(number).items():
            writer.add_tensor(f"blk.{number}.{name}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", help="the file to write")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--embedding", type=int, default=64, help="the width of the model; a multiple of 16")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--context", type=int, default=16384)
    parser.add_argument("--end", type=float, default=1 / 40, help="how likely each token of free text is the last")
    options = parser.parse_args()
    vocabulary = Vocabulary()
    write(options.out, vocabulary, Model(vocabulary, options), options.context)


if __name__ == "__main__":
    main()
