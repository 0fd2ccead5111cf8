"""Answers of people, compared: what counts as the same answer, and what one is worth that some of them gave.

The rules are those of VQA's evaluation script (Antol et al. 2015, arXiv:1505.00468, section 3; the Python script of
visualqa.org), its oddities kept, so that numbers compare with published ones. They lie here because metrics score by them and
data make targets of them.
"""

import re

# Each becomes nothing beside a space or where a number has a comma, and a space elsewhere.
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {"none": "0"} | {word: str(n) for n, word in enumerate(NUMBERS)}
ARTICLES = ("a", "an", "the")
# A word that lacks one apostrophe of one of these gets it back. (The script lists "I'm" and the like too, which never match:
# words are in lower case by then.)
CONTRACTIONS = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's "
    "how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock "
    "oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd "
    "someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's "
    "they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd "
    "where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all "
    "y'all'll y'all'd've you'd you'd've you'll you're you've"
)
MENDED = {word[:i] + word[i + 1 :]: word for word in CONTRACTIONS.split() for i, letter in enumerate(word) if letter == "'"}
MENDED["somebody'd"] = "somebodyd"  # as in the script
ENOUGH = 3  # people who say so make an answer right


def normalise(answer: str) -> str:
    """An answer as the script compares it: punctuation, case, number words, articles and apostrophes are brought in line."""
    text = plain = answer.replace("\n", " ").replace("\t", " ").strip()
    digits = re.search(r"\d,\d", plain) is not None
    for mark in PUNCTUATION:
        text = text.replace(mark, "" if digits or f"{mark} " in plain or f" {mark}" in plain else " ")
    text = re.sub(r"\.(?!\d)", "", text)
    words = [DIGITS.get(word, word) for word in text.lower().split()]
    return " ".join(MENDED.get(word, word) for word in words if word not in ARTICLES)


def worth(n: int, people: int) -> float:
    """How right an answer is, from 0 to 1, that n of so many people gave.

    min(m / 3, 1) for the m who say so, averaged over all ways to leave one of the people out: of ten, 0.3, 0.6, 0.9, and 1 from
    four on. (The table of targets that is known from bottom-up attention's code, Teney et al. 2017, has the same numbers.) A
    single person's answer is worth 1.
    """
    if people == 1:
        return float(n)
    return (n * min(1, (n - 1) / ENOUGH) + (people - n) * min(1, n / ENOUGH)) / people
