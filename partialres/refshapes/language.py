"""Describe shapes by phrases that are true of exactly one shape in a scene, and put them into words.

A phrase is a structured description. For each shape it is true, false, or undecided (None). It is used only if it is
true of one shape and false of all others. This file first decides truth, then proposes phrases, then words them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from partialres.refshapes.scenes import Rng, Scene, Shape

CLEAR_RATIO = 1.22  # least ratio of two extents that differ clearly
MEDIUM_RATIO = 1.15  # least ratio of big to medium, and of medium to small, among three shapes
CLEAR_GAP = 0.10  # least distance of two centres that are clearly apart, over the image's longer side
EDGE, NOT_EDGE = 0.40, 0.55  # a lone shape is "left" up to the first share of the width, not "left" from the second on
ABOVE, NOT_ABOVE = 38.0, 60.0  # degrees from vertical: "above" is true up to the first, false from the second on
TRIES = 40  # random phrases tried for one shape's expressions

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
CORNERS = ("top left", "top right", "bottom left", "bottom right")
PLACES = (*DIRECTIONS, *CORNERS, "middle", "second left", "second right")
SIDES = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
COMPARISONS = ("bigger than", "smaller than", "same color as")
SIZES = ("small", "smallest", "medium", "big", "biggest")

SYNONYMS = {"circle": "ball", "moon": "crescent", "drop": "teardrop", "square": "box", "cross": "plus"}
WORDINGS = {  # three equally likely choices each; other words are used as they are
    "small": ("small", "small", "little"),
    "big": ("big", "big", "large"),
    "biggest": ("biggest", "biggest", "largest"),
    "above": ("above", "above", "over"),
    "below": ("below", "below", "under"),
    "left of": ("left of", "to the left of", "left of"),
    "right of": ("right of", "to the right of", "right of"),
    "same color as": ("with the same color as",) * 3,
}
FORMS = {  # probability of each form of phrase
    "refcoco": {"plain": 0.20, "place": 0.32, "size": 0.22, "relation": 0.26},
    "refcoco+": {"plain": 0.48, "size": 0.36, "compare": 0.16},
    "refcocog": {"relation": 0.48, "two relations": 0.40, "place": 0.06, "compare": 0.06},
}

Truth = bool | None


@dataclass(frozen=True)
class Phrase:
    """A description of a shape, true if all of its parts are."""

    kind: str | None = None
    colour: str | None = None
    size: str | None = None  # one of SIZES, among the shapes of this kind and colour
    place: str | None = None  # one of PLACES; "second left" is the second from the left
    behind_bar: bool = False
    relations: tuple[tuple[str, Phrase], ...] = ()  # one of SIDES or COMPARISONS, and the landmark

    def fits(self, shape: Shape) -> bool:
        """Tell whether a shape has the phrase's kind and colour, if any, and is behind the bar if it says so."""
        bar_agrees = shape.behind_bar or not self.behind_bar
        return bar_agrees and self.kind in (None, shape.kind) and self.colour in (None, shape.colour)


def _beyond(value: float, true: float, false: float) -> Truth:
    """Return True if value is at or beyond `true`, False at or beyond `false`, None between; either may be larger."""
    if true < false:
        value, true, false = -value, -true, -false
    return True if value >= true else False if value <= false else None


def truth(phrase: Phrase, shape: Shape, scene: Scene) -> Truth:
    """Tell whether a phrase is true of a shape; None if that is debatable or the phrase makes no sense in the scene."""
    if not phrase.fits(shape):
        return False
    rivals = [other for other in scene.shapes if other is not shape and phrase.fits(other)]
    truths: list[Truth] = []
    if phrase.size is not None:
        compared = rivals
        if not rivals and phrase.kind is not None and not phrase.size.endswith("est"):
            # A lone red star is "the small red star" if it is smaller than stars of other colours, but not "smallest".
            compared = [other for other in scene.shapes if other.kind == phrase.kind and other is not shape]
        truths.append(_has_size(phrase.size, shape, [other.extent for other in compared]))
    if phrase.place is not None:
        truths.append(_is_at(phrase.place, shape, rivals, scene))
    for relation, described in phrase.relations:
        landmark = denoted(described, scene)
        truths.append(None if landmark is None else _is_related(relation, shape, landmark, scene))
    return False if False in truths else None if None in truths else True


