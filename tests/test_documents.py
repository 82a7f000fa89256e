"""What the documents show is true: every code block runs, every link leads somewhere."""

from __future__ import annotations

import importlib.util
import pathlib
import re
import subprocess
import sys
import types
import unittest.mock

import jax
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]
BY_THEMSELVES = ["docs/neighbours.md"]
WITH_OUTPUT = {"docs/cluster.md"}  # all that is printed stands in a comment
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *PAGES]
IN_ORDER = [name for name in DOCUMENTS if name not in BY_THEMSELVES]


def run(code: str) -> types.ModuleType:
    """Runs code as a module of its own, which is what classes in it need."""
    module = sys.modules["pasted"] = types.ModuleType("pasted")
    exec(compile(code, "pasted", "exec"), module.__dict__)
    return module


def code_of(name: str) -> str:
    text = (ROOT / name).read_text()
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


@pytest.mark.parametrize("name", IN_ORDER)
def test_code_blocks_run_in_order(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The Python blocks of a document, pasted one after the other, run."""
    code = code_of(name)
    assert code
    run(code)
    if name in WITH_OUTPUT:
        printed = [f"# {line}".rstrip() for line in capsys.readouterr().out.splitlines()]
        assert printed
        assert [line for line in printed if line not in code] == []


def test_loggers_of_the_page() -> None:
    """What TensorBoard and Weights & Biases would be given."""
    page = run(code_of("docs/logging.md"))
    told = {**page.tx.hyperparameters(page.state), **page.gx.metrics(page.state)}
    writer, wandb = unittest.mock.Mock(), unittest.mock.Mock()
    page.to_tensorboard(writer, 4, page.state)
    assert [call.args for call in writer.add_scalar.mock_calls] == [
        (name, number, 4) for name, number in told.items()
    ]
    page.to_wandb(wandb, 4, page.state)
    wandb.log.assert_called_once_with(told, step=4)
    page.describe_to_wandb(wandb)
    (config,) = wandb.config.update.call_args.args
    assert config["optimizer"] == repr(page.tx)


def sections(name: str) -> dict[str, str]:
    """The Python blocks of a document, by the headings above them; the second of one is `... 2`."""
    found = {}
    for section in re.split(r"^## ", (ROOT / name).read_text(), flags=re.MULTILINE)[1:]:
        heading = section.splitlines()[0]
        for i, code in enumerate(re.findall(r"```python\n(.*?)```", section, re.DOTALL)):
            found[heading if i == 0 else f"{heading} {i + 1}"] = code
    return found


HEAVY = {"Keras": "keras", "BlackJAX": "blackjax", "NetKet": "netket", "GPJax": "gpjax"}
"""Of the extra `neighbours`. They set flags of JAX when they are imported: a process for each."""
BLOCKS = [
    pytest.param(code, module, id=heading, marks=[pytest.mark.slow] if module else [])
    for name in BY_THEMSELVES
    for heading, code in sections(name).items()
    for module in [HEAVY.get(heading.split(" ")[0])]
]


@pytest.mark.parametrize(("code", "module"), BLOCKS)
@pytest.mark.filterwarnings("default")  # those of other libraries are theirs
def test_code_blocks_run_by_themselves(
    code: str, module: str | None, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block is complete, and asserts that another hyperparameter is no new trace."""
    assert "assert" in code
    monkeypatch.chdir(tmp_path)
    if module is None:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            run(code)
        return
    if importlib.util.find_spec(module) is None:
        pytest.skip(f'{module} is not installed: pip install "gradtx[neighbours]"')
    monkeypatch.delenv("XLA_FLAGS")  # one device, as users have it
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_neighbours_count_their_traces() -> None:
    """Every recipe for a training loop asserts that it was traced no more often than it says."""
    blocks = sections("docs/neighbours.md")
    assert set(HEAVY) <= set(blocks)
    counting = [name for name, code in blocks.items() if "assert len(traces) ==" in code]
    assert len(counting) == len(blocks) - 1  # the weights are trained elsewhere


def test_printed_optimizer_in_the_readme() -> None:
    """The comment under `print(tx)` is what is printed."""
    text = (ROOT / "README.md").read_text()
    found = re.search(r"```python\n(tx = .*\n)print\(tx\)\n((?:# .*\n)+)", text)
    assert found
    code, comment = found.groups()
    shown = "\n".join(line[2:] for line in comment.splitlines())
    assert repr(run(f"import gradtx as gx\n{code}").tx) == shown


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files(name: str) -> None:
    folder = (ROOT / name).parent
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text())
    missing = [link for link in links if "://" not in link and not (folder / link).exists()]
    assert not missing


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100


SLOW_NOTEBOOKS = {"minima.ipynb"}
NOTEBOOKS = [
    pytest.param(p, id=p.name, marks=[pytest.mark.slow] if p.name in SLOW_NOTEBOOKS else [])
    for p in sorted((ROOT / "notebooks").glob("*.ipynb"))
]


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_notebook_runs(path: pathlib.Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=300, kernel_name="python3")
    client.execute(cwd=str(ROOT))
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 4
