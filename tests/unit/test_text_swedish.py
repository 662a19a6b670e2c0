"""sv-1, example by example: what is written, and what is compared. All examples were written for this table."""

from __future__ import annotations

import pytest

from avskrift.text.normaliser import normalise

CASE_PUNCTUATION_AND_LETTERS = [
    ("Hej, på DIG!", "hej på dig"),
    ("Är det SANT?", "är det sant"),
    ("ÅÄÖÉ", "åäöé"),
    ("fo\u0308r och A\u030angstro\u0308m", "för och ångström"),
    ("idé, armén, kaféet", "idé armén kaféet"),
    ("São Paulo, Łódź och Ærø", "são paulo łódź och ærø"),
    ("Straße", "strasse"),
    ("Москва och Ἀθήνα", "москва och ἀθήνα"),
    ("”Ja”, sa hon. »Nej«, sa han.", "ja sa hon nej sa han"),
    ('"Hela meningen."', "hela meningen"),
    ("'ensam'", "ensam"),
    ("Vänta… nu... då", "vänta nu då"),
    ("Åke är på ön — tror jag – ibland", "åke är på ön tror jag ibland"),
    ("först(sedan)[sist]", "först sedan sist"),
    ("rad\net\ttab\u00a0fast\u2009smalt\u202fblank", "rad et tab fast smalt blank"),
    ("av\u00adstav\u200bning\ufeff", "avstavning"),
    ("snake_case/snedstreck\\bak", "snake case snedstreck bak"),
    ("Grattis 🎂👩‍👩‍👧 idag 👍🏽", "grattis idag"),
    ("❤️", ""),
    ("  ?!…  ", ""),
    ("", ""),
]

HYPHENS_COLONS_AND_APOSTROPHES = [
    ("EU-land", "eu land"),
    ("EU land", "eu land"),
    ("EU‑land", "eu land"),
    ("Sven-Erik", "sven erik"),
    ("för- och nackdelar", "för och nackdelar"),
    ("covid-19", "covid nitton"),
    ("tv:n", "tvn"),
    ("TV:ns", "tvns"),
    ("EU:s", "eus"),
    ("USA:s", "usas"),
    ("pdf:en", "pdfen"),
    ("sms:et", "smset"),
    ("vd:ar", "vdar"),
    ("cd:n", "cdn"),
    ("Frågan: svaret", "frågan svaret"),
    ("obs:viktigt", "obs viktigt"),
    ("S:t Eriksplan", "sankt eriksplan"),
    ("S:ta Lucia", "sankta lucia"),
    ("sa'n", "san"),
    ("sa’n", "san"),
    ("ta' det", "ta det"),
    ("rock'n'roll", "rocknroll"),
    ("O`Connor och D´Angelo", "oconnor och dangelo"),
]

CARDINALS = [
    ("0", "noll"),
    ("1", "ett"),
    ("12", "tolv"),
    ("21", "tjugo ett"),
    ("40", "fyrtio"),
    ("99", "nittio nio"),
    ("100", "hundra"),
    ("101", "hundra ett"),
    ("220", "två hundra tjugo"),
    ("1000", "tusen"),
    ("1001", "tusen ett"),
    ("1066", "tusen sextio sex"),
    ("1100", "elva hundra"),
    ("1984", "nitton hundra åttio fyra"),
    ("2024", "två tusen tjugo fyra"),
    ("2100", "två tusen hundra"),
    ("21 000", "tjugo ett tusen"),
    ("101 000", "hundra ett tusen"),
    ("121 121", "hundra tjugo ett tusen hundra tjugo ett"),
    ("2 000", "två tusen"),
    ("2.000", "två tusen"),
    ("2\u00a0000", "två tusen"),
    ("2\u2009000", "två tusen"),
    ("12 345 678", "tolv miljoner tre hundra fyrtio fem tusen sex hundra sjuttio åtta"),
    ("1 000 000", "en miljon"),
    ("1 000 001", "en miljon ett"),
    ("2.500.000", "två miljoner fem hundra tusen"),
    ("1 000 000 000", "en miljard"),
    ("1 miljon", "en miljon"),
    ("5 miljoner", "fem miljoner"),
    ("3 tusen", "tre tusen"),
    ("200000000000003", "två hundra biljoner tre"),
    ("1234567890123456", "ett två tre fyra fem sex sju åtta nio noll ett två tre fyra fem sex"),
    ("år 2024 100 personer", "år två tusen tjugo fyra hundra personer"),
    ("1, 2, 3", "ett två tre"),
    ("1 bil, 1 hus", "ett bil ett hus"),
    ("1 dag och 1 vecka", "en dag och en vecka"),
    ("B12 och mp3", "b tolv och mp tre"),
    ("5G", "fem g"),
    ("٣٤", "trettio fyra"),
    ("१२", "tolv"),
    ("x² ⑫ Ⅷ", "x två tolv åtta"),
    ("5️⃣", "fem"),
]  # fmt: skip

