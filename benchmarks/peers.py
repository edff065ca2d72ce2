"""transformers' Trainer and TRL's SFTTrainer on an exported folder, set up as their users would.

Both open the folder that `vitrail.export.official` wrote, and the pictures batch by batch, as TRL does by itself. The
encoder and the projector are trained whole (peft's `modules_to_save`), the language model by LoRA on the matrices that
ours has it on.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from rounds import Contestant, Pass
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PrinterCallback,
    ProcessorMixin,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

from vitrail.contracts.samples import IGNORE
from vitrail.models.config import LoraConfig as OurLora
from vitrail.training.device import fast_bfloat16

BATCH = 8
"""Their default."""

# ChatML with marks around what is learnt, as the documentation of both asks for. The exported template writes the same
# text without them: a test compares.
TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\\n' }}"
    "{%- if message['role'] == 'assistant' %}"
    "{%- generation %}{{- message['content'][0]['text'] + '<|im_end|>' }}{%- endgeneration %}"
    "{%- else %}{%- for part in message['content'] %}"
    "{%- if part['type'] == 'image' %}{{- 'PICTURE' }}{%- else %}{{- part['text'] }}{%- endif %}"
    "{%- endfor %}{{- '<|im_end|>' }}{%- endif %}{{- '\\n' }}{%- endfor %}"
)


class PillowProcessor(ProcessorMixin):  # type: ignore[misc]
    """PixtralProcessor, which cannot be imported without torchvision, over transformers' own Pillow backend.

    Source: transformers 5.23, `models/pixtral/processing_pixtral.py`.
    """

    def __init__(
        self,
        image_processor: Any,
        tokenizer: Any,
        chat_template: str | None = None,
        *,
        unit: int = 28,
        tokens: Sequence[str] = ("[IMG]", "[IMG_BREAK]", "[IMG_END]"),
    ) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self.unit = unit
        self.image_token, self.row_break, self.end = tokens
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.image_token_ids = tokenizer.convert_tokens_to_ids(list(tokens))

    def _process_images(self, images: Any, **how: Any) -> Any:
        return super()._process_images(images, **{**how, "patch_size": self.unit})

    def replace_image_token(self, image_inputs: Mapping[str, Any], image_idx: int, **_: Any) -> str:
        rows, columns = (int(side) // self.unit for side in image_inputs["image_sizes"][image_idx])
        return self.row_break.join([self.image_token * columns] * rows) + self.end


@dataclass(frozen=True)
class Exported:
    """What a peer starts from. model: the exported folder. rows: messages with parts of text and places for pictures,
    and paths of pictures. lengths: in tokens, of each. picture: the names of its three tokens.
    """

    model: Path
    rows: Sequence[Mapping[str, Any]]
    lengths: Sequence[int]
    picture: tuple[str, str, str]
    lora: OurLora
    device: str


@dataclass(frozen=True)
class Setting:
    """How a peer is run. best: what its users can ask for to be faster, else its defaults. compiled: torch.compile."""

    best: bool = False
    compiled: bool = False


def processor(exported: Exported) -> Any:
    """Theirs where torchvision is installed, else the same over Pillow; with a template that marks what is learnt."""
    if importlib.util.find_spec("torchvision"):
        found = AutoProcessor.from_pretrained(exported.model)
    else:
        images = PixtralImageProcessorPil.from_pretrained(exported.model)
        tokenizer = AutoTokenizer.from_pretrained(exported.model)
        found = PillowProcessor(images, tokenizer, unit=_unit(exported.model), tokens=exported.picture)
    if found.tokenizer.pad_token is None:
        found.tokenizer.pad_token = found.tokenizer.eos_token = "<|im_end|>"
    found.chat_template = TEMPLATE.replace("PICTURE", exported.picture[0])
    return found


def _unit(model: Path) -> int:
    """Side of a token, px."""
    settings = json.loads((model / "processor_config.json").read_text(encoding="utf-8"))
    return int(settings["patch_size"] * settings["spatial_merge_size"])


def dataset(exported: Exported, sort: bool) -> Any:
    """The rows as both libraries' documentation has them: pictures are opened when a row is taken. sort: by length."""
    import datasets

    datasets.disable_progress_bars()
    order = sorted(range(len(exported.rows)), key=lambda number: exported.lengths[number] if sort else number)
    rows = datasets.Dataset.from_list([dict(exported.rows[number]) for number in order])
    return rows.cast_column("images", datasets.List(datasets.Image()))


