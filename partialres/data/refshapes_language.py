"""Expressions of the generated data set: phrases that are true of exactly one shape, and their words.

A phrase is a structured description. Whether it holds of a shape is True, False or None, which means "hard to say": a
phrase is used only if it holds of one shape and clearly does not hold of any other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from partialres.data.refshapes_scenes import Scene, Shape

CLEAR_RATIO = 1.22  # extents that differ by this factor differ clearly
MEDIUM_RATIO = 1.15  # the same for the medium one of three
CLEAR_GAP = 0.10  # distance over the image's longer side that is clearly a distance
EDGE = 0.40  # "on the left" without a rival: the centre lies in this share of the width
NOT_EDGE = 0.55  # beyond this share it is clearly not on the left
TRUE_ANGLE = 38.0  # degrees from straight above within which "above" holds
FALSE_ANGLE = 60.0  # degrees from straight above beyond which it does not
TRIES = 40  # random phrases to find the expressions of a shape among

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
CORNERS = ("top left", "top right", "bottom left", "bottom right")
SIDES = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}

COMPARISONS = ("bigger than", "smaller than", "same color as")

SIZES = ("small", "smallest", "medium", "big", "biggest")
PLACES = (*DIRECTIONS, *CORNERS, "middle", "second left", "second right")
SYNONYMS = {"circle": "ball", "moon": "crescent", "drop": "teardrop", "square": "box", "cross": "plus"}


@dataclass(frozen=True)
class Phrase:
    """A description: all of its parts must hold."""

    kind: str | None = None
    colour: str | None = None
    size: str | None = None  # one of SIZES, among those of the kind and colour
    place: str | None = None  # one of PLACES; "second left" is the second from the left
    behind_bar: bool = False
    relations: tuple[tuple[str, Phrase], ...] = ()  # (left of, above, bigger than, …; the landmark)


def _both(first: bool | None, second: bool | None) -> bool | None:
    if first is False or second is False:
        return False
    return None if first is None or second is None else True


def _within(value: float, true_from: float, false_to: float) -> bool | None:
    """True from `true_from` up, False down to `false_to`, None between."""
    if value >= true_from:
        return True
    return False if value <= false_to else None


def _class(phrase: Phrase, scene: Scene) -> list[Shape]:
    """The shapes of a phrase's kind and colour."""
    return [
        shape
        for shape in scene.shapes
        if (phrase.kind is None or shape.kind == phrase.kind)
        and (phrase.colour is None or shape.colour == phrase.colour)
        and (shape.behind_bar or not phrase.behind_bar)
    ]


def _size_holds(word: str, shape: Shape, rivals: list[float]) -> bool | None:
    """Whether a shape is the small, big or medium one; rivals: the extents of those it is compared with."""
    if not rivals:
        return None
    if word in ("small", "smallest"):
        return _within(min(rivals) / shape.extent, CLEAR_RATIO, 1 / CLEAR_RATIO)
    if word in ("big", "biggest"):
        return _within(shape.extent / max(rivals), CLEAR_RATIO, 1 / CLEAR_RATIO)
    if len(rivals) != 2:
        return None
    low, middle, high = sorted([*rivals, shape.extent])
    if middle / low < MEDIUM_RATIO or high / middle < MEDIUM_RATIO:
        return None
    return shape.extent == middle


def _along(shape: Shape, direction: tuple[int, int]) -> float:
    return shape.centre[0] * direction[0] + shape.centre[1] * direction[1]


def _place_holds(place: str, shape: Shape, rivals: list[Shape], scene: Scene) -> bool | None:
    """Whether a shape is the left, top, … one among its rivals or, without any, in the image."""
    x, y = shape.centre[0] / scene.width, shape.centre[1] / scene.height
    gap = CLEAR_GAP * scene.side
    if place == "middle":
        return _within(-math.hypot(x - 0.5, y - 0.5), -0.14, -0.26)
    if place in CORNERS:
        row, column = place.split()
        farther = max(1 - x if column == "right" else x, 1 - y if row == "bottom" else y)
        return _within(-farther, -EDGE, -NOT_EDGE)
    if place.startswith("second "):
        direction = DIRECTIONS[place.split()[1]]
        ranked = sorted([shape, *rivals], key=lambda other: -_along(other, direction))
        if len(ranked) < 3 or any(
            _along(ranked[i], direction) - _along(ranked[i + 1], direction) < gap for i in range(2)
        ):
            return None
        return shape is ranked[1]
    direction = DIRECTIONS[place]
    if not rivals:
        reach = {"left": x, "right": 1 - x, "top": y, "bottom": 1 - y}[place]
        return _within(-reach, -EDGE, -NOT_EDGE)
    return _within(_along(shape, direction) - max(_along(other, direction) for other in rivals), gap, -gap)


