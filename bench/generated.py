"""Ordinary texts for measuring speed, each different: prose in fourteen languages, code, JSON, logs, HTML, Markdown.

They are made of small vocabularies by a seeded generator, so that every run measures the same texts and no cache knows
them. They say nothing; what counts is that their characters, words and marks are distributed as in real traffic, with
an address, a link or an encoded blob now and then.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator

WORDS: dict[str, str] = {
    "en": "the a we you report customer order price please could would answer question meeting next week table "
    "column data summary market team manager project budget quarter growth because however after before "
    "with from into about write explain compare list short long good new first second city weather train "
    "travel garden kitchen recipe water music",
    "de": "der die das wir Sie Bericht Kunde Bestellung Preis bitte könnten Antwort Frage Besprechung nächste "
    "Woche Tabelle Spalte Daten Übersicht Markt Projekt Haushalt Quartal Wachstum weil jedoch nach vor "
    "mit über schreiben erklären Größe",
    "fr": "le la les nous vous rapport client commande prix pourriez réponse question réunion prochaine semaine "
    "tableau colonne données résumé marché équipe projet budget trimestre croissance parce cependant "
    "après avant avec écrire expliquer",
    "es": "el la los nosotros usted informe cliente pedido precio podría respuesta pregunta reunión próxima "
    "semana tabla columna datos resumen mercado equipo proyecto presupuesto crecimiento porque después "
    "antes con escribir explicar mañana",
    "it": "il la gli noi rapporto cliente ordine prezzo potresti risposta domanda riunione prossima settimana "
    "tabella colonna dati riassunto mercato squadra progetto bilancio crescita perché però dopo prima con "
    "scrivere spiegare città",
    "pt": "o a os nós você relatório cliente pedido preço poderia resposta pergunta reunião próxima semana "
    "tabela coluna dados resumo mercado equipe projeto orçamento crescimento porque depois antes com "
    "escrever explicar amanhã não",
    "nl": "de het een wij u verslag klant bestelling prijs kunt antwoord vraag vergadering volgende week tabel "
    "kolom gegevens samenvatting markt ploeg project begroting kwartaal groei omdat echter na voor met "
    "schrijven uitleggen",
    "pl": "my raport klient zamówienie cena proszę odpowiedź pytanie spotkanie następny tydzień tabela kolumna "
    "dane podsumowanie rynek zespół projekt budżet kwartał wzrost ponieważ jednak przed napisać wyjaśnić "
    "źródło łąka",
    "tr": "biz siz rapor müşteri sipariş fiyat lütfen cevap soru toplantı gelecek hafta tablo sütun veri özet "
    "pazar takım proje bütçe çeyrek büyüme çünkü ancak sonra önce ile yazmak açıklamak güneş ığdır",
    "ru": "мы вы отчёт клиент заказ цена пожалуйста ответ вопрос встреча следующая неделя таблица столбец "
    "данные итог рынок команда проект бюджет квартал рост потому однако после перед написать объяснить "
    "погода город",
    "ar": "نحن تقرير عميل طلب سعر جواب سؤال اجتماع الأسبوع القادم جدول عمود بيانات ملخص سوق فريق مشروع ميزانية "
    "نمو لأن بعد قبل",
    "hi": "हम आप रिपोर्ट ग्राहक आदेश कीमत कृपया उत्तर प्रश्न बैठक अगले सप्ताह तालिका स्तंभ आँकड़े सारांश बाज़ार टीम परियोजना",
    "ja": "報告 顧客 注文 価格 質問 回答 会議 来週 表 列 データ "
    "要約 市場 予算 成長 ください について 説明 比較 天気 旅行 です ます",
    "zh": "报告 客户 订单 价格 问题 回答 会议 下周 表格 数据 摘要 市场 "
    "团队 项目 预算 增长 因为 但是 以后 之前 请 说明 比较 天气",
}
_UNSPACED = ("ja", "zh")
_NAMES = ("anna", "bruno", "chloe", "dmitri", "elif", "farid", "greta", "hiro", "ines", "jonas")
_HOSTS = ("example.com", "example.org", "api.example.net", "docs.example.com")


class Writer:
    """Writes texts of a wanted size. One seed, the same texts."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._words = {language: listed.split() for language, listed in WORDS.items()}

    def sentence(self, language: str) -> str:
        chosen = self.random.choices(self._words[language], k=self.random.randint(6, 18))
        if language in _UNSPACED:
            return "".join(chosen) + "。"
        if self.random.random() < 0.15:
            chosen.insert(len(chosen) // 2, str(self.random.randint(2, 9_999)))
        if self.random.random() < 0.05:
            chosen.append(f"{self.random.choice(_NAMES)}{self.random.randint(1, 999)}@{self.random.choice(_HOSTS)}")
        if self.random.random() < 0.5:
            chosen[len(chosen) // 2] += ","
        text = " ".join(chosen)
        return text[0].upper() + text[1:] + self.random.choice("...?!")

    def prose(self, language: str) -> Iterator[str]:
        while True:
            yield self.sentence(language) + ("\n\n" if self.random.random() < 0.15 else " ")

    def name(self) -> str:
        return "_".join(self.random.choices(self._words["en"], k=2))

    def code(self, _: str) -> Iterator[str]:
        while True:
            name, other = self.name(), self.name()
            yield self.random.choice(
                (
                    f"def {name}({other}: int, limit: float = {self.random.random():.3f}) -> list[str]:\n",
                    f'    """{self.sentence("en")}"""\n',
                    f"    if {other} > {self.random.randint(0, 999)} and {name} is not None:\n        return []\n",
                    f"    {name} = [{other}.get(key) for key in {name}s if key != '{other}']\n",
                    f"    # {self.sentence('en')}\n",
                    f"    const {name} = await {other}({{ id: {self.random.randint(1, 10**6)}, retry: true }});\n",
                    f'    logger.info("{name} %s", {other}[{self.random.randint(0, 99)}])\n\n',
                )
            )

    def record(self) -> dict[str, object]:
        return {
            "id": f"{self.random.getrandbits(128):032x}",
            "name": self.name(),
            "owner": f"{self.random.choice(_NAMES)}@{self.random.choice(_HOSTS)}",
            "amount": round(self.random.uniform(1, 9_999), 2),
            "created_at": self.moment(),
            "tags": self.random.choices(self._words["en"], k=3),
            "notes": self.sentence(self.random.choice(tuple(WORDS))),
            "active": self.random.random() < 0.5,
        }

    def moment(self) -> str:
        day = f"2026-{self.random.randint(1, 12):02d}-{self.random.randint(1, 28):02d}"
        minute = f"{self.random.randint(0, 23):02d}:{self.random.randint(0, 59):02d}"
        return f"{day}T{minute}:{self.random.uniform(0, 59):06.3f}Z"

    def json(self, _: str) -> Iterator[str]:
        yield "[\n"
        while True:
            yield json.dumps(self.record(), ensure_ascii=self.random.random() < 0.3) + ",\n"

    def log(self, _: str) -> Iterator[str]:
        while True:
            address = ".".join(str(self.random.randint(1, 254)) for _ in range(4))
            path = f"/v1/{self.name()}/{self.random.randint(1, 10**6)}?page={self.random.randint(1, 9)}&sort=%2Bname"
            yield (
                f"{self.moment()} {self.random.choice(('INFO', 'WARN', 'DEBUG', 'ERROR'))} [{self.name()}] "
                f"{address} GET {path} "
                f"{self.random.choice((200, 200, 201, 304, 404, 500))} {self.random.randint(1, 900)}ms "
                f"trace={self.random.getrandbits(128):032x}\n"
            )

    def html(self, language: str) -> Iterator[str]:
        head = f'<meta charset="utf-8"><title>{self.sentence(language)}</title>'
        yield f'<!doctype html>\n<html lang="{language}"><head>{head}</head>\n'
        while True:
            yield (
                f'<div class="{self.name()}" id="n{self.random.randint(1, 10**6)}">\n'
                f"  <p>{self.sentence(language)} &amp; {self.sentence(language)}</p>\n"
                f'  <a href="https://{self.random.choice(_HOSTS)}/{self.name()}?q=a%20b">{self.name()}</a>\n</div>\n'
            )
            if self.random.random() < 0.03:
                picture = base64.b64encode(self.random.randbytes(self.random.randint(60, 900))).decode()
                yield f'<img alt="" src="data:image/png;base64,{picture}">\n'

    def markdown(self, language: str) -> Iterator[str]:
        while True:
            yield f"## {self.name()}\n\n{self.sentence(language)} **{self.name()}** {self.sentence(language)}\n\n"
            yield f"- [{self.name()}](https://{self.random.choice(_HOSTS)}/{self.name()})\n- `{self.name()}`\n\n"
            yield "| item | amount | note |\n|---|---:|---|\n"
            for _ in range(self.random.randint(2, 8)):
                note = " ".join(self.random.choices(self._words[language], k=4))
                yield f"| {self.name()} | {self.random.randint(1, 9_999)} | {note} |\n"
            yield "\n"

    def of_size(self, kind: Callable[[str], Iterator[str]], language: str, size: int) -> str:
        """A text of at most `size` bytes, and hardly less."""
        pieces, length = [], 0
        for piece in kind(language):
            pieces.append(piece)
            length += len(piece.encode())
            if length >= size:
                return "".join(pieces).encode()[:size].decode("utf-8", "ignore")
        raise AssertionError("these generators do not end")

    def messages(self, count: int, size: int) -> list[str]:
        """What people and models write: mostly prose, half of it English, some code and JSON."""
        kinds = [self.prose] * 7 + [self.code, self.json, self.markdown]
        others = tuple(WORDS)
        return [
            self.of_size(
                self.random.choice(kinds),
                "en" if self.random.random() < 0.5 else self.random.choice(others),
                max(20, int(size * self.random.uniform(0.5, 1.5))),
            )
            for _ in range(count)
        ]

    def tool_outputs(self, count: int, size: int) -> list[tuple[str, str]]:
        """What tools bring, as (kind, text): JSON, logs, pages, documents, code in turn."""
        kinds = (self.json, self.log, self.html, self.markdown, self.code, self.prose)
        others = tuple(WORDS)
        return [
            (
                (kind := kinds[at % len(kinds)]).__name__,
                self.of_size(kind, "en" if self.random.random() < 0.6 else self.random.choice(others), size),
            )
            for at in range(count)
        ]
