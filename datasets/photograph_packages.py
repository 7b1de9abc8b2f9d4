"""Packages of Debian 12 and the Python index with photographs under free licences, and which of their files are used.

Licences are those that the packages' own files state (``/usr/share/doc/*/copyright``, metadata beside the pictures).
Every picture was looked at. Left out are packages whose pictures are drawn, abstract, or under unclear terms.
"""

from package_pictures import Package, Pictures, within

_WHEEL = ("--platform=manylinux_2_28_x86_64", "--implementation=cp", "--python-version=3.11", "--abi=cp311")

_GCOMPRIS = Pictures(
    "photographs",
    "public domain, CC0-1.0, CC-BY, CC-BY-SA or GPL-3.0 (the README beside each picture says which)",
    within(
        "*.rcc/gcompris/src/activities/",
        "categorization/resource/images/* details/resource/image/* clickgame/resource/sea* erase/resource/* "
        "explore_*/resource/* louis-braille/resource/*",
    ),
    # Paintings, drawings, cards, and pictures that are cut into pieces.
    within("*", "*Gogh* *Auvers* *Tanguy* */louis-braille/*/chart.* */night_printing.* */louis.* */fireplace.*"),
    least_side=180,
)
_GCOMPRIS_CUTOUTS = Pictures("cutouts", "GPL-3.0", ("*/leftright/resource/*.webp",), least_side=60)

_STAMPS = Pictures(
    "cutouts",
    "GPL-2.0-or-later",
    within(
        "*/tuxpaint/stamps/",
        "animals/* food/* hobbies/* household/* plants/* sports/* vehicles/* medical/* military/* people/fireman* "
        "people/toys/* seasonal/christmas/*_photo* seasonal/christmas/Ch*_pudding* seasonal/christmas/German* "
        "seasonal/christmas/Mince* seasonal/christmas/Roast* seasonal/christmas/xmaswreath* seasonal/halloween/grave* "
        "space/apollo* space/spacewalk* space/voyager* town/roadsigns/traffic_cone* town/roadsigns/no_* "
        "town/roadsigns/dead_end* town/roadsigns/school_sign* town/roadsigns/railroad* town/*_box.png "
        "town/*_mailbox.png town/monuments/*-photo.png",
        "",
    ),
    # Drawings, glass, glow, mirror images, and white fringes.
    within("*/", "cartoon/* *_mirror.png", "")
    + within(
        "*/",
        "hedgehog pizza insects/bee edward_bear flower[23458] glass Lightbulb tooth syringe f22_raptor final-roll-call",
        ".png",
    ),
    least_side=60,
)