def _relation_holds(relation: str, shape: Shape, landmark: Shape, scene: Scene) -> bool | None:
    if shape is landmark:
        return False
    if relation == "bigger than":
        return _within(shape.extent / landmark.extent, CLEAR_RATIO, 1 / CLEAR_RATIO)
    if relation == "smaller than":
        return _within(landmark.extent / shape.extent, CLEAR_RATIO, 1 / CLEAR_RATIO)
    if relation == "same color as":
        return shape.colour == landmark.colour
    dx, dy = shape.centre[0] - landmark.centre[0], shape.centre[1] - landmark.centre[1]
    distance = math.hypot(dx, dy)
    if distance < CLEAR_GAP * scene.side:
        return None
    ahead = dx * SIDES[relation][0] + dy * SIDES[relation][1]
    angle = math.degrees(math.acos(max(-1.0, min(1.0, ahead / distance))))
    return _within(-angle, -TRUE_ANGLE, -FALSE_ANGLE)


def holds(phrase: Phrase, shape: Shape, scene: Scene) -> bool | None:
    """Whether a phrase is true of a shape; None if that is hard to say or means nothing in this scene."""
    alike = _class(phrase, scene)
    if not any(shape is other for other in alike):
        return False
    rivals = [other for other in alike if other is not shape]
    truth: bool | None = True
    if phrase.size is not None:
        compared = rivals
        if not rivals and phrase.kind is not None and not phrase.size.endswith("est"):
            # "the small red star" beside stars of other colours; nobody would call it the smallest red star.
            compared = [other for other in scene.shapes if other.kind == phrase.kind and other is not shape]
        truth = _both(truth, _size_holds(phrase.size, shape, [other.extent for other in compared]))
    if phrase.place is not None:
        truth = _both(truth, _place_holds(phrase.place, shape, rivals, scene))
    for relation, described in phrase.relations:
        landmark = denoted(described, scene)
        truth = _both(truth, None if landmark is None else _relation_holds(relation, shape, landmark, scene))
    return truth


def denoted(phrase: Phrase, scene: Scene) -> Shape | None:
    """The one shape that a phrase holds of, if it clearly does not hold of any other."""
    found = None
    for shape in scene.shapes:
        truth = holds(phrase, shape, scene)
        if truth is None or (truth and found is not None):
            return None
        if truth:
            found = shape
    return found


# What is said: random phrases about a shape, in proportions that differ by flavour.
_FORMS = {
    "refcoco": {"plain": 0.20, "place": 0.32, "size": 0.22, "relation": 0.26},
    "refcoco+": {"plain": 0.48, "size": 0.36, "compare": 0.16},
    "refcocog": {"relation": 0.48, "two relations": 0.40, "place": 0.06, "compare": 0.06},
}


def _noun(shape: Shape, rng: np.random.Generator, full: float) -> Phrase:
    """Kind and colour (with probability `full`), kind alone or colour alone."""
    draw = rng.random()
    if draw < full:
        return Phrase(kind=shape.kind, colour=shape.colour)
    return Phrase(kind=shape.kind) if draw < full + (1 - full) * 0.72 else Phrase(colour=shape.colour)


def _landmark(shape: Shape, scene: Scene, rng: np.random.Generator) -> tuple[Phrase, Shape] | None:
    others = [other for other in scene.shapes if other is not shape]
    other = others[rng.integers(len(others))]
    phrase = _noun(other, rng, 0.7)
    if phrase.kind is None or denoted(phrase, scene) is not other:
        phrase = Phrase(kind=other.kind, colour=other.colour)
    return (phrase, other) if denoted(phrase, scene) is other else None


def _any_true(phrases: list[Phrase], shape: Shape, scene: Scene, rng: np.random.Generator) -> Phrase | None:
    true = [phrase for phrase in phrases if holds(phrase, shape, scene)]
    return true[rng.integers(len(true))] if true else None


def _propose(shape: Shape, scene: Scene, flavour: str, rng: np.random.Generator) -> Phrase | None:
    """A random phrase that may describe a shape, perhaps not it alone."""
    forms = _FORMS[flavour]
    form = str(rng.choice(list(forms), p=list(forms.values())))
    if shape.behind_bar and flavour != "refcoco+" and rng.random() < 0.2:
        return replace(_noun(shape, rng, 0.4), behind_bar=True)
    if form == "plain":
        return _noun(shape, rng, 0.5)
    phrase = _noun(shape, rng, 0.85 if flavour == "refcocog" else 0.4)
    if form == "size" or (flavour == "refcocog" and rng.random() < 0.35):
        sized = [replace(phrase, size=size) for size in SIZES]
        phrase = _any_true(sized, shape, scene, rng) or phrase
    if form == "place":
        if flavour == "refcoco" and rng.random() < 0.06:
            phrase = Phrase()
        placed = [replace(phrase, place=place) for place in PLACES]
        phrase = _any_true(placed, shape, scene, rng) or phrase
    relations = {"relation": tuple(SIDES), "two relations": tuple(SIDES), "compare": COMPARISONS}.get(form, ())
    if flavour == "refcocog" or phrase.colour is not None:
        relations = tuple(relation for relation in relations if relation != "same color as")
    for _ in range(2 if form == "two relations" else 1 if relations else 0):
        related = _relate(phrase, relations, shape, scene, rng)
        if related is None:
            return None
        phrase = related
    return phrase


