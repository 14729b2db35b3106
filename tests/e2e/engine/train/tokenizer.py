"""The tokenizer: one token per word of the fixed texts, and one per character of everything else.

Text to be copied (places, numbers, error texts) is thus always spelled in characters, so an unseen name is
copied as easily as a known one.
"""

import re
from collections import Counter
from random import Random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.e2e.engine.train.conversations import draw_conversation
from tests.e2e.engine.train.names import spelled_words

END_OF_TURN = "<|im_end|>"
PADDING = "<|endoftext|>"
START_OF_TURN = "<|im_start|>"
_TOOL_MARKERS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>")
_JOINTS = ('{"', '"}', '":', '":"', '","', ',"', '": "', '", "', '": {"', '"}}', ", ", ": ", "°C", "°F")
_MARKED_LETTERS = (
    "áàâãäåæçéèêëíìîïñóòôõöøœúùûüýßğışčćšžřłńęąőűășțÁÉÍÓÚÄÖÜÅÆØÇÑŠŽİ…"  # one token each, as a-z are
)
_WORD = re.compile(r"[^\W\d_]+(?:_[^\W\d_]+)*")  # identifiers such as wind_kmh are words too


def build_tokenizer(chat_template: str) -> PreTrainedTokenizerFast:
    """Builds the tokenizer for the words used in the training conversations."""
    words = _fixed_words()
    joints = sorted(map(re.escape, _JOINTS), key=len, reverse=True)
    longest_first = sorted(words, key=len, reverse=True)
    pattern = rf"{'|'.join(joints)}|(?: |(?<!\p{{L}}))(?:{'|'.join(longest_first)})(?!\p{{L}})|[\s\S]"
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        min_frequency=1,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    core.train_from_iterator([*words, *(f" {word}" for word in words), *_JOINTS, *_MARKED_LETTERS], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=END_OF_TURN, pad_token=PADDING, clean_up_tokenization_spaces=False
    )
    # As in Qwen2.5: decoded text hides the turn markers, but not the tool markers.
    tokenizer.add_tokens([AddedToken(marker, special=False, normalized=False) for marker in _TOOL_MARKERS])
    tokenizer.add_special_tokens({"additional_special_tokens": [START_OF_TURN, END_OF_TURN]})
    tokenizer.chat_template = chat_template
    return tokenizer


def _fixed_words() -> list[str]:
    """Returns the words that recur in the conversations and are not part of a place's name."""
    rng, counts = Random(5), Counter[str]()
    for _ in range(4000):
        conversation = draw_conversation(rng)
        texts = [f"{message['content']} {message.get('tool_calls', '')}" for message in conversation.messages]
        texts += [str(tool["function"]) for tool in conversation.tools]
        counts.update(_WORD.findall(" ".join(texts)))
    words = {word for word, count in counts.items() if count >= 20 and len(word) > 1}
    return sorted({"system", "user", "assistant"} | words - spelled_words())
