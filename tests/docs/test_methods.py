"""Each heuristic and each remedy has a page, with the parts of all others, and with settings and programs that work."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lit_dist.callbacks
from lit_dist import VisitCallback
from lit_dist.callbacks import SiteStatistics, WeightTransfer
from lit_dist.cli.main import main
from lit_dist.study.heuristics import read_heuristics
from lit_dist.study.settings import parsed, study_parser
from pages import ROOT, code, links, sections

METHODS = ROOT / "docs" / "methods"
OVERVIEW = METHODS / "index.md"
PAGES = sorted(set(METHODS.glob("*.md")) - {OVERVIEW})
PARTS = [
    "What moves, and when", "Formula", "Source", "How to set it", "Measured", "When not to use it", "Good to know",
]  # fmt: skip
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


KINDS = (WeightTransfer, VisitCallback, SiteStatistics)
EXPORTED = [name for name in lit_dist.callbacks.__all__ if issubclass(getattr(lit_dist.callbacks, name), KINDS)]


@pytest.mark.parametrize("name", sorted({*EXPORTED} - {"WeightTransfer"}))
def test_each_heuristic_and_each_remedy_has_its_page(name: str) -> None:
    entry = f"../api/callbacks.md#lit_dist.callbacks.{name}"
    own = [page for page in PAGES if f"[`{name}`]({entry})" in sections(page)["How to set it"]]
    assert len(own) == 1, f"{name} has {len(own)} pages in docs/methods whose part 'How to set it' links to {entry}"


def test_the_overview_and_the_navigation_lead_to_each_page() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    [below] = [entry["Heuristics and remedies"] for entry in nav if "Heuristics and remedies" in entry]
    listed = [place for each in below for place in each.values()]
    assert listed[0] == "methods/index.md"
    assert sorted(listed[1:]) == [f"methods/{page.name}" for page in PAGES]
    order = [link for link in links(OVERVIEW) if (METHODS / link) in PAGES]
    assert order == [place.removeprefix("methods/") for place in listed[1:]]


@each_page
def test_a_page_has_the_parts_of_all_others(page: Path) -> None:
    assert list(sections(page)) == PARTS
    assert all(text.strip() for text in sections(page).values())


@each_page
def test_settings_are_those_of_a_shipped_configuration_and_can_be_read(
    page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [shipped] = {(page.parent / link).resolve() for link in links(page) if link.startswith("../../configs/")}
    blocks = list(code(page, "yaml"))
    assert is_part(yaml.safe_load(blocks[0]), yaml.safe_load(shipped.read_text(encoding="utf-8")))
    excerpt = tmp_path / "excerpt.yaml"
    for block in blocks:
        excerpt.write_text(block, encoding="utf-8")
        if "trainer" in (given := yaml.safe_load(block)) or "model" in given:
            read_run(shipped if shipped.stem.partition("_")[0] != "compare" else CYCLICAL, excerpt)
        else:
            read_study(shipped if shipped.stem.partition("_")[0] == "compare" else STUDY, excerpt)


CYCLICAL, STUDY = (ROOT / "configs" / "phantom" / name for name in ("cyclical.yaml", "compare.yaml"))


def is_part(some: Any, whole: Any) -> bool:
    """Whether what an excerpt says stands in a configuration, in the same order."""
    if isinstance(some, dict):
        return isinstance(whole, dict) and all(key in whole and is_part(some[key], whole[key]) for key in some)
    if isinstance(some, list) and isinstance(whole, list):
        rest = iter(whole)
        return all(any(is_part(each, other) for other in rest) for each in some)
    return bool(some == whole)


def read_run(base: Path, excerpt: Path) -> None:
    command = "test" if "SiteEnsemble" in excerpt.read_text(encoding="utf-8") else "fit"
    with pytest.raises(SystemExit) as end:
        main([command, "--config", str(base), "--config", str(excerpt), "--print_config"])
    assert not end.value.code


def read_study(base: Path, excerpt: Path) -> None:
    parser = study_parser()
    settings = parsed(parser, parser.parse_args(["--config", str(base), "--config", str(excerpt)]))
    read_heuristics(yaml.safe_load(excerpt.read_text(encoding="utf-8")).get("heuristics", ["central"]))
    assert settings.heuristics


class YourModule(L.LightningModule):
    """Stands for the reader's: two classes, batch normalisation, a logged loss of validation."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, points: Tensor) -> Tensor:
        found: Tensor = self.network(points)
        return found

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


class YourData(L.LightningDataModule):
    """Stands for the reader's: loaders by site."""

    def train_dataloader(self) -> dict[str, DataLoader[Any]]:
        return {site: self._loader(number) for number, site in enumerate(("mgh", "ucsf"))}

    val_dataloader = train_dataloader

    def _loader(self, seed: int) -> DataLoader[Any]:
        points = torch.randn(16, 8, generator=torch.Generator().manual_seed(seed))
        return DataLoader(TensorDataset(points, (points[:, 0] > 0).long()), batch_size=8)


@each_page
@pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's advice on loaders and loggers
def test_the_program_runs(page: Path) -> None:
    [program] = code(page, "python")
    names: dict[str, Any] = {"__name__": page.stem, "your_module": YourModule(), "your_datamodule": YourData()}
    exec(program, names)
    if (trainer := names.get("trainer")) is not None:
        assert trainer.global_step
        assert trainer.state.finished
