"""What differs between two spaces, in words."""

from bayesopt.space import Space


def differences(old: Space, new: Space) -> list[str]:
    """One line for each difference; empty for equal spaces.

    >>> from bayesopt import Float, Int
    >>> differences(Space({"lr": Float(0, 1), "k": Int(1, 2)}), Space({"lr": Float(0, 2), "seed": Int(0, 9)}))
    ["'lr' was Float(0.0, 1.0) and is now Float(0.0, 2.0)", "'k' is gone", "'seed' is new"]
    """
    lines = []
    for name, parameter in old.items():
        if name not in new:
            lines.append(f"{name!r} is gone")
        elif parameter != new[name]:
            lines.append(f"{name!r} was {parameter!r} and is now {new[name]!r}")
    lines += [f"{name!r} is new" for name in new if name not in old]
    if not lines and old != new:
        lines.append(f"the order was {', '.join(old)} and is now {', '.join(new)}")
    return lines
