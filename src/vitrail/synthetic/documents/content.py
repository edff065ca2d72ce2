"""What is written on English documents: names and things to combine. Each combination belongs to one split."""

from __future__ import annotations


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


FIRST_NAMES = words_of("""
    Ada Aiko Alba Alma Amir Anna Arlo Aya Bela Bram Cara Carl Chen Clara Cora Dana David Dora Edith Elena Eli Emil
    Emma Erik Esra Eva Fay Felix Finn Flora Gita Grace Greta Hana Hari Hugo Ida Ines Ira Iris Ivan Jack Jana Jean
    Joan Jonas Juan Julia Kai Kara Karl Kemi Lara Lea Leo Lena Liam Lina Lola Luca Lucy Luis Mara Marco Maria Mei
    Mia Mila Milo Mira Nadia Nico Nina Noah Nora Olga Omar Oscar Otto Paul Petra Quinn Rafa Ravi Rosa Ruth Sam
    Sara Sofia Stan Tara Tess Theo Tom Uma Vera Vik Wanda Yara Yuki Zara Zoe
    """)

LAST_NAMES = words_of("""
    Abbot Adler Ahmed Ames Baker Banks Barlow Bauer Beck Bell Berg Blake Bond Boyd Brandt Brook Burke Byrne Cano
    Carr Castle Chan Clark Cole Conti Costa Cox Craig Cruz Dale Daly Dean Diaz Dixon Drake Dunn Eaton Ellis Evans
    Faber Farrow Fischer Flynn Ford Fox Frank Frost Garcia Gill Grant Gray Greco Hale Hall Hart Hayes Hill Holm
    Hughes Hunt Ibsen Ito Jansen Jones Kane Kaya Keller Kent Khan King Klein Koch Kovac Kumar Lane Lang Lee Levy
    Lind Lopez Lund Marsh Mason Meyer Mills Moran Moss Muller Nash Novak Okoro Olsen Owen Park Patel Penn Perez
    Pope Price Quist Ramos Reed Reyes Rhodes Rossi Rowe Ryan Sato Shah Shaw Silva Singh Sloan Smith Soto Stark
    Stone Swan Tan Tate Torres Vance Vega Vogel Wade Walsh Wang Ward Webb Weiss West Wolf Wood Wu Yates York Young
    Zhang Zink
    """)

CITIES = words_of("""
    Aarhus Accra Agra Amman Ankara Athens Austin Baku Basel Bergen Berlin Bern Bilbao Bogota Bonn Boston Bremen
    Bristol Brno Busan Cairo Calais Cancun Cardiff Chicago Cologne Cork Cusco Dakar Dallas Delft Delhi Denver
    Derby Dijon Doha Dover Dresden Dubai Dublin Dundee Durban Essen Exeter Faro Geneva Genoa Ghent Graz Hague
    Haifa Hanoi Havana Hull Izmir Jaipur Juneau Kabul Kandy Kiel Kobe Krakow Kyoto Lagos Leeds Leipzig Leon Liege
    Lille Lima Linz Lisbon London Lyon Madrid Malaga Malmo Manila Mexico Miami Milan Mumbai Munich Nagoya Nairobi
    Nantes Naples Nice Odense Osaka Oslo Ottawa Oxford Padua Paris Parma Perth Pisa Porto Prague Pune Quito Rabat
    Riga Rome Rouen Salem Seoul Seville Siena Sofia Split Sydney Taipei Tallinn Tampa Tbilisi Tokyo Toledo Toronto
    Tours Trier Tunis Turin Utrecht Verona Vienna Vilnius Warsaw Yerevan York Zagreb Zurich
    """)

STREET_NAMES = words_of("""
    Abbey Acorn Apple Ash Bay Beech Birch Bridge Brook Canal Castle Cedar Cherry Church Clay Coral Dale Dock East
    Elm Fern Field Forge Fox Garden Glen Grove Harbour Haven Hazel High Holly Ivy Kings Lake Lark Laurel Lime
    Linden Long Maple Market Meadow Mill Moor North Oak Orchard Park Pearl Pine Pond Poplar Queen Reed Ridge River
    Rose Rowan Sand School Spring Station Stone Swan Temple Tower Union Vine West Willow Wood Yew
    """)
STREET_KINDS = ("St", "Road", "Lane", "Ave", "Way", "Row", "Hill", "Street", "Square", "Park", "Close", "Drive")

SHOP_KINDS = words_of("""
    Bakery Books Cafe Deli Drugs Farm Foods Garden Grill Grocer Hardware Kiosk Kitchen Market Mart Music Optics
    Pharmacy Pizza Shoes Shop Sports Stores Supply Tools Toys Travel Wines Yarns
    """)
COMPANY_KINDS = (
    "Ltd",
    "Inc",
    "GmbH",
    "Co",
    "Group",
    "& Sons",
    "Studio",
    "Works",
    "Labs",
    "Legal",
    "Print",
    "Design",
    "Energy",
)