DECIMALS_AND_FRACTIONS = [
    ("3,5", "tre komma fem"),
    ("0,5", "noll komma fem"),
    ("3,14", "tre komma fjorton"),
    ("0,05", "noll komma noll fem"),
    ("3,141", "tre komma ett fyra ett"),
    ("2 000,50", "två tusen komma femtio"),
    ("1,5 miljoner", "ett komma fem miljoner"),
    ("1.5", "ett punkt fem"),
    ("0.500", "noll punkt fem hundra"),
    ("192.168.0.1", "hundra nittio två punkt hundra sextio åtta punkt noll punkt ett"),
    ("-0,5", "minus noll komma fem"),
    ("½", "en halv"),
    ("2½ timme", "två och en halv timme"),
    ("2 ½ timme", "två och en halv timme"),
    ("¾ dl", "tre fjärdedelar dl"),
    ("⅓", "en tredjedel"),
    ("1/2", "en halv"),
    ("2/3", "två tredjedelar"),
    ("50/50", "femtio femtio"),
    ("24/7", "tjugo fyra sju"),
]

SIGNS_RANGES_AND_CALCULATIONS = [
    ("-5 grader", "minus fem grader"),
    ("−5 grader", "minus fem grader"),
    ("+5 grader", "plus fem grader"),
    ("3-4 dagar", "tre till fyra dagar"),
    ("3–4 dagar", "tre till fyra dagar"),
    ("3 – 4 dagar", "tre till fyra dagar"),
    ("1939–1945", "nitton hundra trettio nio till nitton hundra fyrtio fem"),
    ("1939-45", "nitton hundra trettio nio till fyrtio fem"),
    ("2,5-3 kg", "två komma fem till tre kilo"),
    ("vann med 3-1", "vann med tre ett"),
    ("2-2", "två två"),
    ("1-2-3", "ett två tre"),
    ("2+2=4", "två plus två lika med fyra"),
    ("±3", "plus minus tre"),
    ("3×4", "tre gånger fyra"),
    ("4x100 m", "fyra gånger hundra meter"),
    ("2:1", "två ett"),
    ("Disney+", "disney plus"),
    ("R&B", "r och b"),
    ("§ 5", "paragraf fem"),
]

ORDINALS = [
    ("1:a", "första"),
    ("2:a", "andra"),
    ("1:e", "förste"),
    ("2:e", "andre"),
    ("3:e", "tredje"),
    ("3:dje", "tredje"),
    ("2:dra", "andra"),
    ("1:sta", "första"),
    ("11:e", "elfte"),
    ("20:e", "tjugonde"),
    ("21:a", "tjugo första"),
    ("22:e", "tjugo andre"),
    ("40:e", "fyrtionde"),
    ("100:e", "hundrade"),
    ("101:a", "hundra första"),
    ("1 av de 5:e", "ett av de femte"),
    ("en 5:a", "en femma"),
    ("en 3:a", "en trea"),
    ("1:an", "ettan"),
    ("8:an", "åttan"),
    ("12:an", "tolvan"),
    ("22:an", "tjugo tvåan"),
    ("100:an", "hundran"),
    ("3:or", "treor"),
    ("2:orna", "tvåorna"),
]

