"""Fuzzes one target, led by what of draem_jax its inputs reach.

    python -m tools.fuzz picture --seconds=3600 --corpus=/tmp/corpus

Atheris must be installed (`pip install atheris`), which the package itself does not need. New
inputs are kept in CORPUS/TARGET, and those that break the promise in CORPUS/TARGET_found.
"""

import argparse
import hashlib
import random
import sys
import time
from pathlib import Path

PACKAGE = "draem_jax"
_BY_VALUES = 0.8  # share of the changes to JSON that change a value, not bytes


def main() -> int:
    arguments = _arguments()
    try:
        import atheris
    except ImportError:
        print("atheris is missing; install it: pip install atheris", file=sys.stderr)
        return 1
    # Modules are instrumented as they are imported: the package's own, and nothing else.
    with atheris.instrument_imports(include=[PACKAGE]):
        from tools.fuzz.json_mutations import mutated
        from tools.fuzz.promise import hold
        from tools.fuzz.targets import TARGETS

        if arguments.target not in TARGETS:
            lines = (f"  {target.name:<12} {target.about}" for target in TARGETS.values())
            print("targets:", *lines, sep="\n", file=sys.stderr)
            return 1
        target = TARGETS[arguments.target]
        target.prepare()
        seeds = target.seeds()
    corpus = arguments.corpus / target.name
    found = arguments.corpus / f"{target.name}_found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    before = len(list(corpus.iterdir()))
    for seed in seeds:
        (corpus / _digest(seed)).write_bytes(seed)
    state = {"runs": 0, "refused": 0, "broken": 0}
    known: set[str] = set()
    began = time.process_time()

    def attempt(content: bytes) -> None:
        if time.process_time() - began > arguments.seconds:
            _stop(target.name, state, began, corpus, before, known)
        state["runs"] += 1
        try:
            state["refused"] += bool(hold(target, content))
        except Exception as error:
            state["broken"] += 1
            where = _where(error)
            if where not in known:  # one input of each kind
                known.add(where)
                path = found / _digest(content)
                path.write_bytes(content)
                print(f"BROKEN {where}: {error!s:.200}\n  {path}", flush=True)

    # What takes long is told by `hold`, in processor time; this is by the clock, for what hangs.
    options = [f"-max_len={target.longest}", "-timeout=1800", "-rss_limit_mb=6000", "-verbosity=0"]
    options += [f"-artifact_prefix={found}/", "-close_fd_mask=2"]  # libtiff has much to say

    def mutate(content: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        changed = mutated(content, rng) if rng.random() < _BY_VALUES else None
        if changed is None or len(changed) > most:
            return bytes(atheris.Mutate(content, most))
        return changed

    ours = {"custom_mutator": mutate} if target.is_json else {}
    atheris.Setup([sys.argv[0], *options, str(corpus)], attempt, **ours)
    atheris.Fuzz()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", default="", help="leave it out for a list")
    parser.add_argument("--seconds", type=float, default=60.0, help="of processor time")
    parser.add_argument("--corpus", type=Path, default=Path("fuzz_corpus"))
    return parser.parse_args()


def _digest(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _where(error: BaseException) -> str:
    """The innermost line of the package, or else of all, that an exception went through."""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        lines.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    own = [line for line in lines if f"/{PACKAGE}/" in line]
    return f"{type(error).__name__} at {(own or lines)[-1]}"


def _stop(
    name: str, state: dict[str, int], began: float, corpus: Path, before: int, known: set[str]
) -> None:
    """Says how it went, and ends the process: the fuzzer has no other way to stop."""
    import os

    seconds = time.process_time() - began
    kept = len(list(corpus.iterdir()))
    print(
        f"{name}: {state['runs']} executions in {seconds:.0f} s of processor time, "
        f"{state['refused']} refused; corpus {before} → {kept}; "
        f"{state['broken']} broke the promise, in {len(known)} ways",
        flush=True,
    )
    os._exit(1 if known else 0)


if __name__ == "__main__":
    sys.exit(main())