PACKAGES = (
    Package(
        "gcompris-qt-data",
        "debian",
        "3.1-2",
        "e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f",
        (_GCOMPRIS_CUTOUTS, _GCOMPRIS),
    ),
    Package(
        "tuxpaint-stamps-default",
        "debian",
        "2022.06.04-1",
        "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
        (_STAMPS,),
    ),
    Package(
        "plasma-workspace-wallpapers",
        "debian",
        "4:5.27.5-2",
        "32cd18b71c8c938a18b3b351f217c02ac590e323caa3cf322fbb875ce8892f8b",
        (  # each wallpaper comes in many sizes and cuts
            Pictures(
                "photographs",
                "LGPL-3.0",
                within(
                    "*/wallpapers/",
                    "BytheWater ColdRipple ColorfulCups EveningGlow FallenLeaf Grey Kite OneStandsOut Path summer_1am",
                    "/contents/images/2560x1600.jpg",
                ),
            ),
        ),
    ),
    Package(
        "plasma-workspace-data",
        "debian",
        "4:5.27.5-2+deb12u2",
        "057cda470bd0baf616b3e873bcaf993018d96c8ad30b09535c487f88554e6ea2",
        (Pictures("photographs", "CC0-1.0", ("*/plasma/avatars/photos/*.png",)),),
    ),
    Package(
        "gnome-control-center-data",
        "debian",
        "1:43.6-2~deb12u1",
        "f76430c1f6db2be884bbc0e37cfa43752b49d252abb94d9cce494e8cdd8882a1",
        (
            Pictures(
                "photographs",
                "one of GPL-2.0-or-later, GPL-3.0-or-later, LGPL-2.0-or-later, MIT, CC0-1.0",
                ("*/pixmaps/faces/*.jpg",),
                ("*/legacy/*",),
            ),
        ),
    ),
    Package(
        "mate-backgrounds",
        "debian",
        "1.26.0-1",
        "7bf4c2209f34b4f61ba6d24c8b58c28b361e82e4b943aae6d42c030169af9e04",
        (Pictures("photographs", "GPL-2.0-or-later", ("*/mate/nature/*",), ("*/Wood.jpg", "*/Blinds.jpg")),),
    ),
    Package(
        "lxqt-themes",
        "debian",
        "1.2.0-1",
        "d518df36b515b09d36cb00b12645dd8ce170bb82bb0966297741905ce3edc8e1",
        (
            Pictures(
                "photographs",
                "CC-BY-SA-3.0",
                within(
                    "*/lxqt/wallpapers/",
                    "Butterfly* after-the-rain* appleflower* beam* butterfly* cloud* drop* flowers* fog* this-is-not*",
                ),
            ),
        ),
    ),
    Package(
        "lomiri-wallpapers-16.04",
        "debian",
        "20.04.0-2",
        "a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab",
        (
            Pictures("photographs", "CC0-1.0", ("*/seeding_by_*",)),
            Pictures("photographs", "CC-BY-SA-4.0", within("*/", "Bridge_* Dragonfly_* free_* greentock_*")),
            Pictures(
                "photographs",
                "CC-BY-4.0",
                within("*/", "aitz* friends_* life_* picos* sunset_* Picture_* Wine_*"),
            ),
        ),
    ),
    Package(
        "lomiri-wallpapers-20.04",
        "debian",
        "20.04.0-2",
        "d44e89b8473aafe64a5b678f014862dc31335aaaf18665c544d985d854f1a709",
        (Pictures("photographs", "CC-BY-SA-3.0", ("*/Kleiber_*",)),),
    ),
    Package(
        "kphotoalbum",
        "debian",
        "5.9.1-1",
        "00f8b26b5db1beb30a822d15f464b3c68ffa556d267870aa98a59aaaaf81ec43",
        (
            Pictures(
                "photographs",
                "GPL-2.0-or-later",
                ("*/kphotoalbum/demo/*.jpg",),
                within("*/", "CategoryImages/* grand_canyon_1.jpg wayne.jpg"),
            ),
        ),
    ),
    Package(
        "kalzium-data",
        "debian",
        "4:22.12.3-1",
        "e72507a1cb095667849cc27cec7ae3330522a83fd9fba3ba5f7df05abfb07d04",
        (
            Pictures(
                "photographs",
                "GPL-2.0-or-later",
                within(
                    "*/toolpics/",
                    "abzug brechungsmesser brenner dsc exikator halter heizplatte hplc korkring moerser phpapier "
                    "rg-halter rg-staender rotationsverdampfer ruehrfisch spatel tonschale waage spritzflasche",
                    ".jpg",
                ),
                least_side=180,
            ),
        ),
    ),
    Package(
        "palapeli-data",
        "debian",
        "4:22.12.3-1",
        "69a15dce2ac25ed8708ac518cd0cee5f4eb0c70ed15da2fdb8899a19ac0ee058",
        (
            Pictures("photographs", "public domain", within("*/collection/", "cinci* citrus* *bee.jpg")),
            Pictures("photographs", "GFDL", within("*/collection/", "castle* panther*")),
        ),
    ),
    Package(
        "puzzle-jigsaw",
        "debian",
        "1.0.2+git20201007.527c529+dfsg-4+b1",
        "f0c23ba52d3465c9c795ba97024b6968d4b30fbca6e886813ba216047462958e",
        (Pictures("photographs", "CC0-1.0", ("*/puzzle-jigsaw/samples/*",)),),
    ),
    Package(
        "python-kivy-examples",
        "debian",
        "2.1.0-1",
        "ad619d8291a888b59e6f1942db52ad7f3c03373c195d6fc449fbf01721b4f4a1",
        (Pictures("photographs", "MIT", within("*/demo/pictures/images/", "Bubbles.jpg Wall.jpg")),),
    ),
    Package(
        "scikit-image",
        "pypi",
        "0.26.0",
        "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
        (
            Pictures(
                "photographs",
                "CC0-1.0 or public domain",
                within("skimage/data/", "astronaut.png camera.png chelsea.png coffee.png rocket.jpg"),
            ),
        ),
        _WHEEL,
    ),
    Package(
        "scikit-learn",
        "pypi",
        "1.9.1",
        "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
        (Pictures("photographs", "CC-BY-2.0", ("sklearn/datasets/images/*.jpg",)),),
        _WHEEL,
    ),
)