def _relate(
    phrase: Phrase, relations: tuple[str, ...], shape: Shape, scene: Scene, rng: np.random.Generator
) -> Phrase | None:
    """The phrase with one more relation that is true of the shape, to a shape it does not mention yet."""
    landmark = _landmark(shape, scene, rng)
    if landmark is None or any(denoted(earlier, scene) is landmark[1] for _, earlier in phrase.relations):
        return None
    true = [relation for relation in relations if _relation_holds(relation, shape, landmark[1], scene)]
    if not true:
        return None
    return replace(phrase, relations=(*phrase.relations, (str(rng.choice(true)), landmark[0])))


# How it is said.
def _noun_words(phrase: Phrase, rng: np.random.Generator) -> str:
    words = []
    if phrase.size is not None:
        words.append(
            {
                "small": ("small", "small", "little"),
                "smallest": ("smallest",) * 3,
                "big": ("big", "big", "large"),
                "biggest": ("biggest", "biggest", "largest"),
                "medium": ("medium",) * 3,
            }[phrase.size][rng.integers(3)]
        )
    if phrase.colour is not None:
        words.append(phrase.colour)
    if phrase.kind is None:
        words.append(("one", "one", "shape", "thing")[rng.integers(4)])
    else:
        words.append(SYNONYMS[phrase.kind] if phrase.kind in SYNONYMS and rng.random() < 0.12 else phrase.kind)
    return " ".join(words)


def _relation_words(relation: str, rng: np.random.Generator) -> str:
    choices = {
        "above": ("above", "above", "over"),
        "below": ("below", "below", "under"),
        "left of": ("left of", "to the left of", "left of"),
        "right of": ("right of", "to the right of", "right of"),
        "same color as": ("with the same color as",) * 3,
    }
    return choices.get(relation, (relation,) * 3)[rng.integers(3)]


def _placed_words(words: str, place: str, after: bool, the: bool, rng: np.random.Generator) -> str:
    """A noun with its place before it ("top left star") or, always if `after` is set, behind it ("star on left")."""
    article = "the " if the else ""
    if place.startswith("second "):
        return f"second {words} from {article}{place.split()[1]}"
    if after or rng.random() < 0.4:
        where = {"middle": "in", "top": "at", "bottom": "at"}.get(place, "in" if place in CORNERS else "on")
        side = " side" if place in ("left", "right") and rng.random() < 0.3 else ""
        return f"{words} {where} {article}{place}{side}"
    if rng.random() < 0.25:
        place = place.replace("top", "upper").replace("bottom", "lower").replace("middle", "center")
    return f"{place} {words}"


def worded(phrase: Phrase, flavour: str, rng: np.random.Generator) -> str:
    """A phrase as somebody might type it."""
    formal = flavour == "refcocog"
    the = formal or rng.random() < 0.3
    words = _noun_words(phrase, rng)
    if phrase.place is not None:
        words = _placed_words(words, phrase.place, formal, the, rng)
    if phrase.behind_bar:
        words += f" behind {'the ' if the else ''}bar"
    for i, (relation, landmark) in enumerate(phrase.relations):
        joint = " and" if i else " that is" if formal and rng.random() < 0.7 else ""
        article = "the " if the or rng.random() < 0.5 else ""
        words += f"{joint} {_relation_words(relation, rng)} {article}{_noun_words(landmark, rng)}"
    text = f"the {words}" if the else words
    if rng.random() < 0.08:
        text = text[0].upper() + text[1:]
    return text + "." if rng.random() < 0.06 else text


def expressions(shape: Shape, scene: Scene, flavour: str, count: int, rng: np.random.Generator) -> list[str]:
    """Up to `count` different expressions, each true of the shape and of no other in its scene.

    flavour: "refcoco", "refcoco+" (no words of place) or "refcocog" (long, mostly relations).
    """
    phrases: set[Phrase] = set()
    texts: list[str] = []
    for _ in range(TRIES):
        if len(texts) == count:
            break
        phrase = _propose(shape, scene, flavour, rng)
        if phrase is None or phrase in phrases or denoted(phrase, scene) is not shape:
            continue
        phrases.add(phrase)
        texts.append(worded(phrase, flavour, rng))
    return texts
