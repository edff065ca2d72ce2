"""How the fields of English documents are printed and called, and the sentences of notices."""

from __future__ import annotations

from vitrail.synthetic.documents.content import words_of

LABELS: dict[str, tuple[str, ...]] = {
    "total": ("Total", "TOTAL", "Total due", "To pay", "Total:", "Total sum"),
    "subtotal": ("Subtotal", "SUBTOTAL", "Net", "Before tax"),
    "tax": ("Tax", "VAT", "Sales tax", "GST"),
    "discount": ("Discount", "Voucher", "Coupon"),
    "tip": ("Tip", "Service"),
    "cash": ("Cash", "CASH", "Paid cash", "Given"),
    "change": ("Change", "CHANGE", "Back"),
    "card": ("Card", "CARD", "Visa", "Debit"),
    "date": ("Date", "DATE", "Date:"),
    "time": ("Time", "TIME", "Time:"),
    "number": ("No.", "Receipt", "Bill", "Ticket", "Order", "Ref"),
    "table": ("Table", "Till", "Desk"),
    "server": ("Cashier", "Served by", "Staff", "Clerk"),
    "phone": ("Tel", "Tel.", "Phone"),
    "invoice": ("INVOICE", "Invoice", "Bill", "Tax invoice"),
    "invoice number": ("No.", "Invoice no.", "Number", "Ref.", "#"),
    "client": ("Bill to", "To", "Client", "Customer", "For"),
    "sender": ("From", "Seller", "By"),
    "due date": ("Due", "Due date", "Pay by", "Payable by"),
    "account": ("Account", "Pay to", "Acct", "Account no."),
    "item": ("Item", "Description", "Work", "What"),
    "amount": ("Amount", "Price", "Cost", "Sum"),
}
"""Printed before or above a value: each field, and ways to print it."""

NOUNS: dict[str, str] = {
    "shop": "shop name",
    "number": "receipt number",
    "cash": "cash paid",
    "card": "card number",
    "invoice number": "invoice number",
    "account": "account number",
}
"""What a field is called in a question, where its key is not it."""

COLUMN_HEADS: dict[str, tuple[str, ...]] = {
    "name": ("Name", "Team", "Group", "Label"),
    "city": ("City", "Town", "Place", "Stop"),
    "item": ("Item", "Product", "Article"),
    "person": ("Person", "Member", "Player", "Guest"),
    "company": ("Company", "Firm", "Maker"),
    "number": ("Score", "Stock", "Weight", "Output", "Income", "Speed", "Depth", "Length", "Load", "Range", "Rating"),
    "price": ("Price", "Fare", "Fee", "Cost", "Rent", "Wage"),
    "time": ("Time", "Leaves", "Arrival", "Start", "End"),
    "code": ("Code", "Gate", "Seat", "Flight", "Bus", "Key"),
}
"""What can stand above a column of values of each kind."""

FORM_TITLES = tuple(
    f"{what} {kind}"
    for what in words_of("""
    Member Library Travel Student Visitor Rental Parking Dental Club Course Camp Guest Pet Loan Sports Exam
    Patient Delivery Repair Hotel Lost-item Volunteer Studio Garden Job
    """)
    for kind in ("form", "card", "record", "sheet", "request", "pass", "entry")
)

FORM_FIELDS: tuple[tuple[str, str], ...] = (
    ("Name", "person"),
    ("Full name", "person"),
    ("Teacher", "person"),
    ("Doctor", "person"),
    ("Contact", "person"),
    ("Signed", "person"),
    ("Owner", "person"),
    ("Manager", "person"),
    ("City", "city"),
    ("Born in", "city"),
    ("From", "city"),
    ("To", "city"),
    ("Street", "street"),
    ("Address", "street"),
    ("Employer", "company"),
    ("Company", "company"),
    ("School", "company"),
    ("Date", "date"),
    ("Born", "date"),
    ("Start", "date"),
    ("End", "date"),
    ("Valid until", "date"),
    ("Issued", "date"),
    ("Time", "time"),
    ("Arrival", "time"),
    ("Phone", "phone"),
    ("Mobile", "phone"),
    ("Email", "email"),
    ("Room", "number"),
    ("Seat", "code"),
    ("Postcode", "code"),
    ("Member no.", "code"),
    ("Passport", "code"),
    ("Licence", "code"),
    ("Car plate", "code"),
    ("Serial no.", "code"),
    ("Case no.", "code"),
    ("Booking", "code"),
    ("Fee", "cost"),
    ("Deposit", "cost"),
    ("Rent", "cost"),
    ("Item", "item"),
    ("Product", "item"),
    ("Gift", "item"),
    ("Service", "service"),
    ("Course", "service"),
    ("Weight kg", "number"),
    ("Height cm", "number"),
    ("Points", "number"),
)
"""What a form asks for, and what kind of value answers it."""

NOTICE_HEADS = tuple(
    """
    NOTICE Notice WARNING Important Reminder INFO Please note Attention Wanted For sale LOST FOUND Hello Welcome News
    """.replace("Please note", "Please-note")
    .replace("For sale", "For-sale")
    .split()
)

NOTICE_SENTENCES: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    ("The {} closes at {}.", (("place", "place", "Which place closes?"), ("time", "time", "When does it close?"))),
    (
        "The {} opens on {}.",
        (("place", "place", "Which place opens?"), ("date", "date", "On which date does it open?")),
    ),
    ("Meet {} at {}.", (("person", "person", "Who is to be met?"), ("meeting time", "time", "When is the meeting?"))),
    ("Ask for {} in room {}.", (("contact", "person", "Who should be asked for?"), ("room", "number", "Which room?"))),
    (
        "Call {} before {}.",
        (("phone", "phone", "Which number should be called?"), ("latest time", "time", "Before when?")),
    ),
    (
        "The bus to {} leaves at {}.",
        (("city", "city", "Where does the bus go?"), ("bus time", "time", "When does the bus leave?")),
    ),
    (
        "Parcels for {} go to {}.",
        (("receiver", "person", "Who are the parcels for?"), ("street", "street", "Where do parcels go?")),
    ),
    ("Found: {}. Reward: {}.", (("thing", "item", "What was found?"), ("reward", "cost", "How high is the reward?"))),
    ("{} for sale, only {}.", (("thing", "item", "What is for sale?"), ("cost", "cost", "What is the price?"))),
    ("{} speaks on {}.", (("speaker", "person", "Who speaks?"), ("talk date", "date", "When is the talk?"))),
    (
        "Lift {} is out of order until {}.",
        (("lift", "code", "Which lift is out of order?"), ("end date", "date", "Until when?")),
    ),
    ("The code for the door is {}.", (("code", "code", "What is the code for the door?"),)),
    ("Tickets cost {}.", (("ticket price", "cost", "What do tickets cost?"),)),
    ("Write to {}.", (("email", "email", "Which address is given to write to?"),)),
    ("We move to {}, {}.", (("street", "street", "To which street do they move?"), ("city", "city", "To which city?"))),
    (
        "Today's dish: {}, {}.",
        (("dish", "dish", "What is today's dish?"), ("dish price", "cost", "What does the dish cost?")),
    ),
    (
        "Train {} to {} is late.",
        (("train", "code", "Which train is late?"), ("city", "city", "Where does the late train go?")),
    ),
    (
        "{} starts on {}.",
        (("course", "service", "What starts?"), ("start date", "date", "On which date does it start?")),
    ),
)
"""Sentences with gaps: of each gap its name, the kind of value that fills it, and the question that it answers."""
