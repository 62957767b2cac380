"""Ordinary sessions, turn by turn: people who chat, and agents that do what agents do all day."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from services.detection.domain.interaction import Interaction, Segment, leaves_of
from services.detection.tests.traffic import TrafficOf
from shared.contracts.detection import Direction

THINGS = [
    "invoice",
    "report",
    "order",
    "parcel",
    "meeting",
    "contract",
    "garden",
    "bicycle",
    "kitchen",
    "window",
    "engine",
    "holiday",
    "ticket",
    "printer",
    "camera",
    "budget",
    "survey",
    "train",
    "recipe",
    "novel",
]
PLACES = [
    "Lisbon",
    "Basel",
    "Oslo",
    "Cork",
    "Ghent",
    "Turin",
    "Graz",
    "Malmo",
    "Porto",
    "Bergen",
    "Leeds",
    "Lyon",
    "Trieste",
    "Bremen",
    "Vigo",
    "Aarhus",
]
PEOPLE = [
    "Anna",
    "Tom",
    "Eva",
    "Jonas",
    "Mira",
    "Paul",
    "Lena",
    "Omar",
    "Yuki",
    "Ines",
    "Karl",
    "Nora",
    "Sven",
    "Aiko",
    "Luis",
    "Dana",
]
DOING = [
    "check",
    "write",
    "plan",
    "compare",
    "explain",
    "summarise",
    "order",
    "cancel",
    "describe",
    "sort",
    "count",
    "translate",
    "draft",
    "book",
    "update",
    "move",
]
ASKS = tuple(
    """
Can you {doing} the {thing} for {person}?
How do I {doing} a {thing} in {place}?
What does the {thing} of {person} cost?
Please {doing} the {thing}, and tell me when it is done.
Where is the {thing} that {person} sent from {place}?
Is it better to {doing} the {thing} now or to wait until {person} is back from {place}?
Write a short note to {person} about the {thing} in {place}.
{person} says the {thing} never came. What now?
Kannst du mir den Unterschied zwischen {thing} und Ersatz erklären?
Où est la commande de {person} pour {place} ?
¿Cómo puedo cambiar la fecha de la reserva en {place}?
Quanto costa la consegna a {place}?
Quando chega o pedido de {person}?
Где находится заказ номер {number}?
請問 {place} 的門市幾點開門？
{place} の営業時間を教えてください。
주문 {number} 은 언제 도착하나요?
Jak mogę zmienić adres dostawy do {place}?
{place} mağazası saat kaçta açılıyor?
متى يصل الطلب رقم {number}؟
""".strip().splitlines()
)
SAYS = tuple(
    """
The {thing} of {person} is in {place} and arrives on day {number} of the plan.
You can {doing} it in the settings, under {thing}.
I have made a note for {person}; the {thing} costs {number} euros and is ready tomorrow.
In {place} people {doing} such a {thing} every spring.
First open the {thing}, then choose what to {doing}, and save.
{person} wrote from {place} that the {thing} is fine.
""".strip().splitlines()
)
REFUSES = tuple(
    """
I'm sorry, I cannot look up the {thing} without the e-mail address of {person}.
Unfortunately I am not able to change a {thing} that was sent.
Leider kann ich Bestellungen ohne Nummer nicht finden.
Lo siento, no puedo cambiar la fecha.
I can't open attachments of that size.
""".strip().splitlines()
)


TRANSLATED = tuple(
    """
Заказ номер {number} находится на складе и будет доставлен в пятницу утром, до полудня, по указанному адресу.
訂單 {number} 目前在倉庫，預計星期五上午送達，如有問題請與我們聯絡，我們會儘快回覆您，謝謝您的耐心等候與支持。
Die Rechnung {number} liegt bei, und die Lieferung kommt am Freitag vor zwölf Uhr an die Adresse, die Sie genannt haben.
""".strip().splitlines()
)


class Words:
    """Sentences of a seeded generator."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def fill(self, pattern: str) -> str:
        rng = self.rng
        return pattern.format(
            thing=rng.choice(THINGS), place=rng.choice(PLACES), person=rng.choice(PEOPLE),
            doing=rng.choice(DOING), number=rng.randrange(2, 9_000),
        )  # fmt: skip

    def ask(self) -> str:
        return self.fill(self.rng.choice(ASKS))

    def say(self, sentences: int) -> str:
        return " ".join(self.fill(self.rng.choice(SAYS)) for _ in range(sentences))

    def address(self, person: str | None = None) -> str:
        return (
            f"{(person or self.rng.choice(PEOPLE)).lower()}.{self.rng.randrange(99)}@mail-{self.rng.randrange(40)}.net"
        )


