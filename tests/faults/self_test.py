"""The judge is judged first: a suite that cannot see a loss proves nothing."""

from view import Verdict, View


def check_the_judge():
    expect([1, 2, 3], of=3, lost=0, missed=0, disorder=0)
    expect([1, 3], of=3, lost=1)
    expect([2, 3], of=3, lost=1)
    expect([1, 2], of=3, lost=1)
    expect([], of=3, lost=3)
    expect([1, None, 3], of=3, lost=0, missed=1)
    expect([1, None], of=3, lost=0, missed=2)
    expect([1, None, 2, 3], of=3, lost=0, missed=0)
    expect([1, None, 3, 5], of=5, lost=1, missed=1)
    expect([1, 3, 2, 4], of=4, lost=1, disorder=1)
    expect([1, 2, 2, 3], of=3, repeats=1, lost=0, disorder=0)


def expect(heard, of, **expected):
    view = View()
    for number in heard:
        if number is None:
            view.told("a")
        else:
            view.message("a", number, f"id-{number}")
    verdict = Verdict()
    verdict.add("somebody", view, {"a": of})
    found = {name: getattr(verdict, name) for name in expected}
    assert found == expected, f"{heard} of {of}: {found}, not {expected}"