DISHES: tuple[tuple[str, str], ...] = (
    (
        "Tomato Onion Lentil Leek Pea Fish Chicken Beef Pumpkin Bean Tofu Shrimp Egg",
        "soup stew curry pasta salad burger wrap pizza noodles rice",
    ),
)

GOODS: tuple[tuple[str, str], ...] = (
    (
        "Rye Wheat White Seed Corn Potato Olive Garlic Sweet Plain Brown Oat Spelt Onion Cheese Raisin",
        "bread roll loaf bun toast bagel pie",
    ),
    (
        "Apple Orange Peach Cherry Pear Plum Mango Grape Lemon Lime Carrot Tomato Ginger Mint Berry Melon Fig",
        "juice tea soda syrup jam tart cake pie yogurt salad",
    ),
    ("Oat Soy Rice Goat Whole Fresh Warm Cold", "milk cream cheese butter"),
    ("Green Black White Iced Herb Rose Chai Jasmine", "tea"),
    ("Red Green Sweet Baby Wild Fresh Dried Smoked", "peppers onions beans lentils cabbage chilli apples grapes rice"),
    *DISHES,
    ("Hand Dish Bath Floor Glass Car Wood", "soap brush cloth towel mat spray wipes"),
    ("Blue Black Red Green Gold Silver Pink Brown Grey", "pen ink paper folder ribbon pencil tape card chalk glue"),
    ("Steel Brass Copper Wood Long Short Fine Flat", "nails screws hooks bolts hinge wire pipe file saw clamp"),
    ("Wool Cotton Silk Linen Denim Rain Winter Sun", "hat scarf socks shirt coat gloves skirt vest belt"),
)
"""Modifiers and the things that each can stand before."""

SERVICES: tuple[tuple[str, str], ...] = (
    (
        "Window Roof Garden Office Floor Engine Boiler Carpet Pool Fence Door Wall Tile Brake Clock",
        "repair check cleaning rental fitting delivery service survey storage paint",
    ),
    ("Logo Web Poster Menu Book Label Cover Icon Photo Film Sound Flyer", "design edit print review draft proof scan"),
    (
        "Tax Data Team Sales Safety Legal Market First Piano Yoga Chess Dance Swim French",
        "report course lesson advice audit plan class training",
    ),
)

SUBJECTS = words_of("""
    Visitors Members Orders Sales Calls Guests Rides Books Loans Parcels Tickets Births Trees Fish Birds Bikes
    Cars Boats Flights Meals Cups Litres Tonnes Rooms Beds Steps Points Goals Votes Songs Photos Letters Emails
    Repairs Pupils Tents
    """)
"""What charts and tables count."""

TABLE_KINDS = words_of("List Results Roster Schedule Overview Figures Plan Register Summary Survey Ranking Index")

RUDE = words_of("""
    anal anus arse ass boob cock cum cunt dick dumb dyke fag fart fat fuc fuk hoe homo jew kill kkk lust nazi negr
    nig nud orgy perv pimp piss poo porn prick pus rape scum sex shit slut spic suck tard tit turd twat ugly vag
    wank whore
    """)
"""What no invented word may contain."""

ACTION_VERBS = tuple(
    """
    Add Apply Archive Attach Back Browse Cancel Change Clear Close Compare Connect Copy Create Crop Cut Delete Done Draw
    Edit Erase Exit Export Fetch Filter Find Finish Fold Follow Format Freeze Group Help Hide Import Insert Join Keep
    Leave Link Load Lock Log in Mark Merge Move Mute New Next Open Paste Pause Pin Play Post Preview Print Quit Record
    Redo Refresh Rename Repeat Replace Reply Report Reset Resize Restore Retry Rotate Run Save Scan Search Select Send
    Share Show Sign up Skip Sort Split Start Stop Submit Sync Tag Test Trim Undo Unlock Update Upload View Wipe Zoom
    """.replace("Log in", "Log-in")
    .replace("Sign up", "Sign-up")
    .split()
)
ACTION_THINGS = words_of(
    "all file folder page photo text list row note link card map mail song chart tab form line copy code"
)

FILE_ENDINGS = ("txt", "pdf", "doc", "png", "jpg", "csv", "zip", "mp3", "xls", "py")

THANKS = (
    "Thank you!",
    "Thanks, see you soon",
    "Please come again",
    "Have a nice day",
    "Keep this receipt",
    "Goodbye!",
    "VAT included",
    "No refunds",
    "Served with care",
    "Tell your friends",
)

PLACES = tuple(
    f"{first} {second}"
    for first in words_of("""
    city old main east west new lake school town river north south music art sports harbour hill village
    """)
    for second in words_of("""
    library pool museum gym cafe office garage hall park bank shop kitchen lab studio market gate bridge
    """)
)