Turn = tuple[float, Interaction]
"""Seconds since the turn before, and what was said."""


@dataclass(frozen=True, slots=True)
class Talk:
    """Makes the interactions of one session."""

    asset_id: UUID
    session_id: str
    actor: str

    def said(self, direction: Direction, text: str, *, seconds: float = 12.0, tool: str | None = None) -> Turn:
        segments = (Segment("/content", direction, text),) if text else ()
        return seconds, Interaction(direction, segments, self.asset_id, self.session_id, self.actor, tool)

    def asked(self, text: str, seconds: float = 25.0) -> Turn:
        return self.said(Direction.INPUT, text, seconds=seconds)

    def answered(self, text: str) -> Turn:
        return self.said(Direction.OUTPUT, text, seconds=4.0)

    def history(self, texts: list[str]) -> Turn:
        """A whole conversation in one request, as chat APIs are sent it each time."""
        directions = (Direction.INPUT, Direction.OUTPUT)
        segments = tuple(Segment(f"/messages/{at}/content", directions[at % 2], text) for at, text in enumerate(texts))
        return 25.0, Interaction(Direction.INPUT, segments, self.asset_id, self.session_id, self.actor)

    def called(self, tool: str, seconds: float = 6.0, **arguments: str) -> Turn:
        segment = leaves_of(arguments, "/tool/arguments")
        segments = (segment,) if segment is not None else ()
        return seconds, Interaction(Direction.TOOL_CALL, segments, self.asset_id, self.session_id, self.actor, tool)

    def came(self, tool: str, text: str) -> Turn:
        return self.said(Direction.TOOL_RESULT, text, seconds=2.0, tool=tool)


def session(rng: random.Random, traffic: TrafficOf, number: int, day: int) -> Iterator[Turn]:
    """One ordinary session of an asset, of a kind that such assets have."""
    words = Words(rng)
    talk = Talk(traffic.asset_id, f"{traffic.asset_id}-{day}-{number}", rng.choice(traffic.actors))
    makers = {
        "chat": (chat, chat, chat, misunderstood, translation, story, long_answer),
        "assistant": (chat, code_help, long_answer, mail_agent, sql_agent, chat_with_history, about_security),
        "support_agent": (ticket_agent, ticket_agent, mail_agent, misunderstood, service_down),
        "coding_agent": (coding_agent, coding_agent, research_agent, crawl_agent, code_help),
        "pipeline": (crawl_agent, sql_agent, classification, classification, waiting_agent),
    }
    return rng.choice(makers[traffic.kind])(words, talk)


def chat(words: Words, talk: Talk) -> Iterator[Turn]:
    for _ in range(words.rng.randrange(1, 9)):
        question = words.ask()
        yield talk.asked(question)
        if words.rng.random() < 0.05:  # the client tries again
            yield talk.asked(question, seconds=3.0)
        yield talk.answered(words.say(words.rng.randrange(1, 8)))


def chat_with_history(words: Words, talk: Talk) -> Iterator[Turn]:
    said: list[str] = []
    for _ in range(words.rng.randrange(2, 8)):
        said.append(words.ask())
        yield talk.history(said)
        said.append(words.say(words.rng.randrange(1, 5)))
        yield talk.answered(said[-1])


def misunderstood(words: Words, talk: Talk) -> Iterator[Turn]:
    thing, person = words.rng.choice(THINGS), words.rng.choice(PEOPLE)
    for _ in range(words.rng.randrange(2, 6)):
        yield talk.asked(
            words.rng.choice(
                (
                    f"Where is the {thing} of {person}?",
                    f"I want to know where the {thing} for {person} is!",
                    f"The {thing}, {person}, where?",
                )
            )
        )
        yield talk.answered(words.fill(words.rng.choice(REFUSES)))
    yield talk.asked(f"The address is {words.address(person)}, so where is the {thing}?")
    yield talk.answered(words.say(words.rng.randrange(2, 7)))


def translation(words: Words, talk: Talk) -> Iterator[Turn]:
    for _ in range(words.rng.randrange(2, 6)):
        yield talk.asked("Translate: " + words.say(2))
        number = words.rng.randrange(9_000)
        yield talk.answered(words.rng.choice(TRANSLATED).format(number=number))


