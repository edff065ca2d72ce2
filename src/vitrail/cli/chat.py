"""`vitrail chat`: one question, or a conversation with follow-up questions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitrail.cli.arguments import RunName, TrustCode
from vitrail.contracts.devices import DeviceName
from vitrail.contracts.errors import MediaError, VitrailError
from vitrail.contracts.messages import Message, Part, TextPart
from vitrail.inference.config import GenerationConfig
from vitrail.media.config import SOUND_SUFFIXES, VIDEO_SUFFIXES

if TYPE_CHECKING:
    from vitrail.inference.chat_model import ChatModel

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
SUFFIXES = (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES, *SOUND_SUFFIXES)
STARTER = "starter"
HELP = (
    "A question and Enter. /picture FILE shows another picture, /sound FILE plays a sound, /new starts over, /quit (or "
    "Ctrl-D) leaves."
)


def chat(
    run: RunName,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PICTURE]... [QUESTION]",
            help="Pictures, videos or sounds, then the question. Without a question: a conversation.",
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Longest answer, tokens.", min=1)] = 256,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token every time.", min=0)] = 0.0,
    top_p: Annotated[float, typer.Option(help="Nucleus of the sampling, 0 to 1.", min=0, max=1)] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
    device: Annotated[DeviceName, typer.Option(help="Where to compute.")] = "auto",
    trust_code: TrustCode = False,
) -> None:
    """Ask a trained model about pictures, videos or sounds.

    The answer streams as it is made; without a question it is a conversation. RUN may be left out before a picture:
    then the starter that comes with the package answers.
    """
    if run.lower().endswith(SUFFIXES):
        typer.echo(f"no run is named, so {STARTER}, which comes with the package, answers", err=True)
        run, words = STARTER, [run, *(words or [])]
    pictures, question = split(words or [])
    missing = next((picture for picture in pictures if not Path(picture).is_file()), None)
    if missing:
        what = "sound" if missing.lower().endswith(SOUND_SUFFIXES) else "picture"
        raise MediaError(f"{what} '{missing}' does not exist")
    generation = GenerationConfig(max_tokens, temperature, top_p, seed)

    from vitrail.build import load
    from vitrail.media.rule import media_part

    model = load(run, device, trust_code=trust_code)
    for note in model.notes:
        typer.echo(note, err=True)
    shown: list[Part] = [media_part(Path(picture)) for picture in pictures]
    if question is None:
        converse(model, shown, generation)
    else:
        answer(model, [turn(shown, question)], generation)


def split(words: list[str]) -> tuple[list[str], str | None]:
    """Media and the question; a last word that names a file of theirs is one of them, and then there is no question."""
    if words and not Path(words[-1]).is_file() and not words[-1].lower().endswith(SUFFIXES):
        return words[:-1], words[-1]
    return words, None


def turn(pictures: list[Part], question: str) -> Message:
    """A user's turn: media first, as the model was trained."""
    return Message("user", (*pictures, TextPart("\n" * bool(pictures) + question)))


def answer(model: ChatModel, messages: list[Message], generation: GenerationConfig) -> str:
    """Prints the answer as it comes, says where it is more likely wrong than right, and returns it."""
    text = ""
    from vitrail.metrics.calibration import UNSURE

    likelihoods = [1.0]
    for piece in model.stream(messages, generation=generation, on_end=likelihoods.append):
        typer.echo(piece, nl=False)
        text += piece
    typer.echo()
    if model.calibration and (chance := model.calibration.chance(likelihoods[-1])) < UNSURE:
        typer.echo(f"(not sure: of such answers {chance:.0%} were right)", err=True)
    return text


def converse(model: ChatModel, pictures: list[Part], generation: GenerationConfig) -> None:
    """Question after question; each sees what was said before."""
    typer.echo(HELP, err=True)
    messages: list[Message] = []
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            typer.echo()
            return
        command, _, rest = line.partition(" ")
        if command == "/quit":
            return
        if command == "/new":
            messages, pictures = [], []
        elif command in ("/picture", "/sound"):
            from vitrail.media.rule import media_part

            pictures.append(media_part(Path(rest.strip())))
        elif line.startswith("/"):
            typer.echo(HELP, err=True)
        elif line:
            messages, pictures = _ask(model, messages, pictures, line, generation)


def _ask(
    model: ChatModel, messages: list[Message], pictures: list[Part], line: str, generation: GenerationConfig
) -> tuple[list[Message], list[Part]]:
    """One exchange; a medium that cannot be read is said and forgotten, the conversation stays."""
    asked = [*messages, turn(pictures, line)]
    try:
        said = answer(model, asked, generation)
    except VitrailError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        return messages, []
    return [*asked, Message("assistant", (TextPart(said),))], []
