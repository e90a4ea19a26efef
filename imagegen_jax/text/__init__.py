"""Texts as integers: the tokenizers of text encoders, and one made of a data set's own captions."""

from imagegen_jax.core.arrays.texts import Encoded, Tokenizer, say_cut
from imagegen_jax.text.byte_pairs import BytePairs
from imagegen_jax.text.joined import JoinedRows
from imagegen_jax.text.sentence_pieces import SentencePieces
from imagegen_jax.text.settings import BERTTokenizer, CLIPTokenizer, JoinedTokenizers, T5Tokenizer, WordVocabulary
from imagegen_jax.text.word_pieces import WordPieces
from imagegen_jax.text.words import Words

__all__ = [
    "BERTTokenizer",
    "BytePairs",
    "CLIPTokenizer",
    "Encoded",
    "JoinedRows",
    "JoinedTokenizers",
    "SentencePieces",
    "T5Tokenizer",
    "Tokenizer",
    "WordPieces",
    "WordVocabulary",
    "Words",
    "say_cut",
]