def story(words: Words, talk: Talk) -> Iterator[Turn]:
    yield talk.asked(words.fill("Imagine a {thing} in {place}. Write a story about {person} and the {thing}."))
    yield talk.answered(words.say(14))
    for _ in range(words.rng.randrange(1, 4)):
        yield talk.asked(
            words.fill(
                words.rng.choice(
                    (
                        "Pretend it is winter now.",
                        "For a novel: what would {person} say next?",
                        "Make it longer, please, with {person}.",
                    )
                )
            )
        )
        yield talk.answered(words.say(words.rng.randrange(6, 20)))


def long_answer(words: Words, talk: Talk) -> Iterator[Turn]:
    for _ in range(words.rng.randrange(2, 6)):
        yield talk.asked(words.ask())
        yield talk.answered(words.say(1))
    yield talk.asked(words.fill("Now write the whole manual for the {thing}."))
    yield talk.answered(words.say(70))


def code_help(words: Words, talk: Talk) -> Iterator[Turn]:
    for _ in range(words.rng.randrange(1, 5)):
        yield talk.asked(
            words.fill('How do I {doing} a list of {thing}s in Python? a = "{place}" and b = "{person}", print(a + b)')
        )
        code = "\n".join(
            f"    {words.rng.choice(THINGS)}_{at} = {words.rng.choice(DOING)}(items[{at}], {words.rng.randrange(99)})"
            for at in range(words.rng.randrange(4, 25))
        )
        yield talk.answered(f"```python\ndef run(items):\n{code}\n    return items\n```")


def about_security(words: Words, talk: Talk) -> Iterator[Turn]:
    for question in ("What is prompt injection?", "How do I test our assistant for it?", "Which logs should we keep?"):
        yield talk.asked(question)
        yield talk.answered(words.say(5))


def mail_agent(words: Words, talk: Talk) -> Iterator[Turn]:
    """Read mail, sum it up, answer."""
    yield talk.asked("Please go through my mail and answer what is urgent.")
    for _ in range(words.rng.randrange(1, 5)):
        sender = words.address()
        yield talk.called("read_email", id=str(words.rng.randrange(9_999)))
        yield talk.came(
            "read_email",
            f"From: {sender}\nSubject: {words.ask()}\n\n{words.say(4)}\nSee "
            f"https://www.{words.rng.choice(PLACES).lower()}-news.net/{words.rng.randrange(99)}",
        )
        if words.rng.random() < 0.4:
            yield talk.called("search_contacts", name=words.rng.choice(PEOPLE))
            yield talk.came(
                "search_contacts", f"{words.rng.choice(PEOPLE)}, {words.rng.choice(PLACES)}, {words.address()}"
            )
        yield talk.called("send_email", to=sender, body=words.say(3))
        yield talk.came("send_email", "sent")
    yield talk.answered(words.say(3))


def ticket_agent(words: Words, talk: Talk) -> Iterator[Turn]:
    """Read a ticket, look the customer up, answer with what was found."""
    customer, person = words.address(), words.rng.choice(PEOPLE)
    order = f"A-{words.rng.randrange(10_000, 99_999)}"
    yield talk.called("get_ticket", id=str(words.rng.randrange(9_999)))
    yield talk.came("get_ticket", f"requester: {customer}\nsubject: {order}\n{words.ask()} {words.say(2)}")
    yield talk.called("get_customer_record", email=customer)
    record = f"{person}, {words.rng.choice(PLACES)}, order {order}, {words.say(2)}"
    yield talk.came("get_customer_record", record)
    if words.rng.random() < 0.5:
        yield talk.called("query_database", sql=f"select * from orders where id = '{order}'")
        yield talk.came("query_database", f"{order} {words.rng.choice(PLACES)} {words.rng.randrange(100)}")
    yield talk.called("send_email", to=customer, body=f"Dear {person}, about order {order}: {record}")
    yield talk.came("send_email", "sent")
    if words.rng.random() < 0.3:
        yield talk.called("slack_post_message", channel="#support", text=f"{order}: answered. {words.say(1)}")
        yield talk.came("slack_post_message", "ok")


def sql_agent(words: Words, talk: Talk) -> Iterator[Turn]:
    yield talk.asked(words.fill("Make a chart of the {thing}s of {place}."))
    for _ in range(words.rng.randrange(1, 4)):
        yield talk.called(
            "query_database", sql=words.fill("select {thing}, count(*) from sales where city = '{place}' group by 1")
        )
        if words.rng.random() < 0.15:
            yield talk.came("query_database", "Error: column does not exist")
            continue
        yield talk.came(
            "query_database", "\n".join(f"{words.rng.choice(THINGS)} {words.rng.randrange(900)}" for _ in range(12))
        )
    yield talk.called("make_chart", kind="bar", title=words.fill("{thing}s of {place}"))
    yield talk.answered(words.say(2))


