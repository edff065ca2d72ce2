"""Some five hundred common English words of three and four letters, for pictures of words.

Each fits a picture 64 px wide in every bundled font with capitals 16 px high. No colour and no shape is among them: a
picture of the word "red" in blue would teach the wrong thing.
"""

from __future__ import annotations

_LIST = """
    able acid acre also apex arch area arm art atom aunt axis axle
    baby back bag bake ball band bank barn base bath bay beak bean bear bed bee beef bell belt bend best bike bird
    bite boat body bone book boot bow bowl box boy bulb bus bush busy
    cafe cage cake calf call calm can cane cap cape car card care cart case cash cat cave cell chef chin chip city
    clap clay clip club clue coal coat code coil coin cold cook cool cope copy cord cork corn cost cow cozy crab
    crew crop cub cube cup curl
    dad dark data date day deal dear deep deer desk dial dice dig dish disk dive dock dog doll door dot dove drop
    dry duck duet dune dust
    each ear earn east easy eat echo edge egg elf elk elm else epic even ever exit eye
    face fact fair fall fan far farm fast fern few fig file film find fine fir fish fit five flag flat fly foam fog
    foil folk food foot fork form fort four fox free frog fuel full fun fur
    gain gap gas gate gear gem gift girl give glad glow glue goal goat gold golf good grab grid grin grip grow gulf
    gum
    hail hair half hall ham hand harp hat hay hazy head hear heel help hen herb here hero hike hill hint hive hold
    hood hook hope horn host hour hug huge hum hunt hut
    ice icon idea inch ink inn iron isle item ivy
    jam jar jaw jazz jet job jog join joke joy judo jug jury just
    keen keep kelp key kid kilt kind king kit kite kiwi knee knit knob knot
    lab lace lad lake lamb lamp land lane lap lark last lava lawn lazy leaf leg lens lid lift like lily limb line
    lion lip list loaf lock log long loop loud love luck lung
    mail main male mall map mat meal melt mesh mild mile milk mill mint mist mole moss most moth mud mug myth
    nail nap near neat neck nest net news next nice nine node nose note noun nut
    oak oar oat oboe odd oil old once one onto open oral our oval oven over owl own
    pace pack page pail pair palm pan park part pass past path paw pea peak pear peel pen pet pie pier pig pile pin
    pine pint pipe plan play plot plum plus poet pole pond pony pool port post pot pup pure push
    quay quiz
    rack raft rail rain rare raw read real reef rest rice rich ride rink road roar robe rock role roof root rope
    rose row ruby rug rule run rush rye
    sack safe sail salt same sand save scan sea seal seat seed ship shoe shop show side sign silk sing sink site six
    size ski sky slow snow soap sock sofa soft soil solo song soup spin spot step stew sun swan
    tail tale tall tank tape task taxi tea team tent term text tide tidy tile time tin tiny tip tire toad toe tone
    tool top tour town toy tray tree trip tub tuba tube tuna tune turn twin two type
    unit upon use user
    van vase vast verb very vest vet view vine visa vote
    walk wall wash wave wax web well west wide wife wig wind wing wire wise wolf wool
    yard yarn year yell yes yoga yolk you
    zero zinc zone zoo
"""

WORDS: tuple[str, ...] = tuple(_LIST.split())
