"""How each question is put, in English and in Chinese: two or three phrasings a topic.

They are short because every byte is a token to learn.
"""

# ruff: noqa: RUF001 (the punctuation of Chinese is not that of English)

from __future__ import annotations

from vitrail.media.dice import Dice

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

CHINESE: dict[str, tuple[str, ...]] = {
    "value": ("{name}是多少？", "请读出{name}。"),
    "entry": ("“{name}”一栏写的是什么？", "{name}是什么？"),
    "shop": ("这是哪家店的？", "店名是什么？"),
    "price": ("{name}多少钱？", "{name}的价格是多少？"),
    "client": ("账单开给谁？", "谁要付款？"),
    "sender": ("账单是谁开的？", "开票方是谁？"),
    "signed": ("最后一行是什么？", "请读出最后一行。"),
    "title": ("标题是什么？", "请读出标题。"),
    "cell": ("{row}的{column}是多少？", "请读出{row}的{column}。"),
    "bar": ("{name}的数值是多少？", "{name}有多高？"),
    "point": ("{name}的数值是多少？", "{name}处的线有多高？"),
    "shortcut": ("{name}的快捷键是什么？", "{name}用哪个键？"),
    "price sum": ("{one}和{two}一共多少钱？", "把{one}和{two}的价格相加。"),
    "cell sum": ("{one}和{two}的{column}一共是多少？", "把{one}和{two}的{column}相加。"),
    "value sum": ("{one}和{two}一共是多少？", "把{one}和{two}的数值相加。"),
    "dearest": ("哪一项最贵？", "最贵的是什么？"),
    "cheapest": ("哪一项最便宜？", "最便宜的是什么？"),
    "first item": ("第一项是什么？", "哪一项排在最前？"),
    "last item": ("最后一项是什么？", "哪一项排在最后？"),
    "most": ("哪个的{column}最高？", "{column}最高的是哪个？"),
    "least": ("哪个的{column}最低？", "{column}最低的是哪个？"),
    "highest": ("哪个最高？", "最高的是哪个？"),
    "lowest": ("哪个最低？", "最低的是哪个？"),
    "peak": ("哪里最高？", "什么时候最高？"),
    "trough": ("哪里最低？", "什么时候最低？"),
    "higher line": ("{name}处哪条线更高？", "{name}时哪条线领先？"),
    "below": ("{name}下面是什么？", "{name}后面是什么？"),
    "above": ("{name}上面是什么？", "{name}前面是什么？"),
    "field below": ("{name}下面是哪一栏？", "{name}后面是哪一栏？"),
    "field above": ("{name}上面是哪一栏？", "{name}前面是哪一栏？"),
    "field number": ("第{number}栏是什么？", "说出第{number}栏。"),
    "button below": ("{name}下面是哪个按钮？", "说出{name}下面的按钮。"),
    "button above": ("{name}上面是哪个按钮？", "说出{name}上面的按钮。"),
    "button right": ("{name}右边是哪个按钮？", "说出{name}右边的按钮。"),
    "button left": ("{name}左边是哪个按钮？", "说出{name}左边的按钮。"),
    "menu right": ("{name}右边是哪个菜单？", "说出{name}右边的菜单。"),
    "menu left": ("{name}左边是哪个菜单？", "说出{name}左边的菜单。"),
    "entry below": ("{name}下面是哪个菜单项？", "说出{name}下面的菜单项。"),
    "entry above": ("{name}上面是哪个菜单项？", "说出{name}上面的菜单项。"),
    "file below": ("{name}下面是哪个文件？", "说出{name}下面的文件。"),
    "file above": ("{name}上面是哪个文件？", "说出{name}上面的文件。"),
    "under icon": ("{name}图标下面写着什么？", "请读出{name}下面的名称。"),
    "right": ("{name}右边是什么？", "{name}的右面是什么？"),
    "left": ("{name}左边是什么？", "{name}的左面是什么？"),
    "line": ("第{number}行是什么？", "请读出第{number}行。"),
    "item number": ("第{number}项是什么？", "说出第{number}项。"),
    "row number": ("第{number}行的名称是什么？", "说出第{number}行的名称。"),
    "box": ("给出{name}的框。", "{name}在哪里？请给出框。"),
    "click": ("要{name}点哪里？", "点击{name}。"),
    "text": ("请读出文字。", "写出所有文字。"),
    "caption": ("描述这份文件。", "这是什么？"),
}
"""Chinese phrasings of the same topics."""

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

CHINESE_STATEMENTS: dict[str, str] = {
    "receipt": "{shop}的收据：{count}项，共{total}。",
    "invoice": "给{client}的账单，共{total}。",
    "form": "表格：{title}，填了{count}栏。",
    "table": "表：{title}，{count}行。",
    "bar chart": "柱状图：{title}，{count}根柱。",
    "line chart": "折线图：{title}，{count}个点。",
    "notice": "通知：{title}。",
    "screen": "屏幕：{title}。",
}
"""The same in Chinese."""

STATEMENTS = {"latin": ENGLISH_STATEMENTS, "chinese": CHINESE_STATEMENTS}


def stated(script: str, document: str, **names: str) -> str:
    """What a document is, with its names filled in."""
    return STATEMENTS[script][document].format(**names)