def denoted(phrase: Phrase, scene: Scene) -> Shape | None:
    """Return the one shape of which a phrase is true, or None unless it is false of all others."""
    truths = [truth(phrase, shape, scene) for shape in scene.shapes]
    return scene.shapes[truths.index(True)] if truths.count(True) == 1 and None not in truths else None


def _has_size(size: str, shape: Shape, rivals: list[float]) -> Truth:
    """Tell whether a shape is the small, big or medium one. rivals: extents of the shapes to compare it with."""
    if not rivals:
        return None
    if size in ("small", "smallest"):
        return _beyond(min(rivals) / shape.extent, CLEAR_RATIO, 1 / CLEAR_RATIO)
    if size in ("big", "biggest"):
        return _beyond(shape.extent / max(rivals), CLEAR_RATIO, 1 / CLEAR_RATIO)
    if len(rivals) != 2:
        return None
    low, middle, high = sorted([*rivals, shape.extent])
    clear = middle / low >= MEDIUM_RATIO and high / middle >= MEDIUM_RATIO
    return shape.extent == middle if clear else None


def _is_at(place: str, shape: Shape, rivals: list[Shape], scene: Scene) -> Truth:
    """Tell whether a shape is the leftmost, topmost, ... of its rivals or, without rivals, lies there in the image."""

    def along(other: Shape) -> float:
        return other.centre[0] * direction[0] + other.centre[1] * direction[1]

    x, y = shape.centre[0] / scene.width, shape.centre[1] / scene.height
    from_edge = {"left": x, "right": 1 - x, "top": y, "bottom": 1 - y}
    gap = CLEAR_GAP * scene.side
    if place == "middle":
        return _beyond(math.hypot(x - 0.5, y - 0.5), 0.14, 0.26)
    if place in CORNERS:
        return _beyond(max(from_edge[edge] for edge in place.split()), EDGE, NOT_EDGE)
    direction = DIRECTIONS[place.removeprefix("second ")]
    if place.startswith("second "):
        ranked = sorted([shape, *rivals], key=along, reverse=True)
        apart = len(ranked) > 2 and all(along(ranked[i]) - along(ranked[i + 1]) >= gap for i in (0, 1))
        return shape is ranked[1] if apart else None
    if not rivals:
        return _beyond(from_edge[place], EDGE, NOT_EDGE)
    return _beyond(along(shape) - max(map(along, rivals)), gap, -gap)


def _is_related(relation: str, shape: Shape, landmark: Shape, scene: Scene) -> Truth:
    if shape is landmark:
        return False
    if relation in ("bigger than", "smaller than"):
        return _has_size("big" if relation == "bigger than" else "small", shape, [landmark.extent])
    if relation == "same color as":
        return shape.colour == landmark.colour
    dx, dy = shape.centre[0] - landmark.centre[0], shape.centre[1] - landmark.centre[1]
    distance = math.hypot(dx, dy)
    if distance < CLEAR_GAP * scene.side:
        return None
    ahead = dx * SIDES[relation][0] + dy * SIDES[relation][1]
    angle = math.degrees(math.acos(max(-1.0, min(1.0, ahead / distance))))
    return _beyond(angle, ABOVE, NOT_ABOVE)


def expressions(shape: Shape, scene: Scene, flavour: str, count: int, rng: Rng) -> list[str]:
    """Draw up to `count` different expressions, each true of this shape and of no other in the scene."""
    phrases: dict[Phrase, str] = {}
    for _ in range(TRIES):
        if len(phrases) == count:
            break
        phrase = _propose(shape, scene, flavour, rng)
        if phrase is not None and phrase not in phrases and denoted(phrase, scene) is shape:
            phrases[phrase] = _worded(phrase, flavour, rng)
    return list(phrases.values())