TIMES_AND_DATES = [
    ("kl. 14.30", "klockan fjorton trettio"),
    ("kl 14:30", "klockan fjorton trettio"),
    ("klockan 14.30", "klockan fjorton trettio"),
    ("14.30", "fjorton trettio"),
    ("kl. 8.00", "klockan åtta"),
    ("kl. 08:30", "klockan åtta trettio"),
    ("kl. 9.05", "klockan nio noll fem"),
    ("kl. 00.15", "klockan noll noll femton"),
    ("10:15:30", "tio femton trettio"),
    ("kl. 9-17", "klockan nio till sjutton"),
    ("14.30–15.00", "fjorton trettio till femton"),
    ("den 5 maj", "den femte maj"),
    ("den 5:e maj", "den femte maj"),
    ("1 mars", "första mars"),
    ("1:a mars", "första mars"),
    ("3-5 juni", "tredje till femte juni"),
    ("den 21 mars 2021", "den tjugo första mars två tusen tjugo ett"),
    ("den 12/3", "den tolfte i tredje"),
    ("2024-05-03", "två tusen tjugo fyra noll fem noll tre"),
    ("1980-talet", "nitton hundra åttio talet"),
    ("80-tal", "åttio tal"),
    ("300 f.Kr.", "tre hundra före kristus"),
]

MONEY_AND_UNITS = [
    ("2 000 kr", "två tusen kronor"),
    ("2.000 kr.", "två tusen kronor"),
    ("5 kronor", "fem kronor"),
    ("1 kr", "en krona"),
    ("50:-", "femtio kronor"),
    ("12,50 kr", "tolv komma femtio kronor"),
    ("3 mkr", "tre miljoner kronor"),
    ("5 €", "fem euro"),
    ("€5", "fem euro"),
    ("$5 miljoner", "fem miljoner dollar"),
    ("£ 20", "tjugo pund"),
    ("några kr", "några kronor"),
    ("5 %", "fem procent"),
    ("5%", "fem procent"),
    ("1 %", "en procent"),
    ("5-6 %", "fem till sex procent"),
    ("2 ‰", "två promille"),
    ("20 °C", "tjugo grader celsius"),
    ("20 ℃", "tjugo grader celsius"),
    ("20°", "tjugo grader"),
    ("1°", "en grad"),
    ("5 km", "fem kilometer"),
    ("80 km/h", "åttio kilometer i timmen"),
    ("100 m²", "hundra kvadratmeter"),
    ("3 m", "tre meter"),
    ("2 kg", "två kilo"),
    ("2 dl", "två deciliter"),
    ("3 st", "tre stycken"),
    ("1 min", "en minut"),
]

PHONES_AND_CODES = [
    ("08-123 45 67", "noll åtta ett två tre fyra fem sex sju"),
    ("070 123 45 67", "noll sju noll ett två tre fyra fem sex sju"),
    ("+46 70 123 45 67", "plus fyra sex sju noll ett två tre fyra fem sex sju"),
    ("08-123", "noll åtta ett två tre"),
    ("007", "noll noll sju"),
    ("00-talet", "noll noll talet"),
    ("850709-9805", "åtta fem noll sju noll nio nio åtta noll fem"),
]

ABBREVIATIONS = [
    ("t.ex.", "till exempel"),
    ("t. ex.", "till exempel"),
    ("T ex", "till exempel"),
    ("bl.a.", "bland annat"),
    ("d.v.s.", "det vill säga"),
    ("dvs.", "det vill säga"),
    ("o.s.v.", "och så vidare"),
    ("osv", "och så vidare"),
    ("m.m.", "med mera"),
    ("m.fl.", "med flera"),
    ("p.g.a.", "på grund av"),
    ("fr.o.m. t.o.m.", "från och med till och med"),
    ("f.d.", "före detta"),
    ("ca 5", "cirka fem"),
    ("c:a 5", "cirka fem"),
    ("nr 5", "nummer fem"),
    ("dr. Åberg", "doktor åberg"),
    ("m.m", "med mera"),
    ("mm, precis", "mm precis"),
    ("bla bla", "bla bla"),
    ("tom och from", "tom och from"),
]

