"""People with several scans each → parts of a cohort with wanted numbers of scans."""

import math
from collections.abc import Mapping, Sequence

_MOST_STATES = 500_000  # that the exact solution may look at

Sizes = tuple[int, ...]


def share_people(
    order: Sequence[str], scans_of: Mapping[str, int], wanted: Sequence[int]
) -> dict[str, int]:
    """Person → number of the part; who is in no part is left out.

    The parts in turn take the first people that fit. Where that leaves one of them
    without its number of scans, the people are shared out together, if there is a way.
    If the parts use up all scans, the last one takes who is left.

    Args:
        order: of the people.
        scans_of: person → number of scans.
        wanted: scans in each part.
    """
    result = _share_in_turn(order, scans_of, wanted)
    sizes = [0] * len(wanted)
    for person, part in result.items():
        sizes[part] += scans_of[person]
    if sizes == list(wanted):
        return result
    return _share_together(order, scans_of, wanted) or result


def _share_in_turn(
    order: Sequence[str], scans_of: Mapping[str, int], wanted: Sequence[int]
) -> dict[str, int]:
    all_used = sum(wanted) == sum(scans_of.values())
    result: dict[str, int] = {}
    for part, count in enumerate(wanted):
        if count:
            left = [person for person in order if person not in result]
            last = all_used and not any(wanted[part + 1 :])
            chosen = left if last else _take(left, scans_of, count)
            result |= dict.fromkeys(chosen, part)
    return result


def _take(order: Sequence[str], scans_of: Mapping[str, int], count: int) -> list[str]:
    """The first people in `order` whose scans sum to `count`, or as near as can be."""
    # Bit s of sums[i] is set where some of the people from i on have s scans together.
    sums = [1]
    for person in reversed(order):
        sums.append(sums[-1] | sums[-1] << scans_of[person])
    sums.reverse()
    possible = [s for s in range(sums[0].bit_length()) if sums[0] >> s & 1]
    # Of two that are as near, rather too many than nobody.
    missing = min(possible, key=lambda total: (abs(total - count), total == 0))
    chosen = []
    for person, rest in zip(order, sums[1:], strict=True):
        if scans_of[person] <= missing and rest >> (missing - scans_of[person]) & 1:
            chosen.append(person)
            missing -= scans_of[person]
    return chosen


def _share_together(
    order: Sequence[str], scans_of: Mapping[str, int], wanted: Sequence[int]
) -> dict[str, int] | None:
    """Person → part with exactly the sizes wanted; None where there is no way.

    Nor is one looked for in a large cohort, whose parts in turn come out exactly.
    """
    if len(order) * math.prod(count + 1 for count in wanted) > _MOST_STATES:
        return None
    # possible[i]: sizes that the people from i on can make up.
    possible: list[set[Sizes]] = [{(0,) * len(wanted)}]
    for person in reversed(order):
        sizes = set(possible[-1])
        for part, most in enumerate(wanted):
            for smaller in possible[-1]:
                larger = _add(smaller, part, scans_of[person])
                if larger[part] <= most:
                    sizes.add(larger)
        possible.append(sizes)
    possible.reverse()
    left = tuple(wanted)
    if left not in possible[0]:
        return None
    result = {}
    for person, rest in zip(order, possible[1:], strict=True):
        for part in range(len(wanted)):
            without = _add(left, part, -scans_of[person])
            if without in rest:
                result[person], left = part, without
                break
    return result


def _add(sizes: Sizes, part: int, count: int) -> Sizes:
    return (*sizes[:part], sizes[part] + count, *sizes[part + 1 :])
