"""``diglot zoo …``: the systems written by hand, run and compared."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from diglot.cli_output import Json, only_json, stderr, stdout
from diglot.errors import EXIT_PROVEN

COMPARE_FOLDER = Path("zoo-out/compare")
CLAIMS_FOLDER = Path("zoo-out/claims")


class Framework(StrEnum):
    torch = "torch"
    keras = "keras"


zoo_app = typer.Typer(
    help="Systems written by hand in both languages, trained on real data and compared.",
    invoke_without_command=True,
)


@zoo_app.callback()
def zoo(context: typer.Context) -> None:
    """Systems written by hand in both languages, trained on real data and compared."""
    if context.invoked_subcommand is None:
        zoo_list(as_json=False)


@zoo_app.command("list")
def zoo_list(as_json: Json = False) -> None:
    """List the pairs and the studies."""
    from diglot.zoo import PAIRS, STUDIES, find_exhibit

    with only_json(as_json) as emit:
        pairs = [find_exhibit(name) for name in PAIRS + STUDIES]
        found = [{"name": p.name, "title": p.title, "document": p.document} for p in pairs]
        emit({"exit_code": EXIT_PROVEN, "pairs": found})
        if not as_json:
            from diglot.zoo.console import list_view

            stdout().print(list_view(pairs))


@zoo_app.command("run")
def zoo_run(
    name: Annotated[str, typer.Argument(help="The pair's name: see diglot zoo list.")],
    full: Annotated[
        bool, typer.Option("--full/--fast", help="The real thing, or under a minute.")
    ] = False,
    faithful: Annotated[
        bool, typer.Option(help="Train what the document builds, too, and compare.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(help="In place of the setting's.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and batches.")] = 0,
    data: Annotated[
        Path | None, typer.Option(help="Learn from this in place of the pair's own data.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Change an argument of the pair's models, data or recipe.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The folder to write: zoo-out/NAME.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a pair in both languages, prove that its models are one function, and draw it; or do
    what a study compares.

    The same command again goes on where a run was interrupted.
    """
    from diglot.zoo import Options, find_exhibit, read_changes

    with only_json(as_json) as emit:
        from diglot.zoo.console import RunView

        exhibit = find_exhibit(name)
        setting = "full" if full else "fast"
        folder = output or Path("zoo-out") / (name if full else f"{name}-fast")
        changed = read_changes(changes or ())
        options = Options(setting, folder, faithful, epochs, seed, data, changed)
        exhibit.check(options)
        with RunView(stderr()) as view:
            result = exhibit.run(options, view)
        stderr().print(exhibit.view(result))
        stderr().print(f"Curves and code on facing pages: {folder / 'page.html'}")
        emit(result)
    raise typer.Exit(result["exit_code"])


@zoo_app.command("classify")
def zoo_classify(
    texts: Annotated[list[str], typer.Argument(help="Raw texts, each in quotation marks.")],
    run: Annotated[Path, typer.Option(help="The folder of a pair that was trained on texts.")],
    framework: Annotated[
        Framework, typer.Option(help="Which of the two answers.")
    ] = Framework.keras,
    as_json: Json = False,
) -> None:
    """Say of which class each text is, by what a run has learned: raw text in, label out."""
    from diglot.zoo import find_run

    with only_json(as_json) as emit:
        answers = find_run(run).classify(run, framework.value, texts)
        found = [{"label": max(a, key=a.__getitem__), "probabilities": a} for a in answers]
        emit({"exit_code": EXIT_PROVEN, "framework": framework.value, "texts": found})
        if not as_json:
            from diglot.zoo.console import labels_view

            stdout().print(labels_view(texts, found))