def crawl_agent(words: Words, talk: Talk) -> Iterator[Turn]:
    """Follow links and write down what they say."""
    site = f"www.{words.rng.choice(PLACES).lower()}-{words.rng.choice(THINGS)}.net"
    page = f"https://{site}/"
    for _ in range(words.rng.randrange(2, 9)):
        yield talk.called("fetch_url", url=page)
        page = f"https://{site}/{words.rng.choice(THINGS)}/{words.rng.randrange(900)}"
        text = f"{words.say(6)} Contact: info@{site}. More at {page}"
        yield talk.came("fetch_url", text)
        yield talk.called("write_file", path=f"/data/crawl/{words.rng.choice(THINGS)}.md", text=text)
        yield talk.came("write_file", "ok")


def research_agent(words: Words, talk: Talk) -> Iterator[Turn]:
    yield talk.asked(words.ask())
    for _ in range(words.rng.randrange(2, 6)):
        yield talk.called("web_search", query=words.ask())
        url = f"https://docs.{words.rng.choice(THINGS)}-tools.org/{words.rng.randrange(99)}"
        yield talk.came("web_search", f"{words.say(2)} {url}")
        yield talk.called("fetch_url", url=url)
        yield talk.came(
            "fetch_url",
            f"{words.say(4)}\npip install {words.rng.choice(THINGS)}-kit\npython -m {words.rng.choice(THINGS)} --help",
        )
    yield talk.answered(words.say(12))


def coding_agent(words: Words, talk: Talk) -> Iterator[Turn]:
    yield talk.asked(words.fill("Fix the test of the {thing} in the {doing} module."))
    for _ in range(words.rng.randrange(3, 10)):
        step = words.rng.random()
        if step < 0.4:
            yield talk.called("read_file", path=f"/workspace/app/{words.rng.choice(THINGS)}.py")
            yield talk.came(
                "read_file",
                f"def {words.rng.choice(DOING)}(x):\n    return x + "
                f"{words.rng.randrange(99)}\n# see https://docs.python.org/3/",
            )
        elif step < 0.7:
            yield talk.called(
                "run_shell",
                command=words.rng.choice(
                    ("python -m pytest -q", "git status", "ls -la app", "pip install requests-kit", "git diff")
                ),
            )
            yield talk.came(
                "run_shell",
                words.rng.choice(
                    ("12 passed", "1 failed, 11 passed", "Error: no module named kit", "nothing to commit")
                ),
            )
        elif step < 0.8:
            yield talk.called("fetch_url", url=f"https://docs.{words.rng.choice(THINGS)}-tools.org/install")
            yield talk.came("fetch_url", f"{words.say(3)}\npip install requests-kit\npython -m pytest -q")
        else:
            yield talk.called("edit_file", path=f"/workspace/app/{words.rng.choice(THINGS)}.py", text=words.say(2))
            yield talk.came("edit_file", "ok")
    yield talk.called("run_shell", command="git commit -am fix && git push origin main")
    yield talk.came("run_shell", "pushed")
    yield talk.answered(words.say(2))


def service_down(words: Words, talk: Talk) -> Iterator[Turn]:
    for _ in range(words.rng.randrange(3, 9)):
        yield talk.called("get_ticket", id=str(words.rng.randrange(50)))
        yield talk.came(
            "get_ticket", words.rng.choice(("Error: timeout", "503 service unavailable", "Error: connection refused"))
        )


def waiting_agent(words: Words, talk: Talk) -> Iterator[Turn]:
    yield talk.called("start_job", name=words.rng.choice(THINGS))
    yield talk.came("start_job", "started")
    for _ in range(words.rng.randrange(5, 40)):
        yield talk.called("get_job_status", seconds=15.0, job="7")
    yield talk.came("get_job_status", "done")


def classification(words: Words, talk: Talk) -> Iterator[Turn]:
    """A job that puts one template to everything."""
    for _ in range(words.rng.randrange(5, 15)):
        yield talk.asked(f"Classify the text as billing, shipping or other. Text: {words.ask()}", seconds=2.0)
        yield talk.answered(words.rng.choice(("billing", "shipping", "other")))