def _propose(shape: Shape, scene: Scene, flavour: str, rng: Rng) -> Phrase | None:
    """Draw a phrase that is true of a shape, and perhaps of others too; None if no relation could be drawn."""
    form = str(rng.choice(list(FORMS[flavour]), p=list(FORMS[flavour].values())))
    if shape.behind_bar and flavour != "refcoco+" and rng.random() < 0.2:
        return replace(_noun(shape, 0.4, rng), behind_bar=True)
    if form == "plain":
        return _noun(shape, 0.5, rng)
    phrase = _noun(shape, 0.85 if flavour == "refcocog" else 0.4, rng)
    if form == "size" or (flavour == "refcocog" and rng.random() < 0.35):
        phrase = _any_true([replace(phrase, size=size) for size in SIZES], shape, scene, rng) or phrase
    if form == "place":
        if flavour == "refcoco" and rng.random() < 0.06:
            phrase = Phrase()
        phrase = _any_true([replace(phrase, place=place) for place in PLACES], shape, scene, rng) or phrase
    if form == "compare":
        says_colour = flavour == "refcocog" or phrase.colour is not None
        return _relate(phrase, COMPARISONS[:2] if says_colour else COMPARISONS, shape, scene, rng)
    for _ in range({"relation": 1, "two relations": 2}.get(form, 0)):
        related = _relate(phrase, tuple(SIDES), shape, scene, rng)
        if related is None:
            return None
        phrase = related
    return phrase


def _noun(shape: Shape, both: float, rng: Rng) -> Phrase:
    """Draw a phrase with kind and colour (with probability `both`), only the kind, or only the colour."""
    draw = rng.random()
    if draw < both:
        return Phrase(kind=shape.kind, colour=shape.colour)
    return Phrase(kind=shape.kind) if draw < both + (1 - both) * 0.72 else Phrase(colour=shape.colour)


def _any_true(phrases: list[Phrase], shape: Shape, scene: Scene, rng: Rng) -> Phrase | None:
    true = [phrase for phrase in phrases if truth(phrase, shape, scene)]
    return true[rng.integers(len(true))] if true else None


def _relate(phrase: Phrase, relations: tuple[str, ...], shape: Shape, scene: Scene, rng: Rng) -> Phrase | None:
    """Add a true relation to a random shape that the phrase does not mention yet; None if there is no such relation."""
    others = [other for other in scene.shapes if other is not shape]
    landmark = others[rng.integers(len(others))]
    described = _noun(landmark, 0.7, rng)
    if described.kind is None or denoted(described, scene) is not landmark:
        described = Phrase(kind=landmark.kind, colour=landmark.colour)
    mentioned = [denoted(earlier, scene) for _, earlier in phrase.relations]
    if denoted(described, scene) is not landmark or landmark in mentioned:
        return None
    true = [relation for relation in relations if _is_related(relation, shape, landmark, scene)]
    return replace(phrase, relations=(*phrase.relations, (str(rng.choice(true)), described))) if true else None


def _worded(phrase: Phrase, flavour: str, rng: Rng) -> str:
    """Put a phrase into words as annotators might type it."""
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
        words += f"{joint} {_wording(relation, rng)} {article}{_noun_words(landmark, rng)}"
    text = f"the {words}" if the else words
    if rng.random() < 0.08:
        text = text[0].upper() + text[1:]
    return text + "." if rng.random() < 0.06 else text


def _wording(word: str, rng: Rng) -> str:
    return WORDINGS.get(word, (word,) * 3)[rng.integers(3)]


def _noun_words(phrase: Phrase, rng: Rng) -> str:
    """Put size, colour and kind into words, such as "small red ball" or "green one"."""
    words = [_wording(phrase.size, rng)] if phrase.size is not None else []
    if phrase.colour is not None:
        words.append(phrase.colour)
    if phrase.kind is None:
        words.append(("one", "one", "shape", "thing")[rng.integers(4)])
    else:
        words.append(SYNONYMS[phrase.kind] if phrase.kind in SYNONYMS and rng.random() < 0.12 else phrase.kind)
    return " ".join(words)


def _placed_words(words: str, place: str, after: bool, the: bool, rng: Rng) -> str:
    """Add a place before a noun ("top left star") or after it ("star on left"); if `after` is set, always after."""
    article = "the " if the else ""
    if place.startswith("second "):
        return f"second {words} from {article}{place.split()[1]}"
    if after or rng.random() < 0.4:
        where = "on" if place in ("left", "right") else "at" if place in ("top", "bottom") else "in"
        side = " side" if place in ("left", "right") and rng.random() < 0.3 else ""
        return f"{words} {where} {article}{place}{side}"
    if rng.random() < 0.25:
        place = place.replace("top", "upper").replace("bottom", "lower").replace("middle", "center")
    return f"{place} {words}"
