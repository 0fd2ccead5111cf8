"""Our log-mel arrays against those of transformers, on noise with loud and silent parts.

Theirs for Whisper by torch are float32 throughout and come within 1e-5 of their own numpy ones, as they say; of these ours,
float64 until the end like them, differ in the last bit of float32 (1.2e-7 at values up to 2).
"""

import numpy as np
import pytest

from mmjax.data.transforms.audio import AstLogMel, WhisperLogMel

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def noise(n):
    t = np.arange(n)
    return (0.1 * np.random.default_rng(0).normal(size=n) * np.sin(t / 3000) * (t % 40_000 < 30_000)).astype(np.float32)


@pytest.mark.parametrize("mels", [80, 128])
def test_whisper(mels):
    extractor = transformers.WhisperFeatureExtractor(feature_size=mels)
    ours = WhisperLogMel(mels)({"audio": noise(80_037), "rate": 16_000})["audio"]
    theirs = extractor(noise(80_037), sampling_rate=16_000, return_tensors="np").input_features[0]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    padded = np.pad(noise(80_037), (0, 480_000 - 80_037))
    np.testing.assert_allclose(ours, extractor._np_extract_fbank_features(padded[None], "cpu")[0], rtol=0, atol=3e-7)


@pytest.mark.parametrize("n", [400, 80_037, 11 * 16_000])
def test_ast(n):
    extractor = transformers.ASTFeatureExtractor()
    ours = AstLogMel()({"audio": noise(n), "rate": 16_000})["audio"]
    theirs = extractor(noise(n), sampling_rate=16_000, return_tensors="np").input_values[0]
    # With torchaudio beside it theirs are float32 throughout.
    atol = 1e-3 if transformers.utils.is_speech_available() else 3e-7
    np.testing.assert_allclose(ours.T, theirs, rtol=0, atol=atol)
