"""Rivals are trained alike: rates, seeds, pairs, cost; training that is no loss over batches; tables and their claims."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from erlangen.errors import NotFiniteError
from erlangen.survey import ClaimError, Rival, Run, Sizes, Split, Table, Training, compare, sweep
from erlangen.survey.tables import HEAD, TOO_SMALL
from erlangen.training import fit

SIZES = Sizes(60, 30, 40)
FULL = Run("full", 5, type("Budget", (), {"seeds": 3})())


def draw_line(run: Run = FULL):
    """Points on a plane ``y = 2 a - b``, other ones for every seed."""

    def draw(seed: int) -> Split:
        sizes = run.sizes(SIZES)
        x = torch.randn(sizes.total, 2, generator=torch.Generator().manual_seed(seed))
        return Split.of(x, x @ torch.tensor([[2.0], [-1.0]]), sizes)

    return draw


def line() -> nn.Module:
    return nn.Linear(2, 1)


@torch.no_grad()
def error(model, x: Tensor, y: Tensor, generator: torch.Generator) -> dict[str, float]:
    return {"error": float(mse_loss(model(x), y)), "luck": float(torch.rand(1, generator=generator))}


def run_of(rivals: dict[str, Rival], *, run: Run = FULL, measure=error, **how) -> Table:
    settings = {"epochs": 5, "batch": 20, "rates": (0.1, 0.01)} | how
    return compare("toy", rivals, draw_line(run), Training(mse_loss, **settings), measure, best="error", run=run)


# --- equal by construction -------------------------------------------------------------------------------------------
def test_everyone_has_the_same_data_seeds_and_columns() -> None:
    seen: dict[str, list[tuple[int, float]]] = {"a": [], "b": []}

    def noting(name: str):
        def train(model, split, rate, training, generator):
            seen[name].append((len(split.train[0]), float(split.train[0].sum())))

        return train

    table = run_of({name: Rival(line, fit=noting(name)) for name in seen}, widen=0)
    assert seen["a"] == seen["b"]
    assert len(seen["a"]) == 2 + 1 + 1  # two rates on the first seed, then one each
    assert len({total for _, total in seen["a"]}) == 3
    assert [row["seed"] for row in table.runs] == [5, 6, 7] * 2
    assert table["a", "luck"].tolist() == table["b", "luck"].tolist()  # the same generator for all
    assert list(table.rows[0])[:9] == ["part", "model", *HEAD]
    assert table.rows[0]["parameters"] == 3
    assert (table.rows[0]["epochs"], table.rows[0]["samples"], table.rows[0]["seeds"]) == (5, 60, 3)


def test_the_rate_is_chosen_on_validation_data_at_full_length() -> None:
    """A model that does well on validation data at one rate, and on test data at another, is judged with the former."""
    lengths: list[int] = []

    def train(model, split, rate, training, generator):
        lengths.append(training.epochs)
        model.weight.data.fill_(rate)

    def measure(model, x, y, generator):
        rate = float(model.weight.detach().mean())
        return {"error": abs(rate - (0.1 if len(x) == SIZES.validation else 1.0))}

    table = run_of({"a": Rival(line, fit=train)}, measure=measure, rates=(0.01, 0.1, 1.0), widen=0)
    assert table.rows[0]["learning rate"] == pytest.approx(0.1)
    assert table.rows[0]["rates tried"] == "0.01, 0.1, 1"
    assert table.rows[0]["rate chosen on"] == "first seed"
    assert set(lengths) == {5}
    assert table["a", "error"].tolist() == pytest.approx([0.9] * 3)


def fixed_optimum(best: float):
    def train(model, split, rate, training, generator):
        model.weight.data.fill_(rate)

    def measure(model, x, y, generator):
        return {"error": abs(math.log10(float(model.weight.detach().mean()) / best))}

    return {"a": Rival(line, fit=train)}, measure


@pytest.mark.parametrize(("best", "widen", "tried"), [
    (1e-3, 3, "0.0001, 0.001, 0.01"),  # the first of the two is at the edge: one below it is tried, and loses
    (1e-5, 3, "1e-06, 1e-05, 0.0001, 0.001, 0.01"),
    (1e-5, 1, "0.0001, 0.001, 0.01"),
    (1.0, 3, "0.001, 0.01, 0.1, 1, 10"),
    (1.0, 0, "0.001, 0.01"),
])  # fmt: skip
def test_rates_at_the_edge_are_widened(best: float, widen: int, tried: str) -> None:
    rivals, measure = fixed_optimum(best)
    table = run_of(rivals, measure=measure, rates=(1e-3, 1e-2), widen=widen)
    assert table.rows[0]["rates tried"] == tried


def test_every_seed_may_choose_anew() -> None:
    def train(model, split, rate, training, generator):
        model.weight.data.fill_(rate)

    def measure(model, x, y, generator):
        # The best rate depends on the seed, through the data.
        return {"error": abs(float(model.weight.detach().mean()) - (0.1 if float(x.sum()) > 0 else 0.01))}

    table = run_of({"a": Rival(line, fit=train)}, measure=measure, choose="every seed", widen=0)
    signs = [float(draw_line()(seed).validation[0].sum()) > 0 for seed in (5, 6, 7)]
    assert [row["learning rate"] for row in table.runs] == [0.1 if sign else 0.01 for sign in signs]
    assert table.rows[0]["rate chosen on"] == "every seed"


def test_a_rate_that_blows_up_loses_and_says_so_if_all_do() -> None:
    def train(model, split, rate, training, generator):
        if rate > 0.05:
            raise NotFiniteError("the loss is nan")

    table = run_of({"a": Rival(line, fit=train)}, widen=0)
    assert table.rows[0]["learning rate"] == 0.01
    with pytest.raises(
        NotFiniteError, match=r"'a' cannot be trained with any of the rates \[0.1, 1.0\]: the loss is nan"
    ):
        run_of({"a": Rival(line, fit=train)}, rates=(0.1, 1.0))


def test_it_learns_and_the_cost_is_counted() -> None:
    rivals = {
        "line": Rival(line),
        "longer": Rival(line, longer=3),
        "zero": Rival(lambda: lambda x: 0 * x[:, :1], trains=False),
    }
    table = run_of(rivals, epochs=20)
    assert float(table["line", "error"].max()) < 0.1 * float(table["zero", "error"].min())
    assert [row["epochs"] for row in table.rows] == [20, 60, 0]
    assert table.rows[1]["seconds"] > 1.5 * table.rows[0]["seconds"]
    assert table.rows[2]["learning rate"] is None


def test_the_same_run_gives_the_same_rows() -> None:
    rows = [
        [{key: value for key, value in row.items() if key != "seconds"} for row in run_of({"a": Rival(line)}).runs]
        for _ in range(2)
    ]
    assert rows[0] == rows[1]


def test_transforms_losses_objectives_and_best_weights() -> None:
    def doubled(x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return x, 2 * y

    def ridge(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return mse_loss(model(x), y) + 10 * model.weight.square().sum()

    rivals = {
        "plain": Rival(line),
        "doubled": Rival(line, doubled),
        "absolute": Rival(line, loss=nn.functional.l1_loss),
        "ridge": Rival(line, objective=ridge),
    }
    slopes: dict[int, float] = {}

    def measure(model, x, y, generator):
        slopes[len(slopes)] = float(model.weight.detach()[0, 0])
        return error(model, x, y, generator)

    table = run_of(rivals, measure=measure, epochs=30, rates=(0.1,))
    assert float(table["plain", "error"].max()) < 0.01
    assert float(table["absolute", "error"].max()) < 0.1
    assert float(table["doubled", "error"].min()) > 1
    assert abs(slopes[3]) < 0.3  # the ridge of the first seed
    # Doubled targets lead away from the validation data: the best weights are those of an early epoch.
    best = run_of({"doubled": Rival(line, doubled)}, epochs=30, rates=(0.1,), keep="best")
    assert float(best["doubled", "error"].mean()) < 0.5 * float(table["doubled", "error"].mean())


def test_a_model_may_look_at_training_data_first() -> None:
    seen: list[tuple[int, bool]] = []

    def prepare(model: nn.Module, split: Split) -> None:
        seen.append((len(split.train[0]), model.weight.grad is None))
        model.bias.data.fill_(float(split.train[1].mean()))

    run_of({"a": Rival(line, prepare=prepare), "b": Rival(line, prepare=prepare, trains=False)}, rates=(0.1,))
    assert seen == [(60, True)] * 6


# --- training that is no loss over batches ---------------------------------------------------------------------------
def test_an_adversarial_training() -> None:
    """Learn a location by fooling a critic: the generator's mean goes to that of the data."""

    def step(optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def train(model, split, rate, training, generator):
        critic = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
        optimizers = [torch.optim.Adam(net.parameters(), lr=rate) for net in (model, critic)]
        real = split.train[0] + 3
        for _ in range(training.epochs):
            for rows in real.split(training.batch):
                noise = torch.randn(len(rows), 2, generator=generator)
                judged = critic(torch.cat([rows, model(noise).detach()]))
                labels = torch.cat([torch.ones(len(rows), 1), torch.zeros(len(rows), 1)])
                step(optimizers[1], nn.functional.binary_cross_entropy_with_logits(judged, labels))
                step(optimizers[0], nn.functional.softplus(-critic(model(noise))).mean())

    @torch.no_grad()
    def measure(model, x, y, generator):
        made = model(torch.randn(500, 2, generator=generator))
        return {"error": float((made.mean(0) - 3).norm())}

    rivals = {
        "adversarial": Rival(lambda: nn.Linear(2, 2), fit=train),
        "untrained": Rival(lambda: nn.Linear(2, 2), trains=False),
    }
    table = run_of(rivals, measure=measure, epochs=60, rates=(0.01, 0.03))
    claim = table.beats("adversarial-learns", "adversarial", "untrained", "error", by=0.5)
    assert claim.verdict == "holds"
    assert table.rows[0]["rates tried"].count(",") >= 1
    assert table.rows[0]["seconds"] > 0


def test_an_lbfgs_training_returns_what_it_found() -> None:
    """L-BFGS solves the plane exactly, in a few full-batch steps; the model it returns counts."""

    def train(model, split, rate, training, generator):
        found = nn.Linear(2, 1)
        found.load_state_dict(model.state_dict())
        optimizer = torch.optim.LBFGS(found.parameters(), lr=rate, max_iter=training.epochs)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = mse_loss(found(split.train[0]), split.train[1])
            loss.backward()
            return loss

        optimizer.step(closure)
        return found

    rivals = {"L-BFGS": Rival(line, fit=train, rates=(1.0, 0.5)), "AdamW": Rival(line)}
    table = run_of(rivals, epochs=10)
    assert float(table["L-BFGS", "error"].max()) < 1e-6
    assert table.rows[0]["rates tried"].endswith("0.5, 1, 2") or "1" in table.rows[0]["rates tried"]
    assert table.beats("lbfgs-beats-adamw", "L-BFGS", "AdamW", "error").verdict == "holds"
    assert not any(parameter.grad is not None for parameter in line().parameters())


# --- scales ----------------------------------------------------------------------------------------------------------
def test_smoke_tries_one_rate_and_settles_nothing() -> None:
    smoke = Run("smoke", 0, type("Budget", (), {"seeds": 1})())
    table = run_of({"a": Rival(line), "b": Rival(line)}, run=smoke)
    assert table.rows[0]["rates tried"] == "0.1"
    claims = [
        table.beats("beats", "a", "b", "error"),
        table.not_worse("not-worse", "a", "b", "error"),
        table.bound("bound", "It is small.", table["a", "error"], at_most=1e9),
        table.same("same", "They agree.", table["a", "error"], table["b", "error"], tol=1e9),
        table.number("number", "It is one.", table["a", "error"], expected=1.0, tol=1e9),
    ]
    assert {(claim.verdict, claim.note) for claim in claims} == {("not settled", TOO_SMALL)}


def test_a_dry_run_takes_one_step() -> None:
    steps: list[int] = []

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        steps.append(len(x))
        return mse_loss(model(x), y)

    dry = Run("paper", 0, type("Budget", (), {"seeds": 5})(), dry=True)
    table = run_of({"a": Rival(line, objective=objective)}, run=dry, epochs=1000)
    assert steps == [4]
    assert len(table.runs) == 1


def test_models_and_data_go_to_the_device() -> None:
    """On the meta device nothing has values, but everything has a place."""
    places: list[str] = []

    def train(model, split, rate, training, generator):
        places.extend([model.weight.device.type, split.train[0].device.type])

    def measure(model, x, y, generator):
        places.extend([model.weight.device.type, x.device.type, generator.device.type])
        return {"error": 0.0}

    compare(
        "toy", {"a": Rival(line, fit=train)}, draw_line(), Training(mse_loss, 1, 20, (0.1,)), measure,
        best="error", run=Run("smoke", device="meta"),
    )  # fmt: skip
    assert places == ["meta", "meta", "meta", "meta", "cpu"]


# --- tables ----------------------------------------------------------------------------------------------------------
def table_of(**models: list[float]) -> Table:
    rows = [
        {"model": m, "seed": s, "accuracy": v, "error": 1 / v} for m, vs in models.items() for s, v in enumerate(vs)
    ]
    return Table("digits", rows, Run("full"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_none_has_no_spread(value: float) -> None:
    (row,) = table_of(a=[1.0, value]).rows
    assert math.isnan(row["accuracy, spread"])
    assert not math.isfinite(row["accuracy"])
    assert table_of(a=[1.0, value], b=[1.0, 1.0]).beats("a-b", "a", "b", "accuracy").verdict != "holds"


def test_pairs_decide_where_means_do_not() -> None:
    """Seeds differ by more than the models do, yet every seed agrees on which is better."""
    table = table_of(ours=[50.0, 70.0, 90.0], theirs=[49.0, 68.6, 88.4])
    claim = table.beats("ours-beat", "ours", "theirs", "accuracy")
    assert claim.verdict == "holds"
    assert claim.threshold == "> 1"
    assert claim.values == pytest.approx((50 / 49, 70 / 68.6, 90 / 88.4))
    assert claim.statement == 'Digits: "accuracy" of ours over that of theirs; larger is better.'
    assert table.beats("errors", "ours", "theirs", "error").threshold == "< 1"
    assert table.beats("reversed", "theirs", "ours", "accuracy").verdict == "fails"


def test_names_with_commas_are_quoted_in_sentences() -> None:
    table = table_of(**{"net, long": [3.0, 3.1], "net": [2.0, 2.1], "net, short": [1.0, 1.1]})
    claim = table.beats("wins", "net, long", ["net", "net, short"], "accuracy")
    assert claim.statement == (
        'Digits: "accuracy" of "net, long" over that of the best of net, "net, short"; larger is better.'
    )


@pytest.mark.parametrize(
    ("ours", "by", "verdict"),
    [
        ([60, 61, 62], 1.0, "holds"),
        ([60, 61, 49], 1.0, "undecided"),
        ([40, 41, 42], 1.0, "fails"),
        ([60, 61, 62], 1.5, "fails"),
    ],
)
def test_verdicts_of_beats(ours: list[float], by: float, verdict: str) -> None:
    table = table_of(ours=ours, theirs=[50.0, 50.0, 50.0])
    assert table.beats("b", "ours", "theirs", "accuracy", by=by).verdict == verdict


def test_at_least_as_good() -> None:
    table = table_of(ours=[49.0, 49.2, 49.1], theirs=[50.0, 50.0, 50.0])
    assert table.not_worse("n", "ours", "theirs", "accuracy").verdict == "fails"
    assert table.not_worse("n", "ours", "theirs", "accuracy", margin=0.05).verdict == "holds"
    assert table.not_worse("n", "ours", "theirs", "error", margin=0.05).threshold == "<= 1.05"


def test_ratios_of_any_numbers() -> None:
    table = table_of(ours=[49.0, 49.2, 49.1], theirs=[50.0, 50.0, 50.0])
    claim = table.ratio("r", "Accuracy over error.", table["ours", "accuracy"], table["ours", "error"], above=2000)
    assert claim.values == pytest.approx((49.0**2, 49.2**2, 49.1**2))
    assert (claim.kind, claim.verdict) == ("ratio", "holds")
    assert table.ratio("z", "Over nothing.", table["ours", "accuracy"], np.zeros(3), below=1).verdict == "fails"


def test_the_best_of_several() -> None:
    table = table_of(ours=[60.0, 61.0], a=[50.0, 50.0], b=[55.0, 56.0])
    claim = table.beats("b", "ours", ["a", "b"], "accuracy")
    assert claim.values == pytest.approx((60 / 55, 61 / 56))
    assert "the best of a, b" in claim.statement


def test_means_and_spreads_are_of_the_seeds() -> None:
    table = table_of(ours=[1.0, 2.0, 6.0])
    [row] = table.rows
    assert (row["accuracy"], row["seeds"]) == (3.0, 3)
    assert row["accuracy, spread"] == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert len(table.part().runs) == 3


def test_what_is_not_random_is_judged_by_its_number() -> None:
    table = sweep("solved", {"a": lambda seed: {"error": 1.0}, "b": lambda seed: {"error": 2.0}}, run=FULL, once=True)
    claim = table.beats("a-beats-b", "a", "b", "error")
    assert (claim.verdict, claim.values, claim.measured) == ("holds", None, 0.5)
    assert "seeds" not in table.rows[0]
    assert not table.part(claim).runs


def test_sweeps_are_seeded_timed_and_paired() -> None:
    table = sweep("solved", {name: lambda seed: {"x": float(torch.rand(1))} for name in "ab"}, run=FULL)
    assert table["a", "x"].tolist() == table["b", "x"].tolist()
    assert len(set(table["a", "x"].tolist())) == 3
    assert "seconds" in table.rows[0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: table_of(a=[1.0])["b", "accuracy"], "has no model 'b'; it has a"),
        (lambda: table_of(a=[1.0])["a", "loss"], "'a' has no numbers in the column 'loss'; its columns are"),
        (lambda: Table("t", [], Run()), r"have the seeds \[\]"),
        (lambda: table_of(a=[1.0], b=[1.0, 2.0]), r"have the seeds \[\(0,\), \(0, 1\)\]"),
        (
            lambda: Table("t", [{"model": "a", "seed": 0, "x": 1}, {"model": "a", "seed": 1}], Run()),
            "'a' has other columns for other seeds",
        ),
        (lambda: Training(mse_loss, 0, 1, (0.1,)), "Training.epochs = 0"),
        (lambda: Training(mse_loss, 1, True, (0.1,)), "Training.batch = True"),
        (lambda: Training(mse_loss, 1, 1, ()), r"Training.rates = \(\)"),
        (lambda: Training(mse_loss, 1, 1, (0.1, math.nan)), "Training.rates"),
        (
            lambda: compare("t", {}, draw_line(), Training(mse_loss, 1, 1, (0.1,)), error, best="error", run=FULL),
            "no rivals",
        ),
        (lambda: Split.of(torch.zeros(5), torch.zeros(5), SIZES), "5 samples, but sizes"),
        (lambda: FULL.sizes(Sizes(0, 1, 1)), "give samples to train and to test"),
        (
            lambda: compare(
                "t",
                {"a": Rival(line)},
                draw_line(),
                Training(mse_loss, 1, 20, (0.1, 0.2)),
                error,
                best="accuracy",
                run=FULL,
            ),
            "best = 'accuracy' is no number that measure gives; its columns are error, luck",
        ),
    ],
)
def test_mistakes_are_named(make, words: str) -> None:
    with pytest.raises(ClaimError, match=words):
        make()


def test_fit_is_that_of_the_library() -> None:
    """A rival without a training of its own is trained as `erlangen.fit` trains it with the same settings."""
    split = draw_line()(5)
    torch.manual_seed(5)
    model = line()
    fit(
        model, *split.train, loss=mse_loss, epochs=5, batch_size=20,
        optimizer=lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.0),
        schedule=lambda done: 0.5 + 0.5 * math.cos(math.pi * done), seed=5, progress=False,
    )  # fmt: skip
    with torch.no_grad():
        expected = float(mse_loss(model(split.test[0]), split.test[1]))
    table = run_of({"a": Rival(line)}, rates=(0.1,))
    assert table["a", "error"][0] == pytest.approx(expected, rel=1e-6)
