"""Runs the scripts of coordination scenarios, and writes down what happens in words.

The commands of a script (`tests.scenarios.golden` says what a script is):

    launch SHARDS GATEWAYS | succeed SHARDS GATEWAYS          a first coordinator; one with a predecessor
    join MEMBER                                               its process asks for an epoch
    register MEMBER EPOCH | serve MEMBER EPOCH                it listens; it describes itself
    die MEMBER [EPOCH] | fail MEMBER REASON | end MEMBER      it is dead; cannot start; has stopped
    ask NAME [VERSION] | leave NAME                           somebody wants a map newer than one; wants it no more
    stop                                                      the cluster is to end
    advance S                                                 time passes, and timers are due
    state                                                     the map, and the life of each member

A member is `s0`, `s1`, … or `g0`, `g1`, …; a map is written as its version and `shard.epoch` of each shard in it.
"""

from __future__ import annotations

from fusion_cluster.protocol.coordination import (
    AnswerEpoch,
    AnswerMap,
    AskerLeft,
    Began,
    Coordination,
    Died,
    Effect,
    EpochAsked,
    Event,
    FailLaunch,
    KillMember,
    MapAsked,
    MemberId,
    Registered,
    ReportLaunch,
    ReportStop,
    Served,
    SetTimer,
    StartFailed,
    StartMember,
    StopAsked,
    StopMember,
    Stopped,
    Ticked,
)
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap
from tests.scenarios.golden import GoldenScript

FIRST_VERSION = 100
LAST_EPOCH = 1000


class CoordinationScript(GoldenScript):
    """One run of a script."""

    coordination: Coordination

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._timers: list[float] = []
        self._askers: dict[str, int] = {}
        self.commands = {
            "launch": lambda words: self._begin(words, succeeds=False),
            "succeed": lambda words: self._begin(words, succeeds=True),
            "join": self._join,
            "register": lambda words: self._step(Registered(address(words[0], int(words[1])))),
            "serve": self._serve,
            "die": lambda words: self._step(Died(member(words[0]), int(words[1]) if words[1:] else 0)),
            "fail": lambda words: self._step(StartFailed(member(words[0]), " ".join(words[1:]))),
            "end": lambda words: self._step(Stopped(member(words[0]))),
            "ask": lambda words: self._step(MapAsked(self._asker(words[0]), int(words[1]) if words[1:] else 0)),
            "leave": lambda words: self._step(AskerLeft(self._asker(words[0]))),
            "stop": lambda words: self._step(StopAsked()),
            "advance": lambda words: self._advance(self.now_s + float(words[0])),
            "state": lambda words: self._state(),
        }

    def _begin(self, words: list[str], *, succeeds: bool) -> None:
        shards, gateways = map(int, words)
        self.coordination = Coordination(
            shards=shards,
            gateways=gateways,
            first_version=FIRST_VERSION,
            succeeds=succeeds,
            last_epoch=LAST_EPOCH if succeeds else 0,
        )
        self._step(Began())

    def _join(self, words: list[str]) -> None:
        self._step(EpochAsked(member(words[0]), self._asker(words[0])))

    def _serve(self, words: list[str]) -> None:
        name, epoch = words[0], int(words[1])
        self._step(Served(member(name), epoch, address(name, epoch) if name[0] == "s" else None))

    def _advance(self, until_s: float) -> None:
        while due := [at_s for at_s in self._timers if at_s <= until_s]:
            self.now_s = min(due)
            self._timers.remove(self.now_s)
            self._step(Ticked())
        self.now_s = until_s

    def _step(self, event: Event) -> None:
        effects = self.coordination.step(event, self.now_s)
        self.coordination.validate()
        for effect in effects:
            if isinstance(effect, SetTimer):
                self._timers.append(effect.at_s)
            self.lines.append(self._effect(effect))

    def _state(self) -> None:
        lives = (
            f"{name(member)} {self.coordination.life(member).name.lower()}" for member in self.coordination.members
        )
        self.lines.append(f"map {slot_map(self.coordination.slot_map)}; {', '.join(lives)}")

    # -- in words -----------------------------------------------------------------------------------------------------
    def _asker(self, name: str) -> int:
        return self._askers.setdefault(name, len(self._askers))

    def _asked(self, asker: int) -> str:
        return next(name for name, number in self._askers.items() if number == asker)

    def _effect(self, effect: Effect) -> str:
        match effect:
            case StartMember(member):
                return f"start {name(member)}"
            case KillMember(member):
                return f"kill {name(member)}"
            case StopMember(member):
                return f"stop {name(member)}"
            case AnswerEpoch(asker, epoch):
                return f"to {self._asked(asker)}: epoch {epoch}"
            case AnswerMap(asker, answer):
                return f"to {self._asked(asker)}: map {slot_map(answer)}"
            case ReportLaunch():
                return "launched"
            case FailLaunch(reason):
                return f"the launch fails: {reason}"
            case SetTimer(at_s):
                return f"timer at {at_s:g} s"
            case ReportStop():
                return "stopped"
        raise AssertionError(effect)


def member(word: str) -> MemberId:
    return MemberId("shard" if word[0] == "s" else "gateway", int(word[1:]))


def name(member: MemberId) -> str:
    return f"{member.role[0]}{member.number}"


def address(word: str, epoch: int) -> ShardAddress:
    return ShardAddress(member(word).number, "machine", 4000 + epoch, epoch)


def slot_map(value: SlotMap) -> str:
    shards = " ".join(f"{shard_id}.{value.shards[shard_id].epoch}" for shard_id in sorted(value.shards))
    return f"{value.version} ({shards or 'no shard'})"