@zoo_app.command("simulate-dna")
def zoo_simulate_dna(
    output: Annotated[Path, typer.Argument(help="The CSV file to write.")],
    count: Annotated[int, typer.Option(help="Pairs of ancestor and descendant.")] = 1000,
    length: Annotated[int, typer.Option(help="Bases of an ancestor, or the most of them.")] = 50,
    shortest: Annotated[int | None, typer.Option(help="The fewest bases of an ancestor.")] = None,
    substitution: Annotated[float, typer.Option(help="The share of bases exchanged.")] = 0.05,
    insertion: Annotated[float, typer.Option(help="The share of bases that get another.")] = 0.02,
    deletion: Annotated[float, typer.Option(help="The share of bases lost.")] = 0.02,
    deamination: Annotated[
        float, typer.Option(help="The share of those C before a G that become T.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same file.")] = 0,
    as_json: Json = False,
) -> None:
    """Simulate DNA and its descendants, as a CSV file with the columns ancestor and descendant."""
    from diglot.data.dna import Rates, simulate, write_pairs

    with only_json(as_json) as emit:
        rates = Rates(substitution, insertion, deletion, deamination)
        pairs = simulate(count, length, rates, seed, shortest)
        write_pairs(output, pairs)
        stderr().print(f"{len(pairs):,} pairs: {output}")
        emit({"exit_code": EXIT_PROVEN, "path": str(output), "pairs": len(pairs)})


@zoo_app.command("compare")
def zoo_compare(
    names: Annotated[
        list[str] | None, typer.Argument(help="Pairs; all of them where none is named.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each, with a seed each.")] = 3,
    seconds: Annotated[
        float, typer.Option(min=0.0, help="For each mode and batch size of inference.")
    ] = 1.0,
    full: Annotated[bool, typer.Option("--full/--fast", help="The setting of training.")] = False,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The folder to write.")
    ] = COMPARE_FOLDER,
    as_json: Json = False,
) -> None:
    """Compare the pairs' two sides: training, inference, memory, lines of code, score.

    Every measurement is made in a process of its own; the same command again makes only those that
    are not in the folder yet.
    """
    from diglot.zoo import PAIRS, find_pair

    pairs = [find_pair(name) for name in names or PAIRS]
    with only_json(as_json) as emit:
        from diglot.benchmark.compare import Comparer, Plan
        from diglot.benchmark.compare_view import compare_view, write_pages
        from diglot.zoo.console import RunView

        plan = Plan("full" if full else "fast", repeats, seconds)
        with RunView(stderr()) as view:
            result = Comparer(pairs, plan, output, view).run()
            view("Drawing", {"kind": "stage"})
            page = write_pages(result, output)
        stderr().print(compare_view(result))
        stderr().print(f"Tables and pictures: {page}")
        emit(result)
    raise typer.Exit(result["exit_code"])


@zoo_app.command("claims")
def zoo_claims(
    ids: Annotated[
        list[str] | None, typer.Argument(help="C9 C10 …; all of them where none is named.")
    ] = None,
    pairs: Annotated[
        list[str] | None, typer.Option("--pair", help="A pair to judge by, in place of all.")
    ] = None,
    comparison: Annotated[
        Path, typer.Option(help="The folder of zoo compare: what it holds is not measured again.")
    ] = COMPARE_FOLDER,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The folder to write.")
    ] = CLAIMS_FOLDER,
    as_json: Json = False,
) -> None:
    """Judge what the documents claim, each by a measurement that is made, or found, here.

    Claims about the two frameworks' speed are judged by every pair: diglot zoo compare first makes
    what takes longest, and says how often each pair is measured.
    """
    from diglot.benchmark.claims import find_claims
    from diglot.zoo import PAIRS, find_pair

    claims = find_claims(ids)
    chosen = [find_pair(name) for name in pairs or PAIRS]
    with only_json(as_json) as emit:
        from diglot.benchmark.claims import judging
        from diglot.benchmark.claims.evidence import Evidence
        from diglot.zoo.console import RunView

        with RunView(stderr()) as view:
            result = judging.judge(claims, Evidence(output, comparison, view, chosen))
        page = judging.write(result, output)
        stderr().print(judging.claims_view(result))
        stderr().print(f"With how each was measured: {page}")
        emit(result)
    raise typer.Exit(result["exit_code"])
