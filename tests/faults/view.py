"""What a client has heard, and whether that is all it should have."""

from collections import defaultdict

TOLD = None


class View:
    """Per channel, the numbers in the order they came; `TOLD` where the client was told that it missed something."""

    def __init__(self):
        self.heard = defaultdict(list)
        self.ids = defaultdict(set)
        self.repeats = 0

    def message(self, channel, number, ident):
        # As the protocol asks of clients: repeats are dropped by id.
        if ident in self.ids[channel]:
            self.repeats += 1
            return
        self.ids[channel].add(ident)
        self.heard[channel].append(number)

    def told(self, channel):
        self.heard[channel].append(TOLD)

    def last(self, channel):
        return next((it for it in reversed(self.heard[channel]) if it is not TOLD), 0)


class Verdict:
    """The books of all clients together."""

    def __init__(self):
        self.clients = self.heard = self.repeats = self.told = self.missed = self.lost = self.disorder = 0
        self.examples = []

    def add(self, name, view, acknowledged):
        """`acknowledged` says for each of its channels how many publications were acknowledged: 1, 2, 3 … so many."""
        self.clients += 1
        self.repeats += view.repeats
        for channel, count in acknowledged.items():
            self._judge(name, channel, [*view.heard[channel], count + 1])

    def _judge(self, name, channel, heard):
        """The number after the last one closes the row, so that a missing end is missing too."""
        have, was_told = 0, False
        for number in heard:
            if number is TOLD:
                was_told = True
                self.told += 1
                continue
            if number <= have:
                self.disorder += 1
                self._example(f"{name} heard {number} of {channel} after {have}")
                continue
            between = number - have - 1
            if between and was_told:
                self.missed += between
            elif between:
                self.lost += between
                self._example(f"{name} has {have} of {channel}, then {number}")
            have, was_told = number, False
        self.heard += sum(1 for it in heard[:-1] if it is not TOLD)

    def _example(self, text):
        if len(self.examples) < 5:
            self.examples.append(text)

    def __str__(self):
        return (f"clients {self.clients}: heard {self.heard}, repeats dropped {self.repeats}, gaps told {self.told} "
                f"({self.missed} publications), lost {self.lost}, out of order {self.disorder}")
