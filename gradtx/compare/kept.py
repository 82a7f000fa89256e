"""The files of a comparison: written whole or not at all, read back, put together."""

import dataclasses
import json
from contextlib import suppress
from pathlib import Path

from .parse import BadInput
from .results import Course, Results, Trial, from_json, to_json
from .wording import join

NAME = "results.json"


def put(path: Path, content: str | bytes) -> None:
    """Write a file in one go: at any moment there is the old one or the new one."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    except OSError as error:
        raise BadInput(f"Cannot write {path} ({error.strerror or error}).") from error
    finally:
        part.unlink(missing_ok=True)


def save(results: Results, folder: Path, summary: dict[str, list[dict]] | None = None) -> None:
    put(folder / NAME, to_json(results, summary))


def forget(folder: Path) -> None:
    """Remove the page and the pictures that an earlier run says it left in `folder`."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        for name in json.loads((folder / NAME).read_text("utf-8"))["files"]:
            if Path(name).name == name and name.endswith((".png", ".html")):
                (folder / name).unlink(missing_ok=True)


def load(typed: list[str]) -> tuple[Results, list[Path]]:
    """The results in files or folders, as one, and the folders."""
    paths = [Path(text) / NAME if Path(text).is_dir() else Path(text) for text in typed]
    paths = list({path.resolve(): path for path in paths}.values())
    folders = [path.parent for path in paths]
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    return together(dict(zip(names, map(_read, paths), strict=True))), folders


def _read(path: Path) -> Results:
    try:
        results = from_json(path.read_text("utf-8"))
    except OSError as error:
        raise BadInput(f"Cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"Cannot read {path}: it is not of this version of gradtx compare ({error}). "
            "Run the comparison again."
        ) from error
    results = dataclasses.replace(results, courses=[c for c in results.courses if c.trials])
    if not results.courses:
        raise BadInput(f"{path} holds no finished optimizer: there is nothing to report.")
    return results


def together(runs: dict[str, Results]) -> Results:
    """Runs by name as one: a course for a problem, the names beside labels that are not unique."""
    if len(runs) == 1:
        return next(iter(runs.values()))
    every = list(runs.values())
    problems = dict.fromkeys(course.name for run in every for course in run.courses)
    schedules = dict.fromkeys(run.schedule for run in every)

    def course(problem: str) -> Course:
        found = {
            name: c for name, run in runs.items() for c in run.courses if c.name == problem
        }  # fmt: skip
        return _one_course(found, named=len(schedules) > 1)

    versions = {key: None for run in every for key in run.versions}
    return Results(
        created=join(list(dict.fromkeys(run.created for run in every))),
        versions={
            key: join(list(dict.fromkeys(run.versions.get(key, "unknown") for run in every)))
            for key in versions
        },
        machine="; ".join(dict.fromkeys(run.machine for run in every)),
        schedule=join(list(schedules)),
        interrupted=any(run.interrupted for run in every),
        courses=[course(problem) for problem in problems],
    )


_FREE = ("about", "title", "trials", "failures")  # what may differ


def _one_course(found: dict[str, Course], named: bool) -> Course:
    first = next(iter(found.values()))
    for field in dataclasses.fields(Course):
        values = [getattr(course, field.name) for course in found.values()]
        if field.name not in _FREE and any(value != values[0] for value in values):
            what, shown = field.name.replace("_", " "), join([str(v or "none") for v in values])
            raise BadInput(
                f"{join(list(found))} cannot be put together: on {first.name} their {what} "
                f"differ, {shown}."
            )
    labels = [t.optimizer for c in found.values() for t in c.trials]
    labels += [label for c in found.values() for label in c.failures]
    counts = {len(t.seeds) for c in found.values() for t in c.trials}
    shared = min(counts)
    unequal = f" Not all runs have as many seeds: of each the first {shared} count."

    def told(label: str, name: str) -> str:
        return f"{label} ({name})" if named or labels.count(label) > 1 else label

    return dataclasses.replace(
        first,
        about=first.about + unequal * (len(counts) > 1),
        trials=[
            dataclasses.replace(_first_seeds(t, shared), optimizer=told(t.optimizer, name))
            for name, c in found.items()
            for t in c.trials
        ],
        failures={
            told(label, name): reason
            for name, c in found.items()
            for label, reason in c.failures.items()
        },
    )


def _first_seeds(trial: Trial, count: int) -> Trial:
    """The trial with the seeds that the others have too: they are compared seed by seed."""
    kept = {name: getattr(trial, name) for name in ("ran", "train_loss", "held_loss", "score")}
    return dataclasses.replace(
        trial,
        seeds=trial.seeds[:count],
        trace=None if trial.trace is None else trial.trace[:count],
        **{name: None if value is None else value[:, :count] for name, value in kept.items()},
    )
