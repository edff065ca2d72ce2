"""How each question is put: two or three phrasings a topic, short because every byte is a token to learn."""

from __future__ import annotations

from vitrail.data.drawn.dice import Dice
from vitrail.data.drawn.documents.chinese_wording import CHINESE, CHINESE_STATEMENTS

ENGLISH: dict[str, tuple[str, ...]] = {
    "value": ("What is the {name}?", "Read the {name}.", "Give the {name}."),
    "entry": ('What is written at "{name}"?', 'What does "{name}" say?', "What is the {low}?"),
    "shop": ("Which shop is this from?", "What is the shop called?", "Name the shop."),
    "price": ("What does the {name} cost?", "How much is the {name}?", "What is the price of the {name}?"),
    "client": ("Who is the invoice for?", "Who has to pay?", "Name the client."),
    "sender": ("Who sent the invoice?", "Who is the invoice from?", "Name the sender."),
    "signed": ("What is on the last line?", "Read the last line.", "What is signed at the end?"),
    "title": ("What is the title?", "Read the title.", "What is it called?"),
    "cell": ("What is the {column} of {row}?", "Which {column} does {row} have?", "Read the {column} of {row}."),
    "bar": ("What is the value of {name}?", "How high is {name}?", "Read the value of {name}."),
    "point": ("What is the value at {name}?", "How high is the line at {name}?", "Read the value at {name}."),
    "shortcut": ("What is the shortcut of {name}?", "Which keys are for {name}?"),
    "price sum": ("What do the {one} and the {two} cost together?", "Add the prices of the {one} and the {two}."),
    "cell sum": ("What is the {column} of {one} and {two} together?", "Add the {column} of {one} and {two}."),
    "value sum": ("What are {one} and {two} together?", "Add the values of {one} and {two}."),
    "dearest": ("Which item costs most?", "What is the most expensive item?", "Name the dearest item."),
    "cheapest": ("Which item costs least?", "What is the cheapest item?", "Name the cheapest item."),
    "first item": ("What is the first item?", "Which item comes first?"),
    "last item": ("What is the last item?", "Which item comes last?"),
    "most": ("Which has the highest {column}?", "Where is the {column} highest?", "Who leads in {column}?"),
    "least": ("Which has the lowest {column}?", "Where is the {column} lowest?"),
    "highest": ("Which is the highest?", "Name the highest bar.", "Which bar is highest?"),
    "lowest": ("Which is the lowest?", "Name the lowest bar.", "Which bar is lowest?"),
    "peak": ("Where is the line highest?", "When is the value highest?", "Name the highest point."),
    "trough": ("Where is the line lowest?", "When is the value lowest?", "Name the lowest point."),
    "higher line": ("Which line is higher at {name}?", "Which line leads at {name}?"),
    "below": ("What is below {name}?", "What comes after {name}?", "What stands under {name}?"),
    "above": ("What is above {name}?", "What comes before {name}?", "What stands over {name}?"),
    "field below": ("Which field is below {name}?", "Which field comes after {name}?"),
    "field above": ("Which field is above {name}?", "Which field comes before {name}?"),
    "field number": ("Which field is number {number}?", "Name field {number}."),
    "button below": ("Which button is below {name}?", "Name the button below {name}."),
    "button above": ("Which button is above {name}?", "Name the button above {name}."),
    "button right": ("Which button is right of {name}?", "Name the button right of {name}."),
    "button left": ("Which button is left of {name}?", "Name the button left of {name}."),
    "menu right": ("Which menu is right of {name}?", "Name the menu right of {name}."),
    "menu left": ("Which menu is left of {name}?", "Name the menu left of {name}."),
    "entry below": ("Which entry is below {name}?", "Name the entry below {name}."),
    "entry above": ("Which entry is above {name}?", "Name the entry above {name}."),
    "file below": ("Which file is below {name}?", "Name the file below {name}."),
    "file above": ("Which file is above {name}?", "Name the file above {name}."),
    "under icon": ("What is written under the {name} icon?", "Read the name under the {name}."),
    "right": ("What is right of {name}?", "What stands to the right of {name}?"),
    "left": ("What is left of {name}?", "What stands to the left of {name}?"),
    "line": ("What is on line {number}?", "Read line {number}.", "What does line {number} say?"),
    "item number": ("Which item is number {number}?", "Name item {number}."),
    "row number": ("What is the name in row {number}?", "Name row {number}."),
    "box": ("Give the box of {name}.", "Draw a box around {name}.", "Where is {name}? Give its box."),
    "click": ("Where do you click for {name}?", "Click on {name}.", "Point at {name}."),
    "text": ("Read the text.", "Transcribe the document.", "What is written here? Read every line."),
    "caption": ("Describe the document.", "What is this?", "What does the picture show?"),
}
"""English phrasings of each topic."""

PHRASINGS = {"latin": ENGLISH, "chinese": CHINESE}


def worded(dice: Dice, script: str, topic: str, **names: str) -> str:
    """One phrasing of a topic, with the things it is about filled in."""
    text = dice.pick(PHRASINGS[script][topic]).format(**names)
    return text[0].upper() + text[1:]


ENGLISH_STATEMENTS: dict[str, str] = {
    "receipt": "A receipt from {shop}: {count} items, {total} in all.",
    "invoice": "An invoice for {client}, {total} in all.",
    "form": "A form: {title}, {count} fields filled in.",
    "table": "A table: {title}, {count} rows.",
    "bar chart": "A bar chart: {title}, {count} bars.",
    "line chart": "A line chart: {title}, {count} points.",
    "notice": "A notice: {title}.",
    "screen": "A screen: {title}.",
}
"""What a document is, in one English sentence."""

STATEMENTS = {"latin": ENGLISH_STATEMENTS, "chinese": CHINESE_STATEMENTS}


def stated(script: str, document: str, **names: str) -> str:
    """What a document is, with its names filled in."""
    return STATEMENTS[script][document].format(**names)