class Collator:
    """What a user of transformers' Trainer writes: the processor's chat template, labels where the assistant speaks."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        batch = self.processor.apply_chat_template(
            [_with_pictures(row) for row in rows],
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            return_assistant_tokens_mask=True,
            processor_kwargs={"padding": True, "padding_side": "right", "add_special_tokens": False},
        )
        learnt = batch.pop("assistant_masks").bool()
        batch["labels"] = batch["input_ids"].masked_fill(~learnt, IGNORE)
        return batch


def _with_pictures(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    pictures = iter(row["images"])
    return [
        {
            **message,
            "content": [
                {"type": "image", "image": next(pictures)} if part["type"] == "image" else part
                for part in message["content"]
            ],
        }
        for message in row["messages"]
    ]


def lora(config: OurLora) -> LoraConfig:
    """The same matrices as ours. The encoder's have the same names, hence an expression instead of a list."""
    return LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=rf".*\.language_model\..*\.({'|'.join(config.targets)})",
        modules_to_save=["vision_tower", "multi_modal_projector"],
        task_type="CAUSAL_LM",
    )


def arguments(exported: Exported, setting: Setting, folder: Path) -> dict[str, Any]:
    """Settings of both trainers. What is no choice of speed is theirs: rates, schedule, order, batches of 8."""
    found: dict[str, Any] = {
        "output_dir": str(folder),
        "num_train_epochs": 1,
        "per_device_train_batch_size": BATCH,
        "use_cpu": exported.device == "cpu",
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "torch_compile": setting.compiled,
    }
    if setting.best:
        found |= {
            "bf16": fast_bfloat16(exported.device),
            # Rows come sorted by length. "group_by_length" comes to the same on much data; on less than eight batches
            # it sorts within batches and saves no padding.
            "train_sampling_strategy": "sequential",
            # On the CPU a worker would take a core from the model.
            "dataloader_num_workers": 4 if exported.device == "cuda" else 0,
        }
    return found


def trl_trainer(exported: Exported, setting: Setting, folder: Path) -> Any:
    """TRL's trainer with its own collator. Its default format is bfloat16 everywhere, hardware or not: where the
    processor only emulates it, it gets float32 instead, as anyone would who waited for the first step.
    """
    from trl import SFTConfig, SFTTrainer

    fast = fast_bfloat16(exported.device)
    with_format = {"bf16": fast, **arguments(exported, setting, folder)}
    if setting.best:
        with_format["gradient_checkpointing"] = False
        if fast:
            with_format["model_init_kwargs"] = {"dtype": "bfloat16"}
    return SFTTrainer(
        str(exported.model),
        args=SFTConfig(assistant_only_loss=True, **with_format),
        train_dataset=dataset(exported, sort=setting.best),
        processing_class=processor(exported),
        peft_config=lora(exported.lora),
    )


def transformers_trainer(exported: Exported, setting: Setting, folder: Path) -> Any:
    """transformers' trainer with a plain collator. By default its number format is float32."""
    dtype = torch.bfloat16 if setting.best and fast_bfloat16(exported.device) else torch.float32
    model = AutoModelForImageTextToText.from_pretrained(exported.model, dtype=dtype)
    return Trainer(
        get_peft_model(model, lora(exported.lora)),
        # The collator needs what the model does not take.
        TrainingArguments(remove_unused_columns=False, **arguments(exported, setting, folder)),
        data_collator=Collator(processor(exported)),
        train_dataset=dataset(exported, sort=setting.best),
    )


PEERS = {"trl": trl_trainer, "trainer": transformers_trainer}
NEEDS = {"trl": ("trl", "datasets", "accelerate"), "trainer": ("datasets", "accelerate")}


def missing(peer: str) -> str:
    """The first package that a peer needs and that is not installed; "" when it can run."""
    return next((name for name in NEEDS[peer] if importlib.util.find_spec(name) is None), "")


class Stopwatch(TrainerCallback):  # type: ignore[misc]
    """Seconds from the first batch's loading to the last step's end."""

    seconds = 0.0

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        settle(args.device.type)
        self.seconds = time.perf_counter() - self._started


def settle(device: str) -> None:
    """Waits until the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()


def contestant(trainer: Any, tokens: int) -> Contestant:
    """Trains an epoch each time it is asked; the weights go on from where they are."""
    watch = Stopwatch()
    trainer.add_callback(watch)
    trainer.remove_callback(PrinterCallback)

    def once(warming: bool) -> Pass:
        short = warming and not trainer.args.torch_compile
        # -1 leaves the length to the epochs.
        trainer.args.max_steps = 1 if short else -1
        trainer.train()
        return Pass(tokens, watch.seconds)

    return once


@torch.no_grad()
def loss_of(trainer: Any, rows: Sequence[Mapping[str, Any]]) -> float:
    """What the trainer minimises on one batch of these rows, before it has trained."""
    trainer.model.train()
    batch = trainer._prepare_inputs(trainer.data_collator(list(rows)))
    labelled = (batch["labels"] != IGNORE).sum()
    return float(trainer.compute_loss(trainer.model, batch, num_items_in_batch=labelled))
