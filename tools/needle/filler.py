"""Lines of generated filler text, so that a haystack unlike the corpus is nothing new to the model.

Every kind is a function (rng, words) -> one line without its end of line; `words` has lists of strings: adj, noun, any.
"""

import uuid

SUBJECTS = (
    "The morning train|The old harbour|A quiet library|The city council|The river ferry|A retired teacher|The bakery on the corner"
    "|An empty theatre|The mountain village|A small workshop|The northern railway|The museum's garden|The evening market"
    "|A travelling musician|The research station|My neighbour|The new bridge|Our committee|The harvest festival|A young engineer"
    "|The local newspaper|The swimming pool|A group of tourists|The weather service|The school orchestra|The post office"
    "|Their grandmother|An experienced nurse|The night watchman|The football club|A famous painter|The company's director"
    "|The island's lighthouse|The hotel near the station|A stray dog|The department of transport|The oldest tree in the park"
).split("|")
PREDICATES = (
    "was repaired after the storm|opens a little later in winter|closed for two weeks in August|moved to the other side of the square"
    "|was painted green by the students|keeps a list of every boat that arrives|sells bread, honey and tools"
    "|has kept its records since the last century|lost a great deal of money last year|welcomes visitors on most days"
    "|will be connected to the new road|is known for its patient staff|was described in three different books"
    "|has never had so many guests|received a letter from the minister|needs a new roof before spring|plans to hire four more people"
    "|was mentioned twice in the report|refused to comment on the decision|arrived much earlier than expected"
    "|stays open until midnight|was photographed from the air|has two entrances and a cellar|offers lessons to beginners"
    "|could be heard from far away|remained silent for a while|won a prize for the second time|is looking for volunteers"
    "|reported a loss of {n} dollars|measured {n} metres of rain water|counted {n} visitors in one week|was founded in {y}"
).split("|")
TAILS = (
    "and nobody complained|although the weather was bad|and that was the end of it|while the children watched|which surprised the mayor"
    "|so the meeting was moved to Friday|because the council had asked for it|but the costs were higher than expected"
    "|and the plan worked well|as the newspaper reported|before anyone noticed|despite several warnings|in spite of the rain"
    "|until the summer of {y}|for reasons that are still unclear|with the help of {n} donors|and the {noun} was {adj}"
    "|as everyone had hoped|when the {noun} arrived|which made the {noun} {adj}"
).split("|")


def _fill(rng, words, text):
    if "{" not in text:
        return text
    return text.format(
        n=rng.randint(2, 9999), y=rng.randint(1780, 2030), noun=rng.choice(words["noun"]), adj=rng.choice(words["adj"])
    )


def story(rng, words):
    text = f"{rng.choice(SUBJECTS)} {rng.choice(PREDICATES)} {rng.choice(TAILS)}."
    return _fill(rng, words, text)


def statement(rng, words):
    a, b, n, m = (rng.choice(words[k]) for k in ("adj", "adj", "noun", "noun"))
    return rng.choice(
        (
            f"The {a} {n} is {b}.",
            f"There is a {a} {n} near the {m}.",
            f"Every {n} needs a {m}.",
            f"I have never seen such a {a} {n} before.",
            f"Is the {n} really {a}, or only {b}?",
            f"First the {n}, then the {m}.",
            f"Nobody knows why the {n} was so {a}!",
            f"{n.capitalize()} and {m} are not the same thing.",
        )
    )


def salad(rng, words):
    return " ".join(rng.choice(words["any"]) for _ in range(rng.randint(3, 24))) + "."


def figures(rng, words):
    n = rng.randint(2, 12)
    return rng.choice((" ", ", ", "; ", " | ")).join(
        str(rng.randrange(10 ** rng.randint(1, 8))) for _ in range(n)
    ) + rng.choice(("", ".", ";"))


def table(rng, words):
    return f"{rng.choice(words['noun'])},{rng.randint(0, 99999)},{rng.random():.3f},{rng.choice(words['adj'])},{rng.randint(1, 12)}/{rng.randint(1, 28)}/{rng.randint(1990, 2030)}"


def code(rng, words):
    a, b, c = (rng.choice(words["noun"]).replace("-", "_") for _ in range(3))
    n = rng.randint(0, 999)
    return rng.choice(
        (
            f"    {a}_{b} = {c}({n})",
            f"for (int i = 0; i < {n}; ++i) {a}[i] += {b}[i];",
            f"def {a}({b}, {c}={n}):",
            f"    return self.{a}.{b}[{n}]",
            f"if ({a} != {b}) {{ {c}->{a} = {n}; }}",
            f"const auto& {a} = {b}.at({n});  // {c}",
            f"import {a}.{b} as {c}",
            f'    print("{a}", {b} + {n})',
            f"# {a} of the {b}: see {c}",
            "}",
        )
    )


def log(rng, words):
    level = rng.choice(("INFO", "WARN", "DEBUG", "ERROR"))
    return (
        f"2024-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d} {rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}:{rng.randint(0, 59):02d} {level}"
        f" [{rng.choice(words['noun'])}-{rng.randint(1, 64)}] {rng.choice(words['noun'])} {rng.choice(words['noun'])} took {rng.randint(1, 9999)} ms"
    )


def setting(rng, words):
    value = rng.choice((str(rng.randrange(10**6)), rng.choice(words["noun"]), "true", "false"))
    return rng.choice(('"{k}": "{v}",', "{k} = {v}", "{k}: {v}", "<{k}>{v}</{k}>", "- {k}: {v}")).format(
        k=f"{rng.choice(words['adj'])}_{rng.choice(words['noun'])}", v=value
    )


def item(rng, words):
    return f"{rng.randint(1, 300)}. {rng.choice(words['adj'])} {rng.choice(words['noun'])}"


def identifier(rng, words):
    return rng.choice(("", "id ", "ref: ")) + str(uuid.UUID(int=rng.getrandbits(128)))


def talk(rng, words):
    names = ("Anna", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Henry")
    return f"{rng.choice(names)}: " + rng.choice((story, statement, salad))(rng, words)


KINDS = {f.__name__: f for f in (story, statement, salad, figures, table, code, log, setting, item, identifier, talk)}