WRITTEN_NUMBERS = [
    ("tjugoett", "tjugo ett"),
    ("tjugoen", "tjugo ett"),
    ("etthundra", "hundra"),
    ("ett hundra", "hundra"),
    ("ettusen", "tusen"),
    ("ett tusen", "tusen"),
    ("tjugoettusen", "tjugo ett tusen"),
    ("tusenetthundra", "elva hundra"),
    ("ettusen femhundra", "femton hundra"),
    ("femtonhundra", "femton hundra"),
    ("fem tusen femhundra", "fem tusen fem hundra"),
    ("tjugohundratjugofyra", "två tusen tjugo fyra"),
    ("tiohundrasextiosex", "tusen sextio sex"),
    ("förtio", "fyrtio"),
    ("aderton", "arton"),
    ("den tjugoförsta", "den tjugo första"),
    ("åttiotalet", "åttio talet"),
    ("artonåring", "arton åring"),
    ("18-åring", "arton åring"),
    ("femårsplan", "fem årsplan"),
    ("en bil och ett hus", "en bil och ett hus"),
    ("sexton", "sexton"),
    ("hundratals tusenlappar", "hundratals tusenlappar"),
    ("trettondagen, femman och tiokampen", "trettondagen femman och tiokampen"),
    ("elvatiden", "elvatiden"),
]

EXAMPLES = [
    *CASE_PUNCTUATION_AND_LETTERS,
    *HYPHENS_COLONS_AND_APOSTROPHES,
    *CARDINALS,
    *DECIMALS_AND_FRACTIONS,
    *SIGNS_RANGES_AND_CALCULATIONS,
    *ORDINALS,
    *TIMES_AND_DATES,
    *MONEY_AND_UNITS,
    *PHONES_AND_CODES,
    *ABBREVIATIONS,
    *WRITTEN_NUMBERS,
]


@pytest.mark.parametrize(("written", "compared"), EXAMPLES)
def test_what_is_written_comes_out_as_it_is_said(written: str, compared: str) -> None:
    assert normalise(written, "sv") == compared


@pytest.mark.parametrize(("written", "compared"), EXAMPLES)
def test_what_comes_out_stays_as_it_is(written: str, compared: str) -> None:
    assert normalise(compared, "sv") == compared


def test_no_example_stands_twice() -> None:
    written = [example for example, _ in EXAMPLES]
    assert len(set(written)) == len(written) >= 120


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Det kostar 2 000 kr, t.ex.", "det kostar tvåtusen kronor till exempel"),
        ("Kl. 14.30 den 21:a maj 1984", "klockan fjorton trettio den tjugoförsta maj nittonhundraåttiofyra"),
        ("18-åringen föddes på 2000-talet", "artonåringen föddes på tvåtusentalet"),
        ("1 500 m", "ettusen femhundra meter"),
        ("2024", "tjugohundratjugofyra"),
        ("EU:s 27 EU-länder", "EUs tjugosju EU länder"),
        ("22:an mot S:t Eriksplan", "tjugotvåan mot Sankt Eriksplan"),
    ],
)
def test_two_ways_to_write_what_is_said_are_the_same(one: str, other: str) -> None:
    assert normalise(one, "sv") == normalise(other, "sv")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("för", "for"),
        ("måla", "mala"),
        ("ide", "idé"),
        ("tjugoett tusen", "tjugo tusen"),
        ("1:a", "1:e"),
        ("3,5", "35"),
        ("3-4", "3-1"),
        ("en", "ett"),
        ("sextio", "sexton"),
    ],
)
def test_what_is_said_differently_stays_different(one: str, other: str) -> None:
    assert normalise(one, "sv") != normalise(other, "sv")


@pytest.mark.parametrize(
    "text",
    [
        "1" * 20_000,
        "1" + " 000" * 5_000,
        "1" + ".111" * 5_000,
        "1-" * 10_000,
        "08" + " 12" * 10_000,
        "ett " * 10_000 + "hundra",
        "½" * 10_000,
    ],
)
def test_absurdly_long_numbers_are_read_all_the_same(text: str) -> None:
    normal = normalise(text, "sv")
    assert normal
    assert not any(character.isnumeric() for character in normal)


def test_a_lone_surrogate_is_a_space() -> None:
    assert normalise("hej\ud800du\udfff", "sv") == "hej du"
